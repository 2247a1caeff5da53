"""Work that several processes share: each task is done by whoever holds its lock."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from filelock import FileLock, Timeout

Task = TypeVar("Task")


def shared(tasks: Sequence[Task], lock: Callable[[Task], Path]) -> Iterator[Task]:
    """The tasks of this process, each while it holds the task's lock.

    Every process that asks for the same tasks gets all of them in the end: what another holds is
    put off, and waited for when there is nothing else left. So a task looks first whether it is
    done already.

    Args:
        tasks: in the order in which a process alone would do them.
        lock: the file that says whose a task is; its folder is there.

    Yields:
        Each task once.
    """
    waiting, passed_by = deque(tasks), 0
    while waiting:
        task = waiting.popleft()
        try:
            with FileLock(lock(task)).acquire(blocking=passed_by > len(waiting)):
                yield task
            passed_by = 0
        except Timeout:
            waiting.append(task)
            passed_by += 1

"""Work that several processes share."""

import threading

from filelock import FileLock

from unicond.sharing import shared


def test_a_process_alone_does_all_in_order(tmp_path):
    assert list(shared("abc", lambda task: tmp_path / task)) == ["a", "b", "c"]


def test_what_another_is_at_is_put_off_and_waited_for(tmp_path):
    held, enough = threading.Event(), threading.Event()

    def hold():
        with FileLock(tmp_path / "a"):
            held.set()
            enough.wait(60)

    other = threading.Thread(target=hold)
    other.start()
    held.wait(60)
    tasks = shared("abc", lambda task: tmp_path / task)
    assert [next(tasks), next(tasks)] == ["b", "c"]
    threading.Timer(0.3, enough.set).start()
    assert next(tasks) == "a"
    assert enough.is_set()
    other.join(60)


def test_a_task_is_locked_while_it_is_done_and_no_longer(tmp_path):
    other = FileLock(tmp_path / "a", blocking=False)
    for task in shared("a", lambda task: tmp_path / task):
        assert task == "a"
        assert list(shared("b", lambda _: tmp_path / "b")) == ["b"]
        try:
            other.acquire()
        except TimeoutError:
            continue
        raise AssertionError("another process was let in")
    with other:
        assert other.is_locked

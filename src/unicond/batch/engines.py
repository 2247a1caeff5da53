"""Where rows of a manifest are made: in this process, or by actors of Ray."""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from unicond.batch import folder
from unicond.batch.maker import Asked, Ended, Maker
from unicond.batch.manifest import Row


class Engine(Protocol):
    """Makes groups of rows."""

    def run(self, asked: Asked, groups: Sequence[Sequence[Row]]) -> Iterator[Ended]:
        """Load the model, once in each worker, and make all groups.

        Args:
            asked: by what, and where they go.
            groups: of rows of one kin.

        Returns:
            Each row, when it has ended.

        Raises:
            ValueError: the model cannot be loaded.
        """
        ...


class Local:
    """This process, with one model on one device."""

    def run(self, asked: Asked, groups: Sequence[Sequence[Row]]) -> Iterator[Ended]:
        """As `Engine` says."""
        maker = Maker(asked, asked.load())
        for group in groups:
            yield from maker.make(group)


def run(
    engine: Engine,
    asked: Asked,
    rows: Sequence[Row],
    groups: Sequence[Sequence[Row]],
    tell: Callable[[int, int], None],
) -> dict[str, str]:
    """Make the rows of a manifest that are missing.

    Args:
        engine: that makes them.
        asked: by what, and where they go; the folder is held.
        rows: of the manifest.
        groups: of those that are missing.
        tell: is told how many have ended, of how many.

    Returns:
        {id: why} of those that could not be made; it is in the folder, too.

    Raises:
        ValueError: the model cannot be loaded.
    """
    left = {row.id for group in groups for row in group}
    errors, total = dict[str, str](), len(left)
    try:
        for ended in engine.run(asked, groups) if groups else ():
            left.discard(ended.id)
            if ended.error:
                errors[ended.id] = ended.error
            tell(total - len(left), total)
    finally:
        folder.tell_failed(asked.out, rows, errors)
    return errors

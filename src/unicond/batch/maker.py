"""A model that is loaded once and makes rows of a manifest, whatever engine it works for."""

import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from unicond.batch import folder
from unicond.batch.manifest import Row
from unicond.loading import load
from unicond.model import Model
from unicond.studio import batching
from unicond.studio.queue import TRIES
from unicond.tasks.filled import Filled
from unicond.tasks.form_faults import clean

LONGEST = 1000
"""Characters of a reason."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What the rows are made by, and where they go.

    Args:
        root: folder from which their pictures are seen, as an absolute path.
        out: folder of what is made, likewise.
        base: what `unicond.load` takes.
        adapters: likewise.
        device: likewise.
        dtype: of the network; None is what suits the device.
        loras: {file: scale}.
        offload: keep parts on the CPU while they are not called.
        slicing: compute the network's attention a slice at a time.
    """

    root: Path
    out: Path
    base: str
    adapters: Sequence[str] | Mapping[str, str]
    device: str | None
    dtype: str | None
    loras: Mapping[str, float]
    offload: bool
    slicing: bool = False

    def load(self) -> Model:
        """The model.

        Returns:
            It, loaded.

        Raises:
            ValueError: it cannot be.
        """
        dtype = None if self.dtype is None else getattr(torch, self.dtype)
        return load(
            self.base,
            self.adapters,
            self.device,
            dtype,
            self.loras,
            offload=self.offload,
            slicing=self.slicing,
        )


@dataclass(frozen=True)
class Ended:
    """A row that is made, or cannot be.

    Args:
        id: of the row.
        error: why it cannot be; empty if it is made.
    """

    id: str
    error: str = ""


@dataclass(frozen=True)
class Maker:
    """Makes rows.

    Args:
        asked: by what, and where they go.
        model: loaded.
    """

    asked: Asked
    model: Model

    def make(self, rows: Sequence[Row]) -> Iterator[Ended]:
        """Make rows of one kin in one call; if that fails, or has ended a worker, each alone.

        Args:
            rows: of the manifest; what is there already is not made again.

        Yields:
            Each row, as soon as it has ended.
        """
        out = self.asked.out
        left = [row for row in rows if not folder.is_made(out, row)]
        yield from (Ended(row.id) for row in rows if row not in left)
        fresh = [row for row in left if not folder.begun(out, row)]
        if fresh:
            yield from self._together(fresh)
        for row in left:
            if row not in fresh:
                yield self._again(row)

    def _together(self, rows: Sequence[Row]) -> Iterator[Ended]:
        out = self.asked.out
        for row in rows:
            folder.begin(out, row)
        try:
            outputs = batching.run(self.model, [self._filled(row) for row in rows], _go_on)
            for row, output in zip(rows, outputs, strict=True):
                folder.keep(out, row, output, f"{socket.gethostname()}:{os.getpid()}")
                folder.end(out, row)
                yield Ended(row.id)
        except BaseException as error:
            for row in rows:
                folder.end(out, row)
            if not isinstance(error, Exception):  # whoever waits has ended it, not the row
                raise
            if len(rows) == 1:
                yield Ended(rows[0].id, _reason(error))
                return
            for row in rows:
                if not folder.is_made(out, row):
                    yield from self._together([row])

    def _again(self, row: Row) -> Ended:
        """Make a row that was begun when a worker ended."""
        if folder.begun(self.asked.out, row) >= TRIES:
            return Ended(row.id, f"its worker ended {TRIES} times while it was made")
        (ended,) = self._together([row])
        return ended

    def _filled(self, row: Row) -> Filled:
        base = self.asked.base
        root = self.asked.root
        return Filled(row.form, lambda p: str(root / str(p.upload)), {Path(base).name: base})


def _go_on(_: object) -> bool:
    return True


def _reason(error: Exception) -> str:
    """Why a row cannot be made, in a sentence."""
    if isinstance(error, ValueError | TypeError | OSError):
        return clean(str(error), LONGEST)
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "memory" in str(error):
        return "there is not enough memory: ask for a smaller size, or fewer samples"
    return clean(f"{type(error).__name__}: {error}", LONGEST)

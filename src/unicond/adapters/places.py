"""Which rows of a network call an adapter acts on, and by which sample's inputs."""

from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from unicond.sampling.rows import Rows, current
from unicond.sampling.state import current_move
from unicond.sampling.window import Window


class Place(NamedTuple):
    """The grounded rows of a call.

    Args:
        rows: (R,) of the batch.
        samples: (R,) whose inputs they get; the number of samples is nothing.
    """

    rows: Tensor
    samples: Tensor


def step() -> int:
    """The number of the move that is being made; 0 where none is told."""
    move = current_move()
    return 0 if move is None else move.number


class Places:
    """Looks rows up once a call, for all layers of an attachment.

    Args:
        grounded: of each sample, whether there is anything; inputs of one sample are for all.
        branch: whose rows are grounded.
        without: the prompts whose rows get the nothing.
        window: when the adapter acts; always where no move is told.
        nothing: whether there is a nothing for rows without; they are left out else, and so are
            samples in which there is nothing.
    """

    def __init__(
        self,
        grounded: Sequence[bool],
        branch: str,
        without: Collection[str],
        window: Window,
        nothing: bool,
    ) -> None:
        self._grounded = tuple(grounded)
        self._branch = branch
        self._without = frozenset(without)
        self._window = window
        self._nothing = nothing
        self._last: tuple[Rows | None, int, torch.device, Place | None] | None = None

    def of(self, batch: int, device: torch.device) -> Place | None:
        """The grounded rows of the call that is running, or None if there are none.

        Without current rows, row i is sample i.

        Args:
            batch: rows that the layer sees.
            device: of its activations.

        Returns:
            Rows and samples.

        Raises:
            ValueError: the current rows are not those of this batch, or its samples not as many as
                the inputs'.
        """
        move = current_move()
        if move is not None and not self._window.active(move, self._branch):
            return None
        rows = current()
        last = self._last
        if last is None or last[0] is not rows or last[1:3] != (batch, device):
            # indices made in inference mode could not be saved for a later call's gradient
            with torch.inference_mode(False):
                last = (rows, batch, device, self._place(rows, batch, device))
            self._last = last
        return last[3]

    def _place(self, rows: Rows | None, batch: int, device: torch.device) -> Place | None:
        if rows is not None and len(rows) != batch:
            raise ValueError(f"the batch has {batch} rows, but the current `Rows` has {len(rows)}")
        run, samples = batch if rows is None else rows.batch, len(self._grounded)
        if samples not in (1, run):
            raise ValueError(
                f"what an adapter is given is of {samples} samples, but the run has {run}; give "
                "inputs of one, for all, or of each"
            )
        found = [
            (row, samples if sample is None else sample % samples)
            for row, sample in self._pairs(rows, run)
            if self._nothing or (sample is not None and self._grounded[sample % samples])
        ]
        if not found:
            return None
        return Place(*(torch.tensor(column, device=device) for column in zip(*found, strict=True)))

    def _pairs(self, rows: Rows | None, run: int) -> Iterator[tuple[int, int | None]]:
        """`(row, sample)`; None of a row without."""
        if rows is None:
            yield from ((sample, sample) for sample in range(run))
        elif self._branch in rows.branches:
            for number, variant in enumerate(rows.variants):
                first = rows.of(self._branch, number).start
                bare = variant.prompt in self._without
                yield from ((first + one, None if bare else one) for one in range(run))

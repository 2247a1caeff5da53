"""The named setting `released`: how UniCon's published pipeline walks, for parity with its results.

A schedule is a list of segments `[(l_0, r_0), ..., (l_n, r_n), flag]` in shares of the run, one
pair for each branch. The last model index counts as clean, so a held branch is noised to it and is
stepped once, by the last move. Ours hold a clean branch exactly and need none of this (see
`plans.descend`).
"""

from collections.abc import Mapping, Sequence

import numpy as np

from unicond.sampling.plans import Plan, path
from unicond.sampling.schedules import DiscreteSchedule

Segment = Sequence[Sequence[float]]


def parse(segments: Sequence[Segment], num_inference_steps: int) -> list[tuple[int, ...]]:
    """The step index of every branch at each iteration.

    `le = int(l M)`, `ri = int(r M)`, `len = ri - le + 1` with `M = num_inference_steps - 1`; a
    segment has `S = max len` rows, row i at `le + int(len i / S)`; a later segment's first row
    repeats the last and is dropped.

    Args:
        segments: for each segment one `(from, to)` in [0, 1] a branch.
        num_inference_steps: length of the list of timesteps.

    Returns:
        A row an iteration, an index a branch.

    Raises:
        ValueError: a segment does not begin where the last ended (all branches are checked).
    """
    last = num_inference_steps - 1
    rows: list[tuple[int, ...]] = []
    for number, segment in enumerate(segments):
        spans = [(int(begin * last), int(end * last)) for begin, end in segment]
        counts = [right - left + 1 for left, right in spans]
        length = max(counts)
        lines = [
            tuple(
                left + int(count * i / length)
                for (left, _), count in zip(spans, counts, strict=True)
            )
            for i in range(length)
        ]
        if rows and lines[0] != rows[-1]:
            raise ValueError(
                f"segment {number} starts at indices {lines[0]}, the last one ended at {rows[-1]}"
            )
        rows += lines[1:] if rows else lines
    return rows


def plan(
    rows: Sequence[Sequence[int]], branches: Sequence[str], times: Sequence[float], end: float
) -> Plan:
    """The moves of parsed rows; after the last row every branch goes one index on.

    Args:
        rows: from `parse`.
        branches: names, in the order of the rows' columns.
        times: of the model indices, descending.
        end: where the index after the last leads (see `end_of`).

    Returns:
        A move a row.
    """
    grid = [*times, end]
    closing = [step + 1 for step in rows[-1]]
    walk = [*rows, closing]
    return path({name: [grid[row[column]] for row in walk] for column, name in enumerate(branches)})


def times_of(
    schedule: DiscreteSchedule, solver: str, num_inference_steps: int
) -> tuple[float, ...]:
    """The times that the published pipeline's scheduler of this name takes.

    DDIM and DDPM `leading`; Euler `linspace` in fractions; DPM++ a `linspace` of one more index,
    rounded, without the last.
    """
    if solver == "dpmpp_2m":
        total = len(schedule.alphas_cumprod)
        indices = np.round(np.linspace(0, total - 1, num_inference_steps + 1))[:0:-1]
        return tuple(schedule.time(float(index)) for index in indices)
    return schedule.times(
        num_inference_steps, "linspace" if solver.startswith("euler") else "leading"
    )


END_INDEX: Mapping[str, int] = {
    "ddim": 0,
    "euler": -1,
    "euler_ancestral": -1,
    "dpmpp_2m": -1,
    "ddpm": -1,
}


def check_solver(solver: str) -> None:
    """Raise ValueError unless the published pipeline has a scheduler of this name."""
    if solver not in END_INDEX:
        raise ValueError(
            f"sampling 'released' walks with one of the published solvers {', '.join(END_INDEX)}, "
            f"not with {solver!r}: choose one of them, or drop sampling"
        )


def levels(times: Sequence[float]) -> Mapping[float, float]:
    """{t: level} of a masked part: the next index even where held, clean at the last."""
    return dict(zip(times, [*times[1:], 0.0], strict=True))


def end_of(schedule: DiscreteSchedule, solver: str) -> float:
    """Where the last step leads: index 0 with DDIM (`set_alpha_to_one=False`), else clean."""
    return schedule.time(END_INDEX[solver])

"""`unicond table parts`: image and condition known in part, put back alone or guided as well.

    inpaint      the image around a free middle, depth along the border of the picture
    completion   the whole image, depth at sparse points
    half_edges   nothing of the image, the left half of its edges
    halves       the left half of the image, the right half of its depth

Each with replacement alone, with reconstruction guidance of a weight, and with an optimiser in the
place of the weight. `boundary_error` is the mean absolute error within 4 pixels of the mask's edge,
on both sides; where all of the truth follows from what is given (completion), `free_error` is that
of the free part, and the condition's own metrics count. `ratio_to_replacement` is of boundary
errors on the same scenes and noises.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from unicond.calls.request import Given
from unicond.conditions import named
from unicond.evaluation.bars import Bar, within
from unicond.evaluation.chunk import Chunk
from unicond.evaluation.estimates import Estimates, row_of
from unicond.evaluation.fidelity_depth import grey
from unicond.evaluation.measures import FIDELITIES
from unicond.evaluation.metrics_pictures import boundary_error
from unicond.evaluation.runner import Measure, Samples, as_list
from unicond.evaluation.study import Bench, Study, bars, varied
from unicond.evaluation.subject import Sampling
from unicond.evaluation.tables import Row, Table
from unicond.mechanisms.guidance.gradients import AdamW
from unicond.model import given

MAIN = "boundary_error"
SETTINGS = {
    "replacement": Sampling(weight=0.0),
    "guided_0.5": Sampling(weight=0.5),
    "guided_1": Sampling(weight=1.0),
    "adamw": Sampling(optimizer=AdamW()),
}
"""Replacement alone, then with guidance beside it."""


def middle(side: int) -> Tensor:
    """Known but for the middle half."""
    mask = torch.ones(side, side)
    edge = max(1, side // 4)
    mask[edge : side - edge, edge : side - edge] = 0
    return mask


def border(side: int) -> Tensor:
    """Known along the border, an eighth of the side wide."""
    mask = torch.ones(side, side)
    edge = max(1, side // 8)
    mask[edge : side - edge, edge : side - edge] = 0
    return mask


def points(side: int) -> Tensor:
    """Known at one latent of nine."""
    mask = torch.zeros(side, side)
    mask[1::3, 1::3] = 1
    return mask


def left(side: int) -> Tensor:
    """Known in the left half."""
    mask = torch.zeros(side, side)
    mask[:, : side // 2] = 1
    return mask


def right(side: int) -> Tensor:
    """Known in the right half."""
    return 1 - left(side)


def whole(side: int) -> Tensor:
    """Known everywhere."""
    return torch.ones(side, side)


Known = Callable[[int], Tensor]
"""From the side of the latents to a mask (side, side), 1 is known."""


@dataclass(frozen=True)
class Task:
    """What is known of both branches, and which one is judged.

    Attributes:
        name: of its rows.
        condition: beside the image.
        image: what is known of the image; None is nothing.
        drawing: what is known of the condition.
        judged: "image", or the condition's branch; its mask's edge counts.
        determined: what is free follows from what is known, so that all of it is judged.
    """

    name: str
    condition: str
    image: Known | None
    drawing: Known
    judged: str
    determined: bool = False

    def mask(self, side: int, factor: int) -> Tensor:
        """(1, 1, H, W) the judged branch's mask in pixels, of latents `side` wide."""
        known = self.image if self.judged == "image" else self.drawing
        assert known is not None
        return known(side).repeat_interleave(factor, 0).repeat_interleave(factor, 1)[None, None]


TASKS = (
    Task("inpaint", "depth", middle, border, "image"),
    Task("completion", "depth", whole, points, "depth", determined=True),
    Task("half_edges", "softedge", None, left, "softedge"),
    Task("halves", "depth", left, right, "image"),
)


def _measure(task: Task) -> Measure[Chunk]:
    """One task, under whatever settings the subject has."""

    def run(chunk: Chunk) -> Samples:
        cases, subject = chunk.cases, chunk.subject
        factor = subject.model.backbone.factor
        side = cases.images.shape[-1] // factor
        known = {subject.branch: _given(cases.condition, task.drawing(side), factor)}
        if task.image is not None:
            known["image"] = _given(cases.images, task.image(side), factor)
        made = subject.complete(cases.captions, cases.seeds, known)
        for branch, pictures in made.items():
            chunk.keep(branch, pictures)
        ours, truth = made["image"], cases.images
        if task.judged != "image":  # drawings of one channel are judged in grey
            ours, truth = grey(made[subject.branch]) * 2 - 1, grey(cases.condition) * 2 - 1
        mask = task.mask(side, factor).to(ours.device)
        values = {MAIN: as_list(boundary_error(ours, truth, mask))}
        if task.determined:
            free = 1 - mask.expand(len(ours), -1, -1, -1).double()
            gap = (ours.double() - truth.double()).abs().mean(1, keepdim=True)
            values["free_error"] = as_list((free * gap).flatten(1).sum(1) / free.flatten(1).sum(1))
            own = FIDELITIES[task.condition].of_drawings(chunk, made[subject.branch])
            values |= {name: list(each) for name, each in own.items()}
        return Samples(values)

    return Measure(task.name, run)


def _given(pictures: Tensor, mask: Tensor, factor: int) -> Given:
    """Pictures, known where the mask of the latents is 1."""
    if bool(mask.all()):
        return given(pictures)
    return given(pictures, mask=mask.repeat_interleave(factor, 0).repeat_interleave(factor, 1))


def make(bench: Bench) -> list[Row]:
    """All tasks under all settings."""
    rows: list[Row] = []
    for task in TASKS:
        condition, measure = named(task.condition), _measure(task)
        tried = [varied(measure, name, each, each) for name, each in SETTINGS.items()]
        prepare = bench.chunks(task.name, condition)
        estimates = Estimates(bench.measure(task.name, tried, prepare), MAIN)
        own = ("free_error", *FIDELITIES[task.condition].metrics) if task.determined else ()
        for name in SETTINGS:
            numbers = {metric: estimates.number(metric, name) for metric in (MAIN, *own)}
            if name != "replacement":
                numbers["ratio_to_replacement"] = estimates.ratio(name, "replacement")
            numbers["seconds"] = partial(estimates.value, "seconds", name)
            rows.append(row_of(f"{task.name}/{name}", numbers, bench.run.scenes))
    return rows


def draw(table: Table, path: Path) -> Path:
    """Boundary errors, and those of what is free."""
    return bars(table, path, (MAIN, "free_error"), "known in part")


def _expected(_: Sequence[Row]) -> list[Bar]:
    """That guidance mends the boundary, wherever something is guided."""
    return [
        Bar(
            f"guidance errs less at the mask's edge than replacement alone: {task.name}, {name}",
            within(f"{task.name}/{name}", "ratio_to_replacement", high=1.0),
            "the errors",
            ((f"{task.name}/{name}", MAIN), (f"{task.name}/replacement", MAIN)),
        )
        for task in TASKS
        for name in SETTINGS
        if name != "replacement"
    ]


PARTS = Study(
    "parts",
    make,
    draw,
    expects=_expected,
    needs=("depth", "softedge"),
    version="2",
)

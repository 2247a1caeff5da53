"""Editing a picture by words, where the true result is known: the world renders it.

Cases: a solid is recoloured, becomes another shape, is added or removed, or the picture is drawn in
another style (`world.edits`); they take turns over the scenes. Each method is the public task
`unicond.tasks.edit.Edit`, given the picture and both captions, one picture at a time. `VARIANTS`
are told the words of the edited solid, too; they have rows of the kinds whose captions both name
it, and none of all edits together.

    done           the judge reads the class and the colour of the truth over at least half of the
                   changed solid's place; what is added is seen anywhere, at least a quarter as
                   large; the judge reads the new style
    psnr_outside   to the truth, where the truth is as the picture was (not of styles)
    abs_rel        the judge's depth against the truth's, fitted
    psnr_target    to the truth, everywhere

`unedited` is the picture as it was, `truth` the true result through the model's autoencoder.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import torch
from torch import Tensor

from unicond.evaluation.bars import Bar, beats
from unicond.evaluation.cases import TABLE_WORLD
from unicond.evaluation.judge import Reading
from unicond.evaluation.metrics_depth import score_depth, valid_pixels
from unicond.evaluation.metrics_objects import seen_spots
from unicond.evaluation.metrics_pictures import psnr, psnr_where
from unicond.evaluation.report import save_plot
from unicond.evaluation.runner import Measure, Samples, as_list
from unicond.evaluation.sheet import KEPT, keep_pictures
from unicond.evaluation.study import Bench
from unicond.evaluation.tables import Row, Table
from unicond.evaluation.tasks.group import (
    ALL,
    COSTS,
    Cost,
    Group,
    as_share,
    case_rows,
    cost_of,
    costs,
    kept_picture,
    through_autoencoder,
)
from unicond.pictures.sheet import Line
from unicond.tasks.edit import NAMED, SCALE, UNPAIRED, Edit
from unicond.world.captions import phrases
from unicond.world.edits import KINDS, Edits, SceneEdit, change_mask, rendered
from unicond.world.render import Rendering
from unicond.world.vocabulary import CLASSES, COLOR_NAMES, STYLES

PLACE_SHARE = 0.5
"""Of the changed solid's pixels, at least, that are read as the truth's."""
ADDED_SHARE = 0.25
"""Of its true size, at least, is what counts as added."""
METHODS = (*NAMED, *UNPAIRED, "diffedit", "sdedit", "semantic")
VARIANTS: Mapping[str, str] = {
    "direct+p2p+blend": "direct+p2p",
    "direct+masactrl+masks": "direct+masactrl",
}
"""{method that is told a subject: the same without}: a local blend, masks of the foreground."""
NAMING = ("recolour", "swap_class")
"""Kinds of edits whose solid both captions name."""
BOUNDS = ("unedited", "truth")
METRICS: Mapping[str, str] = {
    "done": "share of edits that the probe sees done",
    "psnr_outside": "dB to the truth where nothing is to change",
    "abs_rel": "the probe's depth against the true result's",
    "psnr_target": "dB to the true result, everywhere",
}
SHOWN_EACH = 2
"""Edits of each kind that are shown."""


@dataclass(frozen=True, eq=False)
class EditCases:
    """Some edits, drawn.

    Attributes:
        numbers: of the cases, ascending.
        edits: what is asked.
        before: the pictures that are given, with their exact maps.
        after: the true results.
        bench: what is measured and what measures it.
    """

    numbers: tuple[int, ...]
    edits: tuple[SceneEdit, ...]
    before: Rendering
    after: Rendering
    bench: Bench

    @cached_property
    def kept(self) -> Tensor:
        """(B, 1, H, W) bool, where before and after are the same; nowhere where styles differ."""
        whole = torch.tensor([edit.entity is None for edit in self.edits])
        return ~(change_mask(self.before.image, self.after.image) | whole[:, None, None, None])

    def only(self, kinds: Collection[str]) -> "EditCases":
        """Those of some kinds, of which there must be one."""
        rows = [row for row, edit in enumerate(self.edits) if edit.kind in kinds]
        numbers, edits = (tuple(each[row] for row in rows) for each in (self.numbers, self.edits))
        before, after = (each[torch.tensor(rows)] for each in (self.before, self.after))
        return replace(self, numbers=numbers, edits=edits, before=before, after=after)

    def seed(self, row: int) -> int:
        """Of a case's noise."""
        return self.bench.run.seed * 1_000_000 + self.numbers[row]

    def scores(self, name: str, pictures: Tensor, spent: Sequence[Cost]) -> Samples:
        """All that is measured on results (B, 3, H, W) in [-1, 1], which are kept for the page."""
        keep_pictures(self.bench.folder / "pictures" / name, self.numbers, pictures)
        reading, truth = self.bench.judge(pictures), self.after
        valid = valid_pixels(truth.depth, truth.valid)
        found = {
            "done": as_share(edits_done(reading, self.edits, self.before, truth)),
            "psnr_outside": as_list(psnr_where(pictures, truth.image, self.kept)),
            "abs_rel": as_list(score_depth(reading.inverse_depth, truth.depth, valid).abs_rel),
            "psnr_target": as_list(psnr(pictures, truth.image)),
        }
        return Samples({**found, **costs(spent)})


def edits_done(
    reading: Reading, edits: Sequence[SceneEdit], before: Rendering, after: Rendering
) -> list[bool]:
    """Whether edits have been made.

    Args:
        reading: of the B results.
        edits: what was asked, B.
        before: the given pictures' maps.
        after: the true results' maps.

    Returns:
        One answer an edit.
    """
    right = (reading.classes == after.classes) & (reading.colors == after.colors)
    areas = seen_spots(reading.classes, reading.colors, 1)
    answers: list[bool] = []
    for row, edit in enumerate(edits):
        if edit.entity is None or edit.solid is None:
            answers.append(int(reading.style[row]) == STYLES.index(edit.target.style))
            continue
        shown = before if edit.kind == "remove" else after
        place = shown.instances[row] == edit.entity + 1
        if edit.kind == "add":
            key = (CLASSES.index(edit.solid.shape), COLOR_NAMES.index(edit.solid.color))
            sizes = [area.pixels for area in areas[row] if (area.cls, area.color) == key]
            answers.append(max(sizes, default=0) >= ADDED_SHARE * int(place.sum()))
        else:
            answers.append(float(right[row][place].float().mean()) >= PLACE_SHARE)
    return answers


def asked(edit: SceneEdit, picture: Tensor, method: str, seed: int, bench: Bench) -> Edit:
    """The task that an edit is for a method.

    Args:
        edit: what is to be done.
        picture: (3, H, W) in [-1, 1].
        method: one of `METHODS` or `VARIANTS`.
        seed: of the noise.
        bench: with the steps and the guidance.

    Returns:
        The task; `semantic` gets the words of what comes or goes, all others both captions.
    """
    semantic = method == "semantic"
    source_subject, subject = _named(edit) if method in VARIANTS else ("", "")
    return Edit(
        picture,
        edit.words if semantic else edit.target_caption,
        source_prompt=edit.source_caption,
        method=VARIANTS.get(method, method),
        subject=subject,
        source_subject=source_subject,
        scale=(-SCALE if edit.kind == "remove" else SCALE) if semantic else None,
        seed=seed,
        num_inference_steps=bench.generation.steps,
        guidance_scale=bench.generation.guidance,
    )


def _named(edit: SceneEdit) -> tuple[str, str]:
    """The edited solid in the words of either caption, without the article."""
    assert edit.kind in NAMING
    assert edit.entity is not None
    both = (scene.solids[edit.entity] for scene in (edit.source, edit.target))
    before, after = (phrases(solid)[2] for solid in both)
    return before, after


def results(method: str, cases: EditCases) -> Samples:
    """A method's results, one picture at a time, as a user asks for them."""
    made: list[Tensor] = []
    spent: list[Cost] = []
    bench = cases.bench
    for row, edit in enumerate(cases.edits):
        task = asked(edit, cases.before.image[row], method, cases.seed(row), bench)
        with cost_of(bench.model) as cost:
            made.append(task.run(bench.model).pictures["image"][0].float())
        spent.append(cost)
    return cases.scores(method, torch.stack(made), spent)


def of_variant(method: str, cases: EditCases) -> Samples:
    """The results of one of `VARIANTS`; of kinds that it is not for there is no value."""
    rows = [row for row, edit in enumerate(cases.edits) if edit.kind in NAMING]
    none = dict.fromkeys((*METRICS, *COSTS), ())
    found = results(method, cases.only(NAMING)).values if rows else none
    values: dict[str, list[float | None]] = {}
    for metric, those in found.items():
        place = dict(zip(rows, those, strict=True))
        values[metric] = [place.get(row) for row in range(len(cases.edits))]
    return Samples(values)


def _unedited(cases: EditCases) -> Samples:
    return cases.scores("unedited", cases.before.image, [Cost()] * len(cases.edits))


def _truth(cases: EditCases) -> Samples:
    keep_pictures(cases.bench.folder / "pictures" / "target", cases.numbers, cases.after.image)
    pictures = through_autoencoder(cases.bench.model, cases.after.image)
    return cases.scores("truth", pictures, [Cost()] * len(cases.edits))


def prepared(bench: Bench, rows: range) -> EditCases:
    """The edits of a range of scenes, drawn."""
    edits = tuple(_held_out(bench).edits(rows))
    before, after = rendered(edits, bench.model.backbone.sample_size)
    return EditCases(tuple(rows), edits, before, after, bench)


def _held_out(bench: Bench) -> Edits:
    return Edits(TABLE_WORLD + bench.run.seed)


def make(bench: Bench) -> list[Row]:
    """All methods on all kinds of edits."""
    measures: list[Measure[EditCases]] = [Measure("unedited", _unedited), Measure("truth", _truth)]
    measures += [Measure(method, partial(results, method)) for method in METHODS]
    measures += [Measure(method, partial(of_variant, method)) for method in VARIANTS]
    found = bench.measure("editing", measures, partial(prepared, bench))
    cases = [KINDS[number % len(KINDS)] for number in range(bench.run.scenes)]
    rows = case_rows("editing", found, cases, tuple(METRICS))
    return [row for row in rows if _has(*row.name.split("/")[1:])]


def _has(case: str, method: str) -> bool:
    """Whether a method has a row of a case."""
    return method not in VARIANTS or case in NAMING


def show(bench: Bench) -> Mapping[str, Sequence[Line]]:
    """The first edits of each kind: as it was, the truth, and every method's."""
    count = min(bench.run.scenes, SHOWN_EACH * len(KINDS), KEPT)
    lines: dict[str, list[Line]] = {}
    for number, edit in enumerate(_held_out(bench).edits(range(count))):
        title = f"{edit.source_caption} -> {edit.target_caption}"
        own = [method for method in VARIANTS if _has(edit.kind, method)]
        kinds = ("unedited", "target", *METHODS, *own)
        pictures = [kept_picture(bench, kind, number) for kind in kinds]
        lines.setdefault(edit.kind, []).append(Line(title, pictures, kinds))
    return lines


def draw(table: Table, path: Path) -> Path:
    """Done, kept and depth over all edits: a bar a method."""
    parts = [(*row.name.split("/"), row) for row in table.rows]
    rows = tuple(replace(row, name=method) for _, case, method, row in parts if case == ALL)
    whole = Table(table.command, table.seed, table.seconds, table.scenes, rows)
    shown = [metric for metric in METRICS if metric in whole.metrics()]
    return save_plot(whole, path, shown, f"editing, {table.scenes} held-out edits")


_TRUTH = f"editing/{ALL}/truth"
BARS = (
    Bar(
        "the best method's edits are done more often than those of the unedited input",
        beats(f"editing/{ALL}", (("done", "unedited"),), BOUNDS),
        "what the probe reads of the true result itself",
        ((_TRUTH, "done"),),
    ),
    Bar(
        "the best method is nearer to the true result than the unedited input",
        beats(f"editing/{ALL}", (("psnr_target", "unedited"),), BOUNDS),
        "most of a picture is to stay, the unedited one went through no autoencoder, which alone "
        "leaves the true result with",
        (
            (_TRUTH, "psnr_target"),
            (_TRUTH, "psnr_outside"),
            *((f"editing/{kind}/unedited", "psnr_target") for kind in KINDS),
        ),
    ),
)
EDITING = Group(
    "editing",
    "A picture changed by words; the world renders the true result.",
    make,
    show,
    draw,
    BOUNDS,
    METRICS,
    bars=BARS,
    version="2",
)

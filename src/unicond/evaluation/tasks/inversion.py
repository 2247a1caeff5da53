"""Reconstruction by inversion: a picture goes up to noise and comes back under its own caption.

Cases are `steps-guidance`: 10, 20 and 50 steps, text guidance 1 and 7.5 on the way down; steps or a
guidance that are asked for take their place. Source and target are the two branches of an edit
whose words do not change anything:

    psnr              of the source, which attention looks at while the target is edited
    psnr_same_words   of the target, which gets nothing but the same words
    below_autoencoder how far `psnr` is below `psnr_autoencoder`, what the autoencoder gives back
    psnr_over_METHOD  how far `psnr` is above that of another method, on the same pictures

A method's reconstruction is its source branch, and every method's is measured there, in one and the
same run: of direct inversion it is what the formula defines (`x'_s + d_s`, source branch only), of
DDIM the guided way down that direct inversion corrects. Some put the source back where it was by
construction (direct, edit-friendly); their targets do not gain by that alone, and what an edit
keeps shows in `psnr_same_words`. SDEdit has no source: both are its one picture, from 0.75 of the
way to noise. The pictures of a chunk go through the network together:
`calls` are those of a run, `seconds` a picture's share of it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import cast

from torch import Tensor

from unicond.calls.request import Reference
from unicond.evaluation.bars import Bar, ahead, within
from unicond.evaluation.cases import TABLE_WORLD
from unicond.evaluation.curves import Panel, save_curves
from unicond.evaluation.estimates import Estimate, mean, row_of
from unicond.evaluation.metrics_pictures import psnr
from unicond.evaluation.runner import Measure, Samples, as_list
from unicond.evaluation.sheet import KEPT, keep_pictures
from unicond.evaluation.study import Bench
from unicond.evaluation.subject import Sampling
from unicond.evaluation.tables import Row, Table
from unicond.evaluation.tasks.group import (
    ALL,
    COSTS,
    Cost,
    Group,
    cost_of,
    costs,
    gain,
    kept_picture,
    shared_cost,
    through_autoencoder,
)
from unicond.mechanisms.inversion.methods import Method, plan_edit
from unicond.pictures.sheet import Line
from unicond.tasks.edit import INVERSIONS, STRENGTHS
from unicond.world.edits import Edits, SceneEdit, rendered

STEPS = (10, 20, 50)
GUIDANCES = (1.0, 7.5)
METHODS = ("sdedit", *INVERSIONS)
ORDERS = (("fixed_point", "ddim"), ("direct", "ddim"), ("null_text", "negative_prompt"))
"""Which method is said to be better than which."""
USUAL = (20, 7.5)
"""Steps and guidance where a sweep varies the other one."""
AUTOENCODER = "autoencoder"
METRICS: Mapping[str, str] = {
    "psnr": "dB of the source, the reconstruction of every method alike, to the picture",
    "psnr_same_words": "dB of the target, whose words are the same, to the picture",
    "below_autoencoder": "dB that the source is below what the autoencoder gives back",
    "psnr_autoencoder": "dB of what the autoencoder gives back",
}
SHOWN = 3
"""Pictures that are shown."""


@dataclass(frozen=True, eq=False)
class PictureCases:
    """Some pictures with their captions.

    Attributes:
        numbers: of the cases, consecutive.
        edits: whose sources they are.
        bench: what is measured.
    """

    numbers: tuple[int, ...]
    edits: tuple[SceneEdit, ...]
    bench: Bench

    @cached_property
    def pictures(self) -> Tensor:
        """(B, 3, H, W) in [-1, 1]."""
        return rendered(self.edits, self.bench.model.backbone.sample_size)[0].image

    @property
    def captions(self) -> list[str]:
        """What they show."""
        return [edit.source_caption for edit in self.edits]

    def keep(self, name: str, pictures: Tensor) -> None:
        """Keep pictures for the page."""
        keep_pictures(self.bench.folder / "pictures" / name, self.numbers, pictures)


@dataclass(frozen=True)
class Way:
    """One way up and down.

    Attributes:
        method: of inversion.
        steps: network calls of the plan a way.
        guidance: of text, on the way down; 1.0 is off.
    """

    method: str
    steps: int
    guidance: float

    @property
    def case(self) -> str:
        """In the names of rows."""
        return f"{self.steps}-{self.guidance:g}"

    @property
    def name(self) -> str:
        """Of its files."""
        return f"{self.case}-{self.method}"

    def reconstructions(self, cases: PictureCases) -> tuple[Tensor, Tensor]:
        """Source and target, as they come back, each (B, 3, H, W) in [-1, 1]."""
        model, run = cases.bench.model, cases.bench.run
        times = model.backbone.schedule.times(self.steps)
        alone = self.method == "sdedit"
        strength = STRENGTHS["sdedit"] if alone else 1.0
        route = plan_edit(cast(Method, self.method), times, strength=strength, target="image")
        shown = Reference(prompt=cases.captions, picture=list(cases.pictures))
        out = model(
            cases.captions,
            seed=[run.seed * 1_000_000 + number for number in cases.numbers],
            branches=["image"],
            references={} if alone else {"source": shown},
            solver=route.solver,
            plan=route.plan,
            guidance_scale=self.guidance,
            mechanisms=[*route.mechanisms, *route.inner],
            image=cases.pictures,
        )
        source = out.pictures["image" if alone else "source"]
        return source.float(), out.pictures["image"].float()

    def measure(self, cases: PictureCases) -> Samples:
        """How near the pictures come back."""
        with cost_of(cases.bench.model) as cost:
            source, target = self.reconstructions(cases)
        cases.keep(self.name, source)
        found = {
            "psnr": as_list(psnr(source, cases.pictures)),
            "psnr_same_words": as_list(psnr(target, cases.pictures)),
        }
        return Samples({**found, **costs(shared_cost(cost, len(cases.numbers)))})


def ways(bench: Bench) -> tuple[Way, ...]:
    """All ways; steps and a guidance that were asked for alone, where they were."""
    asked = bench.generation
    steps = STEPS if asked.steps is None else (asked.steps,)
    guidances = GUIDANCES if asked.guidance is None else (asked.guidance,)
    return tuple(Way(m, n, g) for n in steps for g in guidances for m in METHODS)


def asked(method: str, generation: Sampling) -> Way:
    """A method's way under the settings of a sweep, those of a usual edit where it has none."""
    steps = USUAL[0] if generation.steps is None else generation.steps
    return Way(method, steps, USUAL[1] if generation.guidance is None else generation.guidance)


def _autoencoder(cases: PictureCases) -> Samples:
    """What no latent model can be better than."""
    cases.keep("real", cases.pictures)
    decoded = through_autoencoder(cases.bench.model, cases.pictures)
    cases.keep(AUTOENCODER, decoded)
    spent = [Cost()] * len(cases.numbers)
    return Samples({"psnr": as_list(psnr(decoded, cases.pictures)), **costs(spent)})


def prepared(bench: Bench, rows: range) -> PictureCases:
    """The pictures of a range of scenes: those that the group of edits changes."""
    return PictureCases(tuple(rows), tuple(Edits(TABLE_WORLD + bench.run.seed).edits(rows)), bench)


def make(bench: Bench) -> list[Row]:
    """The autoencoder, and every way."""
    measures: list[Measure[PictureCases]] = [Measure(AUTOENCODER, _autoencoder)]
    measures += [Measure(way.name, way.measure) for way in ways(bench)]
    found = bench.measure("inversion", measures, partial(prepared, bench))
    best, scenes = found[AUTOENCODER], bench.run.scenes
    numbers: dict[str, Estimate] = {m: partial(mean, best, m) for m in ("psnr", *COSTS)}
    rows = [row_of(f"inversion/{ALL}/{AUTOENCODER}", numbers, scenes)]
    for way in ways(bench):
        samples = found[way.name]
        numbers = {m: partial(mean, samples, m) for m in ("psnr", "psnr_same_words", *COSTS)}
        numbers["psnr_autoencoder"] = partial(mean, best, "psnr")
        numbers["below_autoencoder"] = gain(best, samples, "psnr")
        for better, worse in ORDERS:
            other = Way(worse, way.steps, way.guidance).name
            if better == way.method and other in found:
                numbers[f"psnr_over_{worse}"] = gain(samples, found[other], "psnr")
        row = row_of(f"inversion/{way.case}/{way.method}", numbers, scenes)
        facts = {"steps": way.steps, "guidance": way.guidance}
        rows.append(replace(row, metrics={**row.metrics, **facts}))
    return rows


def show(bench: Bench) -> Mapping[str, Sequence[Line]]:
    """The first pictures as the sources come back, case by case."""
    lines: dict[str, list[Line]] = {}
    edits = Edits(TABLE_WORLD + bench.run.seed).edits(range(min(bench.run.scenes, SHOWN, KEPT)))
    every = ways(bench)
    for case in dict.fromkeys(way.case for way in every):
        own = {way.method: way.name for way in every if way.case == case}
        parts = {"real": "real", AUTOENCODER: AUTOENCODER, **own}
        for number, edit in enumerate(edits):
            pictures = [kept_picture(bench, part, number) for part in parts.values()]
            line = Line(edit.source_caption, pictures, list(parts))
            lines.setdefault(f"{case} (steps-guidance)", []).append(line)
    return lines


def draw(table: Table, path: Path) -> Path:
    """PSNR over steps, a panel a guidance, for the source and for the target."""
    level = {AUTOENCODER: table.row(f"inversion/{ALL}/{AUTOENCODER}")}
    swept = [row for row in table.rows if "guidance" in row.metrics]
    guidances = list(dict.fromkeys(row.metrics["guidance"] for row in swept))
    panels = [
        Panel("steps", metric, _lines(swept, guidance), level, log=True)
        for metric in ("psnr", "psnr_same_words")
        for guidance in guidances
    ]
    told = ", ".join(f"{guidance:g}" for guidance in guidances)
    title = f"guidance {told} (from the left), {table.scenes} held-out pictures"
    return save_curves(panels, path, title, columns=len(guidances))


def _lines(rows: Sequence[Row], guidance: float) -> dict[str, list[Row]]:
    """{method: its rows under a guidance, by steps}."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        if row.metrics["guidance"] == guidance:
            found.setdefault(row.name.split("/")[2], []).append(row)
    return found


def _shown(method: str, metric: str, *cases: str) -> tuple[tuple[str, str], ...]:
    """A method's numbers in some cases."""
    return tuple((f"inversion/{case}/{method}", metric) for case in cases)


_BELOW, _BEST = "below_autoencoder", "inversion/50-1"
_MORE_STEPS = ("10-1", "20-1", "50-1")
BARS = (
    Bar(
        "DDIM inversion at 50 steps and guidance 1 is within 3 dB of the autoencoder",
        within(f"{_BEST}/ddim", _BELOW, high=3.0),
        "what it loses comes from the length of its steps",
        _shown("ddim", _BELOW, *_MORE_STEPS),
    ),
    *(
        Bar(
            f"{method.replace('_', '-')} inversion is better than it",
            ahead(f"{_BEST}/{method}", "psnr_over_ddim"),
            "as near to the autoencoder",
            (*_shown(method, _BELOW, *_MORE_STEPS), *_shown("ddim", _BELOW, *_MORE_STEPS)),
        )
        for method in ("fixed_point", "direct")
    ),
    *(
        Bar(
            f"{method} is equal to the autoencoder to 0.1 dB at 50 steps and guidance {guidance}",
            within(f"inversion/50-{guidance}/{method}", _BELOW, -0.1, 0.1),
            "by the number of steps",
            _shown(method, _BELOW, *(f"{n}-{guidance}" for n in STEPS)),
        )
        for method in ("edict", "edit_friendly")
        for guidance in ("1", "7.5")
    ),
    Bar(
        "null-text is above negative-prompt inversion under guidance 7.5, at 50 steps",
        ahead("inversion/50-7.5/null_text", "psnr_over_negative_prompt"),
        "how near both are to the autoencoder, by the number of steps",
        tuple(
            one
            for method in ("null_text", "negative_prompt")
            for one in _shown(method, _BELOW, *(f"{n}-7.5" for n in STEPS))
        ),
    ),
)
INVERSION = Group(
    "inversion",
    "A picture inverted to noise and reconstructed under its own caption.",
    make,
    show,
    draw,
    (AUTOENCODER,),
    METRICS,
    bars=BARS,
    scenes=10,
)

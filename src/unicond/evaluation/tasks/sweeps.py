"""The sweeps of settings: text guidance from 1 to 10 of each task, and methods at 5 to 50 steps.

    guidance        every task on `mini`: its usual methods, and text alone where it has that row
    steps           every method of every task on `mini`
    pixel_sweeps    both of restoration, on `mini-pixel`; under guidance pictures have captions

A guidance or a number of steps that is asked for takes the place of those that are swept.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from unicond.evaluation.curves import Panel
from unicond.evaluation.runner import Samples
from unicond.evaluation.study import Bench
from unicond.evaluation.subject import Sampling
from unicond.evaluation.tables import Row, Table
from unicond.evaluation.tasks import (
    composition,
    editing,
    inversion,
    layout,
    restoration,
    signals,
    style,
)
from unicond.evaluation.tasks.group import Group
from unicond.evaluation.tasks.sweep import Part, Setting, save_panels
from unicond.pictures.sheet import Line

GUIDANCES = (1.0, 2.0, 3.0, 5.0, 7.5, 10.0)
STEPS = (5, 10, 20, 50)
AnyPart = Part[Any]
"""Parts of different cases in one list."""
_PSNR = ("psnr", "psnr_same_words")


def _nothing(_: Bench) -> Mapping[str, str]:
    return {}


def _some(*names: str) -> Callable[[Bench], Sequence[str]]:
    return lambda _: names


def _inverted(method: str, cases: inversion.PictureCases) -> Samples:
    return inversion.asked(method, cases.bench.generation).measure(cases)


def _kept_inverted(method: str, generation: Sampling) -> str:
    return inversion.asked(method, generation).name


_SWEPT: Mapping[str, Sequence[Group]] = {
    "mini": (
        editing.EDITING,
        inversion.INVERSION,
        layout.LAYOUT,
        composition.COMPOSITION,
        style.STYLE,
        signals.ROBUSTNESS,
    ),
    "mini-pixel": (restoration.RESTORATION,),
}
"""{base: what the numbers of a sweep on it mean follows from these}."""
_CHOSEN: Mapping[str, Callable[[Bench], Sequence[str]]] = {
    "editing": _some("direct+p2p", "sdedit", "semantic"),
    "inversion": _some("ddim", "direct", "null_text"),
    "layout": _some("regions", "layout", "text"),
    "composition": _some("composable", "multidiffusion", "text"),
    "style": _some("style_injection", "sdedit", "text"),
}
_EVERY: Mapping[str, Callable[[Bench], Sequence[str]]] = {
    "editing": lambda _: editing.METHODS,
    "inversion": lambda _: inversion.METHODS,
    "layout": layout.methods,
    "composition": composition.methods,
    "style": style.methods,
}


def _parts(usual: bool) -> tuple[AnyPart, ...]:
    """The tasks on `mini`, with their usual methods or all of them."""
    of = _CHOSEN if usual else _EVERY
    layouts = _nothing if usual else layout.missing
    compositions = _nothing if usual else composition.missing
    styles = _nothing if usual else style.missing
    psnr = {metric: inversion.METRICS[metric] for metric in _PSNR}
    return (
        Part("editing", of["editing"], editing.prepared, editing.results, editing.METRICS),
        Part(
            "inversion", of["inversion"], inversion.prepared, _inverted, psnr, kept=_kept_inverted
        ),
        Part(
            "layout",
            of["layout"],
            layout.prepared,
            layout.results,
            layout.METRICS,
            missing=layouts,
            weigh=layout.solids_of,
        ),
        Part(
            "composition",
            of["composition"],
            composition.prepared,
            composition.results,
            composition.METRICS,
            missing=compositions,
        ),
        Part(
            "style",
            of["style"],
            style.prepared,
            style.results,
            style.METRICS,
            missing=styles,
        ),
        Part(
            "signals",
            signals.methods,
            signals.prepared,
            signals.results,
            signals.METRICS,
            missing=partial(signals.missing, spoilings=(signals.CLEAN,)),
        ),
    )


def _restoration(operator: str, methods: Callable[[Bench], Sequence[str]]) -> AnyPart:
    """Restoration from what an operator measured exactly."""
    way = restoration.Way(operator, "clean")

    def measure(method: str, scenes: restoration.Scenes) -> Samples:
        return restoration.results(way, method, scenes)

    return Part(
        "restoration",
        methods,
        restoration.prepared,
        measure,
        {metric: restoration.METRICS[metric] for metric in ("psnr", "residual", "ssim")},
        case=operator,
        kept=lambda method, _: f"{way.case}-{method}",
    )


def _all_on(operator: str) -> AnyPart:
    def methods(bench: Bench) -> Sequence[str]:
        return restoration.methods_on(operator, bench.model.backbone)

    def missing(bench: Bench) -> Mapping[str, str]:
        every = restoration.missing(bench).items()
        return {name: why for name, why in every if name.startswith(f"{operator}-clean ")}

    return replace(_restoration(operator, methods), missing=missing)


BY_TASK, BY_METHOD = _parts(True), _parts(False)
PIXELS_GUIDED = (
    _restoration("sr4", _some("ddnm", "dps")),
    _restoration("inpaint-box", _some("ddnm", "repaint")),
)
PIXELS_STEPPED = (_all_on("sr4"), _all_on("inpaint-box"))
Sweep = tuple[Setting, Sequence[AnyPart]]
"""A setting and what is measured at its values."""


def values_of(bench: Bench, setting: Setting) -> tuple[float, ...]:
    """The values of a setting, or the one that is asked for."""
    asked = bench.generation.guidance if setting == "guidance" else bench.generation.steps
    if asked is not None:
        return (asked,)
    return GUIDANCES if setting == "guidance" else STEPS


def _missing(sweeps: Sequence[Sweep], bench: Bench) -> dict[str, str]:
    """{task and method: why a bench has it not}."""
    return {
        f"{part.task} {method}": why
        for _, parts in sweeps
        for part in parts
        for method, why in part.missing(bench).items()
    }


def _group(
    name: str,
    about: str,
    sweeps: Callable[[], Sequence[Sweep]],
    base: str = "mini",
    scenes: int = 10,
    every: bool = False,
) -> Group:
    """A group of sweeps; of `every` method, with all that these are made with."""

    def make(bench: Bench) -> list[Row]:
        return [
            row
            for setting, parts in sweeps()
            for part in parts
            for row in part.rows(bench, setting, values_of(bench, setting))
        ]

    def show(bench: Bench) -> Mapping[str, Sequence[Line]]:
        found: dict[str, Sequence[Line]] = {}
        for setting, parts in sweeps():
            for part in parts:
                lines = part.lines(bench, setting, values_of(bench, setting))
                found |= {f"{title}: {setting}": each for title, each in lines.items()}
        return found

    def draw(table: Table, path: Path) -> Path:
        panels: list[Panel] = [
            panel
            for setting, parts in sweeps()
            for part in parts
            for panel in part.panels(table, setting)
        ]
        return save_panels(panels, table, path, name.replace("_", " "))

    own = (signals.DEPTH, *(layout.LAYOUT.takes if every else ()))
    metrics: dict[str, str] = {}
    for _, parts in sweeps():
        for part in parts:
            metrics |= part.metrics
    return Group(
        name,
        about,
        make,
        show,
        draw,
        (layout.TEXT,),
        metrics,
        base=base,
        takes=own if base == "mini" else (),
        scenes=scenes,
        missing=lambda bench: _missing(sweeps(), bench),
        companion=every,
        heads=(signals.DEPTH,) if base == "mini" else (),
        version=".".join(each.version for each in _SWEPT[base]),
    )


GUIDANCE_SWEEP = _group(
    "guidance",
    "Each task under a guidance of text from 1 to 10.",
    lambda: [("guidance", BY_TASK)],
)
STEPS_SWEEP = _group(
    "steps",
    "Each method of each task at 5, 10, 20 and 50 steps.",
    lambda: [("steps", BY_METHOD)],
    scenes=5,
    every=True,
)
PIXEL_SWEEPS = _group(
    "pixel_sweeps",
    "Restoration under a guidance of text from 1 to 10, and at 5, 10, 20 and 50 steps.",
    lambda: [("guidance", PIXELS_GUIDED), ("steps", PIXELS_STEPPED)],
    base="mini-pixel",
)

"""Restoring held-out pictures from what was measured of them, exactly and with noise.

Cases are `OPERATOR-clean` (y = A x) and `OPERATOR-noisy` (y = A x + 0.05 z); `sr4-bicubic` is
another `sr4`, smaller by a bicubic filter. Free masks and the coordinates of `hadamard` are each
scene's own. Methods are those of `unicond.tasks.restore`, without a prompt; under its caption where
a guidance of text is asked for. The table is meant for the pixel base `mini-pixel`, where they are
defined and exact. On a latent base operators act on decoded pictures; methods that need latents
which a mask leaves whole are left out where there are none.

    psnr, ssim        to the clean picture
    feature_distance  of the judge's features: |f - f*| / |f*|
    residual          rms of y - A x, x as the method leaves it (on latents: decoded)
    residual_saved    the same once x is clipped and rounded to the 8 bits of a file
    boundary_error    of masks: mean absolute error within 4 pixels of the mask's edge
    METRIC_over_OTHER by how much a method is better on the same pictures: in PSNR than the plain
                      estimate, and than those that it is said to be better than

Rounding alone is 0.0023 a pixel; of a noisy measurement 0.05 is what its noise leaves. `input` is
the plain estimate: a bicubic enlargement, a hole filled from around it, the grey or blurred picture
itself, A^+ y. The pictures of a chunk go through the network together, but for those that have
operators of their own: `calls` are those of a run, `seconds` a picture's share of it.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch

from unicond.backbones.base import Backbone
from unicond.evaluation.bars import Bar, ahead, beats, gains, within
from unicond.evaluation.estimates import Estimate, mean, row_of
from unicond.evaluation.grid import save_grid
from unicond.evaluation.runner import Measure, Samples, join_samples
from unicond.evaluation.sheet import KEPT, keep_pictures
from unicond.evaluation.study import Bench
from unicond.evaluation.tables import Row, Table, more_is_better
from unicond.evaluation.tasks.group import (
    COSTS,
    Cost,
    Group,
    cost_of,
    gain,
    kept_picture,
    shared_cost,
)
from unicond.evaluation.tasks.restored import NOISES, Scenes, Way, held_out, prepared
from unicond.pictures.sheet import Line
from unicond.tasks.restore import Restore
from unicond.tasks.restorers import Case, methods_for

OPERATORS = (
    "inpaint-box",
    "inpaint-free",
    "sr4",
    "sr4:bicubic",
    "blur",
    "colorize",
    "hadamard",
)
INPUT = "input"
EXACT = ("mcg", "ccdf")
"""Methods that take a measurement as exact."""
WHOLE_LATENTS = ("repaint", "replacement", "reconstruction")
"""Methods that hold known latents."""
METRICS: Mapping[str, str] = {
    "psnr": "dB to the clean picture",
    "ssim": "structural similarity to it",
    "feature_distance": "of the probe's features to its, as a share of their length",
    "residual": "rms of what is measured less what the result would measure",
    "residual_saved": "the same of the result as a file of 8 bits",
    "boundary_error": "mean absolute error within 4 pixels of the mask's edge",
}
GAIN = "psnr_over_input"
ORDERS = (
    ("inpaint", "repaint", "replacement", "boundary_error"),
    ("sr4", "ddnm", "ilvr", "psnr"),
    ("sr4", "pigdm", "ilvr", "psnr"),
)
"""On which operators which method is said to be better than which, by what."""
SHOWN = 2
"""Pictures that are shown of each case."""


def methods_on(operator: str, backbone: Backbone, noise: str = "clean") -> list[str]:
    """The methods that an operator can be restored by on a base.

    Args:
        operator: as of the registry.
        backbone: of a pixel base, or of a latent one.
        noise: a key of `NOISES`.

    Returns:
        Their names; of masks not those that need a latent which is known wholly, if none is, and
        with noise not those that would take it for the picture, if it is too loud for them.
    """
    left = {name for names in _left(operator, backbone, noise).values() for name in names}
    return [name for name in methods_for(operator) if name not in left]


def _left(operator: str, backbone: Backbone, noise: str) -> dict[str, list[str]]:
    """{why: the methods that an operator is not restored by}."""
    size, found = backbone.sample_size, dict[str, list[str]]()
    blank = Restore(torch.zeros(3, size, size), operator, NOISES[noise], simulate=True)
    case = Case(blank.seen(backbone), backbone, (1.0,))
    checks: Mapping[str, tuple[Sequence[str], Callable[[str], object]]] = {
        "the mask leaves no latent whole": (WHOLE_LATENTS, lambda _: case.parts()),
        "to undo the operator makes the noise louder than the picture": (EXACT, case.check_exact),
    }
    for why, (names, check) in checks.items():
        mine = [name for name in names if name in methods_for(operator)]
        try:
            for name in mine:
                check(name)
        except ValueError:
            found[why] = mine
    return found


def missing(bench: Bench) -> dict[str, str]:
    """{case and methods: why a base has no rows of them}."""
    return {
        f"{way.case} by {', '.join(names)}": why
        for way in ways()
        for why, names in _left(way.operator, bench.model.backbone, way.noise).items()
    }


def results(way: Way, method: str, scenes: Scenes) -> Samples:
    """A method's results."""
    return join_samples([_results(way, method, part) for part in way.parts(scenes)])


def _results(way: Way, method: str, scenes: Scenes) -> Samples:
    task, model = way.task(scenes, method), scenes.bench.model
    with cost_of(model) as cost:
        out = task.run(model)
    pictures = out.pictures["image"].float()
    left = out.latents["image"] if model.backbone.vae is None else pictures
    spent = shared_cost(cost, len(pictures))
    name = f"{way.case}-{method}"
    return scenes.scores(name, task.seen(model.backbone), left, pictures, spent)


def _input(way: Way, scenes: Scenes) -> Samples:
    """The plain estimate's results."""
    return join_samples([_estimated(way, part) for part in way.parts(scenes)])


def _estimated(way: Way, scenes: Scenes) -> Samples:
    keep_pictures(
        scenes.bench.folder / "pictures" / "real", scenes.cases.numbers, scenes.cases.images
    )
    seen = way.task(scenes).seen(scenes.bench.model.backbone)
    guess = seen.estimate().float()
    spent = [Cost()] * len(guess)
    return scenes.scores(f"{way.case}-{INPUT}", seen, guess, guess, spent)


def ways() -> list[Way]:
    """All cases, in the order shown."""
    return [Way(operator, noise) for operator in OPERATORS for noise in NOISES]


def make(bench: Bench) -> list[Row]:
    """The plain estimate and every method, case by case."""
    able = {way: methods_on(way.operator, bench.model.backbone, way.noise) for way in ways()}
    measures: list[Measure[Scenes]] = []
    for way in ways():
        measures.append(Measure(f"{way.case}-{INPUT}", partial(_input, way)))
        for method in able[way]:
            measures.append(Measure(f"{way.case}-{method}", partial(results, way, method)))
    found = bench.measure("restoration", measures, partial(prepared, bench))
    rows: list[Row] = []
    for way in ways():
        for method in (INPUT, *able[way]):
            samples = found[f"{way.case}-{method}"]
            numbers: dict[str, Estimate] = {
                metric: partial(mean, samples, metric) for metric in (*METRICS, *COSTS)
            }
            if method != INPUT:
                numbers[GAIN] = gain(samples, found[f"{way.case}-{INPUT}"], "psnr")
            numbers |= _orders(way, method, found)
            name = f"restoration/{way.case}/{method}"
            rows.append(row_of(name, numbers, bench.run.scenes))
    return rows


def _orders(way: Way, method: str, found: Mapping[str, Samples]) -> dict[str, Estimate]:
    """By how much a method is better than those that it is said to be better than."""
    numbers: dict[str, Estimate] = {}
    for operator, better, worse, metric in ORDERS:
        other = f"{way.case}-{worse}"
        if way.operator.startswith(operator) and method == better and other in found:
            pair = (found[f"{way.case}-{method}"], found[other])
            first, second = pair if more_is_better(metric) else reversed(pair)
            numbers[f"{metric}_over_{worse}"] = gain(first, second, metric)
    return numbers


def show(bench: Bench) -> Mapping[str, Sequence[Line]]:
    """The first pictures case by case: clean, the plain estimate, and every method's."""
    numbers = range(min(bench.run.scenes, SHOWN, KEPT))
    captions = held_out(bench).captions(numbers)
    lines: dict[str, list[Line]] = {}
    for way in ways():
        methods = (INPUT, *methods_on(way.operator, bench.model.backbone, way.noise))
        for number, caption in zip(numbers, captions, strict=True):
            parts = ("real", *(f"{way.case}-{method}" for method in methods))
            pictures = [kept_picture(bench, part, number) for part in parts]
            line = Line(caption, pictures, ("clean", *methods))
            lines.setdefault(way.case, []).append(line)
    return lines


def draw(table: Table, path: Path) -> Path:
    """PSNR, case by case and method by method, shaded by what is gained over the plain estimate."""
    cells: dict[str, dict[str, float]] = {}
    for row in table.rows:
        _, case, method = row.name.split("/")
        cells.setdefault(case, {})[method] = row.metrics["psnr"]
    title = f"restoration: PSNR in dB, {table.scenes} held-out pictures (green: above the input)"
    return save_grid(cells, INPUT, path, title)


def _case(way: Way) -> str:
    return f"restoration/{way.case}"


BARS = (
    *(
        Bar(
            f"of {way.case} the best method is nearer to the picture, as the probe sees it, than "
            "the plain estimate",
            beats(_case(way), (("feature_distance", INPUT),), (INPUT,)),
            "both's other numbers",
            tuple(
                (f"{_case(way)}/{method}", metric)
                for method in (INPUT, "ddnm")
                for metric in ("psnr", "ssim")
            ),
        )
        for way in ways()
    ),
    *(
        Bar(
            f"of {way.case} the best method gains PSNR over the plain estimate",
            gains(_case(way), GAIN),
            "one sample of many that fit is sharper than their mean, and by squared error worse",
            tuple(
                (f"{_case(way)}/{method}", metric)
                for method in (INPUT, "ddnm", "dps")
                for metric in ("ssim", "feature_distance")
            ),
        )
        for way in ways()
    ),
    *(
        Bar(
            f"{method} leaves a residual below 1e-3 on {operator}",
            within(f"{_case(Way(operator, 'clean'))}/{method}", "residual", high=1e-3),
            "on latents an operator acts on decoded pictures",
            ((f"{_case(Way(operator, 'clean'))}/{method}", "residual_saved"),),
        )
        for operator in OPERATORS
        for method in ("ddnm", "ddrm")
    ),
    *(
        Bar(
            f"{better} is above {worse} on {way.case} by {metric.replace('_', ' ')}",
            ahead(f"{_case(way)}/{better}", f"{metric}_over_{worse}"),
            "both methods' other numbers",
            tuple(
                (f"{_case(way)}/{method}", shown)
                for method in (better, worse)
                for shown in (metric, "ssim", "feature_distance", "residual")
            ),
        )
        for operator, better, worse, metric in ORDERS
        for way in ways()
        if way.operator.startswith(operator)
    ),
)
RESTORATION = Group(
    "restoration",
    "A picture restored from what was measured of it; the clean one is known.",
    make,
    show,
    draw,
    (INPUT,),
    METRICS,
    version="4",
    base="mini-pixel",
    bars=BARS,
    scenes=50,
    missing=missing,
)

"""The main job on the embedded model: one model, every direction, on one contact sheet.

(a) depth -> image for depth maps drawn by hand, (b) image -> depth for pictures of the world beside
the exact depth, (c) both from text, (d) one rough depth map at three noise levels, (e) the walk of
the two start noises from depth -> image over joint to image -> depth (UniCon, figure 9).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from unicond.evaluation.judge import Judge
from unicond.evaluation.metrics_depth import nominal_depth, score_depth, valid_pixels
from unicond.model import Model, given
from unicond.pictures.examples import example_depths
from unicond.pictures.files import whole_file
from unicond.pictures.metadata import write_png
from unicond.pictures.sheet import Line, sheet
from unicond.world import Rendering, World, describe, render

SEED = 20260
PROMPTS = (
    "a red ball left of a blue box on grass",
    "a person in a yellow shirt and blue trousers waving on snow",
    "a green cone on top of a white box at sunset",
    "a purple cylinder and an orange ball on a checker floor",
)
NOISES = (0.2, 0.5, 0.8)
WALK = ((1.0, 0.0), (1.0, 0.33), (1.0, 0.67), (1.0, 1.0), (0.67, 1.0), (0.33, 1.0), (0.0, 1.0))
"""Start noise of (image, depth): depth is given, then neither, then the image is."""

Report = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Part:
    """One part of the demo: its lines on the sheet, and its row of the table."""

    name: str
    lines: Sequence[Line]
    measure: str
    value: float


def depth_to_image(model: Model, judge: Judge) -> Part:
    """(a) The six shipped depth maps, each with its prompt."""
    examples = example_depths()
    shown, made, errors = list[Tensor](), list[Tensor](), list[float]()
    for number, example in enumerate(examples):
        depth = given(example.path, kind=example.kind)
        out = model(
            example.prompt,
            depth=depth,
            seed=SEED + number,
            size=model.backbone.sample_size,
            branches=["image"],
        )
        shown.append(out.pictures["depth"][0])
        made.append(out.pictures["image"][0])
        errors.append(_error(judge, out.pictures["image"], out.pictures["depth"]))
    prompts = [example.prompt for example in examples]
    lines = [
        Line("a  depth maps drawn by hand", shown, [example.note for example in examples]),
        Line("   -> images", made, prompts),
    ]
    return Part(
        "a  depth -> image", lines, "AbsRel, probe on the image against the map", _mean(errors)
    )


def image_to_depth(model: Model) -> Part:
    """(b) Pictures of the world, the depth that the model estimates, and the exact depth."""
    scenes = [World(SEED, style="photo")[index] for index in range(4)]
    exact = render(scenes, size=model.backbone.sample_size)
    out = model(image=exact.image.clone(), branches=["depth"])
    error = _against(out.pictures["depth"], exact)
    lines = [
        Line("b  images", list(exact.image)),
        Line("   -> depth", list(out.pictures["depth"])),
        Line("   exact depth", list(exact.inverse_depth)),
    ]
    return Part("b  image -> depth", lines, "AbsRel against exact depth", error)


def joint(model: Model, judge: Judge) -> Part:
    """(c) Image and depth together, from text alone."""
    out = model(PROMPTS, seed=SEED)
    lines = [
        Line("c  from text alone: images", list(out.pictures["image"]), PROMPTS),
        Line("   and their depth", list(out.pictures["depth"])),
    ]
    error = _error(judge, out.pictures["image"], out.pictures["depth"])
    return Part("c  joint", lines, "AbsRel, probe on the image against its depth", error)


def coarse(model: Model, judge: Judge) -> Part:
    """(d) One rough depth map, followed less and less."""
    example = example_depths()[0]
    made, errors = list[Tensor](), list[float]()
    for noise in NOISES:
        depth = given(example.path, kind=example.kind, noise=noise)
        out = model(example.prompt, depth=depth, seed=SEED, size=model.backbone.sample_size)
        made.append(out.pictures["image"][0])
        errors.append(_error(judge, out.pictures["image"], out.pictures["depth"]))
    captions = [f"noise {noise}" for noise in NOISES]
    title = "d  the first map as a rough guide"
    return Part(
        "d  coarse", [Line(title, made, captions)], "AbsRel, probe against depth", _mean(errors)
    )


def walk(model: Model) -> Part:
    """(e) From depth -> image over joint to image -> depth, by the two start noises alone."""
    scene = World(SEED, style="photo")[7]
    exact, prompt = render([scene], size=model.backbone.sample_size), describe(scene).text
    images, depths = list[Tensor](), list[Tensor]()
    for of_image, of_depth in WALK:
        out = model(
            prompt,
            image=given(exact.image[0].clone(), noise=of_image),
            depth=given(exact.inverse_depth[0].clone(), noise=of_depth),
            seed=SEED,
        )
        images.append(out.pictures["image"][0])
        depths.append(out.pictures["depth"][0])
    captions = [f"start noise {x:.2f}, {y:.2f}" for x, y in WALK]
    lines = [
        Line(
            "e  start noise of image and depth: depth is given ... neither ... the image is", images
        ),
        Line("", depths, captions),
    ]
    error = _against(depths[-1][None], exact)
    return Part("e  walk", lines, "AbsRel of the last depth against exact", error)


def run_demo(model: Model, judge: Judge, folder: Path, report: Report) -> tuple[list[Part], Path]:
    """Make all parts, write each picture and the sheet.

    Args:
        model: with a depth adapter.
        judge: reads depth in pictures.
        folder: where the pictures go.
        report: called with (parts done, parts in all, what is next).

    Returns:
        The parts, and the path of the sheet.
    """
    steps = {
        "depth -> image": lambda: depth_to_image(model, judge),
        "image -> depth": lambda: image_to_depth(model),
        "joint": lambda: joint(model, judge),
        "coarse": lambda: coarse(model, judge),
        "walk": lambda: walk(model),
    }
    parts: list[Part] = []
    for number, (name, make) in enumerate(steps.items()):
        report(number, len(steps), name)
        part = make()
        parts.append(part)
        for row, line in enumerate(part.lines):
            for column, picture in enumerate(line.pictures):
                name = f"{part.name[0]}{row}_{column}.png"
                write_png(picture, folder / "parts" / name, {"demo": part.name, "seed": SEED})
    report(len(steps), len(steps), "the sheet")
    path = folder / "sheet.png"
    with whole_file(path) as file:
        sheet([line for part in parts for line in part.lines]).save(file, "PNG")
    return parts, path


def _inverse(pictures: Tensor) -> Tensor:
    """Inverse depth (B, 1, H, W) in [0, 1] of drawn depth (B, 3, H, W)."""
    return (pictures.mean(1, keepdim=True) + 1) / 2


def _against(pictures: Tensor, exact: Rendering) -> float:
    """AbsRel of drawn depth against the exact one."""
    depth = exact.depth.clone()
    valid = valid_pixels(depth, exact.valid)
    return float(score_depth(_inverse(pictures), depth, valid).abs_rel.mean())


def _error(judge: Judge, images: Tensor, depth: Tensor) -> float:
    """AbsRel of the judge's depth of an image against a drawn depth; black is sky."""
    drawn = _inverse(depth)
    read = judge(images).inverse_depth
    return float(score_depth(read, nominal_depth(drawn), drawn > 0.02).abs_rel.mean())


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)

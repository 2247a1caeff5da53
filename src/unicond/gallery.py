"""A page of pictures for every adapter: no metric replaces looking.

Each condition in every direction, and UniCon's figure 5: a prompt that contradicts the condition,
a rough sketch, both branches known in part, an edge map edited to spell a word. Loose conditions
show one reference in several prompts and at several weights instead.
"""

import html
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from unicond.conditions import Condition
from unicond.evaluation.cases import Cases, HeldOut
from unicond.model import Model, given
from unicond.pictures.files import whole_file
from unicond.pictures.sheet import Line, sheet
from unicond.sketches import rough, spelled

GALLERY_WORLD = 40_000
"""World seed of the scenes shown: no other table's."""
SEED = 7
COARSE = 0.4
WORD = "UNI"
CONTRADICTIONS = (
    "a person in a yellow shirt waving on snow",
    "a green cone on top of a white box at sunset",
    "a black cylinder at night",
    "a neon picture of a purple pill and a red ball",
)
PROMPTS = ("a person waving on snow", "a person sitting on grass", "a person walking at night")
WEIGHTS = (0.5, 1.0, 1.5)


@dataclass(frozen=True)
class Page:
    """One condition's pictures.

    Attributes:
        condition: which.
        path: of the PNG.
    """

    condition: Condition
    path: Path


@dataclass(frozen=True, eq=False)
class Sitting:
    """What a page is made with.

    Attributes:
        model: with the condition's adapter.
        branch: its branch.
        condition: what it shows.
        cases: scenes.
    """

    model: Model
    branch: str
    condition: Condition
    cases: Cases

    def images(
        self,
        pictures: Tensor,
        prompts: Sequence[str],
        noise: float = 0.0,
        seed: int = SEED,
        weight: float = 1.0,
    ) -> list[Tensor]:
        """An image for every condition picture (B, 3, H, W) and prompt."""
        out = self.model(
            list(prompts),
            seed=seed,
            branches=["image"],
            conditioning_scale={self.branch: weight},
            **{self.branch: given(pictures, noise=noise)},  # pyright: ignore[reportArgumentType]
        )
        return list(out.pictures["image"])


def make_page(model: Model, branch: str, condition: Condition, folder: Path, scenes: int) -> Page:
    """Draw one condition's page.

    Args:
        model: with the condition's adapter.
        branch: of the adapter.
        condition: what it shows.
        folder: where `<name>.png` goes.
        scenes: columns.

    Returns:
        The page.
    """
    size = model.backbone.sample_size
    with tempfile.TemporaryDirectory() as scratch:
        held_out = HeldOut(GALLERY_WORLD, 0, size, Path(scratch), condition)
        cases = held_out.cases(range(scenes))
    sitting = Sitting(model, branch, condition, cases)
    parts = [_given, _estimated, _joint]
    parts += [_contradicted, _sketched, _in_part] if condition.aligned else [_prompted, _weighted]
    if condition.source == "edges":
        parts.append(_spelled)
    lines = [line for part in parts for line in part(sitting)]
    path = folder / f"{condition.name}.png"
    with whole_file(path) as file:
        sheet(lines, rows=3).save(file, "PNG")
    return Page(condition, path)


Part = Callable[[Sitting], list[Line]]


def _given(sitting: Sitting) -> list[Line]:
    """Condition -> image, twice."""
    cases = sitting.cases
    twice = [sitting.images(cases.condition, cases.captions, seed=SEED + n) for n in range(2)]
    return [
        Line(f"{sitting.condition.name} is given", list(cases.condition)),
        Line("-> images", twice[0]),
        Line("-> with other noise", twice[1], cases.captions),
        Line("   the scenes themselves", list(cases.images)),
    ]


def _estimated(sitting: Sitting) -> list[Line]:
    """Image -> condition."""
    images = sitting.cases.images
    out = sitting.model(image=images, branches=[sitting.branch], seed=SEED)
    title = f"-> {sitting.condition.name}"
    return [
        Line("the image is given", list(images)),
        Line(title, list(out.pictures[sitting.branch])),
    ]


def _joint(sitting: Sitting) -> list[Line]:
    """Both from text."""
    out = sitting.model(list(sitting.cases.captions), seed=SEED + 2)
    return [
        Line("both from text: images", list(out.pictures["image"]), sitting.cases.captions),
        Line(f"   and their {sitting.condition.name}", list(out.pictures[sitting.branch])),
    ]


def _contradicted(sitting: Sitting) -> list[Line]:
    """A prompt that does not fit the condition, which is coarse."""
    count = len(sitting.cases.condition)
    prompts = [CONTRADICTIONS[n % len(CONTRADICTIONS)] for n in range(count)]
    made = sitting.images(sitting.cases.condition, prompts, COARSE)
    return [
        Line("a prompt that contradicts", list(sitting.cases.condition)),
        Line(f"-> coarse up to {COARSE}", made, prompts),
    ]


def _sketched(sitting: Sitting) -> list[Line]:
    """A rough sketch, coarse up to more and more."""
    drawn, prompt = rough(sitting.condition.source, sitting.cases.images.shape[-1])
    noises = [round(0.2 * n, 1) for n in range(len(sitting.cases.condition))]
    made = [sitting.images(drawn[None], [prompt], noise)[0] for noise in noises]
    captions = [prompt, *(f"coarse up to {noise}" for noise in noises)]
    return [Line("a rough sketch", [drawn, *made], captions)]


def _in_part(sitting: Sitting) -> list[Line]:
    """The left half of the image and the right half of the condition are known."""
    cases, branch = sitting.cases, sitting.branch
    left = torch.zeros(cases.images.shape[-2:])
    left[:, : left.shape[1] // 2] = 1.0
    out = sitting.model(
        list(cases.captions),
        seed=SEED,
        image=given(cases.images, mask=left),
        **{branch: given(cases.condition, mask=1 - left)},  # pyright: ignore[reportArgumentType]
    )
    known = torch.where(left > 0, cases.images, cases.condition)
    return [
        Line("half of each is known", list(known)),
        Line("-> images", list(out.pictures["image"]), cases.captions),
        Line(f"-> {sitting.condition.name}", list(out.pictures[branch])),
    ]


def _spelled(sitting: Sitting) -> list[Line]:
    """Edges edited to spell a word."""
    drawn = torch.stack([spelled(edges, WORD) for edges in sitting.cases.condition])
    made = sitting.images(drawn, sitting.cases.captions)
    return [
        Line("edges that spell a word", list(drawn)),
        Line("-> images", made, sitting.cases.captions),
    ]


def _prompted(sitting: Sitting) -> list[Line]:
    """One reference, several prompts."""
    reference = sitting.cases.condition[:1]
    made = sitting.images(reference.expand(len(PROMPTS), -1, -1, -1), PROMPTS)
    return [Line("one reference, several prompts", [reference[0], *made], ["reference", *PROMPTS])]


def _weighted(sitting: Sitting) -> list[Line]:
    """One reference at several weights of its joint attention."""
    reference, prompt = sitting.cases.condition[:1], sitting.cases.captions[0]
    made = [sitting.images(reference, [prompt], weight=weight)[0] for weight in WEIGHTS]
    captions = ["reference", *(f"weight {weight}" for weight in WEIGHTS)]
    return [Line("the weight of joint attention", [reference[0], *made], captions)]


def write_index(pages: Sequence[Page], folder: Path, command: str) -> Path:
    """Write `index.html`, which shows all pages.

    Args:
        pages: in the order shown.
        folder: that the pages lie in.
        command: that made them.

    Returns:
        The path.
    """
    rows = [
        f"<h2 id={html.escape(page.condition.name)!r}>{html.escape(page.condition.name)}</h2>\n"
        f"<p>{html.escape(page.condition.note)}</p>\n"
        f'<img src="{html.escape(page.path.name)}" alt="{html.escape(page.condition.name)}">'
        for page in pages
    ]
    text = "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><meta charset="utf-8"><title>unicond: gallery</title>',
            "<style>body{font-family:sans-serif;margin:2em}img{max-width:100%}</style>",
            "<h1>Every condition, in every direction</h1>",
            f"<p>Made by <code>{html.escape(command)}</code></p>",
            *rows,
            "</html>",
            "",
        ]
    )
    path = folder / "index.html"
    with whole_file(path) as file:
        file.write(text.encode())
    return path

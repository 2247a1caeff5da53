"""The held-out scenes of the tables: fixed seeds, mostly photo style, every object clearly visible.

Training draws from world 0; tables, settings and the mean depth map each have worlds of their own,
so that no number is measured on what was trained or tuned on.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from unicond.conditions import CONDITIONS, Condition
from unicond.data.partners import FITS, PARTNERS
from unicond.data.renders import DRAWINGS
from unicond.evaluation.metrics_objects import Named
from unicond.evaluation.tables import write_atomically
from unicond.world.captions import Caption, describe
from unicond.world.generate import World
from unicond.world.render import Rendering, render
from unicond.world.scene import Scene

TABLE_WORLD, SETTINGS_WORLD, MEAN_WORLD = 10_000, 20_000, 30_000
"""World seeds; the user's `--seed` is added."""

LEAST_VISIBLE = 40
"""Pixels at 128 x 128 that every entity of a scene must show (proportionally at other sizes)."""

BLOCK, LEAST = 64, 8
"""Scenes looked at together: twice as many as are still to be found, but within these."""


@dataclass(frozen=True, eq=False)
class Cases:
    """Some held-out scenes with all that is asked about them.

    Attributes:
        numbers: of the cases, consecutive.
        seeds: of the noise, one a case.
        captions: the prompts.
        named: (colour, class) of each solid that the caption names, with repetition.
        people: how many people the caption names.
        scenes: what the images show.
        drawn: the images with their exact maps.
        condition: (B, 3, H, W) in [-1, 1], the condition's pictures.
        partners: what the condition's pictures show, if they are no maps of the images: scenes
            and their exact maps.
    """

    numbers: tuple[int, ...]
    seeds: tuple[int, ...]
    captions: tuple[str, ...]
    named: tuple[tuple[Named, ...], ...]
    people: tuple[int, ...]
    scenes: tuple[Scene, ...]
    drawn: Rendering
    condition: Tensor
    partners: tuple[tuple[Scene, ...], Rendering] | None = None

    @property
    def images(self) -> Tensor:
        """(B, 3, H, W) in [-1, 1]."""
        return self.drawn.image

    @property
    def depth(self) -> Tensor:
        """(B, 1, H, W) exact metres, 0 in the sky."""
        return self.drawn.depth

    @property
    def hit(self) -> Tensor:
        """(B, 1, H, W) bool, False in the sky."""
        return self.drawn.valid


@dataclass(frozen=True)
class HeldOut:
    """An endless list of held-out scenes.

    Attributes:
        world: one of the world seeds above.
        seed: the user's.
        size: side of the pictures in pixels.
        folder: where the indices of the scenes that were accepted are kept.
        condition: what the images are paired with.
        style: in which they are drawn, and captions say.
    """

    world: int
    seed: int
    size: int
    folder: Path
    condition: Condition = CONDITIONS[0]
    style: str = "photo"

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 10_000:
            raise ValueError(f"seed {self.seed} is out of range; give 0 to 9999")

    def cases(self, rows: range, device: torch.device | str = "cpu") -> Cases:
        """Cases number `rows.start` to `rows.stop - 1`, drawn.

        Args:
            rows: consecutive numbers.
            device: where to draw; the tensors stay there.

        Returns:
            The cases.
        """
        scenes, source = self._scenes(rows), self.condition.source
        drawn = _drawn(scenes, self.size, device)
        told = [prompt_of(self.condition, scene) for scene in scenes]
        partners = None
        if self.condition.aligned:
            condition = DRAWINGS[source](scenes, drawn).expand(-1, 3, -1, -1).contiguous()
        else:
            others = tuple(PARTNERS[source][0](scene) for scene in scenes)
            partners = (others, _drawn(others, self.size, device))
            condition = partners[1].image
        return Cases(
            numbers=tuple(rows),
            seeds=tuple(self.seed * 1_000_000 + number for number in rows),
            captions=tuple(each.text for each in told),
            named=tuple(named_solids(each) for each in told),
            people=tuple(named_people(each) for each in told),
            scenes=scenes,
            drawn=drawn,
            condition=condition,
            partners=partners,
        )

    def captions(self, rows: range) -> tuple[str, ...]:
        """The captions of cases `rows.start` to `rows.stop - 1`, without drawing them."""
        return tuple(prompt_of(self.condition, scene).text for scene in self._scenes(rows))

    def indices(self, count: int) -> list[int]:
        """World indices of the first `count` scenes that the condition asks for.

        Every entity in them is clearly visible.

        Args:
            count: how many.

        Returns:
            Ascending indices.
        """
        path = self.folder / "scenes.json"
        state = json.loads(path.read_text()) if path.is_file() else {"looked_at": 0, "kept": []}
        looked_at, kept = int(state["looked_at"]), [int(index) for index in state["kept"]]
        if len(kept) >= count:
            return kept[:count]
        world, fits = self._world(), FITS[self.condition.scenes]
        while len(kept) < count:
            ahead = looked_at + max(LEAST, min(BLOCK, 2 * (count - len(kept))))
            numbers = [n for n in range(looked_at, ahead) if fits(world[n])]
            scenes = [world[n] for n in numbers]
            if scenes:
                clear = clearly_visible(scenes, render(scenes, self.size, smooth=False))
                kept += [n for n, good in zip(numbers, clear, strict=True) if good]
            looked_at = ahead
        write_atomically(path, json.dumps({"looked_at": looked_at, "kept": kept}))
        return kept[:count]

    def _world(self) -> World:
        return World(self.world + self.seed, style=self.style)

    def _scenes(self, rows: range) -> tuple[Scene, ...]:
        """What the cases show."""
        world = self._world()
        return tuple(world[index] for index in self.indices(rows.stop)[rows.start :])


def _drawn(scenes: Sequence[Scene], size: int, device: torch.device | str) -> Rendering:
    """A rendering of ordinary tensors, which gradients may meet."""
    drawn = render(scenes, size, device=device)
    return Rendering(**{name: value.clone() for name, value in vars(drawn).items()})


def prompt_of(condition: Condition, scene: Scene) -> Caption:
    """What is asked for beside a condition.

    A prompt must not say what the condition is to be measured by: beside a picture of a person it
    names no clothes, hair or skin, and beside another frame it is empty.

    Args:
        condition: what the image is paired with.
        scene: of the image.

    Returns:
        A caption of the scene, or less.
    """
    if condition.source == "other_frame":
        return Caption("", (), ())
    return describe(scene, looks=condition.says_looks)


@cache
def mean_picture(size: int, scenes: int = 128) -> Tensor:
    """The mean inverse-depth picture of scenes that no table uses, (1, 1, H, W) in [0, 1]."""
    world = World(MEAN_WORLD, style="photo")
    total = torch.zeros(1, 1, size, size, dtype=torch.float64)
    for start in range(0, scenes, BLOCK):
        count = min(BLOCK, scenes - start)
        drawn = render(world.scenes(start, count), size, smooth=False).inverse_depth
        total += drawn[:, :1].double().sum(0, keepdim=True)
    return ((total / scenes + 1) / 2).float()


def clearly_visible(scenes: Sequence[Scene], drawn: Rendering) -> list[bool]:
    """Whether every entity of each scene shows at least `LEAST_VISIBLE` pixels.

    Args:
        scenes: what was drawn.
        drawn: their maps.

    Returns:
        One answer a scene.
    """
    pixels = drawn.instances[0].numel()
    least = LEAST_VISIBLE * pixels / 128**2
    counts = [each[each > 0].long().bincount(minlength=1) for each in drawn.instances]
    shown = [(count[1:] >= least).sum().item() for count in counts]
    return [seen == len(scene) > 0 for seen, scene in zip(shown, scenes, strict=True)]


def named_solids(caption: Caption) -> tuple[Named, ...]:
    """(colour, class) of every solid that a caption names, with repetition."""
    solids = [group for group in caption.named if group.kind != "person"]
    return tuple((group.color, group.kind) for group in solids for _ in range(group.count))


def named_people(caption: Caption) -> int:
    """How many people a caption names."""
    return sum(group.count for group in caption.named if group.kind == "person")

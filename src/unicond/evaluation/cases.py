"""The held-out scenes of the tables: fixed seeds, photo style, every object clearly visible.

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

BLOCK = 64
"""Scenes looked at together."""


@dataclass(frozen=True, eq=False)
class Cases:
    """Some held-out scenes with all that is asked about them.

    Attributes:
        numbers: of the cases, consecutive.
        seeds: of the noise, one a case.
        captions: the prompts.
        named: (colour, class) of each solid that the caption names, with repetition.
        people: how many people the caption names.
        images: (B, 3, H, W) in [-1, 1].
        condition: (B, 3, H, W) in [-1, 1], inverse depth as a picture.
        depth: (B, 1, H, W) exact metres, 0 in the sky.
        hit: (B, 1, H, W) bool, False in the sky.
    """

    numbers: tuple[int, ...]
    seeds: tuple[int, ...]
    captions: tuple[str, ...]
    named: tuple[tuple[Named, ...], ...]
    people: tuple[int, ...]
    images: Tensor
    condition: Tensor
    depth: Tensor
    hit: Tensor


@dataclass(frozen=True)
class HeldOut:
    """An endless list of held-out scenes.

    Attributes:
        world: one of the world seeds above.
        seed: the user's.
        size: side of the pictures in pixels.
        folder: where the indices of the scenes that were accepted are kept.
    """

    world: int
    seed: int
    size: int
    folder: Path

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
        indices = self.indices(rows.stop)[rows.start :]
        world = self._world()
        scenes = [world[index] for index in indices]
        drawn = render(scenes, self.size, device=device)
        told = [describe(scene) for scene in scenes]
        return Cases(
            numbers=tuple(rows),
            seeds=tuple(self.seed * 1_000_000 + number for number in rows),
            captions=tuple(each.text for each in told),
            named=tuple(named_solids(each) for each in told),
            people=tuple(named_people(each) for each in told),
            images=drawn.image.clone(),
            condition=drawn.inverse_depth.clone(),
            depth=drawn.depth.clone(),
            hit=drawn.valid.clone(),
        )

    def captions(self, rows: range) -> tuple[str, ...]:
        """The captions of cases `rows.start` to `rows.stop - 1`, without drawing them."""
        world = self._world()
        return tuple(describe(world[n]).text for n in self.indices(rows.stop)[rows.start :])

    def indices(self, count: int) -> list[int]:
        """World indices of the first `count` scenes in which every entity is clearly visible.

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
        world = self._world()
        while len(kept) < count:
            scenes = world.scenes(looked_at, BLOCK)
            clear = clearly_visible(scenes, render(scenes, self.size, smooth=False))
            kept += [looked_at + n for n, good in enumerate(clear) if good]
            looked_at += BLOCK
        write_atomically(path, json.dumps({"looked_at": looked_at, "kept": kept}))
        return kept[:count]

    def _world(self) -> World:
        return World(self.world + self.seed, style="photo")


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

"""Rendered scenes on disk: what the trainers read instead of drawing each picture again.

One folder for each recipe, named by its hash; in it one folder of `.npy` files for each shard of
scenes, written aside and renamed, so that drawing can be interrupted and goes on where it was.
Captions are not kept: they come from the scenes, in no time.
"""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from unicond.data.folders import whole_folder
from unicond.pictures.files import check_output_folder
from unicond.world import World, render
from unicond.world.annotate import soft_edges
from unicond.world.drawings import draw_segmentation, draw_skeletons
from unicond.world.scene import Scene

SHARD = 512
PICTURES = ("image", "depth", "normals", "edges", "skeleton", "segmentation")
"""Maps that are pictures: uint8, [-1, 1] in 255 steps (`as_picture`), 1 or 3 channels."""
INDICES = ("classes", "colors", "parts", "instances")
"""Maps of numbers, uint8; instances are shifted by one, so that 0 is sky."""
MAPS = (*PICTURES, *INDICES)


@dataclass(frozen=True, kw_only=True)
class RenderRecipe:
    """Which pictures.

    Args:
        seed: of the world; training uses 0, held-out pictures come from others.
        size: pixels a side.
        version: raised by hand when the world draws something else for the same scene.
    """

    seed: int = 0
    size: int = 128
    version: int = 2

    def __post_init__(self) -> None:
        if self.size % 8:
            raise ValueError(f"size {self.size} is not a multiple of 8")

    def folder(self, cache: Path) -> Path:
        """Where these renders lie."""
        text = json.dumps(asdict(self), sort_keys=True)
        return cache / f"renders-{hashlib.sha256(text.encode()).hexdigest()[:12]}"

    def scenes(self, start: int, count: int) -> list[Scene]:
        """The scenes that are drawn."""
        return World(self.seed).scenes(start, count)


def as_bytes(picture: Tensor) -> Tensor:
    """[-1, 1] as uint8."""
    return ((picture.float() + 1) * 127.5).round_().clamp_(0, 255).to(torch.uint8)


def as_picture(values: Tensor) -> Tensor:
    """uint8 as [-1, 1] float32."""
    return values.float() / 127.5 - 1


def _maps(scenes: Sequence[Scene], size: int, device: torch.device | str) -> dict[str, Tensor]:
    """Draw scenes: everything in `MAPS`."""
    drawn = render(scenes, size, device=device)
    return {
        "image": as_bytes(drawn.image),
        "depth": as_bytes(drawn.inverse_depth[:, :1]),
        "normals": as_bytes(drawn.normals),
        "edges": as_bytes(soft_edges(drawn)[:, :1]),
        "skeleton": as_bytes(draw_skeletons(scenes, size, device)),
        "segmentation": as_bytes(draw_segmentation(drawn)),
        "classes": drawn.classes,
        "colors": drawn.colors,
        "parts": drawn.parts,
        "instances": (drawn.instances + 1).to(torch.uint8),
    }


def draw(
    recipe: RenderRecipe,
    cache: Path,
    count: int,
    names: Sequence[str] = MAPS,
    device: torch.device | str = "cpu",
    report: Callable[[int, int], None] | None = None,
) -> Path:
    """Make sure that the first `count` scenes of a recipe are drawn (rounded up to whole shards).

    Args:
        recipe: which pictures.
        cache: folder of all caches.
        count: how many scenes are needed.
        names: the maps that are needed, some of `MAPS`; a new shard gets all of them.
        device: where to draw.
        report: told how many are there, and how many are wanted.

    Returns:
        The folder of this recipe.
    """
    folder = recipe.folder(cache)
    check_output_folder(folder)
    (folder / "recipe.json").write_text(json.dumps(asdict(recipe), indent=1))
    for shard in range(-(-count // SHARD)):
        _draw_shard(recipe, folder / f"{shard:05d}", shard, names, device)
        if report is not None:
            report(min(count, (shard + 1) * SHARD), count)
    return folder


def _draw_shard(
    recipe: RenderRecipe,
    place: Path,
    shard: int,
    names: Sequence[str],
    device: torch.device | str,
) -> None:
    """Write one shard, or what it lacks."""
    if all((place / f"{name}.npy").exists() for name in names):
        return
    missing = [name for name in MAPS if not (place / f"{name}.npy").exists()]
    scenes = recipe.scenes(shard * SHARD, SHARD)
    step = 64 if torch.device(device).type == "cpu" else SHARD
    parts = [
        _maps(scenes[start : start + step], recipe.size, device) for start in range(0, SHARD, step)
    ]
    with whole_folder(place) as aside:
        if place.exists():  # an older shard with fewer maps: keep what it has
            for path in place.glob("*.npy"):
                os.link(path, aside / path.name)
        for name in missing:
            np.save(aside / f"{name}.npy", torch.cat([part[name] for part in parts]).cpu().numpy())


def load(
    folder: Path, names: Sequence[str], count: int, device: torch.device | str = "cpu"
) -> dict[str, Tensor]:
    """Maps of the first `count` scenes, in memory.

    Args:
        folder: what `draw` returned.
        names: some of `MAPS`.
        count: how many scenes.
        device: where the tensors go.

    Returns:
        {name: uint8 (count, C, H, W) or (count, H, W)}.

    Raises:
        ValueError: fewer are drawn.
    """
    shards = [folder / f"{shard:05d}" for shard in range(-(-count // SHARD))]
    if missing := [shard for shard in shards if not shard.exists()]:
        raise ValueError(f"{folder} has no {missing[0].name}; draw {count} scenes first")
    out: dict[str, Tensor] = {}
    for name in names:
        first = np.load(shards[0] / f"{name}.npy", mmap_mode="r")
        whole = torch.empty((count, *first.shape[1:]), dtype=torch.uint8)
        for number, shard in enumerate(shards):
            rows = torch.from_numpy(np.load(shard / f"{name}.npy"))
            whole[number * SHARD :][: len(rows)] = rows[: count - number * SHARD]
        out[name] = whole.to(device)
    return out

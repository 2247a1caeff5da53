"""Rendered scenes on disk: what the trainers read instead of drawing each picture again.

One folder for each recipe, named by its hash; in it one folder of `.npy` files for each shard of
scenes, written aside and renamed, so that drawing can be interrupted and goes on where it was. A
map that an older shard lacks is drawn and put beside the others. Several processes share the work.
Captions are not kept: they come from the scenes, in no time.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from unicond.data.folders import whole_folder
from unicond.pictures.files import check_output_folder, whole_file
from unicond.pictures.metric_depth import draw_metric_depth
from unicond.sharing import shared
from unicond.world import Rendering, World, render
from unicond.world.annotate import soft_edges
from unicond.world.drawings import draw_segmentation, draw_skeletons
from unicond.world.scene import Scene

Told = Callable[[int, int], None]
"""Is told how many are there, and how many are wanted."""
SHARD = 512
PICTURES = ("image", "depth", "normals", "edges", "skeleton", "segmentation")
"""Maps that are pictures: uint8, [-1, 1] in 255 steps (`as_picture`), 1 or 3 channels."""
INDICES = ("classes", "colors", "parts", "instances")
"""Maps of numbers, uint8; instances are shifted by one, so that 0 is sky."""
MAPS = (*PICTURES, *INDICES)
"""What a new shard of scenes gets, whatever is asked for."""


class Recipe(Protocol):
    """Which pictures, in which folder."""

    @property
    def size(self) -> int:
        """Pixels a side."""
        ...

    @property
    def kept(self) -> tuple[str, ...]:
        """The maps that a new shard gets."""
        ...

    def folder(self, cache: Path) -> Path:
        """Where these renders lie."""
        ...

    def scenes(self, start: int, count: int) -> list[Scene]:
        """The scenes that are drawn."""
        ...


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

    @property
    def kept(self) -> tuple[str, ...]:
        """The maps that a new shard gets."""
        return MAPS

    def folder(self, cache: Path) -> Path:
        """Where these renders lie."""
        return named_by_hash(cache, "renders", asdict(self))

    def scenes(self, start: int, count: int) -> list[Scene]:
        """The scenes that are drawn."""
        return World(self.seed).scenes(start, count)


def as_bytes(picture: Tensor) -> Tensor:
    """[-1, 1] as uint8."""
    return ((picture.float() + 1) * 127.5).round_().clamp_(0, 255).to(torch.uint8)


def as_picture(values: Tensor) -> Tensor:
    """uint8 as [-1, 1] float32."""
    return values.float() / 127.5 - 1


def named_by_hash(cache: Path, head: str, recipe: Mapping[str, object]) -> Path:
    """A folder in a cache whose name says what is in it."""
    text = json.dumps(dict(recipe), sort_keys=True)
    return cache / f"{head}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


Drawing = Callable[[Sequence[Scene], Rendering], Tensor]
DRAWINGS: Mapping[str, Drawing] = {
    "image": lambda _, drawn: drawn.image,
    "depth": lambda _, drawn: drawn.inverse_depth[:, :1],
    "normals": lambda _, drawn: drawn.normals,
    "edges": lambda _, drawn: soft_edges(drawn)[:, :1],
    "skeleton": lambda scenes, drawn: draw_skeletons(
        scenes, (drawn.image.shape[-2], drawn.image.shape[-1]), drawn.image.device
    ),
    "segmentation": lambda _, drawn: draw_segmentation(drawn),
    "metric_depth": lambda _, drawn: draw_metric_depth(drawn.depth, drawn.valid),
}
"""How each map that is a picture is made, (B, 1 or 3, H, W) in [-1, 1], of scenes as drawn."""


def _maps(
    scenes: Sequence[Scene], size: int, device: torch.device | str, names: Sequence[str]
) -> dict[str, Tensor]:
    """Draw scenes: some of `DRAWINGS` and `INDICES`, uint8."""
    drawn = render(scenes, size, device=device, smooth="image" in names)
    indices = {
        "classes": drawn.classes,
        "colors": drawn.colors,
        "parts": drawn.parts,
        "instances": (drawn.instances + 1).to(torch.uint8),
    }
    return {
        name: as_bytes(DRAWINGS[name](scenes, drawn)) if name in DRAWINGS else indices[name]
        for name in names
    }


def draw(
    recipe: Recipe,
    cache: Path,
    count: int,
    names: Sequence[str] = MAPS,
    device: torch.device | str = "cpu",
    report: Told | None = None,
) -> Path:
    """Make sure that the first `count` scenes of a recipe are drawn (rounded up to whole shards).

    Args:
        recipe: which pictures.
        cache: folder of all caches.
        count: how many scenes are needed.
        names: the maps that are needed, of `DRAWINGS` and `INDICES`; a new shard gets those that
            its recipe keeps as well.
        device: where to draw.
        report: told how many are there, and how many are wanted.

    Returns:
        The folder of this recipe.
    """
    folder = recipe.folder(cache)
    check_output_folder(folder)
    with whole_file(folder / "recipe.json") as file:
        file.write(json.dumps(vars(recipe), indent=1).encode())
    for done, (shard, place) in enumerate(shards_of(folder, count), start=1):
        _draw_shard(recipe, place, shard, names, device)
        if report is not None:
            report(min(count, done * SHARD), count)
    return folder


def shards_of(folder: Path, count: int) -> Iterator[tuple[int, Path]]:
    """Number and folder of every shard of the first `count` scenes, as this process gets to them.

    Args:
        folder: of a recipe.
        count: how many scenes.

    Yields:
        Each once, while no other process is at it (`sharing.shared`).
    """
    locks = folder / ".locks"
    locks.mkdir(parents=True, exist_ok=True)
    for shard in shared(range(-(-count // SHARD)), lambda shard: locks / f"{shard:05d}"):
        yield shard, folder / f"{shard:05d}"


def _draw_shard(
    recipe: Recipe,
    place: Path,
    shard: int,
    names: Sequence[str],
    device: torch.device | str,
) -> None:
    """Write one shard, or what it lacks."""
    wanted = names if place.exists() else dict.fromkeys((*recipe.kept, *names))
    missing = [name for name in wanted if not (place / f"{name}.npy").exists()]
    if not missing:
        return
    scenes = recipe.scenes(shard * SHARD, SHARD)
    step = 64 if torch.device(device).type == "cpu" else SHARD
    parts = [
        _maps(scenes[start : start + step], recipe.size, device, missing)
        for start in range(0, SHARD, step)
    ]
    maps = {name: torch.cat([part[name] for part in parts]).cpu().numpy() for name in missing}
    if place.exists():
        for name, values in maps.items():
            with whole_file(place / f"{name}.npy") as file:
                np.save(file, values)
        return
    with whole_folder(place) as aside:
        for name, values in maps.items():
            np.save(aside / f"{name}.npy", values)


def load(
    folder: Path, names: Sequence[str], count: int, device: torch.device | str = "cpu"
) -> dict[str, Tensor]:
    """Maps of the first `count` scenes, in memory.

    Args:
        folder: what `draw` returned.
        names: of maps that were drawn.
        count: how many scenes.
        device: where the tensors go.

    Returns:
        {name: uint8 (count, C, H, W) or (count, H, W)}.

    Raises:
        ValueError: fewer are drawn.
    """
    shards = _shards(folder, count)
    out: dict[str, Tensor] = {}
    for name in names:
        first = np.load(shards[0] / f"{name}.npy", mmap_mode="r")
        whole = torch.empty((count, *first.shape[1:]), dtype=torch.uint8)
        for number, shard in enumerate(shards):
            rows = torch.from_numpy(np.load(shard / f"{name}.npy"))
            whole[number * SHARD :][: len(rows)] = rows[: count - number * SHARD]
        out[name] = whole.to(device)
    return out


def load_small(
    folder: Path, name: str, count: int, size: int, device: torch.device | str = "cpu"
) -> Tensor:
    """A picture of the first `count` scenes at a smaller size: the mean of each square of pixels.

    Args:
        folder: what `draw` returned.
        name: one of `PICTURES`.
        count: how many scenes.
        size: pixels a side, a divisor of the renders'.
        device: where it goes.

    Returns:
        uint8 (count, C, size, size).

    Raises:
        ValueError: fewer are drawn, or the size is no divisor.
    """
    return _averaged(folder, name, count, size, lambda rows: rows.float()).to(device)


def load_shares(
    folder: Path,
    name: str,
    values: Sequence[int],
    count: int,
    size: int,
    device: torch.device | str = "cpu",
) -> Tensor:
    """How much of each square of pixels some numbers of a map take, of the first `count` scenes.

    Args:
        folder: what `draw` returned.
        name: one of `INDICES`.
        values: which numbers.
        count: how many scenes.
        size: squares a side, a divisor of the renders' pixels.
        device: where it goes.

    Returns:
        (count, len(values), size, size) in [0, 1], in 255 steps, float32.

    Raises:
        ValueError: fewer are drawn, or the size is no divisor.
    """

    def taken(rows: Tensor) -> Tensor:
        return torch.stack([255.0 * (rows == value) for value in values], 1)

    return _averaged(folder, name, count, size, taken).to(device) / 255


def _averaged(
    folder: Path, name: str, count: int, size: int, change: Callable[[Tensor], Tensor]
) -> Tensor:
    """Means of squares of pixels, uint8, of a map of the first scenes as `change` makes it."""
    parts: list[Tensor] = []
    for shard in _shards(folder, count):
        rows = torch.from_numpy(np.load(shard / f"{name}.npy"))[: count - SHARD * len(parts)]
        factor, rest = divmod(rows.shape[-1], size)
        if rest or not factor:
            raise ValueError(f"renders of {rows.shape[-1]} pixels cannot be averaged to {size}")
        small = [functional.avg_pool2d(change(some), factor) for some in rows.split(64)]
        parts.append(torch.cat(small).round_().to(torch.uint8))
    return torch.cat(parts)


def _shards(folder: Path, count: int) -> list[Path]:
    """The folders of the shards that hold the first `count` scenes; they must be there."""
    shards = [folder / f"{shard:05d}" for shard in range(-(-count // SHARD))]
    if missing := [shard for shard in shards if not shard.exists()]:
        raise ValueError(f"{folder} has no {missing[0].name}; draw {count} scenes first")
    return shards

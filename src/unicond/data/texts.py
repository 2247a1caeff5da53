"""What is said of scenes, on disk beside the renders that it describes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from unicond.data import renders
from unicond.data.renders import Recipe, Told
from unicond.pictures.files import whole_file
from unicond.world import describe
from unicond.world.scene import Scene

Said = TypeVar("Said")


def captions(
    folder: Path,
    recipe: Recipe,
    count: int,
    variants: int,
    styled: bool = True,
    looks: bool = True,
    report: Told | None = None,
) -> list[list[str]]:
    """Several wordings of the captions of the first `count` scenes.

    Args:
        folder: of the renders (`renders.draw`).
        recipe: of the renders.
        count: how many scenes.
        variants: wordings of each.
        styled: whether they may say the scene's style.
        looks: whether they may say what people look like.
        report: told how many scenes are described, and how many are wanted, where some are not yet.

    Returns:
        `count` lists of `variants` texts.
    """

    def told(scenes: list[Scene], place: Path) -> list[list[str]]:
        del place
        scenes = scenes if styled else [scene.with_style("photo") for scene in scenes]
        return [[describe(scene, v, looks).text for v in range(variants)] for scene in scenes]

    kind = f"{'styled' if styled else 'plain'}{'' if looks else '-no-looks'}"
    name = f"captions-{kind}-{variants}.json"
    return kept(folder, recipe, count, name, told, report)


def styles(folder: Path, recipe: Recipe, count: int, report: Told | None = None) -> list[str]:
    """The styles of the first `count` scenes.

    Args:
        folder: of the renders (`renders.draw`).
        recipe: of the renders.
        count: how many scenes.
        report: as of `captions`.

    Returns:
        A name a scene.
    """

    def told(scenes: list[Scene], place: Path) -> list[str]:
        del place
        return [scene.style for scene in scenes]

    return kept(folder, recipe, count, "styles.json", told, report)


def kept(
    folder: Path,
    recipe: Recipe,
    count: int,
    name: str,
    told: Callable[[list[Scene], Path], list[Said]],
    report: Told | None = None,
) -> list[Said]:
    """What is told of the first `count` scenes, from the disk where it was told before.

    Args:
        folder: of the renders (`renders.draw`).
        recipe: of the renders.
        count: how many scenes.
        name: of the file in each shard.
        told: what there is to say of a shard's scenes, whose renders lie in a folder; plain data,
            as JSON gives it back.
        report: as of `captions`.

    Returns:
        One entry a scene.
    """
    parts: dict[int, list[Said]] = {}
    for done, (shard, place) in enumerate(renders.shards_of(folder, count), start=1):
        path = place / name
        if not path.exists():
            found = told(recipe.scenes(shard * renders.SHARD, renders.SHARD), place)
            with whole_file(path) as file:
                file.write(json.dumps(found).encode())
            if report is not None:
                report(min(count, done * renders.SHARD), count)
        parts[shard] = json.loads(path.read_text())
    return [said for shard in sorted(parts) for said in parts[shard]][:count]

"""Captions on disk, beside the renders that they describe."""

import json
from pathlib import Path

from unicond.data import renders
from unicond.data.renders import Recipe
from unicond.pictures.files import whole_file
from unicond.world import describe


def captions(
    folder: Path, recipe: Recipe, count: int, variants: int, styled: bool = True
) -> list[list[str]]:
    """Several wordings of the captions of the first `count` scenes.

    Args:
        folder: of the renders (`renders.draw`).
        recipe: of the renders.
        count: how many scenes.
        variants: wordings of each.
        styled: whether they may say the scene's style.

    Returns:
        `count` lists of `variants` texts.
    """
    out: list[list[str]] = []
    name = f"captions-{'styled' if styled else 'plain'}-{variants}.json"
    for shard in range(-(-count // renders.SHARD)):
        path = folder / f"{shard:05d}" / name
        if not path.exists():
            scenes = recipe.scenes(shard * renders.SHARD, renders.SHARD)
            scenes = scenes if styled else [scene.with_style("photo") for scene in scenes]
            found = [[describe(scene, v).text for v in range(variants)] for scene in scenes]
            with whole_file(path) as file:
                file.write(json.dumps(found).encode())
        out += json.loads(path.read_text())
    return out[:count]

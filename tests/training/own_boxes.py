"""A small folder of pictures with boxes, and a training on it."""

import json
from dataclasses import replace

import numpy as np
from own_data import LOOP, write
from PIL import Image

from unicond.data.opening import Place
from unicond.training.budget import Budget
from unicond.training.loop import Setup
from unicond.training.own.boxes import BoxJob, BoxRecipe

SAID = {
    "boxes": [
        {"phrase": "a person", "box": [0.3, 0.2, 0.5, 0.9]},
        {"phrase": "a red ball", "box": [0.5, 0.5, 0.7, 0.8]},
        {"phrase": "a blue box", "box": [0.05, 0.1, 0.2, 0.4]},
    ],
    "interactions": [{"subject": 0, "action": "holding", "object": "a red ball"}],
}
"""Wide pictures lose the blue box."""


def pictures(folder, count=6):
    """Pictures of two shapes, with boxes: of the row itself, as its text, or in a file."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    (folder / "boxes.json").write_text(json.dumps(SAID))
    lines = []
    for number in range(count):
        size = (96, 64) if number % 2 else (64, 96)
        small = rng.integers(0, 255, (8, 12, 3), np.uint8)
        Image.fromarray(small).resize(size).save(folder / f"{number}.png")
        said = (SAID, json.dumps(SAID), "boxes.json")[number % 3]
        lines.append({"file_name": f"{number}.png", "boxes": said, "text": f"a picture {number}"})
    write(folder, lines)
    return folder


def changed(folder, number, said):
    """Other boxes of one row."""
    lines = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]
    lines[number]["boxes"] = said
    write(folder, lines)


def job(
    base, folder, out, method="gligen", steps=2, recipe=None, loop=None, column=None, **changes
):
    """A training of a few steps."""
    short = replace(LOOP, **({"batch_size": 2, "budget": Budget(steps=steps)} | (loop or {})))
    made = BoxJob(
        base=str(base),
        data=Place(str(folder), column=column),
        out=out,
        runs=out.parent / "runs",
        recipe=replace(BoxRecipe.of(method, loop=short, held_out=1), **(recipe or {})),
        setup=Setup(pause_steps=100),
        sample_steps=1,
    )
    return replace(made, **changes)

"""A small folder of pairs, as `unicond annotate` leaves it, and a training on it."""

import json
from dataclasses import replace

import numpy as np
from PIL import Image

from unicond.data.opening import Place
from unicond.training.budget import Budget
from unicond.training.loop import LoopConfig, Setup
from unicond.training.own.job import PictureJob, PictureRecipe

LOOP = LoopConfig(
    batch_size=4, lr=3e-3, budget=Budget(steps=6), precision="no", average=0.9, report_steps=1
)
COLUMNS = ("split", "subset", "column", "image_column", "caption_column")
RECIPE = PictureRecipe(rank=2, y_rank=2, held_out=2, loop=LOOP)


def pairs(folder, count=8, condition="inverse_depth"):
    """Pictures of two shapes, each with a condition and a caption."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    lines = []
    for number in range(count):
        height, width = (64, 96) if number % 2 else (96, 64)
        small = rng.integers(0, 255, (8, 12, 3), np.uint8)
        picture = Image.fromarray(small).resize((width, height))
        picture.save(folder / f"{number}.png")
        picture.convert("L").convert("RGB").save(folder / f"{number}_other.png")
        other = f"{condition}_file_name"
        lines.append({"file_name": f"{number}.png", other: f"{number}_other.png"})
        lines[-1]["text"] = f"a red ball number {number}"
    write(folder, lines)
    return folder


def write(folder, lines):
    (folder / "metadata.jsonl").write_text("\n".join(json.dumps(line) for line in lines))


def job(base, data, out, recipe=None, setup=None, **changes):
    """A training of a few steps; `recipe` and `setup` are changes of what is usual here."""
    columns = {name: changes.pop(name) for name in COLUMNS if name in changes}
    made = PictureJob(
        base=str(base),
        data=Place(str(data), **columns),
        condition="depth",
        out=out,
        runs=out.parent / "runs",
        recipe=replace(RECIPE, **(recipe or {})),
        setup=replace(Setup(pause_steps=3), **(setup or {})),
        sample_steps=1,
    )
    return replace(made, **changes)


def loop(**changes):
    return replace(LOOP, **changes)


def losses(run):
    """{step: loss} of a run's folder."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line["training/loss"] for line in lines if "training/loss" in line}

"""How many image and depth pairs of the world are drawn in a second, scenes and captions included.

As the trainers draw them: one process a core, one thread each.
"""

import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import torch

from benchmarks.bars import Bar, report
from unicond.world import World, describe, render

BAR = 60.0
"""Pairs a second at 128 x 128 with shadows on two cores that the world is built to reach."""


def draw_for(seconds: float, first: int, size: int = 128, batch: int = 32) -> tuple[float, float]:
    """Draw fresh scenes of the mixed world for a while, on one thread.

    Args:
        seconds: how long.
        first: number of the first scene.
        size: side of the pictures in pixels.
        batch: scenes a call.

    Returns:
        Pairs a second: drawing alone, and with making the scenes and captions.
    """
    torch.set_num_threads(1)
    world = World(0)
    render(world.scenes(first, batch), size)
    drawing = making = 0.0
    count = 0
    while drawing + making < seconds:
        start = time.perf_counter()
        scenes = world.scenes(first + batch + count, batch)
        for scene in scenes:
            describe(scene)
        made = time.perf_counter()
        pairs = render(scenes, size)
        _ = pairs.image, pairs.inverse_depth
        drawing += time.perf_counter() - made
        making += made - start
        count += batch
    return count / drawing, count / (drawing + making)


def world_speed(seconds: float = 6.0, processes: int | None = None) -> dict[str, float]:
    """Pairs a second of all processes together.

    Args:
        seconds: how long to measure.
        processes: how many; the number of cores, at most two, if None.

    Returns:
        "drawn": drawing alone; "pairs": with making scenes and captions; "processes": how many.
    """
    count = processes or min(2, os.cpu_count() or 1)
    with ProcessPoolExecutor(count, mp_context=get_context("spawn")) as pool:
        found = list(pool.map(draw_for, [seconds] * count, [100_000 * n for n in range(count)]))
    drawn, pairs = (sum(speeds) for speeds in zip(*found, strict=True))
    return {"drawn": drawn, "pairs": pairs, "processes": float(count)}


def drawing_speed() -> list[Bar]:
    """Print the speeds of making and drawing."""
    speeds = world_speed()
    print(
        f"world: {speeds['pairs']:.0f} image + depth pairs/s at 128 x 128 with captions, "
        f"drawing alone {speeds['drawn']:.0f}; {speeds['processes']:.0f} processes of one thread"
    )
    return [Bar("image + depth pairs of the world a second", speeds["pairs"], BAR, at_least=True)]


if __name__ == "__main__":
    sys.exit(report(drawing_speed()))

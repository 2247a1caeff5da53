"""Partners of scenes: the other picture of a pair that belongs together without being aligned.

`same_person` shows a scene's person in another pose, place and light; `other_frame` is a later
frame of a clip: what can move has moved, and the camera has gone part of the way around.
"""

import dataclasses

import numpy as np

from unicond.world.clips import clip
from unicond.world.generate import World
from unicond.world.scene import Scene

PORTRAIT_SEED = 1_000_000
"""Added to a world's seed: where the other pictures of its people come from."""
TRIES = 256
FRAMES = 3
MOVED_SHARE = 0.5


def is_portrait(scene: Scene) -> bool:
    """Whether exactly one person is in a scene."""
    return len(scene.people) == 1


def same_person(scene: Scene) -> Scene:
    """Another photo of the only person of a scene.

    Args:
        scene: a portrait.

    Returns:
        A scene with the same identity in another pose, on another ground, under another sky.

    Raises:
        ValueError: nobody, or more than one person is in the scene.
    """
    if not is_portrait(scene):
        raise ValueError(
            f"scene {scene.index} has {len(scene.people)} people; another picture is made of "
            "scenes with exactly one"
        )
    person = scene.people[0]
    world = World(PORTRAIT_SEED + scene.seed, style="photo", people=True)
    for number in range(TRIES):
        other = world[TRIES * scene.index + number]
        if (
            is_portrait(other)
            and other.people[0].pose.name != person.pose.name
            and other.place.ground != scene.place.ground
            and other.place.sky != scene.place.sky
        ):
            known = dataclasses.replace(other.people[0], identity=person.identity)
            return dataclasses.replace(other, people=(known,))
    raise RuntimeError(f"scene {scene.index} found no other picture in {TRIES} tries")


def other_frame(scene: Scene) -> Scene:
    """A later frame of a clip that begins with a scene.

    Args:
        scene: the first frame.

    Returns:
        The same things from 20 or 40 degrees aside; in half of the clips one of them, or who
        can walk, has moved as well.
    """
    rng = np.random.default_rng([scene.seed, scene.index, 13])
    later = 1 + int(rng.integers(FRAMES - 1))
    if rng.random() < MOVED_SHARE:
        for kind in ("walk", "move"):
            try:
                scene = clip(scene, kind, FRAMES)[later]
                break
            except ValueError:  # nothing in this scene can move so
                continue
    return clip(scene, "orbit", FRAMES)[later]

"""Held-out scenes of one person who does something to a solid, for `relation`.

All solids have different classes, and everything is clearly visible, so that the probe can tell
what it finds.
"""

from dataclasses import dataclass

from unicond.evaluation.cases import TABLE_WORLD
from unicond.grounding import Box, Grounding, Interaction
from unicond.world.annotate import boxes
from unicond.world.captions import describe, phrases
from unicond.world.edits import LEAST_SHARE, LOOKED_AT
from unicond.world.generate import World
from unicond.world.render import render
from unicond.world.scene import Scene
from unicond.world.vocabulary import ACTIONS

TRIES = 2000
"""Scenes that are looked at for one."""
MOST_SOLIDS = 3


def action_of(number: int) -> str:
    """What the person of a scene does: actions take turns."""
    return ACTIONS[number % len(ACTIONS)]


@dataclass(frozen=True)
class Acting:
    """A scene with somebody who acts, and what is asked of models.

    Attributes:
        scene: that shows it.
        plain: boxes of all, by their classes alone, and all relations as interactions.
        colored: the same with colours and clothes.
    """

    scene: Scene
    plain: Grounding
    colored: Grounding

    @property
    def caption(self) -> str:
        """Of the scene, in words."""
        return describe(self.scene).text


def acting(seed: int, number: int) -> Acting:
    """A scene of the list.

    Args:
        seed: of the table, 0 to 9999.
        number: of the scene, 0 or more.

    Returns:
        The same one always.

    Raises:
        RuntimeError: none was found.
    """
    world = World(TABLE_WORLD + seed, "photo", people=True, min_objects=1, max_objects=MOST_SOLIDS)
    for index in range(TRIES * number, TRIES * (number + 1)):
        scene = world[index]
        if _acts(scene, action_of(number)) and (told := _told(scene)) is not None:
            return told
    raise RuntimeError(f"scene {number} of seed {seed} was not found in {TRIES} scenes")


def _acts(scene: Scene, action: str) -> bool:
    """Whether its one person does that, and classes tell its solids apart."""
    names = {relation.name for relation in scene.relations}
    shapes = {solid.shape for solid in scene.solids}
    return len(scene.people) == 1 and len(shapes) == len(scene.solids) and action in names


def _told(scene: Scene) -> Acting | None:
    """What is asked of models; None where something is hardly visible."""
    seen = boxes(render(scene, LOOKED_AT, smooth=False), len(scene))
    if int(seen.pixels.min()) < LEAST_SHARE * LOOKED_AT**2:
        return None
    corners = [
        tuple(float(edge) / LOOKED_AT for edge in corner) for corner in seen.corners[0].tolist()
    ]
    interactions = tuple(
        Interaction(each.subject, each.name, each.target) for each in scene.relations
    )

    def grounding(wording: int) -> Grounding:
        names = [phrases(scene.entity(number))[wording] for number in range(len(scene))]
        placed = zip(names, corners, strict=True)
        return Grounding(
            tuple(Box(name, (left, top, right, low)) for name, (left, top, right, low) in placed),
            interactions,
        )

    return Acting(scene, grounding(1), grounding(3))

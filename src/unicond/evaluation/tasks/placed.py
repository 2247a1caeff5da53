"""Held-out scenes of a few solids that words can tell apart, and the boxes in which they are seen.

Groups that place things ask for these: all of a scene's solids are clearly visible, no two have the
same class and colour, and there is nobody and nothing else.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from unicond.evaluation.metrics_objects import Spot, box_of
from unicond.grounding import Placed
from unicond.world.captions import GROUND_WORDS, solid_words
from unicond.world.edits import LEAST_SHARE, LOOKED_AT, TRIES
from unicond.world.generate import World
from unicond.world.render import Rendering, render
from unicond.world.scene import Scene
from unicond.world.vocabulary import CLASSES, COLOR_NAMES


@dataclass(frozen=True)
class Things:
    """What is asked for.

    Attributes:
        scene: that shows it.
        spots: its solids, in the scene's order, with the exact boxes of what is seen of them.
    """

    scene: Scene
    spots: tuple[Spot, ...]

    @property
    def phrases(self) -> tuple[str, ...]:
        """The solids as captions name them: "a red ball"."""
        return phrases_of(self.scene)

    @property
    def ground(self) -> str:
        """What they stand on, in words: "on grass"."""
        return GROUND_WORDS[self.scene.place.ground]

    @property
    def caption(self) -> str:
        """All of it, in words."""
        return caption_of(self.scene)

    @property
    def boxes(self) -> tuple[Placed, ...]:
        """The phrases in their boxes, as tasks take them."""
        both = zip(self.phrases, self.spots, strict=True)
        return tuple((phrase, *spot.box) for phrase, spot in both)


def phrases_of(scene: Scene) -> tuple[str, ...]:
    """A scene's solids as captions name them: "a red ball"."""
    return tuple(solid_words(solid) for solid in scene.solids)


def caption_of(scene: Scene) -> str:
    """All solids and the ground: "a red ball and a blue box on grass"."""
    return f"{' and '.join(phrases_of(scene))} {GROUND_WORDS[scene.place.ground]}"


def things_of(scenes: Sequence[Scene], drawn: Rendering) -> tuple[Things, ...]:
    """The solids of drawn scenes and their boxes."""
    found: list[Things] = []
    for scene, instances in zip(scenes, drawn.instances, strict=True):
        spots = tuple(
            Spot(
                CLASSES.index(solid.shape),
                COLOR_NAMES.index(solid.color),
                box_of(instances == number),
                int((instances == number).sum()),
            )
            for number, solid in enumerate(scene.solids, start=1)
        )
        found.append(Things(scene, spots))
    return tuple(found)


def clear_scene(
    seed: int, index: int, solids: int, fits: Callable[[Scene], bool] | None = None
) -> Scene:
    """A photo of solids that are clearly visible and have different words.

    Args:
        seed: of the world.
        index: which of them, 0 or more; the same one always is the same scene.
        solids: how many, 1 to 6.
        fits: what else is asked of it.

    Returns:
        The scene.

    Raises:
        RuntimeError: none was found.
    """
    world = World(seed, "photo", people=False, min_objects=solids, max_objects=solids)
    for number in range(TRIES * index, TRIES * (index + 1)):
        scene = world[number]
        named = {(solid.shape, solid.color) for solid in scene.solids}
        if len(named) == solids and (fits is None or fits(scene)) and _is_clear(scene):
            return scene
    raise RuntimeError(f"scene {index} of world {seed} was not found in {TRIES} tries")


def _is_clear(scene: Scene) -> bool:
    """Whether each solid shows `LEAST_SHARE` of the picture or more."""
    seen = render(scene, LOOKED_AT, smooth=False).instances
    counts = seen[seen > 0].long().bincount(minlength=len(scene.solids) + 1)[1:]
    return bool((counts >= LEAST_SHARE * seen.numel()).all())

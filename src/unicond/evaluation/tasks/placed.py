"""Held-out scenes of a few solids that words can tell apart, and the boxes in which they are seen.

Groups that place things ask for these: all of a scene's solids are clearly visible, no two have the
same class and colour, and there is nobody and nothing else.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unicond.evaluation.metrics_boxes import Spot, box_of, seen_spots
from unicond.evaluation.mig.rule import Detection, Verdict, best_iou, verdict
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


def verdicts(
    asked: Sequence[Sequence[Spot]], classes: Tensor, colors: Tensor
) -> list[list[Verdict]]:
    """COCO-MIG's rule (`mig.rule`) on things in pictures, as a probe reads them.

    Detections of a thing are the connected areas of its class, and those of its class and one
    colour, which part touching things; whatever their colour, every one counts. Its mask are the
    pixels of its class in its box.

    Args:
        asked: of each picture, with the boxes asked for.
        classes: (B, H, W), indices into `CLASSES`.
        colors: (B, H, W), indices into `COLOR_NAMES`.

    Returns:
        For each picture one verdict a thing.
    """
    apart = seen_spots(classes, colors)
    whole = seen_spots(classes, torch.zeros_like(colors))
    found: list[list[Verdict]] = []
    for row, spots in enumerate(asked):
        areas = [*whole[row], *apart[row]]
        found.append([])
        for spot in spots:
            seen = [Detection(one.box, 1.0) for one in areas if one.cls == spot.cls]
            share = color_share(spot, classes[row], colors[row])
            found[-1].append(verdict(best_iou(spot.box, seen), share))
    return found


def color_share(spot: Spot, classes: Tensor, colors: Tensor) -> float:
    """How much of a thing's class in its box has its colour, 0 of nothing; maps (H, W)."""
    height, width = classes.shape
    left, top, right, bottom = spot.box
    rows = slice(round(top * height), round(bottom * height))
    columns = slice(round(left * width), round(right * width))
    mask = classes[rows, columns] == spot.cls
    hits = mask & (colors[rows, columns] == spot.color)
    return int(hits.sum()) / max(int(mask.sum()), 1)


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

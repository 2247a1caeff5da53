"""How well appearance is kept: the same things in the same colours, but elsewhere.

What counts is what the reference shows clearly. `colors` is the share of its solids' colours,
`classes` of its things' classes and `objects` of both together that are found again (with
repetition); `ground` whether the ground is the same; `layout_iou` the mean IoU of things with the
reference's, class by class, which must be low: a copy would keep everything.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unicond.evaluation.cases import LEAST_VISIBLE
from unicond.evaluation.chunk import Chunk, Values
from unicond.evaluation.judge import Reading
from unicond.evaluation.metrics_maps import mean_iou
from unicond.evaluation.metrics_objects import Named, seen_spots
from unicond.evaluation.runner import as_list
from unicond.world.render import Rendering
from unicond.world.scene import Scene, Solid
from unicond.world.vocabulary import CLASSES, COLOR_NAMES, GROUNDS, SHAPES

THINGS = range(CLASSES.index("ground") + 1, len(CLASSES))


@dataclass(frozen=True)
class Appearance:
    """What B pictures show.

    Attributes:
        things: (colour, class) of everything, with repetition; people have the colour "".
        ground: (B,) int64, index into `vocabulary.GROUNDS`.
        classes: (B, H, W) int64.
    """

    things: tuple[tuple[Named, ...], ...]
    ground: Tensor
    classes: Tensor


@dataclass(frozen=True)
class AppearanceFidelity:
    """Two frames of one clip.

    Attributes:
        metrics: names of the scores.
    """

    metrics: tuple[str, ...] = ("colors", "classes", "objects", "ground", "layout_iou")

    def of_images(self, chunk: Chunk, reading: Reading) -> Values:
        """Generated images against the frames that were given."""
        assert chunk.cases.partners is not None
        return score(_seen(reading), _exact(*chunk.cases.partners))

    def of_drawings(self, chunk: Chunk, drawings: Tensor) -> Values:
        """Generated other frames against the images."""
        exact = _exact(chunk.cases.scenes, chunk.cases.drawn)
        return score(_seen(chunk.judge(drawings)), exact)

    def of_judge(self, chunk: Chunk) -> Values:
        """The real images against the frames that belong to them."""
        return self.of_images(chunk, chunk.real)

    def of_pairs(self, chunk: Chunk, reading: Reading, drawings: Tensor) -> Values:
        """Two generated frames, as the judge reads both."""
        return score(_seen(reading), _seen(chunk.judge(drawings)))


def score(ours: Appearance, reference: Appearance) -> Values:
    """What of a reference's appearance is found again.

    Args:
        ours: of generated pictures.
        reference: what should be kept.

    Returns:
        One value a picture and metric; None where the reference has no such thing.
    """
    pairs = list(zip(ours.things, reference.things, strict=True))
    layout = mean_iou(ours.classes, reference.classes, THINGS)
    return {
        "colors": [kept([c for c, _ in a if c], [c for c, _ in b if c]) for a, b in pairs],
        "classes": [kept([k for _, k in a], [k for _, k in b]) for a, b in pairs],
        "objects": [kept(a, b) for a, b in pairs],
        "ground": (ours.ground == reference.ground).double().tolist(),
        "layout_iou": as_list(layout),
    }


def kept(ours: Sequence[object], reference: Sequence[object]) -> float | None:
    """The share of a reference that is found again, with repetition; None of nothing."""
    have, wanted = Counter(ours), Counter(reference)
    if not wanted:
        return None
    return sum(min(times, have[item]) for item, times in wanted.items()) / wanted.total()


def _seen(reading: Reading) -> Appearance:
    """What the judge sees."""
    things: list[tuple[Named, ...]] = []
    people = _people_areas(reading.classes)
    solids = seen_spots(reading.classes, reading.colors)
    for areas, persons in zip(solids, people, strict=True):
        found = [(COLOR_NAMES[area.color], CLASSES[area.cls]) for area in areas]
        things.append((*(pair for pair in found if pair[1] in SHAPES), *[("", "person")] * persons))
    return Appearance(tuple(things), reading.ground, reading.classes)


def _people_areas(classes: Tensor) -> list[int]:
    """How many connected areas of people there are in each picture."""
    person = (classes == CLASSES.index("person")).long()
    areas = seen_spots(person, torch.zeros_like(person))
    return [sum(area.cls == 1 for area in each) for each in areas]


def _exact(scenes: Sequence[Scene], drawn: Rendering) -> Appearance:
    """What scenes show clearly."""
    least = LEAST_VISIBLE / 128**2 * drawn.instances[0].numel()
    things: list[tuple[Named, ...]] = []
    for scene, instances in zip(scenes, drawn.instances, strict=True):
        counts = (instances[instances > 0].long() - 1).bincount(minlength=len(scene))
        shown = [scene.entity(n) for n in range(len(scene)) if counts[n] >= least]
        things.append(
            tuple(
                (each.color, each.shape) if isinstance(each, Solid) else ("", "person")
                for each in shown
            )
        )
    grounds = [GROUNDS.index(scene.place.ground) for scene in scenes]
    device = drawn.classes.device
    return Appearance(tuple(things), torch.tensor(grounds, device=device), drawn.classes.long())

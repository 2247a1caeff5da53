"""Judges for tests: one that knows, one that sees only brightness."""

from dataclasses import dataclass, replace

import torch

from unicond.evaluation.fidelity_depth import grey
from unicond.evaluation.judge import Reading
from unicond.training.labels import Labels, middle_offsets
from unicond.world.annotate import soft_edges
from unicond.world.vocabulary import CLASSES, GROUNDS, PARTS, SKINS, STYLES


@dataclass(frozen=True)
class Brightness:
    """A judge for which bright is near, and everything is a red ball on grass."""

    def __call__(self, pictures):
        near = grey(pictures).clamp(0, 1)
        ones = torch.ones_like(near[:, 0], dtype=torch.int64)
        small = near[:, :, ::2, ::2]
        return Reading(
            inverse_depth=near,
            classes=2 * ones,
            colors=ones,
            keypoints=small.expand(-1, 18, -1, -1),
            features=pictures.flatten(2).mean(2),
            offsets=torch.zeros_like(small).expand(-1, 2, -1, -1),
            normals=pictures,
            edges=near,
            parts=ones,
            skins=torch.zeros_like(near).expand(-1, len(SKINS), -1, -1),
            ground=0 * ones[:, 0, 0],
            style=0 * ones[:, 0, 0],
        )


def reading_of(scenes, drawn, features):
    """What a judge without fault would read in exactly drawn scenes of even size."""
    size = drawn.image.shape[-1]
    labels = Labels.of(list(scenes), size, "cpu")
    rows = torch.arange(len(scenes))
    numbers = drawn.instances.long() + 1
    person = (drawn.classes == CLASSES.index("person"))[:, ::2, ::2]
    offsets, _ = middle_offsets(numbers[:, ::2, ::2], person)
    skins = labels.skins.gather(1, numbers.flatten(1)).view_as(numbers)
    skins = torch.where(drawn.parts == PARTS.index("skin"), skins, 0).clamp_min(0)
    return Reading(
        inverse_depth=grey(drawn.inverse_depth),
        classes=drawn.classes.long(),
        colors=drawn.colors.long(),
        keypoints=labels.heat(rows, size // 2, 0.65 * size / 64),
        features=features,
        offsets=offsets,
        normals=drawn.normals,
        edges=grey(soft_edges(drawn)),
        parts=drawn.parts.long(),
        skins=torch.nn.functional.one_hot(skins, len(SKINS)).permute(0, 3, 1, 2).float(),
        ground=torch.tensor([GROUNDS.index(scene.place.ground) for scene in scenes]),
        style=torch.tensor([STYLES.index(scene.style) for scene in scenes]),
    )


class Truth(Brightness):
    """A judge that knows the exact maps of some cases by their pictures, and of their partners."""

    def __init__(self, cases):
        self.known = [(cases.scenes, cases.drawn)]
        if cases.partners is not None:
            self.known.append(cases.partners)

    def __call__(self, pictures):
        for scenes, drawn in self.known:
            if torch.equal(pictures, drawn.image):
                return reading_of(scenes, drawn, pictures.flatten(2).mean(2))
        return super().__call__(pictures)


def shuffled(reading):
    """The same readings, each of the next picture."""
    return replace(reading, **{name: each.roll(1, 0) for name, each in vars(reading).items()})

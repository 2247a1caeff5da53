"""Reading people: from the probe's maps to everybody's keypoints and attributes.

The probe gives one heatmap a keypoint, and for every pixel of a person the way to that person's
middle. The pixels vote for middles; where enough votes agree is a person; every pixel goes to the
person whose middle its vote is nearest to; a keypoint is the peak of its heat on those pixels.
An attribute is what most pixels of its part say.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from unicond.evaluation.judge import Reading
from unicond.world.annotate import OUTSIDE, project_people
from unicond.world.drawings import shown_points
from unicond.world.scene import Identity, Scene
from unicond.world.vocabulary import (
    CLASSES,
    COLOR_NAMES,
    HAIR_COLOR_NAMES,
    HAIRS,
    KEYPOINTS,
    PARTS,
    SHIRTS,
    SKINS,
    TROUSERS,
)

LEAST_HEAT = 0.2
"""A keypoint with less heat was not found."""
VOTE_RADIUS = 0.12
"""Middles nearer than this, as a share of the picture's side, are one person's."""
LEAST_SHARE = 0.15
"""A person has at least this share of the votes of the largest one."""
LEAST_PIXELS = 48
"""At 128 x 128: who shows less is nobody."""
MOST_PEOPLE = 6
LEAST_KEYPOINTS = 4
LEAST_PART = 8
"""Pixels at 128 x 128 that a part must show for its attribute to be read."""
PERSON = CLASSES.index("person")


@dataclass(frozen=True)
class People:
    """People in one picture.

    Attributes:
        xy: (P, 18, 2) pixels: x right, y down; (0.5, 0.5) is the middle of the first pixel.
        found: (P, 18) bool, which of them are known.
    """

    xy: Tensor
    found: Tensor

    def __len__(self) -> int:
        return len(self.xy)

    def sides(self) -> Tensor:
        """(P,) larger side of the box around everybody's known keypoints; 0 where none is."""
        low = torch.where(self.found[..., None], self.xy, torch.inf).amin(1)
        high = torch.where(self.found[..., None], self.xy, -torch.inf).amax(1)
        return torch.where(self.found.any(1), (high - low).amax(1), 0.0)


def exact_people(scenes: Sequence[Scene], size: int) -> list[People]:
    """Everybody in scenes: the keypoints that a skeleton drawing of `size` pixels a side shows."""
    found = project_people(scenes, (size, size))
    shown = (found.visibility != OUTSIDE) & shown_points(scenes)
    rows = [found.scene == n for n in range(len(scenes))]
    return [People(found.xy[row], shown[row]) for row in rows]


def read_people(heat: Tensor, offsets: Tensor, classes: Tensor) -> list[People]:
    """Everybody in B pictures, as the probe's maps tell.

    Args:
        heat: (B, 18, H/2, W/2) in [0, 1].
        offsets: (B, 2, H/2, W/2) from each pixel to its person's middle, x and y as shares of
            width and height.
        classes: (B, H, W), indices into `vocabulary.CLASSES`.

    Returns:
        The people of each picture.
    """
    person = functional.avg_pool2d((classes == PERSON).float()[:, None], 2)[:, 0] >= 0.5
    return [_split(*maps) for maps in zip(heat, offsets, person, strict=True)]


def _split(heat: Tensor, offsets: Tensor, person: Tensor) -> People:
    """The people of one picture, from maps at half size."""
    height, width = person.shape
    place = torch.stack(
        torch.meshgrid(
            (torch.arange(height, device=heat.device) + 0.5) / height,
            (torch.arange(width, device=heat.device) + 0.5) / width,
            indexing="ij",
        )[::-1]
    )
    votes = place + offsets
    middles = _middles(votes[:, person], height * width)
    if not len(middles):
        nobody = heat.new_zeros(0, len(KEYPOINTS), 2)
        return People(nobody, nobody[..., 0].bool())
    gap = (votes[None] - middles[:, :, None, None]).square().sum(1)
    owner = gap.argmin(0)
    mine = owner == torch.arange(len(middles), device=heat.device)[:, None, None]
    peak, at = (heat[None] * mine[:, None]).flatten(2).max(2)
    xy = 2 * torch.stack([at % width, at // width], 2) + 1.0
    found = peak >= LEAST_HEAT
    known = found.sum(1) >= LEAST_KEYPOINTS
    return People(xy[known].float(), found[known])


def _middles(votes: Tensor, pixels: int) -> Tensor:
    """(P, 2) middles that enough of the votes (2, N) agree on, the most wanted first."""
    least = LEAST_PIXELS / 128**2 * pixels
    left, out = votes.T, list[Tensor]()
    most = 0
    while len(left) >= least and len(out) < MOST_PEOPLE:
        near = torch.cdist(left[:: max(1, len(left) // 256)], left) < VOTE_RADIUS
        wanted = near.sum(1)
        best = int(wanted.argmax())
        most = max(most, int(wanted[best]))
        if int(wanted[best]) < max(least, LEAST_SHARE * most):
            break
        middle = left[near[best]].mean(0)
        if all(float((middle - other).norm()) >= VOTE_RADIUS for other in out):
            out.append(middle)
        left = left[~near[best]]
    return torch.stack(out) if out else votes.new_zeros(0, 2)


ATTRIBUTES: dict[str, tuple[str, tuple[str, ...]]] = {
    "hair": ("hair", HAIRS),
    "shirt": ("shirt", SHIRTS),
    "trousers": ("trousers", TROUSERS),
}
"""{attribute: (part whose colour it is, its words)}; skin is read from a map of its own."""


def exact_attributes(identity: Identity) -> tuple[int, int, int, int]:
    """Indices of skin, hair, shirt and trousers in their vocabularies."""
    return (
        SKINS.index(identity.skin),
        HAIRS.index(identity.hair),
        SHIRTS.index(identity.shirt),
        TROUSERS.index(identity.trousers),
    )


def read_attributes(reading: Reading, least: int = LEAST_PART) -> Tensor:
    """Skin, hair, shirt and trousers of the people in B pictures, all of a picture together.

    Args:
        reading: of the judge.
        least: pixels at 128 x 128 that must show a part for it to be read.

    Returns:
        (B, 4) int64, as `exact_attributes`; -1 where too little of the part is seen.
    """
    enough = least / 128**2 * reading.parts[0].numel()
    skin = reading.parts == PARTS.index("skin")
    votes = functional.one_hot(reading.skins.argmax(1), len(SKINS)) * skin[..., None]
    columns = [_most(votes.sum((1, 2)), skin.sum((1, 2)), enough)]
    for part, words in ATTRIBUTES.values():
        here = reading.parts == PARTS.index(part)
        names = [HAIR_COLOR_NAMES[word] if part == "hair" else word for word in words]
        colors = [COLOR_NAMES.index(name) for name in names]
        counts = torch.stack([(here & (reading.colors == c)).sum((1, 2)) for c in colors], 1)
        columns.append(_most(counts, here.sum((1, 2)), enough))
    return torch.stack(columns, 1)


def _most(counts: Tensor, pixels: Tensor, enough: float) -> Tensor:
    """(B,) the choice with the highest count (B, N); -1 where there are too few pixels (B,)."""
    return torch.where((pixels >= enough) & (counts.amax(1) > 0), counts.argmax(1), -1)

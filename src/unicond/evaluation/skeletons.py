"""Reading skeleton drawings: from colours back to keypoints, for several people in one drawing.

Every joint and every limb has a colour of its own, but a drawing that came through an autoencoder
is blurred, and dots of three pixels lose theirs. So that a joint is not read alone: of a few places
that each could be at, those are chosen that give the best whole figure,

    sum over joints 2 a(place) + sum over limbs (length / 10 px) b(between its ends),

with a and b how much the pixels are like the joint's and the limb's colour. The limbs form a tree,
so that the best figure is found exactly, by dynamic programming from its leaves to the neck. What
it explains is taken away, and the next person is looked for.
"""

import torch
from torch import Tensor
from torch.nn import functional

from unicond.evaluation.people import People
from unicond.world.drawings import COLORS_RGB, FACE, LIMBS
from unicond.world.vocabulary import KEYPOINTS

PLACES = 16
"""How many places are tried for each joint."""
SAMPLES = 10
STEP_PX = 10.0
MOST_PEOPLE = 5
LEAST_POINTS = 6
"""Fewer joints are no person."""
JOINT_WEIGHT = 2.0
NECK = KEYPOINTS.index("neck")
HIPS = (KEYPOINTS.index("right hip"), KEYPOINTS.index("left hip"))
LIMB_LIGHT = 0.6
"""How bright limbs are drawn, joints being 1."""
BLACK = 0.5
"""What likeness a pixel must have to speak for something rather than against it; black has none."""
TAKEN_PX = 3.0


def read_skeletons(drawings: Tensor) -> list[People]:
    """Everybody in B skeleton drawings.

    Args:
        drawings: (B, 3, H, W) in [-1, 1].

    Returns:
        The people of each drawing, who is clearest first.
    """
    pictures = ((drawings.float() + 1) / 2).clamp(0, 1)
    return [_read(picture) for picture in pictures]


def _read(picture: Tensor) -> People:
    """The people of one drawing (3, H, W) in [0, 1]."""
    colors = torch.tensor(COLORS_RGB, device=picture.device) / 255
    joints, limbs = _alike(picture, colors), _alike(picture, LIMB_LIGHT * colors[: len(LIMBS)])
    xy, found = list[Tensor](), list[Tensor]()
    while len(xy) < MOST_PEOPLE:
        places, worth = _places(joints)
        chosen = _best_figure(places, worth, limbs)
        known = chosen >= 0
        if int(known.sum()) < LEAST_POINTS:
            break
        spots = places[torch.arange(len(KEYPOINTS)), chosen.clamp_min(0)].float() + 0.5
        known = known | _faces(joints, spots, known)
        xy.append(spots)
        found.append(known)
        taken = _taken(spots, known, picture.shape[-2:])
        joints, limbs = joints.masked_fill(taken, -BLACK), limbs.masked_fill(taken, -BLACK)
    if not xy:
        nobody = picture.new_zeros(0, len(KEYPOINTS), 2)
        return People(nobody, nobody[..., 0].bool())
    return People(torch.stack(xy), torch.stack(found))


def _alike(picture: Tensor, colors: Tensor) -> Tensor:
    """(N, H, W) in [-1, 0.5]: how like each colour (N, 3) every pixel is; black is -0.5."""
    size = colors.norm(dim=1)
    unit = colors / size[:, None]
    along = torch.einsum("nc,chw->nhw", unit, picture)
    rest = (picture[None] - along[:, None] * unit[:, :, None, None]).norm(dim=1)
    alike = (along - 1.5 * rest) / size[:, None, None]
    return alike.clamp(-0.5, 1) - BLACK


def _places(joints: Tensor) -> tuple[Tensor, Tensor]:
    """(18, K, 2) x and y in whole pixels of each joint's likeliest places, and (18, K) how like."""
    width = joints.shape[2]
    peaks = joints == functional.max_pool2d(joints[None], 3, 1, 1)[0]
    worth, at = joints.masked_fill(~peaks, -1.0).flatten(1).topk(PLACES)
    return torch.stack([at % width, at // width], 2), worth


def _best_figure(places: Tensor, worth: Tensor, limbs: Tensor) -> Tensor:
    """(18,) which place each joint has, -1 where it is not there."""
    total = JOINT_WEIGHT * worth
    back: dict[int, Tensor] = {}
    for number, (parent, child) in reversed(list(enumerate(LIMBS))):
        pair = _limb_worth(places[parent], places[child], limbs[number])
        best, which = (pair + total[child]).max(1)
        back[number] = torch.where(best > 0, which, -1)
        total[parent] += best.clamp_min(0)
    chosen = torch.full((len(KEYPOINTS),), -1, device=places.device)
    chosen[NECK] = total[NECK].argmax()
    for number, (parent, child) in enumerate(LIMBS):
        if chosen[parent] >= 0:
            chosen[child] = back[number][chosen[parent]]
    return chosen


def _limb_worth(starts: Tensor, ends: Tensor, limb: Tensor) -> Tensor:
    """(K, K) of every limb from a place (K, 2) to another; longer ones count for more."""
    share = torch.linspace(0, 1, SAMPLES, device=limb.device)[None, None, :, None]
    spots = starts[:, None, None] + share * (ends - starts[:, None])[:, :, None]
    spots = spots.round().long()
    length = (ends - starts[:, None]).float().norm(dim=2)
    return limb[spots[..., 1], spots[..., 0]].mean(2) * length / STEP_PX


def _faces(joints: Tensor, spots: Tensor, known: Tensor) -> Tensor:
    """(18,) face points that no limb leads to (a head from behind); their spots are set in place.

    They are looked for around the neck, within the length of the trunk.
    """
    extra = torch.zeros_like(known)
    hips = [spots[n] for n in HIPS if known[n]]
    if not hips or not known[NECK]:
        return extra
    reach = 0.8 * float((torch.stack(hips).mean(0) - spots[NECK]).norm())
    height, width = joints.shape[1:]
    y = torch.arange(height, device=joints.device)[:, None] + 0.5
    x = torch.arange(width, device=joints.device)[None] + 0.5
    near = (x - spots[NECK, 0]).square() + (y - spots[NECK, 1]).square() < reach**2
    for k in FACE:
        if not known[k]:
            peak, at = joints[k].masked_fill(~near, -1.0).flatten().max(0)
            if peak > 0:
                extra[k] = True
                spots[k] = torch.stack([at % width, at // width]) + 0.5
    return extra


def _taken(spots: Tensor, known: Tensor, size: torch.Size) -> Tensor:
    """(H, W) bool: the pixels that a figure explains."""
    y = torch.arange(size[0], device=spots.device)[:, None] + 0.5
    x = torch.arange(size[1], device=spots.device)[None] + 0.5
    taken = torch.zeros(size, dtype=torch.bool, device=spots.device)
    ends = [(a, b) for a, b in LIMBS if known[a] and known[b]]
    ends += [(k, k) for k in range(len(KEYPOINTS)) if known[k]]
    for a, b in ends:
        way = spots[b] - spots[a]
        along = (x - spots[a, 0]) * way[0] + (y - spots[a, 1]) * way[1]
        share = (along / way.square().sum().clamp_min(1e-6)).clamp(0, 1)
        gap = (x - spots[a, 0] - share * way[0]).square() + (
            y - spots[a, 1] - share * way[1]
        ).square()
        taken |= gap < TAKEN_PX**2
    return taken

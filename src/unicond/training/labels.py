"""What is known of scenes beside their maps: labels of the whole, skins, keypoints, middles."""

from dataclasses import dataclass

import torch
from torch import Tensor

from unicond.world import Scene
from unicond.world.annotate import SEEN, project_people
from unicond.world.vocabulary import GROUNDS, KEYPOINTS, SKIES, SKINS, STYLES

NOT_SAID = -100
"""torch's number for pixels that no cross-entropy looks at."""
MOST = 12
"""More instances than any scene has."""
NOBODY = len(KEYPOINTS)
"""The keypoint of rows that stand for nothing."""


@dataclass(frozen=True)
class Labels:
    """What is known of N scenes beside their maps.

    Args:
        whole: (N, 3) int64: style, ground, sky.
        skins: (N, MOST) int64: index into `SKINS` of each value of the instance map, or NOT_SAID.
        points: (N, K, 3) float32: keypoint, x, y of every keypoint inside a picture, as shares
            of the picture's width and height; rows that stand for nothing have keypoint 18.
    """

    whole: Tensor
    skins: Tensor
    points: Tensor

    @staticmethod
    def of(scenes: list[Scene], size: int, device: torch.device | str) -> "Labels":
        """Read them off the scenes, for square pictures of `size` pixels."""
        whole = [
            (STYLES.index(s.style), GROUNDS.index(s.place.ground), SKIES.index(s.place.sky))
            for s in scenes
        ]
        skins = torch.full((len(scenes), MOST), NOT_SAID)
        for row, scene in enumerate(scenes):
            for n, person in enumerate(scene.people):
                # the map counts sky 0, ground 1, then entities
                skins[row, 2 + len(scene.solids) + n] = SKINS.index(person.identity.skin)
        parts = (torch.tensor(whole), skins, _points(scenes, size))
        return Labels(*(part.to(device) for part in parts))

    def heat(self, rows: Tensor, size: int, sigma: float) -> Tensor:
        """(B, 18, size, size) heatmaps of scenes, 1 at a keypoint."""
        points = self.points[rows]
        place = (torch.arange(size, device=rows.device) + 0.5) / size
        reach = 2 * (sigma / size) ** 2
        across = torch.exp(-((place - points[:, :, 1, None]).square()) / reach)
        down = torch.exp(-((place - points[:, :, 2, None]).square()) / reach)
        blobs = (down[..., :, None] * across[..., None, :]).flatten(2)
        number = points[:, :, 0, None].long().expand_as(blobs)
        heat = torch.zeros(len(rows), NOBODY + 1, size * size, device=rows.device)
        heat = heat.scatter_reduce(1, number, blobs, "amax")
        return heat[:, :NOBODY].view(len(rows), NOBODY, size, size)


def _points(scenes: list[Scene], size: int) -> Tensor:
    """`Labels.points` of scenes."""
    found = project_people(scenes, (size, size))
    count = len(KEYPOINTS)
    most = max(1, max((len(scene.people) for scene in scenes), default=1))
    points = torch.full((len(scenes), most, count, 3), float(NOBODY))
    number = torch.arange(count, dtype=torch.float32).expand(len(found.scene), -1)
    number = torch.where(found.visibility == SEEN, number, float(NOBODY))
    rows = torch.cat([number[..., None], found.xy / size], 2)
    solids = torch.tensor([len(scene.solids) for scene in scenes])
    points[found.scene, found.entity - solids[found.scene]] = rows
    return points.flatten(1, 2)


def middle_offsets(instances: Tensor, people: Tensor) -> tuple[Tensor, Tensor]:
    """From every pixel of a person to the middle of that person's pixels.

    Args:
        instances: (B, h, w) int64.
        people: (B, h, w) bool.

    Returns:
        (B, 2, h, w) x and y as shares of width and height, and `people`.
    """
    count, height, width = instances.shape
    y, x = torch.meshgrid(
        (torch.arange(height, device=instances.device) + 0.5) / height,
        (torch.arange(width, device=instances.device) + 0.5) / width,
        indexing="ij",
    )
    place = torch.stack([torch.ones_like(x), x, y])[None].expand(count, -1, -1, -1).flatten(2)
    number = instances.flatten(1)[:, None].expand(-1, 3, -1)
    sums = torch.zeros(count, 3, MOST, device=instances.device).scatter_add(2, number, place)
    middles = sums[:, 1:] / sums[:, :1].clamp_min(1)
    middle = middles.gather(2, number[:, :2]).view(count, 2, height, width)
    return middle - torch.stack([x, y]), people

"""Surface normals from depth: no weights of their own.

The inverse depth of a plane is affine in the picture. With a pinhole camera of focal length f whose
axis meets the picture's middle, u and v in units of f to the right and downward, and r = 1 / z,

    n  ~  (r_u, r_v, r - u r_u - v r_v)

exactly, whatever the plane (x right, y down, z away; turned round, it looks at the camera). Slopes
are the smaller of the two one-sided differences, so that at its rim a surface's own slope is taken,
and not the jump to what is behind.
"""

import math
from pathlib import Path

import torch
from torch import Tensor

from unicond.annotators.depth import DepthAnnotator


def normals_of(inverse_depth: Tensor, field_of_view: float = 55.0) -> Tensor:
    """Normals of the surfaces that a map of inverse depth shows.

    Args:
        inverse_depth: (B, H, W) float, 1 / z in any unit; z along the camera's axis.
        field_of_view: across the shorter side, degrees.

    Returns:
        (B, 3, H, W) unit vectors in [-1, 1]: x right, y up, z towards the camera. Where there is
        nothing (inverse depth 0 all around) they look at the camera.
    """
    height, width = inverse_depth.shape[1:]
    focal = 0.5 * min(height, width) / math.tan(math.radians(field_of_view) / 2)
    v = (torch.arange(height) + 0.5 - height / 2)[:, None] / focal
    u = (torch.arange(width) + 0.5 - width / 2)[None] / focal
    u, v = u.to(inverse_depth), v.to(inverse_depth)
    slope_u, slope_v = (_slope(inverse_depth, axis) * focal for axis in (2, 1))
    away = inverse_depth - u * slope_u - v * slope_v
    # the formula's n points away from the camera; turned round, with y up and z near
    found = torch.stack([-slope_u, slope_v, away], 1)
    length = found.norm(dim=1, keepdim=True)
    ahead = torch.tensor([0.0, 0.0, 1.0]).to(found)[:, None, None]
    return torch.where(length > 1e-12, found / length.clamp_min(1e-12), ahead)


def _slope(values: Tensor, axis: int) -> Tensor:
    """The smaller one-sided difference along an axis of (B, H, W); at the border the only one."""
    steps = values.diff(dim=axis)
    first, last = steps.narrow(axis, 0, 1), steps.narrow(axis, steps.shape[axis] - 1, 1)
    before, after = torch.cat([first, steps], axis), torch.cat([steps, last], axis)
    return torch.where(before.abs() < after.abs(), before, after)


class NormalsAnnotator:
    """Normals from an estimator of depth.

    Args:
        model: hub id or folder of the estimator.
        device: where it runs; CUDA where there is one if None.
        field_of_view: of the camera across the shorter side, degrees; photographs do not say.
        farthest: how many times as far as the nearest point the farthest is, for estimators of
            relative depth, which leave it open.
    """

    kind = "normals"

    def __init__(
        self,
        model: str | Path,
        device: str | torch.device | None = None,
        field_of_view: float = 55.0,
        farthest: float = 10.0,
    ) -> None:
        if not 1 < field_of_view < 170 or farthest <= 1:
            raise ValueError(
                f"field_of_view must be in (1, 170) degrees and farthest above 1; got "
                f"{field_of_view}, {farthest}"
            )
        self.name, self.depth = f"normals:{model}", DepthAnnotator(model, device)
        self.field_of_view, self.farthest = field_of_view, farthest

    def __call__(self, pictures: Tensor) -> Tensor:
        """Normals of pictures (B, 3, H, W) in [-1, 1] as colours in [-1, 1]: x right, y up, z near.

        A picture whose depth is the same everywhere is a `PictureError`.
        """
        if self.depth.metric:
            inverse = 1 / self.depth.estimate(pictures).clamp_min(1e-3)
        else:
            near = (self.depth(pictures)[:, 0] + 1) / 2
            inverse = 1 / self.farthest + (1 - 1 / self.farthest) * near
        return normals_of(inverse, self.field_of_view)

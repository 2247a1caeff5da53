"""Soft edges without weights: what a learned edge detector shows, from derivatives of Gaussians.

For each scale s the strength and direction of the strongest change of colour are the largest
eigenvalue and eigenvector of the structure tensor of the colour's Gaussian derivatives,

    J_s = sum_c grad(G_s * I_c) grad(G_s * I_c)^T,    g_s = s sqrt(2 pi) sqrt(lambda_max(J_s)),

so that a step of height h has g_s = h at every scale. Object edges show at all scales, texture at
the fine ones only: the strength g is the geometric mean over scales. Against its surround it is

    c = g / (g + quiet * (G_surround * g) + floor),

which quietens busy parts; across the edge, what is not the ridge is faded (a soft non-maximum
suppression: by the share by which it falls short of the larger neighbour). The picture takes the
levels of the world's soft edges.

Source: structure tensor of colour, Di Zenzo 1986; scale normalisation, Lindeberg 1998; suppression
by the surround, Grigorescu et al. 2003. In place of HED, Xie & Tu 2015, arXiv:1504.06375.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from unicond.pictures.fitting import resized
from unicond.world.annotate import quantised

SIDE = 512
"""Scales are in pixels of a picture whose shorter side is this long."""
_FINEST = 0.6
"""Least standard deviation in pixels: what is narrower than a pixel has no derivative."""
_TINY = 1e-4
"""Where nothing changes at one scale, the geometric mean is not quite 0: no logarithm of 0."""


@dataclass(frozen=True, kw_only=True)
class SoftEdges:
    """The filter.

    Args:
        scales: standard deviations, in pixels at a shorter side of `SIDE`, finest first.
        surround: standard deviation of the surround, in the same pixels.
        quiet: weight of the surround; 0.0 leaves busy parts alone.
        floor: strength that is half lost to noise, as a share of the full contrast.
        fade: how much less than the ridge is no edge any more, as a share of the ridge.
        least: c up to which there is no edge.
        full: c from which the edge is full.
        device: where to compute.
    """

    scales: tuple[float, ...] = (1.5, 3.0, 6.0)
    surround: float = 16.0
    quiet: float = 1.0
    floor: float = 0.06
    fade: float = 0.35
    least: float = 0.3
    full: float = 0.63
    device: torch.device | str = "cpu"
    kind = "softedge"

    def __post_init__(self) -> None:
        values = (*self.scales, self.surround, self.floor, self.fade)
        if not self.scales or min(values) <= 0 or self.quiet < 0:
            raise ValueError(
                f"scales, surround, floor and fade must be positive, quiet not negative; got {self}"
            )
        if not 0 <= self.least < self.full <= 1:
            raise ValueError(f"give 0 <= least < full <= 1; got {self.least}, {self.full}")

    @property
    def name(self) -> str:
        """The filter's name."""
        return "softedge:filter"

    def strength(self, picture: Tensor) -> Tensor:
        """How strong the edge at each pixel is, before quantisation.

        Args:
            picture: (3, H, W) in [-1, 1]; what is larger than `SIDE` is looked at in that size.

        Returns:
            (H, W) float32 in [0, 1].
        """
        height, width = picture.shape[-2:]
        share = min(1.0, SIDE / min(height, width))
        small = resized(picture.float(), (round(height * share), round(width * share)))
        return resized(self._strength(small)[None], (height, width), "linear")[0]

    def _strength(self, picture: Tensor) -> Tensor:
        unit = min(1.0, min(picture.shape[-2:]) / SIDE)
        colors = (picture[:, None] + 1) / 2
        logs, across = colors.new_zeros(()), colors.new_zeros(())
        for number, scale in enumerate(self.scales):
            tensor = _structure(colors, max(_FINEST, scale * unit))
            logs = logs + (_largest(tensor) + _TINY).log() / len(self.scales)
            if number == 0:
                across = _direction(tensor)
        found = (logs.exp() - _TINY).clamp_min(0)
        around = _blurred(found[None, None], max(_FINEST, self.surround * unit))[0, 0]
        contrast = found / (found + self.quiet * around + self.floor)
        edge = ((contrast - self.least) / (self.full - self.least)).clamp(0, 1)
        return edge * self._ridge(found, across)

    def _ridge(self, found: Tensor, across: Tensor) -> Tensor:
        """1 on the ridges of (H, W), falling to 0 beside them; `across` (2, H, W) are x and y."""
        height, width = found.shape
        y, x = torch.meshgrid(
            torch.arange(height, dtype=torch.float32, device=found.device),
            torch.arange(width, dtype=torch.float32, device=found.device),
            indexing="ij",
        )
        larger = found
        for side in (1.0, -1.0):
            place = torch.stack([x + side * across[0], y + side * across[1]], -1)
            scaled = (place + 0.5) * 2 / place.new_tensor([width, height]) - 1
            beside = functional.grid_sample(
                found[None, None], scaled[None], padding_mode="border", align_corners=False
            )
            larger = torch.maximum(larger, beside[0, 0])
        short = 1 - found / larger.clamp_min(1e-6)
        return (1 - short / self.fade).clamp(0, 1)

    def __call__(self, pictures: Tensor) -> Tensor:
        """Soft edges of pictures (B, 3, H, W) in [-1, 1], bright on black, in the same range."""
        # one at a time: photographs are large, and the filter keeps several fields of each
        found = torch.stack([self.strength(picture.to(self.device)) for picture in pictures])
        return quantised(found[:, None]).cpu()


def _kernel(scale: float) -> tuple[Tensor, Tensor]:
    """A Gaussian of sum 1 and its derivative, whose response to a ramp of slope 1 is 1."""
    radius = max(1, math.ceil(3 * scale))
    x = torch.arange(-radius, radius + 1, dtype=torch.float64)
    gauss = torch.exp(-0.5 * (x / scale) ** 2)
    gauss = gauss / gauss.sum()
    slope = x * gauss
    return gauss.float(), (slope / (slope * x).sum()).float()


def _separable(values: Tensor, across: Tensor, down: Tensor) -> Tensor:
    """Correlate (B, 1, H, W) with a row and a column of weights; the border is repeated."""
    radius = len(across) // 2
    padded = functional.pad(values, (radius, radius, 0, 0), mode="replicate")
    rows = functional.conv2d(padded, across.to(values)[None, None, None])
    padded = functional.pad(rows, (0, 0, radius, radius), mode="replicate")
    return functional.conv2d(padded, down.to(values)[None, None, :, None])


def _blurred(values: Tensor, scale: float) -> Tensor:
    gauss, _ = _kernel(scale)
    return _separable(values, gauss, gauss)


def _structure(colors: Tensor, scale: float) -> Tensor:
    """Entries xx, xy, yy of the structure tensor of (3, 1, H, W); a step of height h has h^2."""
    gauss, slope = _kernel(scale)
    gain = scale * math.sqrt(2 * math.pi)
    dx = _separable(colors, slope, gauss)[:, 0] * gain
    dy = _separable(colors, gauss, slope)[:, 0] * gain
    return torch.stack([(dx * dx).sum(0), (dx * dy).sum(0), (dy * dy).sum(0)])


def _largest(tensor: Tensor) -> Tensor:
    """Root of the largest eigenvalue, as a share of the largest that three channels can have."""
    xx, xy, yy = tensor
    spread = ((xx - yy).square() + 4 * xy.square()).sqrt()
    return ((xx + yy + spread) / 2 / 3).clamp_min(0).sqrt()


def _direction(tensor: Tensor) -> Tensor:
    """Unit vectors (2, H, W) across the edge: along the strongest change."""
    xx, xy, yy = tensor
    angle = 0.5 * torch.atan2(2 * xy, xx - yy)
    return torch.stack([angle.cos(), angle.sin()])

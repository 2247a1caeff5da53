"""Scores of pictures: Frechet distance, PSNR (of a part, too), SSIM, errors at edges and masks.

Source: FID: Heusel et al. 2017, arXiv:1706.08500, here on the features of the
world's own probe instead of Inception's, so that values compare only with each other.
"""

import math

import torch
from torch import Tensor

WINDOW = 11
"""Side of the window of SSIM."""


def gaussian_fit(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and covariance (`n - 1`) of a sample.

    Args:
        features: (N, D), N at least 2.

    Returns:
        (D,) and (D, D), float64.

    Raises:
        ValueError: wrong shape, fewer than two rows, or values that are not finite.
    """
    if features.ndim != 2 or len(features) < 2:
        raise ValueError(
            f"features must have shape (N, D) with N >= 2, not {tuple(features.shape)}: a "
            "covariance needs two samples"
        )
    if not features.isfinite().all():
        raise ValueError("features have values that are not finite")
    rows = features.double()
    mean = rows.mean(0)
    centred = rows - mean
    return mean, centred.T @ centred / (len(rows) - 1)


def frechet_distance(
    mean_a: Tensor, covariance_a: Tensor, mean_b: Tensor, covariance_b: Tensor
) -> float:
    """Squared Frechet distance of two Gaussians.

    `|m_a - m_b|^2 + tr(A + B - 2 (A^(1/2) B A^(1/2))^(1/2))`: the root of the symmetric product has
    the trace of `(A B)^(1/2)`, exists for singular covariances too, and needs only symmetric
    eigenvalues.

    Args:
        mean_a: (D,).
        covariance_a: (D, D), symmetric, positive semi-definite.
        mean_b: (D,).
        covariance_b: (D, D).

    Returns:
        The distance, 0 or more.

    Raises:
        ValueError: the dimensions differ.
    """
    shapes = [tuple(each.shape) for each in (mean_a, covariance_a, mean_b, covariance_b)]
    size = len(mean_a)
    if shapes != [(size,), (size, size)] * 2:
        raise ValueError(f"means and covariances must be (D,), (D, D) twice; these are {shapes}")
    a, b = covariance_a.double(), covariance_b.double()
    values, vectors = torch.linalg.eigh(a)
    root = (vectors * values.clamp_min(0).sqrt()) @ vectors.T
    product = root @ b @ root
    cross = torch.linalg.eigvalsh((product + product.T) / 2).clamp_min(0).sqrt().sum()
    gap = (mean_a.double() - mean_b.double()).square().sum()
    return max(0.0, float(gap + a.trace() + b.trace() - 2 * cross))


def fid(features_a: Tensor, features_b: Tensor) -> float:
    """Frechet distance between Gaussian fits of two samples of features.

    Biased upward for small samples (by about D / N of the spread): compare only at one N.

    Args:
        features_a: (N, D).
        features_b: (M, D).

    Returns:
        The distance, 0 or more.

    Raises:
        ValueError: as `gaussian_fit` and `frechet_distance`.
    """
    return frechet_distance(*gaussian_fit(features_a), *gaussian_fit(features_b))


def psnr(pictures: Tensor, references: Tensor, span: float = 2.0) -> Tensor:
    """Peak signal-to-noise ratio in dB, `10 log10(span^2 / mse)`; infinite for equal pictures.

    Args:
        pictures: (B, C, H, W).
        references: (B, C, H, W).
        span: greatest minus least possible value: 2 for pictures in [-1, 1].

    Returns:
        (B,) float64.

    Raises:
        ValueError: shapes differ, or span is not positive.
    """
    _same_shape(pictures, references)
    if span <= 0:
        raise ValueError(f"span {span} must be positive")
    mse = (pictures.double() - references.double()).square().flatten(1).mean(1)
    return 20 * math.log10(span) - 10 * mse.log10()


def psnr_where(
    pictures: Tensor, references: Tensor, masks: Tensor, span: float = 2.0, most: float = 60.0
) -> Tensor:
    """PSNR in dB over some pixels only: what became of the part that was to stay.

    Args:
        pictures: (B, C, H, W).
        references: (B, C, H, W).
        masks: (B, 1, H, W) bool, True where pixels count.
        span: greatest minus least possible value: 2 for pictures in [-1, 1].
        most: more than this is not told apart: pictures of 8 bits round at 59 dB.

    Returns:
        (B,) float64, at most `most`; NaN where less than a hundredth of the pixels counts.

    Raises:
        ValueError: shapes differ, or span is not positive.
    """
    _same_shape(pictures, references)
    if masks.shape != (len(pictures), 1, *pictures.shape[-2:]) or span <= 0:
        raise ValueError(
            f"masks {tuple(masks.shape)} must be (B, 1, H, W) of pictures "
            f"{tuple(pictures.shape)}, and span positive, not {span}"
        )
    square = (pictures.double() - references.double()).square().mean(1, keepdim=True)
    counted = masks.sum((1, 2, 3)).double()
    mse = torch.where(masks, square, 0.0).sum((1, 2, 3)) / counted
    found = (20 * math.log10(span) - 10 * mse.log10()).clamp_max(most)
    return torch.where(counted >= 0.01 * masks[0].numel(), found, math.nan)


def ssim(pictures: Tensor, references: Tensor, span: float = 2.0) -> Tensor:
    """Structural similarity, mean over channels and places.

        (2 m_a m_b + c_1) (2 s_ab + c_2) / ((m_a^2 + m_b^2 + c_1) (s_a^2 + s_b^2 + c_2))

    with means, variances and the covariance under a Gaussian window of 11 x 11, standard deviation
    1.5, that lies wholly inside; `c_1 = (0.01 span)^2`, `c_2 = (0.03 span)^2`.

    Source: Wang et al. 2004, eq. 13, with its constants; here on colours, channel by channel.

    Args:
        pictures: (B, C, H, W), sides of 11 or more.
        references: (B, C, H, W).
        span: greatest minus least possible value: 2 for pictures in [-1, 1].

    Returns:
        (B,) float64, at most 1, which only equal pictures have.

    Raises:
        ValueError: shapes differ, pictures smaller than the window, or span is not positive.
    """
    _same_shape(pictures, references)
    if min(pictures.shape[-2:]) < WINDOW or span <= 0:
        raise ValueError(
            f"pictures must be at least {WINDOW} x {WINDOW}, not {tuple(pictures.shape[-2:])}, and "
            f"span positive, not {span}"
        )
    a, b = (each.double().flatten(0, 1)[:, None] for each in (pictures, references))
    axis = torch.arange(WINDOW, dtype=torch.float64, device=a.device) - WINDOW // 2
    line = (-0.5 * (axis / 1.5) ** 2).exp()
    line = line / line.sum()

    def mean(values: Tensor) -> Tensor:
        across = torch.nn.functional.conv2d(values, line.view(1, 1, 1, -1))
        return torch.nn.functional.conv2d(across, line.view(1, 1, -1, 1))

    mean_a, mean_b = mean(a), mean(b)
    var_a, var_b = mean(a * a) - mean_a**2, mean(b * b) - mean_b**2
    shared = mean(a * b) - mean_a * mean_b
    light, contrast = (0.01 * span) ** 2, (0.03 * span) ** 2
    upper = (2 * mean_a * mean_b + light) * (2 * shared + contrast)
    lower = (mean_a**2 + mean_b**2 + light) * (var_a + var_b + contrast)
    return (upper / lower).view(len(pictures), -1).mean(1)


def edge_error(edges: Tensor, references: Tensor) -> Tensor:
    """EMSE: mean squared error over the pixels where the real picture's edge map is not zero.

    Args:
        edges: (B, 1, H, W) in [0, 1].
        references: (B, 1, H, W) in [0, 1], the real picture's.

    Returns:
        (B,) float64.

    Raises:
        ValueError: shapes differ, values leave [0, 1], or a reference has no edge at all.
    """
    _same_shape(edges, references)
    for name, maps in (("edges", edges), ("references", references)):
        if maps.min() < 0 or maps.max() > 1:
            raise ValueError(
                f"{name} must lie in [0, 1]; these go from {float(maps.min()):.3g} to "
                f"{float(maps.max()):.3g}"
            )
    counted = (references > 0).flatten(1)
    empty = [row for row, any_edge in enumerate(counted.any(1).tolist()) if not any_edge]
    if empty:
        raise ValueError(f"references {empty} have no edge: EMSE is not defined; leave them out")
    square = (edges.double() - references.double()).square().flatten(1)
    return torch.where(counted, square, 0.0).sum(1) / counted.sum(1)


def boundary(masks: Tensor, width: float = 4.0) -> Tensor:
    """The band along the edge of a mask: pixels within `width` of one on the other side.

    Distances are Euclidean, between the centres of pixels, so that 1 is the two rows that touch.
    The border of the picture is no edge.

    Args:
        masks: (B, 1, H, W), known from 0.5 on.
        width: in pixels, at least 1.

    Returns:
        (B, 1, H, W) bool, both sides of the edge.

    Raises:
        ValueError: wrong shape, width below 1, or a mask that is all known or all free.
    """
    if masks.ndim != 4 or masks.shape[1] != 1 or not width >= 1:
        raise ValueError(
            f"masks must be (B, 1, H, W) and width at least 1, not {tuple(masks.shape)}, {width}"
        )
    known = (masks >= 0.5).float()
    plain = [row for row, share in enumerate(known.flatten(1).mean(1).tolist()) if share in (0, 1)]
    if plain:
        raise ValueError(f"masks {plain} have no edge: they are all known, or all free")
    reach = int(width)
    axis = torch.arange(-reach, reach + 1, device=masks.device)
    disc = (axis[:, None] ** 2 + axis**2 <= width**2).float()[None, None]
    near_known, near_free = (
        torch.nn.functional.conv2d(side, disc, padding=reach) > 0.5 for side in (known, 1 - known)
    )
    return near_known & near_free


def boundary_error(
    pictures: Tensor, references: Tensor, masks: Tensor, width: float = 4.0
) -> Tensor:
    """Mean absolute error over the pixels within `width` of the mask's edge, on both sides.

    Where a part of a picture was known and the rest was made, this is where it shows.

    Args:
        pictures: (B, C, H, W).
        references: (B, C, H, W), the whole true picture.
        masks: (B or 1, 1, H, W), known from 0.5 on.
        width: in pixels, at least 1.

    Returns:
        (B,) float64, in the pictures' unit: up to 2 for pictures in [-1, 1].

    Raises:
        ValueError: shapes differ, or as `boundary`.
    """
    _same_shape(pictures, references)
    if masks.shape[-2:] != pictures.shape[-2:]:
        raise ValueError(
            f"masks {tuple(masks.shape)} are not of the pictures' size, {tuple(pictures.shape)}"
        )
    band = boundary(masks, width).expand(len(pictures), -1, -1, -1).double()
    gap = (pictures.double() - references.double()).abs().mean(1, keepdim=True)
    return (band * gap).flatten(1).sum(1) / band.flatten(1).sum(1)


def _same_shape(pictures: Tensor, references: Tensor) -> None:
    if pictures.shape != references.shape or pictures.ndim != 4 or not pictures.numel():
        raise ValueError(
            "both must have one shape (B, C, H, W) and not be empty; these are "
            f"{tuple(pictures.shape)} and {tuple(references.shape)}"
        )

"""Linear operators against the same thing computed another way."""

import math
from itertools import pairwise

import pytest
import torch
from operator_cases import SHAPE, pictures
from scipy.linalg import hadamard
from torch.nn import functional

from unicond.operators import Mask, make_operator
from unicond.operators.base import CUTOFF
from unicond.operators.blurring import Circular
from unicond.operators.masking import box, free_form, random_pixels
from unicond.operators.sensing import walsh_hadamard
from unicond.operators.separable import Separable

EXACT = {"rtol": 0.0, "atol": 1e-12}  # the same sums in another order, in float64


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_averages(factor):
    x = pictures()
    expected = functional.avg_pool2d(x, factor)
    torch.testing.assert_close(make_operator(f"sr{factor}", SHAPE).forward(x), expected, **EXACT)


@pytest.mark.parametrize("factor", [2, 4])
def test_bicubic_is_that_of_other_libraries(factor):
    x = pictures()
    expected = functional.interpolate(x, scale_factor=1 / factor, mode="bicubic", antialias=True)
    found = make_operator(f"sr{factor}:bicubic", SHAPE).forward(x)
    torch.testing.assert_close(found, expected, **EXACT)


def plainly_blurred(x, std):
    radius = math.ceil(4 * std)
    line = torch.exp(-0.5 * (torch.arange(-radius, radius + 1).double() / std) ** 2)
    line = line / line.sum()
    for axis in (-2, -1):
        mirrored = torch.cat([x.flip(axis), x, x.flip(axis)], axis)
        while mirrored.shape[axis] < x.shape[axis] + 2 * radius:
            mirrored = torch.cat([x, mirrored, x], axis)
            mirrored = torch.cat([x.flip(axis), mirrored, x.flip(axis)], axis)
        start = (mirrored.shape[axis] - x.shape[axis]) // 2 - radius
        windows = mirrored.narrow(axis, start, x.shape[axis] + 2 * radius).unfold(
            axis, len(line), 1
        )
        x = windows @ line
    return x


def test_gaussian_blur_mirrors_the_picture():
    x = pictures()
    found = make_operator("blur:0.6", SHAPE).forward(x)
    torch.testing.assert_close(found, plainly_blurred(x, 0.6), **EXACT)


def test_singular_values_of_the_gaussian_are_its_frequency_response():
    operator = make_operator("blur:0.6", (1, 8, 8))
    weights = torch.exp(-0.5 * (torch.arange(-3, 4).double() / 0.6) ** 2)
    angles = torch.arange(8).double()[:, None] * math.pi / 8 * torch.arange(-3, 4)
    response = (angles.cos() * weights / weights.sum()).sum(1)
    expected = (response[:, None] * response).flatten().sort().values
    torch.testing.assert_close(operator.singulars.sort().values, expected, **EXACT)


def test_tiny_singular_values_are_left_out_of_the_operator_itself():
    """No picture is measured otherwise than by the plain blur by more than the cut-off."""
    operator = make_operator("blur:3", (1, 16, 16))
    kept = operator.singulars[operator.singulars > 0]
    assert 0 < len(kept) < 256
    assert kept.min() > CUTOFF * kept.max()
    units = torch.eye(256, dtype=torch.float64).reshape(256, 1, 16, 16)
    gap = (operator.forward(units) - plainly_blurred(units, 3.0)).flatten(1)
    assert 0 < torch.linalg.matrix_norm(gap, 2) <= CUTOFF


@pytest.mark.parametrize(("angle", "axis"), [(0, -1), (90, -2), (180, -1), (-90, -2)])
def test_motion_along_the_sides_is_a_mean_of_shifts(angle, axis):
    x = pictures()
    found = make_operator(f"motion:5:{angle}", SHAPE).forward(x)
    expected = torch.stack([x.roll(by, axis) for by in range(-2, 3)]).mean(0)
    torch.testing.assert_close(found, expected, **EXACT)


def test_motion_at_an_angle_runs_up_to_the_right():
    point = torch.zeros(1, 1, 16, 16, dtype=torch.float64)
    point[..., 8, 8] = 1
    smeared = make_operator("motion:9:45", (1, 16, 16)).forward(point)[0, 0]
    rows, columns = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    middle = (smeared * (8 - rows)).sum(), (smeared * (columns - 8)).sum()
    spread = (smeared * (8 - rows) * (columns - 8)).sum()
    assert abs(float(smeared.sum()) - 1) < 1e-12
    assert max(map(abs, middle)) < 1e-8
    # points a pixel apart: E[s^2] = (9^2 - 1) / 12, half of it in each direction
    assert abs(float(spread) - 80 / 12 / 2) < 0.1
    assert smeared[11, 11].abs() < 1e-8


def test_longer_motions_reach_further():
    point = torch.zeros(1, 1, 1, 32, dtype=torch.float64)
    point[..., 16] = 1
    distance = (torch.arange(32) - 16).double().square()
    spreads = [
        float((make_operator(f"motion:{length}", (1, 1, 32)).forward(point) * distance).sum())
        for length in (1, 1.5, 2, 8, 8.5, 9, 20)
    ]
    assert spreads[0] < 1e-12
    assert all(less < more for less, more in pairwise(spreads))


def test_grey():
    x = pictures()
    luma = 0.299 * x[:, :1] + 0.587 * x[:, 1:2] + 0.114 * x[:, 2:]
    torch.testing.assert_close(make_operator("colorize:luma", SHAPE).forward(x), luma, **EXACT)
    mean = make_operator("colorize", SHAPE).forward(x)
    torch.testing.assert_close(mean, x.mean(1, keepdim=True), **EXACT)


def test_the_transform_is_the_matrix():
    expected = torch.tensor(hadamard(32)).double() / 32**0.5
    torch.testing.assert_close(walsh_hadamard(torch.eye(32).double()), expected, **EXACT)


def test_sensing_measures_the_mean_and_draws_by_its_seed():
    x = pictures()
    first = make_operator("hadamard:0.1:1", SHAPE).forward(x)
    assert first.shape == (2, 3, 13)
    torch.testing.assert_close(first[..., 0], x.flatten(2).mean(2) * 128**0.5, **EXACT)
    assert torch.equal(first, make_operator("hadamard:0.1:1", SHAPE).forward(x))
    other = make_operator("hadamard:0.1:2", SHAPE).forward(x)
    assert not torch.allclose(first[..., 1:], other[..., 1:])


def test_masks_measure_the_known_pixels_alone():
    x = pictures()
    known = box(SHAPE, 0.25, 0.0, 0.5, 1.0)
    operator = Mask(shape=SHAPE, known=known)
    assert operator.measurement_shape == (3, 8 * 12)
    y = operator.forward(x)
    expected = torch.cat([x[..., :4], x[..., 8:]], -1).flatten(2)
    assert torch.equal(y, expected)
    assert torch.equal(operator.pinv(y), x * known)


@pytest.mark.parametrize("share", [0.1, 0.3, 0.6])
def test_strokes_hide_the_share_and_little_more(share):
    side = 64
    known = free_form((3, side, side), share, seed=3)
    hidden = 1 - known.double().mean()
    assert share <= hidden <= share + math.pi * 0.07**2
    assert torch.equal(known, free_form((3, side, side), share, seed=3))
    assert not torch.equal(known, free_form((3, side, side), share, seed=4))
    # strokes, no dust: most hidden pixels have hidden neighbours
    inner = ~known[1:-1, 1:-1]
    beside = (~known[:-2, 1:-1]).int() + ~known[2:, 1:-1] + ~known[1:-1, :-2] + ~known[1:-1, 2:]
    assert (beside[inner] >= 2).double().mean() > 0.95


def test_random_pixels_are_as_many_as_asked_for():
    known = random_pixels((3, 16, 16), 0.7, seed=1)
    assert int((~known).sum()) == round(0.7 * 256)


def test_masks_of_ones_own_are_checked():
    with pytest.raises(ValueError, match=r"does not fit pictures of \(3, 8, 16\)"):
        Mask(shape=SHAPE, known=torch.ones(16, 8))
    with pytest.raises(ValueError, match="threshold a soft one"):
        Mask(shape=SHAPE, known=torch.full((8, 16), 0.5))
    with pytest.raises(ValueError, match="hides every pixel"):
        Mask(shape=SHAPE, known=torch.zeros(1, 8, 16))
    with pytest.raises(ValueError, match="does not fit a side of 8"):
        Separable(shape=SHAPE, down=torch.eye(9), across=torch.eye(16))
    with pytest.raises(ValueError, match="does not fit pictures"):
        Circular(shape=SHAPE, kernel=torch.ones(3, 3))

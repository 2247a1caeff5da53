"""Operators that are not linear: JPEG, quantisation, Fourier magnitudes."""

import io
from itertools import pairwise

import numpy as np
import pytest
import torch
from operator_cases import NONLINEAR, SHAPE, pictures
from PIL import Image
from torch.nn import functional

from unicond.operators import make_operator


def smooth(shape, seed=0):
    """Pictures of soft blots, in whole bytes."""
    noise = pictures(2, (shape[0], shape[1] // 4 + 1, shape[2] // 4 + 1), seed)
    large = functional.interpolate(noise, shape[1:], mode="bicubic").clamp(-1, 1)
    return ((large + 1) * 127.5).round() / 127.5 - 1


@pytest.mark.parametrize("text", NONLINEAR)
def test_gradients_lead_towards_the_measurement(text):
    """A small step down the gradient of the smooth part lowers the error before rounding."""
    operator = make_operator(text, SHAPE)
    assert not operator.linear
    y = operator.forward(pictures(seed=1))
    x = pictures(seed=2).requires_grad_()
    error = (operator.forward(x) - y).square().flatten(1).sum(1)
    (gradient,) = torch.autograd.grad(error.sum(), x)
    assert gradient.isfinite().all()
    assert (gradient.flatten(1).norm(dim=1) > 0).all()
    after = (operator.forward(x - 0.2 * gradient) - y).square().flatten(1).sum(1)
    assert (after < error).all()


@pytest.mark.parametrize("text", NONLINEAR)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_computes_in_the_dtype_it_is_given(text, dtype):
    operator = make_operator(text, SHAPE)
    y = operator.forward(pictures(dtype=dtype))
    assert y.dtype == dtype
    assert y.shape == (2, *operator.measurement_shape)


@pytest.mark.parametrize("text", NONLINEAR)
def test_samples_do_not_see_each_other(text):
    operator, x = make_operator(text, SHAPE), pictures(3)
    torch.testing.assert_close(operator.forward(x)[1:2], operator.forward(x[1:2]))


@pytest.mark.parametrize("text", NONLINEAR)
def test_what_does_not_fit_is_refused(text):
    operator = make_operator(text, SHAPE)
    with pytest.raises(ValueError, match="make the operator for the size of the picture"):
        operator.forward(pictures()[:, :, :4])
    with pytest.raises(ValueError, match="measurements of shape"):
        operator.check_measurement(pictures()[:, :1])
    with pytest.raises(TypeError, match="are floats"):
        operator.forward(pictures().int())


@pytest.mark.parametrize("levels", [2, 3, 4, 17, 256])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_quantisation_is_a_projection(levels, dtype):
    operator, x = make_operator(f"quantize:{levels}", SHAPE), pictures(dtype=dtype)
    y = operator.forward(x)
    assert torch.equal(operator.forward(y), y)
    assert len(y.unique()) <= levels
    assert (y - x).abs().max() <= 1 / (levels - 1) + 1e-6
    ends = operator.forward(torch.tensor([-3.0, 3.0])[:, None, None, None].expand(2, *SHAPE))
    assert ends.unique().tolist() == [-1.0, 1.0]


def test_quantisation_lets_gradients_straight_through():
    x = pictures().requires_grad_()
    make_operator("quantize:2", SHAPE).forward(x).sum().backward()
    assert torch.equal(x.grad, torch.ones_like(x))


def test_magnitudes_do_not_tell_shifts_and_turns():
    operator = make_operator("phase", (1, 16, 16))
    x = torch.zeros(1, 1, 16, 16, dtype=torch.float64)
    x[..., 3:9, 2:8] = pictures(1, (1, 6, 6))
    y = operator.forward(x)
    for same in (x.roll((5, 7), (-2, -1)), x.flip(-1, -2), -x):
        torch.testing.assert_close(operator.forward(same), y, rtol=0.0, atol=1e-12)
    assert (operator.forward(x.flip(-1)) - y).abs().max() > 0.01


def test_magnitudes_keep_the_norm_and_the_mean():
    for factor in (1, 2, 3):
        operator, x = make_operator(f"phase:{factor}", SHAPE), pictures()
        y = operator.forward(x)
        assert y.shape == (2, 3, 8 * factor, 16 * factor)
        torch.testing.assert_close(y.square().sum((2, 3)), x.square().sum((2, 3)))
        total = x.sum((2, 3)).abs() / (128**0.5 * factor)
        torch.testing.assert_close(y[..., 0, 0], total)


def test_jpeg_gets_better_with_its_quality():
    x = smooth((3, 32, 32))
    errors = []
    for quality in (1, 5, 10, 20, 40, 80, 100):
        y = make_operator(f"jpeg:{quality}", (3, 32, 32)).forward(x)
        errors.append((y - x).square().flatten(1).mean(1))
    assert all((worse > better).all() for worse, better in pairwise(errors))


@pytest.mark.parametrize("quality", [10, 50, 90])
@pytest.mark.parametrize("size", [(32, 32), (27, 42), (43, 21)])
def test_jpeg_is_what_libjpeg_makes(quality, size):
    """But for its integer cosine transform: in a few blocks one coefficient is rounded otherwise.

    Where none is, colours are the same up to two levels: each of three roundings is off by one.
    """
    operator = make_operator(f"jpeg:{quality}", (3, *size))
    shares, gaps = [], []
    for x in [*smooth((3, *size), seed=1), *smooth((3, *size), seed=2)]:
        file = io.BytesIO()
        levels(x).save(file, "JPEG", quality=quality, subsampling="4:2:0")
        expected = np.asarray(Image.open(file).convert("RGB")).astype(float)
        gap = np.abs(np.asarray(levels(operator.forward(x[None])[0])) - expected)
        shares.append((gap <= 2).mean())
        gaps.append(gap.mean())
    assert np.mean(shares) > 0.85, shares
    assert np.mean(gaps) < 1, gaps


def levels(x):
    return Image.fromarray(((x + 1) * 127.5).round().byte().permute(1, 2, 0).numpy())

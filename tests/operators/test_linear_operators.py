"""Every linear operator of the registry against its own matrix, in float64.

Tolerance 1e-10: pseudo-inverses raise rounding (1e-16) by up to 1 / CUTOFF = 1e3, a product of two
by its square.
"""

import pytest
import torch
from operator_cases import COUNT, LINEAR, SHAPE, linear_operator, pictures

TOLERANCE = 1e-10

linear = pytest.mark.parametrize("text", LINEAR)


def near(value, expected):
    gap = (value - expected).abs().max()
    assert gap < TOLERANCE, f"largest difference {gap:.1e}"


def units(count):
    return torch.eye(count, dtype=torch.float64)


def matrix(operator):
    """A, one column a pixel."""
    return operator.forward(units(COUNT).reshape(COUNT, *SHAPE)).flatten(1).T


def of_measurements(operator, function):
    """The matrix of a function of measurements."""
    count = torch.Size(operator.measurement_shape).numel()
    return function(units(count).reshape(count, *operator.measurement_shape)).flatten(1).T


@linear
def test_adjoint_by_inner_products(text):
    operator, x = linear_operator(text), pictures()
    y = torch.randn(
        2,
        *operator.measurement_shape,
        generator=torch.Generator().manual_seed(1),
        dtype=torch.float64,
    )
    measured = (operator.forward(x) * y).flatten(1).sum(1)
    near((x * operator.adjoint(y)).flatten(1).sum(1), measured)
    near(of_measurements(operator, operator.adjoint), matrix(operator).T)


@linear
def test_pinv_fulfils_penroses_conditions(text):
    operator = linear_operator(text)
    a, p = matrix(operator), of_measurements(operator, operator.pinv)
    near(a @ p @ a, a)
    near(p @ a @ p, p)
    near((a @ p).T, a @ p)
    near((p @ a).T, p @ a)


@linear
def test_decomposition(text):
    """V is orthogonal, U too where it counts, and A = U S V^T with the singular values of A."""
    operator = linear_operator(text)
    a, s = matrix(operator), operator.singulars
    assert s.shape == (COUNT,)
    assert s.dtype == torch.float64
    v = operator.from_spectral(units(COUNT)).flatten(1).T
    vt = operator.to_spectral(units(COUNT).reshape(COUNT, *SHAPE)).T
    u = operator.measurement_from_spectral(units(COUNT)).flatten(1).T
    ut = of_measurements(operator, operator.measurement_to_spectral)
    near(v @ vt, units(COUNT))
    near(vt, v.T)
    near(ut, u.T)
    near(u.T @ u, (s > 0).double().diag())
    near(u * s @ v.T, a)
    found = torch.linalg.svdvals(a)
    near(s.sort(descending=True).values[: len(found)], found)
    assert not s.sort(descending=True).values[len(found) :].any()


@linear
def test_noise_stays_white(text):
    """`U^T y` has the variance of y in each coordinate that is measured, and 0 in the others."""
    operator = linear_operator(text)
    rows = of_measurements(operator, operator.measurement_to_spectral)
    near(rows.square().sum(1), (operator.singulars > 0).double())


@linear
def test_the_gradient_is_the_adjoint(text):
    """Also of an operator that was first used in inference mode, as in a sampling step."""
    operator, x = linear_operator(text), pictures(1)
    with torch.inference_mode():
        y = operator.forward(x)
        operator.pinv(y)
    x.requires_grad_()
    (0.5 * operator.forward(x).square().sum()).backward()
    near(x.grad, operator.adjoint(y.clone()))
    z = pictures(1).requires_grad_()
    operator.pinv(operator.forward(z)).sum().backward()
    assert z.grad.isfinite().all()


@linear
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_computes_in_the_dtype_it_is_given(text, dtype):
    operator, x = linear_operator(text), pictures(dtype=dtype)
    y = operator.forward(x)
    z = operator.to_spectral(x)
    for value in (y, z, operator.adjoint(y), operator.pinv(y), operator.from_spectral(z)):
        assert value.dtype == dtype
    # rounding of sums of up to 128 terms of size 1: 2^-8 for bfloat16, 2^-24 for float32
    exact = operator.forward(x.double())
    assert (y.double() - exact).abs().max() < (0.2 if dtype == torch.bfloat16 else 1e-5)


@linear
def test_samples_do_not_see_each_other(text):
    operator, x = linear_operator(text), pictures(3)
    y = operator.forward(x)
    near(operator.forward(x[1:2]), y[1:2])
    near(operator.pinv(y[1:2]), operator.pinv(y)[1:2])


@linear
def test_what_does_not_fit_is_refused(text):
    operator, x = linear_operator(text), pictures()
    with pytest.raises(ValueError, match="make the operator for the size of the picture"):
        operator.forward(x[..., :8])
    y = operator.forward(x)
    with pytest.raises(ValueError, match=r"measurements of shape \(2, .* do not fit"):
        operator.pinv(y[..., :-1])
    with pytest.raises(ValueError, match=f"give \\(batch, {COUNT}\\)"):
        operator.from_spectral(x.flatten(1)[:, 1:])
    with pytest.raises(TypeError, match="are floats"):
        operator.adjoint(y.int())

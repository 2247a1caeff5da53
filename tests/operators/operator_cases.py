"""What the tests of operators run through."""

import torch

from unicond.operators import LinearOperator, make_operator
from unicond.operators.blurring import Circular
from unicond.operators.registry import OPERATORS

SHAPE = (3, 8, 16)
COUNT = 3 * 8 * 16

_MORE = (
    "sr4:bicubic",
    "sr2:bicubic",
    "blur:0.6",
    "motion:8",  # whole frequencies of 16 pixels are lost
    "motion:5:30",
    "motion:3:-90",
    "colorize:luma",
    "hadamard:0.5:3",
    "hadamard:1",
    "inpaint-box:0:0:0.5:1",
    "a lopsided kernel",  # its transfer function is not real, as those of lines are
)
LINEAR = tuple(name for name, entry in OPERATORS.items() if entry.linear) + _MORE
NONLINEAR = tuple(name for name, entry in OPERATORS.items() if not entry.linear)


def pictures(count=2, shape=SHAPE, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, *shape, generator=generator, dtype=torch.float64).to(dtype) * 2 - 1


def linear_operator(text):
    """One of `LINEAR`."""
    if text == "a lopsided kernel":
        kernel = pictures(1, SHAPE[1:], seed=4)[0] + 1
        return Circular(shape=SHAPE, kernel=kernel / kernel.sum())
    operator = make_operator(text, SHAPE)
    assert isinstance(operator, LinearOperator)
    assert operator.linear
    return operator

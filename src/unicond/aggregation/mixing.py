"""How the states of several models become one, sample by sample.

Two states a, b at one noise level, `w` the weight of a, `l = (2 / pi) acos w` the share of b:

    slerp     sin((1 - l) O) / sin O * a + sin(l O) / sin O * b     O the angle between them;
              directions and norms apart, the norm is (1 - l) |a| + l |b|
    released  w a + sqrt(1 - w^2) b
    lerp      (1 - l) a + l b

`released` is slerp for orthogonal states of one norm; once the states correlate, its norm grows, by
up to 1.37 at w = 0.5. More than two nest from the first on, `mix(mix(a, b; w_1), c; w_2)`, but for
`released`, whose published three-model rule has `prod_{j < k} sqrt(1 - w_j^2) prod_{j >= k} w_j`
before the k-th state.

Source: AMDM, arXiv:2410.01262, eq. 9; the rule for three models is the released code's.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import reduce

import torch
from torch import Tensor

from unicond.aggregation.manner import WEIGHT, Mix

PARALLEL = 1e-3
"""States at a smaller angle, in radians, are mixed linearly."""


def mixed(states: Sequence[Tensor], weights: Sequence[float], mix: Mix) -> Tensor:
    """One state of several.

    Args:
        states: of the models, (B, C, H, W) each, the first one's first.
        weights: in [0, 1], one fewer than states: of what is mixed so far against the next state.
        mix: how.

    Returns:
        (B, C, H, W). With all weights at 1.0 it is the first state itself.

    Raises:
        ValueError: numbers that do not fit, or a weight out of range.
    """
    check_weights(weights, len(states))
    if mix == "released":
        return _released(states, weights)
    rule = MIXES[mix]
    pairs = zip(states[1:], weights, strict=True)
    return reduce(lambda found, pair: rule(found, *pair), pairs, states[0])


def check_weights(weights: Sequence[float], count: int) -> None:
    """Raise ValueError where weights do not fit `count` states, or are out of range."""
    if count < 2:
        raise ValueError(f"several models are aggregated, but {count} given: give at least two")
    if len(weights) != count - 1:
        raise ValueError(
            f"{count} models are mixed by {count - 1} weights, each of the models so far against "
            f"the next, but {len(weights)} are given: {tuple(weights)}"
        )
    wrong = [weight for weight in weights if not 0 <= weight <= 1]
    if wrong:
        raise ValueError(f"weights of models must be in [0, 1], got {wrong[0]}")


def even_weights(count: int) -> tuple[float, ...]:
    """Weights with which the first of `count` models keeps what it has of two; the others share.

    Of two it is `manner.WEIGHT`. With `s_1 = 1 - l` of that weight, `s_k = l / (count - 1)`, the
    k-th's share against all before is `s_k / (s_1 + ... + s_k)`.

    >>> [round(weight, 3) for weight in even_weights(3)]
    [0.349, 0.775]
    """
    others = share_of(WEIGHT)
    shares = [
        others / (count - 1) / (1 - others + number * others / (count - 1))
        for number in range(1, count)
    ]
    return tuple(math.cos(math.pi / 2 * share) for share in shares)


def share_of(weight: float) -> float:
    """`l = (2 / pi) acos w`: how far from a to b, in [0, 1]; exactly 0 at w = 1."""
    return 2 / math.pi * math.acos(weight)


def slerp(a: Tensor, b: Tensor, weight: float) -> Tensor:
    """Along the great circle from a to b: directions turn evenly, norms change evenly.

    Args:
        a: (B, C, H, W).
        b: shaped as a.
        weight: w of a.

    Returns:
        Shaped as a; a itself at w = 1. Where the angle is below `PARALLEL` or the states are
        opposite, directions are mixed linearly.
    """
    share = share_of(weight)
    if share == 0:
        return a
    norm_a, norm_b = norms(a), norms(b)
    unit_a, unit_b = a / nonzero(norm_a), b / nonzero(norm_b)
    angle = (unit_a * unit_b).sum((1, 2, 3), keepdim=True).clamp(-1, 1).acos()
    sine = angle.sin()
    curved = sine > PARALLEL
    sine = torch.where(curved, sine, 1.0)
    left = torch.where(curved, ((1 - share) * angle).sin() / sine, 1 - share)
    right = torch.where(curved, (share * angle).sin() / sine, share)
    return (left * unit_a + right * unit_b) * ((1 - share) * norm_a + share * norm_b)


def lerp(a: Tensor, b: Tensor, weight: float) -> Tensor:
    """On the straight line from a to b; shapes and w as of `slerp`."""
    share = share_of(weight)
    return a if share == 0 else (1 - share) * a + share * b


def norms(values: Tensor) -> Tensor:
    """(B, 1, 1, 1): the Euclidean norm of each sample."""
    return values.flatten(1).norm(dim=1).view(-1, 1, 1, 1)


def nonzero(norm: Tensor) -> Tensor:
    """Norms to divide by: 1 in the place of 0."""
    return torch.where(norm > 0, norm, 1.0)


def _released(states: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """`sum_k prod_{j < k} sqrt(1 - w_j^2) prod_{j >= k} w_j x_k`."""
    found = torch.zeros_like(states[0])
    for k, state in enumerate(states):
        others = math.prod(math.sqrt(1 - weight**2) for weight in weights[:k])
        found = found + others * math.prod(weights[k:]) * state
    return found


MIXES: Mapping[str, Callable[[Tensor, Tensor, float], Tensor]] = {"slerp": slerp, "lerp": lerp}
"""The rules for two states that nest."""

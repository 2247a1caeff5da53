"""What blending shares: asking for more variants in the step's own network call."""

from collections.abc import Callable, Sequence
from itertools import chain

from torch import Tensor

from unicond.sampling.predictions import Prediction, Predictions, nudges
from unicond.sampling.rows import Variant
from unicond.sampling.state import Denoiser, State

Ask = Callable[[Variant], Sequence[Variant]]
Combine = Callable[[Variant, State, Predictions, Sequence[Predictions]], Predictions]


def extended(denoiser: Denoiser, branch: str, ask: Ask, combine: Combine) -> Denoiser:
    """A denoiser that evaluates further variants in the same call and combines them.

    Args:
        denoiser: all branches in, all predictions out.
        branch: that is combined; where it is not there (an edit's target has no rows of its own
            while the source goes up), nothing is.
        ask: the further variants that go with a guided one.
        combine: makes one prediction set of a guided variant, the state, the variant's own
            predictions and those of the further ones.

    Returns:
        A denoiser; variants with `guided=False` pass through it as they are.
    """

    def blended(state: State, variants: Sequence[Variant] = (Variant(),)) -> list[Predictions]:
        if branch not in state.latents:
            return denoiser(state, variants)
        further = [list(ask(variant)) if variant.guided else [] for variant in variants]
        found = iter(denoiser(state, [*variants, *chain.from_iterable(further)]))
        own = [next(found) for _ in variants]
        return [
            combine(variant, state, first, [next(found) for _ in more]) if variant.guided else first
            for variant, first, more in zip(variants, own, further, strict=True)
        ]

    return blended


def weighted_mean(terms: Sequence[tuple[Tensor, Prediction]]) -> Prediction:
    """`sum_i w_i p_i / sum_i w_i` in every pixel, for x0, eps and nudges alike.

    Args:
        terms: weights (B or 1, 1, H, W), not negative, and predictions (B, C, H, W).

    Returns:
        A prediction that belongs to the same latents as the terms do.

    Raises:
        ValueError: the weights leave nothing in some pixel.
    """
    total = sum((weight for weight, _ in terms[1:]), terms[0][0])
    if not bool((total > 0).all()):
        raise ValueError(
            "the weights of all predictions are 0 in some pixels, so that nothing is left there: "
            "give the scene or a region that covers them a weight above 0"
        )
    first = terms[0][1]
    x0, eps = terms[0][0] * first.x0, terms[0][0] * first.eps
    for weight, term in terms[1:]:
        x0, eps = x0 + weight * term.x0, eps + weight * term.eps
    nudge = nudges(terms)
    return Prediction(x0 / total, eps / total, None if nudge is None else nudge / total)

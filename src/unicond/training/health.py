"""Whether a training still learns: one whose loss or weights are not finite has diverged.

It ends with an error, and its last checkpoint, whose weights are good, stays.
"""

import math
from collections.abc import Iterable

import torch
from torch import Tensor
from torch.amp.grad_scaler import GradScaler


class Diverged(ValueError):
    """A loss or weights are not finite; nothing of them was saved."""


def is_lost(loss: float, scaler: GradScaler) -> bool:
    """Whether a loss says that the training has diverged.

    In float16 a step whose gradients overflow is left out, and the loss is scaled less from then
    on; only if that does not help is the training lost.

    Args:
        loss: mean of some steps.
        scaler: of the loss.

    Returns:
        Whether it does.
    """
    return not math.isfinite(loss) and not (scaler.is_enabled() and scaler.get_scale() >= 1)


def not_finite(values: Iterable[Tensor]) -> Tensor:
    """How many of some tensors, all on one device, hold something that is not finite."""
    return torch.stack([~value.isfinite().all() for value in values]).sum()


def explained(what: str, step: int, rate: float, peak: float, left: str) -> Diverged:
    """The error that ends the training.

    Args:
        what: is not finite.
        step: when this was seen.
        rate: the learning rate at that step.
        peak: the highest learning rate.
        left: what there is of the run.

    Returns:
        It.
    """
    return Diverged(
        f"the training has diverged: at step {step} {what} (learning rate {rate:.3g}); this is "
        f"not saved, {left}. Begin anew with a lower learning rate, say {peak / 10:.3g}: on "
        "pictures of your own by --lr and --no-resume"
    )

"""The parts of `unicond table amdm`."""

from collections.abc import Sequence

from unicond.evaluation.amdm import ablation, features, figures, mig, style, sweep
from unicond.evaluation.amdm.part import Part

PARTS: tuple[Part, ...] = (
    mig.PART,
    style.PART,
    figures.PART,
    ablation.PART,
    features.PART,
    sweep.PART,
)
"""In the order shown."""


def parts(names: Sequence[str]) -> list[Part]:
    """Parts by their names.

    Args:
        names: one or more.

    Returns:
        Each once, in their usual order.

    Raises:
        ValueError: there is no part of that name.
    """
    known = [part.name for part in PARTS]
    for name in names:
        if name not in known:
            raise ValueError(f"--part {name!r} is not one of {', '.join(known)}")
    return [part for part in PARTS if part.name in names]

"""The groups of `unicond table tasks`; another is one file beside this one, and a name here."""

from collections.abc import Sequence

from unicond.evaluation.tasks.composition import COMPOSITION
from unicond.evaluation.tasks.editing import EDITING
from unicond.evaluation.tasks.group import Group
from unicond.evaluation.tasks.inversion import INVERSION
from unicond.evaluation.tasks.layout import LAYOUT
from unicond.evaluation.tasks.restoration import RESTORATION
from unicond.evaluation.tasks.signals import ROBUSTNESS
from unicond.evaluation.tasks.style import STYLE
from unicond.evaluation.tasks.sweeps import GUIDANCE_SWEEP, PIXEL_SWEEPS, STEPS_SWEEP

GROUPS: tuple[Group, ...] = (
    EDITING,
    INVERSION,
    RESTORATION,
    LAYOUT,
    COMPOSITION,
    STYLE,
    GUIDANCE_SWEEP,
    ROBUSTNESS,
    STEPS_SWEEP,
    PIXEL_SWEEPS,
)
"""In the order shown."""


def groups(names: Sequence[str] = ()) -> list[Group]:
    """Groups by their names.

    Args:
        names: none are all.

    Returns:
        Each once, in their usual order.

    Raises:
        ValueError: there is no group of that name.
    """
    known = [group.name for group in GROUPS]
    for name in names:
        if name not in known:
            raise ValueError(f"no group {name!r} of tasks; there are {', '.join(known)}")
    return [group for group in GROUPS if not names or group.name in names]

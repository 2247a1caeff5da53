"""The branches of a model: each given, wholly or in part or coarsely, made, or left out.

As many slots are on the page as any model may have branches; those of a model's are shown.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from PIL import Image

from unicond.studio.page.drawing import moves_of, plan_svg
from unicond.studio.page.fields import Values
from unicond.studio.page.painted import blank, mask_of

MOST = 6
USUAL = 2
"""Shown from the start: an editor whose width changes later shows its canvas beside its middle."""
ROLES = ("give", "make", "leave out")
PAINTS = ("is made anew", "is kept", "is part of it")
EACH = 6
"""Components of a slot."""
OWN = (
    "give",
    "image",
    "depth",
    "mask",
    "mask_invert",
    "mask_threshold",
    "noise",
    "hold",
    "only",
    "conditioning_scale",
)
"""Fields that slots stand for."""


@dataclass(frozen=True, eq=False)
class Slot:
    """What is said of a branch.

    Args:
        picture: that is given, without what was painted on it; None is not there.
        layers: what was painted on it, RGBA.
        composite: both.
        role: one of `ROLES`.
        noise: time up to which it is coarse.
        paint: one of `PAINTS`.
        hold: it stays at its noise.
        weight: of its joint attention; empty is usual, `W_X:W_Y` are both directions.
    """

    picture: Image.Image | None
    layers: Sequence[Image.Image]
    composite: Image.Image | None
    role: str
    noise: float
    paint: str
    hold: bool
    weight: str = ""

    @property
    def drawn(self) -> bool:
        """Whether paint is part of the picture."""
        return self.paint == PAINTS[2]

    @property
    def shown(self) -> Image.Image | None:
        """The picture that is given; None where there is none."""
        return self.composite if self.drawn else self.picture

    @property
    def given(self) -> bool:
        """Whether something is left of what is given."""
        return self.role == ROLES[0] and self.noise < 1

    @property
    def mask(self) -> Image.Image | None:
        """White where it is known; None is everywhere."""
        return None if self.drawn else mask_of(self.layers, self.paint == PAINTS[1])


def slots_of(names: Sequence[str], values: Values) -> dict[str, Slot]:
    """What the slots say.

    Args:
        names: of the model's branches.
        values: of all slots.

    Returns:
        {branch: what is said of it}.
    """
    found = dict[str, Slot]()
    for number, name in enumerate(names):
        edited, role, noise, paint, hold, weight = values[EACH * number : EACH * (number + 1)]
        value = cast("Mapping[str, object]", edited or {})
        found[name] = Slot(
            cast("Image.Image | None", value.get("background")),
            cast("list[Image.Image]", value.get("layers", [])),
            cast("Image.Image | None", value.get("composite")),
            str(role),
            float(cast(float, noise)),
            str(paint),
            bool(hold),
            str(weight or ""),
        )
    return found


def without_pictures(values: Values) -> list[object]:
    """Values of slots without their editors, as `slots_of` takes them: their pictures are long.

    Args:
        values: of all other components.

    Returns:
        The same, with None for each editor.
    """
    found = list[object]()
    for start in range(0, len(values), EACH - 1):
        found += [None, *values[start : start + EACH - 1]]
    return found


def painted_on(edited: Mapping[str, object] | None, role: str, paint: str) -> tuple[str, str, bool]:
    """What follows when something was painted.

    Args:
        edited: what the editor holds.
        role: of the slot until now.
        paint: what the paint is until now.

    Returns:
        The role and the paint: what is painted on an empty canvas is the picture, which is given;
        and whether there is paint.
    """
    value = edited or {}
    layers = cast("list[Image.Image]", value.get("layers", []))
    there = mask_of(layers, keeps=True) is not None
    if there and blank(cast("Image.Image | None", value.get("background"))):
        return ROLES[0], PAINTS[2], there
    return role, paint, there


def told_of(slots: Mapping[str, Slot]) -> dict[str, object]:
    """What slots say, as fields of a form to generate.

    Args:
        slots: {branch: what is said of it}.

    Returns:
        {field: value}.

    Raises:
        ValueError: a branch is to be given, and its picture is not there; or a weight is none.
    """
    given = {name: one for name, one in slots.items() if one.given}
    for name, one in given.items():
        if one.shown is None:
            raise ValueError(f"{name} is to be given: load, paste or draw its picture, or make it")
    masks = {name: one.mask for name, one in given.items() if one.mask is not None}
    told: dict[str, object] = {
        "give": {name: one.shown for name, one in given.items()},
        "mask": masks,
        "noise": {name: one.noise for name, one in given.items() if one.noise > 0},
        "hold": [name for name, one in given.items() if one.hold and one.noise > 0],
        "conditioning_scale": {
            name: weight_of(name, one.weight) for name, one in slots.items() if one.weight.strip()
        },
    }
    if any(one.role == ROLES[2] for one in slots.values()):
        made = [n for n, one in slots.items() if one.role != ROLES[2] and not one.given]
        told["only"] = made or list(given)
    return told


def weight_of(branch: str, text: str) -> object:
    """The weight of a branch's joint attention.

    Args:
        branch: whose it is.
        text: W, or W_X:W_Y.

    Returns:
        A number, or both.

    Raises:
        ValueError: it is neither.
    """
    try:
        parts = [float(part) for part in text.split(":")]
    except ValueError:
        parts = list[float]()
    if len(parts) not in (1, 2):
        raise ValueError(f"the weight of {branch} {text!r} is none: write 0.5, or 1:0.5 for both")
    return parts[0] if len(parts) == 1 else parts


def plan_of(
    slots: Mapping[str, Slot], painted: Sequence[object], plan: str | None, steps: int
) -> str:
    """The drawing of the way that a run takes.

    Args:
        slots: {branch: what is said of it}.
        painted: whether there is paint on each: a branch that is known in part starts as noise.
        plan: by its name; None follows from the slots.
        steps: moves.

    Returns:
        SVG, or why there is none.
    """
    starts, hold = dict[str, float](), list[str]()
    for (name, one), paint in zip(slots.items(), painted, strict=False):
        if one.role == ROLES[2]:
            continue
        masked = bool(paint) and not one.drawn
        starts[name] = one.noise if one.given and not masked else 1.0
        if one.given and one.hold and not masked:
            hold.append(name)
    try:
        return plan_svg(moves_of(starts, hold, plan or None, steps))
    except ValueError as error:
        return str(error)

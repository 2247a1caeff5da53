"""Settings of sampling that suit a condition better than those of its base."""

import math
from dataclasses import dataclass

WHOLE = ("estimation_steps", "estimation_ensemble")
"""Those that are counts."""


@dataclass(frozen=True, kw_only=True)
class Suits:
    """The settings of sampling that suit a condition, where they are not its base's.

    Args:
        guidance_scale: of text, where an image is drawn from the condition or beside it.
        condition_guidance: of the condition, where an image is drawn from it.
        joint_plan: the way through the times of both by name, where image and condition are drawn
            from text together (see `named_plans`).
        estimation_steps: network calls in which the condition is read off an image.
        estimation_noise: time to which that image is noised.
        estimation_ensemble: noises that are each carried to a picture of the condition; the mean of
            the pictures is the answer.

    Raises:
        ValueError: a value is outside of what is allowed.
    """

    guidance_scale: float | None = None
    condition_guidance: float | None = None
    joint_plan: str | None = None
    estimation_steps: int | None = None
    estimation_noise: float | None = None
    estimation_ensemble: int | None = None

    def __post_init__(self) -> None:
        if type(self.joint_plan) not in (str, type(None)):
            raise ValueError(
                f"joint_plan is {self.joint_plan!r}; it must be the name of a plan, or left out"
            )
        for name, least, most in (
            ("guidance_scale", 0.0, math.inf),
            ("condition_guidance", 0.0, math.inf),
            ("estimation_steps", 1, math.inf),
            ("estimation_noise", 0.0, 1.0),
            ("estimation_ensemble", 1, math.inf),
        ):
            value: object = getattr(self, name)
            if value is None:
                continue
            kinds = (int,) if name in WHOLE else (int, float)
            if type(value) not in kinds or not least <= value <= most:  # type: ignore[operator]
                allowed = f"from {least:g} to {most:g}" if most < math.inf else f"from {least:g}"
                raise ValueError(f"{name} is {value!r}; it must be a number {allowed}, or left out")

"""Condition guidance: away from the model that does not see the condition, or sees less of it.

    p = p_guided + g_c (p_positive - p_positive with weights w')              (x0 and eps alike)

w' are other weights of joint attention than its own w: a share a w of all of them, of which a = 0
switches it off, or some conditions' own, which lets one stand out in company. With `guidance_scale`
g and w' = 0 it is UniCon's `e_u + g (e_c - e_u) + g_c (e_c - e_c_off)`: all terms but the last with
joint attention on.

Source: UniCon, arXiv:2410.11439, section 3.3 (loosely aligned conditions), after formula (8).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from typing_extensions import override

from unicond.mechanisms.blending.away import Away
from unicond.sampling.rows import Variant


@dataclass(frozen=True)
class ConditionGuidance(Away):
    """Guidance by the difference that joint attention makes; one row more a sample and branch.

    No further call, no random draw. With latent models nothing is decoded, and nothing more is
    approximate.

    Args:
        scale: g_c, usually 0 to 3; 0.0 is off.
        window: when it acts.
        against: what is moved away from: a, the share of all weights of joint attention, or
            {condition branch: its (w_x, w_y)}, where the others keep theirs.

    Raises:
        ValueError: `against` is 1, which leaves no difference.
    """

    against: float | Mapping[str, tuple[float, float]] = 0.0

    def __post_init__(self) -> None:
        if self.scale != 0.0 and self.against == 1.0:
            raise ValueError(
                "condition guidance against 1.0 compares the model with itself: give another "
                "share of the weights, usually 0.0 to 0.7, or condition_guidance=0.0"
            )

    @override
    def weaker(self, variant: Variant) -> Variant:
        if not isinstance(self.against, Mapping):
            return replace(variant, joint=self.against)
        return replace(variant, weights=tuple((b, x, y) for b, (x, y) in self.against.items()))

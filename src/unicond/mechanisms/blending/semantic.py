"""Semantic guidance: edits by text that touch only what they are most about.

    p = p_guided + sum_e s_e m_e (p_e - p_negative)      (x0 and eps alike)
    m_e = 1 where abs(p_e - p_negative) is at least its own quantile q_e, else 0

An edit's direction is the difference that its prompt makes; only the largest values of it are
followed, so that what the edit is not about stays. `s_e < 0` moves away from a concept. An edit
begins after a warm-up, when the layout stands: the `window`. Several edits add up.

The quantile is each sample's own. It is taken on x0, whose difference is eps' times a factor, so
that the mask is the same and exists from pure noise, too. `per="value"` decides for every value by
itself, `per="pixel"` for a pixel by its magnitude over all channels (LEDITS++'s second mask; its
first, by cross-attention, is an attention mechanism's). The source's momentum over steps is left
out, as in LEDITS++.

Source: Brack et al. 2023, arXiv:2301.12247; LEDITS++, arXiv:2311.16711.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor
from typing_extensions import override

from unicond.mechanisms.blending.classifier_free import check_outside
from unicond.mechanisms.blending.extending import extended
from unicond.mechanisms.known import check_branch
from unicond.mechanisms.prompted import Prompted, by_text
from unicond.sampling.predictions import Predictions
from unicond.sampling.rows import Variant
from unicond.sampling.state import Denoiser, Move, Setup, State
from unicond.sampling.window import Window

WARM_UP = Window.share(0.2, 1.0)
"""The first fifth of the moves settles the layout."""


@dataclass(frozen=True, kw_only=True)
class Edit:
    """One edit.

    Args:
        prompt: what it is about.
        scale: s_e, usually 3 to 15, negative to remove; 0.0 is off.
        quantile: q_e in [0, 1), the share of values that it leaves alone, usually 0.8 to 0.99.
        window: when it acts.

    Raises:
        ValueError: an empty prompt, a scale that is not finite, or a quantile out of range.
    """

    prompt: str
    scale: float = 5.0
    quantile: float = 0.9
    window: Window = WARM_UP

    def __post_init__(self) -> None:
        if not self.prompt.strip():
            raise ValueError("an edit needs a prompt: say what it is about")
        if not math.isfinite(self.scale):
            raise ValueError(
                f"the scale of edit {self.prompt!r} is {self.scale}; it must be finite"
            )
        if not 0.0 <= self.quantile < 1.0:
            raise ValueError(
                f"the quantile of edit {self.prompt!r} is {self.quantile}; it must be in [0, 1): 0 "
                "changes everything, 1 would leave nothing to change"
            )


@dataclass(frozen=True, kw_only=True)
class SemanticGuidance(Prompted):
    """Edits beside the run's prompt; one row more an edit, and one for the negative prompt.

    That of the negative prompt is shared with text guidance. No further call, no random draw. To
    edit a given picture, start from its inversion. With latent models a value is one of latents:
    what the mask leaves alone the decoder may still change near its border.

    Args:
        edits: at least one.
        per: what is masked, each `"value"` by itself or each `"pixel"`.
        branch: which branch's predictions are edited.

    Raises:
        ValueError: no edit.
    """

    edits: Sequence[Edit]
    per: Literal["value", "pixel"] = "value"
    branch: str = "image"

    def __post_init__(self) -> None:
        if not self.edits:
            raise ValueError(
                "semantic guidance needs at least one edit, such as Edit(prompt='red')"
            )

    @override
    def prompts(self) -> Mapping[str, str]:
        """Those of the edits that act."""
        return by_text(edit.prompt for edit in self.edits if edit.scale)

    @override
    def check(self, setup: Setup) -> None:
        """Refuse a branch that is held, and a place inside of text guidance: in vain."""
        if any(edit.scale for edit in self.edits):
            setup.needs_motion(self, self.branch)
            check_outside(self, setup)

    @override
    def begin(self, state: State) -> State:
        """Only a check: the branch is one of the run's."""
        check_branch(state, self.branch, "semantic guidance")
        return state

    @override
    def wrap(self, denoiser: Denoiser, move: Move) -> Denoiser:
        """Ask for every edit's bare prediction beside the guided one, and add what is masked in."""
        edits = [
            edit for edit in self.edits if edit.scale and edit.window.active(move, self.branch)
        ]
        if not edits:
            return denoiser

        def ask(variant: Variant) -> list[Variant]:
            names = ["negative", *(edit.prompt for edit in edits)]
            return [replace(variant, prompt=name, guided=False) for name in names]

        def combine(
            _variant: Variant, _state: State, guided: Predictions, further: Sequence[Predictions]
        ) -> Predictions:
            negative, *found = (one[self.branch] for one in further)
            old = guided[self.branch]
            x0, eps = old.x0, old.eps
            for edit, prediction in zip(edits, found, strict=True):
                difference = prediction.x0 - negative.x0
                weight = edit.scale * self._mask(difference, edit.quantile)
                x0 = x0 + weight * difference
                eps = eps + weight * (prediction.eps - negative.eps)
            # bare predictions are nudged all alike, if they are: not their differences
            return {**guided, self.branch: replace(old, x0=x0, eps=eps)}

        return extended(denoiser, self.branch, ask, combine)

    def _mask(self, difference: Tensor, quantile: float) -> Tensor:
        """1 where a sample's difference is large, (B, C or 1, H, W), in the difference's dtype."""
        size = difference.abs()
        if self.per == "pixel":
            size = size.sum(1, keepdim=True)
        least = torch.quantile(size.flatten(1), quantile, dim=1)
        return (size >= least[:, None, None, None]).to(difference)

"""NoiseCollage: one prediction an object, cropped to its place and merged into the scene's.

    p = (w_* p_* + sum_n w_n m_n p_n) / (w_* + sum_n w_n m_n)      (x0 and eps alike)

`p_*` is the scene's prediction under the run's own prompt, which counts everywhere; `p_n` that of
object n, made of the whole picture under its own prompt and cropped by `m_n`. Unlike
MultiDiffusion's regions, objects are pasted into a scene that goes on below them and holds the
picture together.

The source also masks cross-attention, so that an object's prompt is read inside its box and the
scene's outside of it, in the same row. That is left to attention mechanisms; the authors leave it
out themselves where a map (pose, edges, depth) tells the objects' shapes, as UniCon's branches do.

Source: Shirakawa and Uchida 2024, arXiv:2403.03485, section 3 (crop and merge).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor
from typing_extensions import override

from unicond.mechanisms.blending import regions as areas
from unicond.mechanisms.blending.classifier_free import check_outside
from unicond.mechanisms.blending.extending import extended, weighted_mean
from unicond.mechanisms.blending.regions import Region
from unicond.mechanisms.known import check_branch, check_scale
from unicond.mechanisms.prompted import Prompted, by_text
from unicond.sampling.predictions import Predictions
from unicond.sampling.rows import Variant
from unicond.sampling.state import Denoiser, Move, Setup, Sight, State
from unicond.sampling.window import ALWAYS, Window


@dataclass(frozen=True, kw_only=True, eq=False)
class NoiseCollage(Prompted):
    """Objects in their places; one row more an object and sample (two with text guidance).

    No further call, no random draw. With latent models places are cut in latents, without the
    decoder: a border is as sharp as a place of theirs, and the decoder mixes across it.

    Args:
        objects: prompts with boxes or masks, 1 to 16 of them, and their weights w_n (0.0 is off).
        scene: w_*, the weight of the run's own prompt, everywhere; small against the objects', so
            that they win where they are, and above 0 unless they cover everything.
        branch: which branch's predictions are combined.
        window: when it acts; outside, the scene is alone.

    Raises:
        ValueError: no object, more than 16, or a weight of the scene that is negative or infinite.
    """

    objects: Sequence[Region]
    scene: float = 0.1
    branch: str = "image"
    window: Window = ALWAYS

    def __post_init__(self) -> None:
        areas.check(self.objects)
        check_scale(self.scene, "the weight of the scene")

    @override
    def prompts(self) -> Mapping[str, str]:
        """Those of the objects."""
        return by_text(one.prompt for one in areas.acting(self.objects))

    @override
    def check(self, setup: Setup) -> None:
        """Refuse a branch that is held, and a place inside of text guidance: in vain."""
        if areas.acting(self.objects):
            setup.needs_motion(self, self.branch)
            check_outside(self, setup)

    @override
    def sees(self, move: Move) -> Sight:
        """All of the picture, where it acts."""
        acts = areas.acting(self.objects) and self.window.active(move, self.branch)
        return "whole" if acts else "part"

    @override
    def begin(self, state: State) -> State:
        """Only a check: branch and masks fit the run, and some weight is left everywhere."""
        check_branch(state, self.branch, "NoiseCollage")
        areas.check_masks(self.objects, state, self.branch)
        latents, objects = state.latents[self.branch], areas.acting(self.objects)
        if objects and self.scene == 0:
            bare = sum((one.inside(latents) for one in objects[1:]), objects[0].inside(latents))
            if not bool((bare > 0).all()):
                share = float((bare == 0).float().mean())
                raise ValueError(
                    f"the scene has weight 0 and the objects leave {share:.0%} of the picture "
                    "bare: give the scene a weight above 0"
                )
        return state

    @override
    def wrap(self, denoiser: Denoiser, move: Move) -> Denoiser:
        """Ask for every object's prompt beside the scene's, crop and merge."""
        objects = areas.acting(self.objects)
        if not objects or not self.window.active(move, self.branch):
            return denoiser

        def ask(variant: Variant) -> list[Variant]:
            return [replace(variant, prompt=one.prompt) for one in objects]

        def combine(
            _variant: Variant, state: State, scene: Predictions, further: Sequence[Predictions]
        ) -> Predictions:
            latents = state.latents[self.branch]
            everywhere: Tensor = latents.new_full((1, 1, *latents.shape[-2:]), self.scene)
            terms = [(everywhere, scene[self.branch])]
            terms += [
                (one.weight * one.inside(latents), found[self.branch])
                for one, found in zip(objects, further, strict=True)
            ]
            return {**scene, self.branch: weighted_mean(terms)}

        return extended(denoiser, self.branch, ask, combine)

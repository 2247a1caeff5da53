"""Restoring a picture of which a measurement is known: small, blurred, grey, with a hole.

    y = A x + n,    n ~ N(0, noise_std^2)

Each of the `restorers.METHODS` brings mechanisms, a solver and a plan of its own; all of them draw
one picture of those that would measure so, `count` draws several. `mean` is their average, an
estimate of E[x | y]: of all answers the one of least squared error, smoother than any that is
drawn.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Self, cast

import torch
from torch import Tensor
from typing_extensions import override

from unicond.backbones.base import Backbone
from unicond.calls.output import Output
from unicond.calls.prepared import Callback
from unicond.calls.request import seeds_of
from unicond.model import Model
from unicond.pictures.decoding import Source as Picture
from unicond.tasks import measured
from unicond.tasks.base import Task
from unicond.tasks.measured import Measured
from unicond.tasks.restorers import DEFAULTS, KINDS, METHODS, Case, methods_for


@dataclass(frozen=True, eq=False)
class Restore(Task):
    """Find a picture that fits what was measured of it.

    The size of the run follows from the measurement, which is taken as it is; with `size` it is
    first cropped and resized to what belongs to that size. Without a prompt there is no guidance of
    text unless it is asked for. MCG, CCDF, ILVR and the methods for masks take y as exact: its
    noise comes out as it went in.

    Args:
        picture: the measurement: a small, blurred or grey picture, or one with a hole; with
            `simulate` the clean picture that is measured first.
        operator: what measured it, as `"sr4"`, `"blur:3"`, `"inpaint-box"`; `"mask"` with a mask.
        noise_std: of the noise in y, on pictures in [-1, 1]; 0.0 is exact, 0.0023 the rounding of
            files of 8 bits. Never guessed.
        prompt: what the picture shows, if it is known.
        mask: of operator `"mask"`: white (from 0.5) is known.
        method: one of `restorers.METHODS`; None is that of `restorers.DEFAULTS`.
        simulate: measure the picture first, with noise drawn from the seed.
        mean: make one picture, the mean of `count` samples (of one measurement); usually 8.

    Raises:
        ValueError: an unknown operator or method, a method that is not for the operator, no noise
            level, a mask that is missing or not used, an operator whose measurement is no picture
            without `simulate`, or the mean of a single sample.
    """

    PICTURES: ClassVar[frozenset[str]] = frozenset({"picture", "mask"})

    picture: Picture
    operator: str
    noise_std: float
    prompt: str = field(default="", kw_only=True)
    mask: Picture | None = field(default=None, kw_only=True)
    method: str | None = field(default=None, kw_only=True)
    simulate: bool = field(default=False, kw_only=True)
    mean: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        if self.mean and self.count < 2:
            raise ValueError(
                f"mean is that of several samples, and count is {self.count}: give 2 or more "
                "(--count), usually 8, or drop mean"
            )
        able, wanted = methods_for(self.operator), self.chosen()
        if wanted not in METHODS:
            raise ValueError(f"no method {wanted!r} restores; choose of {', '.join(METHODS)}")
        if wanted not in able:
            kinds = ", ".join(KINDS[kind] for kind in METHODS[wanted][1])
            raise ValueError(
                f"{wanted!r} is for {kinds}; {self.operator!r} is restored by {', '.join(able)}"
            )
        noise = cast(float | None, self.noise_std)
        if noise is None or not 0 <= noise < math.inf:
            raise ValueError(
                f"noise_std is {noise}: say how noisy the measurement is (--noise-std), as the "
                "standard deviation of its noise on pictures in [-1, 1]; 0 where it is exact"
            )
        if (self.mask is None) == (self.operator == measured.OWN_MASK):
            raise ValueError(
                "operator 'mask' hides what a picture says: give mask (--mask), white is known"
                if self.mask is None
                else f"{self.operator!r} takes no mask picture: use operator 'mask', or drop mask"
            )
        if not self.simulate and self.operator.partition(":")[0] in measured.NO_PICTURES:
            raise ValueError(
                f"what {self.operator!r} measures is no picture: give the clean picture, and "
                "simulate=True (--simulate)"
            )

    def words(self) -> str | Sequence[str]:
        """The prompt, or one a sample."""
        return self.prompt

    def chosen(self) -> str:
        """The method: what is asked for, or the default of the operator's kind."""
        return self.method or DEFAULTS[measured.kind_of(self.operator)]

    @override
    def settled(self, model: Model) -> Self:
        return replace(self, method=self.chosen())

    @override
    def made(self, model: Model, callback: Callback | None) -> tuple[Tensor | None, Output]:
        seen = self.seen(model.backbone)
        with torch.no_grad():
            way = METHODS[self.chosen()][0](Case(seen, model.backbone, self.times(model)))
        words = self.words()
        told = bool(words or self.negative_prompt)
        guidance = 1.0 if self.guidance_scale is None and not told else self.guidance_scale
        out = model.only(*model.adapters)(
            words,
            negative_prompt=self.negative_prompt,
            seed=self.seed,
            count=self.count,
            size=seen.size,
            branches=["image"],
            solver=way.solver,
            plan=way.plan,
            guidance_scale=guidance,
            mechanisms=way.mechanisms,
            callback=callback,
        )
        return seen.shown(), averaged(out) if self.mean else out

    def seen(self, backbone: Backbone) -> Measured:
        """What was measured.

        Args:
            backbone: says which sizes can be.

        Returns:
            The measurement, at the size of the run.
        """
        known = (self.picture, self.operator, self.noise_std, self.mask, self.size, backbone)
        if self.simulate:
            count = 1 if self.mean else self.count
            return measured.simulated(*known, seeds_of(self.seed, count, {}))
        return measured.measured(*known)


def averaged(out: Output) -> Output:
    """The mean of the samples of a run as one, under the first one's seed.

    Args:
        out: B samples.

    Returns:
        One; pictures are averaged as pictures, latents as latents.
    """
    first = replace(out.record, seeds=out.record.seeds[:1], prompts=out.record.prompts[:1])
    pictures = {branch: one.mean(0, keepdim=True) for branch, one in out.pictures.items()}
    latents = {branch: one.mean(0, keepdim=True) for branch, one in out.latents.items()}
    return replace(out, pictures=pictures, latents=latents, record=first)

"""MultiDiffusion: many predictions of one state, averaged in every pixel.

    p = sum_i w_i p_i / sum_i w_i      (x0 and eps alike)

The least-squares answer to "let every view follow its own prediction". `Panorama`: the views are
overlapping windows of a state that is larger than the network was trained for, so that a picture
can be of any width. `Regions`: the views are the whole picture under several prompts, each counted
where its region is.

Windows crop all branches alike: a wide depth map beside a wide image is seen through the same
window. Every prediction belongs to the same latents and the weights are normalised, so that their
mean does, too: it is exact wherever a window holds all that a pixel depends on.

Source: Bar-Tal et al. 2023, arXiv:2302.08113: the least-squares mean, panorama, region-based
generation with bootstrapping.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from typing_extensions import override

from unicond.mechanisms.blending import regions as areas
from unicond.mechanisms.blending.classifier_free import check_outside
from unicond.mechanisms.blending.extending import extended, weighted_mean
from unicond.mechanisms.blending.regions import Region
from unicond.mechanisms.known import check_branch, check_scale
from unicond.mechanisms.prompted import Prompted, by_text
from unicond.mechanisms.views import check_beside
from unicond.sampling.predictions import Prediction, Predictions
from unicond.sampling.rows import Variant
from unicond.sampling.state import Denoiser, Mechanism, Move, Setup, Sight, State
from unicond.sampling.window import ALWAYS, Window

Size = tuple[int, int]


@dataclass(frozen=True)
class _View:
    """One window of a larger picture: rows and columns of latents."""

    rows: slice
    columns: slice
    weight: Tensor

    def crop(self, state: State) -> State:
        latents = {b: v[..., self.rows, self.columns] for b, v in state.latents.items()}
        return state.at(latents, state.t)

    def paste(self, values: Tensor, size: Size) -> Tensor:
        """The weighted values (.., h, w) in their place in an empty picture."""
        sides = (self.columns.start, size[1] - self.columns.stop)
        ends = (self.rows.start, size[0] - self.rows.stop)
        return F.pad(self.weight.to(values) * values, (*sides, *ends))


@dataclass(frozen=True, kw_only=True)
class Panorama(Mechanism):
    """Pictures larger than the network's own, through overlapping windows.

    It goes after what is about the whole picture: regions, measurements, energies, DiffEdit.
    A call of the network for each window, `(1 + ceil((W - w) / stride))` along a side; held
    branches, which are run once elsewhere, are run for every window. No random draw. A picture no
    larger than the window is left to the network as it is. With latent models windows are of
    latents; the decoder sees the whole picture, which is larger than it was trained for, too.

    Args:
        window: side, or (height, width), of a window in latents; usually what the base was trained
            on (`backbone.sample_size // backbone.factor`). Along a side where the picture is
            smaller, the window is the picture.
        stride: how far a window is from the next, in latents, 1 to the window's side; default half
            of it. Smaller costs more and hides seams better.
        profile: how a window's pixels are weighed: `"tent"` falls off linearly towards its border,
            where it sees least, which hides seams; `"flat"` weighs all alike, as the source does.

    Raises:
        ValueError: a side below 1, or a stride that would leave gaps.
    """

    window: int | Size
    stride: int | Size | None = None
    profile: Literal["tent", "flat"] = "tent"

    def __post_init__(self) -> None:
        window, stride = _pair(self.window), self._stride
        if min(window) < 1:
            raise ValueError(f"a window of {window} latents; both sides must be at least 1")
        if any(not 1 <= step <= side for step, side in zip(stride, window, strict=True)):
            raise ValueError(
                f"stride {stride} with windows of {window} latents: windows must overlap or touch, "
                "1 <= stride <= window, or some pixels are in none"
            )

    @property
    def _stride(self) -> Size:
        height, width = _pair(self.window)
        half = (max(1, height // 2), max(1, width // 2))
        return half if self.stride is None else _pair(self.stride)

    @override
    def check(self, setup: Setup) -> None:
        """Refuse, where there are several windows, what must see more than one of them."""
        if len(self._views(_size(setup.state))) == 1:
            return
        inside = False
        for other in setup.mechanisms:
            check_beside(other, setup.moves, inside)
            inside = inside or other is self

    @override
    def begin(self, state: State) -> State:
        """Only a check: all branches have one size, so that they can be cropped alike."""
        sizes = {branch: tuple(v.shape[-2:]) for branch, v in state.latents.items()}
        if len(set(sizes.values())) > 1:
            raise ValueError(f"a panorama needs all branches of one size, not {sizes}")
        return state

    @override
    def wrap(self, denoiser: Denoiser, move: Move) -> Denoiser:
        """Predict every window and average."""

        def tiled(state: State, variants: Sequence[Variant] = (Variant(),)) -> list[Predictions]:
            size = _size(state)
            views = self._views(size)
            if len(views) == 1:
                return denoiser(state, variants)
            found = [denoiser(view.crop(state), variants) for view in views]
            return [_joined(views, list(one), size) for one in zip(*found, strict=True)]

        return tiled

    def _views(self, size: Size) -> list[_View]:
        window = _pair(self.window)
        (height, tops), (width, lefts) = (
            _starts(*one) for one in zip(size, window, self._stride, strict=True)
        )
        weight = torch.ones(height, width, dtype=torch.float64)
        if self.profile == "tent":
            weight = _tent(height)[:, None] * _tent(width)
        return [
            _View(slice(top, top + height), slice(left, left + width), weight)
            for top, left in product(tops, lefts)
        ]


@dataclass(frozen=True, kw_only=True, eq=False)
class Regions(Prompted):
    """Prompts for parts of the picture; the run's own prompt describes what no region covers.

    One row more a region and sample (two with text guidance), in the same call; while
    `bootstrap` is active one call more a region, and one noise draw each. With latent models places
    are cut in latents, without the decoder, which mixes across their borders.

    Args:
        regions: prompts with boxes or masks, 1 to 16 of them; where they overlap, their mean by
            weight.
        scene: weight of the run's own prompt inside the regions; 0.0 leaves it to them.
        branch: which branch's predictions are combined.
        window: when it acts; outside the run's own prompt has all of the picture.
        bootstrap: when a region sees a plain random colour, noised, instead of what is around it,
            so that its object comes to be inside; usually `Window.share(0, 0.2)`; None is never.

    Raises:
        ValueError: no region, more than 16, or a weight of the scene that is negative or infinite.
    """

    regions: Sequence[Region]
    scene: float = 0.0
    branch: str = "image"
    window: Window = ALWAYS
    bootstrap: Window | None = field(default=None)

    def __post_init__(self) -> None:
        areas.check(self.regions)
        check_scale(self.scene, "the weight of the scene")

    @override
    def prompts(self) -> Mapping[str, str]:
        """Those of the regions."""
        return by_text(region.prompt for region in areas.acting(self.regions))

    @override
    def check(self, setup: Setup) -> None:
        """Refuse a branch that is held, and a place inside of text guidance: in vain."""
        if areas.acting(self.regions):
            setup.needs_motion(self, self.branch)
            check_outside(self, setup)

    @override
    def sees(self, move: Move) -> Sight:
        """All of the picture, where it acts."""
        acts = areas.acting(self.regions) and self.window.active(move, self.branch)
        return "whole" if acts else "part"

    @override
    def begin(self, state: State) -> State:
        """Only a check: the branch is one of the run's, and the masks fit its samples."""
        check_branch(state, self.branch, "MultiDiffusion")
        areas.check_masks(self.regions, state, self.branch)
        return state

    @override
    def wrap(self, denoiser: Denoiser, move: Move) -> Denoiser:
        """Ask for every region's prompt beside the run's, and average by region."""
        regions = areas.acting(self.regions)
        if not regions or not self.window.active(move, self.branch):
            return denoiser
        apart = self.bootstrap is not None and self.bootstrap.active(move, self.branch)

        def ask(variant: Variant) -> list[Variant]:
            return [] if apart else [replace(variant, prompt=one.prompt) for one in regions]

        def combine(
            variant: Variant, state: State, own: Predictions, further: Sequence[Predictions]
        ) -> Predictions:
            latents = state.latents[self.branch]
            inside = [region.inside(latents) for region in regions]
            if apart:
                further = [
                    denoiser(self._alone(state, mask), [replace(variant, prompt=region.prompt)])[0]
                    for region, mask in zip(regions, inside, strict=True)
                ]
            covered = torch.stack([mask.expand_as(latents[:, :1]) for mask in inside]).amax(0)
            terms = [(1 - covered + self.scene * covered, own[self.branch])]
            terms += [
                (region.weight * mask, one[self.branch])
                for region, mask, one in zip(regions, inside, further, strict=True)
            ]
            return {**own, self.branch: weighted_mean(terms)}

        return extended(denoiser, self.branch, ask, combine)

    def _alone(self, state: State, inside: Tensor) -> State:
        """The state with a plain colour around a region: one random value a channel, noised."""
        latents = state.latents[self.branch]
        alpha, sigma = state.scales(self.branch)
        colour = state.noise.draw(self.branch, latents)[..., :1, :1]
        around = alpha * colour + sigma * state.noise.draw(self.branch, latents)
        seen = inside * latents + (1 - inside) * around
        return state.at({**state.latents, self.branch: seen}, state.t)


def _pair(size: int | Size) -> Size:
    return (size, size) if isinstance(size, int) else size


def _size(state: State) -> Size:
    height, width = next(iter(state.latents.values())).shape[-2:]
    return height, width


def _starts(length: int, window: int, stride: int) -> tuple[int, list[int]]:
    """The window's side, and where the windows begin; the last one ends with the picture."""
    if length <= window:
        return length, [0]
    return window, [*range(0, length - window, stride), length - window]


def _tent(count: int) -> Tensor:
    """1, 2, ..., 2, 1 by its largest value: nowhere 0."""
    places = torch.arange(count, dtype=torch.float64)
    return torch.minimum(places + 1, count - places) / ((count + 1) // 2)


def _joined(views: Sequence[_View], found: Sequence[Predictions], size: Size) -> Predictions:
    """The windows' predictions of one variant as one of the whole picture, branch by branch."""

    def mean(values: Sequence[Tensor]) -> Tensor:
        pasted = [view.paste(value, size) for view, value in zip(views, values, strict=True)]
        return torch.stack(pasted).sum(0) / total.to(pasted[0])

    total = sum(
        (view.paste(torch.ones_like(view.weight), size) for view in views),
        torch.zeros(size, dtype=torch.float64),
    )
    joined: dict[str, Prediction] = {}
    for branch in found[0]:
        ones = [one[branch] for one in found]
        nudges = [one.nudge for one in ones if one.nudge is not None]
        joined[branch] = Prediction(
            mean([one.x0 for one in ones]),
            mean([one.eps for one in ones]),
            mean(nudges) if nudges else None,
        )
    return joined

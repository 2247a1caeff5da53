"""Self-guidance: along the gradient of where, how large, how shaped and what a word's object is.

    E = sum over terms of w | property - wanted |,    eps <- eps + g sigma_t grad_{x_t} E

Properties (`guidance.properties`) are read from cross-attention maps of the way up and the features
of its last block but one. What is wanted is given, or is the same property of a source that is
drawn beside, moved or scaled.

Source: Epstein et al. 2023, arXiv:2306.00986, section 3. Deviates: the maps are those of at most
16 x 16 places.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from typing_extensions import override

from unicond.mechanisms.attention.maps import LARGEST
from unicond.mechanisms.attention.words import check_marks
from unicond.mechanisms.blending.classifier_free import check_outside
from unicond.mechanisms.guidance.energies import (
    Watch,
    checked,
    grid_at,
    guided_by,
)
from unicond.mechanisms.guidance.properties import Appearance, Seen, Term
from unicond.mechanisms.known import check_branch, check_scale
from unicond.sampling.controls import Layer
from unicond.sampling.predictions import Predictions
from unicond.sampling.rows import Variant
from unicond.sampling.state import Denoiser, Mechanism, Move, Setup, Sight, State
from unicond.sampling.window import ALWAYS, Window


@dataclass(frozen=True, kw_only=True, eq=False)
class SelfGuidance(Mechanism):
    """Guidance by properties of words' maps, in the variants of the prompt.

    One network call a move, with a graph and a backward pass while the window is open; no random
    draw. It goes outside of all that blends predictions. With a source, the branch starts where
    the source does, and the source's rows are one more sample's in every call; the source itself is
    only looked at. Maps are of the way up, of at most 16 x 16 places. Not approximate with latent
    models: maps and features are the network's own.

    Args:
        terms: what is wanted.
        scale: g; terms are of order 1, so that it sets the length of the step; 0.0 is off.
        branch: whose object.
        source: the branch that terms with `source_words` look at.
        window: when it acts.

    Raises:
        ValueError: a scale out of range, or one branch for both.
    """

    terms: Sequence[Term]
    scale: float = 100.0
    branch: str = "image"
    source: str = "source"
    window: Window = ALWAYS

    def __post_init__(self) -> None:
        check_scale(self.scale)
        if self.source == self.branch:
            raise ValueError(f"branch and source are both {self.branch!r}; give two branches")

    @override
    def check(self, setup: Setup) -> None:
        """Refuse a branch that is held, and a source that is elsewhere where it is looked at."""
        if not self._acting:
            return
        setup.needs_motion(self, self.branch)
        check_outside(self, setup)
        for move in setup.moves if self._looks and self.source in setup.state.t else ():
            if self._acts(move) and move.t[self.source] != move.t[self.branch]:
                raise ValueError(
                    f"{self.source!r} is at t={move.t[self.source]:.4f} and {self.branch!r} at "
                    f"{move.t[self.branch]:.4f}; a source that is looked at needs the same times"
                )

    @override
    def sees(self, move: Move) -> Sight:
        """The network's inside, where it acts."""
        return "network" if self._acts(move) else "part"

    @override
    def begin(self, state: State) -> State:
        """The branch starts where the source does, if there is one."""
        if not self._acting:
            return state
        check_branch(state, self.branch, "self-guidance")
        if self._looks:
            check_branch(state, self.source, "self-guidance by a source")
        check_marks(self.marks(), len(state.latents[self.branch]))
        return self._started(state)

    def marks(self) -> Iterator[Tensor]:
        """The terms' words, and those of their source."""
        for term in self.terms if self._acting else ():
            yield term.words
            if term.source_words is not None:
                yield term.source_words

    @override
    def settle(self, state: State, predictions: Predictions, move: Move) -> State:
        """While the plan goes up, the branch follows the source."""
        up = self._acting and self._looks and move.rises(self.source)
        return self._started(state) if up else state

    @override
    def wrap(self, denoiser: Denoiser, move: Move) -> Denoiser:
        """Predict with a graph and watch, and add the gradient to the score."""
        if not self._acts(move):
            return denoiser

        def guided(state: State, variants: Sequence[Variant] = (Variant(),)) -> list[Predictions]:
            branches = (self.branch, self.source) if self._looks else (self.branch,)
            size = state.latents[self.branch].shape[-2:]
            watches = [Watch(branch, where=_Where(size, self._feels)) for branch in branches]

            def energy(_: Predictions) -> Tensor:
                return self._energy([_seen(watch.found, size) for watch in watches])

            still = branches[1:]
            return guided_by(denoiser, state, move, energy, self.scale, variants, watches, still)

        return guided

    def _acts(self, move: Move) -> bool:
        falls = move.falls(self.branch)
        return self._acting and falls and self.window.active(move, self.branch)

    @property
    def _acting(self) -> bool:
        return self.scale != 0 and any(term.weight for term in self.terms)

    @property
    def _looks(self) -> bool:
        return any(term.source_words is not None for term in self.terms)

    @property
    def _feels(self) -> bool:
        return any(isinstance(term, Appearance) for term in self.terms)

    def _energy(self, seen: Sequence[Seen]) -> Tensor:
        mine, source = seen[0], seen[1].still() if len(seen) > 1 else None
        terms = [term.weight * term.energy(mine, source) for term in self.terms if term.weight]
        return checked(torch.stack(terms).sum(0), len(mine.maps[0]), "the energy of self-guidance")

    def _started(self, state: State) -> State:
        if not self._looks:
            return state
        latents = {**state.latents, self.branch: state.latents[self.source]}
        return replace(state, latents=latents)


@dataclass(frozen=True)
class _Where:
    """The layers to watch: maps of the way up, and the features of its last block but one."""

    size: Sequence[int]
    features: bool

    def __call__(self, layer: Layer) -> bool:
        if layer.part != "up":
            return False
        if layer.kind == "block":
            return self.features and layer.number == max(layer.count - 2, 0)
        return layer.kind == "cross" and layer.tokens(self.size) <= LARGEST


def _seen(found: Mapping[Layer, Tensor], size: Sequence[int]) -> Seen:
    maps = [
        _folded(one, *grid_at(layer, size)) for layer, one in found.items() if layer.kind == "cross"
    ]
    features = [one for layer, one in found.items() if layer.kind == "block"]
    if not maps:
        raise ValueError(
            f"self-guidance needs cross-attention on the way up, in layers of at most {LARGEST} "
            "places, and this denoiser has none"
        )
    return Seen(maps, features[0] if features else None)


def _folded(maps: Tensor, height: int, width: int) -> Tensor:
    """The mean over heads, (B, tokens, height, width), of maps (B, heads, places, tokens)."""
    mean = maps.mean(1).transpose(1, 2)
    return mean.reshape(*mean.shape[:2], height, width)

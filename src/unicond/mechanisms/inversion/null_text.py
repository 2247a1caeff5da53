"""Null-text inversion: the words that guidance moves away from are fitted, step by step.

    u_t = argmin_u || x*_s - step(x_t; u) ||^2,    x_s = step(x_t; u_t)

step is the guided deterministic step of the source, x*_s where the way up was. The fit of one move
begins with that of the move before; the target's guidance moves away from the same words.

Source: Mokady et al. 2022, arXiv:2211.09794, algorithm 1. As there: Adam, its rate
falling as `1 - i / 100` over 50 moves (here over as many as the plan has down), a fit that stops
early. Loss and stop are each sample's own.
"""

from collections.abc import Callable, Sequence
from contextvars import Context
from dataclasses import dataclass, field, replace
from typing import cast

import torch
from torch import Tensor
from typing_extensions import override

from unicond.mechanisms.inversion.ascent import check_way, waypoint
from unicond.mechanisms.inversion.paths import check_first_order, check_landed, falls, lands, level
from unicond.mechanisms.known import check_branch
from unicond.sampling.predictions import Prediction, Predictions
from unicond.sampling.prompts import Prompt, Prompts, reword
from unicond.sampling.rows import Variant
from unicond.sampling.state import Denoiser, Mechanism, Move, Setup, Sight, State

_KEY = "null_text"


@dataclass(frozen=True)
class Fitted(Prediction):
    """A prediction of the source, with the words that were fitted for it.

    Args:
        x0: predicted clean latents.
        eps: predicted unit noise.
        nudge: displacement that is added to the latents after the step, or None.
        tokens: (B, N, width), the negative prompt's embedding.
    """

    tokens: Tensor = field(kw_only=True)


@dataclass(frozen=True, kw_only=True)
class NullText(Mechanism):
    """Fit the negative prompt's embedding; after `DDIMInversion` and attention, before guidance.

    At most `iterations` more network calls a move down, of the source's rows, each with a graph and
    a backward pass; none where no guidance acts. No random draw. Needs a denoiser with a table of
    prompts, and the 'ddim' solver with eta=0. With latent models the picture is the decoded one:
    what the autoencoder loses stays lost.

    Args:
        source: the branch of the given picture, (B, C, H, W).
        target: the branch that is edited; None if that is the source itself.
        negative: name of the prompt that is fitted.
        iterations: steps of Adam a move, usually 10.
        learning_rate: of the first move, usually 1e-2.
        stop: a sample's fit ends when its mean squared error is below, usually 1e-5.
        slack: what is added to `stop` with each move, usually 2e-5.

    Raises:
        ValueError: a number out of range, or one branch for both.
    """

    source: str = "source"
    target: str | None = "target"
    negative: str = "negative"
    iterations: int = 10
    learning_rate: float = 1e-2
    stop: float = 1e-5
    slack: float = 2e-5

    def __post_init__(self) -> None:
        if self.source == self.target:
            raise ValueError(
                f"source and target are both {self.source!r}; give two branches, or target=None"
            )
        if not (self.iterations >= 1 and self.learning_rate > 0):
            raise ValueError(
                "null-text inversion needs iterations >= 1 and learning_rate > 0, not "
                f"{self.iterations} and {self.learning_rate}"
            )
        if not (self.stop >= 0 and self.slack >= 0):
            raise ValueError(f"stop {self.stop} and slack {self.slack} must not be negative")

    @override
    def check(self, setup: Setup) -> None:
        """Refuse a run without the way up, or a solver whose step is not the one that is fitted."""
        if self.source in setup.state.t:
            down = [move for move in setup.moves if falls(move, self.source)]
            check_way(self, setup, self.source, down)
            check_first_order(self, setup.solver)

    @override
    def sees(self, move: Move) -> Sight:
        """All of the picture, for the fit."""
        return "whole" if move.falls(self.source) else "part"

    @override
    def begin(self, state: State) -> State:
        """Only a check: there are such branches."""
        for branch in (self.source, *([] if self.target is None else [self.target])):
            check_branch(state, branch, "null-text inversion")
        return state

    @override
    def wrap(self, denoiser: Denoiser, move: Move) -> Denoiser:
        """On the way down: fit the words on the source, then predict all branches with them."""
        if not falls(move, self.source):
            return denoiser

        def fitted(state: State, variants: Sequence[Variant] = (Variant(),)) -> list[Predictions]:
            # in a context of its own, where attention's controls do not look into the fit's calls
            tokens = Context().run(self._fit, denoiser, state, move)
            if tokens is None:
                return denoiser(state, variants)
            found = denoiser(self._worded(state, _fixed(tokens)), variants)
            return [{**one, self.source: _noted(one[self.source], tokens)} for one in found]

        return fitted

    @override
    def settle(self, state: State, predictions: Predictions, move: Move) -> State:
        """Remember the words, for the next move to begin with."""
        found = predictions.get(self.source) if falls(move, self.source) else None
        if not isinstance(found, Fitted):
            return state
        check_landed(self, state, predictions, move, self.source)
        return state.remember(_KEY, (*embeddings(state), found.tokens))

    def _fit(self, denoiser: Denoiser, state: State, move: Move) -> Tensor | None:
        """The fitted embedding, (B, N, width); None if the step does not depend on it."""
        earlier = embeddings(state)
        goal, levels = waypoint(self, state, move.s[self.source]), level(state, move.s, self.source)
        rate = self.learning_rate * (1 - len(earlier) / move.count)
        stop = self.stop + self.slack * len(earlier)
        with torch.inference_mode(False), torch.enable_grad():
            words = _Words(earlier[-1] if earlier else None, len(goal))
            asked = self._worded(self._alone(state), words.of)
            adam: torch.optim.Adam | None = None
            for _ in range(self.iterations):
                step = lands(denoiser(asked, [Variant()])[0][self.source], levels)
                losses = (step - goal).square().flatten(1).mean(1)
                if words.tokens is None or not losses.requires_grad:
                    return None
                active = losses.detach() >= stop
                if not active.any():
                    break
                adam = adam or torch.optim.Adam([words.tokens], lr=rate)
                found = torch.autograd.grad(losses.sum(), [words.tokens], allow_unused=True)
                (words.tokens.grad,) = cast(tuple[Tensor | None], found)
                if words.tokens.grad is None:
                    return None
                before = words.tokens.detach().clone()
                adam.step()  # pyright: ignore[reportUnknownMemberType] (of torch)
                with torch.no_grad():
                    words.tokens.copy_(torch.where(active[:, None, None], words.tokens, before))
        assert words.tokens is not None
        return words.tokens.detach()

    def _alone(self, state: State) -> State:
        """Without the target; tensors of inference mode, which no graph can save, are copied."""
        rest = {b: v.clone() if v.is_inference() else v for b, v in state.latents.items()}
        rest = {branch: latents for branch, latents in rest.items() if branch != self.target}
        return state.at(rest, {branch: state.t[branch] for branch in rest})

    def _worded(self, state: State, change: Callable[[Prompt], Prompt]) -> State:
        """The state at which the negative prompt of source and target is changed."""

        def table(prompts: Prompts) -> Prompts:
            known = prompts.get(self.negative, {})
            if self.source not in known:
                raise ValueError(
                    f"no prompt {self.negative!r} of branch {self.source!r} to fit; there are "
                    f"{ {name: sorted(branches) for name, branches in prompts.items()} }"
                )
            words = change(known[self.source])
            mine = {b: words for b in (self.source, self.target) if b is not None}
            return {**prompts, self.negative: {**known, **mine}}

        return reword(state, table)


def embeddings(state: State) -> tuple[Tensor, ...]:
    """The embeddings (B, N, width) fitted so far, one for each move down."""
    return cast(tuple[Tensor, ...], state.memory.get(_KEY) or ())


class _Words:
    """The embedding of one fit: the move before's, or else what the denoiser has in its table."""

    def __init__(self, tokens: Tensor | None, batch: int) -> None:
        self.tokens = None if tokens is None else tokens.clone().requires_grad_()
        self._batch = batch

    def of(self, prompt: Prompt) -> Prompt:
        if self.tokens is None:
            wide = prompt.tokens.expand(self._batch, *prompt.tokens.shape[1:])
            self.tokens = wide.detach().clone().requires_grad_()
        return replace(prompt, tokens=self.tokens)


def _fixed(tokens: Tensor) -> Callable[[Prompt], Prompt]:
    return lambda prompt: replace(prompt, tokens=tokens)


def _noted(found: Prediction, tokens: Tensor) -> Fitted:
    return Fitted(found.x0, found.eps, found.nudge, tokens=tokens)

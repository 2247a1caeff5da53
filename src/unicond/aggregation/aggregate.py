"""AMDM: several models sampled side by side, whose states become one for the first moves.

Each model has a branch of its own in the run (`denoisers.parallel`), and all step in lockstep, from
the first move on or from the window's on (`joining`). After each move of the window their states
y_1 .. y_n at time s are mixed (`mixing`) and the result is pulled back to each model's manifold
(`manifold`):

    x' = mix(y_1, ..., y_n),        x_m = x' - p_m (x' - mu_m) / |x' - mu_m|

No network is called for it. After the window the first model goes on alone: the plan holds the
others (`lockstep`), and what is held is not asked of its model.

Source: AMDM, arXiv:2410.01262, algorithms 1 and 2, eq. 9, 10 and 14. Parity: the released code with
`mix="released"`, `mean="released"`, at batch 1; it takes norms over the batch, we over a sample.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast, get_args

import torch
from torch import Tensor
from typing_extensions import override

from unicond.aggregation.manifold import Past, pulled, released_mean, undone
from unicond.aggregation.manner import DEFAULT, STEP_SIZES, Mean, Mix, check_sizes
from unicond.aggregation.mixing import check_weights, mixed
from unicond.aggregation.placing import able, inside, together
from unicond.sampling.plans import Plan
from unicond.sampling.predictions import Prediction, Predictions
from unicond.sampling.schedules import DiscreteSchedule
from unicond.sampling.solvers import DDIM, SOLVERS
from unicond.sampling.state import Mechanism, Move, Report, Setup, Solver, State
from unicond.sampling.window import Window

REPORT = "aggregate"


@dataclass(frozen=True, kw_only=True)
class Aggregate(Mechanism):
    """Mix the states of several branches after a move, and pull each back to its model's mean.

    No network call, one state a branch of memory (`mean="released"` only), no random draw. It
    reports how much of the mix `mean="posterior"` undoes of the kept picture: all of it where the
    models agree better than the step size is long.

    Args:
        branches: of the models, in the order in which they are mixed; the first one's picture is
            kept.
        weights: in [0, 1], one fewer than branches: of what is mixed so far against the next; at
            1.0 the next gives nothing. Published: 0.5, with an image prompt 0.45.
        mix: how states become one.
        mean: what each is pulled to; None leaves the mixed state to all.
        step_sizes: p of each, for latents of 64 x 64; None is `STEP_SIZES`, and all that there is
            without a mean.
        window: the moves after which states are mixed; those of them after which they cannot be
            are left out, as the released code leaves out move 0.
        eta: of the run's `"ddim"` solver, which tells the mean of its steps.

    Raises:
        ValueError: fewer than two branches, one of them twice, or numbers that do not fit.
    """

    branches: Sequence[str]
    weights: Sequence[float]
    window: Window
    mix: Mix = DEFAULT.mix
    mean: Mean | None = DEFAULT.mean
    step_sizes: Sequence[float] | None = None
    eta: float = 0.0

    def __post_init__(self) -> None:
        if len({*self.branches}) < len(self.branches):
            raise ValueError(f"a branch is aggregated twice: {tuple(self.branches)}")
        check_weights(self.weights, len(self.branches))
        if self.mix not in get_args(Mix):
            raise ValueError(f"mix is {self.mix!r}; choose one of {', '.join(get_args(Mix))}")
        if self.mean is not None and self.mean not in get_args(Mean):
            raise ValueError(
                f"mean is {self.mean!r}; choose one of {', '.join(get_args(Mean))}, or None"
            )
        check_sizes(self.step_sizes, self.mean, len(self.branches))

    @property
    def sizes(self) -> tuple[float, ...]:
        """The step size of each branch."""
        if self.step_sizes is not None:
            return tuple(self.step_sizes)
        return (STEP_SIZES[0], *(STEP_SIZES[1] for _ in self.branches[1:]))

    @override
    def check(self, setup: Setup) -> None:
        """The branches are there, alike, and solver, schedule and moves have what is needed."""
        state = setup.state
        missing = [branch for branch in self.branches if branch not in state.latents]
        if missing:
            raise ValueError(
                f"{missing[0]!r} is to be aggregated, but the branches of this run are "
                f"{', '.join(state.latents)}"
            )
        shapes = {branch: tuple(state.latents[branch].shape) for branch in self.branches}
        if len({*shapes.values()}) > 1:
            raise ValueError(f"models that are aggregated must share their latents, not {shapes}")
        if self.mean == "released" and not isinstance(state.schedule, DiscreteSchedule):
            raise ValueError(
                "mean='released' needs a table of betas, which a flow model has not: use "
                "mean='posterior'"
            )
        if self.mean == "posterior" and (eta := eta_of(setup.solver)) != self.eta:
            raise ValueError(
                f"the solver's steps have eta={eta}, so that their mean is not that of "
                f"eta={self.eta}: give Aggregate(eta=eta_of(solver))"
            )
        numbers = able(setup.moves, self.branches, state.schedule, self.mean)
        if setup.moves and not {*numbers} & {*inside(self.window, setup.moves, self.branches[0])}:
            raise ValueError(
                f"the window {self.window} holds at no move after which states can be aggregated"
                + (
                    ": mean='released' needs a move before, and not from pure noise"
                    if self.mean == "released"
                    else ""
                )
            )

    @override
    def displaces(self, move: Move) -> Collection[str]:
        return self.branches if self._acts(move) else ()

    @override
    def settle(self, state: State, predictions: Predictions, move: Move) -> State:
        """Mix and pull, and remember what the released mean will need."""
        told = {branch: predictions[branch] for branch in self.branches if branch in predictions}
        past = cast(Mapping[str, Past], state.memory.get("aggregate") or {})
        if self.mean == "released":
            now = {b: Past(move.t[b], found.eps) for b, found in told.items()}
            state = state.remember("aggregate", now)
        if not self._acts(move) or not self._is_ready(state, past):
            return state
        whole = mixed([state.latents[branch] for branch in self.branches], self.weights, self.mix)
        latents = dict(state.latents)
        for branch, size in zip(self.branches, self.sizes, strict=True):
            mean = self._mean(branch, state, told[branch], move, past)
            latents[branch] = (
                whole if mean is None else pulled(whole, mean, size, self.mean == "posterior")
            )
            if self.mean == "posterior" and mean is not None and branch == self.branches[0]:
                state = _reported(state, undone(whole, mean, size))
        # a multistep solver's history is of the paths that were left here
        return replace(state, latents=latents).remember("solver", None)

    def _acts(self, move: Move) -> bool:
        return self.window.active(move, self.branches[0]) and together(move, self.branches)

    def _is_ready(self, state: State, past: Mapping[str, Past]) -> bool:
        """Whether the released mean has an earlier prediction, and not from pure noise."""
        if self.mean != "released":
            return True
        return all(b in past and state.schedule.alpha(past[b].t) > 0 for b in self.branches)

    def _mean(
        self,
        branch: str,
        state: State,
        told: Prediction,
        move: Move,
        past: Mapping[str, Past],
    ) -> Tensor | None:
        """What this branch is pulled to."""
        if self.mean is None:
            return None
        schedule, t, s = state.schedule, move.t[branch], move.s[branch]
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        if self.mean == "released":
            return released_mean(alpha * told.x0 + sigma * told.eps, past[branch], schedule)
        if self.eta == 0:
            return state.latents[branch]
        to_alpha, to_sigma = schedule.alpha(s), schedule.sigma(s)
        tau = self.eta**2 * (1 - (alpha * to_sigma / (to_alpha * sigma)) ** 2)
        mean = to_alpha * told.x0 + to_sigma * math.sqrt(1 - tau) * told.eps
        return mean if told.nudge is None else mean + told.nudge


def _reported(state: State, share: Tensor) -> State:
    """Say how much of the mix was undone, at the move where that is least."""
    before = state.reports.get(REPORT)
    least = share if before is None else torch.minimum(before.value, share)
    advice = (
        "the models agree better than the step size is long, so that the first one's picture is "
        "as if it were alone: give smaller step sizes, mean=None, or start='own'"
    )
    return state.report(REPORT, Report(least, 0.999, "share of the mix that is undone", advice))


def eta_of(solver: Solver) -> float:
    """The noise scale of a solver's steps, which `Aggregate` needs for their mean.

    Args:
        solver: of the run.

    Returns:
        0.0 for all that take no noise.

    Raises:
        ValueError: a solver of the caller's own, of whose steps nothing is known.
    """
    if isinstance(solver, DDIM):
        return solver.eta
    if solver in SOLVERS.values():
        return 0.0
    raise ValueError(
        f"aggregation needs the mean of each step, which is not known of {type(solver).__name__}: "
        f"choose a solver by name, one of {', '.join(SOLVERS)}"
    )


def lockstep(
    plans: Sequence[Plan], branches: Sequence[str], window: Window, joined: bool = False
) -> Plan:
    """One plan of several models' plans: all go together until the window has passed.

    Args:
        plans: one a model, the first one's first, with branches of different names.
        branches: the one of each that is aggregated.
        window: after its last move all but the first plan hold.
        joined: before its first move, too: there they wait for the first one.

    Returns:
        As many moves as the first plan has.

    Raises:
        ValueError: the plans differ in length or in the times of what is aggregated, no move is in
            the window, it ends beyond the plan, or a model that joins moves more than its image.
    """
    first, count = plans[0], len(plans[0])
    ways = [
        [(move.t[b], move.s[b]) for move in plan] for plan, b in zip(plans, branches, strict=True)
    ]
    for branch, way in zip(branches, ways, strict=True):
        if way != ways[0]:
            raise ValueError(
                f"models that are aggregated step together, but {branch!r} takes {len(way)} moves "
                f"from t={way[0][0]:g}, {branches[0]!r} {count} from t={ways[0][0][0]:g}, or at "
                "other times: give all the same steps, plan, spacing and noise on what is given"
            )
    numbers = inside(window, first, branches[0])
    begin, end = numbers[0] if joined else 0, numbers[-1]
    for plan, branch in zip(plans[1:], branches[1:], strict=True):
        _check_waits(plan[: begin + 1], branch)
    moves: list[Move] = []
    for number, move in enumerate(first):
        t, s = dict(move.t), dict(move.s)
        for plan in plans[1:]:
            if begin <= number <= end:
                t, s = t | dict(plan[number].t), s | dict(plan[number].s)
            else:
                there = dict(plan[begin].t if number < begin else plan[end].s)
                t, s = t | there, s | there
        moves.append(replace(move, t=t, s=s))
    return moves


def _check_waits(plan: Plan, branch: str) -> None:
    """Refuse a model that has more to do than its image before it joins."""
    for move in plan[:-1]:
        if busy := sorted({*move.moving()} - {branch}):
            raise ValueError(
                f"a model joins the first one with the first one's image, but this one moves "
                f"{busy[0]!r} before: give start='own' (joined=False)"
            )

"""Inversion as one calls it: the plan, the solver and the mechanisms of a method by its name.

    edit = plan_edit("direct", schedule.times(50))
    state = edit.state(picture, schedule, Generators([0], edit.branches))
    mechanisms = [*edit.mechanisms, *attention, *edit.inner, ClassifierFree(7.5)]
    for progress in run(state, denoiser, edit.plan, edit.solver, mechanisms): ...

with {"positive": {"source": ..., "target": ...}, "negative": {...}} as the denoiser's prompts.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from torch import Tensor

from unicond.mechanisms.inversion.ddim import DDIMInversion
from unicond.mechanisms.inversion.direct import Direct
from unicond.mechanisms.inversion.edict import EDICT
from unicond.mechanisms.inversion.edit_friendly import EditFriendly
from unicond.mechanisms.inversion.fixed_point import FixedPoint
from unicond.mechanisms.inversion.negative_prompt import NegativePrompt
from unicond.mechanisms.inversion.null_text import NullText
from unicond.mechanisms.inversion.paths import jump_and_down, latest, up_and_down
from unicond.mechanisms.inversion.sdedit import sdedit
from unicond.sampling.noise import NoiseSource
from unicond.sampling.schedules import NoiseSchedule
from unicond.sampling.solvers import DDIM
from unicond.sampling.state import Mechanism, Move, Solver, State

Method = Literal[
    "sdedit",
    "ddim",
    "fixed_point",
    "null_text",
    "negative_prompt",
    "direct",
    "edit_friendly",
    "edict",
]
_FIRST_ORDER = ("fixed_point", "null_text", "edit_friendly")


@dataclass(frozen=True, eq=False)
class Edit:
    """What one call of `run` needs.

    Args:
        branches: those that start as the given picture, the source first.
        plan: the moves; empty at strength 0.0.
        solver: the one asked for, or the method's own.
        mechanisms: the method's, to go before attention and guidance.
        inner: the method's, to go between attention and guidance.
        hold: {branch: time that it stays at}.
    """

    branches: tuple[str, ...]
    plan: Sequence[Move]
    solver: Solver
    mechanisms: tuple[Mechanism, ...]
    inner: tuple[Mechanism, ...] = ()
    hold: Mapping[str, float] = field(default_factory=dict[str, float])

    def state(
        self,
        picture: Tensor,
        schedule: NoiseSchedule,
        noise: NoiseSource,
        held: Mapping[str, Tensor] | None = None,
    ) -> State:
        """The state that the plan starts from.

        Args:
            picture: (B, C, H, W), clean latents.
            schedule: the model's.
            noise: with streams for these branches.
            held: {branch: latents at its time of `hold`}.

        Returns:
            The picture in every branch of the edit, at t = 0.

        Raises:
            ValueError: the held branches are not those of the plan.
        """
        held = held or {}
        if set(held) != set(self.hold):
            raise ValueError(
                f"the plan holds {sorted(self.hold)}, but the latents of {sorted(held)} were given"
            )
        latents = {**dict.fromkeys(self.branches, picture), **held}
        return State(latents, {**dict.fromkeys(self.branches, 0.0), **self.hold}, schedule, noise)


def plan_edit(
    method: Method,
    times: Sequence[float],
    *,
    strength: float = 1.0,
    source: str = "source",
    target: str = "target",
    hold: Mapping[str, float] | None = None,
    solver: Solver | None = None,
) -> Edit:
    """The run of an inversion method and of the edit that follows it.

    Args:
        method: by name.
        times: descending times, as `schedule.times(n)` gives them.
        strength: share of the times that is used, in [0, 1], counted from the clean end; usually
            0.3 to 0.8 for SDEdit and EDICT, 0.64 for edit-friendly inversion, 1.0 for the others.
        source: the branch that goes along as the given picture; SDEdit has none.
        target: the branch that is edited.
        hold: {branch: time that it stays at}, conditions.
        solver: default `DDIM(eta=0)`; EDICT brings its own.

    Returns:
        Plan, solver and mechanisms.

    Raises:
        ValueError: an unknown method, a strength out of range, or a solver that the method cannot
            go up with.
    """
    if method not in get_args(Method):
        raise ValueError(f"no inversion {method!r}; there are {', '.join(get_args(Method))}")
    _check(method, solver)
    both, used = (source, target), latest(times, strength)
    if method == "sdedit":
        plan = sdedit(times, strength, target, hold)
        return Edit((target,), plan, solver or DDIM(), (), hold=hold or {})
    plan = (jump_and_down if method == "edit_friendly" else up_and_down)(used, both, hold)
    own = EDICT() if method == "edict" else DDIM()
    inner = (NullText(source=source, target=target),) if method == "null_text" else ()
    mechanisms = _MECHANISMS[method](source, target)
    return Edit(both, plan, solver or own, mechanisms, inner, hold or {})


_MECHANISMS: Mapping[str, Callable[[str, str], tuple[Mechanism, ...]]] = {
    "ddim": lambda s, t: (DDIMInversion(source=s, target=t),),
    "fixed_point": lambda s, t: (FixedPoint(source=s, target=t),),
    "null_text": lambda s, t: (DDIMInversion(source=s, target=t),),
    "negative_prompt": lambda s, t: (
        DDIMInversion(source=s, target=t),
        NegativePrompt(source=s, target=t),
    ),
    "direct": lambda s, t: (DDIMInversion(source=s, target=t), Direct(source=s)),
    "edit_friendly": lambda s, t: (EditFriendly(source=s, target=t),),
    "edict": lambda s, t: (DDIMInversion(source=s, target=t, guided=True),),
}


def _check(method: str, solver: Solver | None) -> None:
    """Refuse what cannot be inverted before anything runs."""
    if solver is None or method == "sdedit":
        return
    if method == "edict":
        if not isinstance(solver, EDICT):
            raise ValueError(f"EDICT is a solver of its own, it cannot use {solver}; leave it out")
        return
    if isinstance(solver, DDIM) and solver.eta > 0:
        raise ValueError(
            f"{method!r} inverts a deterministic solver, and eta={solver.eta} draws noise; use "
            "eta=0"
        )
    if isinstance(solver, EDICT) or (method in _FIRST_ORDER and not isinstance(solver, DDIM)):
        raise ValueError(f"{method!r} needs the 'ddim' solver with eta=0, not {solver}")

"""From a request to a start state and a plan: the two ways to walk, ours and the published one.

Ours holds a clean branch exactly at t = 0 and ends clean. `"released"` is UniCon's published
pipeline, which counts the last model index as clean (see `sampling.released`).
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from unicond.backbones.base import Backbone
from unicond.calls.inputs import Inputs
from unicond.calls.record import Record
from unicond.calls.request import Given
from unicond.mechanisms.correction.replacement import Replacement
from unicond.mechanisms.guidance.reconstruction import Reconstruction, Target
from unicond.pictures.masks import KNOWN
from unicond.sampling import named_plans, plans, released
from unicond.sampling.noise import Generators, apart
from unicond.sampling.plans import Plan
from unicond.sampling.schedules import DiscreteSchedule, FlowSchedule
from unicond.sampling.state import Latents, Mechanism, State
from unicond.sampling.window import ALWAYS

APART = 1000  # streams between two members of an ensemble: more than a run has branches


@dataclass(frozen=True)
class Walk:
    """A plan, and what the published setting changes beside it.

    Args:
        plan: the moves.
        pure: standard deviation of a branch that starts at pure noise.
        levels: {t: level} of masked parts; None takes the move's own.
        part_way: branches that the caller's own moves start between clean and noise.
    """

    plan: Plan
    pure: float = 1.0
    levels: Mapping[float, float] | None = None
    part_way: frozenset[str] = frozenset()


def walk(
    schedule: DiscreteSchedule | FlowSchedule,
    record: Record,
    conditions: Mapping[str, Given],
    moves: Plan | None = None,
) -> Walk:
    """The walk of a request.

    Args:
        schedule: of the base.
        record: what was asked.
        conditions: {branch: how it is given}.
        moves: the caller's own, checked by `on_plan`.

    Returns:
        The plan, and what goes with it.

    Raises:
        ValueError: nothing is left to generate, or the published setting on a flow model or with a
            solver that it has not.
    """
    starts = {b: conditions[b].start if b in conditions else 1.0 for b in record.branches}
    hold = [branch for branch, known in conditions.items() if known.hold]
    if record.sampling == "unicond":
        if moves is not None:
            between = [b for b in record.branches if _is_part_way(schedule, moves, b)]
            return Walk(moves, part_way=frozenset(between))
        times = schedule.times(record.num_inference_steps, record.spacing)
        if record.plan is None:
            return Walk(plans.descend(times, starts, hold))
        return Walk(named_plans.follow(named_plans.parse(record.plan), times, starts, hold))
    for what, asked in (("plan", record.plan), ("spacing", record.spacing)):
        if asked is not None:
            raise ValueError(
                f"sampling 'released' walks as the published pipeline does, not by {what} "
                f"{asked!r}: drop one of them"
            )
    if not isinstance(schedule, DiscreteSchedule):
        raise ValueError(
            "sampling 'released' is defined for models of discrete steps, not for flow"
        )
    released.check_solver(record.solver)
    times = released.times_of(schedule, record.solver, record.num_inference_steps)
    spans = [(1 - r, 1 - r if branch in hold else 1.0) for branch, r in starts.items()]
    rows = released.parse([spans], record.num_inference_steps)
    plan = released.plan(rows, record.branches, times, released.end_of(schedule, record.solver))
    pure = schedule.sigma(times[0]) if record.solver.startswith("euler") else 1.0
    return Walk(plan, pure, released.levels(times))


def starts(
    walk: Walk,
    backbone: Backbone,
    record: Record,
    conditions: Mapping[str, Given],
    clean: Latents,
) -> tuple[list[State], Latents]:
    """The state at the plan's beginning, and the unit noise that each branch was made of.

    Pure noise for what is generated, `alpha x0 + sigma z` for what is given up to a level, the
    clean latents themselves at t = 0 (no noise is drawn there).

    Args:
        walk: where each branch begins.
        backbone: of the model.
        record: what was asked.
        conditions: {branch: how it is given}.
        clean: {branch: latents of its picture}.

    Returns:
        A state for each member of the ensemble, and the noise of the first. Each has noise of its
        own, but for what is held, which is the first's and runs once.
    """
    first, noise = _start(walk, backbone, record, conditions, clean)
    held = {branch: first.latents[branch] for branch in plans.held(walk.plan)}
    others = [
        _start(walk, backbone, record, conditions, clean, member)[0]
        for member in range(1, record.ensemble_size)
    ]
    return [first, *(replace(one, latents={**one.latents, **held}) for one in others)], noise


def _start(
    walk: Walk,
    backbone: Backbone,
    record: Record,
    conditions: Mapping[str, Given],
    clean: Latents,
    member: int = 0,
) -> tuple[State, Latents]:
    """A start, and its noise."""
    times = dict(walk.plan[0].t)
    source = Generators([apart(seed, APART * member) for seed in record.seeds], record.branches)
    shape = (len(record.seeds), *backbone.latent_shape(record.size))
    like = torch.zeros(shape, device=backbone.device)
    latents, noise = dict[str, Tensor](), dict[str, Tensor]()
    for branch, t in times.items():
        if t == 0:
            latents[branch] = clean[branch]
            continue
        z = noise[branch] = source.draw(branch, like)
        noise_alone = branch not in conditions or conditions[branch].start == 1
        if noise_alone and not (branch in walk.part_way and branch in clean):
            latents[branch] = walk.pure * z
        else:
            alpha, sigma = backbone.schedule.alpha(t), backbone.schedule.sigma(t)
            latents[branch] = alpha * clean[branch] + sigma * z
    return State(latents, times, backbone.schedule, source), noise


def replacements(walk: Walk, inputs: Inputs, clean: Latents, noise: Latents) -> list[Mechanism]:
    """A replacement for every branch that is known in part; the published one keeps its noise."""
    return [
        Replacement(
            branch,
            clean[branch],
            mask,
            until=inputs.given[branch].level,
            noise=noise[branch] if walk.levels is not None else None,
            levels=walk.levels,
        )
        for branch, mask in inputs.masks.items()
        if not inputs.given[branch].guide
    ]


def guides(record: Record, inputs: Inputs, clean: Latents) -> list[Mechanism]:
    """Reconstruction guidance towards what is known in part, or wholly but only as a guide.

    Args:
        record: what was asked.
        inputs: pictures and masks.
        clean: {branch: latents of its picture}.

    Returns:
        One mechanism, or none where all weights are 0.

    Raises:
        ValueError: a mask that knows nothing: no value at the latents' size is at least 0.5; or a
            window of guidance where nothing is known in part.
    """
    if record.reconstruction_window != ALWAYS and not record.reconstruction_weight:
        raise ValueError(
            "reconstruction_window says when reconstruction guidance acts, but nothing is known in "
            "part: give a picture with a mask, or with guide=True, or drop it"
        )
    if not any(record.reconstruction_weight.values()):
        return []
    targets: list[Target] = []
    for branch, weight in record.reconstruction_weight.items():
        mask, known = inputs.masks.get(branch), inputs.given[branch]
        if mask is not None and weight > 0 and mask.amax() < KNOWN:
            raise ValueError(
                f"the mask of {branch!r} is nowhere above {float(mask.amax()):.2f} at the latents' "
                f"size, so that nothing is known that could guide: draw it whiter (known is from "
                f"{KNOWN}), or give a threshold"
            )
        targets.append(
            Target(
                branch=branch,
                known=clean[branch],
                mask=mask,
                weight=weight,
                replaced=not known.guide,
                until=known.level,
            )
        )
    return [Reconstruction(targets, record.reconstruction_optimizer, record.reconstruction_window)]


def on_plan(
    asked: str | Plan | None,
    conditions: Mapping[str, Given],
    branches: Sequence[str],
    schedule: DiscreteSchedule | FlowSchedule,
    mechanisms: Sequence[Mechanism] = (),
) -> tuple[dict[str, Given], frozenset[str]]:
    """What is given, as a plan wants it.

    Args:
        asked: a plan by name, moves, or None.
        conditions: {branch: how it is given}.
        branches: of the run.
        schedule: of the base.
        mechanisms: the caller's own.

    Returns:
        The conditions, and the branches that moves of the caller's own move.

    Raises:
        ValueError: the plan does not fit what is given.
    """
    if asked is None:
        return dict(conditions), frozenset()
    if isinstance(asked, str):
        return _on_named(asked, conditions, branches), frozenset()
    begun = {branch for one in mechanisms for branch in one.starts}
    return dict(conditions), _own_moves(asked, conditions, branches, schedule, begun)


def _on_named(
    name: str, conditions: Mapping[str, Given], branches: Sequence[str]
) -> dict[str, Given]:
    """What is given, noised to where a named plan starts it.

    Args:
        name: of the plan.
        conditions: {branch: how it is given}.
        branches: of the run.

    Returns:
        The conditions; `coarse(r)`, or points that start below 1, set the noise of those whose own
        is not set.

    Raises:
        ValueError: no such plan; it starts a branch below 1 that is not given, or is given with
            another noise, a mask or a guide; or nothing is left to move along one of its axes.
    """
    found = dict(conditions)
    plan = named_plans.parse(name)
    for branch in branches:
        start, known = plan.start[0 if branch == "image" else 1], conditions.get(branch)
        if start == 1:
            continue
        if known is None:
            raise ValueError(
                f"plan {name!r} starts {branch!r} at {start:g}, but it is not given: give a "
                "picture of it, or start at 1"
            )
        if known.start == 1 or known.hold or known.noise not in (None, start):
            raise ValueError(
                f"plan {name!r} starts {branch!r} at {start:g}, but it is given with a mask, a "
                "guide, hold or another noise: drop one of them"
            )
        found[branch] = replace(known, noise=start)
    for axis, names in (("image", ["image"]), ("condition", [b for b in branches if b != "image"])):
        start = plan.start[0 if axis == "image" else 1]
        moving = [b for b in names if b in branches and not (b in found and found[b].fixed)]
        if start > 0 and not moving:
            raise ValueError(
                f"plan {name!r} moves image and condition, but no {axis} of this run moves: leave "
                "out what is given whole, or give it with a mask or noise; a plan needs an adapter"
            )
    return found


def _own_moves(
    moves: Plan,
    conditions: Mapping[str, Given],
    branches: Sequence[str],
    schedule: DiscreteSchedule | FlowSchedule,
    begun: Collection[str],
) -> frozenset[str]:
    """Check moves that the caller brings.

    Args:
        moves: of every branch, continuous; given pictures are noised to where they start,
            what is not given starts as noise.
        conditions: {branch: how it is given}.
        branches: of the run.
        schedule: of the base.
        begun: branches that a mechanism starts part-way by itself.

    Returns:
        The branches that they move.

    Raises:
        ValueError: no moves, other branches than the run's, a jump, or a start below noise of a
            branch of which no picture is given.
    """
    if not moves:
        raise ValueError("the plan has no move: nothing would be done; give at least one")
    if set(moves[0].t) != set(branches):
        raise ValueError(
            f"the plan moves {', '.join(moves[0].t)}, but the branches of this run are "
            f"{', '.join(branches)}: name every one in each move, and leave out adapters' branches "
            "with branches=[...]"
        )
    plans.check(moves)
    for branch, t in moves[0].t.items():
        part_way = branch not in begun and _is_part_way(schedule, moves, branch)
        if branch not in conditions and (t == 0 or part_way):
            where = "clean" if t == 0 else f"at t={t:g}"
            raise ValueError(
                f"the plan starts {branch!r} {where}, but no picture of it is given: give one, or "
                "start it as noise (at 1, or at the first time of as many steps)"
            )
    return frozenset(branches) - plans.held(moves)


def _is_part_way(schedule: DiscreteSchedule | FlowSchedule, moves: Plan, branch: str) -> bool:
    """Whether moves start a branch between clean and where a run of as many steps has noise."""
    start = moves[0].t[branch]
    steps = len({move.t[branch] for move in moves if move.falls(branch)})
    if isinstance(schedule, DiscreteSchedule):
        steps = min(steps, len(schedule.alphas_cumprod))
    if not steps:
        return 0 < start < 1
    # the only time of a single step of "leading" spacing is next to clean: noise there, and nowhere
    # between it and the first of two
    return 0 < start < schedule.times(max(steps, 2))[0] and start != schedule.times(steps)[0]

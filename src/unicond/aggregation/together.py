"""Several prepared calls as one run: the first one's picture, with what the others know.

    one = model.prepare("a red ball on grass", depth=depth)
    two = other.prepare("a red ball on grass")
    out = unicond.aggregate([one, two], weights=[0.5])

Every model keeps its own prompt, conditions, guidance and mechanisms, and its network's kind of
prediction. They share the latents, the noise schedule, the solver and the steps: where a base's
scheduler would space its steps otherwise, it takes the first one's times.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Literal, TypeVar

import torch
from torch import nn

from unicond.adapters.attach import attached
from unicond.adapters.during import Attached
from unicond.adapters.joint import JointAdapter
from unicond.aggregation.aggregate import Aggregate, eta_of, lockstep
from unicond.aggregation.joining import Joined
from unicond.aggregation.manner import Manner, MannerName, Mean, Mix, Place, Start, manner_of
from unicond.aggregation.mixing import check_weights, even_weights
from unicond.aggregation.placing import moves_of, placed, retimed
from unicond.aggregation.sameness import ask_the_same
from unicond.calls.companions import check_companion
from unicond.calls.groundings import in_vain
from unicond.calls.output import Output
from unicond.calls.prepared import Prepared
from unicond.denoisers.converted import Converted
from unicond.denoisers.parallel import Member, MemberNoise, Parallel, Restored
from unicond.sampling.loop import run
from unicond.sampling.plans import Plan
from unicond.sampling.schedules import FlowSchedule
from unicond.sampling.state import Mechanism, State, numbered
from unicond.sampling.window import Window

IMAGE = "image"
Each = TypeVar("Each")


def aggregate(
    calls: Sequence[Prepared],
    weights: Sequence[float] | None = None,
    *,
    first: int = 0,
    manner: Manner | MannerName = "default",
    mix: Mix | None = None,
    mean: Mean | Literal["none"] | None = None,
    step_sizes: Sequence[float] | None = None,
    window: Window | Place | None = None,
    joined: bool | None = None,
) -> Output:
    """Run several prepared calls side by side, and aggregate their images' states.

    What is None is as the manner has it.

    Args:
        calls: what `Model.prepare` made, in the order in which they are mixed. Equal seeds start
            from the same noise; the paper's models each have their own, and need other seeds.
        weights: of all calls but the first, see `Aggregate`; where the manner has none,
            `mixing.even_weights`, 0.2 of two models.
        first: which call's picture is wanted, counted from 0; it is mixed before the others.
        manner: `"default"`, or `"paper"`, as published with so many models.
        mix: how states become one.
        mean: what each is pulled to; `"none"` leaves the mixed state to all.
        step_sizes: how far each is pulled to its mean, the first one first, for latents of 64 x 64.
        window: the moves after which states are mixed, or their place; after the last one the first
            goes on alone.
        joined: all but the first wait until the window begins, and join from the first one's state.

    Returns:
        The first call's output; of the others, what their mechanisms report, as `2:dps`. Its record
        is the first call's, and names `Aggregate`: it holds too little to be run again.

    Raises:
        ValueError: the calls do not go together; raised before a network runs.
        Cancelled: a call's callback returned False.
    """
    told = manner
    if not isinstance(told, Manner):
        told = manner_of(told, len(calls), any(call.record.image_prompt for call in calls))
    told = told.but(mix=mix, mean=mean, weights=weights, step_sizes=step_sizes)
    weights = even_weights(len(calls)) if told.weights is None else told.weights
    check_weights(weights, len(calls))
    if not 0 <= first < len(calls):
        raise ValueError(
            f"first is {first}, but there are {len(calls)} calls: count from 0 to {len(calls) - 1}"
        )
    joined = told.start == "joined" if joined is None else joined
    _check(calls, calls[first])
    if not joined:
        _check_seeds(calls, told.start)
    if joined and told.mean == "released":
        raise ValueError(
            "mean='released' reuses what each model predicted before, but a model that joins has "
            "predicted nothing: give start='own' (joined=False), or another mean"
        )
    members = _in_front(_members(calls, first), first)
    calls = _in_front(calls, first)
    window = _placed(calls[0], moves_of(told.window) if window is None else window, told.mean)
    branches = [member.named(IMAGE) for member in members]
    whole = Aggregate(
        branches=branches,
        weights=weights,
        mix=told.mix,
        mean=told.mean,
        step_sizes=told.step_sizes,
        window=window,
        eta=eta_of(calls[0].solver) if told.mean == "posterior" else 0.0,
    )
    joins = Joined(members=members, branch=IMAGE, number=int(window.from_t))
    plan = lockstep(_moves(calls, members), branches, window, joined)
    _check_acts(calls, members, plan)
    said = [one for call in calls for one in call.record.grounding]
    told_to = [method for call in calls if call.record.grounding for method in call.methods]
    if lost := in_vain(said, told_to):
        warnings.warn(lost, stacklevel=2)
    return _ran(calls, members, plan, whole, [joins] if joined else [])


def _in_front(values: Sequence[Each], number: int) -> list[Each]:
    """The same values, one of them before the others."""
    return [*values[number : number + 1], *values[:number], *values[number + 1 :]]


def _members(calls: Sequence[Prepared], first: int) -> list[Member]:
    """Each call as a part of one run; its network is told its own kind of prediction."""
    return [
        Member(
            "" if n == first else str(n + 1),
            Converted(call.denoiser.fresh(), call.state.schedule),
            call.record.branches,
            call.state.noise,
            call.mechanisms,
        )
        for n, call in enumerate(calls)
    ]


def _moves(calls: Sequence[Prepared], members: Sequence[Member]) -> list[Plan]:
    """Each call's moves by the run's names, all at the first one's times where that can be."""
    first, found = calls[0], list[Plan]()
    way = [move.t[IMAGE] for move in first.plan]
    for member, call in zip(members, calls, strict=True):
        plan = call.plan
        if len(plan) == len(way) and [move.t[IMAGE] for move in plan] != way:
            if not (_is_own_way(first) and _is_own_way(call)):
                raise ValueError(
                    f"models that are aggregated step together, but model {member.name} begins at "
                    f"t={plan[0].t[IMAGE]:g} ({_spaced(call)}), the first one at "
                    f"t={first.plan[0].t[IMAGE]:g} ({_spaced(first)}): give all the same plan, "
                    "spacing and noise on what is given"
                )
            plan = retimed(plan, first.plan, IMAGE)
        found.append([member.move_back(move) for move in plan])
    return found


def _is_own_way(call: Prepared) -> bool:
    """Whether the image goes from noise to clean as its base's scheduler spaces the steps."""
    if call.record.sampling != "unicond" or call.record.spacing is not None:
        return False
    times = call.backbone.schedule.times(len(call.plan))
    return [move.t[IMAGE] for move in call.plan] == [*times]


def _spaced(call: Prepared) -> str:
    """How a call walks, and how its steps are spaced, in words."""
    schedule, asked = call.backbone.schedule, call.record.spacing
    way = f"plan {call.record.plan or 'joint'!r}, spacing"
    if isinstance(schedule, FlowSchedule):
        return f"{way} {asked or 'trailing'!r}, shift {schedule.shift:g}"
    return f"{way} {asked or schedule.spacing!r}, offset {schedule.steps_offset}"


def _placed(first: Prepared, asked: Window | Place, mean: Mean | None) -> Window:
    """The moves of the first call that a window means."""
    numel, schedule = first.state.latents[IMAGE][0].numel(), first.state.schedule
    return placed(asked, first.plan, IMAGE, schedule, numel, mean)


def _ran(
    calls: Sequence[Prepared],
    members: Sequence[Member],
    plan: Plan,
    whole: Aggregate,
    joining: Sequence[Mechanism],
) -> Output:
    """The first call's output of all that step along one plan, with what was given to each."""
    first, parallel = calls[0], Parallel(members, restore=False)
    mechanisms = [parallel, whole, Restored(members), *joining]
    state = _start(members, calls, plan)
    with torch.no_grad(), _attached(calls, members):
        for progress in run(state, parallel, plan, first.solver, mechanisms):
            state = progress.state
            for call in calls:
                call.tell(progress)
    out = first.output(members[0].alone(state))
    reports = {
        member.named(who): said
        for member in members
        for who, said in member.alone(state).reports.items()
    }
    given = {
        f"{branch}_{member.name}" if member.name else branch: pictures
        for member, call in zip(members, calls, strict=True)
        for branch, pictures in call.inputs.pictures.items()
    }
    record = replace(out.record, mechanisms=(*out.record.mechanisms, type(whole).__name__))
    return replace(out, record=record, reports={**reports, **state.reports}, given=given)


def _start(members: Sequence[Member], calls: Sequence[Prepared], plan: Plan) -> State:
    """All calls' starts as one; who waits is at the time at which it joins."""
    schedule = calls[0].state.schedule
    start = State({}, {}, schedule, MemberNoise(members))
    for member, call in zip(members, calls, strict=True):
        start = member.back(replace(call.state, memory={}), start)
    return start.at(start.latents, plan[0].t)


def _check(calls: Sequence[Prepared], first: Prepared) -> None:
    """Refuse calls that cannot step together, or would say the same thing twice."""
    for number, call in enumerate(calls, start=1):
        call.check_told(f"model {number}")
        if IMAGE not in call.record.generated:
            raise ValueError(
                f"model {number} is to make {', '.join(call.record.generated)}, but what is "
                "aggregated is the image: let every call generate it"
            )
        check_companion(first.backbone, call.backbone, first.record.size)
        for what, ours, theirs in (
            ("size", first.record.size, call.record.size),
            ("solver", first.record.solver, call.record.solver),
            ("solver", first.solver, call.solver),
        ):
            if ours != theirs:
                raise ValueError(
                    f"models that are aggregated share their {what}, but the first one's is "
                    f"{ours}, model {number}'s {theirs}: give all the same"
                )
        if len(call.record.seeds) != len(first.record.seeds):
            raise ValueError(
                f"model {number} makes {len(call.record.seeds)} samples, the first one "
                f"{len(first.record.seeds)}: give all the same count"
            )
        for before, other in enumerate(calls[: number - 1], start=1):
            if ask_the_same(call, other):
                raise ValueError(
                    f"models {before} and {number} are one model asked the same thing: "
                    "aggregating them changes nothing; give one another prompt or condition"
                )


def _check_seeds(calls: Sequence[Prepared], start: Start) -> None:
    """Refuse calls whose seeds are not those of a manner's start."""
    for number, call in enumerate(calls, start=1):
        for before, other in enumerate(calls[: number - 1], start=1):
            pairs = zip(call.record.seeds, other.record.seeds, strict=True)
            same = [mine == theirs for mine, theirs in pairs]
            if (start == "own" and any(same)) or (start == "shared" and not all(same)):
                said = "other seeds" if start == "own" else "the same seeds"
                raise ValueError(
                    f"in this manner (start={start!r}) all models need {said}, but those of model "
                    f"{before} are {other.record.seeds}, of model {number} {call.record.seeds}: "
                    "prepare the calls with such seeds (seed=), or give a Manner with another start"
                )


def _check_acts(calls: Sequence[Prepared], members: Sequence[Member], plan: Plan) -> None:
    """Refuse a model whose adapter acts in none of the moves in which it is asked."""
    for call, member in zip(calls[1:], members[1:], strict=True):
        moves = [member.move(move) for move in numbered(plan) if move.kind == "step"]
        asked = [move for move in moves if move.moving()]
        for mechanism in call.mechanisms:
            if isinstance(mechanism, Attached) and not any(
                mechanism.attachment.acts(move) for move in asked
            ):
                raise ValueError(
                    f"model {member.name} is asked in the moves {asked[0].number} to "
                    f"{asked[-1].number}, but its adapter acts in none of them: let it "
                    "(Grounding's migc_steps or beta, ImagePrompt's window), or aggregate at other "
                    "moves"
                )


@contextmanager
def _attached(calls: Sequence[Prepared], members: Sequence[Member]) -> Iterator[None]:
    """Every network with the adapters of all calls on it."""
    networks: dict[int, tuple[nn.Module, dict[str, JointAdapter]]] = {}
    for member, call in zip(members, calls, strict=True):
        network = call.backbone.network
        _, adapters = networks.setdefault(id(network), (network, {}))
        for name, adapter in call.adapters.items():
            if adapters.setdefault(name, adapter) is not adapter:
                raise ValueError(
                    f"model {member.name} brings another adapter {name!r} to a network that has "
                    "one of that name: load it under another branch's name"
                )
    with ExitStack() as stack:
        for network, adapters in networks.values():
            stack.enter_context(attached(network, adapters))
        yield

"""Several prepared calls as one run: the first one's picture, with what the others know.

    one = model.prepare("a red ball on grass", depth=depth)
    two = other.prepare("a red ball on grass")
    out = unicond.aggregate([one, two], weights=[0.5])

Every model keeps its own prompt, conditions, guidance and mechanisms, and its network's kind of
prediction. They share the latents, the noise schedule, the solver and the steps.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import torch
from torch import nn

from unicond.adapters.attach import attached
from unicond.adapters.during import Attached
from unicond.adapters.joint import JointAdapter
from unicond.aggregation.aggregate import Aggregate, eta_of, lockstep
from unicond.aggregation.joining import Joined
from unicond.aggregation.manner import DEFAULT, Mean, Mix, Place
from unicond.aggregation.mixing import check_weights, even_weights
from unicond.aggregation.placing import moves_of, placed
from unicond.calls.companions import check_companion
from unicond.calls.output import Output
from unicond.calls.prepared import Prepared
from unicond.denoisers.converted import Converted
from unicond.denoisers.parallel import Member, MemberNoise, Parallel
from unicond.sampling.loop import run
from unicond.sampling.plans import Plan
from unicond.sampling.state import Mechanism, State
from unicond.sampling.window import Window

IMAGE = "image"
USUAL = moves_of(DEFAULT.window)


def aggregate(
    calls: Sequence[Prepared],
    weights: Sequence[float] | None = None,
    *,
    mix: Mix = DEFAULT.mix,
    mean: Mean | None = DEFAULT.mean,
    step_sizes: Sequence[float] | None = DEFAULT.step_sizes,
    window: Window | Place = USUAL,
    joined: bool = DEFAULT.start == "joined",
) -> Output:
    """Run several prepared calls side by side, and aggregate their images' states.

    Args:
        calls: what `Model.prepare` made, the one whose picture is wanted first. Equal seeds start
            from the same noise; the paper's models each have their own.
        weights: see `Aggregate`; None is `mixing.even_weights`, 0.5 of two models.
        mix: how states become one.
        mean: what each is pulled to; None leaves the mixed state to all.
        step_sizes: how far, for latents of 64 x 64; None is as published.
        window: the moves after which states are mixed, or their place; after the last one the first
            goes on alone.
        joined: all but the first wait until the window begins, and join from the first one's state.

    Returns:
        The first call's output.

    Raises:
        ValueError: the calls do not go together; raised before a network runs.
        Cancelled: a call's callback returned False.
    """
    weights = even_weights(len(calls)) if weights is None else weights
    check_weights(weights, len(calls))
    _check(calls)
    if joined and mean == "released":
        raise ValueError(
            "mean='released' reuses what each model predicted before, but a model that joins has "
            "predicted nothing: give start='own' (joined=False), or another mean"
        )
    members = _members(calls)
    branches = [member.named(IMAGE) for member in members]
    first = calls[0]
    numel, schedule = first.state.latents[IMAGE][0].numel(), first.state.schedule
    window = placed(window, first.plan, IMAGE, schedule, numel, mean)
    plans = [
        [member.move_back(move) for move in call.plan]
        for member, call in zip(members, calls, strict=True)
    ]
    whole = Aggregate(
        branches=branches,
        weights=weights,
        mix=mix,
        mean=mean,
        step_sizes=step_sizes,
        window=window,
        eta=eta_of(first.solver),
    )
    joining = [Joined(branches=branches, number=int(window.from_t))] if joined else []
    plan = lockstep(plans, branches, window, joined)
    _check_acts(calls, range(int(window.from_t) if joined else 0, int(window.to_t)))
    return _ran(calls, members, plan, [*joining, whole])


def _members(calls: Sequence[Prepared]) -> list[Member]:
    """Each call as a part of one run; its network is told its own kind of prediction."""
    return [
        Member(
            "" if n == 0 else str(n + 1),
            Converted(call.denoiser.fresh(), call.state.schedule),
            call.record.branches,
            call.state.noise,
            call.mechanisms,
        )
        for n, call in enumerate(calls)
    ]


def _ran(
    calls: Sequence[Prepared], members: Sequence[Member], plan: Plan, ours: Sequence[Mechanism]
) -> Output:
    """The first call's output of all that step along one plan."""
    first, parallel = calls[0], Parallel(members)
    state = _start(members, calls, plan)
    with torch.no_grad(), _attached(calls):
        for progress in run(state, parallel, plan, first.solver, [parallel, *ours]):
            state = progress.state
            for call in calls:
                call.tell(progress)
    out = first.output(members[0].alone(state))
    return replace(out, reports={**out.reports, **state.reports})


def _start(members: Sequence[Member], calls: Sequence[Prepared], plan: Plan) -> State:
    """All calls' starts as one; who waits is at the time at which it joins."""
    schedule = calls[0].state.schedule
    start = State({}, {}, schedule, MemberNoise(members))
    for member, call in zip(members, calls, strict=True):
        start = member.back(replace(call.state, memory={}), start)
    return start.at(start.latents, plan[0].t)


def _check(calls: Sequence[Prepared]) -> None:
    """Refuse calls that cannot step together, or would say the same thing twice."""
    first = calls[0]
    for number, call in enumerate(calls):
        call.check_told(f"model {number + 1}")
        if IMAGE not in call.record.generated:
            raise ValueError(
                f"model {number + 1} is to make {', '.join(call.record.generated)}, but what is "
                "aggregated is the image: let every call generate it"
            )
        if number == 0:
            continue
        check_companion(first.backbone, call.backbone, first.record.size)
        for what in ("size", "solver"):
            ours, theirs = getattr(first.record, what), getattr(call.record, what)
            if ours != theirs:
                raise ValueError(
                    f"models that are aggregated share their {what}, but the first one's is "
                    f"{ours}, model {number + 1}'s {theirs}: give all the same"
                )
        if len(call.record.seeds) != len(first.record.seeds):
            raise ValueError(
                f"model {number + 1} makes {len(call.record.seeds)} samples, the first one "
                f"{len(first.record.seeds)}: give all the same count"
            )
        for other in range(number):
            if _is_same(call, calls[other]):
                raise ValueError(
                    f"models {other + 1} and {number + 1} are one model asked the same thing: "
                    "aggregating them changes nothing; give one another prompt or condition"
                )


def _check_acts(calls: Sequence[Prepared], asked: range) -> None:
    """Refuse a model whose adapter acts in none of the moves in which it is asked."""
    for number, call in enumerate(calls[1:], start=2):
        moves = [replace(call.plan[move], number=move, count=len(call.plan)) for move in asked]
        for mechanism in call.mechanisms:
            if isinstance(mechanism, Attached) and not any(
                mechanism.attachment.acts(move) for move in moves
            ):
                raise ValueError(
                    f"model {number} is asked in the moves {asked[0]} to {asked[-1]}, but its "
                    "adapter acts in none of them: let it (Grounding's migc_steps or beta, "
                    "ImagePrompt's window), or aggregate at other moves"
                )


def _is_same(one: Prepared, other: Prepared) -> bool:
    """Whether two calls ask the same of equal networks, whatever their noise."""
    alike = replace(other.record, seeds=one.record.seeds, base=one.record.base) == one.record
    return (
        alike
        and all(torch.equal(p, other.inputs.pictures[b]) for b, p in one.inputs.pictures.items())
        and _are_equal(one.backbone.network, other.backbone.network)
    )


def _are_equal(one: nn.Module, other: nn.Module) -> bool:
    """Whether two networks have the same weights."""
    if one is other:
        return True
    ours, theirs = one.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(
        ours[name].shape == value.shape and torch.equal(ours[name], value.to(ours[name]))
        for name, value in theirs.items()
    )


@contextmanager
def _attached(calls: Sequence[Prepared]) -> Iterator[None]:
    """Every network with the adapters of all calls on it."""
    networks: dict[int, tuple[nn.Module, dict[str, JointAdapter]]] = {}
    for number, call in enumerate(calls):
        network = call.backbone.network
        _, adapters = networks.setdefault(id(network), (network, {}))
        for name, adapter in call.adapters.items():
            if adapters.setdefault(name, adapter) is not adapter:
                raise ValueError(
                    f"model {number + 1} brings another adapter {name!r} to a network that has "
                    "one of that name: load it under another branch's name"
                )
    with ExitStack() as stack:
        for network, adapters in networks.values():
            stack.enter_context(attached(network, adapters))
        yield

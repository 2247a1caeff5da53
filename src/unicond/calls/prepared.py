"""A call that is ready to run: pictures are encoded, prompts too, start state and plan are there.

`Model.prepare` makes one. Run alone, it is what `model(...)` returns; several can be run together
(`aggregation.together`).
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

import torch
from torch import Tensor

from unicond.adapters.attach import attached
from unicond.adapters.grounding.adapter import GroundingAdapter
from unicond.adapters.image_prompt.prompter import Prompter
from unicond.adapters.joint import JointAdapter
from unicond.backbones.base import Backbone
from unicond.calls import groundings, image_prompts, walks
from unicond.calls.image_prompts import ImagePrompt
from unicond.calls.inputs import Inputs
from unicond.calls.output import Output
from unicond.calls.own import Own
from unicond.calls.pairings import pairings_of, weaker_of
from unicond.calls.record import Record
from unicond.denoisers.network import NetworkDenoiser, keeper
from unicond.mechanisms.blending.classifier_free import ClassifierFree
from unicond.mechanisms.blending.condition import ConditionGuidance
from unicond.mechanisms.blending.perturbed import PerturbedAttention
from unicond.mechanisms.prompted import Prompted
from unicond.sampling import plans
from unicond.sampling.loop import Progress, run
from unicond.sampling.plans import Plan
from unicond.sampling.prompts import Prompt, Prompts
from unicond.sampling.solvers import named
from unicond.sampling.state import Latents, Mechanism, Solver, State

Callback = Callable[[Progress], bool | None]


class Cancelled(Exception):
    """A callback returned False: the run was stopped between two moves."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """Everything that the one loop needs for a call, and what makes an `Output` of its end.

    Args:
        backbone: of the model.
        adapters: {branch: its adapter} of this run.
        record: what was asked for.
        inputs: pictures and masks.
        given: {branch: clean latents of its picture}.
        state: the start.
        denoiser: of all branches.
        plan: the moves.
        solver: of the run.
        mechanisms: outermost first.
        callback: called after each move; False cancels.
        others: further starts of the same run, an ensemble's; their pictures and the first's are
            averaged.
        idle: {name of an adapter: the argument without which it does nothing}, of those that this
            call does not tell.
        own: the caller's own mechanisms, moves and solver.
        image_prompt: what image prompt adapters look at.
        methods: of the grounding adapters, which are told where things are where the call says it.
    """

    backbone: Backbone
    adapters: Mapping[str, JointAdapter]
    record: Record
    inputs: Inputs
    given: Latents
    state: State
    denoiser: NetworkDenoiser
    plan: Plan
    solver: Solver
    mechanisms: Sequence[Mechanism]
    callback: Callback | None = None
    others: tuple[State, ...] = ()
    idle: Mapping[str, str] = field(default_factory=dict[str, str])
    own: Own = field(default_factory=Own)
    image_prompt: ImagePrompt | None = None
    methods: tuple[str, ...] = ()

    @torch.no_grad()
    def run(self) -> Output:
        """Carry it through the loop and decode.

        Warnings say which adapters are idle, and what no adapter takes of a grounding.

        Returns:
            Every branch; what was given and held comes back as it was.

        Raises:
            Cancelled: the callback returned False.
        """
        if self.idle:
            warnings.warn(self._idle(), stacklevel=4)  # the caller of `Model.__call__`
        if lost := groundings.in_vain(self.record.grounding, self.methods):
            warnings.warn(lost, stacklevel=4)
        with attached(self.backbone.network, self.adapters):
            ends = [self._end(*start) for start in enumerate((self.state, *self.others))]
        return self.output(*ends)

    def _end(self, member: int, state: State) -> State:
        """Where the plan leads a start; the callback counts the moves of all of them."""
        moves, denoiser = len(self.plan), self.denoiser.fresh()
        for progress in run(state, denoiser, self.plan, self.solver, self.mechanisms):
            state, move = progress.state, progress.move
            number, count = member * moves + move.number, moves * (1 + len(self.others))
            self.tell(replace(progress, move=replace(move, number=number, count=count)))
        return state

    def check_told(self, who: str) -> None:
        """Raise ValueError where an adapter of a model is idle.

        Args:
            who: the model, for the message.

        Raises:
            ValueError: one is.
        """
        if self.idle:
            raise ValueError(f"{who}: {self._idle()}")

    def _idle(self) -> str:
        needs = {"grounding": "where things are", "image_prompt": "what to look at"}
        names = ", ".join(self.idle)
        what = " or ".join(f"{needs[one]} ({one}=)" for one in dict.fromkeys(self.idle.values()))
        return (
            f"the model has {names}, but the call does not say {what}: it is as if without "
            f"{names}; say it, or leave them out (model.only(...) with the others' names)"
        )

    def tell(self, progress: Progress) -> None:
        """Call the callback after a move, and raise `Cancelled` where it returns False."""
        if self.callback is not None and self.callback(progress) is False:
            move = progress.move
            raise Cancelled(f"stopped after move {move.number + 1} of {move.count}")

    @torch.no_grad()
    def output(self, end: State, *others: State) -> Output:
        """Decode what was generated; a branch that was given and held is returned as it came.

        Args:
            end: the state after the last move, of this call's own branches at least.
            *others: of the ensemble's other starts; pictures and latents are averaged.

        Returns:
            Pictures on the CPU, where files and metrics want them, and what mechanisms report.
        """
        pictures, latents = dict[str, Tensor](), dict[str, Tensor]()
        for branch in self.record.branches:
            if branch in self.record.generated:
                values = [each.latents[branch] for each in (end, *others)]
                decoded = [self.backbone.decode(value).cpu() for value in values]
                pictures[branch], latents[branch] = _mean(decoded), _mean(values)
            else:
                clean = self.inputs.pictures[branch]
                pictures[branch] = clean.expand(len(self.record.seeds), -1, -1, -1)
                latents[branch] = self.given[branch]
        kinds = {branch: adapter.config.kind for branch, adapter in self.adapters.items()}
        given = dict(self.inputs.pictures)
        return Output(pictures, latents, self.record, kinds, reports=end.reports, given=given)


@dataclass(frozen=True, eq=False)
class Parts:
    """What a run needs of its model.

    Args:
        backbone: of the model.
        adapters: {branch: its adapter} of this run.
        grounders: {name: grounding adapter}.
        prompters: {name: image prompt adapter}.
        image_prompt: what these look at.
        idle: see `Prepared`.
    """

    backbone: Backbone
    adapters: Mapping[str, JointAdapter]
    grounders: Mapping[str, GroundingAdapter]
    prompters: Mapping[str, Prompter]
    image_prompt: ImagePrompt | None
    idle: Mapping[str, str] = field(default_factory=dict[str, str])


@torch.no_grad()
def prepared(
    parts: Parts,
    record: Record,
    inputs: Inputs,
    own: Own,
    callback: Callback | None,
) -> Prepared:
    """Encode what is given and build what the loop takes.

    Args:
        parts: of the model.
        record: what was asked for.
        inputs: pictures and masks.
        own: the caller's own mechanisms, moves and solver.
        callback: called after each move.

    Returns:
        A call that is ready to run.

    Raises:
        ValueError: what was asked does not fit together.
    """
    backbone, adapters, count = parts.backbone, parts.adapters, len(record.seeds)
    walk = walks.walk(backbone.schedule, record, inputs.given, own.moves)
    latents = {
        b: backbone.encode(picture).expand(count, -1, -1, -1)
        for b, picture in inputs.pictures.items()
    }
    (state, *others), noise = walks.starts(walk, backbone, record, inputs.given, latents)
    fixed = plans.held(walk.plan)
    configs = {branch: adapter.config for branch, adapter in adapters.items()}
    pairings, weaker = (of(record, configs, fixed) for of in (pairings_of, weaker_of))
    window, against = record.guidance_window, record.condition_guidance_against
    if isinstance(against, Mapping):
        against = {each.y: (each.weight_x, each.weight_y) for each in weaker}
    guidance = (
        ConditionGuidance(record.condition_guidance, window, against),
        PerturbedAttention(record.perturbed_guidance, window, backbone.defaults.perturbed_layers),
        ClassifierFree(record.guidance_scale, window),
    )
    known = walks.replacements(walk, inputs, latents, noise)
    mechanisms = [*walks.guides(record, inputs, latents), *own.mechanisms, *guidance, *known]
    mechanisms += groundings.mechanisms(backbone, parts.grounders, record, walk.plan)
    mechanisms += image_prompts.mechanisms(backbone, parts.prompters, parts.image_prompt, record)
    denoiser = NetworkDenoiser(
        backbone.network,
        _prompts(backbone, adapters, record, own.mechanisms),
        pairings,
        record.joint_scale,
        keeper(record.cache, record.refresh, fixed, [*pairings, *weaker]),
        backbone.slicing,
    )
    own.check(denoiser)
    solver = named(record.solver, record.eta) if own.solver is None else own.solver
    return Prepared(
        backbone,
        adapters,
        record,
        inputs,
        latents,
        state,
        denoiser,
        walk.plan,
        solver,
        mechanisms,
        callback,
        tuple(others),
        parts.idle,
        own,
        parts.image_prompt,
        tuple(one.config.method for one in parts.grounders.values()),
    )


def _mean(members: Sequence[Tensor]) -> Tensor:
    return members[0] if len(members) == 1 else torch.stack(list(members)).mean(0)


def _prompts(
    backbone: Backbone,
    adapters: Mapping[str, JointAdapter],
    record: Record,
    mechanisms: Sequence[Mechanism],
) -> Prompts:
    """Every branch's prompt, mechanisms' own too; a condition's has trigger words in front.

    References have their own.
    """
    names = record.branches
    triggers = {branch: adapter.config.trigger for branch, adapter in adapters.items()}

    def encoded(prompts: Mapping[str, Sequence[str]]) -> dict[str, Prompt]:
        texts = {b: [triggers.get(b, "") + prompt for prompt in prompts[b]] for b in names}
        return {b: backbone.encode_prompts(texts[b], record.size) for b in names}

    positive = {b: record.references.get(b, record.prompts) for b in names}
    negative = backbone.encode_negative(record.negative_prompt, record.size)
    found = {"positive": encoded(positive), "negative": dict.fromkeys(names, negative)}
    for mechanism in mechanisms:
        if isinstance(mechanism, Prompted):
            own = mechanism.prompts().items()
            found |= {name: encoded({b: [text] for b in names}) for name, text in own}
    return found


Asked = ParamSpec("Asked")
Owner = TypeVar("Owner")


def ran(
    prepare: Callable[Concatenate[Owner, Asked], Prepared],
) -> Callable[Concatenate[Owner, Asked], Output]:
    """A method that takes what `prepare` takes, and runs what it makes.

    Args:
        prepare: a method that makes a call ready.

    Returns:
        The method.
    """

    @wraps(prepare)
    def call(self: Owner, *args: Asked.args, **kwargs: Asked.kwargs) -> Output:
        return prepare(self, *args, **kwargs).run()

    call.__name__, call.__qualname__ = "__call__", "Model.__call__"
    call.__doc__ = "Generate what is not given: `prepare`, which says what it takes, and `run`."
    return call

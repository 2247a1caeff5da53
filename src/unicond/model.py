"""The public model: a base, its adapters, and one call for every task.

    model(prompt=..., depth=d)   depth -> image        model(image=i)   image -> depth
    model(prompt=...)            both at once

The call prepares the start state and the plan, runs the one loop, and decodes. Which task it is
follows from what is given.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from unicond import walks
from unicond.adapters.attach import attached
from unicond.adapters.config import JointConfig
from unicond.adapters.joint import JointAdapter
from unicond.backbones.base import Backbone
from unicond.denoisers.network import NetworkDenoiser, keeper
from unicond.inputs import Inputs, read_inputs, source_of
from unicond.mechanisms.blending.classifier_free import ClassifierFree
from unicond.mechanisms.blending.condition import ConditionGuidance
from unicond.mechanisms.guidance.gradients import AdamW
from unicond.mechanisms.prompted import Prompted
from unicond.output import Output
from unicond.own import Own
from unicond.pairings import pairings_of
from unicond.request import (
    MOVES,
    Attention,
    DepthKind,
    Given,
    Held,
    Picture,
    Policy,
    Record,
    Reference,
    Sampling,
    Scale,
    conditions_of,
    finite,
    guidance_weights,
    makes,
    one_a_sample,
    scales_of,
    seeds_of,
)
from unicond.sampling import plans
from unicond.sampling.loop import Progress, run
from unicond.sampling.plans import Plan
from unicond.sampling.prompts import Prompt, Prompts
from unicond.sampling.schedules import Spacing
from unicond.sampling.solvers import named
from unicond.sampling.state import Latents, Mechanism, Solver, State
from unicond.sampling.window import ALWAYS, Window

Callback = Callable[[Progress], bool | None]


class Cancelled(Exception):
    """A callback returned False: the run was stopped between two moves."""


def given(
    picture: Picture | Sequence[Picture],
    mask: Picture | None = None,
    noise: float | None = None,
    hold: bool = False,
    kind: DepthKind = "near-white",
    fit: Policy = "crop",
    invert: bool = False,
    threshold: float | None = None,
    guide: bool = False,
) -> Given:
    """A picture that is given in part: coarse, masked, held, or as a guide only (see `Given`)."""
    return Given(picture, mask, noise, hold, kind, fit, invert, threshold, guide)


@dataclass(frozen=True, eq=False)
class Loaded:
    """An adapter and what it was loaded by."""

    source: str
    adapter: JointAdapter


@dataclass(frozen=True, eq=False)
class Model:
    """A base model with the adapters of its condition branches.

    Args:
        backbone: network, autoencoder, text encoder, schedule.
        adapters: {branch: its adapter}.
        loras: {what an ordinary LoRA was loaded by: its scale}.
    """

    backbone: Backbone
    adapters: Mapping[str, Loaded]
    loras: Mapping[str, float] = field(default_factory=dict[str, float])

    def __call__(
        self,
        prompt: str | Sequence[str] = "",
        *,
        negative_prompt: str = "",
        seed: int | Sequence[int] = 0,
        count: int | None = None,
        size: int | tuple[int, int] | None = None,
        branches: Sequence[str] | None = None,
        num_inference_steps: int | None = None,
        solver: str | Solver | None = None,
        spacing: Spacing | None = None,
        eta: float | None = None,
        guidance_scale: float | None = None,
        condition_guidance: float | None = None,
        condition_guidance_against: float = 0.0,
        guidance_window: Window = ALWAYS,
        joint_scale: float = 1.0,
        conditioning_scale: Mapping[str, Scale] | None = None,
        held: Held | None = None,
        attention: Attention | None = None,
        cache: bool | None = None,
        refresh: int | None = None,
        sampling: Sampling = "unicond",
        plan: str | Plan | None = None,
        references: Mapping[str, Reference] | None = None,
        reconstruction_weight: float | Mapping[str, float] | None = None,
        reconstruction_optimizer: AdamW | None = None,
        reconstruction_window: Window = ALWAYS,
        mechanisms: Sequence[Mechanism] = (),
        callback: Callback | None = None,
        **pictures: Picture | Sequence[Picture] | Given,
    ) -> Output:
        """Generate what is not given.

        Args:
            prompt: one, or one a sample.
            negative_prompt: what guidance moves away from.
            seed: of the first sample (the next get seed + 1, ...), or one a sample.
            count: samples; default as many as prompts, seeds or pictures are given.
            size: side, or (height, width), in pixels; default that of the pictures given, else the
                base's.
            branches: what is generated; default the image and every adapter's branch. `["image"]`
                runs plain text-to-image at its cost.
            num_inference_steps: moves that call the network; default the base's for the task.
            solver: a name in `unicond.SOLVERS`, or a method's own.
            spacing: of the times of the moves: `"leading"`, `"linspace"` or `"trailing"`; default
                as the base's scheduler has it.
            eta: noise of the `"ddim"` solver, 0 to 1.
            guidance_scale: of text; 1.0 is the conditional model alone.
            condition_guidance: of what is given; 0.0 is off.
            condition_guidance_against: share of the weights of joint attention in what condition
                guidance moves away from; 0.0 is the model that does not see the condition.
            guidance_window: when text and condition guidance act.
            joint_scale: weight of joint attention; 0.0 is off.
            conditioning_scale: {branch: weight of its joint attention, or (w_x, w_y) for what the
                image and what the condition receives}; at 0.0 they do not hear each other, default
                1.0.
            held: how a held branch acts; default one-way where the adapter was trained for it.
            attention: how far tokens see in joint attention: `"global"` everywhere, `"aligned"`
                around their own place; default aligned where the adapter was trained for it.
            cache: run held branches that hear nothing once and keep what others see of them; True
                insists on it, False recomputes them in every call (the same numbers); default where
                it can be.
            refresh: keep a held branch that does hear (`held="two_way"`), too, and run it again
                after so many network calls: an approximation.
            sampling: `"released"` walks as UniCon's published pipeline does (see
                `sampling.released`).
            plan: the way through the times of image and condition, by name: `"joint"`,
                `"image-first"`, `"condition-first"`, `"coarse(0.4)"`, `"curve(0.3)"`, or points
                `"1,1;0.5,1;0,0"` (see `sampling.named_plans`), or moves of every branch of the run
                (see `sampling.plans`); default follows from what is given.
            references: {branch: a picture with its prompt} beside the image, which a mechanism
                reads: an edit's source, a style. They need moves as the plan if they are given.
            reconstruction_weight: of guidance towards what is known in part, one number or {branch:
                its own}; 0.0 is off and the default (replacement alone), 1.0 that of a branch with
                `guide=True`.
            reconstruction_optimizer: finds that guidance's steps in the place of a fixed weight.
            reconstruction_window: when that guidance acts.
            mechanisms: further conditioning methods, outermost first.
            callback: called after each move; False cancels.
            **pictures: {branch: picture or `given(...)`}.

        Returns:
            Every branch of the run; what was given and held comes back as it was.

        Raises:
            ValueError: what was asked does not fit together; raised before the network runs.
            Cancelled: the callback returned False.
        """
        references = references or {}
        conditions = conditions_of(pictures, references)
        names = self._branches(branches, pictures, references)
        conditions, moved = walks.on_plan(plan, conditions, names)
        kinds = {b: self.adapters[b].adapter.config.kind for b in names if b in self.adapters}
        task = self._task(conditions, names, moved)
        if task.estimates and conditions["image"].noise is None:
            conditions["image"] = conditions["image"].at(task.noise)
        inputs = read_inputs(conditions, kinds, size, self.backbone)
        lists = inputs.counts() | ({} if isinstance(prompt, str) else {"prompt": len(prompt)})
        seeds = seeds_of(seed, count, lists)
        own = Own.of(mechanisms, plan, solver, eta)
        follow = finite("condition_guidance", condition_guidance, task.condition_guidance)
        record = Record(
            base=self.backbone.name,
            adapters={b: self.adapters[b].source for b in names if b in self.adapters},
            loras=self.loras,
            dtype=str(self.backbone.network.dtype).removeprefix("torch."),
            prompts=one_a_sample(prompt, len(seeds)),
            negative_prompt=one_a_sample(negative_prompt, 1)[0],
            seeds=seeds,
            size=inputs.size,
            branches=names,
            generated=tuple(b for b in names if b in moved or makes(b, conditions)),
            given={b: source_of(g) for b, g in conditions.items()},
            num_inference_steps=own.calls(num_inference_steps, task.num_inference_steps),
            solver=own.solver_name(solver) or self.backbone.defaults.solver,
            spacing=spacing,
            eta=eta,
            guidance_scale=finite("guidance_scale", guidance_scale, task.guidance_scale),
            condition_guidance=follow,
            condition_guidance_against=condition_guidance_against,
            guidance_window=guidance_window,
            joint_scale=finite("joint_scale", joint_scale, 1.0),
            conditioning_scale=scales_of(conditioning_scale or {}, list(kinds)),
            held=held,
            attention=attention,
            cache=cache,
            refresh=refresh,
            sampling=sampling,
            plan=plan if plan is None or isinstance(plan, str) else MOVES,
            references={b: one_a_sample(r.prompt, len(seeds)) for b, r in references.items()},
            reconstruction_weight=guidance_weights(
                reconstruction_weight, reconstruction_optimizer, conditions
            ),
            reconstruction_optimizer=reconstruction_optimizer,
            reconstruction_window=reconstruction_window,
            mechanisms=own.names(),
        )
        return self._run(record, inputs, own, callback)

    def _task(
        self, conditions: Mapping[str, Given], names: Collection[str], moved: Collection[str]
    ) -> "Task":
        """The base's measured settings for what is asked: estimation reads maps off a fixed image.

        Another picture of the same things is no map: it is drawn, in as many steps as any.
        """
        base = self.backbone.defaults
        made = [b for b in names if b in moved or makes(b, conditions)]
        maps = all(b in self.adapters and self._shows_the_same_view(b) for b in made)
        if "image" not in made and "image" in conditions and maps:
            return Task(
                True, base.estimation_steps, base.estimation_guidance, 0.0, base.estimation_noise
            )
        follow = base.condition_guidance if any(not g.guide for g in conditions.values()) else 0.0
        return Task(False, base.num_inference_steps, base.guidance_scale, follow, 0.0)

    def _configs(self) -> dict[str, JointConfig]:
        """{branch: its adapter's configuration}."""
        return {branch: loaded.adapter.config for branch, loaded in self.adapters.items()}

    def _shows_the_same_view(self, branch: str) -> bool:
        return self.adapters[branch].adapter.config.post_joint == "conv_fuse"

    def _branches(
        self,
        branches: Sequence[str] | None,
        conditions: Collection[str],
        references: Collection[str],
    ) -> tuple[str, ...]:
        """The branches of a run: the image, the adapters in their order, then the references."""
        known = ("image", *self.adapters)
        taken = sorted({*references} & {*known})
        if taken:
            raise ValueError(
                f"references names {taken[0]!r}, which is a branch of this model: give its picture "
                f"as {taken[0]}=..., or name the reference otherwise"
            )
        wanted = set(known if branches is None else branches) | set(conditions)
        unknown = sorted(wanted - set(known))
        if unknown:
            raise ValueError(
                f"no branch {unknown[0]!r} in this model; it has {', '.join(known)}. "
                "Conditions come with adapters: unicond.load(base, adapters=[...])"
            )
        return (*(branch for branch in known if branch in wanted), *references)

    def sees_around(self, branch: str) -> bool:
        """Whether the tokens of a condition's pair look around their own place only, by default."""
        return self.adapters[branch].adapter.config.attention[-1] == "aligned"

    @torch.no_grad()
    def _run(
        self,
        record: Record,
        inputs: Inputs,
        own: Own,
        callback: Callback | None,
    ) -> Output:
        names, given_ = record.branches, inputs.given
        walk = walks.walk(self.backbone.schedule, record, given_, own.moves)
        latents = {b: self._encode(p, len(record.seeds)) for b, p in inputs.pictures.items()}
        state, noise = walks.start(walk, self.backbone, record, given_, latents)
        known = walks.replacements(walk, inputs, latents, noise)
        guides = walks.guides(record, inputs, latents)
        guidance = [
            ConditionGuidance(
                record.condition_guidance, record.guidance_window, record.condition_guidance_against
            ),
            ClassifierFree(record.guidance_scale, record.guidance_window),
        ]
        fixed = plans.held(walk.plan)
        pairings = pairings_of(record, self._configs(), fixed)
        denoiser = NetworkDenoiser(
            self.backbone.network,
            self._prompts(record, own.mechanisms),
            pairings,
            record.joint_scale,
            keeper(record.cache, record.refresh, fixed, pairings),
        )
        mine = {b: self.adapters[b].adapter for b in names if b in self.adapters}
        everything = [*guides, *own.mechanisms, *guidance, *known]
        solver_ = named(record.solver, record.eta) if own.solver is None else own.solver
        with attached(self.backbone.network, mine):
            for progress in run(state, denoiser, walk.plan, solver_, everything):
                state = progress.state
                if callback is not None and callback(progress) is False:
                    raise Cancelled(
                        f"stopped after move {progress.move.number + 1} of {len(walk.plan)}"
                    )
        return self._finish(record, state, inputs.pictures, latents)

    def _finish(
        self, record: Record, state: State, clean: Mapping[str, Tensor], given_: Latents
    ) -> Output:
        """Decode what was generated; a branch that was given and held is returned as it came.

        Pictures are on the CPU, where files and metrics want them.
        """
        pictures, latents = dict[str, Tensor](), dict[str, Tensor]()
        for branch, value in state.latents.items():
            if branch in record.generated:
                pictures[branch], latents[branch] = self.backbone.decode(value).cpu(), value
            else:
                pictures[branch] = clean[branch].expand(len(value), -1, -1, -1)
                latents[branch] = given_[branch]
        kinds = {branch: config.kind for branch, config in self._configs().items()}
        return Output(pictures, latents, record, kinds, reports=state.reports)

    def _encode(self, pictures: Tensor, count: int) -> Tensor:
        return self.backbone.encode(pictures).expand(count, -1, -1, -1)

    def _prompts(self, record: Record, mechanisms: Sequence[Mechanism]) -> Prompts:
        """Every branch's prompt, mechanisms' own too; a condition's has trigger words in front.

        References have their own.
        """
        names = record.branches
        triggers = {b: self.adapters[b].adapter.config.trigger for b in names if b in self.adapters}

        def encoded(prompts: Mapping[str, Sequence[str]]) -> dict[str, Prompt]:
            texts = {b: [triggers.get(b, "") + prompt for prompt in prompts[b]] for b in names}
            return {b: self.backbone.encode_prompts(texts[b], record.size) for b in names}

        positive = {b: record.references.get(b, record.prompts) for b in names}
        negative = self.backbone.encode_negative(record.negative_prompt, record.size)
        found = {"positive": encoded(positive), "negative": dict.fromkeys(names, negative)}
        for mechanism in mechanisms:
            if isinstance(mechanism, Prompted):
                own = mechanism.prompts().items()
                found |= {name: encoded({b: [text] for b in names}) for name, text in own}
        return found


@dataclass(frozen=True)
class Task:
    """The settings that a task takes where the caller names none; `noise` is a given image's."""

    estimates: bool
    num_inference_steps: int
    guidance_scale: float
    condition_guidance: float
    noise: float

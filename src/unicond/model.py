"""The public model: a base, its adapters, and one call for every task.

    model(prompt=..., depth=d)   depth -> image        model(image=i)   image -> depth
    model(prompt=...)            both at once

The call prepares the start state and the plan, runs the one loop, and decodes. Which task it is
follows from what is given.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

from unicond.adapters.grounding.adapter import GroundingAdapter
from unicond.adapters.image_prompt.prompter import Prompter
from unicond.adapters.joint import JointAdapter
from unicond.backbones.base import Backbone
from unicond.calls import walks
from unicond.calls.groundings import counts, each
from unicond.calls.image_prompts import ImagePrompt, shown
from unicond.calls.inputs import read_inputs, source_of
from unicond.calls.own import Own
from unicond.calls.pairings import check_joined
from unicond.calls.prepared import Callback, Parts, Prepared, prepared, ran
from unicond.calls.record import Record
from unicond.calls.request import (
    Against,
    Attention,
    DepthKind,
    Given,
    Held,
    Picture,
    Policy,
    Reference,
    Sampling,
    Scale,
    against_of,
    conditions_of,
    finite,
    guidance_weights,
    makes,
    one_a_sample,
    scales_of,
    seeds_of,
)
from unicond.calls.task import Asked, Task, task_of
from unicond.grounding import Grounding
from unicond.mechanisms.guidance.gradients import AdamW
from unicond.pictures.checks import count_prompts
from unicond.sampling.plans import Plan
from unicond.sampling.schedules import Spacing
from unicond.sampling.state import Mechanism, Solver
from unicond.sampling.window import ALWAYS, Window


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


Kind = TypeVar("Kind", JointAdapter, GroundingAdapter, Prompter)


@dataclass(frozen=True, eq=False)
class Loaded(Generic[Kind]):
    """An adapter and what it was loaded by."""

    source: str
    adapter: Kind


@dataclass(frozen=True, eq=False)
class Model:
    """A base model with the adapters of its condition branches.

    Args:
        backbone: network, autoencoder, text encoder, schedule.
        adapters: {branch: its adapter}.
        loras: {what an ordinary LoRA was loaded by: its scale}.
        grounders: {name: a grounding adapter}; each acts where a call says where things are.
        prompters: {name: an image prompt adapter}; each acts where a call has an image prompt.
    """

    backbone: Backbone
    adapters: Mapping[str, Loaded[JointAdapter]]
    loras: Mapping[str, float] = field(default_factory=dict[str, float])
    grounders: Mapping[str, Loaded[GroundingAdapter]] = field(
        default_factory=dict[str, Loaded[GroundingAdapter]]
    )
    prompters: Mapping[str, Loaded[Prompter]] = field(default_factory=dict[str, Loaded[Prompter]])

    def only(self, *names: str) -> "Model":
        """The same base with some of its adapters alone.

        Args:
            *names: branches of joint adapters and names of the others; none is the base.

        Returns:
            A model that shares everything with this one.

        Raises:
            ValueError: there is no such adapter.
        """
        known = {*self.adapters, *self.grounders, *self.prompters}
        if unknown := [name for name in names if name not in known]:
            raise ValueError(
                f"no adapter {unknown[0]!r} in this model; it has {', '.join(known) or 'none'}"
            )
        return replace(
            self,
            adapters={name: one for name, one in self.adapters.items() if name in names},
            grounders={name: one for name, one in self.grounders.items() if name in names},
            prompters={name: one for name, one in self.prompters.items() if name in names},
        )

    def prepare(
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
        condition_guidance_against: Against = 0.0,
        perturbed_guidance: float | None = None,
        guidance_window: Window = ALWAYS,
        joint_scale: float = 1.0,
        conditioning_scale: Mapping[str, Scale] | None = None,
        held: Held | None = None,
        attention: Attention | None = None,
        cache: bool | None = None,
        refresh: int | None = None,
        ensemble_size: int | None = None,
        sampling: Sampling = "unicond",
        plan: str | Plan | None = None,
        references: Mapping[str, Reference] | None = None,
        grounding: Grounding | Sequence[Grounding] | None = None,
        image_prompt: Picture | Sequence[Picture] | ImagePrompt | None = None,
        reconstruction_weight: float | Mapping[str, float] | None = None,
        reconstruction_optimizer: AdamW | None = None,
        reconstruction_window: Window = ALWAYS,
        mechanisms: Sequence[Mechanism] = (),
        callback: Callback | None = None,
        **pictures: Picture | Sequence[Picture] | Given,
    ) -> Prepared:
        """Get a call ready: everything is read, checked and encoded, and the network has not run.

        `model(...)` takes the same, runs it alone and returns the `Output`; `unicond.aggregate`
        runs several together.

        Args:
            prompt: one, or one a sample.
            negative_prompt: what guidance moves away from.
            seed: of the first sample (the next get seed + 1, ...), or one a sample.
            count: samples; default as many as prompts, seeds or pictures are given.
            size: side, or (height, width), in pixels; default that of the image given, or of the
                first given branch in the model's order, else the base's.
            branches: what is generated; default the image and every adapter's branch. `["image"]`
                runs plain text-to-image at its cost.
            num_inference_steps: moves that call the network; default the base's for the task.
            solver: a name in `unicond.SOLVERS`, or a method's own.
            spacing: of the times of the moves: `"leading"`, `"linspace"` or `"trailing"`; default
                as the base's scheduler has it.
            eta: noise of the `"ddim"` solver, 0 to 1.
            guidance_scale: of text; 1.0 is the conditional model alone.
            condition_guidance: of what is given; 0.0 is off.
            condition_guidance_against: what condition guidance moves away from: a share of all
                weights of joint attention, 0.0 is the model that does not see the conditions; or
                {branch: w or (w_x, w_y)}, which makes these stand out among several conditions.
            perturbed_guidance: away from the model whose places do not see each other, which mends
                shapes; 0.0 is off.
            guidance_window: when guidance of text, of conditions and of shapes acts.
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
            ensemble_size: of conditions that are read off the image: noises that are each carried
                through the plan, the pictures averaged (Marigold, arXiv:2312.02145); default what
                was measured to suit them.
            sampling: `"released"` walks as UniCon's published pipeline does (see
                `sampling.released`).
            plan: the way through the times of image and condition, by name: `"joint"`,
                `"image-first"`, `"condition-first"`, `"coarse(0.4)"`, `"curve(0.3)"`, or points
                `"1,1;0.5,1;0,0"` (see `sampling.named_plans`), or moves of every branch of the run
                (see `sampling.plans`); default what suits conditions that are drawn from text
                beside the image, else what follows from what is given.
            references: {branch: a picture with its prompt} beside the image, which a mechanism
                reads: an edit's source, a style. They need moves as the plan if they are given.
            grounding: what is where and what it does, one or one a sample; every grounding adapter
                of the model takes of it what it knows. Without it they are idle, unlike a branch,
                which is generated; a warning says so.
            image_prompt: pictures that say what to draw beside the words, for image prompt
                adapters; they are idle likewise.
            reconstruction_weight: of guidance towards what is known in part, one number or {branch:
                its own}; 0.0 is off and the default (replacement alone), 1.0 that of a branch with
                `guide=True`.
            reconstruction_optimizer: finds that guidance's steps in the place of a fixed weight.
            reconstruction_window: when that guidance acts.
            mechanisms: further conditioning methods, outermost first.
            callback: called after each move; False cancels.
            **pictures: {branch: picture or `given(...)`}.

        Returns:
            What `run()` turns into every branch of the run; what was given and held comes back as
            it was.

        Raises:
            ValueError: what was asked does not fit together; raised before the network runs.
        """
        references = references or {}
        names = self._branches(branches, pictures, references)
        kinds = {b: self.adapters[b].adapter.config.kind for b in names if b in self.adapters}
        check_joined(names, kinds, condition_guidance, joint_scale, attention)
        task, conditions, moved = self._given(plan, pictures, references, names, mechanisms)
        inputs = read_inputs(conditions, kinds, size, self.backbone, self.aligned(kinds))
        said, pictured = each(grounding), shown(image_prompt)
        seeds = seeds_of(seed, count, inputs.counts() | count_prompts(prompt) | counts(said))
        own = Own.of(mechanisms, plan, solver, eta)
        weights = guidance_weights(reconstruction_weight, reconstruction_optimizer, conditions)
        record = Record(
            base=self.backbone.name,
            adapters=self._sources(names, said, pictured),
            grounding=said,
            image_prompt=pictured and pictured.recorded(),
            loras=self.loras,
            dtype=str(self.backbone.network.dtype).removeprefix("torch."),
            prompts=one_a_sample(prompt, len(seeds)),
            negative_prompt=one_a_sample(negative_prompt, 1)[0],
            seeds=seeds,
            size=inputs.size,
            branches=names,
            generated=tuple(b for b in names if b in moved or makes(b, conditions)),
            given={b: source_of(g) for b, g in conditions.items()},
            plan=(way := task.way(plan, num_inference_steps, own.usual(sampling))),
            num_inference_steps=own.calls(num_inference_steps, task.moves(way)),
            solver=own.solver_name(solver) or self.backbone.defaults.solver,
            spacing=spacing,
            eta=eta,
            guidance_scale=finite("guidance_scale", guidance_scale, task.guidance_scale),
            condition_guidance=finite("condition_guidance", condition_guidance, task.follow),
            condition_guidance_against=against_of(condition_guidance_against, list(kinds)),
            perturbed_guidance=finite("perturbed_guidance", perturbed_guidance, task.shapes),
            guidance_window=guidance_window,
            joint_scale=finite("joint_scale", joint_scale, 1.0),
            conditioning_scale=scales_of(conditioning_scale or {}, list(kinds)),
            held=held,
            attention=attention,
            cache=cache,
            refresh=refresh,
            ensemble_size=task.ensemble(ensemble_size, own.usual(sampling)),
            sampling=sampling,
            references={b: one_a_sample(r.prompt, len(seeds)) for b, r in references.items()},
            reconstruction_weight=weights,
            reconstruction_optimizer=reconstruction_optimizer,
            reconstruction_window=reconstruction_window,
            mechanisms=own.names(),
            device=self.backbone.device.type,
        )
        return prepared(self._parts(names, said, pictured), record, inputs, own, callback)

    def _given(
        self,
        plan: str | Plan | None,
        pictures: Mapping[str, Picture | Sequence[Picture] | Given],
        references: Mapping[str, Reference],
        names: Sequence[str],
        mechanisms: Sequence[Mechanism],
    ) -> tuple[Task, dict[str, Given], frozenset[str]]:
        """The measured settings, what is given as they and a plan want it, and what moves move."""
        known = conditions_of(pictures, references)
        found, moved = walks.on_plan(plan, known, names, self.backbone.schedule, mechanisms)
        asked = Asked(
            made=[b for b in names if b in moved or makes(b, found)],
            given=found,
            suits={b: self.adapters[b].adapter.config for b in names if b in self.adapters},
            aligned=self.aligned(names),
            image="image" in names,
            plain=not mechanisms,
        )
        task = task_of(self.backbone.defaults, asked)
        return task, task.noised(found), moved

    def _sources(
        self, names: Collection[str], said: Sequence[Grounding], pictured: ImagePrompt | None
    ) -> dict[str, str]:
        """{name: what it was loaded by} of every adapter that takes part in a run."""
        found = {b: self.adapters[b].source for b in names if b in self.adapters}
        if said:
            found |= {name: one.source for name, one in self.grounders.items()}
        if pictured is not None:
            found |= {name: one.source for name, one in self.prompters.items()}
        return found

    def _parts(
        self, names: Collection[str], said: Sequence[Grounding], pictured: ImagePrompt | None
    ) -> Parts:
        """What a run of some branches needs of the model."""
        idle = {} if said else dict.fromkeys(self.grounders, "grounding")
        if pictured is None:
            idle |= dict.fromkeys(self.prompters, "image_prompt")
        return Parts(
            self.backbone,
            {b: self.adapters[b].adapter for b in names if b in self.adapters},
            {name: one.adapter for name, one in self.grounders.items()},
            {name: one.adapter for name, one in self.prompters.items()},
            pictured,
            idle,
        )

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
        asked = known if branches is None else [branches] if isinstance(branches, str) else branches
        wanted = {*asked, *conditions}
        unknown = sorted(wanted - set(known))
        if unknown:
            raise ValueError(
                f"no branch {unknown[0]!r} in this model; it has {', '.join(known)}. "
                "Conditions come with adapters: unicond.load(base, adapters=[...])"
            )
        return (*(branch for branch in known if branch in wanted), *references)

    def aligned(self, branches: Iterable[str]) -> list[str]:
        """Those of some branches that are maps of the image's own view, place by place."""
        known = {b: self.adapters[b].adapter.config for b in branches if b in self.adapters}
        return [b for b, config in known.items() if config.post_joint == "conv_fuse"]

    def sees_around(self, branch: str) -> bool:
        """Whether the tokens of a condition's pair look around their own place only, by default."""
        return self.adapters[branch].adapter.config.attention[-1] == "aligned"

    __call__ = ran(prepare)

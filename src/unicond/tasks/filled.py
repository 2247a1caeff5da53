"""From a form to what a model runs, with the pictures that came with it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypedDict, cast

from unicond.aggregation.manner import Place, manner_of
from unicond.calls.image_prompts import ImagePrompt
from unicond.calls.output import Output
from unicond.calls.prepared import Callback
from unicond.calls.request import Given, Policy, seeds_of
from unicond.grounding import Placed
from unicond.model import Model
from unicond.pictures.decoding import Source
from unicond.sampling import named_plans
from unicond.sampling.released import check_solver
from unicond.sampling.solvers import named
from unicond.tasks import forms
from unicond.tasks.base import Task
from unicond.tasks.compose import WEIGHTS, Compose, usual
from unicond.tasks.edit import Edit
from unicond.tasks.form_parts import Counted
from unicond.tasks.form_pictures import named_pictures
from unicond.tasks.form_settings import generated, settings_of
from unicond.tasks.generate import Generate
from unicond.tasks.layout import Layout
from unicond.tasks.restore import Restore
from unicond.tasks.together import METHODS, STYLE, TEXT, Together, check_first, weights_of

_NO_BASE = (TEXT, *METHODS)
"""Names of models that need no picture and are no bases."""
_READ_OFF = {*Counted.model_fields, "task", "prompt", "depth", "give", "mask", "method", "scale"}
"""Fields that a map which a readout head follows is made with."""
Read = Callable[[forms.Picture], Source]


@dataclass(frozen=True, eq=False)
class Filled:
    """A form with all that belongs to it.

    Args:
        form: what is asked for.
        read: a picture of the form, as pictures are read.
        bases: {name: what `unicond.load` takes} of the models that may be named.
    """

    form: forms.AnyForm
    read: Read
    bases: Mapping[str, str]

    def check(self) -> None:
        """Raise what can be told before a model and the pictures are there.

        Raises:
            ValueError: what was asked does not fit together.
        """
        if isinstance(self.form, forms.Generate) and self.form.method == "adapter":
            if self.form.scale is not None:
                raise ValueError("scale is of method readout (--method readout): drop it")
            self.given()
            settings_of(self.form)
            if self.form.solver is not None:
                named(self.form.solver, self.form.eta)
                if self.form.sampling == "released":
                    check_solver(self.form.solver)
            if self.form.plan is not None:
                named_plans.parse(self.form.plan)
        else:
            self.task()

    def run(self, model: Model, callback: Callback | None = None) -> Output:
        """Make it.

        Args:
            model: that the form names.
            callback: called after each move; False cancels.

        Returns:
            The pictures.

        Raises:
            ValueError: what was asked does not fit together, or not this model.
            Cancelled: the callback returned False.
        """
        form = self.form
        if not isinstance(form, forms.Generate) or form.method == "readout":
            return self.task().run(model, callback)
        settings = settings_of(form)
        if form.image_prompt:
            pictures = [self.read(picture) for picture in form.image_prompt]
            settings["image_prompt"] = ImagePrompt(pictures, form.ip_scale)
        return generated(
            model, form.prompt, form.seed, form.count, settings, self.given(), callback
        )

    def given(self) -> dict[str, Given]:
        """What the pictures of a form to generate give.

        Returns:
            {branch: how it is given}.

        Raises:
            ValueError: a mask, noise, guide or hold of a branch without a picture, or an option
                of what is not given.
        """
        form = self.form
        assert isinstance(form, forms.Generate)
        pictures = named_pictures(form.give, image=form.image, depth=form.depth)
        parts = {"mask": form.mask, "noise": form.noise, "guide": form.guide, "hold": form.hold}
        for what, branches in parts.items():
            for branch in branches:
                if branch not in pictures:
                    raise ValueError(
                        f"{what} names {branch!r}, of which no picture is given: give it, too "
                        f"(--give {branch}=FILE)"
                    )
        _check_used(form, pictures)
        return {
            b: Given(
                self.read(picture),
                self.read(form.mask[b]) if b in form.mask else None,
                form.noise.get(b),
                hold=b in form.hold,
                kind=form.depth_kind,
                fit=cast(Policy, form.fit),
                invert=form.mask_invert,
                threshold=form.mask_threshold if b in form.mask else None,
                guide=b in form.guide,
            )
            for b, picture in pictures.items()
        }

    def task(self) -> Task:
        """The task of any other form, and of a map that a readout head follows.

        Returns:
            What runs it.

        Raises:
            ValueError: what was asked does not fit together.
        """
        form = self.form
        if isinstance(form, forms.Generate):
            return self._read_off(form)
        if isinstance(form, forms.Edit):
            return self._edit(form)
        if isinstance(form, forms.Restore):
            return self._restore(form)
        if isinstance(form, forms.Compose):
            return self._compose(form)
        if isinstance(form, forms.Layout):
            return self._layout(form)
        assert isinstance(form, forms.Aggregate)
        return self._together(form)

    def _read_off(self, form: forms.Generate) -> Task:
        left = [
            name
            for name, field in forms.Generate.model_fields.items()
            if name not in _READ_OFF and getattr(form, name) != field.default
        ]
        if form.only == ("image",):
            left.remove("only")
        if left:
            raise ValueError(
                f"method 'readout' follows one map by a head alone and takes no {', '.join(left)}: "
                "leave it out, or choose adapter (--method)"
            )
        seed = form.seed if isinstance(form.seed, int) else list(form.seed)
        first, *others = seeds_of(seed, form.count, {})
        if others != [*range(first + 1, first + 1 + len(others))]:
            raise ValueError(
                f"method 'readout' counts seeds up from the first, and {form.seed} do not: give "
                "them as 7-14, or one and a count"
            )
        return Generate(
            form.prompt,
            masks={branch: self.read(mask) for branch, mask in form.mask.items()},
            scale=form.scale,
            method=form.method,
            conditions=self._conditions(form.give, form.depth),
            seed=first,
            count=1 + len(others),
            size=form.size,
            num_inference_steps=form.steps,
            guidance_scale=form.guidance,
            negative_prompt=form.negative_prompt,
        )

    def _edit(self, form: forms.Edit) -> Task:
        return Edit(
            self.read(form.picture),
            form.prompt,
            source_prompt=form.source_prompt,
            method=form.method,
            strength=form.strength,
            keep=form.keep,
            align=form.align,
            weight=form.weight,
            subject=form.subject,
            source_subject=form.source_subject,
            scale=form.scale,
            per=form.per,
            style=self._maybe(form.style),
            style_prompt=form.style_prompt,
            **_common(form),
        )

    def _restore(self, form: forms.Restore) -> Task:
        return Restore(
            self.read(form.picture),
            form.operator,
            form.noise_std,
            prompt=form.prompt,
            mask=self._maybe(form.mask),
            method=form.method,
            simulate=form.simulate,
            mean=form.mean,
            **_common(form),
        )

    def _compose(self, form: forms.Compose) -> Task:
        twice = sorted(form.with_.keys() & form.without.keys())
        if twice:
            raise ValueError(f"{twice[0]!r} is in with and in without: give it one weight")
        masks = dict[str, Source]()
        for region in form.region:
            if region.mask is not None and region.text in masks:
                raise ValueError(f"{region.text!r} has two masks: draw both in one")
            if region.mask is not None:
                masks[region.text] = self.read(region.mask)
        method = form.method or usual(["other"] if form.other else [])
        weight = WEIGHTS.get(method, 1.0)
        wanted = {text: weight if w is None else w for text, w in form.with_.items()}
        unwanted = {text: -(weight if w is None else w) for text, w in form.without.items()}
        return Compose(
            form.prompt,
            texts={**wanted, **unwanted},
            regions=[_placed(r.text, r.box) for r in form.region if r.box is not None],
            masks=masks,
            picture=self._maybe(form.picture),
            other=self._base(form.other) if form.other else "",
            scene=form.scene,
            method=form.method,
            conditions=self._conditions(form.give, form.depth),
            **_common(form),
        )

    def _layout(self, form: forms.Layout) -> Task:
        return Layout(
            form.prompt,
            form.boxes or [_placed(one.phrase, one.box) for one in form.box],
            scale=form.scale,
            coarse=form.coarse,
            method=form.method,
            conditions=self._conditions(form.give, form.depth),
            **_common(form),
        )

    def _together(self, form: forms.Aggregate) -> Task:
        members = {str(n + 1): member for n, member in enumerate(form.model)}
        check_first(form.first, len(members))
        first = members[str(form.first)]
        if first.weight is not None:
            raise ValueError(
                f"model {first.name!r} is the first, whose picture is kept: its weight "
                f"{first.weight} is none, weights are of the others"
            )
        styled = any(member.name == STYLE for member in form.model)
        manner = manner_of(form.manner, len(form.model), styled).but(
            mix=form.mix,
            mean=form.mean,
            window=_moves(form.window),
            start=form.start,
            step_sizes=form.step_size,
        )
        if form.ip_scale != forms.Aggregate.model_fields["ip_scale"].default and not styled:
            raise ValueError(
                "ip_scale: no model 'style' is there (--model style=FILE) that it could weigh"
            )
        weights = [member.weight for member in form.model if member is not first]
        pictured = {n: one.picture for n, one in members.items() if one.picture is not None}
        return Together(
            form.prompt,
            [self._model(one) for one in form.model],
            pictures={n: self.read(picture) for n, picture in pictured.items()},
            prompts={n: one.prompt for n, one in members.items() if one.prompt is not None},
            grounding=form.boxes,
            groundings={n: one.boxes for n, one in members.items() if one.boxes is not None},
            first=form.first,
            ip_scale=form.ip_scale,
            weights=weights_of(weights, manner.weights),
            mix=manner.mix,
            mean=manner.mean,
            step_sizes=manner.step_sizes,
            window=manner.window,
            start=manner.start,
            solver=form.solver,
            eta=form.eta,
            **_common(form),
        )

    def _model(self, one: forms.Member) -> str:
        told = one.picture is not None or one.name in _NO_BASE
        return one.name if told else self._base(one.name)

    def _maybe(self, picture: forms.Picture | None) -> Source | None:
        return None if picture is None else self.read(picture)

    def _conditions(
        self, give: Mapping[str, forms.Picture], depth: forms.Picture | None
    ) -> dict[str, Source]:
        found = named_pictures(give, depth=depth)
        return {branch: self.read(picture) for branch, picture in found.items()}

    def _base(self, name: str) -> str:
        if name not in self.bases:
            raise ValueError(f"no model {name!r} is here: there is {', '.join(self.bases)}")
        return self.bases[name]


def _check_used(form: forms.Generate, pictures: Mapping[str, forms.Picture]) -> None:
    """Raise ValueError where an option is of something that is not given."""
    uses = (
        ("mask_threshold", form.mask, "no mask is given (--mask) that it could make binary"),
        ("mask_invert", form.mask, "no mask is given (--mask) that it could invert"),
        ("ip_scale", form.image_prompt, "no picture is given (--image-prompt) that it could weigh"),
        ("depth_kind", pictures, "no picture is given (--depth) that could be read so"),
        ("fit", pictures, "no picture is given (--image, --depth) that it could bring to size"),
        (
            "condition_guidance_against",
            form.condition_guidance != 0,
            "condition guidance is off: give a weight (--condition-guidance), or drop it",
        ),
    )
    for name, used, why in uses:
        if not used and getattr(form, name) != forms.Generate.model_fields[name].default:
            raise ValueError(f"{name}: {why}")


class _Common(TypedDict):
    seed: int
    count: int
    size: int | tuple[int, int] | None
    num_inference_steps: int | None
    guidance_scale: float | None
    negative_prompt: str


def _common(form: forms.Counted) -> _Common:
    return {
        "seed": form.seed,
        "count": form.count,
        "size": form.size,
        "num_inference_steps": form.steps,
        "guidance_scale": form.guidance,
        "negative_prompt": form.negative_prompt,
    }


def _placed(text: str, box: tuple[float, float, float, float]) -> Placed:
    return text, *box


def _moves(told: tuple[int, int] | Place | None) -> tuple[int, int] | Place | None:
    """First and last of the moves, or their place, as a manner has them."""
    return (told[0], told[1] + 1) if isinstance(told, tuple) else told

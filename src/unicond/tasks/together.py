"""One picture by several models, each of which knows something else (AMDM).

    depth      an adapter's name: the base under that condition, whose picture is given with it
    interact   a grounding adapter's name: the base with it, which is told `grounding`
    style      the base with an image prompt adapter, which looks at the picture given with it
    a base     a folder, a name or a hub id: that base, by its text alone
    text       the run's own base, by its text alone; so is its own name

The picture of one of them is kept, usually the first one's. All share the prompt, unless one has
its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, get_args

from torch import Tensor
from typing_extensions import override

from unicond.adapters.grounding.config import Method
from unicond.aggregation.manner import (
    DEFAULT,
    Mean,
    Mix,
    Place,
    Start,
    check_sizes,
)
from unicond.aggregation.mixing import check_weights, even_weights
from unicond.aggregation.placing import moves_of
from unicond.aggregation.together import aggregate
from unicond.calls.image_prompts import ImagePrompt
from unicond.calls.output import Output
from unicond.calls.prepared import Callback, Prepared
from unicond.calls.request import Given, seeds_of
from unicond.grounding import Grounding
from unicond.loading import load
from unicond.model import Model
from unicond.pictures.decoding import Source as Picture
from unicond.sampling.noise import apart
from unicond.sampling.solvers import named
from unicond.tasks.base import Task

TEXT = "text"
"""The name of the run's own base by its text alone."""
STYLE = "style"
"""The name of the run's own base with its image prompt adapter."""
METHODS: tuple[str, ...] = get_args(Method)
"""Names of grounding adapters, which are never bases."""


@dataclass(frozen=True, eq=False)
class Together(Task):
    """Aggregate several models while they sample.

    Args:
        prompt: of all models.
        models: what each is, in the order in which they are mixed.
        pictures: {number of a model, from "1": its condition's picture}.
        prompts: {number of a model: its own prompt}.
        grounding: what is where, for every model that is a grounding adapter.
        groundings: {number of a model: its own}.
        first: number of the model whose picture is kept; it is mixed before the others.
        ip_scale: of the attention of `style` to its picture; published: 0.8.
        weights: of all models but the first, see `aggregation.aggregate.Aggregate`; None is
            `aggregation.mixing.even_weights`.
        mix: how states become one.
        mean: what each is pulled to; None leaves the mixed state to all.
        step_sizes: how far each is pulled, the first one first, for latents of 64 x 64; None is as
            published.
        window: (first, behind the last) of the moves after which states are mixed, or their place.
        start: how all but the first begin: `"own"` noise, the first one's (`"shared"`), or
            `"joined"`, from the first one's state when the window begins.
        solver: of all models, one of `unicond.SOLVERS`; None is the base's own.
        eta: noise of the `"ddim"` solver.

    Raises:
        ValueError: numbers that do not fit, seeds out of range, a picture or prompt of a model
            that is not there, boxes that no model takes, or no such solver.
    """

    PICTURES_BY_NAME: ClassVar[frozenset[str]] = frozenset({"pictures"})

    prompt: str
    models: Sequence[str]
    pictures: Mapping[str, Picture] = field(default_factory=dict[str, Picture], kw_only=True)
    prompts: Mapping[str, str] = field(default_factory=dict[str, str], kw_only=True)
    grounding: Grounding | None = field(default=None, kw_only=True)
    groundings: Mapping[str, Grounding] = field(default_factory=dict[str, Grounding], kw_only=True)
    first: int = field(default=1, kw_only=True)
    ip_scale: float = field(default=0.8, kw_only=True)
    weights: Sequence[float] | None = field(default=None, kw_only=True)
    mix: Mix = field(default=DEFAULT.mix, kw_only=True)
    mean: Mean | None = field(default=DEFAULT.mean, kw_only=True)
    step_sizes: Sequence[float] | None = field(default=DEFAULT.step_sizes, kw_only=True)
    window: tuple[int, int] | Place = field(default=DEFAULT.window, kw_only=True)
    start: Start = field(default=DEFAULT.start, kw_only=True)
    solver: str | None = field(default=None, kw_only=True)
    eta: float | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        numbers = {str(n + 1) for n in range(len(self.models))}
        of_one = (
            ("picture", self.pictures),
            ("prompt", self.prompts),
            ("grounding", self.groundings),
        )
        for what, told in of_one:
            if unknown := sorted({*told} - numbers):
                raise ValueError(
                    f"a {what} is given to model {unknown[0]}, but there are {len(self.models)}: "
                    f"number them from 1"
                )
        seeds_of(self.seed, self.count, {})
        check_first(self.first, len(self.models))
        if self.weights is not None:
            check_weights(self.weights, len(self.models))
        check_sizes(self.step_sizes, self.mean, len(self.models))
        moves_of(self.window)
        if self.start not in get_args(Start):
            raise ValueError(f"start is {self.start!r}; choose one of {', '.join(get_args(Start))}")
        if self.solver is not None:
            named(self.solver, self.eta)

    @override
    def made(self, model: Model, callback: Callback | None) -> tuple[Tensor | None, Output]:
        self._check_boxes(model)
        first = self.first - 1
        calls = {first: self._call(model, first, 0, self.size, callback)}
        rest = [number for number in range(len(self.models)) if number != first]
        for place, number in enumerate(rest, start=1):
            calls[number] = self._call(model, number, place, calls[first].record.size, None)
        out = aggregate(
            [calls[number] for number in range(len(calls))],
            self.weights,
            first=first,
            mix=self.mix,
            mean=self.mean or "none",
            step_sizes=self.step_sizes,
            window=moves_of(self.window),
            joined=self.start == "joined",
        )
        return None, out

    def _check_boxes(self, model: Model) -> None:
        """Refuse boxes for all that no model takes, or that each has its own in the place of."""
        takers = [str(n) for n, name in enumerate(self.models, 1) if name in model.grounders]
        if self.grounding is None or not {*takers} <= {*self.groundings}:
            return
        if not takers:
            raise ValueError(
                "boxes are given (--boxes), but none of the models takes them: the grounding "
                f"adapters of this model are {', '.join(model.grounders) or 'none'}"
            )
        raise ValueError(
            "boxes are given to all models (--boxes), but those that take them, "
            f"{', '.join(takers)}, have boxes of their own (--boxes-of): drop one or the other"
        )

    def _call(
        self,
        model: Model,
        number: int,
        place: int,
        size: int | tuple[int, int] | None,
        callback: Callback | None,
    ) -> Prepared:
        """What one model is asked, in its place in the order of mixing."""
        model, told = self._chosen(model, number, place)
        slot = place if self.start == "own" else 0
        return model.prepare(
            self.prompts.get(str(number + 1), self.prompt),
            negative_prompt=self.negative_prompt,
            seed=[apart(self.seed + sample, slot) for sample in range(self.count)],
            size=size,
            branches=["image", *(branch for branch in told if branch in model.adapters)],
            num_inference_steps=self.steps(model),
            solver=self.solver,
            eta=self.eta,
            guidance_scale=self.guidance_scale,
            callback=callback,
            **told,  # pyright: ignore[reportArgumentType] (each as its argument is)
        )

    def _chosen(self, model: Model, number: int, place: int) -> tuple[Model, dict[str, object]]:
        """The model that a name stands for, with nothing else on it, and what it is told."""
        name = self.models[number]
        which, branch, key = f"model {number + 1}", name.replace("-", "_"), str(number + 1)
        picture, own = self.pictures.get(key), self.groundings.get(key)
        if name in model.grounders and picture is None:
            if (grounding := own or self.grounding) is None:
                raise ValueError(
                    f"{which} is {name!r}, which is told where things are: give boxes (--boxes)"
                )
            migc = model.grounders[name].adapter.config.method == "migc"
            if place and migc and grounding.migc_steps is None:
                # it is asked until the window has passed, and acts as long
                grounding = replace(grounding, migc_steps=self.steps(model))
            return model.only(name), {"grounding": grounding}
        if own is not None:
            raise ValueError(
                f"{which}, {name!r}, takes no boxes: the grounding adapters of this model are "
                f"{', '.join(model.grounders) or 'none'}"
            )
        if branch in model.adapters or name == STYLE:
            if picture is None:
                raise ValueError(f"{which} is {name!r}: give its picture, {name}=FILE")
            if name != STYLE:
                return model.only(branch), {branch: Given(picture)}
            prompt = ImagePrompt(picture, self.ip_scale)
            return model.only(*model.prompters), {"image_prompt": prompt}
        if picture is not None:
            raise ValueError(
                f"{which}, {name!r}, takes no picture: there is no adapter of that name "
                f"(loaded are {', '.join(model.adapters) or 'none'})"
            )
        if name == TEXT or _names(name, model):
            return model.only(), {}
        if name in METHODS:
            raise ValueError(
                f"{which} is {name!r}, a grounding adapter that this model lacks (it has "
                f"{', '.join(model.grounders) or 'none'})"
            )
        backbone = model.backbone
        return load(name, device=backbone.device, dtype=backbone.network.dtype), {}


def check_first(number: int, models: int) -> None:
    """Raise ValueError where no model has the number of the one whose picture is kept."""
    if not 1 <= number <= models:
        raise ValueError(
            f"the first is to be model {number}, but there are {models}: number them from 1"
        )


def weights_of(
    told: Sequence[float | None], usual: Sequence[float] | None
) -> Sequence[float] | None:
    """The weights of all models but the first.

    Args:
        told: of each, or None.
        usual: where none is told; None is `aggregation.mixing.even_weights`.

    Returns:
        One a model; one that is not told beside others is the usual one.
    """
    if all(weight is None for weight in told):
        return usual
    rest = even_weights(len(told) + 1) if usual is None else usual
    return [own if weight is None else weight for weight, own in zip(told, rest, strict=True)]


def _names(name: str, model: Model) -> bool:
    """Whether a name is that of a model's own base, by its text alone."""
    own = model.backbone.name
    return name == own or (Path(own).is_dir() and Path(name).resolve() == Path(own).resolve())

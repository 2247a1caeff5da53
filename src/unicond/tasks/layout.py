"""Drawing things where boxes say.

    regions            MultiDiffusion: every box is predicted under its own phrase
    noise_collage      the same, pasted into the prompt's scene
    layout             latents move until the phrase is attended to inside its box
    paint_with_words   the phrase is attended to more inside its box
    self_guidance      the middle and the size of the phrase's attention are moved to its box's
    readout            inside the boxes a condition is followed by a head that reads the network's
                       features, without its adapter
    segmentation       the boxes as a segmentation map, a condition of the model
    segmented_regions  both: `regions`, under that segmentation map
    gligen             an adapter that was trained on phrases in boxes
    migc               one that draws each instance by itself, with its attributes
    interact           one that knows who does what to whom, too (InteractDiffusion)
    text               the prompt alone, which knows of no box

`layout`, `paint_with_words` and `self_guidance` place words of the prompt: their phrases must stand
in it. What was trained for boxes comes first where none is asked for, `interact` if they say who
does what; a model without such an adapter takes `regions`.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self, get_args

import torch
from torch import Tensor
from typing_extensions import override

from unicond.adapters.grounding.config import Method
from unicond.calls.groundings import in_vain
from unicond.calls.output import Output
from unicond.calls.prepared import Callback
from unicond.calls.request import Given
from unicond.grounding import Grounding, Placed
from unicond.mechanisms.attention import words
from unicond.mechanisms.attention.paint_with_words import Painted, PaintWithWords
from unicond.mechanisms.blending.multidiffusion import Regions
from unicond.mechanisms.blending.noise_collage import NoiseCollage
from unicond.mechanisms.guidance import layout
from unicond.mechanisms.guidance.properties import Position, Term
from unicond.mechanisms.guidance.properties import Size as ObjectSize
from unicond.mechanisms.guidance.readout import Readout
from unicond.mechanisms.guidance.self_guidance import SelfGuidance
from unicond.model import Model
from unicond.pictures.decoding import Source as Picture
from unicond.pictures.fitting import Size
from unicond.sampling.state import Mechanism
from unicond.tasks.compose import APART
from unicond.tasks.conditioned import Conditioned, boxed
from unicond.tasks.heads import follow, with_map
from unicond.tasks.places import draw_outlines, draw_segmentation, thing_of

SCALED = ("layout", "paint_with_words", "self_guidance", "readout", "gligen", "interact")
"""Methods whose strength is a scale."""
DRAWN = ("segmentation", "segmented_regions")
"""Methods that give the boxes as a map."""
PROMPTED = ("regions", "noise_collage", "segmented_regions")
"""Methods whose phrases are prompts of their own."""
GROUNDED: tuple[str, ...] = get_args(Method)
"""Methods that are adapters of the model."""
USUAL = "regions"
"""The method of a model that was not trained for boxes."""
MOVED = 300.0
"""Usual scale of `self_guidance`, measured on the embedded model (`docs/mechanisms`)."""
LARGEST = 0.9
"""Share of the picture that `self_guidance` asks for at most."""


@dataclass(frozen=True, eq=False)
class Layout(Conditioned):
    """Make a picture with things in their boxes.

    Args:
        prompt: of the whole picture.
        boxes: (phrase, left, top, right, bottom), shares of width and height in [0, 1]; at least
            one. Or a `Grounding`, which may say what they do, and more to the methods in
            `GROUNDED`.
        scale: of the methods in `SCALED`; None is the method's own, 0.0 is off.
        coarse: of the methods in `DRAWN`, up to which time the drawn map is coarse, in [0, 1].
        head: of `readout`, as `unicond.loading.load_readout` takes it; "" is the embedded one of
            the condition.
        method: one of `METHODS`; None is the first of `preferred` that the model has as an adapter,
            else `USUAL`.

    Raises:
        ValueError: an unknown method, something that it does not use, no box, too many, or one
            that is empty or leaves the picture; a phrase that a segmentation has no class for, or
            that is too long; a readout without the one condition that it reads.
    """

    prompt: str
    boxes: Sequence[Placed] | Grounding
    scale: float | None = field(default=None, kw_only=True)
    coarse: float = field(default=0.0, kw_only=True)
    head: str = field(default="", kw_only=True)
    method: str | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        method = self.method or USUAL
        if method not in METHODS:
            raise ValueError(f"no method {method!r}: choose one of {', '.join(METHODS)}")
        if not isinstance(self.boxes, Grounding) and not self.boxes:
            raise ValueError(
                "a layout needs boxes: give at least one as (phrase, left, top, right, bottom) "
                "(--box 'a red ball@0.1,0.3,0.4,0.9')"
            )
        if self.method in (None, *GROUNDED):  # None: the model decides, and `run` checks again
            Grounding.of(self.boxes)
        else:
            boxed(self.places)
        if self.scale is not None and self.method not in (None, *SCALED):
            raise ValueError(
                f"method {method!r} has no scale: drop it, or choose {' or '.join(SCALED)}"
            )
        if self.coarse and method not in DRAWN:
            raise ValueError(f"method {method!r} draws no map that could be coarse: drop it")
        if self.head and method != "readout":
            raise ValueError(f"method {method!r} reads nothing off the network: drop head")
        if method == "readout" and len(self.conditions) != 1:
            raise ValueError(
                f"method 'readout' follows one map inside the boxes, and {len(self.conditions)} "
                "conditions are given: give one that a head was trained for (--depth FILE)"
            )
        if method in DRAWN:
            for phrase, *_ in self.places:
                thing_of(phrase)

    @property
    @override
    def held(self) -> Mapping[str, Picture]:
        """None of `readout`, whose head reads what an adapter would be given."""
        return {} if self.method == "readout" else self.conditions

    @property
    def grounding(self) -> Grounding:
        """The boxes and what is said of them, at the task's scale."""
        found = Grounding.of(self.boxes)
        return found if self.scale is None else replace(found, scale=self.scale)

    @property
    def places(self) -> list[Placed]:
        """(phrase, left, top, right, bottom) of every box."""
        return self.boxes.places() if isinstance(self.boxes, Grounding) else list(self.boxes)

    @override
    def settled(self, model: Model) -> Self:
        if self.method is not None:
            return self
        able = [name for name in preferred(self.grounding) if name in model.grounders]
        return replace(self, method=next(iter(able), USUAL))

    @override
    def made(self, model: Model, callback: Callback | None) -> tuple[Tensor | None, Output]:
        size = self.fitted_size(model)
        given = dict[str, Given]()
        if self.method in DRAWN:
            drawn = draw_segmentation(self.places, size)
            given[self._segmentation(model)] = Given(drawn, noise=self.coarse, fit="keep")
        method = self.method or USUAL
        said = Grounding.of(self.boxes)
        if method not in GROUNDED and (lost := in_vain([said], [method])):
            warnings.warn(lost, stacklevel=2)  # the others' is the call's
        if method in PROMPTED and not said.cut:
            model.backbone.check_phrases([phrase for phrase, *_ in self.places])
        mechanisms = METHODS[method](self, model, size)
        grounding = None
        if self.method in GROUNDED:
            model, grounding = self._grounded(model), self.grounding
        out = self.call(model, callback, self.prompt, size, mechanisms, given, grounding)
        for guide in mechanisms:
            if isinstance(guide, Readout):
                out = with_map(out, next(iter(self.conditions)), guide)
        return draw_outlines(self.places, size)[None], out

    def words(self, model: Model) -> list[Tensor]:
        """Where each phrase is in the prompt.

        Args:
            model: whose tokenizer it is.

        Returns:
            (1, tokens) a box, 1 at its words.

        Raises:
            ValueError: phrases that are not in the prompt; they are listed.
        """
        tokenizer, phrases = model.backbone.tokenizers[0], [phrase for phrase, *_ in self.places]
        try:
            words.places(tokenizer, self.prompt, phrases)
        except ValueError as error:
            raise ValueError(
                f"{error}: {self.method!r} places words of the prompt, so write them there as they "
                "are in the boxes, or choose regions or noise_collage (--method)"
            ) from error
        return [words.places(tokenizer, self.prompt, [phrase]) for phrase in phrases]

    def _grounded(self, model: Model) -> Model:
        """The model with the method's adapter, and those of the conditions, alone."""
        method = self.method or USUAL
        if method not in model.grounders:
            raise ValueError(
                f"method {method!r} is an adapter, which this model has not: load it (--adapter "
                f"{method}), or choose another method"
            )
        return model.only(*(b for b in self.conditions if b in model.adapters), method)

    def _segmentation(self, model: Model) -> str:
        """The branch that shows segmentations."""
        found = segmented(model)
        if found is None:
            raise ValueError(
                f"method {self.method!r} gives the boxes as a segmentation map, and no adapter of "
                f"this model is for it (it has {', '.join(model.adapters) or 'none'}): load one "
                "(--adapter segmentation), or choose another method"
            )
        if found in self.conditions:
            raise ValueError(
                f"method {self.method!r} draws {found!r} itself: drop it from the conditions"
            )
        return found


def segmented(model: Model) -> str | None:
    """The branch of a model that shows segmentations; None where it has none."""
    kinds = {b: loaded.adapter.config.kind for b, loaded in model.adapters.items()}
    return next((branch for branch, kind in kinds.items() if kind == "segmentation"), None)


def preferred(grounding: Grounding) -> tuple[str, ...]:
    """The adapters for what is said of boxes, the best first.

    Args:
        grounding: the boxes, and who does what.

    Returns:
        Methods of `GROUNDED`.
    """
    usual = ("migc", "gligen")
    return ("interact", *usual) if grounding.interactions else usual


def _regions(task: Layout, _model: Model, _size: Size) -> Sequence[Mechanism]:
    return [Regions(regions=boxed(task.places), bootstrap=APART)]


def _collage(task: Layout, _model: Model, _size: Size) -> Sequence[Mechanism]:
    return [NoiseCollage(objects=boxed(task.places))]


def _guided(task: Layout, model: Model, _size: Size) -> Sequence[Mechanism]:
    objects = [
        layout.Placed(words=marks, box=(left, top, right, bottom))
        for marks, (_, left, top, right, bottom) in zip(task.words(model), task.places, strict=True)
    ]
    if task.scale is None:
        return [layout.Layout(objects=objects)]
    return [layout.Layout(objects=objects, scale=task.scale)]


def _painted(task: Layout, model: Model, size: Size) -> Sequence[Mechanism]:
    latents = torch.empty(1, *model.backbone.latent_shape(size))
    placed = zip(task.words(model), boxed(task.places), strict=True)
    painted = [Painted(words=marks, mask=box.inside(latents)) for marks, box in placed]
    if task.scale is None:
        return [PaintWithWords(regions=painted)]
    return [PaintWithWords(regions=painted, scale=task.scale)]


def _self_guided(task: Layout, model: Model, _size: Size) -> Sequence[Mechanism]:
    weight, terms = 1 / len(task.places), list[Term]()
    for marks, (_, left, top, right, bottom) in zip(task.words(model), task.places, strict=True):
        middle, share = ((left + right) / 2, (top + bottom) / 2), (right - left) * (bottom - top)
        terms.append(Position(words=marks, to=middle, weight=weight))
        terms.append(ObjectSize(words=marks, to=min(share, LARGEST), weight=weight))
    return [SelfGuidance(terms=terms, scale=MOVED if task.scale is None else task.scale)]


def _read(task: Layout, model: Model, size: Size) -> Sequence[Mechanism]:
    ((branch, picture),) = task.conditions.items()
    guide = follow(model, branch, Given(picture), size, task.head, task.scale)
    latents = torch.empty(1, *model.backbone.latent_shape(size))
    inside = torch.stack([box.inside(latents) for box in boxed(task.places)]).amax(0)
    return [replace(guide, mask=inside)]


def _nothing(_task: Layout, _model: Model, _size: Size) -> Sequence[Mechanism]:
    return []


METHODS: Mapping[str, Callable[[Layout, Model, Size], Sequence[Mechanism]]] = {
    "regions": _regions,
    "noise_collage": _collage,
    "layout": _guided,
    "paint_with_words": _painted,
    "self_guidance": _self_guided,
    "readout": _read,
    "segmentation": _nothing,
    "segmented_regions": _regions,
    "text": _nothing,
    **dict.fromkeys(GROUNDED, _nothing),
}
"""All methods of `Layout`."""

"""Composing a picture of several texts: joined, kept out, each in its place, or by two models.

    composable       texts joined by their weights; a negative weight keeps one out
    semantic         texts as edits of what the prompt makes, each with a scale
    magic_fusion     a second model with a text of its own, whose weight is its share
    multidiffusion   texts in boxes or masks, averaged where they meet
    noise_collage    the same, pasted into a scene that goes on below them
    panorama         a picture larger than the base's own by windows, with or without places
    blended          texts inside boxes or masks of a given picture, which stays elsewhere

Where none is asked for it follows from what is given: a picture is blended, another model fused,
places are a panorama in a size larger than the base's, else averaged, and texts are composed.

Any may be made under conditions: a panorama under a wide depth map, objects under a pose.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Self

import torch
from torch import Tensor
from typing_extensions import override

from unicond.calls.companions import companion
from unicond.calls.output import Output
from unicond.calls.prepared import Callback
from unicond.calls.request import Given
from unicond.grounding import Placed
from unicond.loading import load
from unicond.mechanisms.blending import semantic
from unicond.mechanisms.blending.composable import Composable
from unicond.mechanisms.blending.magic_fusion import MagicFusion
from unicond.mechanisms.blending.multidiffusion import Panorama, Regions
from unicond.mechanisms.blending.noise_collage import NoiseCollage
from unicond.mechanisms.blending.regions import Region
from unicond.model import Model
from unicond.pictures.decoding import Source as Picture
from unicond.pictures.files import PictureError
from unicond.pictures.fitting import Size, allowed_size, fit
from unicond.pictures.masks import read_mask
from unicond.pictures.reading import read_picture
from unicond.sampling.state import Mechanism
from unicond.sampling.window import Window
from unicond.tasks.conditioned import Conditioned, boxed

WEIGHTS: Mapping[str, float] = {"composable": 5.0, "semantic": 7.0, "magic_fusion": 1.0}
"""Usual weights of a text by method; -WEIGHTS keeps one out."""
APART = Window.share(0.0, 0.2)
"""While regions see a plain colour around them."""


@dataclass(frozen=True, eq=False)
class Compose(Conditioned):
    """Make one picture of several texts.

    Args:
        prompt: of the whole picture, the scene.
        texts: {text: weight}; negative keeps out, of `semantic` takes away.
        regions: (text, left, top, right, bottom), shares of width and height in [0, 1].
        masks: {text: picture, white where it is to be}, in the picture's own proportions.
        picture: of `blended`, what stays outside of the places.
        other: of `magic_fusion`, what `unicond.load` takes as a base; it must share the latents
            and the noise schedule.
        scene: weight of the prompt where places are; None is the method's own, 0.0 leaves them.
        method: one of `METHODS`; None follows from what is given, see `usual`.

    Raises:
        ValueError: an unknown method, something that it lacks or does not use, a place out of
            range or empty, too many, or weights that leave nothing.
    """

    PICTURES: ClassVar[frozenset[str]] = frozenset({"picture"})
    PICTURES_BY_NAME: ClassVar[frozenset[str]] = Conditioned.PICTURES_BY_NAME | {"masks"}

    prompt: str = ""
    texts: Mapping[str, float] = field(default_factory=dict[str, float], kw_only=True)
    regions: Sequence[Placed] = field(default=(), kw_only=True)
    masks: Mapping[str, Picture] = field(default_factory=dict[str, Picture], kw_only=True)
    picture: Picture | None = field(default=None, kw_only=True)
    other: str = field(default="", kw_only=True)
    scene: float | None = field(default=None, kw_only=True)
    method: str | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        name = self.chosen()
        if name not in METHODS:
            raise ValueError(f"no method {name!r}: choose one of {', '.join(METHODS)}")
        self._check_fields(name, METHODS[name])
        boxed(self.regions, len(self.masks))
        if METHODS[name].takes & {"texts"}:
            self._check_weights(name)

    def chosen(self, side: int | None = None) -> str:
        """The method: what is asked for, or what follows from what is given.

        Args:
            side: of the pictures that the base draws at once; None is not known yet.

        Returns:
            Its name.
        """
        if self.method is not None:
            return self.method
        size = (self.size,) if isinstance(self.size, int) else self.size
        larger = size is not None and side is not None and max(size) > side
        given = self._given()
        if not given and size is not None:  # of a scene alone windows can be made
            return "panorama"
        return usual(given, larger)

    def _given(self) -> set[str]:
        return {name for name in FIELDS if _is_given(getattr(self, name))}

    def _check_fields(self, chosen: str, method: "_Method") -> None:
        """Refuse what the method does not use, and ask for what it lacks."""
        given = self._given()
        for name in [name for name in FIELDS if name in given - method.takes]:
            users = [other for other, one in METHODS.items() if name in one.takes]
            raise ValueError(
                f"method {chosen!r} does not use {name}: drop it, or choose "
                f"{' or '.join(users)} (--method)"
            )
        for names in method.needs:
            if not given & set(names):
                what = " or ".join(f"{name} ({FIELDS[name]})" for name in names)
                raise ValueError(f"method {chosen!r} needs {what}")
        if "scene" in given and not given & set(_PLACES):
            raise ValueError(
                "scene is the weight of the prompt where places are, and there are none: drop it, "
                "or give regions (--region)"
            )

    def _check_weights(self, chosen: str) -> None:
        weights = self.texts.values()
        if not any(weights):
            raise ValueError(
                f"the weights of {', '.join(map(repr, self.texts))} are all 0, so that nothing is "
                f"composed; usual is {WEIGHTS[chosen]:g}"
            )
        if chosen == "composable" and not self.prompt and max(weights) <= 0:
            raise ValueError(
                f"all weights keep something out ({', '.join(map(repr, self.texts))}), so that "
                "nothing is left to be made: give a prompt, or a text with a weight above 0"
            )
        if chosen == "magic_fusion" and (len(self.texts) > 1 or max(weights) < 0):
            raise ValueError(
                f"magic_fusion takes one text, the other model's own, with a weight above 0, not "
                f"{dict(self.texts)}"
            )

    @override
    def settled(self, model: Model) -> Self:
        return replace(self, method=self.chosen(model.backbone.sample_size))

    @override
    def made(self, model: Model, callback: Callback | None) -> tuple[Tensor | None, Output]:
        if self.picture is None:
            before, size = None, self.fitted_size(model)
        else:
            inputs = self.inputs(model, self.picture)
            before, size = inputs.pictures["image"], inputs.size
        places = self._places(size)
        prompt, given = self.prompt, dict[str, Given]()
        method = METHODS[self.chosen(model.backbone.sample_size)]
        mechanisms = method.make(self, model, size, places)
        if before is not None:
            outside = _outside(model, size, places)
            given["image"] = Given(before, mask=outside, fit="keep")  # brought to size before
            if len(places) == 1:  # the scene's prediction would only be written over
                prompt, mechanisms = places[0].prompt, []
        return before, self.call(model, callback, prompt, size, mechanisms, given)

    @override
    def fitted_size(self, model: Model) -> Size:
        """A panorama has the proportions of its conditions, and the base's side across."""
        if self.method != "panorama" or self.size is not None or not self.conditions:
            return super().fitted_size(model)
        first = next(b for b in (*model.adapters, *self.conditions) if b in self.conditions)
        height, width = read_picture(self.conditions[first]).shape[-2:]
        area = round(model.backbone.sample_size**2 * max(height, width) / min(height, width))
        return allowed_size(height, width, model.backbone.multiple, area)

    def _places(self, size: Size) -> list[Region]:
        """Boxes, then masks at the size of the run."""
        own = None if self.picture is None else read_picture(self.picture).shape
        over = size if own is None else (own[-2], own[-1])
        found = boxed(self.regions)
        for text, picture in self.masks.items():
            try:
                mask = fit(read_mask(picture, over), size, policy="crop", resample="nearest")
            except PictureError as error:
                raise PictureError(f"the place of {text!r} (white is inside): {error}") from error
            found.append(Region(prompt=text, mask=mask[None]))
        return found


def _is_given(value: object) -> bool:
    """Whether a field is not left as it is; a number that is 0 is given, too."""
    return value is not None and not (isinstance(value, str | Mapping | Sequence) and not value)


def _outside(model: Model, size: Size, places: Sequence[Region]) -> Tensor:
    """What is in no place, (1, H, W) in [0, 1]: whole latents, as the places count them."""
    like = torch.empty(1, *model.backbone.latent_shape(size))
    outside = 1 - torch.stack([place.inside(like) for place in places]).amax(0)[0]
    factor = model.backbone.factor
    return outside.repeat_interleave(factor, -2).repeat_interleave(factor, -1)


def usual(given: Collection[str], larger: bool = False) -> str:
    """The method where none is asked for.

    Args:
        given: names of `FIELDS`.
        larger: whether the picture is larger than what the base draws at once.

    Returns:
        The method that is made for what is given.
    """
    if "picture" in given:
        return "blended"
    if "other" in given:
        return "magic_fusion"
    if {*_PLACES} & {*given}:
        return "panorama" if larger else "multidiffusion"
    return "composable"


Make = Callable[[Compose, Model, Size, Sequence[Region]], Sequence[Mechanism]]


@dataclass(frozen=True)
class _Method:
    """What a method takes: each of `needs` names fields of which it needs one."""

    make: Make
    takes: frozenset[str]
    needs: tuple[tuple[str, ...], ...]


def _composable(
    task: Compose, _model: Model, _size: Size, _places: Sequence[Region]
) -> Sequence[Mechanism]:
    return [Composable(concepts=task.texts)]


def _semantic(
    task: Compose, _model: Model, _size: Size, _places: Sequence[Region]
) -> Sequence[Mechanism]:
    edits = [semantic.Edit(prompt=text, scale=scale) for text, scale in task.texts.items()]
    return [semantic.SemanticGuidance(edits=edits)]


def _fused(
    task: Compose, model: Model, size: Size, _places: Sequence[Region]
) -> Sequence[Mechanism]:
    backbone = model.backbone
    other = load(task.other, device=backbone.device, dtype=backbone.network.dtype)
    ((text, weight),) = task.texts.items()
    denoiser = companion(model, other, text, task.negative_prompt, size)
    usual = other.backbone.defaults.guidance_scale
    scale = usual if task.guidance_scale is None else task.guidance_scale
    return [MagicFusion(other=denoiser, guidance_scale=scale, weight=weight)]


def _regions(
    task: Compose, _model: Model, _size: Size, places: Sequence[Region]
) -> Sequence[Mechanism]:
    return [Regions(regions=places, scene=task.scene or 0.0, bootstrap=APART)]


def _collage(
    task: Compose, _model: Model, _size: Size, places: Sequence[Region]
) -> Sequence[Mechanism]:
    if task.scene is None:
        return [NoiseCollage(objects=places)]
    return [NoiseCollage(objects=places, scene=task.scene)]


def _panorama(
    task: Compose, model: Model, size: Size, places: Sequence[Region]
) -> Sequence[Mechanism]:
    base = model.backbone
    if max(size) <= base.sample_size:
        raise ValueError(
            f"a panorama of height {size[0]}, width {size[1]} is not larger than what "
            f"{base.name} draws at once ({base.sample_size}): give its size, such as "
            f"{base.sample_size}x{3 * base.sample_size} (--size), or choose another method"
        )
    wide = Panorama(window=base.sample_size // base.factor)
    # places are of the whole picture, so that they go outside of the windows
    return [*(_regions(task, model, size, places) if places else []), wide]


def _blended(
    _task: Compose, _model: Model, _size: Size, places: Sequence[Region]
) -> Sequence[Mechanism]:
    return [Regions(regions=places)]


FIELDS: Mapping[str, str] = {
    "texts": "{text: weight}; --with TEXT=W, --without TEXT=W",
    "regions": "(text, left, top, right, bottom); --region TEXT@LEFT,TOP,RIGHT,BOTTOM",
    "masks": "{text: picture, white inside}; --region TEXT@FILE",
    "picture": "what stays outside; --picture FILE",
    "other": "a second model; --other BASE",
    "scene": "weight of the prompt where places are; --scene W",
}
_PLACES = ("regions", "masks")
_IN_PLACES = frozenset({*_PLACES, "scene"})
METHODS: Mapping[str, _Method] = {
    "composable": _Method(_composable, frozenset({"texts"}), (("texts",),)),
    "semantic": _Method(_semantic, frozenset({"texts"}), (("texts",),)),
    "magic_fusion": _Method(_fused, frozenset({"texts", "other"}), (("other",), ("texts",))),
    "multidiffusion": _Method(_regions, _IN_PLACES, (_PLACES,)),
    "noise_collage": _Method(_collage, _IN_PLACES, (_PLACES,)),
    "panorama": _Method(_panorama, _IN_PLACES, ()),
    "blended": _Method(_blended, frozenset({*_PLACES, "picture"}), (("picture",), _PLACES)),
}
"""All methods of `Compose`."""

"""What is asked of a model that composes two solids, and every way of asking it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from torch import Tensor

from unicond.calls.companions import companion
from unicond.evaluation.metrics_objects import Spot
from unicond.evaluation.study import Bench
from unicond.evaluation.tasks.placed import Things
from unicond.mechanisms.blending.magic_fusion import MagicFusion
from unicond.sampling.state import Mechanism
from unicond.tasks.compose import WEIGHTS, Compose
from unicond.tasks.layout import segmented
from unicond.tasks.places import draw_segmentation

TEXT = "text"
PANORAMA, TWO_MODELS, ONE_MODEL = "panorama", "magic_fusion", "magic_fusion_1"
WITHOUT, JOINED, KEPT_OUT = "composable_not", 2.0, -3.0
"""The method that leaves one out, and the weights of what it draws and of what it does not."""
SEGMENTATION = "segmentation"
IN_BOXES = ("blended", "multidiffusion")
SHAPED = {f"{name}+{SEGMENTATION}": name for name in IN_BOXES}
"""{method: what it is without the segmentation}."""


@dataclass(frozen=True)
class Pair:
    """Two solids side by side.

    Attributes:
        things: of the scene.
        left: index of the left one.
        right: index of the right one.
    """

    things: Things
    left: int
    right: int

    @property
    def spots(self) -> tuple[Spot, Spot]:
        """The left one, the right one."""
        return self.things.spots[self.left], self.things.spots[self.right]

    @property
    def phrases(self) -> tuple[str, str]:
        """Likewise in words."""
        return self.things.phrases[self.left], self.things.phrases[self.right]

    @property
    def caption(self) -> str:
        """All of it, sides included."""
        left, right = self.phrases
        return f"{left} left of {right} {self.things.ground}"

    @property
    def alone(self) -> tuple[str, str]:
        """Each on the ground, in words."""
        left, right = (f"{phrase} {self.things.ground}" for phrase in self.phrases)
        return left, right


@dataclass(frozen=True)
class Asked:
    """What is asked of a model.

    Attributes:
        pair: what is to be seen.
        empty: (3, H, W) in [-1, 1], the ground alone.
        seed: of the noise.
        bench: with the model, the steps and the guidance.
    """

    pair: Pair
    empty: Tensor
    seed: int
    bench: Bench

    def composed(self, task: Compose) -> Tensor:
        """The picture of a task, which gets the settings of all, (3, H, W) in [-1, 1]."""
        told = self.bench.generation
        settled = replace(
            task,
            seed=self.seed,
            num_inference_steps=told.steps,
            guidance_scale=told.guidance,
        )
        return settled.run(self.bench.model).pictures["image"][0].float()

    def told(self, prompt: str, mechanisms: Sequence[Mechanism] = ()) -> Tensor:
        """The picture of a prompt, (3, H, W) in [-1, 1]."""
        out = self.bench.model(
            prompt,
            seed=self.seed,
            branches=["image"],
            num_inference_steps=self.bench.generation.steps,
            guidance_scale=self.bench.generation.guidance,
            mechanisms=mechanisms,
        )
        return out.pictures["image"][0].float()

    @property
    def boxes(self) -> list[tuple[str, float, float, float, float]]:
        """Both in their boxes."""
        both = zip(self.pair.alone, self.pair.spots, strict=True)
        return [(text, *spot.box) for text, spot in both]

    @property
    def drawn(self) -> dict[str, Tensor]:
        """The boxes as a segmentation, {branch: map}: all that it knows of the scene."""
        model = self.bench.model
        branch, side = segmented(model), model.backbone.sample_size
        assert branch is not None
        return {branch: draw_segmentation(self.boxes, (side, side))}


def _composable(asked: Asked) -> Tensor:
    texts = dict.fromkeys(asked.pair.alone, WEIGHTS["composable"])
    return asked.composed(Compose(texts=texts, method="composable"))


def _without(asked: Asked) -> Tensor:
    left, right = asked.pair.phrases
    texts = {left: JOINED, right: KEPT_OUT}
    return asked.composed(Compose(asked.pair.caption, texts=texts, method="composable"))


def _fused(asked: Asked) -> Tensor:
    left, right = asked.pair.alone
    bench, guidance = asked.bench, asked.bench.generation.guidance
    second = bench.model if bench.other is None else bench.other.model
    usual = second.backbone.defaults.guidance_scale
    other = companion(bench.model, second, right)
    scale = usual if guidance is None else guidance
    return asked.told(left, [MagicFusion(other=other, guidance_scale=scale)])


def _in_boxes(method: str, asked: Asked, shaped: bool = False) -> Tensor:
    blended, ground = method == "blended", asked.pair.things.ground
    task = Compose(
        "" if blended else ground,
        regions=asked.boxes,
        picture=asked.empty if blended else None,
        conditions=asked.drawn if shaped else {},
        method=method,
    )
    return asked.composed(task)


def _panorama(asked: Asked) -> Tensor:
    side = asked.bench.model.backbone.sample_size
    texts = zip(asked.pair.alone, halved(asked.pair.spots), strict=True)
    task = Compose(
        asked.pair.things.ground,
        regions=[(text, *spot.box) for text, spot in texts],
        method="panorama",
        size=(side, 2 * side),
    )
    return asked.composed(task)


def halved(both: tuple[Spot, Spot]) -> tuple[Spot, Spot]:
    """The left one and the right one in a picture twice as wide, each in its half."""
    left, right = (
        replace(spot, box=(at + spot.box[0] / 2, spot.box[1], at + spot.box[2] / 2, spot.box[3]))
        for at, spot in zip((0.0, 0.5), both, strict=True)
    )
    return left, right


def _text(asked: Asked) -> Tensor:
    return asked.told(asked.pair.caption)


METHODS: Mapping[str, Callable[[Asked], Tensor]] = {
    "composable": _composable,
    WITHOUT: _without,
    TWO_MODELS: _fused,
    ONE_MODEL: _fused,
    **{name: partial(_in_boxes, name) for name in IN_BOXES},
    **{name: partial(_in_boxes, plain, shaped=True) for name, plain in SHAPED.items()},
    PANORAMA: _panorama,
    TEXT: _text,
}
"""{method: the picture (3, H, W) that it makes}."""

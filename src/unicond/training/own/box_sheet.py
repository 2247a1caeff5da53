"""What a grounding adapter in training draws where boxes of held-out pictures are, on one sheet."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from unicond.adapters.grounding.adapter import GroundingAdapter
from unicond.backbones.base import Backbone
from unicond.data.boxes import Scene
from unicond.grounding import Box, Grounding, Interaction
from unicond.model import Loaded, Model
from unicond.pictures.files import whole_file
from unicond.pictures.sheet import Line, sheet
from unicond.tasks.preview import draw_grounding

SHOWN = 4
"""Pictures on a sheet."""


@dataclass(frozen=True)
class BoxSheet:
    """Draws with the whole model, as its users will.

    Args:
        backbone: the base.
        scenes: what is where in some pictures.
        pictures: the same, each (3, side, side) in [-1, 1].
        steps: network calls a picture.
    """

    backbone: Backbone
    scenes: Sequence[Scene]
    pictures: Sequence[Tensor]
    steps: int

    def __call__(self, adapter: GroundingAdapter, folder: Path) -> None:
        """Write `samples.png`.

        Args:
            adapter: as it is now.
            folder: of the run.
        """
        method, side = adapter.config.method, self.pictures[0].shape[-1]
        model = Model(self.backbone, {}, grounders={method: Loaded("in training", adapter)})
        places: list[Tensor] = []
        drawn: list[Tensor] = []
        captions = [scene.captions[0] if scene.captions else "" for scene in self.scenes]
        for number, scene in enumerate(self.scenes):  # one by one: less memory than a step takes
            said = grounding_of(scene, with_acts=method == "interact")
            places.append(draw_grounding(said, (side, side)))
            out = model(
                captions[number],
                grounding=said,
                seed=number,
                size=(side, side),
                num_inference_steps=self.steps,
            )
            drawn.append(out.pictures["image"][0].cpu())
        lines = (
            Line("image", self.pictures, captions),
            Line("what is told", places),
            Line("image from what is told", drawn),
        )
        with whole_file(folder / "samples.png") as file:
            sheet(lines).save(file, "PNG")


def grounding_of(scene: Scene, with_acts: bool) -> Grounding:
    """A scene as a call tells it.

    Args:
        scene: of at least one thing.
        with_acts: whether with its interactions, which InteractDiffusion alone takes.

    Returns:
        The grounding.
    """
    boxes = tuple(Box(phrase, box) for phrase, box in zip(scene.phrases, scene.boxes, strict=True))
    acts = scene.interactions if with_acts else ()
    return Grounding(boxes, tuple(Interaction(*one) for one in acts), cut=scene.cut)

"""Pictures as prompts (IP-Adapter), as mechanisms of a run."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from unicond.adapters.during import Attached
from unicond.adapters.image_prompt.attach import Attachment
from unicond.adapters.image_prompt.prompter import Prompter
from unicond.backbones.base import Backbone
from unicond.calls.inputs import fingerprints, pictures_of
from unicond.calls.record import Record, Shown
from unicond.pictures.decoding import Source as Picture
from unicond.pictures.reading import read_picture
from unicond.sampling.window import ALWAYS, Window


@dataclass(frozen=True, eq=False)
class ImagePrompt:
    """Pictures that say beside the words what is to be drawn, and in which style.

    Args:
        picture: path, PIL image, array, or tensor (3, H, W) in [-1, 1]; or several, which all
            samples look at together. Of any sizes.
        scale: of the attention to them, `ip_scale`; 0.0 is off. Published: 1.0 for a variation,
            0.5 to 0.8 beside a prompt of its own.
        window: when it acts.

    Raises:
        ValueError: a scale that is not finite.
        PictureError: a list without a picture.
    """

    picture: Picture | Sequence[Picture]
    scale: float = 1.0
    window: Window = ALWAYS

    def __post_init__(self) -> None:
        if not math.isfinite(self.scale):
            raise ValueError(f"the scale of an image prompt is {self.scale}; give a finite number")
        self.pictures()

    def pictures(self) -> list[Picture]:
        """All of them."""
        return pictures_of(self.picture)

    def recorded(self) -> Shown:
        """What a record says of it."""
        return Shown(fingerprints(self.pictures()), self.scale, self.window)


def shown(said: "Picture | Sequence[Picture] | ImagePrompt | None") -> ImagePrompt | None:
    """What a caller gives as an image prompt."""
    return said if said is None or isinstance(said, ImagePrompt) else ImagePrompt(said)


@torch.no_grad()
def mechanisms(
    backbone: Backbone,
    prompters: Mapping[str, Prompter],
    said: ImagePrompt | None,
    record: Record,
) -> list[Attached]:
    """What lets a run look at pictures.

    Args:
        backbone: of the run.
        prompters: {name: image prompt adapter} of the model.
        said: the pictures.
        record: what was asked for.

    Returns:
        One for each adapter; none where no picture was given.

    Raises:
        ValueError: pictures without an adapter that could look at them, or an image that is given.
        PictureError: a picture cannot be read.
    """
    if said is None:
        return []
    if not prompters:
        raise ValueError(
            "an image prompt is given, but no adapter of this model looks at pictures: load "
            "image-prompt (unicond.load(base, adapters=[...]))"
        )
    if "image" not in record.generated:
        raise ValueError("an image prompt says what to draw, but the image is given, not made")
    pictures = [read_picture(one) for one in said.pictures()]
    return [
        Attached(
            Attachment(
                backbone.network,
                one.adapter,
                one.embeds(pictures),
                window=said.window,
                scale=said.scale,
            )
        )
        for one in prompters.values()
    ]

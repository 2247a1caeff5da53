"""What an adapter in training draws: each direction of a few held-out pairs, on one sheet."""

from dataclasses import dataclass
from pathlib import Path

from unicond.adapters.joint import JointAdapter
from unicond.model import Loaded, Model
from unicond.pictures.files import whole_file
from unicond.pictures.sheet import Line, sheet
from unicond.training.pictures import HeldPictures

SHOWN = 4
"""Pairs on a sheet."""


@dataclass(frozen=True)
class Sheet:
    """Draws with the whole model, as its users will.

    Args:
        held: the pairs.
        branch: of the condition.
        steps: network calls a picture.
        side: of the pictures, in pixels.
    """

    held: HeldPictures
    branch: str
    steps: int
    side: int

    def __call__(self, adapter: JointAdapter, folder: Path) -> None:
        """Write `samples.png`.

        Args:
            adapter: as it is now.
            folder: of the run.
        """
        count = min(SHOWN, len(self.held))
        image, condition = self.held.image[:count], self.held.condition[:count]
        captions = self.held.captions[:count]
        model = Model(self.held.encoder.backbone, {self.branch: Loaded("in training", adapter)})
        lines = [Line("image", list(image), captions), Line(self.branch, list(condition))]
        for given, made in (
            ({self.branch: condition}, "image"),
            ({"image": image}, self.branch),
            ({}, "image"),
        ):
            out = model(
                captions,
                size=(self.side, self.side),
                num_inference_steps=self.steps,
                **given,  # pyright: ignore[reportArgumentType] (names are branches)
            )
            source = f" from {next(iter(given))}" if given else " and"
            lines.append(Line(made + source, list(out.pictures[made].cpu())))
            if not given:
                both = list(out.pictures[self.branch].cpu())
                lines.append(Line(f"{self.branch} together", both))
        with whole_file(folder / "samples.png") as file:
            sheet(lines).save(file, "PNG")

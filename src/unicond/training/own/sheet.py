"""What an adapter in training draws: each direction of a few held-out pairs, on one sheet."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from torch import Tensor

from unicond.adapters.joint import JointAdapter
from unicond.model import Loaded, Model
from unicond.pictures.files import whole_file
from unicond.pictures.sheet import Line, sheet
from unicond.training.own.pairs import HeldPictures

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
        model = Model(self.held.encoder.backbone, {self.branch: Loaded("in training", adapter)})
        count, joint = min(SHOWN, len(self.held)), f"{self.branch}, both drawn"
        lines: dict[str, list[Tensor]] = {}
        for number in range(count):  # one by one: less memory than a step takes
            image, condition = self.held.image[number], self.held.condition[number]
            draw = partial(self._drawn, model, number)
            both = draw()
            for title, picture in (
                ("image", image),
                (self.branch, condition),
                (f"image from {self.branch}", draw(**{self.branch: condition})["image"]),
                (f"{self.branch} from image", draw(image=image)[self.branch]),
                ("image, both drawn", both["image"]),
                (joint, both[self.branch]),
            ):
                lines.setdefault(title, []).append(picture)
        captions = {"image": self.held.captions[:count]}
        drawn = [Line(title, row, captions.get(title, ())) for title, row in lines.items()]
        with whole_file(folder / "samples.png") as file:
            sheet(drawn).save(file, "PNG")

    def _drawn(self, model: Model, number: int, **given: Tensor) -> dict[str, Tensor]:
        """{branch: (3, side, side)} of what is made for one pair from what is given of it."""
        out = model(
            self.held.captions[number],
            seed=number,
            size=(self.side, self.side),
            num_inference_steps=self.steps,
            **given,  # pyright: ignore[reportArgumentType] (names are branches)
        )
        return {branch: pictures[0].cpu() for branch, pictures in out.pictures.items()}

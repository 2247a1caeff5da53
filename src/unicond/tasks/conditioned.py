"""What compositions and layouts share: pictures that condition them, and texts in places."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from unicond.calls.inputs import Inputs, read_inputs
from unicond.calls.output import Output
from unicond.calls.prepared import Callback
from unicond.calls.request import Given
from unicond.grounding import Grounding, Placed
from unicond.mechanisms.blending.regions import MOST_REGIONS, Region
from unicond.model import Model
from unicond.pictures.decoding import Source as Picture
from unicond.pictures.fitting import Size
from unicond.sampling.state import Mechanism
from unicond.tasks.base import Task


@dataclass(frozen=True, eq=False)
class Conditioned(Task):
    """A task whose picture is made under conditions.

    Args:
        conditions: {branch: its picture}, such as depth or a pose, each held as it is.

    Raises:
        ValueError: the image itself is among them.
    """

    PICTURES_BY_NAME: ClassVar[frozenset[str]] = frozenset({"conditions"})

    conditions: Mapping[str, Picture] = field(default_factory=dict[str, Picture], kw_only=True)

    def __post_init__(self) -> None:
        if "image" in self.conditions:
            raise ValueError(
                "conditions names 'image', which is what is made here: give a picture to be "
                "changed to an edit, or to a composition by method 'blended'"
            )

    @property
    def held(self) -> Mapping[str, Picture]:
        """The conditions that the model's adapters are given."""
        return self.conditions

    def fitted_size(self, model: Model) -> Size:
        """(height, width) of the run: what is asked for, or that of the conditions, in pixels."""
        return self.inputs(model).size

    def inputs(self, model: Model, picture: Picture | None = None) -> Inputs:
        """The conditions at the run's size.

        Args:
            model: a base with their adapters.
            picture: that they are maps of, which says how large the run is.

        Returns:
            What was read.

        Raises:
            PictureError: one cannot be read, or maps of one view have other proportions.
        """
        given = {branch: Given(known) for branch, known in self.conditions.items()}
        if picture is not None:
            given["image"] = Given(picture)
        kinds = {b: one.adapter.config.kind for b, one in model.adapters.items() if b in given}
        return read_inputs(given, kinds, self.size, model.backbone, model.aligned(kinds))

    def call(
        self,
        model: Model,
        callback: Callback | None,
        prompt: str,
        size: Size,
        mechanisms: Sequence[Mechanism],
        further: Mapping[str, Given],
        grounding: Grounding | None = None,
    ) -> Output:
        """Call the model for the image under the conditions.

        Args:
            model: a base with the conditions' adapters.
            callback: called after each move.
            prompt: of the whole picture.
            size: (height, width) in pixels.
            mechanisms: outermost first.
            further: {branch: what is given} beside the conditions.
            grounding: what is where, for the model's grounding adapters.

        Returns:
            The image, with the conditions as they came.
        """
        pictures = {**self.held, **further}
        model = model.only(*model.adapters) if grounding is None else model
        return model(
            prompt,
            negative_prompt=self.negative_prompt,
            seed=self.seed,
            count=self.count,
            size=size,
            branches=["image", *(branch for branch in pictures if branch != "image")],
            num_inference_steps=self.num_inference_steps,
            guidance_scale=self.guidance_scale,
            mechanisms=mechanisms,
            grounding=grounding,
            callback=callback,
            **pictures,  # pyright: ignore[reportArgumentType] (names are branches)
        )


def boxed(places: Sequence[Placed], further: int = 0) -> list[Region]:
    """Texts with their boxes, checked.

    Args:
        places: each (text, left, top, right, bottom).
        further: how many places there are beside these.

    Returns:
        A region for each.

    Raises:
        ValueError: too many, an empty text, or a box that is empty or leaves the picture.
    """
    if len(places) + further > MOST_REGIONS:
        raise ValueError(
            f"{len(places) + further} places are given, and {MOST_REGIONS} are the most: each is "
            "one more row a sample in every network call; join some, or compose in two runs"
        )
    found: list[Region] = []
    for place in places:
        if len(place) != 5:
            raise ValueError(f"{place!r} is no place: give (text, left, top, right, bottom)")
        text, *box = place
        found.append(Region(prompt=text, box=(box[0], box[1], box[2], box[3])))
    return found

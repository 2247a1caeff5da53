"""What the forms of all tasks share: their types, pictures, and what each can be asked for."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, model_validator

from unicond.pictures.checks import MAX_PROMPT, MAX_SEED, MAX_SEEDS

MOST = 64
"""Of anything that is listed."""
LONGEST_PATH = 4096
"""Characters of the name of a file, or of a model that is a folder."""
TEXTS = "texts"
"""In the context of a validation: which field of a picture a text alone is."""

Text = Annotated[str, Field(max_length=MAX_PROMPT)]
Name = Annotated[str, Field(max_length=128)]
Where = Annotated[str, Field(max_length=LONGEST_PATH)]
Branch = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_-]{0,63}$")]
Branches = Annotated[tuple[Branch, ...], Field(max_length=MOST)]
Scales = Annotated[dict[Branch, float | tuple[float, float]], Field(max_length=MOST)]
Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]
Seeds = Annotated[tuple[Seed, ...], Field(min_length=1, max_length=MAX_SEEDS)]
Side = Annotated[int, Field(ge=1, le=65_536)]
Weight = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Window = Annotated[
    tuple[Share, Share], Field(description="From and to: falling times between 1 and 0.")
]
Box = Annotated[
    tuple[float, float, float, float],
    Field(description="Left, top, right, bottom: shares of width and height."),
]


class Plain(BaseModel):
    """Frozen, and nothing in it that is not known."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Picture(Plain):
    """A picture that comes with a form: in it, or beside it.

    Args:
        base64: the file, in base64; a data URL, or this text alone, will do as well.
        upload: the name of the part of a multipart body that is the file; in a manifest the file.

    Raises:
        ValueError: neither is given, or both are.
    """

    base64: str | None = None
    upload: Where | None = None

    @model_validator(mode="before")
    @classmethod
    def _of_text(cls, value: object, info: ValidationInfo) -> object:
        kind = "base64" if info.context is None else info.context[TEXTS]
        return {kind: str(value)} if isinstance(value, str | Path) else value

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.base64 is None) == (self.upload is None):
            raise ValueError("a picture is given by base64 or by upload: give one of both")
        return self


Pictures = Annotated[dict[Branch, Picture], Field(max_length=MOST)]


class Form(Plain):
    """What every task can be asked for.

    Args:
        base: a model by the name that it is served under; None is the first one.
        negative_prompt: what guidance moves away from.
        size: side, or (height, width), in pixels.
        steps: moves that call the network.
        guidance: of text; 1 is off.
        previews: pictures on the way, at most; each is decoded, which takes time.
    """

    base: Name | None = None
    negative_prompt: Text = ""
    size: Side | tuple[Side, Side] | None = None
    steps: int | None = Field(default=None, ge=1)
    guidance: float | None = None
    previews: int = Field(default=0, ge=0, le=20)


class Counted(Form):
    """What makes samples whose seeds count up.

    Args:
        seed: of the first sample.
        count: samples.
    """

    seed: Seed = 0
    count: int = Field(default=1, ge=1)

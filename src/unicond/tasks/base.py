"""What tasks share: how they are run, recorded in a picture, and read from its record again."""

import os
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import ClassVar, Self, cast

from pydantic import ConfigDict
from torch import Tensor

from unicond.calls.inputs import read_inputs
from unicond.calls.output import Output
from unicond.calls.prepared import Callback
from unicond.calls.request import Given
from unicond.model import Model
from unicond.pictures.decoding import Source as Picture
from unicond.pictures.files import check_fingerprint, fingerprint


@dataclass(frozen=True, eq=False)
class Task:
    """One thing to make. Subclasses add their fields, all but pictures such that JSON holds them.

    Args:
        seed: of the first sample, the next get seed + 1, ...
        count: samples, at least 1.
        size: side, or (height, width), in pixels; None is that of the picture, else the base's.
        num_inference_steps: times between noise and clean; None is the base's own, or the method's.
        guidance_scale: of text; None is the base's own, 1.0 is off.
        negative_prompt: what guidance moves away from.
    """

    PICTURES: ClassVar[frozenset[str]] = frozenset()
    """Fields that are pictures: recorded by their path and hash."""
    PICTURES_BY_NAME: ClassVar[frozenset[str]] = frozenset()
    """Fields that are {name: picture}: each recorded so."""
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(arbitrary_types_allowed=True)

    seed: int = field(default=0, kw_only=True)
    count: int = field(default=1, kw_only=True)
    size: int | tuple[int, int] | None = field(default=None, kw_only=True)
    num_inference_steps: int | None = field(default=None, kw_only=True)
    guidance_scale: float | None = field(default=None, kw_only=True)
    negative_prompt: str = field(default="", kw_only=True)

    def run(self, model: Model, callback: Callback | None = None) -> Output:
        """Make it.

        Args:
            model: a base and, where the task names conditions, their adapters.
            callback: called after each move; False cancels.

        Returns:
            The pictures; `before` is what the task began with.

        Raises:
            ValueError: what was asked does not fit together, or not this model.
            Cancelled: the callback returned False.
        """
        task = self.settled(model)
        before, out = task.made(model, callback)
        return replace(out, before=before, record=replace(out.record, task=task.recorded()))

    def settled(self, model: Model) -> Self:
        """The task with the method that follows where none is asked for, as the record has it."""
        del model
        return self

    @abstractmethod
    def made(self, model: Model, callback: Callback | None) -> tuple[Tensor | None, Output]:
        """What the task begins with, (B or 1, 3, H, W) in [-1, 1], and what the model makes."""

    def steps(self, model: Model) -> int:
        """`num_inference_steps`, or the base's own."""
        usual = model.backbone.defaults.num_inference_steps
        return usual if self.num_inference_steps is None else self.num_inference_steps

    def times(self, model: Model) -> tuple[float, ...]:
        """Descending times of the network calls."""
        return model.backbone.schedule.times(self.steps(model))

    def read(self, picture: Picture, model: Model) -> Tensor:
        """A picture at the size of the run, (1, 3, H, W) in [-1, 1]."""
        read = read_inputs({"image": Given(picture)}, {}, self.size, model.backbone)
        return read.pictures["image"]

    def recorded(self) -> dict[str, object]:
        """The task as JSON can hold it, by its name; pictures from memory are {}."""
        found: dict[str, object] = {"name": type(self).__name__}
        for one in fields(self):
            value: object = getattr(self, one.name)
            if one.name in self.PICTURES_BY_NAME:
                pictures = cast(Mapping[str, object], value)
                found[one.name] = {name: _fingerprint(each) for name, each in pictures.items()}
            else:
                known = one.name in self.PICTURES
                found[one.name] = _fingerprint(value) if known else _plain(value)
        return found


def pictures_back(task: type[Task], recorded: Mapping[str, object]) -> dict[str, object]:
    """The fields of a recorded task, with the paths of its pictures.

    Args:
        task: which one it is.
        recorded: what `Task.recorded` returned.

    Returns:
        {field: value}.

    Raises:
        ValueError: a picture came from memory, is missing or has changed.
    """
    found = {name: value for name, value in recorded.items() if name != "name"}
    for name in task.PICTURES & found.keys():
        found[name] = _path_back(task, name, found[name])
    for group in task.PICTURES_BY_NAME & found.keys():
        pictures = cast(Mapping[str, object], found[group])
        found[group] = {name: _path_back(task, name, one) for name, one in pictures.items()}
    return found


def _path_back(task: type[Task], name: str, recorded: object) -> str | None:
    """The path of a recorded picture; None where there was none."""
    if recorded == {}:
        raise ValueError(
            f"the {name} of this {task.__name__} was given from memory, not from a file: it "
            "cannot be found again"
        )
    if recorded is None:
        return None
    return str(check_fingerprint(cast(Mapping[str, str], recorded)))


def _fingerprint(picture: object) -> Mapping[str, str] | None:
    if picture is None:
        return None
    return fingerprint(picture) if isinstance(picture, str | os.PathLike) else {}


def _plain(value: object) -> object:
    """Tuples as lists, dataclasses as mappings, paths as text."""
    if is_dataclass(value) and not isinstance(value, type):
        return {one.name: _plain(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in cast(Mapping[object, object], value).items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in cast(tuple[object, ...], value)]
    return str(value) if isinstance(value, Path) else value

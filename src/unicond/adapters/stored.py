"""What adapters' folders share: a configuration that says what it is of, and files that are whole.

The configuration is JSON with a `type` and a `format` beside its fields; the weights are
safetensors. The configuration is put in place last: where it is, all else is.
"""

import json
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import ClassVar, Protocol, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class StoredConfig:
    """What is known of an adapter beside its weights; its fields are plain data and tuples of it.

    Attributes:
        TYPE: what files of it are marked with.
        FORMAT: of the files.
        KIND: what it is of, in messages.
        TUPLES: the fields that are tuples here and lists in the file.
        OPTIONAL: the fields that the file lacks where they are None.
    """

    TYPE: ClassVar[str]
    FORMAT: ClassVar[int]
    KIND: ClassVar[str]
    TUPLES: ClassVar[tuple[str, ...]] = ()
    OPTIONAL: ClassVar[tuple[str, ...]] = ()

    def to_json(self) -> str:
        """The content of the file."""
        told = {"type": self.TYPE, "format": self.FORMAT, **asdict(self)}
        for name in self.OPTIONAL:
            if told[name] is None:
                del told[name]
        return json.dumps(told, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str, source: str) -> Self:
        """Read the content of the file.

        Args:
            text: the file's content.
            source: where it came from, for messages.

        Returns:
            The configuration.

        Raises:
            ValueError: it is not JSON, of something else, of a newer format, or a field is unknown,
                missing or wrong.
        """
        try:
            content: object = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"{source} is not JSON: {error}") from error
        if not isinstance(content, Mapping) or content.get("type") != cls.TYPE:
            what = "a peft adapter" if "peft_type" in text else "something else"
            raise ValueError(
                f"{source} describes {what}, not {cls.KIND} (its type is not {cls.TYPE!r})"
            )
        if content.get("format") != cls.FORMAT:
            raise ValueError(f"{source} has format {content.get('format')!r}; this is {cls.FORMAT}")
        values = {str(key): one for key, one in content.items() if key not in ("type", "format")}
        expected = {field.name for field in fields(cls)}
        unknown, missing = values.keys() - expected, expected - values.keys() - {*cls.OPTIONAL}
        if unknown or missing:
            raise ValueError(
                f"{source}: unknown fields {sorted(unknown)}, missing fields {sorted(missing)}"
            )
        for name in cls.TUPLES:
            if not isinstance(values[name], list):
                raise ValueError(f"{source}: {name} are {values[name]!r}; they must be a list")
            values[name] = tuple(values[name])
        try:
            return cls(**values)
        except ValueError as error:
            raise ValueError(f"{source}: {error}") from error


@dataclass(frozen=True)
class Page:
    """What an adapter's card tells of the adapter itself.

    Args:
        title: of the card.
        tags: for the Hub, beside "unicond".
        intro: how it is used, with commands; lines.
        facts: what it is, one a line.
    """

    title: str
    tags: tuple[str, ...]
    intro: tuple[str, ...]
    facts: tuple[str, ...]


class Described(Protocol):
    """A configuration that goes into a folder with a card."""

    @property
    def base(self) -> str:
        """The network that the adapter was made for."""
        ...

    def to_json(self) -> str:
        """The content of the configuration's file."""
        ...

    def page(self, base: str, where: str) -> Page:
        """What the card says.

        Args:
            base: as a command names it.
            where: the adapter lies, likewise.

        Returns:
            Its parts.
        """
        ...


def write(
    folder: Path,
    weights: tuple[str, Mapping[str, Tensor]],
    config: tuple[str, str],
    beside: Mapping[str, str],
    dtype: torch.dtype | None,
) -> None:
    """Write an adapter's files: all under temporary names, then renamed, the configuration last.

    An older configuration goes first: whoever is stopped between two renames leaves a folder that
    says that it is not complete, never new weights beside an old configuration.

    Args:
        folder: created where missing.
        weights: name of their file, and {parameter name: weight}.
        config: name of the configuration's file, and its content.
        beside: {name of another file: its content}.
        dtype: of the weights' file; as they are where None.

    Raises:
        OSError: the files cannot be written (a full disk); those that were there are there still.
        ValueError: a weight is not finite (in `dtype`).
    """
    model, values = weights
    stored = {
        name: value.detach().to("cpu", dtype or value.dtype).contiguous()
        for name, value in values.items()
    }
    for name, value in stored.items():
        if not value.isfinite().all():
            raise ValueError(f"{name} holds values that are not finite in {value.dtype}: not saved")
    folder.mkdir(parents=True, exist_ok=True)
    texts = {**beside, config[0]: config[1]}
    unfinished = {name: folder / f".{name}.{os.getpid()}" for name in (model, *texts)}
    try:
        save_file(stored, unfinished[model], metadata={"format": "pt"})
        for name, text in texts.items():
            unfinished[name].write_text(text, encoding="utf-8")
        (folder / config[0]).unlink(missing_ok=True)
        for name, path in unfinished.items():
            os.replace(path, folder / name)
    except SafetensorError as error:  # is no OSError, whatever went wrong
        raise OSError(f"cannot write {folder / model}: {error}") from error
    finally:
        for path in unfinished.values():
            path.unlink(missing_ok=True)


def half_written(folder: Path, names: Collection[str]) -> set[str]:
    """What a `write` that was killed has left in a folder under temporary names.

    Args:
        folder: that it wrote into; it may be missing.
        names: of the files that it wrote.

    Returns:
        Names of files, each `.NAME.PROCESS`, or `.tmpXXXXXX`, as safetensors calls its own.
    """
    pattern = re.compile(rf"\.({'|'.join(map(re.escape, names))})\.\d+|\.tmp\w{{6}}")
    return {path.name for path in folder.glob(".*") if pattern.fullmatch(path.name)}

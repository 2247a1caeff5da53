"""Checkpoints that are whole or not there: safetensors and JSON, written aside and renamed.

A checkpoint holds the trained parameters, their running average, the optimisers' moments, and in
`state.json` the step, the seconds of training, the optimisers' plain numbers and the scale of
float16's gradients. Random draws need no state: every step's generator is seeded by the run's seed
and the step.
"""

import json
import shutil
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.optim import Optimizer

from unicond.data.folders import whole_folder

Value = TypeVar("Value")
TENSORS, STATE = "tensors.safetensors", "state.json"


@dataclass(frozen=True)
class Position:
    """Where a run is: optimiser steps done, and seconds spent on them."""

    step: int = 0
    seconds: float = 0.0


class SaveError(ValueError):
    """Weights could not be written; what was there before is there still."""


def save(
    folder: Path,
    module: nn.Module,
    average: Mapping[str, Tensor],
    optimizers: Sequence[Optimizer],
    position: Position,
    scaler: GradScaler | None = None,
    about: Mapping[str, object] | None = None,
) -> None:
    """Write everything that `load` needs to go on as if nothing had happened.

    Args:
        folder: of the checkpoint.
        module: what is trained.
        average: its running average.
        optimizers: with their moments.
        position: how far the run is.
        scaler: of the loss.
        about: whatever the run must be told by when it goes on; plain data.

    Raises:
        SaveError: it cannot be written (a full disk); an older checkpoint stays.
    """
    tensors = {f"model.{name}": value for name, value in module.state_dict().items()}
    tensors |= {f"average.{name}": value for name, value in average.items()}
    numbers: dict[str, dict[str, float]] = {}
    for place, optimizer in enumerate(optimizers):
        for row, moments in optimizer.state_dict()["state"].items():
            for key, value in _flat(moments):
                if isinstance(value, Tensor):
                    tensors[f"optimizer.{place}.{row}.{key}"] = value
                else:
                    numbers.setdefault(f"{place}.{row}", {})[key] = value
    state = asdict(position) | {"optimizer": numbers, "about": dict(about or {})}
    state |= {"scaler": scaler.state_dict()} if scaler is not None else {}
    plain = _apart({name: value.detach().cpu() for name, value in tensors.items()})
    try:
        with whole_folder(folder) as aside:
            save_file(plain, aside / TENSORS)
            (aside / STATE).write_text(json.dumps(state))
    except (OSError, SafetensorError) as error:
        raise SaveError(_unsaved(folder, error)) from error


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors, each contiguous in memory of its own (bitsandbytes shares its tables)."""
    found: dict[str, Tensor] = {}
    taken: set[int] = set()
    for name, value in tensors.items():
        value = value.contiguous()
        place = value.untyped_storage().data_ptr()
        found[name] = value.clone() if place in taken else value
        taken.add(place)
    return found


def _unsaved(folder: Path, error: Exception) -> str:
    """Why a checkpoint cannot be written."""
    return (
        f"cannot write the checkpoint {folder} ({str(error).splitlines()[0]}); {left(folder)}. "
        "Make room, and run the same command to go on"
    )


def left(folder: Path) -> str:
    """What is there of a run whose weights were not saved.

    Args:
        folder: of the checkpoint.

    Returns:
        Words for a message.
    """
    if (folder / STATE).exists():
        return f"the checkpoint of step {position(folder).step} is there still"
    return "no checkpoint was there before"


def recover(folder: Path) -> None:
    """Clear away what a killed run has left beside its checkpoint.

    One that was killed between putting the old checkpoint aside and the new one in its place gets
    the old one back.

    Args:
        folder: of the checkpoint; no run may be using it.
    """
    old = sorted(folder.parent.glob(f".{folder.name}.*.old"), key=lambda path: path.stat().st_mtime)
    if old and not folder.exists():
        old.pop().rename(folder)
    for left in [*old, *folder.parent.glob(f".{folder.name}.*.part")]:
        shutil.rmtree(left, ignore_errors=True)


def load(
    folder: Path,
    module: nn.Module,
    average: Mapping[str, Tensor],
    optimizers: Sequence[Optimizer],
    scaler: GradScaler | None = None,
) -> Position:
    """Put a checkpoint back, in place.

    Args:
        folder: of the checkpoint.
        module: gets its parameters and buffers.
        average: gets the running average.
        optimizers: get their moments.
        scaler: gets its scale.

    Returns:
        How far the run is.

    Raises:
        ValueError: the checkpoint is of another model, or damaged.
    """
    try:
        tensors = load_file(folder / TENSORS)
        state = cast("dict[str, object]", json.loads((folder / STATE).read_text()))
        module.load_state_dict(_under(tensors, "model"))
        for name, value in _under(tensors, "average").items():
            average[name].copy_(value)
        numbers = cast("dict[str, dict[str, float]]", state["optimizer"])
        for place, optimizer in enumerate(optimizers):
            _restore(optimizer, _under(tensors, f"optimizer.{place}"), _under(numbers, str(place)))
        if scaler is not None and state.get("scaler"):
            scaler.load_state_dict(cast("dict[str, object]", state["scaler"]))
        return Position(int(cast(int, state["step"])), float(cast(float, state["seconds"])))
    except (SafetensorError, KeyError, RuntimeError, ValueError, OSError) as error:
        raise ValueError(
            f"the checkpoint {folder} does not fit this run ({str(error).splitlines()[0]}); "
            "remove it to start anew"
        ) from error


def position(folder: Path) -> Position:
    """How far a checkpoint is."""
    state = json.loads((folder / STATE).read_text())
    return Position(int(state["step"]), float(state["seconds"]))


def about(folder: Path) -> Mapping[str, object]:
    """What was told of the run when its checkpoint was written; empty where there is none."""
    try:
        state = json.loads((folder / STATE).read_text())
    except (OSError, ValueError):
        return {}
    return cast("dict[str, object]", state.get("about", {}))


def _restore(
    optimizer: Optimizer, tensors: Mapping[str, Tensor], numbers: Mapping[str, dict[str, float]]
) -> None:
    """Give an optimiser its moments back: tensors named `row.key`, numbers by row."""
    moments: dict[int, dict[str, object]] = {}
    for name, value in tensors.items():
        row, key = name.split(".", 1)
        _put(moments.setdefault(int(row), {}), key, value)
    for row, found in numbers.items():
        for key, value in found.items():
            _put(moments.setdefault(int(row), {}), key, value)
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": moments, "param_groups": groups})


def _flat(moments: Mapping[str, object]) -> Iterator[tuple[str, Tensor | float]]:
    """Moments by name; those that lie in a mapping of their own (bitsandbytes') by `its/name`."""
    for key, value in moments.items():
        if isinstance(value, Mapping):
            yield from ((f"{key}/{name}", inner) for name, inner in _flat(value))
        else:
            yield key, cast("Tensor | float", value)


def _put(moments: dict[str, object], key: str, value: object) -> None:
    """The reverse of `_flat`, for one value."""
    head, mark, rest = key.partition("/")
    if mark:
        _put(cast("dict[str, object]", moments.setdefault(head, {})), rest, value)
    else:
        moments[key] = value


def _under(values: Mapping[str, Value], head: str) -> dict[str, Value]:
    return {
        name.removeprefix(f"{head}."): value
        for name, value in values.items()
        if name.startswith(f"{head}.")
    }


class Average:
    """An exponential moving average of a module's parameters and buffers, in float32.

    Args:
        module: what is averaged.
        decay: share of the old average that is kept at each step; early on less, so that the
            random start is forgotten: `min(decay, (1 + n) / (10 + n))`.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.values = {name: value.detach().clone() for name, value in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Move towards the module's present values."""
        weight = 1 - min(self.decay, (1 + step) / (10 + step))
        ours: list[Tensor] = []
        theirs: list[Tensor] = []
        for name, value in module.state_dict().items():
            if value.is_floating_point():
                ours.append(self.values[name])
                theirs.append(value)
            else:
                self.values[name].copy_(value)
        torch._foreach_lerp_(ours, theirs, weight)

    @contextmanager
    def applied(self, module: nn.Module) -> Generator[None]:
        """Inside the block, the module holds the averaged values."""
        own = {name: value.detach().clone() for name, value in module.state_dict().items()}
        try:
            module.load_state_dict(self.values)
            yield
        finally:
            module.load_state_dict(own)

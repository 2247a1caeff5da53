"""Checkpoints that are whole or not there: safetensors and JSON, written aside and renamed.

A checkpoint holds the trained parameters, their running average, the optimisers' moments, and in
`state.json` the step, the seconds of training and the optimisers' plain numbers. Random draws
need no state: every step's generator is seeded by the run's seed and the step.
"""

import json
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from unicond.data.folders import whole_folder

Value = TypeVar("Value")
TENSORS, STATE = "tensors.safetensors", "state.json"


@dataclass(frozen=True)
class Position:
    """Where a run is: optimiser steps done, and seconds spent on them."""

    step: int = 0
    seconds: float = 0.0


def save(
    folder: Path,
    module: nn.Module,
    average: Mapping[str, Tensor],
    optimizers: Sequence[Optimizer],
    position: Position,
) -> None:
    """Write everything that `load` needs to go on as if nothing had happened."""
    tensors = {f"model.{name}": value for name, value in module.state_dict().items()}
    tensors |= {f"average.{name}": value for name, value in average.items()}
    numbers: dict[str, dict[str, float]] = {}
    for place, optimizer in enumerate(optimizers):
        for row, moments in optimizer.state_dict()["state"].items():
            for key, value in moments.items():
                if isinstance(value, Tensor):
                    tensors[f"optimizer.{place}.{row}.{key}"] = value
                else:
                    numbers.setdefault(f"{place}.{row}", {})[key] = value
    with whole_folder(folder) as aside:
        plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        save_file(plain, aside / TENSORS)
        (aside / STATE).write_text(json.dumps(asdict(position) | {"optimizer": numbers}))


def load(
    folder: Path, module: nn.Module, average: Mapping[str, Tensor], optimizers: Sequence[Optimizer]
) -> Position:
    """Put a checkpoint back, in place.

    Args:
        folder: of the checkpoint.
        module: gets its parameters and buffers.
        average: gets the running average.
        optimizers: get their moments.

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


def _restore(
    optimizer: Optimizer, tensors: Mapping[str, Tensor], numbers: Mapping[str, dict[str, float]]
) -> None:
    """Give an optimiser its moments back: tensors named `row.key`, numbers by row."""
    moments: dict[int, dict[str, Tensor | float]] = {}
    for name, value in tensors.items():
        row, key = name.split(".", 1)
        moments.setdefault(int(row), {})[key] = value
    for row, found in numbers.items():
        moments.setdefault(int(row), {}).update(found)
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": moments, "param_groups": groups})


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

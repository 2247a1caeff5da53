"""How a task is optimised, and how its run uses the machine."""

from dataclasses import dataclass
from typing import Literal

from unicond.training.budget import Budget

Precision = Literal["bf16", "fp16", "no"]


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """How a task is optimised.

    Args:
        batch_size: samples a step, in all turns and processes together.
        lr: peak learning rate of AdamW.
        matrix_lr: peak learning rate of Muon for weight matrices; None leaves them to AdamW.
        budget: how long.
        weight_decay: decoupled.
        beta2: AdamW's second moment.
        max_grad_norm: the gradient is clipped to this norm.
        average: decay of the running average.
        precision: "bf16" and "fp16" autocast, "no" is float32; "fp16" scales the loss, too.
        seed: of all random draws.
        pause_minutes: how often the run is checkpointed, scored and drawn.
        report_steps: how often a line is logged.
    """

    batch_size: int
    lr: float
    budget: Budget
    matrix_lr: float | None = None
    weight_decay: float = 0.01
    beta2: float = 0.99
    max_grad_norm: float = 1.0
    average: float = 0.998
    precision: Precision = "bf16"
    seed: int = 0
    pause_minutes: float = 4.0
    report_steps: int = 50

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.lr <= 0 or self.max_grad_norm <= 0:
            raise ValueError(
                f"batch_size, lr and max_grad_norm must be positive, got {self.batch_size}, "
                f"{self.lr}, {self.max_grad_norm}"
            )
        if self.matrix_lr is not None and self.matrix_lr <= 0:
            raise ValueError(f"matrix_lr must be positive or None, got {self.matrix_lr}")
        if not 0 <= self.average < 1 or not 0 < self.beta2 < 1:
            raise ValueError(
                f"average must be in [0, 1), beta2 in (0, 1); got {self.average}, {self.beta2}"
            )
        if self.pause_minutes <= 0 or self.report_steps < 1 or self.weight_decay < 0:
            raise ValueError(
                "pause_minutes and report_steps must be positive, weight_decay not < 0"
            )


@dataclass(frozen=True, kw_only=True)
class Setup:
    """How a run uses the machine; what is learned differs by rounding at most.

    Args:
        accumulate: a step's samples are taken in so many turns.
        eight_bit: AdamW's moments take 8 bits each.
        pause_steps: pause after so many steps, and not after minutes.
        track: numbers and pictures go to tensorboard, too, if it is installed.
    """

    accumulate: int = 1
    eight_bit: bool = False
    pause_steps: int | None = None
    track: bool = False

    def __post_init__(self) -> None:
        if self.accumulate < 1 or (self.pause_steps is not None and self.pause_steps < 1):
            raise ValueError(
                f"accumulate and pause_steps must be positive, got {self.accumulate}, "
                f"{self.pause_steps}"
            )

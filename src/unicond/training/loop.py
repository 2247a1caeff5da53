"""The one training loop: whatever is trained here is a `Task` that this page runs.

A task knows its modules, its losses for a step, its held-out scores, its sample pictures and how
it is saved. The loop knows the rest: device and precision (accelerate), the budget, the learning
rate, the running average, checkpoints, reports. Every random draw of a step comes from a
generator seeded by (seed, step): a resumed run draws what an uninterrupted one would.
"""

import signal
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn

from unicond.pictures.files import check_output_folder
from unicond.training import checkpoints
from unicond.training.budget import Budget
from unicond.training.checkpoints import Average, Position
from unicond.training.norm import quick_norms
from unicond.training.optimizers import groups, optimizers

Report = Callable[[float, str], None]
"""Called with the share of the budget that is spent and one line of text."""


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """How a task is optimised.

    Args:
        batch_size: samples a step.
        lr: peak learning rate of AdamW.
        matrix_lr: peak learning rate of Muon for weight matrices; None leaves them to AdamW.
        budget: how long.
        weight_decay: decoupled.
        beta2: AdamW's second moment.
        max_grad_norm: the gradient is clipped to this norm.
        average: decay of the running average.
        precision: "bf16" autocasts, "no" is float32.
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
    precision: Literal["bf16", "no"] = "bf16"
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


class Task(Protocol):
    """Something that can be trained."""

    def trained(self) -> nn.Module:
        """What the optimiser changes (parameters that require a gradient) and is averaged."""
        ...

    def losses(self, count: int, generator: torch.Generator) -> Tensor:
        """(count,) losses of a random batch, drawn from `generator` alone."""
        ...

    def scores(self) -> dict[str, float]:
        """Held-out scores of the present weights."""
        ...

    def show(self, folder: Path) -> None:
        """Draw sample pictures of the present weights into `folder`."""
        ...


@dataclass
class Run:
    """A task in training: the mutable state that the loop carries."""

    task: Task
    config: LoopConfig
    folder: Path
    accelerator: Accelerator
    optimizers: list[torch.optim.Optimizer]
    average: Average
    position: Position = field(default_factory=Position)

    @property
    def checkpoint(self) -> Path:
        """Where the checkpoint of this run lies."""
        return self.folder / "checkpoint"

    def save(self) -> None:
        """Write the checkpoint."""
        checkpoints.save(
            self.checkpoint,
            self.task.trained(),
            self.average.values,
            self.optimizers,
            self.position,
        )


def accelerator(precision: str) -> Accelerator:
    """A single-process accelerator; an earlier one of another precision is forgotten."""
    AcceleratorState._reset_state(reset_partial_state=False)
    device_less = not torch.cuda.is_available()
    return Accelerator(mixed_precision=precision, cpu=device_less)


def fit(
    task: Task,
    config: LoopConfig,
    folder: Path,
    resume: bool = True,
    report: Report | None = None,
) -> dict[str, float]:
    """Train a task until its budget is spent.

    Args:
        task: what to train; its modules are moved to the accelerator's device by itself.
        config: how.
        folder: of the run: checkpoint, log, sample pictures. Made if missing.
        resume: go on from the checkpoint in `folder`, if there is one.
        report: told the share that is spent and a line of text.

    Returns:
        The held-out scores at the end; the task's modules then hold the averaged weights.

    Raises:
        ValueError: the folder cannot be written, or its checkpoint is of something else.
        KeyboardInterrupt: after Ctrl-C or SIGTERM, once the checkpoint is written.
    """
    run = _begun(task, config, folder, resume)
    log, module = _logger(folder, report), task.trained()
    with _stops_between_steps() as stop, quick_norms(module):
        try:
            _train(run, log, stop)
        except KeyboardInterrupt:
            run.save()
            log(0.0, f"stopped at step {run.position.step}; run the same command to go on")
            raise
    run.save()
    module.load_state_dict(run.average.values)
    module.eval()
    with torch.no_grad():
        scores = task.scores()
        task.show(folder)
    log(1.0, f"done: step {run.position.step} {_text(scores)}")
    return scores


def _begun(task: Task, config: LoopConfig, folder: Path, resume: bool) -> Run:
    """A run at its start, or where its checkpoint is."""
    check_output_folder(folder)
    module = task.trained()
    found = optimizers(module, config.lr, config.matrix_lr, config.beta2, config.weight_decay)
    average = Average(module, config.average)
    run = Run(task, config, folder, accelerator(config.precision), found, average)
    if resume and run.checkpoint.exists():
        run.position = checkpoints.load(run.checkpoint, module, average.values, found)
    return run


def _train(run: Run, log: Report, stop: "Stop") -> None:
    """Steps until the budget is spent, with a pause now and then."""
    config, start = run.config, run.position
    begun, seen = time.monotonic(), run.position
    last_pause = run.position.seconds
    total = torch.zeros((), device=run.accelerator.device)
    while (share := config.budget.share(run.position.step, run.position.seconds)) < 1:
        total += _step(run)
        run.position = Position(run.position.step + 1, start.seconds + time.monotonic() - begun)
        if (run.position.step) % config.report_steps == 0:
            steps = run.position.step - seen.step
            mean = float(total) / steps  # the only wait for the device
            rate = steps * config.batch_size / (run.position.seconds - seen.seconds)
            log(share, f"step {run.position.step} loss {mean:.4f} {rate:.1f}/s {100 * share:.1f} %")
            total.zero_()
            seen = run.position
        if stop.asked:
            raise KeyboardInterrupt("asked to stop")
        if run.position.seconds - last_pause > 60 * config.pause_minutes:
            paused = time.monotonic()
            _pause(run, log, share)
            begun += time.monotonic() - paused
            last_pause = run.position.seconds


def _step(run: Run) -> Tensor:
    """One optimiser step; returns the mean loss, still on the device."""
    config, helper, module = run.config, run.accelerator, run.task.trained()
    rate = config.budget.rate(run.position.step, run.position.seconds)
    for group in groups(run.optimizers):
        group["lr"] = rate * group["peak"]
    module.train()
    generator = stream(config.seed, run.position.step, helper.device)
    with helper.autocast():
        losses = run.task.losses(config.batch_size, generator)
    loss = losses.mean()
    helper.backward(loss)
    helper.clip_grad_norm_(module.parameters(), config.max_grad_norm)
    for optimizer in run.optimizers:
        optimizer.step()
    module.zero_grad(set_to_none=True)
    run.average.update(module, run.position.step)
    return loss.detach()


def _pause(run: Run, log: Report, share: float) -> None:
    """Checkpoint, score and draw the averaged weights."""
    run.save()
    module = run.task.trained()
    with run.average.applied(module), torch.no_grad():
        module.eval()
        scores = run.task.scores()
        run.task.show(run.folder)
    log(share, f"step {run.position.step} {_text(scores)}")


def stream(seed: int, step: int, device: torch.device | str) -> torch.Generator:
    """The generator of one step: seeded by the run's seed and the step."""
    mixed = (seed * 0x9E3779B97F4A7C15 + step * 0xD1B54A32D192ED03) & (2**63 - 1)
    return torch.Generator(device).manual_seed(mixed)


@contextmanager
def seeded(seed: int) -> Generator[None]:
    """Inside the block torch's default generator, which start values come from, is seeded."""
    with torch.random.fork_rng():
        torch.default_generator.manual_seed(seed)
        yield


def _text(scores: dict[str, float]) -> str:
    return " ".join(f"{name} {value:.4g}" for name, value in scores.items())


def _logger(folder: Path, report: Report | None) -> Report:
    """Log lines go to `log.txt` and to `report`."""

    def log(share: float, line: str) -> None:
        with (folder / "log.txt").open("a") as file:
            file.write(f"{time.strftime('%H:%M:%S')} {line}\n")
        if report is not None:
            report(share, line)

    return log


@dataclass
class Stop:
    """Whether Ctrl-C or SIGTERM has asked the run to stop after the step that is running."""

    asked: bool = False


@contextmanager
def _stops_between_steps() -> Generator[Stop]:
    """The first Ctrl-C or SIGTERM lets the step finish; a second Ctrl-C ends at once."""
    stop = Stop()

    def ask(number: int, frame: object) -> None:
        del number, frame
        stop.asked = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    if threading.current_thread() is not threading.main_thread():
        yield stop  # signals are the main thread's matter
        return
    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

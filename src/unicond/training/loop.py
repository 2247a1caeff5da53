"""The one training loop: whatever is trained here is a `Task` that this page runs.

A task knows its modules, its losses for a step, its held-out scores, its sample pictures and how
it is saved. The loop knows the rest: device, processes and precision (accelerate), the budget, the
learning rate, the running average, checkpoints, reports. Every random draw of a step comes from a
generator seeded by (seed, step): a resumed run draws what an uninterrupted one would.
"""

import time
from collections.abc import Generator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler

from unicond.pictures.files import make_output_folder
from unicond.training import checkpoints, processes
from unicond.training.attention import QuickAttention
from unicond.training.budget import Budget
from unicond.training.checkpoints import Average, Position
from unicond.training.journal import Journal, Report, tensorboard_folder
from unicond.training.norm import quick_norms
from unicond.training.optimizers import groups, optimizers
from unicond.training.processes import Part
from unicond.training.stopping import Stop, stops_between_steps

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


class Task(Protocol):
    """Something that can be trained."""

    def trained(self) -> nn.Module:
        """What the optimiser changes (parameters that require a gradient) and is averaged."""
        ...

    def losses(self, part: Part, generator: torch.Generator) -> Tensor:
        """Losses of a part of the random batch that `generator` gives, whichever the part."""
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
    setup: Setup
    folder: Path
    accelerator: Accelerator
    optimizers: list[torch.optim.Optimizer]
    average: Average
    scaler: GradScaler
    about: Mapping[str, object]
    position: Position = field(default_factory=Position)

    @property
    def checkpoint(self) -> Path:
        """Where the checkpoint of this run lies."""
        return self.folder / "checkpoint"

    def save(self) -> None:
        """Write the checkpoint; the main process does."""
        if self.accelerator.is_main_process:
            checkpoints.save(
                self.checkpoint,
                self.task.trained(),
                self.average.values,
                self.optimizers,
                self.position,
                self.scaler,
                self.about,
            )
        self.accelerator.wait_for_everyone()

    def autocast(self) -> AbstractContextManager[object]:
        """The precision's number format, where the network says nothing else."""
        if self.config.precision == "fp16":
            return torch.autocast(self.accelerator.device.type, torch.float16)
        return self.accelerator.autocast()


def fit(
    task: Task,
    config: LoopConfig,
    folder: Path,
    resume: bool = True,
    report: Report | None = None,
    setup: Setup | None = None,
    about: Mapping[str, object] | None = None,
) -> dict[str, float]:
    """Train a task until its budget is spent.

    Args:
        task: what to train; its modules are moved to the accelerator's device by itself.
        config: how.
        folder: of the run: checkpoint, log, sample pictures. Made if missing.
        resume: go on from the checkpoint in `folder`, if there is one.
        report: told the share that is spent and a line of text.
        setup: how the machine is used.
        about: kept in the checkpoint, where `checkpoints.about` finds it before a run goes on.

    Returns:
        The held-out scores at the end (in the main process); the task's modules then hold the
        averaged weights.

    Raises:
        ValueError: the folder cannot be written, or its checkpoint is of something else, or the
            batch cannot be divided.
        KeyboardInterrupt: after Ctrl-C or SIGTERM, once the checkpoint is written.
    """
    run = _begun(task, config, setup or Setup(), folder, report, about or {})
    module = task.trained()
    if resume and run.checkpoint.exists():
        run.position = checkpoints.load(
            run.checkpoint, module, run.average.values, run.optimizers, run.scaler
        )
    processes.same_start(run.accelerator, module)
    start = run.position
    journal = Journal(folder, run.accelerator, report, run.position.step)
    try:
        with stops_between_steps() as stop, quick_norms(module), QuickAttention():
            _train(run, journal, stop)
        if run.position != start:  # a finished run that is run again has nothing new to save
            run.save()
        module.load_state_dict(run.average.values)
        return _validated(run, journal, 1.0, "done: ")
    finally:
        journal.close()


def _begun(
    task: Task,
    config: LoopConfig,
    setup: Setup,
    folder: Path,
    report: Report | None,
    about: Mapping[str, object],
) -> Run:
    """A run at its start, in a folder where what an earlier one has left is in order."""
    make_output_folder(folder)
    track = tensorboard_folder(folder, setup.track, report)
    helper = processes.accelerator(config.precision, track)
    _check_division(config, setup, helper.num_processes)
    module = task.trained()
    found = optimizers(
        module, config.lr, config.matrix_lr, config.beta2, config.weight_decay, setup.eight_bit
    )
    scaler = GradScaler(helper.device.type, enabled=config.precision == "fp16")
    average = Average(module, config.average)
    run = Run(task, config, setup, folder, helper, found, average, scaler, about)
    if helper.is_main_process:
        checkpoints.recover(run.checkpoint)
    helper.wait_for_everyone()
    return run


def _check_division(config: LoopConfig, setup: Setup, count: int) -> None:
    """Refuse a batch that turns and processes cannot share evenly."""
    if config.batch_size % (setup.accumulate * count):
        raise ValueError(
            f"a batch of {config.batch_size} cannot be divided into {setup.accumulate} turns of "
            f"{count} processes each; give a multiple of {setup.accumulate * count}"
        )


def _train(run: Run, journal: Journal, stop: Stop) -> None:
    """Steps until the budget is spent, with a pause now and then."""
    config, start = run.config, run.position
    begun, seen = time.monotonic(), run.position
    last_pause = run.position
    total = torch.zeros((), device=run.accelerator.device)
    while (share := config.budget.share(run.position.step, run.position.seconds)) < 1:
        total += _step(run)
        seconds = start.seconds + time.monotonic() - begun
        seconds, stopped = processes.agreed(run.accelerator, seconds, stop.asked)
        run.position = Position(run.position.step + 1, seconds)
        if run.position.step % config.report_steps == 0:
            _report(run, journal, share, total, seen)
            total.zero_()
            seen = run.position
        if stopped:
            run.save()
            journal.line(0.0, f"stopped at step {run.position.step}; run the same command to go on")
            raise KeyboardInterrupt("asked to stop")
        if _is_due(run, last_pause):
            paused = time.monotonic()
            _pause(run, journal, share)
            begun += time.monotonic() - paused
            last_pause = run.position


def _step(run: Run) -> Tensor:
    """One optimiser step; returns the mean loss of this process, still on the device."""
    config, helper, module = run.config, run.accelerator, run.task.trained()
    rate = config.budget.rate(run.position.step, run.position.seconds)
    for group in groups(run.optimizers):
        group["lr"] = rate * group["peak"]
    module.train()
    turns, total = run.setup.accumulate, torch.zeros((), device=helper.device)
    for turn in range(turns):
        with run.autocast():
            losses = _losses(run, run.position.step * turns + turn)
        loss = losses.mean() / turns
        run.scaler.scale(loss).backward()
        total += loss.detach()
    processes.average_gradients(helper, module)
    for optimizer in run.optimizers:
        run.scaler.unscale_(optimizer)
    nn.utils.clip_grad_norm_(module.parameters(), config.max_grad_norm)
    for optimizer in run.optimizers:
        run.scaler.step(optimizer)
    run.scaler.update()
    module.zero_grad(set_to_none=True)
    run.average.update(module, run.position.step)
    return total


def _losses(run: Run, number: int) -> Tensor:
    """Losses of this process's part of one batch; batches are numbered over the whole run."""
    helper, count = run.accelerator, run.config.batch_size // run.setup.accumulate
    generator = stream(run.config.seed, number, helper.device)
    part = Part(number, count, helper.process_index, helper.num_processes)
    return run.task.losses(part, generator)


def _report(run: Run, journal: Journal, share: float, total: Tensor, seen: Position) -> None:
    """One line on the steps since the last one."""
    config, step = run.config, run.position.step
    steps = step - seen.step
    mean = processes.reduced(run.accelerator, total, "mean")
    loss = float(mean) / steps  # the only wait for the device
    rate = steps * config.batch_size / (run.position.seconds - seen.seconds)
    lr = groups(run.optimizers)[0]["lr"]
    journal.line(share, f"step {step} loss {loss:.4f} {rate:.1f}/s {100 * share:.1f} %")
    journal.numbers(step, "training", {"loss": loss, "samples_per_second": rate, "lr": lr})


def _is_due(run: Run, last: Position) -> bool:
    """Whether it is time for a pause; the end is one anyway."""
    if run.config.budget.share(run.position.step, run.position.seconds) == 1:
        return False
    if run.setup.pause_steps is not None:
        return run.position.step % run.setup.pause_steps == 0
    return run.position.seconds - last.seconds > 60 * run.config.pause_minutes


def _pause(run: Run, journal: Journal, share: float) -> None:
    """Checkpoint, score and draw the averaged weights."""
    run.save()
    with run.average.applied(run.task.trained()):
        _validated(run, journal, share, "")


@torch.no_grad()
def _validated(run: Run, journal: Journal, share: float, word: str) -> dict[str, float]:
    """Scores and pictures of the present weights; the main process makes them."""
    run.task.trained().eval()
    scores: dict[str, float] = {}
    if run.accelerator.is_main_process:
        scores = run.task.scores()
        run.task.show(run.folder)
        text = " ".join(f"{name} {value:.4g}" for name, value in scores.items())
        journal.line(share, f"{word}step {run.position.step} {text}")
        journal.numbers(run.position.step, "held_out", scores)
        journal.pictures(run.position.step)
    run.accelerator.wait_for_everyone()
    return scores


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

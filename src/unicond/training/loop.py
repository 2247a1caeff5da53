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
from typing import Protocol

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler

from unicond.pictures.files import make_output_folder
from unicond.training import checkpoints, processes
from unicond.training.attention import QuickAttention
from unicond.training.checkpoints import Average, Position
from unicond.training.health import Diverged, explained, is_lost, not_finite
from unicond.training.journal import Journal, Report, tensorboard_folder
from unicond.training.norm import quick_norms
from unicond.training.optimizers import groups, optimizers
from unicond.training.processes import Part
from unicond.training.settings import LoopConfig, Setup
from unicond.training.stopping import Stop, stops_between_steps


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
    saved: Position = field(default_factory=Position)

    @property
    def checkpoint(self) -> Path:
        """Where the checkpoint of this run lies."""
        return self.folder / "checkpoint"

    def save(self) -> None:
        """Write the checkpoint, if there is anything new; the main process does."""
        if self.position == self.saved:
            return
        self._check_weights()
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
        self.saved = self.position

    def _check_weights(self) -> None:
        """Refuse weights that are not finite, in all processes if in one."""
        weights = [*self.task.trained().state_dict().values(), *self.average.values.values()]
        if processes.reduced(self.accelerator, not_finite(weights), "sum"):
            raise self.diverged("weights are not finite")

    def diverged(self, what: str) -> Diverged:
        """The error that ends a run in which something is not finite."""
        rate, left = groups(self.optimizers)[0]["lr"], checkpoints.left(self.checkpoint)
        return explained(what, self.position.step, rate, self.config.lr, left)

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
        Diverged: the loss or a weight is not finite; the last checkpoint stays.
        KeyboardInterrupt: after Ctrl-C or SIGTERM, once the checkpoint is written.

    What else is raised comes from the task; the steps before it are saved first.
    """
    run = _begun(task, config, setup or Setup(), folder, report, about or {})
    module = task.trained()
    if resume and run.checkpoint.exists():
        run.position = checkpoints.load(
            run.checkpoint, module, run.average.values, run.optimizers, run.scaler
        )
        run.saved = run.position
    processes.same_start(run.accelerator, module)
    journal = Journal(folder, run.accelerator, report, run.position.step)
    try:
        with stops_between_steps() as stop, quick_norms(module), QuickAttention():
            _train(run, journal, stop)
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
        _step(run, journal, total)
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


def _step(run: Run, journal: Journal, total: Tensor) -> None:
    """One optimiser step; adds the mean loss of this process, still on the device, to `total`."""
    config, module = run.config, run.task.trained()
    rate = config.budget.rate(run.position.step, run.position.seconds)
    for group in groups(run.optimizers):
        group["lr"] = rate * group["peak"]
    module.train()
    error = _gradients(run, total)
    if not processes.average_gradients(run.accelerator, module, error is not None):
        raise _kept(run, journal, error)
    for optimizer in run.optimizers:
        run.scaler.unscale_(optimizer)
    nn.utils.clip_grad_norm_(module.parameters(), config.max_grad_norm)
    for optimizer in run.optimizers:
        run.scaler.step(optimizer)
    run.scaler.update()
    module.zero_grad(set_to_none=True)
    run.average.update(module, run.position.step)


def _gradients(run: Run, total: Tensor) -> Exception | None:
    """Those of this process; what goes wrong is returned, as all processes must be told of it."""
    turns = run.setup.accumulate
    try:
        for turn in range(turns):
            with run.autocast():
                losses = _losses(run, run.position.step * turns + turn)
            loss = losses.mean() / turns
            run.scaler.scale(loss).backward()
            total += loss.detach()
    except Exception as error:
        return error
    return None


def _kept(run: Run, journal: Journal, error: Exception | None) -> Exception:
    """Save the last whole step of a run that cannot go on; returns the error that says why."""
    error = error or ValueError("another of the processes could not go on: it says why")
    try:
        run.save()
    except Exception as unsaved:  # what went wrong first says more
        error.add_note(str(unsaved))
    else:
        step = run.position.step
        journal.line(0.0, f"stopped at step {step} by an error; the same command goes on there")
    return error


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
    if is_lost(loss, run.scaler):
        raise run.diverged(f"the loss is {loss}")
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

"""Several processes that train as one: `accelerate launch` starts them, this makes them agree.

Every process draws all of a batch's random numbers and computes its own part of the samples; the
gradients of all parts are averaged before each step, so that all processes make the same step. What
only one can tell (the time, whether to stop) is agreed upon between steps.

    P processes, B samples each:   g = 1/P sum_p (1/B sum_i g_pi) = the gradient of P * B samples
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType
from accelerate.utils.operations import broadcast, broadcast_object_list, gather_object
from torch import Tensor, nn

T = TypeVar("T")
BUCKET = 2**24
"""Numbers that are sent at once."""
SHARDED = (DistributedType.FSDP, DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM)


@dataclass(frozen=True)
class Part:
    """The samples of a batch that one process computes.

    Args:
        number: of the batch, counted from the beginning of the run.
        count: samples of the whole batch.
        process: which part it is.
        processes: how many equal parts there are.
    """

    number: int
    count: int
    process: int = 0
    processes: int = 1

    @property
    def rows(self) -> slice:
        """Its samples."""
        share = self.count // self.processes
        return slice(self.process * share, (self.process + 1) * share)

    def of(self, values: Tensor) -> Tensor:
        """The rows of this part, of values (count, ...) of the whole batch."""
        return values[self.rows]


def parts_of(count: int, at_once: int | None = None) -> list[Part]:
    """The fewest equal parts of `count` samples that have `at_once` of them at most; None is one.

    >>> len(parts_of(8, 3)), len(parts_of(7, 3)), len(parts_of(8))
    (4, 7, 1)
    """
    parts = -(-count // (at_once or count))
    while count % parts:
        parts += 1
    return [Part(0, count, number, parts) for number in range(parts)]


def accelerator(precision: str = "no", track: Path | None = None) -> Accelerator:
    """This process's accelerator; an earlier one of another precision is forgotten.

    Args:
        precision: what it autocasts to; of "fp16" it does nothing, since it knows no scaler for
            CPUs.
        track: folder for tensorboard's files, if they are wanted.

    Returns:
        One for this process, which belongs to a group if `accelerate launch` started it.

    Raises:
        ValueError: the launch asks for weights that are shared out between processes.
    """
    AcceleratorState._reset_state(reset_partial_state=False)
    made = Accelerator(
        mixed_precision="bf16" if precision == "bf16" else "no",
        cpu=not torch.cuda.is_available(),
        log_with=None if track is None else "tensorboard",
        project_dir=track,
    )
    if made.distributed_type in SHARDED:
        raise ValueError(
            f"accelerate is set up for {made.distributed_type.value}, which shares out the weights "
            "of a model; here each process holds the base: launch with --multi_gpu, or --cpu"
        )
    return made


def this_process() -> PartialState:
    """This process and its group; joins the group at the first call."""
    return PartialState(cpu=not torch.cuda.is_available())


def device() -> torch.device:
    """Where this process computes."""
    found = this_process().device
    assert isinstance(found, torch.device)
    return found


def as_main(value: T) -> T:
    """The main process's value of what each process has found out by itself."""
    if this_process().num_processes == 1:
        return value
    found = [value]
    broadcast_object_list(found)
    return found[0]


def gathered(values: list[T]) -> list[T]:
    """What all processes have found, in every one of them."""
    return values if this_process().num_processes == 1 else gather_object(values)


def agreed(helper: Accelerator, seconds: float, stop: bool) -> tuple[float, bool]:
    """The time by the main process's clock, and whether any process was asked to stop."""
    if helper.num_processes == 1:
        return seconds, stop
    mine = [seconds if helper.is_main_process else 0.0, float(stop)]
    total = torch.tensor(mine, dtype=torch.float64, device=helper.device)
    total = reduced(helper, total, "sum")
    return float(total[0]), bool(total[1] > 0)


def same_start(helper: Accelerator, module: nn.Module) -> None:
    """Give every process the main one's parameters and buffers."""
    if helper.num_processes == 1:
        return
    with torch.no_grad():
        for value in module.state_dict().values():
            value.copy_(broadcast(value.contiguous()))  # pyright: ignore[reportArgumentType]


def average_gradients(helper: Accelerator, module: nn.Module, failed: bool = False) -> bool:
    """Replace the gradients by their mean over the processes.

    A parameter without a gradient in any process keeps none: optimisers pass it by, as they would
    in a single process.

    Args:
        helper: of this process.
        module: has the gradients.
        failed: this process has none, or not all.

    Returns:
        Whether all went well; if any process failed, all are told so, and nothing is averaged.
    """
    if helper.num_processes == 1:
        return not failed
    wanted = [value for value in module.parameters() if value.requires_grad]
    known = [failed, *(value.grad is not None for value in wanted)]
    sums = reduced(helper, torch.tensor(known, device=helper.device).float(), "sum").tolist()
    if sums[0]:
        return False
    bucket: list[nn.Parameter] = []
    for value, count in zip(wanted, sums[1:], strict=True):
        if not count:
            continue
        if value.grad is None:
            value.grad = torch.zeros_like(value)
        bucket.append(value)
        if sum(one.numel() for one in bucket) >= BUCKET:
            _average(helper, bucket)
            bucket = []
    _average(helper, bucket)
    return True


def _average(helper: Accelerator, values: list[nn.Parameter]) -> None:
    gradients = [value.grad for value in values if value.grad is not None]
    if not gradients:
        return
    whole = reduced(helper, torch.cat([gradient.flatten() for gradient in gradients]), "mean")
    parts = whole.split([gradient.numel() for gradient in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))


def reduced(helper: Accelerator, values: Tensor, how: str) -> Tensor:
    """Sum or mean of a tensor over all processes."""
    found = helper.reduce(values, how)
    assert isinstance(found, Tensor)
    return found

"""What all trainings on one's own pictures do before they begin, and when they are done."""

from collections.abc import Mapping

import torch

from unicond.adapters.grounding.adapter import GroundingAdapter
from unicond.adapters.hub import Card, half_written
from unicond.adapters.joint import JointAdapter
from unicond.backbones.precision import check_dtype
from unicond.data.sources import Fingerprinted
from unicond.training import checkpoints, processes
from unicond.training.checkpoints import SaveError
from unicond.training.optimizers import eight_bit_adamw
from unicond.training.own import checks
from unicond.training.own.job import OwnJob

DTYPES = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
"""{precision: of the frozen base}."""


def ready(job: OwnJob) -> tuple[torch.dtype, torch.device]:
    """Refuse what the machine cannot do, and folders that cannot be used.

    Args:
        job: what is asked for.

    Returns:
        What the base is to be, and where.
    """
    dtype, device = DTYPES[job.how.loop.precision], processes.device()
    check_dtype(dtype, device)
    if job.setup.eight_bit:
        eight_bit_adamw()
    checks.check_folders(job)
    return dtype, device


def agreed(job: OwnJob, source: Fingerprinted, about: Mapping[str, object]) -> Mapping[str, object]:
    """What a run is to agree with from now on (see `checks.check_same`), where it goes on."""
    state = processes.this_process()
    if state.is_main_process:
        checkpoints.recover(job.checkpoint)
    state.wait_for_everyone()
    return checks.check_same(job, source, about) if job.resume else about


def described(text: str, about: Mapping[str, object]) -> str:
    """What an adapter was trained on, for its card.

    Args:
        text: what the data are.
        about: what the run agreed with.

    Returns:
        The same, and whether they changed on the way.
    """
    if steps := checks.steps_of_changes(about):
        which = " and ".join(f"step {step}" for step in steps)
        text += f" The dataset changed on the way, after {which} (--accept-changed-data)."
    return text


def save(
    job: OwnJob,
    adapter: JointAdapter | GroundingAdapter,
    data: str,
    scores: Mapping[str, float],
) -> None:
    """Write an adapter with its card; what a killed run has left half written goes.

    Args:
        job: what was asked for.
        adapter: as it is in the end.
        data: what it was trained on.
        scores: of it.

    Raises:
        SaveError: it cannot be written; its training is kept.
    """
    told = {name: round(value, 4) for name, value in scores.items()}
    card = Card(data, job.command, told, where=str(job.out))
    try:
        adapter.save_pretrained(job.out, card, torch.float16)
        for name in half_written(job.out):
            (job.out / name).unlink(missing_ok=True)
    except OSError as error:
        raise SaveError(
            f"cannot write the adapter to {job.out} ({str(error).splitlines()[0]}); its training "
            f"is done and kept in {job.checkpoint}: make room, and run the same command again"
        ) from error

"""Latents that are made once and kept on disk, a file a picture."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor, nn

from unicond.pictures.files import whole_file
from unicond.training import processes
from unicond.training.journal import Report

Made = tuple[Mapping[str, Tensor], Mapping[str, str]]
"""What is kept of one row: tensors, and texts."""


def folder_of(cache: Path, *told: object) -> Path:
    """The folder of some latents.

    Args:
        cache: folder of all caches.
        *told: what tells them from others; plain data.

    Returns:
        A folder in it, which may be missing.
    """
    return cache / f"latents-{hashlib.sha256(json.dumps(told).encode()).hexdigest()[:12]}"


def file_of(folder: Path, row: int) -> Path:
    """The file of one row in a folder of latents."""
    return folder / f"{row // 1000:05d}" / f"{row % 1000:03d}.safetensors"


def fill(
    folder: Path,
    rows: Sequence[int],
    made: Callable[[int], Made],
    process: int = 0,
    processes: int = 1,
    report: Callable[[int, int], None] | None = None,
) -> None:
    """Make what is missing of some latents.

    Args:
        folder: of them.
        rows: their numbers, by which files are called.
        made: what is kept of the row at a place in `rows`.
        process: which of the processes this is; each makes its share.
        processes: how many there are.
        report: told how many are done, and of how many.

    Raises:
        PictureError: a picture cannot be read, or latents cannot be written.
    """
    for number in range(process, len(rows), processes):
        path = file_of(folder, rows[number])
        if not path.exists():
            values, said = made(number)
            with whole_file(path) as file:
                file.write(save(dict(values), dict(said)))
        if report is not None:
            report(number + 1, len(rows))


def told(report: Report) -> Callable[[int, int], None]:
    """Tells now and then how many latents are made; in the main process."""
    main = processes.this_process().is_main_process

    def tell(done: int, count: int) -> None:
        if main and (done % 50 == 0 or done == count):
            report(0.0, f"latents: {done} of {count}")

    return tell


def identity(vae: nn.Module | None) -> str:
    """What tells an autoencoder from others; "pixels" where there is none."""
    if vae is None:
        return "pixels"
    digest = hashlib.sha256()
    for value in vae.state_dict().values():
        digest.update(value.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:12]

"""Contact sheets: what a trainer draws into its run's folder to be looked at."""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from unicond.pictures.files import whole_file
from unicond.pictures.sheet import Line, sheet


def write(path: Path, rows: Sequence[Tensor]) -> None:
    """Save pictures as PNG, one line for each tensor.

    Args:
        path: of the PNG.
        rows: each (N, 3 or 1, H, W) in [-1, 1].
    """
    lines = [Line("", list(row.expand(-1, 3, -1, -1).float().cpu())) for row in rows]
    with whole_file(path) as file:
        sheet(lines).save(file, "PNG")

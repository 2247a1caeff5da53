"""Contact sheets: what a trainer draws into its run's folder to be looked at."""

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor


def grid(rows: Sequence[Tensor]) -> Tensor:
    """Pictures side by side, one line for each tensor.

    Args:
        rows: each (N, 3 or 1, H, W) in [-1, 1]; all of one N, H, W.

    Returns:
        (lines * H, N * W, 3) uint8.
    """
    lines = [torch.cat(list(row.expand(-1, 3, -1, -1).float().cpu()), dim=2) for row in rows]
    whole = torch.cat(lines, dim=1)
    return ((whole.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 0)


def write(path: Path, rows: Sequence[Tensor]) -> None:
    """Save a contact sheet as PNG; see `grid`."""
    Image.fromarray(grid(rows).contiguous().numpy()).save(path)

"""Where random numbers come from: one stream for each sample and branch.

A seed draws the same noise whatever batch it runs in, and the image draws the same noise whether
other branches run beside it or not (a further branch's stream is that of its place among them).
Noise is drawn on the CPU and moved, so that devices agree. The first branch's stream is seeded by
the plain seed, so that the start noise is the one that `torch.Generator().manual_seed(seed)` gives
diffusers' pipelines. Idea: EDM2's StackedRandomGenerator.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

_LARGEST_SEED = 2**63 - 1
_STRIDE = 0x9E3779B97F4A7C15  # the golden ratio in 64 bits: distant streams


class NoiseSource(Protocol):
    """Anything that draws unit noise for a branch."""

    def draw(self, branch: str, like: Tensor) -> Tensor:
        """Unit Gaussian noise of the shape, dtype and device of `like` (B, C, H, W)."""
        ...


class Generators:
    """One generator per sample and branch.

    Args:
        seeds: one for each sample, 0 <= seed < 2^63.
        branches: names, in the order of the latents.

    Raises:
        ValueError: a seed out of range, or no seed.
    """

    def __init__(self, seeds: Sequence[int], branches: Sequence[str] = ("image",)) -> None:
        if not seeds:
            raise ValueError("no seeds: give one for each sample")
        for seed in seeds:
            if not 0 <= seed <= _LARGEST_SEED:
                raise ValueError(f"seed {seed} is out of range: seeds are 0 to 2^63 - 1")
        self.seeds = tuple(seeds)
        self._streams = {
            branch: [_stream(seed, slot) for seed in seeds] for slot, branch in enumerate(branches)
        }

    def draw(self, branch: str, like: Tensor) -> Tensor:
        """Unit Gaussian noise of the shape, dtype and device of `like` (B, C, H, W)."""
        if len(like) != len(self.seeds):
            raise ValueError(f"noise for {len(like)} samples was asked of {len(self.seeds)} seeds")
        if branch not in self._streams:
            raise ValueError(
                f"no generator for branch {branch!r}; there are {sorted(self._streams)}"
            )
        rows = [torch.randn(like.shape[1:], generator=stream) for stream in self._streams[branch]]
        return torch.stack(rows).to(like)


def apart(seed: int, slot: int) -> int:
    """A distant seed for the slot-th thing beside the first; slot 0 is the seed itself."""
    return (seed + slot * _STRIDE) & _LARGEST_SEED


def _stream(seed: int, slot: int) -> torch.Generator:
    return torch.Generator().manual_seed(apart(seed, slot))

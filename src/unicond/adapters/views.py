"""What a token sees of the other branch in joint attention: all of it, or its own surroundings.

Aligned pairs show the same place at the same place, so that a token needs only look around its own:

    small grids    exactly the 7 x 7 neighbourhood, by a mask
    large grids    blocks of 8 x 8 queries with a halo of 3: 14 x 14 keys a block

Blocks at the border of the picture move their window inside, so that no key is empty and ordinary
attention kernels do the work. A view splits the heads, too: `keys` prepares what a branch shows
(once, where it is held), `attend` lets queries look at it.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import torch
from diffusers.models.attention_processor import Attention
from torch import Tensor
from typing_extensions import override

from unicond.adapters import quick
from unicond.sampling.slicing import attention, slicing

REACH = 3
"""A token sees this far in every direction, or a little farther."""
BLOCK = 8
SMALL = 16
"""Grids of up to this side are masked, larger ones cut into blocks."""

Grid = tuple[int, int]


class Keys(NamedTuple):
    """What a branch shows, prepared for a view.

    Args:
        k: keys, (P, heads, tokens, width of a head) or as many for each block.
        v: values, likewise.
        mask: (P, heads, queries or 1, tokens), additive; None where all are seen.
    """

    k: Tensor
    v: Tensor
    mask: Tensor | None = None

    def detached(self) -> "Keys":
        """The same, and no gradient leads through it."""
        return Keys(self.k.detach(), self.v.detach(), self.mask)


class View(ABC):
    """Who sees what, in one attention layer."""

    @abstractmethod
    def keys(self, attn: Attention, k: Tensor, v: Tensor, mask: Tensor | None) -> Keys:
        """Prepare keys and values, (P, tokens, width) each, and the layer's mask on them."""

    @abstractmethod
    def attend(self, attn: Attention, q: Tensor, keys: Keys) -> Tensor:
        """Queries (P, tokens, width) look at prepared keys; the result is shaped as they are."""


class Everything(View):
    """Every token sees every token."""

    @override
    def keys(self, attn: Attention, k: Tensor, v: Tensor, mask: Tensor | None) -> Keys:
        return Keys(_normed(attn.norm_k, heads(attn, k)), heads(attn, v), mask)

    @override
    def attend(self, attn: Attention, q: Tensor, keys: Keys) -> Tensor:
        found = _normed(attn.norm_q, heads(attn, q))
        if keys.mask is None and not slicing() and quick.suits(found, keys.k, keys.v):
            return joined(quick.attention(found, keys.k, keys.v))
        return joined(attention(found, keys.k, keys.v, keys.mask)).to(q.dtype)


@dataclass(frozen=True)
class Neighbourhood(View):
    """Every token sees the tokens at most `REACH` away from its own place, by a mask.

    Args:
        grid: (height, width) in tokens, of both branches.
    """

    grid: Grid

    @override
    def keys(self, attn: Attention, k: Tensor, v: Tensor, mask: Tensor | None) -> Keys:
        _check(self.grid, k, mask)
        return Everything().keys(attn, k, v, neighbours(self.grid, k.device, k.dtype))

    @override
    def attend(self, attn: Attention, q: Tensor, keys: Keys) -> Tensor:
        _check(self.grid, q)
        return Everything().attend(attn, q, keys)


@dataclass(frozen=True)
class Blocks(View):
    """Every block of queries sees the keys of its window.

    Args:
        grid: (height, width) in tokens, of both branches.
    """

    grid: Grid

    @override
    def keys(self, attn: Attention, k: Tensor, v: Tensor, mask: Tensor | None) -> Keys:
        _check(self.grid, k, mask)
        index = tiling(self.grid, k.device)
        tiles = _gathered(k, index.keys), _gathered(v, index.keys)
        return Everything().keys(attn, *tiles, None)

    @override
    def attend(self, attn: Attention, q: Tensor, keys: Keys) -> Tensor:
        _check(self.grid, q)
        index = tiling(self.grid, q.device)
        seen = Everything().attend(attn, _gathered(q, index.queries), keys)
        return seen.reshape(len(q), -1, q.shape[-1]).index_select(1, index.back)


def view(aligned: bool, latents: Grid | None, tokens: int) -> View:
    """The view of a layer.

    Args:
        aligned: whether tokens look around their own place only.
        latents: (height, width) of the network's input, where known.
        tokens: of the layer.

    Returns:
        Who sees what.

    Raises:
        ValueError: an aligned view on an unknown grid.
    """
    if not aligned:
        return Everything()
    if latents is None:
        raise ValueError("aligned joint attention needs the latents' size in `Rows.size`")
    grid = grid_of(latents, tokens)
    return Neighbourhood(grid) if max(grid) <= SMALL else Blocks(grid)


def grid_of(latents: Grid, tokens: int) -> Grid:
    """The grid of a layer: that of the latents, halved some times.

    Args:
        latents: (height, width) of the network's input.
        tokens: of the layer.

    Returns:
        (height, width) in tokens.

    Raises:
        ValueError: no number of halvings gives so many tokens.

    >>> grid_of((64, 48), 192)
    (16, 12)
    """
    height, width = latents
    while height * width > tokens:
        height, width = -(-height // 2), -(-width // 2)
    if height * width != tokens:
        raise ValueError(
            f"{tokens} tokens are no picture of {latents} latents, halved some times, so that "
            "aligned joint attention cannot act: use attention='global'"
        )
    return height, width


def heads(attn: Attention, values: Tensor) -> Tensor:
    """(P, tokens, width) to (P, heads, tokens, width of a head)."""
    return values.unflatten(-1, (attn.heads, -1)).transpose(1, 2)


def joined(values: Tensor) -> Tensor:
    """(P, heads, tokens, width of a head) to (P, tokens, width)."""
    return values.transpose(1, 2).flatten(2)


@lru_cache(maxsize=32)
def neighbours(grid: Grid, device: torch.device, dtype: torch.dtype) -> Tensor:
    """(tokens, tokens), 0 where a token sees another one, else -inf."""
    with torch.inference_mode(False):
        line, column = (places.flatten() for places in _places(grid))
        apart = torch.maximum((line[:, None] - line).abs(), (column[:, None] - column).abs())
        mask = torch.zeros(apart.shape, dtype=dtype).masked_fill_(apart > REACH, -torch.inf)
        return mask.to(device)


class Tiling(NamedTuple):
    """How a grid is cut.

    Args:
        queries: (blocks, tokens of a block) places.
        keys: (blocks, tokens of a window) places.
        back: (tokens,) where each token's result lies among all blocks' queries.
    """

    queries: Tensor
    keys: Tensor
    back: Tensor


@lru_cache(maxsize=32)
def tiling(grid: Grid, device: torch.device) -> Tiling:
    """Blocks and windows of any grid; where it does not divide, the last blocks overlap."""
    with torch.inference_mode(False):
        places = torch.arange(grid[0] * grid[1]).view(grid)
        queries, keys = (
            torch.stack([places[y][:, x].flatten() for y in lines for x in columns])
            for lines, columns in zip(*(_spans(side) for side in grid), strict=True)
        )
        back = torch.empty(places.numel(), dtype=torch.int64)
        back[queries.flatten()] = torch.arange(queries.numel())
        return Tiling(queries.to(device), keys.to(device), back.to(device))


def _spans(side: int) -> tuple[list[slice], list[slice]]:
    """Blocks along one side, and the window of each."""
    block, window = min(BLOCK, side), min(BLOCK + 2 * REACH, side)
    starts = [min(start, side - block) for start in range(0, side, block)]
    firsts = [min(max(start - REACH, 0), side - window) for start in starts]
    return (
        [slice(start, start + block) for start in starts],
        [slice(first, first + window) for first in firsts],
    )


def _places(grid: Grid) -> tuple[Tensor, ...]:
    return torch.meshgrid(*(torch.arange(side) for side in grid), indexing="ij")


def _gathered(values: Tensor, index: Tensor) -> Tensor:
    """(P, tokens, width) to (P * blocks, tokens of a block, width)."""
    found = values.index_select(1, index.flatten())
    return found.reshape(-1, index.shape[1], values.shape[-1])


def _normed(norm: torch.nn.Module | None, values: Tensor) -> Tensor:
    return values if norm is None else norm(values)


def _check(grid: Grid, values: Tensor, mask: Tensor | None = None) -> None:
    if mask is not None:
        raise ValueError("aligned joint attention takes no attention mask; use attention='global'")
    if values.shape[1] != grid[0] * grid[1]:
        raise ValueError(
            f"an aligned pair needs branches of one size, but one has {values.shape[1]} tokens "
            f"where the grid has {grid[0]} x {grid[1]}; use attention='global'"
        )

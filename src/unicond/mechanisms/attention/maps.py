"""Where in the picture a prompt's words are: cross-attention maps, gathered over a run.

Maps are averaged over heads, layers and all network calls so far. They travel in `State.memory`:
`begin` of a mechanism puts an empty `Gathered` there, the network's calls fill it.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor
from typing_extensions import override

from unicond.mechanisms.views import BESIDE_VIEWS
from unicond.sampling.controls import Changes, Control, Layer, Stage, grid_of, rows_of
from unicond.sampling.rows import Rows

LARGEST = 256
"""Maps of up to 16 x 16 places are looked at: finer ones are about texture, and cost more."""

Grid = tuple[int, int]


@dataclass
class Gathered:
    """The maps of one run.

    Args:
        sums: {(branch, (height, width)): sum of maps (B, tokens, height, width)}.
        counts: {likewise: how many were added}.
    """

    sums: dict[tuple[str, Grid], Tensor] = field(default_factory=dict[tuple[str, Grid], Tensor])
    counts: dict[tuple[str, Grid], int] = field(default_factory=dict[tuple[str, Grid], int])

    def add(self, branch: str, grid: Grid, maps: Tensor) -> None:
        """Add a layer's maps (B, tokens, height, width)."""
        key = branch, grid
        self.sums[key] = self.sums[key] + maps if key in self.sums else maps
        self.counts[key] = self.counts.get(key, 0) + 1

    def of(self, branch: str, words: Tensor, size: Sequence[int]) -> Tensor | None:
        """The mean map of some words, each layer's counted alike.

        Args:
            branch: whose.
            words: (B or 1, tokens), weights of the tokens.
            size: (height, width) that maps are brought to.

        Returns:
            (B, 1, height, width); None if nothing has been gathered.

        Raises:
            ValueError: there are more tokens in the maps than in the words, or fewer.
        """
        found, count = list[Tensor](), 0
        for (name, grid), total in self.sums.items():
            if name != branch:
                continue
            if total.shape[1] != words.shape[1]:
                raise ValueError(
                    f"the words are marked in {words.shape[1]} tokens, but prompts have "
                    f"{total.shape[1]}"
                )
            one = torch.einsum("bnhw,bn->bhw", total, words.to(total).expand(len(total), -1))
            found.append(F.interpolate(one[:, None], tuple(size), mode="bilinear"))
            count += self.counts[name, grid]
        return torch.stack(found).sum(0) / count if found else None


@dataclass(frozen=True)
class Gather(Control):
    """Adds the maps of a call to what is gathered; changes nothing.

    Args:
        into: where they go.
        branches: whose.
        prompt: of the variant that is looked at, the first of this prompt.
        size: (height, width) of the latents.
    """

    into: Gathered
    branches: tuple[str, ...]
    prompt: str
    size: tuple[int, int]

    @override
    def wants(self, layer: Layer) -> Collection[Stage]:
        return ("maps",) if layer.kind == "cross" and layer.tokens(self.size) <= LARGEST else ()

    @override
    def maps(self, layer: Layer, maps: Tensor, rows: Rows) -> Changes:
        if rows.size is not None and rows.size != self.size:
            raise ValueError(f"what gathers the maps of words {BESIDE_VIEWS}")
        grid = grid_of(rows, maps.shape[2])
        for some in rows_of(rows, self.branches, self.prompt)[:1]:
            for branch, mine in zip(self.branches, some, strict=True):
                mean = maps[mine].detach().mean(1).transpose(1, 2)
                self.into.add(branch, grid, mean.reshape(*mean.shape[:2], *grid))
        return ()

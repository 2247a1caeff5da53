"""Where an adapter acts in one network call: from `Rows` to index tensors, once a call.

The attention layers of a network all act on the same rows. A `Router` is shared by the processors
of one attachment and works out the indices when the first layer of a call asks for them.
"""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from unicond.sampling.rows import Pairs, Rows, current

Index = slice | Tensor
"""Rows of a batch: a run of them, or any (P,)."""


@dataclass(frozen=True)
class Group:
    """Pairs that are computed together: alike in who hears, in their slot, and with no row twice.

    Distinct rows make the sums independent of the order in which a GPU adds.

    Args:
        x: rows of the images; None where they are remembered.
        y: rows of the conditions; None where they are remembered.
        scale_x: `joint_scale * w_x` of all pairs, or (P, 1, 1) float32 where they differ.
        scale_y: `joint_scale * w_y`, likewise.
        hears_x: whether these image rows look at their conditions.
        hears_y: whether these condition rows look at their images.
        slot: of all of them; with who hears, the group's name from call to call.
        kept: the side that is remembered from call to call.
    """

    x: Index | None
    y: Index | None
    scale_x: float | Tensor
    scale_y: float | Tensor
    hears_x: bool
    hears_y: bool
    slot: int = 0
    kept: Literal["x", "y"] | None = None


def take(values: Tensor, index: Index) -> Tensor:
    """Some rows of a batch; a view where they follow each other."""
    return values[index] if isinstance(index, slice) else values.index_select(0, index)


def add(values: Tensor, index: Index, term: Tensor, scale: float | Tensor = 1.0) -> None:
    """Add `scale * term` to some rows of a batch, in place, in the batch's dtype."""
    if isinstance(scale, Tensor):
        # A float32 weight keeps its precision under half-precision activations.
        term, scale = scale * term, 1.0
    term = term.to(values.dtype)
    # A layer's output is a view. After a gradient has come into it through some of its rows, torch
    # takes it for a leaf, and refuses to change it, unless its history is asked for first.
    _ = values.grad_fn
    if isinstance(index, slice):
        values[index].add_(term, alpha=scale)
    else:
        values.index_add_(0, index, term, alpha=scale)


@dataclass(frozen=True)
class Route:
    """The rows of one adapter.

    Args:
        groups: its pairs in which something is heard at a weight that is not zero.
        y: all rows that are a condition, each once: where y-LoRA acts, heard or not; None if none.
        aligned: whether tokens look around their own place only.
    """

    groups: tuple[Group, ...]
    y: Index | None
    aligned: bool = False


class Router:
    """Routes of the rows that are current, worked out once for all layers.

    Args:
        adapters: names of the adapters that are attached.
    """

    def __init__(self, adapters: Collection[str]) -> None:
        self._adapters = frozenset(adapters)
        self._last: tuple[Rows, torch.device, Mapping[str, Route]] | None = None

    def rows(self) -> Rows:
        """The rows of the call that is running."""
        rows = current()
        assert rows is not None, "only asked where `routes` found some"
        return rows

    def routes(self, batch: int, device: torch.device) -> Mapping[str, Route]:
        """{adapter: its route} in the call that is running; empty outside of `Rows.active()`.

        Args:
            batch: rows that the attention layer sees.
            device: of its activations.

        Returns:
            {adapter: its route}, for the adapters with pairs.

        Raises:
            ValueError: the current rows are not those of this batch, or name an adapter that is not
                attached.
        """
        rows = current()
        if rows is None:
            return {}
        if len(rows) != batch:
            raise ValueError(f"the batch has {batch} rows, but the current `Rows` has {len(rows)}")
        last = self._last
        if last is None or last[0] is not rows or last[1] != device:
            # Indices made in inference mode could not be saved for a later call's gradient.
            with torch.inference_mode(False):
                last = (rows, device, self._build(rows, device))
            self._last = last
        return last[2]

    def _build(self, rows: Rows, device: torch.device) -> Mapping[str, Route]:
        unknown = sorted(rows.pairs.keys() - self._adapters)
        if unknown:
            raise ValueError(
                f"no adapter {unknown[0]!r} is attached; there are {sorted(self._adapters)}"
            )
        return {
            name: build_route(pairs, len(rows), rows.joint_scale, device)
            for name, pairs in rows.pairs.items()
            if len(pairs.x)
        }


def build_route(pairs: Pairs, rows: int, joint_scale: float, device: torch.device) -> Route:
    """Group the pairs of one adapter.

    Args:
        pairs: of one adapter.
        rows: how many there are, for a check.
        joint_scale: weight of every joint attention; at 0 nobody hears.
        device: for the index tensors.

    Returns:
        The groups, and the rows where y-LoRA acts.

    Raises:
        ValueError: a pair names a row that does not exist.
    """
    members: dict[tuple[int, bool, bool, int, int], list[int]] = {}
    seen: Counter[tuple[str, int]] = Counter()
    slots = torch.zeros_like(pairs.x) if pairs.slot is None else pairs.slot
    weights, hears = (pairs.weight_x, pairs.weight_y), (pairs.hears_x, pairs.hears_y)
    columns = (pairs.x, pairs.y, *weights, slots, *hears)
    for i, (x, y, w_x, w_y, slot, hears_x, hears_y) in enumerate(
        zip(*(column.tolist() for column in columns), strict=True)
    ):
        if not (-1 <= x < rows and -1 <= y < rows) or (x < 0 and y < 0):
            raise ValueError(f"pair {i} is of rows {x} and {y}, but there are {rows} rows")
        if joint_scale != 0 and ((hears_x and w_x != 0) or (hears_y and w_y != 0)):
            key = slot, hears_x, hears_y, seen["x", x], seen["y", y]
            members.setdefault(key, []).append(i)
            seen.update(place for place in (("x", x), ("y", y)) if place[1] >= 0)
    groups: list[Group] = []
    for (slot, hears_x, hears_y, _, _), indices in members.items():
        x, y, w_x, w_y = (column[indices] for column in columns[:4])
        scale_x, scale_y = (_scale(joint_scale * w.float(), device) for w in (w_x, w_y))
        rows_x, rows_y = _index(x, device), _index(y, device)
        kept = pairs.kept.get(slot)
        groups.append(Group(rows_x, rows_y, scale_x, scale_y, hears_x, hears_y, slot, kept))
    conditions = pairs.y[pairs.y >= 0].unique()
    return Route(tuple(groups), _index(conditions, device), pairs.aligned)


def _index(rows: Tensor, device: torch.device) -> Index | None:
    """Rows as a slice where they follow each other; None where there are none."""
    if not len(rows) or rows[0] < 0:
        return None
    first = int(rows[0])
    if torch.equal(rows, torch.arange(first, first + len(rows), device=rows.device)):
        return slice(first, first + len(rows))
    return rows.to(device)


def _scale(weights: Tensor, device: torch.device) -> float | Tensor:
    """One number where all are the same."""
    first = float(weights[0])
    return first if bool((weights == first).all()) else weights[:, None, None].to(device)

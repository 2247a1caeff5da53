"""What looks into a network call, or changes it from inside: queries, maps, features.

A mechanism makes its control active around the denoiser's call, and whoever calls the network lets
the active controls in (`denoisers.controlled`):

    wrap:                with acting(control): return denoiser(state, variants)
    the denoiser:        with rows.active(), controlled(network): network(...)
    an attention layer:  attend(name, q, k, v, mask)

Each attention layer then computes, with the rows of the call told by `Rows`,

    q, k, v = project(q, k, v)
    P       = softmax(q k^T / sqrt(d) + mask + bias(q, k))
    P       = maps(P)
    out     = P v

Maps exist only in layers where a control asks for them. Rows that no control changes keep the
numbers of the fused kernel, bit for bit, looked at or not. Maps and features carry gradients.
"""

import math
from collections.abc import Callable, Collection, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from typing_extensions import override

from unicond.sampling.rows import Rows
from unicond.sampling.slicing import attention

Kind = Literal["self", "cross", "residual", "block"]
Part = Literal["down", "mid", "up"]
Stage = Literal["qkv", "bias", "maps", "values"]
Changes = Sequence[tuple[slice, Tensor]]
"""Rows of a batch, and what they get."""


@dataclass(frozen=True)
class Layer:
    """A place in a network.

    Args:
        name: of the module.
        kind: self- or cross-attention; `"residual"`, what a residual block adds to its input;
            `"block"`, the output of the middle block or of one of the way up.
        part: on the way down, in the middle, on the way up.
        number: position among those of its kind in its part, in the order in which they run.
        count: how many those are.
        level: how often the latents' sides are halved there (rounded up); a block of the way up
            that enlarges its output hands it out at one less.
    """

    name: str
    kind: Kind
    part: Part
    number: int = 0
    count: int = 1
    level: int = 0

    def tokens(self, size: Sequence[int]) -> int:
        """How many places the layer sees in latents of a (height, width)."""
        return math.prod(math.ceil(side / 2**self.level) for side in size)

    def within(self, start: float, stop: float) -> bool:
        """Whether any of it is in the share [start, stop) of its kind in its part."""
        return self.number / self.count < stop and (self.number + 1) / self.count > start


class Heads(NamedTuple):
    """Queries, keys and values of all rows, (rows, heads, tokens, width of a head) each."""

    q: Tensor
    k: Tensor
    v: Tensor


class Control:
    """What a mechanism does inside a network call: override the stages that it asks for."""

    def wants(self, layer: Layer) -> Collection[Stage]:  # noqa: ARG002
        """The stages of a layer at which it is called: asked once a network call and layer."""
        return ()

    def project(self, layer: Layer, heads: Heads, rows: Rows) -> Heads:  # noqa: ARG002
        """`"qkv"`: the queries, keys and values to use; do not write into the given ones."""
        return heads

    def bias(self, layer: Layer, heads: Heads, rows: Rows) -> Changes:  # noqa: ARG002
        """`"bias"`: what to add to the scores of some rows, each (n, heads or 1, queries, keys)."""
        return ()

    def maps(self, layer: Layer, maps: Tensor, rows: Rows) -> Changes:  # noqa: ARG002
        """`"maps"`: other probabilities for some rows, each (n, heads, queries, keys).

        `maps` is (rows, heads, queries, keys), float32 or wider, with earlier controls' changes.
        """
        return ()

    def values(self, layer: Layer, values: Tensor, rows: Rows) -> Tensor:  # noqa: ARG002
        """`"values"` of residuals and blocks: the features (rows, C, h, w) to go on with."""
        return values


@dataclass(frozen=True, eq=False)
class Recorder(Control):
    """Keeps what layers compute in one network call, gradients included, and changes nothing.

    Give a new one to each call (or clear `found`): a layer's entry is overwritten by the next.

    Args:
        branch: whose rows.
        prompt: of the variant that is recorded, the first of this prompt in the call.
        where: which layers; of attention layers the maps are kept, of the others the features.

    >>> with acting(Recorder("image", where=lambda l: l.kind == "cross" and l.part != "down")):
    ...     pass
    """

    branch: str
    prompt: str = "positive"
    where: Callable[[Layer], bool] = lambda layer: layer.kind == "cross"
    found: dict[Layer, Tensor] = field(default_factory=dict[Layer, Tensor])
    """{layer: maps (B, heads, queries, keys), or features (B, C, h, w)}, in running order."""

    @override
    def wants(self, layer: Layer) -> Collection[Stage]:
        if not self.where(layer):
            return ()
        return ("maps",) if layer.kind in ("self", "cross") else ("values",)

    @override
    def maps(self, layer: Layer, maps: Tensor, rows: Rows) -> Changes:
        self._keep(layer, maps, rows)
        return ()

    @override
    def values(self, layer: Layer, values: Tensor, rows: Rows) -> Tensor:
        self._keep(layer, values, rows)
        return values

    def _keep(self, layer: Layer, values: Tensor, rows: Rows) -> None:
        for (mine,) in rows_of(rows, (self.branch,), self.prompt)[:1]:
            self.found[layer] = values[mine]


class Controllable:
    """Marks attention processors that hand their queries, keys and values to `attend`."""


@dataclass(frozen=True)
class Call:
    """The network call that is running: its rows, and who wants what of each layer.

    Args:
        rows: who is who.
        wanted: {layer name: the layer, and for each stage the controls that want it}.
    """

    rows: Rows
    wanted: Mapping[str, tuple[Layer, Mapping[Stage, Sequence[Control]]]]

    @contextmanager
    def active(self) -> Generator[None]:
        """Let this call's controls in, inside the block."""
        token = _CALL.set(self)
        try:
            yield
        finally:
            _CALL.reset(token)


_ACTING: ContextVar[tuple[Control, ...]] = ContextVar("unicond_controls", default=())
_CALL: ContextVar[Call | None] = ContextVar("unicond_call", default=None)


@contextmanager
def acting(*controls: Control) -> Generator[None]:
    """Let controls take part in the network calls inside the block, after those of outer blocks."""
    token = _ACTING.set((*_ACTING.get(), *controls))
    try:
        yield
    finally:
        _ACTING.reset(token)


def in_action() -> tuple[Control, ...]:
    """The controls that take part in network calls now; empty outside of `acting`."""
    return _ACTING.get()


def wanting(layers: Iterable[Layer], rows: Rows) -> Call:
    """The call of some rows through a network, with the active controls.

    Args:
        layers: all of the network's.
        rows: of the call.

    Returns:
        The call; layers that nobody wants are not in it.
    """
    wanted: dict[str, tuple[Layer, Mapping[Stage, Sequence[Control]]]] = {}
    for layer in layers:
        stages: dict[Stage, list[Control]] = {}
        for control in in_action():
            for stage in control.wants(layer):
                stages.setdefault(stage, []).append(control)
        if stages:
            wanted[layer.name] = (layer, stages)
    return Call(rows, wanted)


def controlled_here(name: str) -> bool:
    """Whether a control wants anything of the layer of this name, in the call that is running."""
    call = _CALL.get()
    return call is not None and name in call.wanted


def attend(name: str, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """Multi-head scaled dot-product attention under the active controls.

    Args:
        name: of the layer.
        q: queries (rows, heads, queries, width of a head).
        k: keys, likewise.
        v: values, likewise.
        mask: (rows, heads, queries or 1, keys), added to the scores.

    Returns:
        (rows, heads, queries, width of a head).

    Raises:
        ValueError: the batch is not that of the current rows.
    """
    call = _CALL.get()
    if call is None or name not in call.wanted:
        return attention(q, k, v, mask)
    layer, stages = call.wanted[name]
    if len(q) != len(call.rows):
        raise ValueError(f"{name} has {len(q)} rows, but the current `Rows` has {len(call.rows)}")
    heads = Heads(q, k, v)
    for control in stages.get("qkv", ()):
        heads = control.project(layer, heads, call.rows)
    out = attention(*heads, mask)
    biases = [
        change
        for control in stages.get("bias", ())
        for change in control.bias(layer, heads, call.rows)
    ]
    if biases:
        mask, index = _biased(heads, mask, biases)
        some = Heads(*(t.index_select(0, index) for t in heads))
        seen = mask.index_select(0, index)
        out = out.index_copy(0, index, attention(*some, seen))
    if "maps" not in stages:
        return out
    maps, changed = _probabilities(heads, mask), set[int]()
    for control in stages["maps"]:
        changes = control.maps(layer, maps, call.rows)
        maps, changed = _put(maps, changes), changed | _touched(changes)
    if not changed:
        return out
    index = torch.tensor(sorted(changed), device=q.device)
    new = maps.index_select(0, index) @ heads.v.index_select(0, index).to(maps)
    return out.index_copy(0, index, new.to(out))


def features(name: str, values: Tensor) -> Tensor:
    """The features (rows, C, h, w) of a residual or a block, as the active controls want them."""
    call = _CALL.get()
    if call is None or name not in call.wanted:
        return values
    layer, stages = call.wanted[name]
    for control in stages.get("values", ()):
        values = control.values(layer, values, call.rows)
    return values


def rows_of(
    rows: Rows, branches: Sequence[str], prompt: str | None = None
) -> list[tuple[slice, ...]]:
    """The rows of some branches in each variant of a call.

    Args:
        rows: of the call.
        branches: names.
        prompt: of the variants that are meant; None is all of them.

    Returns:
        One slice a branch, in the order of the names, for each variant.

    Raises:
        ValueError: a branch has no rows in this call.
    """
    for branch in branches:
        if branch not in rows.branches:
            raise ValueError(
                f"branch {branch!r} has no rows in this network call, which has {rows.branches}: "
                "it is not in the run, or it is held and its rows are kept from an earlier call; "
                "what looks at it needs cache=False"
            )
    return [
        tuple(rows.of(branch, number) for branch in branches)
        for number, variant in enumerate(rows.variants)
        if prompt is None or variant.prompt == prompt
    ]


def grid_of(rows: Rows, tokens: int) -> tuple[int, int]:
    """(height, width) in tokens of a layer that has so many.

    Args:
        rows: of the call.
        tokens: of the layer.

    Returns:
        The latents' size, halved as often as it takes.

    Raises:
        ValueError: the branches have pictures of different sizes, or no halving fits.
    """
    if rows.size is not None:
        height, width = rows.size
        while height * width > tokens and height * width > 1:
            height, width = math.ceil(height / 2), math.ceil(width / 2)
        if height * width == tokens:
            return height, width
    raise ValueError(f"{tokens} tokens are no halving of latents of {rows.size}")


def put(values: Tensor, rows: slice, new: Tensor) -> Tensor:
    """The same batch with other values in some rows; a copy, through which gradients lead."""
    return torch.cat([values[: rows.start], new.to(values), values[rows.stop :]])


def _put(values: Tensor, changes: Changes) -> Tensor:
    for rows, new in changes:
        values = put(values, rows, new)
    return values


def _touched(changes: Changes) -> set[int]:
    return {row for rows, _ in changes for row in range(rows.start, rows.stop)}


def _biased(heads: Heads, mask: Tensor | None, biases: Changes) -> tuple[Tensor, Tensor]:
    """The mask of all rows with biases added, and the index of the rows that they change."""
    q, k = heads.q, heads.k
    shape = (len(q), max(bias.shape[1] for _, bias in biases), q.shape[2], k.shape[2])
    whole = q.new_zeros(shape) if mask is None else mask.to(q) + q.new_zeros(shape)
    for rows, bias in biases:
        whole = put(whole, rows, whole[rows] + bias.to(whole))
    return whole, torch.tensor(sorted(_touched(biases)), device=q.device)


def _probabilities(heads: Heads, mask: Tensor | None) -> Tensor:
    """(rows, heads, queries, keys), float32 or wider."""
    exact = torch.promote_types(heads.q.dtype, torch.float32)
    q, k = heads.q.to(exact), heads.k.to(exact)
    scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    return (scores if mask is None else scores + mask.to(exact)).softmax(-1)

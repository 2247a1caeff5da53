"""Who is who in a network's batch.

One network call evaluates every branch of every sample, once for each *variant* that a mechanism
asks for (with the prompt, with the negative prompt, with joint attention off, ...). Rows are laid
out as `[variant][branch][sample]`. Attention processors never slice at magic offsets: they ask
`current()` which rows are an adapter's images and which its conditions.
"""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to evaluate the denoiser: variants that are equal are computed once.

    Args:
        prompt: name of a prompt in the denoiser's table, `"positive"` or `"negative"` or a
            mechanism's own.
        joint: share of all weights of joint attention; 1.0 is all of them, 0.0 switches it off.
        guided: whether guidance mechanisms act on this variant; a mechanism that needs the bare
            prediction of one prompt asks for it with `guided=False`.
        perturbed: whether tokens of moving branches see themselves alone in some self-attention
            layers (`mechanisms.blending.perturbed`).
        weights: (condition branch, w_x, w_y) of pairs whose weights are others than their own.
    """

    prompt: str = "positive"
    joint: float = 1.0
    guided: bool = True
    perturbed: bool = False
    weights: tuple[tuple[str, float, float], ...] = ()


@dataclass(frozen=True)
class Pairs:
    """The pairs of one adapter in a batch of rows; all tensors have shape (P,), on the CPU.

    Args:
        x: row of each pair's image.
        y: row of each pair's condition.
        weight_x: `w_x`, weight of what the image row receives.
        weight_y: `w_y`, weight of what the condition row receives.
        hears_x: False where the image row looks at nothing (a held, one-way branch, or joint
            attention off).
        hears_y: the same for the condition row.
        aligned: whether a token looks only around its own place in the other picture.
        slot: a number that each pair keeps from call to call, shared by pairs that differ in
            variant or sample alone; None is 0 for all.
        kept: {slot: the side, "x" or "y", that stays the same from call to call}: what the others
            look at is kept in `Rows.memory`, or taken from there, where that side has no rows (they
            are -1). Slots that are not named keep nothing.
    """

    x: Tensor
    y: Tensor
    weight_x: Tensor
    weight_y: Tensor
    hears_x: Tensor
    hears_y: Tensor
    aligned: bool = False
    slot: Tensor | None = None
    kept: Mapping[int, Literal["x", "y"]] = field(default_factory=dict[int, Literal["x", "y"]])


class Memory(dict[tuple[object, ...], object]):
    """What attention layers keep from one call for the next ones, by (layer, ...)."""


@dataclass(frozen=True)
class Rows:
    """The layout of one batch: `len(variants) * len(branches) * batch` rows.

    Args:
        variants: outermost axis.
        branches: middle axis, names in the order of the latents.
        batch: samples a branch, innermost axis.
        pairs: {adapter name: its pairs in this batch}.
        joint_scale: weight of every joint attention output (`s` of formula (5)).
        size: (height, width) of the latents, where all rows have one.
        memory: what layers keep for later calls; None keeps nothing.
        recalls: whether the memory is filled: the kept sides of pairs are read from it.
        words: what layers keep of the words, which are the same in all calls that have this memory;
            None keeps nothing.
        slicing: attention is computed a slice at a time (`sampling.slicing`).
    """

    variants: tuple[Variant, ...]
    branches: tuple[str, ...]
    batch: int
    pairs: Mapping[str, Pairs] = field(default_factory=dict[str, Pairs])
    joint_scale: float = 1.0
    size: tuple[int, int] | None = None
    memory: Memory | None = None
    recalls: bool = False
    words: Memory | None = None
    slicing: bool = False

    def __len__(self) -> int:
        return len(self.variants) * len(self.branches) * self.batch

    def of(self, branch: str, variant: int = 0) -> slice:
        """The rows of one branch of one variant, in the order of the samples."""
        start = (variant * len(self.branches) + self.branches.index(branch)) * self.batch
        return slice(start, start + self.batch)

    @contextmanager
    def active(self) -> Generator["Rows"]:
        """Make these rows `current()` inside the block."""
        token = _CURRENT.set(self)
        try:
            yield self
        finally:
            _CURRENT.reset(token)


_CURRENT: ContextVar[Rows | None] = ContextVar("unicond_rows", default=None)


def current() -> Rows | None:
    """The rows of the network call that is running, or None outside of one."""
    return _CURRENT.get()

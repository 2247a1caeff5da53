"""Properties of a word's object, read from its attention maps and features, as energies.

    position(A)    = sum_u u A_u / sum_u A_u
    normal(A)      = (A - min A) / (max A - min A)
    shape(A)       = normal(sigmoid(k (normal(A) - 1/2)))
    size(A)        = mean_u shape(A)_u
    appearance(A)  = sum_u shape(A)_u F_u / sum_u shape(A)_u

each against what is wanted: given, or the same of a source, moved or scaled. `self_guidance` uses
them.

Source: Epstein et al. 2023, arXiv:2306.00986, section 3. Deviates: what a word of several tokens
has is read from their mean map.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from typing_extensions import override

from unicond.mechanisms.attention.words import check_words
from unicond.mechanisms.known import check_scale


@dataclass(frozen=True)
class Seen:
    """What was watched of one branch in one call.

    Args:
        maps: of layers, each (B, tokens, h, w), the mean over heads.
        features: (B, C, h, w), or None where no term needs them.
    """

    maps: Sequence[Tensor]
    features: Tensor | None = None

    def of(self, words: Tensor) -> Iterator[Tensor]:
        """Each layer's mean map (B, h, w) of some words (B or 1, tokens)."""
        for maps in self.maps:
            if words.shape[1] != maps.shape[1]:
                raise ValueError(
                    f"words are marked in {words.shape[1]} tokens, but prompts have {maps.shape[1]}"
                )
            weights = (words / words.sum(1, keepdim=True)).to(maps)
            yield (weights[:, :, None, None] * maps).sum(1)

    def still(self) -> "Seen":
        """The same, and no gradient leads through it."""
        features = None if self.features is None else self.features.detach()
        return Seen([maps.detach() for maps in self.maps], features)


@dataclass(frozen=True, kw_only=True, eq=False)
class Term(ABC):
    """A property of some words' object, and what it is to be.

    Args:
        words: (B or 1, tokens), 1 at the words in the branch's prompt (`words.places`).
        source_words: likewise in the source's prompt; None where no source is looked at.
        weight: w, within the sum.

    Raises:
        ValueError: a negative weight, or a sample without words.
    """

    words: Tensor
    source_words: Tensor | None = None
    weight: float = 1.0

    def __post_init__(self) -> None:
        check_scale(self.weight, "the weight of a term")
        for words in (self.words, self.source_words):
            if words is not None:
                check_words(words)

    def energy(self, mine: Seen, source: Seen | None) -> Tensor:
        """How far the property is from what is wanted: `| property - wanted |`.

        Args:
            mine: of the branch.
            source: of the source; needed where the term has `source_words`.

        Returns:
            (B,): the mean over layers.

        Raises:
            ValueError: the term looks at a source, and there is none.
        """
        found = list(self.property(mine, self.words))
        theirs: list[Tensor | None] = [None] * len(found)
        if self.source_words is not None:
            if source is None:
                raise ValueError(
                    f"{type(self).__name__} is wanted as in a source, but no source was run beside"
                )
            theirs = list(self.property(source, self.source_words))
        gaps = [
            self.norm((one - self.wanted(one, other).to(one)).abs().flatten(1))
            for one, other in zip(found, theirs, strict=True)
        ]
        return torch.stack(gaps).mean(0)

    @abstractmethod
    def property(self, seen: Seen, words: Tensor) -> Iterator[Tensor]:
        """Of each layer, (B, ...)."""

    def norm(self, gap: Tensor) -> Tensor:
        """(B,) of absolute differences (B, n)."""
        return gap.mean(1)

    @abstractmethod
    def wanted(self, like: Tensor, source: Tensor | None) -> Tensor:
        """What a property (B, ...) of one layer is to be, by the source's if there is one."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Position(Term):
    """Where the middle of an object is: at `to`, or at the source's, moved `by`.

    Args:
        words: (B or 1, tokens), 1 at the words in the branch's prompt.
        source_words: likewise in the source's prompt; None where `to` is given.
        weight: w, within the sum.
        to: (x, y) in [0, 1] from the upper left corner; None takes the source's.
        by: (x, y), added to the source's.

    Raises:
        ValueError: a place out of range, or both a place and a source, or none.
    """

    to: tuple[float, float] | None = None
    by: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_wanted(self, self.to is not None)
        if self.to is not None and not all(0.0 <= one <= 1.0 for one in self.to):
            raise ValueError(
                f"the place {self.to} is outside of the picture; give (x, y) in [0, 1]"
            )

    @override
    def property(self, seen: Seen, words: Tensor) -> Iterator[Tensor]:
        return (centroid(one) for one in seen.of(words))

    @override
    def norm(self, gap: Tensor) -> Tensor:
        return gap.sum(1)

    @override
    def wanted(self, like: Tensor, source: Tensor | None) -> Tensor:
        if source is None:
            return like.new_tensor(self.to).expand_as(like)
        return source + source.new_tensor(self.by)


@dataclass(frozen=True, kw_only=True, eq=False)
class Size(Term):
    """How much of the picture an object takes: `to`, or the source's, `times` as much.

    Args:
        words: (B or 1, tokens), 1 at the words in the branch's prompt.
        source_words: likewise in the source's prompt; None where `to` is given.
        weight: w, within the sum.
        to: share of the picture, in (0, 1); None takes the source's.
        times: factor of the source's.

    Raises:
        ValueError: a share or factor out of range, or both a share and a source, or none.
    """

    to: float | None = None
    times: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_wanted(self, self.to is not None)
        if (self.to is not None and not 0.0 < self.to < 1.0) or not self.times > 0:
            raise ValueError(
                f"a size of {self.to} is no share of the picture in (0, 1), or the factor "
                f"{self.times} is not positive"
            )

    @override
    def property(self, seen: Seen, words: Tensor) -> Iterator[Tensor]:
        return (shape(one).mean((1, 2))[:, None] for one in seen.of(words))

    @override
    def wanted(self, like: Tensor, source: Tensor | None) -> Tensor:
        if source is None:
            assert self.to is not None
            return torch.full_like(like, self.to)
        return self.times * source


@dataclass(frozen=True, kw_only=True, eq=False)
class _AsInSource(Term):
    """A property that is wanted as it is in the source."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.source_words is None:
            raise ValueError(
                f"{type(self).__name__} is taken from a source: give source_words, 1 at the words "
                "in the source's prompt"
            )

    @override
    def wanted(self, like: Tensor, source: Tensor | None) -> Tensor:
        assert source is not None
        return source


@dataclass(frozen=True, kw_only=True, eq=False)
class Shape(_AsInSource):
    """An object's outline as in the source."""

    @override
    def property(self, seen: Seen, words: Tensor) -> Iterator[Tensor]:
        return (shape(one) for one in seen.of(words))


@dataclass(frozen=True, kw_only=True, eq=False)
class Appearance(_AsInSource):
    """An object's features as in the source, wherever it is there."""

    @override
    def property(self, seen: Seen, words: Tensor) -> Iterator[Tensor]:
        assert seen.features is not None
        return (appearance(one, seen.features) for one in seen.of(words))


def centroid(maps: Tensor) -> Tensor:
    """The middle (B, 2) of maps (B, h, w): (x, y) in [0, 1] from the upper left corner."""
    weights = maps / maps.sum((1, 2), keepdim=True)
    height, width = maps.shape[1:]
    rows = (torch.arange(height).to(maps) + 0.5) / height
    columns = (torch.arange(width).to(maps) + 0.5) / width
    x, y = (weights.sum(1) * columns).sum(1), (weights.sum(2) * rows).sum(1)
    return torch.stack([x, y], 1)


def shape(maps: Tensor, sharpness: float = 10.0) -> Tensor:
    """The soft outline of maps (B, h, w), each from 0 to 1."""
    return _normal(torch.sigmoid(sharpness * (_normal(maps) - 0.5)))


def appearance(maps: Tensor, features: Tensor) -> Tensor:
    """The mean features (B, C) of (B, C, H, W) inside the outline of maps (B, h, w)."""
    size = list(features.shape[-2:])
    inside = F.interpolate(shape(maps)[:, None], size, mode="bilinear").to(features)
    return (inside * features).sum((2, 3)) / inside.sum((2, 3))


def _normal(maps: Tensor) -> Tensor:
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    spread = high - low
    return (maps - low) / torch.where(spread > 0, spread, 1.0)


def _check_wanted(term: Term, given: bool) -> None:
    if given == (term.source_words is not None):
        raise ValueError(
            f"{type(term).__name__} is wanted as given (`to`) or as in a source (`source_words`): "
            "give one of them"
        )

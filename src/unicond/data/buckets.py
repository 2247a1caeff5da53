"""Aspect-ratio buckets: pictures keep their proportions, and every batch has one size.

A bucket is a size whose sides are multiples of some number and whose area is near a given one; a
picture goes to the bucket of the nearest proportions,

    argmin_b |log(w_b / h_b) - log(w / h)|.

The order of batches is a function of the seed alone, and a batch of its number alone: a run that
was stopped goes on at any number. Bucket b with n_b of the N pictures gets n_b of every N batches,
spread evenly (its k-th is at the place (k + u_b) / n_b of the round, u_b drawn once), so that every
picture is seen equally often. Inside a bucket batches are cut from one endless row of permutations:
none is short, and each picture comes once before any comes again.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from unicond.pictures.fitting import Size

_AREA = 0.125
"""How far from the wanted area a size may be that is not the nearest of its side, as a share."""


def bucket_sizes(area: int, multiple: int = 64, ratio: float = 2.0) -> tuple[Size, ...]:
    """The sizes of all buckets.

    For each side that is a multiple, the other is the multiple that comes nearest to the area, and
    any other one that misses it by an eighth at most.

    Args:
        area: in pixels.
        multiple: both sides are multiples of it.
        ratio: the longer side is at most this many times the shorter one.

    Returns:
        Heights and widths, from the tallest to the widest; with each size its transpose.

    Raises:
        ValueError: no size fits.

    >>> bucket_sizes(256 * 256, 64, 2)
    ((384, 192), (320, 192), (256, 256), (192, 320), (192, 384))
    """
    if area < multiple * multiple or multiple < 1 or ratio < 1:
        raise ValueError(
            f"an area of {area} pixels, multiples of {multiple} and a ratio of {ratio}: give at "
            "least one multiple squared, and a ratio of 1 or more"
        )
    found: set[Size] = set()
    for steps in range(1, math.isqrt(area) // multiple + 2):
        side, nearest = steps * multiple, max(1, round(area / (steps * multiple**2)))
        for other in (nearest * multiple, (nearest + 1) * multiple, (nearest - 1) * multiple):
            near = other == nearest * multiple or abs(side * other / area - 1) <= _AREA
            if near and other and max(side, other) <= ratio * min(side, other):
                found |= {(side, other), (other, side)}
    if not found:
        raise ValueError(f"no multiples of {multiple} have about {area} pixels within 1 : {ratio}")
    return tuple(sorted(found, key=lambda size: (size[1] / size[0], size)))


def nearest_bucket(size: Size, buckets: Sequence[Size]) -> int:
    """The number of the bucket of the proportions nearest to a picture's; the first of equals."""
    ratio = math.log(size[1] / size[0])
    gaps = [abs(math.log(width / height) - ratio) for height, width in buckets]
    return gaps.index(min(gaps))


@dataclass(frozen=True)
class Place:
    """One picture's place in a batch.

    Args:
        row: number of the pair.
        turn: how many times the pair was seen before.
    """

    row: int
    turn: int


@dataclass(frozen=True)
class BatchOrder:
    """Which pairs every batch is made of.

    Args:
        sizes: of all pictures.
        batch_size: pairs a batch, over all processes.
        buckets: the sizes that batches may have.
        seed: of the order.
    """

    sizes: Sequence[Size]
    batch_size: int
    buckets: Sequence[Size]
    seed: int = 0

    def __post_init__(self) -> None:
        if len(self.sizes) < 2:
            raise ValueError(
                f"a dataset of {len(self.sizes)} pictures cannot be trained on; give more of them"
            )
        if self.batch_size < 1:
            raise ValueError(f"batch_size {self.batch_size} is less than 1")

    @cached_property
    def members(self) -> tuple[tuple[int, ...], ...]:
        """The pairs of every bucket, in order."""
        found: list[list[int]] = [[] for _ in self.buckets]
        for row, size in enumerate(self.sizes):
            found[nearest_bucket(size, self.buckets)].append(row)
        return tuple(tuple(rows) for rows in found)

    @cached_property
    def _round(self) -> tuple[np.ndarray, np.ndarray]:
        """The buckets of the first N batches, and how many each had before."""
        phase = np.random.default_rng([self.seed, len(self.sizes)]).random(len(self.buckets))
        counts = [len(rows) for rows in self.members]
        bucket = np.repeat(np.arange(len(counts)), counts)
        before = np.concatenate([np.arange(count) for count in counts])
        share = np.repeat(np.maximum(counts, 1), counts)
        order = np.argsort((before + phase[bucket]) / share, kind="stable")
        return bucket[order], before[order]

    def batch(self, number: int) -> tuple[Size, list[Place]]:
        """One batch.

        Args:
            number: from 0, without end.

        Returns:
            The size of its pictures, and its pairs.
        """
        bucket, before = self._round
        turn, place = divmod(number, len(bucket))
        chosen = int(bucket[place])
        count = len(self.members[chosen])
        start = (turn * count + int(before[place])) * self.batch_size
        return self.buckets[chosen], [
            self._at(chosen, start + offset) for offset in range(self.batch_size)
        ]

    def _at(self, bucket: int, position: int) -> Place:
        """What stands at one position of a bucket's endless row."""
        members = self.members[bucket]
        turn, place = divmod(position, len(members))
        return Place(members[_permutation(self.seed, bucket, turn, len(members))[place]], turn)


@lru_cache(maxsize=64)
def _permutation(seed: int, bucket: int, turn: int, count: int) -> tuple[int, ...]:
    found = np.random.default_rng([seed, bucket, turn]).permutation(count)
    return tuple(int(row) for row in found)

"""Batches of pairs for a trainer: one call, an iterator that can begin anywhere.

    for image, condition, captions in batches(source, BatchConfig(batch_size=8), start=step):
        ...

Batch number n is a function of the dataset, the configuration and n: a run that goes on at n sees
what an uninterrupted one would. Processes share a batch: number r of p takes its r-th part.
"""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count

import torch
from torch import Tensor

from unicond.data.augment import AugmentConfig, augmented
from unicond.data.buckets import BatchOrder, Place, bucket_sizes
from unicond.data.sources import PairSource
from unicond.pictures.fitting import Size

Batch = tuple[Tensor, Tensor, list[str]]


@dataclass(frozen=True, kw_only=True)
class BatchConfig:
    """What a batch is.

    Args:
        batch_size: pairs a batch, over all processes.
        area: of its pictures, about, in pixels.
        multiple: both sides of its pictures are multiples of it.
        ratio: the longer side is at most this many times the shorter one; longer pictures are cut.
        augment: what is changed.
        seed: of the order and of all draws.
        workers: threads that read ahead.
        ahead: batches that are read ahead.
    """

    batch_size: int
    area: int = 512 * 512
    multiple: int = 64
    ratio: float = 2.0
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    seed: int = 0
    workers: int = 2
    ahead: int = 2

    def __post_init__(self) -> None:
        if self.workers < 1 or self.ahead < 0:
            raise ValueError(
                f"workers must be 1 or more and ahead not negative; got {self.workers}, "
                f"{self.ahead}"
            )

    def order(self, source: PairSource) -> BatchOrder:
        """The order of the batches of a source; reads the size of every picture."""
        sizes = [source.size(number) for number in range(len(source))]
        buckets = bucket_sizes(self.area, self.multiple, self.ratio)
        return BatchOrder(sizes, self.batch_size, buckets, self.seed)


def batches(
    source: PairSource,
    config: BatchConfig,
    start: int = 0,
    process: int = 0,
    processes: int = 1,
    order: BatchOrder | None = None,
) -> Iterator[Batch]:
    """Batches without end.

    Args:
        source: the pairs.
        config: what a batch is.
        start: number of the first batch: how many were already seen.
        process: which of the processes this is.
        processes: how many share every batch.
        order: of the batches, if it is known already (`config.order`).

    Returns:
        An iterator of pictures and conditions, each (B, 3, H, W) float32 in [-1, 1], and B
        captions; B is `batch_size / processes`, H and W those of the batch's bucket.

    Raises:
        ValueError: the processes cannot share a batch evenly, or the source has fewer than two
            pairs.
        PictureError: a pair cannot be read (`unicond data check` finds them all before).
    """
    if config.batch_size % processes or not 0 <= process < processes or start < 0:
        raise ValueError(
            f"process {process} of {processes} cannot take an even part of batches of "
            f"{config.batch_size} from number {start} on; let the processes divide the batch"
        )
    share = config.batch_size // processes
    mine = slice(process * share, (process + 1) * share)
    return _batches(source, config, start, mine, order or config.order(source))


def _batches(
    source: PairSource, config: BatchConfig, start: int, mine: slice, order: BatchOrder
) -> Iterator[Batch]:
    """Parts of batches, read ahead."""
    with ThreadPoolExecutor(config.workers) as pool:
        waiting: deque[list[Future[tuple[Tensor, Tensor, str]]]] = deque()
        try:
            for number in count(start):
                size, places = order.batch(number)
                todo = list(enumerate(places))[mine]
                waiting.append(
                    [
                        pool.submit(_item, source, config, size, place, (number, offset))
                        for offset, place in todo
                    ]
                )
                if len(waiting) > config.ahead:
                    items = [future.result() for future in waiting.popleft()]
                    images, conditions, captions = zip(*items, strict=True)
                    yield torch.stack(images), torch.stack(conditions), list(captions)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _item(
    source: PairSource, config: BatchConfig, size: Size, place: Place, where: tuple[int, int]
) -> tuple[Tensor, Tensor, str]:
    """One pair of a batch; its wordings take turns."""
    pair = source.pair(place.row)
    caption = pair.captions[place.turn % len(pair.captions)] if pair.captions else ""
    seed = (config.seed, *where)
    return *augmented(pair, caption, size, source.kind, config.augment, seed), caption

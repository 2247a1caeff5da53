"""Pairs of one's own pictures for a joint adapter: read, cut, encoded, told their words.

They are encoded when their turn comes, each time cut and changed anew, or once: then every picture
is cut in its middle, the latents are kept on disk, and a step costs the network alone.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from safetensors import safe_open
from torch import Tensor

from unicond.backbones.base import Backbone
from unicond.data.augment import AugmentConfig, augmented
from unicond.data.batches import Batch as Pictures
from unicond.data.batches import BatchConfig, batches
from unicond.data.buckets import BatchOrder, nearest_bucket
from unicond.data.conditions import ConditionKind
from unicond.data.sources import Pair, PairSource
from unicond.pictures.fitting import Size
from unicond.sampling.prompts import Prompt
from unicond.training.own import keeping
from unicond.training.pairs import Batch
from unicond.training.processes import Part
from unicond.training.roles import Draw

AT_ONCE = 2
"""Pictures that the autoencoder takes at a time."""
MIDDLE = AugmentConfig(crop="center")


@dataclass(frozen=True)
class Chosen:
    """Some pairs of a source.

    Args:
        source: of all pairs.
        rows: their numbers there.
    """

    source: PairSource
    rows: tuple[int, ...]

    @property
    def kind(self) -> ConditionKind:
        """What the condition is."""
        return self.source.kind

    def __len__(self) -> int:
        return len(self.rows)

    def size(self, number: int) -> Size:
        """Height and width of one picture, without decoding it."""
        return self.source.size(self.rows[number])

    def pair(self, number: int) -> Pair:
        """One pair, decoded."""
        return self.source.pair(self.rows[number])

    def fingerprint(self) -> str:
        """Of the whole source."""
        return self.source.fingerprint()


def split(source: PairSource, held_out: int | None) -> tuple[Chosen, Chosen]:
    """Pairs to train on, and pairs to take scores on, spread evenly over the source.

    Args:
        source: all pairs.
        held_out: how many are not trained on (see `split_rows`).

    Returns:
        Both.
    """
    train, held = split_rows(range(len(source)), held_out)
    return Chosen(source, train), Chosen(source, held)


def split_rows(
    rows: Sequence[int], held_out: int | None, what: str = "pairs"
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Rows to train on, and rows to take scores on, spread evenly.

    Args:
        rows: all.
        held_out: how many are not trained on; None is a tenth, 8 at most.
        what: they are called.

    Returns:
        Both; where none are held out, scores are taken on the first rows that are trained on.

    Raises:
        ValueError: fewer than two are left to train on.
    """
    count = len(rows)
    if held_out is None:
        held_out = min(8, count // 10)
    if count - held_out < 2:
        raise ValueError(
            f"of {count} {what} {held_out} would be held out, which leaves {count - held_out} to "
            "train on; at least 2 are needed"
        )
    places = tuple((2 * n + 1) * count // (2 * held_out) for n in range(held_out))
    rest = tuple(rows[place] for place in sorted({*range(count)} - {*places}))
    return rest, tuple(rows[place] for place in places) or rest[:8]


@dataclass(frozen=True)
class Encoder:
    """What a base makes of pictures and words, in its own precision whatever the loop's.

    Args:
        backbone: the base.
        trigger: in front of the prompts of the condition.
    """

    backbone: Backbone
    trigger: str

    @torch.no_grad()
    def latents(self, pictures: Tensor) -> Tensor:
        """(B, C, h, w) of pictures (B, 3, H, W) in [-1, 1]."""
        with torch.autocast(self.backbone.device.type, enabled=False):
            return torch.cat([self.backbone.encode(part) for part in pictures.split(AT_ONCE)])

    @torch.no_grad()
    def prompts(
        self, captions: Sequence[str], drop_x: Tensor, drop_y: Tensor, size: Size
    ) -> Prompt:
        """What the network is told by B images, then by their conditions.

        Args:
            captions: of the pairs.
            drop_x: (B,) bool, images whose prompt is dropped: it is the empty one's embedding.
            drop_y: the same of conditions.
            size: (height, width) of the pictures.

        Returns:
            2 B rows.
        """
        texts = [*captions, *(self.trigger + caption for caption in captions)]
        with torch.autocast(self.backbone.device.type, enabled=False):
            full = self.backbone.encode_prompts(texts, size)
            empty = self.backbone.encode_negative("", size)
        dropped = torch.cat([drop_x, drop_y])
        pooled = full.pooled
        if pooled is not None and empty.pooled is not None:
            pooled = torch.where(dropped[:, None], empty.pooled, pooled)
        tokens = torch.where(dropped[:, None, None], empty.tokens, full.tokens)
        return Prompt(tokens, pooled, full.time_ids)

    def batch(
        self, image: Tensor, condition: Tensor, captions: Sequence[str], part: Part, drawn: Draw
    ) -> Batch:
        """A part of a batch from its latents, each (B, C, h, w)."""
        x0 = torch.cat([image, condition]).to(self.backbone.device, torch.float32)
        factor = self.backbone.factor
        size = (x0.shape[-2] * factor, x0.shape[-1] * factor)
        drops = part.of(drawn.drop_x), part.of(drawn.drop_y)
        return Batch(x0, self.prompts(captions, *drops, size))


class FreshPairs:
    """Pairs that are read, cut, changed and encoded when their turn comes.

    Args:
        encoder: of the base.
        source: the pairs.
        config: of the batches; `batch_size` is that of all processes.
    """

    def __init__(self, encoder: Encoder, source: PairSource, config: BatchConfig) -> None:
        self._encoder, self._source, self._config = encoder, source, config
        self._order = config.order(source)
        self._batches: Iterator[Pictures] = iter(())
        self._next = -1

    def batch(self, part: Part, drawn: Draw, generator: torch.Generator) -> Batch:
        """A part of batch `part.number` of the order; nothing is drawn."""
        del generator
        assert part.count == self._config.batch_size
        if part.number != self._next:
            self._batches = batches(
                self._source,
                self._config,
                part.number,
                part.process,
                part.processes,
                self._order,
            )
        self._next = part.number + 1
        image, condition, captions = next(self._batches)
        images, conditions = self._encoder.latents(torch.cat([image, condition])).chunk(2)
        return self._encoder.batch(images, conditions, captions, part, drawn)


class KeptPairs:
    """Pairs whose latents lie on disk.

    Args:
        encoder: of the base.
        folder: that `keep` returned.
        source: the pairs.
        order: of the batches.
    """

    def __init__(self, encoder: Encoder, folder: Path, source: Chosen, order: BatchOrder) -> None:
        self._encoder, self._folder, self._source, self._order = encoder, folder, source, order

    def batch(self, part: Part, drawn: Draw, generator: torch.Generator) -> Batch:
        """A part of batch `part.number` of the order; nothing is drawn."""
        del generator
        assert part.count == self._order.batch_size
        images: list[Tensor] = []
        conditions: list[Tensor] = []
        captions: list[str] = []
        for place in self._order.batch(part.number)[1][part.rows]:
            path = keeping.file_of(self._folder, self._source.rows[place.row])
            with safe_open(path, "pt") as file:  # pyright: ignore[reportUnknownArgumentType]
                images.append(file.get_tensor("image").float())
                conditions.append(file.get_tensor("condition").float())
                wordings = cast("list[str]", json.loads(file.metadata()["captions"]))
            captions.append(wordings[place.turn % len(wordings)] if wordings else "")
        pairs = torch.stack(images), torch.stack(conditions)
        return self._encoder.batch(*pairs, captions, part, drawn)


def keep(
    encoder: Encoder,
    source: Chosen,
    order: BatchOrder,
    cache: Path,
    process: int = 0,
    processes: int = 1,
    report: Callable[[int, int], None] | None = None,
) -> Path:
    """Encode every pair, cut in its middle to its bucket's size; what is there is not made again.

    Args:
        encoder: of the base.
        source: the pairs.
        order: tells the buckets.
        cache: folder of all caches.
        process: which of the processes this is; each makes its share.
        processes: how many there are.
        report: told how many are done, and of how many.

    Returns:
        The folder of these latents: of these pictures, this autoencoder, these sizes.

    Raises:
        PictureError: a pair cannot be read, or latents cannot be written.
    """
    told = source.fingerprint(), keeping.identity(encoder.backbone.vae), list(order.buckets)
    folder = keeping.folder_of(cache, *told, source.kind.name)

    def made(number: int) -> keeping.Made:
        pair = source.pair(number)
        size = order.buckets[nearest_bucket(order.sizes[number], order.buckets)]
        both = augmented(pair, pair.caption, size, source.kind, MIDDLE, ())
        image, condition = encoder.latents(torch.stack(both)).half().cpu()
        values = {"image": image.contiguous(), "condition": condition.contiguous()}
        return values, {"captions": json.dumps(pair.captions)}

    keeping.fill(folder, source.rows, made, process, processes, report)
    return folder


@dataclass(frozen=True)
class HeldPictures:
    """Held-out pairs, all cut to one size.

    Args:
        encoder: of the base.
        image: (N, 3, H, W) in [-1, 1].
        condition: the same.
        captions: of each.
        latents: (2 N, C, h, w): images, then conditions.
        at_once: how many pairs the network can take in one call.
    """

    encoder: Encoder
    image: Tensor
    condition: Tensor
    captions: tuple[str, ...]
    latents: Tensor
    at_once: int

    @staticmethod
    def of(encoder: Encoder, source: PairSource, side: int, at_once: int) -> "HeldPictures":
        """Read, cut in the middle to a square and encode.

        Args:
            encoder: of the base.
            source: the pairs; they are not many.
            side: of the square, in pixels.
            at_once: pairs a call of the network.

        Returns:
            The pairs.
        """
        pairs = [source.pair(number) for number in range(len(source))]
        cut = [
            augmented(pair, pair.caption, (side, side), source.kind, MIDDLE, ()) for pair in pairs
        ]
        image, condition = (torch.stack(column) for column in zip(*cut, strict=True))
        latents = encoder.latents(torch.cat([image, condition]))
        captions = tuple(pair.caption for pair in pairs)
        return HeldPictures(encoder, image, condition, captions, latents, at_once)

    def __len__(self) -> int:
        return len(self.captions)

    def first(self, part: Part, generator: torch.Generator) -> Batch:
        """A part of the first `part.count` pairs, with their own prompts; nothing is drawn."""
        del generator
        images, conditions = (half[: part.count] for half in self.latents.chunk(2))
        mine = part.of(images), part.of(conditions)
        captions = self.captions[: part.count][part.rows]
        never = torch.zeros(len(captions), dtype=torch.bool, device=images.device)
        size = (self.image.shape[-2], self.image.shape[-1])
        return Batch(torch.cat(mine), self.encoder.prompts(captions, never, never, size))

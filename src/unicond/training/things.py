"""Scenes with what is where in them, and what of it a grounding adapter is told in training.

Each draw tells of a scene some of its things (or of the relations between them) in random order:
all, or a random number. That a thing is there is a relation with itself, as callers tell it
(`unicond.grounding`). Things have their colour in a share of the draws, an article in half.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import CLIPTextModel, CLIPTokenizer

from unicond.adapters.grounding.adapter import Inputs
from unicond.adapters.grounding.config import Method
from unicond.adapters.grounding.inputs import Boxes, Instances, Interactions, Seeded
from unicond.data.things import Things
from unicond.grounding import NOTHING_MORE
from unicond.training.captions import tokens
from unicond.training.processes import Part
from unicond.training.text2image import Pictured
from unicond.world.vocabulary import ACTIONS

FIRM = ("on top of", *ACTIONS)
"""Relations of things that touch or act: in half of the draws they are told before all others."""
LEAST_SHARE = 0.005
"""Of the picture, which things that are told cover: 9 x 9 of 128 x 128 pixels."""


@dataclass(frozen=True)
class Phrases:
    """What a text encoder makes of P phrases.

    Args:
        pooled: (P, width), not normalised.
        words: (P, 77, width), as the network takes prompts.
    """

    pooled: Tensor
    words: Tensor

    @staticmethod
    @torch.no_grad()
    def of(
        text_encoder: CLIPTextModel, tokenizer: CLIPTokenizer, texts: Sequence[str]
    ) -> "Phrases":
        """Phrases through a text encoder, where it is."""
        found = text_encoder(tokens(tokenizer, texts).to(text_encoder.device))
        assert found.pooler_output is not None
        return Phrases(found.pooler_output, found.last_hidden_state)


@dataclass(frozen=True)
class Placed:
    """N scenes and what is where in them, of E things and R relations at most.

    Args:
        pictures: latents and captions.
        boxes: (N, E, 4), (x1, y1, x2, y2) in [0, 1].
        seen: (N, E) bool, things that are clearly visible.
        names: (N, E, 4) int64, phrases of each thing (see `captions.phrases`).
        relations: (N, R, 3) int64: subject, phrase of the action, object.
        shown: (N, R) bool, relations between things that are clearly visible.
        firm: (N, R) bool, those of them that are `FIRM`.
        phrases: all of them.
        size: (height, width) of the pictures in pixels.
    """

    pictures: Pictured
    boxes: Tensor
    seen: Tensor
    names: Tensor
    relations: Tensor
    shown: Tensor
    firm: Tensor
    phrases: Phrases
    size: tuple[int, int]

    @staticmethod
    def of(
        pictures: Pictured,
        things: Sequence[Things],
        size: int,
        text_encoder: CLIPTextModel,
        tokenizer: CLIPTokenizer,
    ) -> "Placed":
        """Scenes of square pictures.

        Args:
            pictures: of the scenes.
            things: of the same scenes.
            size: pixels a side.
            text_encoder: the base's, on the device of the pictures.
            tokenizer: its.

        Returns:
            The scenes, on that device.
        """
        device = pictures.latents.device
        said = (text for one in things for names in one.phrases for text in names)
        relations = [_relations(one) for one in things]
        acts = (name for each in relations for _, name, _ in each)
        texts = list(dict.fromkeys([*said, *acts]))
        number = {text: place for place, text in enumerate(texts)}
        least = LEAST_SHARE * size * size
        names = [[[number[text] for text in names] for names in one.phrases] for one in things]
        seen = [[count >= least for count in one.pixels] for one in things]
        held = [[(s, number[name], o) for s, name, o in each] for each in relations]
        shown = [
            [visible[s] and visible[o] for s, _, o in each]
            for each, visible in zip(relations, seen, strict=True)
        ]
        firm = [[name in FIRM for _, name, _ in each] for each in relations]
        return Placed(
            pictures,
            _table([one.boxes for one in things], 4).float().to(device) / size,
            _table(seen).bool().to(device),
            _table(names, 4).to(device),
            _table(held, 3).to(device),
            _table(shown).bool().to(device),
            _table(firm).bool().to(device),
            Phrases.of(text_encoder, tokenizer, texts),
            (size, size),
        )

    def __len__(self) -> int:
        return len(self.boxes)

    def there(self, method: Method) -> Tensor:
        """(N, E or R) bool: what a method can be told of each scene."""
        return self.shown if method == "interact" else self.seen

    def only(self, rows: Tensor) -> "Placed":
        """Some of the scenes."""
        named = ("boxes", "seen", "names", "relations", "shown", "firm")
        mine = {name: getattr(self, name)[rows] for name in named}
        return replace(self, pictures=self.pictures.only(rows), **mine)


def _relations(things: Things) -> list[tuple[int, str, int]]:
    """Of a scene, and that each thing is there, which is told as one with itself."""
    alone = [(number, NOTHING_MORE, number) for number in range(len(things.boxes))]
    return [*things.relations, *alone]


def _table(rows: Sequence[Sequence[object]], *each: int) -> Tensor:
    """(N, most, *each) int64 of lists of different lengths, filled up with zeros."""
    parts = [torch.tensor(row, dtype=torch.int64).view(-1, *each) for row in rows]
    return pad_sequence(parts, batch_first=True)


class Shares(Protocol):
    """What of a recipe the draws follow (see `grounding.GroundingTrainingConfig`)."""

    @property
    def method(self) -> Method:
        """Whose adapter it is."""
        ...

    @property
    def slots(self) -> int:
        """The most that is told of a scene."""
        ...

    @property
    def nothing(self) -> float:
        """Of the draws that tell nothing."""
        ...

    @property
    def some(self) -> float:
        """Of the draws that tell a random number of things, and not all."""
        ...

    @property
    def colored(self) -> float:
        """Of the things whose colour is told."""
        ...


@dataclass(frozen=True)
class Told:
    """What a batch of draws tells; all (B, ...).

    Args:
        rows: (B,) scenes.
        places: (B, K) numbers of things or relations, in the order of the slots.
        there: (B, K) bool, slots that are told.
        wording: (B, K, 2) which of its phrases a thing has; of relations the subject's and the
            object's.
        seeds: (B,) of MIGC's shuffle.
    """

    rows: Tensor
    places: Tensor
    there: Tensor
    wording: Tensor
    seeds: Tensor

    def of(self, part: Part) -> "Told":
        """The same of a part of the batch."""
        return Told(**{name: part.of(value) for name, value in vars(self).items()})


def draw(data: Placed, shares: Shares, rows: Tensor, generator: torch.Generator) -> Told:
    """Draw what is told of some scenes.

    Args:
        data: all scenes.
        shares: of the draws.
        rows: (B,) scenes.
        generator: on the device of the data.

    Returns:
        What is told.
    """
    there, count, device = data.there(shares.method)[rows], len(rows), rows.device

    def chance(*shape: int) -> Tensor:
        return torch.rand(count, *shape, generator=generator, device=device)

    rank = chance(there.shape[1]) + 2.0 * ~there
    if shares.method == "interact":
        rank = rank + ~data.firm[rows] * (chance(1) < 0.5)
    places = rank.argsort(1)[:, : shares.slots]
    most = there.sum(1).clamp_max(shares.slots)
    few = 1 + (chance() * most).long().clamp_max(most - 1)
    told = torch.where(chance() < shares.some, few, most) * (chance() >= shares.nothing)
    colored, article = chance(places.shape[1], 2) < shares.colored, chance(places.shape[1], 2) < 0.5
    seeds = torch.randint(2**31, (count,), generator=generator, device=device)
    slot = torch.arange(places.shape[1], device=device)
    wording = 2 * colored.long() + article
    return Told(rows, places, slot < told[:, None], wording, seeds)


def inputs_of(data: Placed, method: Method, told: Told) -> Inputs:
    """What is told, as the adapter takes it.

    Args:
        data: all scenes.
        method: whose inputs.
        told: of a batch, or of a part of one.

    Returns:
        One entry a draw, as many slots as the fullest has, one at least.
    """
    full = max(1, int(told.there.sum(1).max()))
    rows, places = told.rows[:, None], told.places[:, :full]
    wording, masks, phrases = told.wording[:, :full], told.there[:, :full], data.phrases
    if method == "interact":
        subject, action, target = data.relations[rows, places].unbind(2)
        return Interactions(
            masks=masks.float(),
            subject_boxes=data.boxes[rows, subject],
            object_boxes=data.boxes[rows, target],
            subjects=phrases.pooled[data.names[rows, subject, wording[..., 0]]],
            actions=phrases.pooled[action],
            objects=phrases.pooled[data.names[rows, target, wording[..., 1]]],
        )
    boxes, names = data.boxes[rows, places], data.names[rows, places, wording[..., 0]]
    if method == "gligen":
        return Boxes(masks=masks.float(), boxes=boxes, phrases=phrases.pooled[names])
    height, width = data.pictures.latents.shape[-2:]
    return Instances(
        masks=masks.float(),
        boxes=boxes,
        phrases=phrases.pooled[names],
        words=phrases.words[names],
        size=data.size,
        latents=(height, width),
        shuffle=Seeded(tuple(told.seeds.tolist())),
    )

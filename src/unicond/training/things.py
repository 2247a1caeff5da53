"""Scenes with what is where in them, and what of it a grounding adapter is told in training.

Each draw tells of some things of a scene, all or a random number, in random order. Of relations it
tells what callers tell (`unicond.grounding`): some between these things, then, of each thing that
is in none of them, that it is there, which is a relation with itself; in a share of the draws
nothing but that. In a share of the draws all have their colour, in the others none; half of the
names have an article.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
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
"""Relations of things that touch or act: where there are some, they are told before all others."""
FEW_PAIRS = 4
"""Half of the draws that tell relations between different things tell at most so many, the others
all that there is room for."""
WORDINGS = 4
"""Phrases of a thing: without and with its colour, each without and with an article."""
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
class Layout:
    """What is where in a picture, in words.

    Args:
        boxes: of each thing, (left, top, right, bottom) in [0, 1].
        seen: of each, whether it may be told of.
        names: of each, its `WORDINGS`, which may be alike.
        relations: subject, action, object, things by number; that a thing is there is
            `NOTHING_MORE` with itself.
        firm: of each relation, whether it is told before others.
    """

    boxes: Sequence[Sequence[float]]
    seen: Sequence[bool]
    names: Sequence[Sequence[str]]
    relations: Sequence[tuple[int, str, int]]
    firm: Sequence[bool]

    @staticmethod
    def of(things: Things, size: int) -> "Layout":
        """Of a scene of so many pixels a side."""
        relations, least = _relations(things), LEAST_SHARE * size * size
        return Layout(
            [[side / size for side in box] for box in things.boxes],
            [count >= least for count in things.pixels],
            things.phrases,
            relations,
            [name in FIRM for _, name, _ in relations],
        )

    def shown(self) -> list[bool]:
        """Of each relation, whether both its things may be told of."""
        return [self.seen[s] and self.seen[o] for s, _, o in self.relations]


@dataclass(frozen=True)
class Placed:
    """N scenes and what is where in them, of E things and R relations at most.

    Args:
        pictures: latents and captions.
        boxes: (N, E, 4), (x1, y1, x2, y2) in [0, 1].
        seen: (N, E) bool, things that are clearly visible.
        names: (N, E, 4) int64, phrases of each thing (see `captions.phrases`).
        relations: (N, R, 3) int64: subject, phrase of the action, object.
        alone: (N, R) bool, those that say of a thing that it is there, and no more.
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
    alone: Tensor
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
        layouts = [Layout.of(one, size) for one in things]
        speak, device = partial(Phrases.of, text_encoder, tokenizer), pictures.latents.device
        return Placed.told(pictures, layouts, speak, (size, size), device)

    @staticmethod
    def told(
        pictures: Pictured,
        layouts: Sequence[Layout],
        speak: Callable[[Sequence[str]], Phrases],
        size: tuple[int, int],
        device: torch.device,
    ) -> "Placed":
        """Pictures of which it is said in words what is where.

        Args:
            pictures: of the scenes.
            layouts: of the same scenes.
            speak: makes of phrases what adapters are told.
            size: (height, width) of the pictures in pixels.
            device: of all tables.

        Returns:
            The scenes.
        """
        said = [text for one in layouts for names in one.names for text in names]
        acts = [name for one in layouts for _, name, _ in one.relations]
        texts = list(dict.fromkeys([*said, *acts]))
        number = {text: place for place, text in enumerate(texts)}
        names = [[[number[text] for text in names] for names in one.names] for one in layouts]
        held = [[(s, number[name], o) for s, name, o in one.relations] for one in layouts]
        alone = [[name == NOTHING_MORE for _, name, _ in one.relations] for one in layouts]
        return Placed(
            pictures,
            _table([one.boxes for one in layouts], 4, kind=torch.float32).to(device),
            _table([one.seen for one in layouts]).bool().to(device),
            _table(names, WORDINGS).to(device),
            _table(held, 3).to(device),
            _table(alone).bool().to(device),
            _table([one.shown() for one in layouts]).bool().to(device),
            _table([one.firm for one in layouts]).bool().to(device),
            speak(texts),
            size,
        )

    def __len__(self) -> int:
        return len(self.boxes)

    def weights(self, method: Method) -> Tensor:
        """(N,) how often each scene is to be drawn: as often as it has things that can be told.

        For InteractDiffusion twice as often where a relation is firm.
        """
        things = self.seen.sum(1).float()
        if method != "interact":
            return things
        return things * (1 + (self.shown & self.firm).any(1))

    def only(self, rows: Tensor) -> "Placed":
        """Some of the scenes."""
        named = ("boxes", "seen", "names", "relations", "alone", "shown", "firm")
        mine = {name: getattr(self, name)[rows] for name in named}
        return replace(self, pictures=self.pictures.only(rows), **mine)


def _relations(things: Things) -> list[tuple[int, str, int]]:
    """Of a scene, and that each thing is there, which is told as one with itself."""
    alone = [(number, NOTHING_MORE, number) for number in range(len(things.boxes))]
    return [*things.relations, *alone]


def _table(rows: Sequence[Sequence[object]], *each: int, kind: torch.dtype = torch.int64) -> Tensor:
    """(N, most, *each) of lists of different lengths, filled up with zeros."""
    parts = [torch.tensor(row, dtype=kind).view(-1, *each) for row in rows]
    return pad_sequence(parts, batch_first=True)


class Shares(Protocol):
    """What of a recipe the draws follow (see `grounding.GroundingRecipe`)."""

    @property
    def method(self) -> Method:
        """Whose adapter it is."""
        ...

    @property
    def slots(self) -> int:
        """The most that is told of a scene."""
        ...

    @property
    def some(self) -> float:
        """Of the draws that tell a random number of things, and not all."""
        ...

    @property
    def alone(self) -> float:
        """Of the draws that tell no relation between different things."""
        ...

    @property
    def colored(self) -> float:
        """Of the draws that tell the things' colours."""
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


def draw(
    data: Placed, shares: Shares, rows: Tensor, nothing: Tensor, generator: torch.Generator
) -> Told:
    """Draw what is told of some scenes.

    Args:
        data: all scenes.
        shares: of the draws.
        rows: (B,) scenes.
        nothing: (B,) bool, draws that tell nothing.
        generator: on the device of the data.

    Returns:
        What is told.
    """
    count, device = len(rows), rows.device

    def chance(*shape: int) -> Tensor:
        return torch.rand(count, *shape, generator=generator, device=device)

    seen = data.seen[rows]
    order, most = chance(seen.shape[1]), seen.sum(1)
    wanted = torch.where(chance() < shares.some, 1 + (chance() * most).long(), most)
    told = first(order, seen, wanted)
    if shares.method == "interact":
        order = (chance(data.relations.shape[1]) + ~data.firm[rows]) / 2
        pairs = torch.where(chance() < 0.5, (1 + FEW_PAIRS * chance()).long(), shares.slots)
        told = relations(data, rows, told, pairs * (chance() >= shares.alone), order)
        order = order + data.alone[rows]
    told = told & ~nothing[:, None]
    places = (order + 2.0 * ~told).argsort(1)[:, : shares.slots]
    colored, article = chance(1, 1) < shares.colored, chance(places.shape[1], 2) < 0.5
    seeds = torch.randint(2**31, (count,), generator=generator, device=device)
    wording = 2 * colored.long() + article
    return Told(rows, places, told.gather(1, places), wording, seeds)


def first(order: Tensor, may: Tensor, count: Tensor) -> Tensor:
    """The first few of some.

    Args:
        order: (B, K) in [0, 1), the lowest first.
        may: (B, K) bool, which may be taken.
        count: (B,) how many; all where there are fewer.

    Returns:
        (B, K) bool.
    """
    rank = (order + 2.0 * ~may).argsort(1).argsort(1)
    return may & (rank < count[:, None])


def relations(data: Placed, rows: Tensor, things: Tensor, pairs: Tensor, order: Tensor) -> Tensor:
    """Relations that tell of some things, as `unicond.grounding.Grounding.told` has them.

    Args:
        data: all scenes.
        rows: (B,) scenes.
        things: (B, E) bool, which are told of; all of them are clearly visible.
        pairs: (B,) how many relations between different things; all where there are fewer.
        order: (B, R) in [0, 1), the lowest first.

    Returns:
        (B, R) bool.
    """
    subject, _, target = data.relations[rows].unbind(2)
    alone = data.alone[rows]
    told = data.shown[rows] & things.gather(1, subject) & things.gather(1, target)
    between = first(order, told & ~alone, pairs)
    named = torch.zeros_like(things)
    for ends in (subject, target):
        named |= torch.zeros_like(named, dtype=torch.int64).scatter_add(1, ends, between.long()) > 0
    return between | (told & alone & ~named.gather(1, subject))


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

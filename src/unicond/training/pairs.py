"""Pairs as a joint adapter is trained on them: latents and prompts, by parts of a batch."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from unicond.sampling.prompts import Prompt
from unicond.training.captions import CaptionTable
from unicond.training.processes import Part
from unicond.training.roles import Draw


@dataclass(frozen=True)
class Batch:
    """Pairs as the network is given them, before noise.

    Args:
        x0: (2 B, C, h, w) clean latents: all images, then their conditions.
        prompt: of the same rows.
        focus: (2 B, 1, h, w), what places of `x0` weigh in the loss beside the 1 of every place.
    """

    x0: Tensor
    prompt: Prompt
    focus: Tensor | None = None


class TrainingPairs(Protocol):
    """Pairs to train on."""

    def batch(self, part: Part, drawn: Draw, generator: torch.Generator) -> Batch:
        """A part of a random batch; `drawn`, of the whole of it, tells the dropped prompts."""
        ...


class HeldOutPairs(Protocol):
    """Pairs to take scores on."""

    def __len__(self) -> int: ...

    @property
    def at_once(self) -> int:
        """How many the network can take in one call."""
        ...

    def first(self, part: Part, generator: torch.Generator) -> Batch:
        """A part of the first `part.count` pairs, with their own prompts."""
        ...


@dataclass(frozen=True)
class PairData:
    """Pairs of latents (N, C, h, w) with the captions of both branches.

    Args:
        image: latents of the images.
        condition: those of the other branch.
        captions: of the images.
        condition_captions: of the other branch.
        focus: (N, 1, h, w) of both branches, see `Batch`.
    """

    image: Tensor
    condition: Tensor
    captions: CaptionTable
    condition_captions: CaptionTable
    focus: tuple[Tensor, Tensor] | None = None


@dataclass(frozen=True)
class LatentPairs:
    """`PairData` to train on or to take scores on.

    Args:
        data: the pairs.
        text_encoder: the base's, frozen.
    """

    data: PairData
    text_encoder: nn.Module

    def __post_init__(self) -> None:
        self.text_encoder.requires_grad_(False).eval()

    def __len__(self) -> int:
        return len(self.data.image)

    @property
    def at_once(self) -> int:
        """Latents and networks of the embedded world are small: all that are asked for."""
        return len(self)

    def batch(self, part: Part, drawn: Draw, generator: torch.Generator) -> Batch:
        """A part of a random batch."""
        device = self.data.image.device
        rows = torch.randint(len(self), (part.count,), generator=generator, device=device)
        return self.at(rows, part, drawn.drop_x, drawn.drop_y, generator)

    def first(self, part: Part, generator: torch.Generator) -> Batch:
        """A part of the first pairs."""
        rows = torch.arange(part.count, device=self.data.image.device)
        never = torch.zeros_like(rows, dtype=torch.bool)
        return self.at(rows, part, never, never, generator)

    def at(
        self, rows: Tensor, part: Part, drop_x: Tensor, drop_y: Tensor, generator: torch.Generator
    ) -> Batch:
        """A part of the batch of pairs `rows`, of whose prompts some are dropped; all (B,)."""
        data = self.data
        prompts = [
            part.of(data.captions.drawn(rows, drop_x, generator)),
            part.of(data.condition_captions.drawn(rows, drop_y, generator)),
        ]
        with torch.no_grad():
            hidden = self.text_encoder(torch.cat(prompts)).last_hidden_state
        mine = part.of(rows)
        focus = None if data.focus is None else torch.cat([each[mine] for each in data.focus])
        return Batch(torch.cat([data.image[mine], data.condition[mine]]), Prompt(hidden), focus)


def noise_of(batch: Batch, part: Part, generator: torch.Generator) -> Tensor:
    """Unit noise for a part of a batch, like its `x0`: that of the whole batch is drawn."""
    shape = (2, part.count, *batch.x0.shape[1:])
    image, condition = torch.randn(shape, generator=generator, device=batch.x0.device)
    return torch.cat([part.of(image), part.of(condition)])

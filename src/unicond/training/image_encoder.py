"""Training of an image encoder: pictures beside what the base's text encoder makes of their words.

    L = -log softmax_j(s <E(picture_i), P T(caption_j)>)_i,    E and P T of unit length

T is the frozen text encoder's pooled embedding, P a matrix and s a number that are learned along
and thrown away: what is kept is E, CLIP's image tower. With frozen words the other direction, from
a caption to its picture, is left out: a part of a batch then needs no other part's pictures.

Source: Radford et al. 2021, arXiv:2103.00020; Zhai et al. 2022 (a locked tower), arXiv:2111.07991.
"""

import math
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPTextModel, CLIPVisionConfig, CLIPVisionModelWithProjection

from unicond.adapters.image_prompt.encoder import ImageEncoder, side_of
from unicond.adapters.image_prompt.preprocess import Preprocess
from unicond.data.renders import as_picture
from unicond.training import sheets
from unicond.training.budget import Budget
from unicond.training.captions import CaptionTable
from unicond.training.loop import LoopConfig
from unicond.training.processes import Part

HOTTEST = 100.0
"""The greatest `s`."""
SCORED, SHOWN, NEAREST = 128, 8, 7
"""Held-out pictures that are scored and shown, and neighbours that are shown beside each."""


@dataclass(frozen=True, kw_only=True)
class ImageEncoderConfig:
    """An image encoder and how it is trained.

    Args:
        size: pixels a side of what it sees, a divisor of the renders'.
        patch: pixels a side of what is one token.
        width: of a token.
        layers: of attention.
        head_width: of an attention head.
        embedding: width of a picture's embedding.
        scenes: training scenes.
        variants: wordings of each caption.
        loop: how it is optimised.
    """

    size: int = 128
    patch: int = 16
    width: int = 128
    layers: int = 5
    head_width: int = 32
    embedding: int = 128
    scenes: int = 16384
    variants: int = 4
    loop: LoopConfig = field(
        default_factory=lambda: LoopConfig(
            batch_size=128,
            lr=1e-3,
            matrix_lr=3e-3,
            budget=Budget(minutes=20),
            weight_decay=0.05,
            average=0.995,
        )
    )

    def __post_init__(self) -> None:
        if min(self.size, self.patch, self.layers, self.embedding, self.variants) < 1:
            raise ValueError("size, patch, layers, embedding and variants must be at least 1")
        if self.size % self.patch:
            raise ValueError(f"size {self.size} must be a multiple of patch {self.patch}")
        if self.head_width < 1 or self.width < 1 or self.width % self.head_width:
            raise ValueError(
                f"width {self.width} must be a multiple of head_width {self.head_width}"
            )

    def contrast(self, text_width: int) -> "Contrast":
        """An untrained encoder, with what is trained beside it for words of a width."""
        vision = CLIPVisionConfig(
            hidden_size=self.width,
            intermediate_size=4 * self.width,
            num_hidden_layers=self.layers,
            num_attention_heads=self.width // self.head_width,
            image_size=self.size,
            patch_size=self.patch,
            projection_dim=self.embedding,
        )
        return Contrast(CLIPVisionModelWithProjection(vision), text_width)


class Contrast(nn.Module):
    """An image encoder, and what brings words to its embeddings.

    Args:
        vision: the encoder.
        text_width: of the words' pooled embeddings.
    """

    def __init__(self, vision: CLIPVisionModelWithProjection, text_width: int) -> None:
        super().__init__()
        self.vision = vision
        side = side_of(vision)
        self.preprocess = Preprocess(size=side, crop=side)
        self.words = nn.Linear(text_width, vision.config.projection_dim, bias=False)
        self.heat = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def pictures(self, pictures: Tensor) -> Tensor:
        """Unit embeddings (B, E) of pictures (B, 3, S, S) uint8."""
        seen = self.vision(self.preprocess.normalised(pictures)).image_embeds
        return functional.normalize(seen.float(), dim=-1)

    def texts(self, pooled: Tensor) -> Tensor:
        """Unit embeddings (..., E) of pooled words (..., text width)."""
        return functional.normalize(self.words(pooled).float(), dim=-1)

    def scale(self) -> Tensor:
        """`s`, at most `HOTTEST`."""
        return self.heat.exp().clamp_max(HOTTEST)

    def encoder(self) -> ImageEncoder:
        """What is kept: the encoder, and CLIP's preparation, the only one that diffusers knows."""
        return ImageEncoder(self.vision, self.preprocess)


@dataclass(frozen=True)
class Captioned:
    """Pictures and their captions.

    Args:
        pictures: (N, 3, S, S) uint8.
        captions: of each, in some wordings.
    """

    pictures: Tensor
    captions: CaptionTable

    def __len__(self) -> int:
        return len(self.pictures)


@dataclass(frozen=True)
class Styled:
    """Held-out pictures with captions that say each of the styles, one of them rightly.

    Args:
        pictures: with captions.
        every: one wording of each scene for each style, (N, styles, 77).
        styles: (N,), number of the picture's own style.
    """

    pictures: Captioned
    every: Tensor
    styles: Tensor


class ImageEncoderTask:
    """An image encoder as a `Task` of the loop.

    Args:
        config: what and how.
        contrast: what is trained.
        text_encoder: the base's, frozen here.
        train: pictures and captions.
        held: held-out ones.
    """

    def __init__(
        self,
        config: ImageEncoderConfig,
        contrast: Contrast,
        text_encoder: CLIPTextModel,
        train: Captioned,
        held: Styled,
    ) -> None:
        self.config, self.train, self.held = config, train, held
        self.device = train.pictures.device
        self.contrast = contrast.to(self.device)
        self.text_encoder = text_encoder.requires_grad_(False).eval()

    def trained(self) -> nn.Module:
        """The encoder, with what is trained beside it."""
        return self.contrast

    def losses(self, part: Part, generator: torch.Generator) -> Tensor:
        """Losses of a part of a random batch, whose pictures look for their captions in all."""
        count, total = part.count, len(self.train)
        rows = torch.randint(total, (count,), generator=generator, device=self.device)
        never = torch.zeros(count, dtype=torch.bool, device=self.device)
        tokens = self.train.captions.drawn(rows, never, generator)
        seen = self.contrast.pictures(self.train.pictures[part.of(rows)])
        logits = self.contrast.scale() * seen @ self._texts(tokens).T
        # another caption of the same scene, or the same one of another, is not wrong
        alike = (rows[:, None] == rows) | (tokens[:, None] == tokens).all(-1)
        alike.fill_diagonal_(False)
        own = torch.arange(count, device=self.device)
        logits = logits.masked_fill(part.of(alike), -torch.inf)
        return functional.cross_entropy(logits, part.of(own), reduction="none")

    def _texts(self, tokens: Tensor) -> Tensor:
        """Unit embeddings (B, E) of token numbers (B, 77)."""
        with torch.no_grad():
            pooled = self.text_encoder(tokens).pooler_output
        return self.contrast.texts(pooled)

    @torch.no_grad()
    def scores(self) -> dict[str, float]:
        """What share of held-out pictures is nearest to the right words.

        `style`: of captions of the same scene in each of the styles; `caption`: of the captions of
        all held-out pictures that are scored.
        """
        held = self.held
        count = min(SCORED, len(held.pictures))
        seen = self.contrast.pictures(held.pictures.pictures[:count])
        every = self._texts(held.every[:count].flatten(0, 1).long()).unflatten(0, (count, -1))
        own = self._texts(held.pictures.captions.table[:count, 0].long())
        style = (seen[:, None] * every).sum(-1).argmax(1)
        caption = (seen @ own.T).argmax(1)
        return {
            "style": float((style == held.styles[:count]).float().mean()),
            "caption": float((caption == torch.arange(count, device=self.device)).float().mean()),
        }

    @torch.no_grad()
    def show(self, folder: Path) -> None:
        """Held-out pictures, each with its nearest ones below it."""
        kept = self.held.pictures.pictures[:SCORED]
        seen, pictures = self.contrast.pictures(kept), as_picture(kept)
        shown, near = min(SHOWN, len(pictures)), min(NEAREST + 1, len(pictures))
        order = (seen[:shown] @ seen.T).topk(near, 1).indices
        sheets.write(folder / "samples.png", [pictures[column] for column in order.T])

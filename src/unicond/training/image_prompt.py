"""Training of an image prompt adapter: pictures as prompts of the frozen base.

    L = E |v_hat(alpha_t x0 + sigma_t eps, t, caption, E(picture)) - v|^2

The picture is the one that is to be drawn, as published, or another one of its style and place.
From the first alone a network learns to copy; from the second what two pictures can have in common.
Half of the captions do not say the style, which only the picture tells then. Words, picture or both
are dropped now and then: the empty prompt, the embedding 0. Six in ten pictures of the world are
photos, which words that say no style mean anyway; the others are drawn more often.

Source: Ye et al. 2023, arXiv:2308.06721, section 3.2 and 4.1.
"""

from collections.abc import Hashable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn

from unicond.adapters.image_prompt.adapter import ImagePromptAdapter
from unicond.adapters.image_prompt.attach import Attachment
from unicond.data import latents
from unicond.data.renders import as_picture
from unicond.training import sampling, sheets
from unicond.training.budget import Budget
from unicond.training.diffusion import Noising, squared_error
from unicond.training.loop import LoopConfig, stream
from unicond.training.norm import quick_norms
from unicond.training.processes import Part
from unicond.training.text2image import Pictured

SHEET_PROMPTS = ("a red ball left of a blue box", "a person in a red shirt waving")
SHOWN = 6
"""Pictures on a sheet that are prompts."""
SCORED = 128


@dataclass(frozen=True, kw_only=True)
class ImagePromptTrainingConfig:
    """An image prompt adapter and how it is trained.

    Args:
        tokens: that a picture becomes.
        drop: share of samples without words, without a picture, and without both, each.
        other: share of pictures that are another one of the style and place.
        styled: share of samples in another style than a photo's, where there are both.
        scenes: training scenes.
        variants: wordings of each caption, each with and without its style.
        loop: how it is optimised.
    """

    tokens: int = 4
    drop: float = 0.05
    other: float = 0.6
    styled: float = 0.6
    scenes: int = 16384
    variants: int = 4
    loop: LoopConfig = field(
        default_factory=lambda: LoopConfig(
            batch_size=32,
            lr=1e-3,
            matrix_lr=2e-3,
            budget=Budget(minutes=40),
            weight_decay=0.0,
            average=0.995,
        )
    )

    def __post_init__(self) -> None:
        if not 0 <= self.drop <= 1 / 3:
            raise ValueError(f"drop must be in [0, 1/3], got {self.drop}")
        for name in ("other", "styled"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in [0, 1], got {getattr(self, name)}")
        if self.tokens < 1 or self.variants < 1:
            raise ValueError(
                f"tokens and variants must be at least 1, got {self.tokens}, {self.variants}"
            )

    def adapter(self, unet: nn.Module, embedding: int, base: str) -> ImagePromptAdapter:
        """An untrained adapter for a network.

        Args:
            unet: the network.
            embedding: width of a picture's embedding.
            base: the network's name.

        Returns:
            The adapter.
        """
        generator = torch.Generator().manual_seed(self.loop.seed)
        return ImagePromptAdapter.for_network(
            unet, embedding, tokens=self.tokens, base=base, generator=generator
        )


@dataclass(frozen=True)
class Alike:
    """N rows in groups of those that are alike.

    Args:
        order: (N,), the rows, one group after the other.
        place: (N,), where each row is in `order`.
        start: (N,), where its group begins there.
        size: (N,), how many its group has.
    """

    order: Tensor
    place: Tensor
    start: Tensor
    size: Tensor

    @staticmethod
    def of(keys: Sequence[Hashable], device: torch.device | str) -> "Alike":
        """Rows whose keys are equal are alike."""
        groups = dict[Hashable, list[int]]()
        for row, key in enumerate(keys):
            groups.setdefault(key, []).append(row)
        order, place, start, size = (torch.empty(len(keys), dtype=torch.int64) for _ in range(4))
        first = 0
        for rows in groups.values():
            index = torch.tensor(rows)
            order[first : first + len(rows)] = index
            place[index] = torch.arange(first, first + len(rows))
            start[index], size[index] = first, len(rows)
            first += len(rows)
        return Alike(*(values.to(device) for values in (order, place, start, size)))

    def another(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """(B,) a random other row that is like each, or itself where it is alone."""
        start, size = self.start[rows], self.size[rows]
        share = torch.rand(rows.shape, generator=generator, device=rows.device)
        steps = 1 + (share * (size - 1)).long().clamp_max((size - 2).clamp_min(0))
        return self.order[start + (self.place[rows] - start + steps) % size]


@dataclass(frozen=True)
class Prompted:
    """Latents with captions, and the pictures as prompts.

    Args:
        pictures: N of them; of each caption's wordings the last half says no style.
        embeds: (N, E), of the image encoder.
        alike: by style and place.
        styled: (N,) bool, which are no photos.
        shown: (SHOWN, 3, S, S) uint8, the first pictures, to be shown.
    """

    pictures: Pictured
    embeds: Tensor
    alike: Alike
    styled: Tensor
    shown: Tensor

    def __len__(self) -> int:
        return len(self.embeds)

    def drawn(self, count: int, styled: float, generator: torch.Generator) -> Tensor:
        """(count,) random rows, `styled` of which are no photos where there are both."""
        some, total = int(self.styled.sum()), len(self)
        weights = torch.ones(total, device=generator.device)
        if 0 < some < total:
            weights = torch.where(self.styled, styled / some, (1 - styled) / (total - some))
        return torch.multinomial(weights, count, replacement=True, generator=generator)


class ImagePromptTask:
    """An image prompt adapter as a `Task` of the loop.

    Args:
        config: what and how.
        adapter: what is trained.
        base: what is frozen here, and samples.
        vae: the autoencoder that the latents are of.
        noising: the base's schedule.
        train: pictures.
        held: held-out ones.
    """

    def __init__(
        self,
        config: ImagePromptTrainingConfig,
        adapter: ImagePromptAdapter,
        base: sampling.Parts,
        vae: AutoencoderKL,
        noising: Noising,
        train: Prompted,
        held: Prompted,
    ) -> None:
        self.config, self.adapter, self.noising = config, adapter, noising
        self.base, self.vae, self.train, self.held = base, vae, train, held
        self.device = noising.alpha.device
        self.unet: UNet2DConditionModel = base.unet.requires_grad_(False).eval()
        self.text_encoder = base.text_encoder.requires_grad_(False).eval()

    def trained(self) -> nn.Module:
        """The adapter."""
        return self.adapter

    def losses(self, part: Part, generator: torch.Generator) -> Tensor:
        """Squared errors of a part of a random batch, at uniform times."""
        count, device, drop = part.count, self.device, self.config.drop

        def chance() -> Tensor:
            return torch.rand(count, generator=generator, device=device)

        rows = self.train.drawn(count, self.config.styled, generator)
        fate = chance()
        no_words = (fate < drop) | ((fate >= 2 * drop) & (fate < 3 * drop))
        no_picture = (fate >= drop) & (fate < 3 * drop)
        tokens = self.train.pictures.captions.drawn(rows, no_words, generator)
        other = chance() < self.config.other
        shown = torch.where(other, self.train.alike.another(rows, generator), rows)
        embeds = torch.where(no_picture[:, None], 0.0, self.train.embeds[shown])
        index = self.noising.spread(count, generator)
        shape = (count, *self.train.pictures.latents.shape[1:])
        noise = torch.randn(shape, generator=generator, device=device)
        x0 = self.train.pictures.at(part.of(rows))
        return self.errors(x0, *(part.of(one) for one in (tokens, index, noise, embeds)))

    def errors(
        self, x0: Tensor, tokens: Tensor, index: Tensor, noise: Tensor, embeds: Tensor | None
    ) -> Tensor:
        """(B,) squared errors of the base's prediction.

        Args:
            x0: (B, C, h, w), clean latents.
            tokens: (B, 77), of the prompts.
            index: (B,), model indices.
            noise: as `x0`.
            embeds: (B, E), of the pictures; None is the base alone.

        Returns:
            Their means over a sample.
        """
        noisy, target = self.noising.noised(x0, index, noise)
        noisy = noisy.contiguous(memory_format=torch.channels_last)
        with torch.no_grad():
            hidden = self.text_encoder(tokens).last_hidden_state
        prompted = nullcontext()
        if embeds is not None:
            prompted = Attachment(self.unet, self.adapter, embeds[:, None], without=()).active()
        with quick_norms(self.unet), prompted:
            return squared_error(self.unet(noisy, index, hidden).sample, target)

    @torch.no_grad()
    def scores(self) -> dict[str, float]:
        """Held-out errors under captions that say no style, with the same times and noise.

        `without` a picture it is the base's; with `another` one of the style and place; with
        `itself`.
        """
        held, device = self.held, self.device
        count = min(SCORED, len(held))
        rows, generator = torch.arange(count, device=device), stream(0, 0, device)
        index = ((rows + 0.5) / count * len(self.noising)).long()
        x0, tokens = held.pictures.at(rows), held.pictures.captions.table[rows, -1].long()
        noise = torch.randn(x0.shape, generator=generator, device=device)
        another = held.alike.another(rows, generator)
        shown = {"without": None, "another": held.embeds[another], "itself": held.embeds[rows]}
        return {
            f"{self.noising.schedule.prediction_type}_error_{name}": float(
                self.errors(x0, tokens, index, noise, embeds).mean()
            )
            for name, embeds in shown.items()
        }

    @torch.no_grad()
    def show(self, folder: Path) -> None:
        """Held-out pictures, and `SHEET_PROMPTS` drawn with each of them, guidance 3."""
        shown = as_picture(self.held.shown)
        sheet, embeds = [shown], self.held.embeds[: len(shown), None]
        for prompt in SHEET_PROMPTS:
            with Attachment(self.unet, self.adapter, embeds).active():
                drawn = sampling.draw(self.base, [prompt] * len(shown), guidance_scale=3.0)
            sheet.append(latents.decode(self.vae, drawn))
        sheets.write(folder / "samples.png", sheet)

"""Training of a readout head: what a picture's map is, told from the base's features of its noise.

The base is frozen and sees noisy latents at uniform times under their captions, some of which are
dropped; the head reads the map of the same scene from the blocks of the way up:

    L = E |R(features(alpha_t x0 + sigma_t eps, t, caption), t) - map|^2

Maps are the renders' own, averaged down to the latents' places: what no autoencoder has touched.

Source: Luo et al. 2023 (Readout Guidance), arXiv:2312.02150, section 3.1.
"""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from unicond.adapters.readout import ReadoutConfig, ReadoutHead, channels_of
from unicond.data.renders import as_picture
from unicond.denoisers.controlled import controlled
from unicond.mechanisms.guidance.readout import upward
from unicond.sampling.controls import Recorder, acting
from unicond.sampling.rows import Rows, Variant
from unicond.training import sheets
from unicond.training.budget import Budget
from unicond.training.diffusion import Noising, frozen
from unicond.training.loop import LoopConfig, stream
from unicond.training.processes import Part
from unicond.training.text2image import Pictured

SHIPPED = ("depth", "softedge", "pose")
"""The conditions whose heads ship."""
SCORED = (0.2, 0.5, 0.8)
"""Times at which held-out maps are read."""
SHOWN, ENLARGED = 8, 4
"""Held-out maps on a sheet, and pixels a side for each of their places."""


@dataclass(frozen=True, kw_only=True)
class ReadoutTrainingConfig:
    """A readout head and how it is trained.

    Args:
        width: of the head, a multiple of 8.
        scenes: training scenes.
        variants: wordings of each caption.
        drop: share of prompts replaced by the empty one.
        loop: how it is optimised.
    """

    width: int = 64
    scenes: int = 16384
    variants: int = 4
    drop: float = 0.1
    loop: LoopConfig = field(
        default_factory=lambda: LoopConfig(
            batch_size=32, lr=4e-3, budget=Budget(minutes=10), weight_decay=0.0, average=0.99
        )
    )

    def __post_init__(self) -> None:
        if self.width < 1 or self.width % 8:
            raise ValueError(f"width must be a multiple of 8, got {self.width}")
        if not 0 <= self.drop <= 1:
            raise ValueError(f"drop must be in [0, 1], got {self.drop}")
        if self.variants < 1:
            raise ValueError(f"variants must be at least 1, got {self.variants}")

    def head(self, unet: nn.Module, kind: str, channels: int, base: str) -> ReadoutHead:
        """An untrained head for a network.

        Args:
            unet: the network.
            kind: what the map shows.
            channels: of the map.
            base: the network's name.

        Returns:
            The head.
        """
        config = ReadoutConfig(
            kind=kind, blocks=channels_of(unet), channels=channels, width=self.width, base=base
        )
        return ReadoutHead(config, torch.Generator().manual_seed(self.loop.seed))


@dataclass(frozen=True)
class Mapped:
    """Latents with captions, and the map of each picture.

    Args:
        pictures: N of them.
        maps: (N, 1 or 3, h, w) uint8, as large as the latents.
    """

    pictures: Pictured
    maps: Tensor

    def __len__(self) -> int:
        return len(self.maps)

    def at(self, rows: Tensor) -> Tensor:
        """The maps of some, in [-1, 1]."""
        return as_picture(self.maps[rows])


class ReadoutTask:
    """A readout head as a `Task` of the loop.

    Args:
        config: what and how.
        head: what is trained.
        base: {"unet", "text_encoder"}, frozen here.
        noising: the base's schedule.
        train: pictures and their maps.
        held: held-out ones.
    """

    def __init__(
        self,
        config: ReadoutTrainingConfig,
        head: ReadoutHead,
        base: nn.ModuleDict,
        noising: Noising,
        train: Mapped,
        held: Mapped,
    ) -> None:
        self.config, self.head, self.noising = config, head, noising
        self.train, self.held = train, held
        self.device = noising.alpha.device
        self.unet, self.text_encoder = frozen(base)

    def trained(self) -> nn.Module:
        """The head."""
        return self.head

    def losses(self, part: Part, generator: torch.Generator) -> Tensor:
        """Squared errors of the readings of a part of a random batch, at uniform times."""
        count, device = part.count, self.device
        rows, tokens = self.train.pictures.drawn(count, self.config.drop, generator)
        index = torch.randint(len(self.noising), (count,), generator=generator, device=device)
        shape = (count, *self.train.pictures.latents.shape[1:])
        noise = torch.randn(shape, generator=generator, device=device)
        mine = part.of(rows)
        x0 = self.train.pictures.at(mine)
        found = self.features(x0, part.of(tokens), part.of(index), part.of(noise))
        with torch.autocast(device.type, enabled=False):  # the head is small: float32
            return self.head.loss(found, self._times(part.of(index)), self.train.at(mine))

    @torch.no_grad()
    def features(self, x0: Tensor, tokens: Tensor, index: Tensor, noise: Tensor) -> list[Tensor]:
        """What the frozen base computes of noisy latents on its way up.

        Args:
            x0: (B, C, h, w), clean latents.
            tokens: (B, 77), of the prompts.
            index: (B,), model indices.
            noise: as `x0`.

        Returns:
            (B, C_l, h_l, w_l) of each block, float32, in running order.
        """
        noisy, _ = self.noising.noised(x0, index, noise)
        hidden = self.text_encoder(tokens).last_hidden_state
        watch = Recorder("image", where=upward)
        size = (noisy.shape[-2], noisy.shape[-1])
        rows = Rows((Variant(),), ("image",), len(noisy), size=size)
        noisy = noisy.contiguous(memory_format=torch.channels_last)
        with acting(watch), rows.active(), controlled(self.unet):
            self.unet(noisy, index, hidden)
        return [values.float() for values in watch.found.values()]

    def _times(self, index: Tensor) -> Tensor:
        """(B,) times of model indices (B,), as the schedule has them."""
        return (index + 1) / len(self.noising)

    @torch.no_grad()
    def read(self, count: int, t: float) -> Tensor:
        """The head's maps (B, channels, h, w) of the first held-out latents at a time.

        Args:
            count: how many.
            t: in (0, 1].

        Returns:
            The maps, under the pictures' first captions; the noise is the same each time.
        """
        pictures, device = self.held.pictures, self.device
        rows = torch.arange(count, device=device)
        index = torch.full((count,), round(t * len(self.noising)) - 1, device=device)
        x0, tokens = pictures.at(rows), pictures.captions.table[rows, 0].long()
        noise = torch.randn(x0.shape, generator=stream(0, 0, device), device=device)
        return self.head(self.features(x0, tokens, index, noise), self._times(index))

    @torch.no_grad()
    def scores(self) -> dict[str, float]:
        """The mean squared error of held-out readings, and what share of the maps they explain.

        Each place's mean over the held-out maps explains nothing of them, a share of 0.
        """
        count = min(128, len(self.held))
        maps = self.held.at(torch.arange(count, device=self.device))
        errors = list[float]()
        for t in SCORED:
            read = self.read(count, t)
            maps = functional.adaptive_avg_pool2d(maps, (read.shape[-2], read.shape[-1]))
            errors.append(float((read - maps).square().mean()))
        variance = float((maps - maps.mean(0)).square().mean())
        shares = {
            f"explained_at_{t}": 1 - error / max(variance, 1e-12)
            for t, error in zip(SCORED, errors, strict=True)
        }
        return {"held_out_error": sum(errors) / len(errors), **shares}

    def show(self, folder: Path) -> None:
        """Held-out maps, and what is read of them at rising times."""
        count = min(SHOWN, len(self.held))
        rows = [self.held.at(torch.arange(count, device=self.device))]
        rows += [self.read(count, t).clamp(-1, 1) for t in SCORED]
        large = [functional.interpolate(row, scale_factor=ENLARGED) for row in rows]
        sheets.write(folder / "samples.png", large)

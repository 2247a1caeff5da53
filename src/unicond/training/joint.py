"""Training of a joint adapter: an image and its condition, each at a time of its own.

Formula (6): `L = E w(t_x) |v_x - v_hat_x|^2 + w(t_y) |v_y - v_hat_y|^2`, `t_x, t_y` independent,
min-SNR weights; roles and dropped prompts are drawn by `roles`. Where the base tells eps or x0, the
errors are theirs. Where pairs have a focus f, the square is a mean with the weights
`1 + alpha(t)^2 f`: what noise hides has no place yet, and weighing it would draw it everywhere.

Source: UniCon, arXiv:2410.11439.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from unicond.adapters.attach import attached
from unicond.adapters.config import Attention, JointConfig
from unicond.adapters.joint import JointAdapter
from unicond.adapters.recompute import recomputed
from unicond.denoisers.network import added
from unicond.sampling.suits import Suits
from unicond.training.budget import Budget
from unicond.training.diffusion import Noising, own_precision, squared_error
from unicond.training.loop import LoopConfig, stream
from unicond.training.norm import quick_norms
from unicond.training.pairs import Batch, HeldOutPairs, TrainingPairs, noise_of
from unicond.training.processes import Part, parts_of
from unicond.training.roles import (
    CONDITION_HELD,
    IMAGE_HELD,
    NAME,
    Draw,
    clean_draw,
    draw,
    rows_of,
)


class Shown(Protocol):
    """What an adapter's configuration says of its condition."""

    @property
    def branch(self) -> str:
        """The name of its branch."""
        ...

    @property
    def shows(self) -> str:
        """What its pictures show."""
        ...

    @property
    def aligned(self) -> bool:
        """Whether it shows the image's own view, pixel by pixel."""
        ...

    @property
    def trigger(self) -> str:
        """What is put in front of the prompts of its branch."""
        ...

    @property
    def suits(self) -> Suits:
        """How its adapter is sampled, if otherwise than the base."""
        ...


@dataclass(frozen=True, kw_only=True)
class JointRecipe:
    """An adapter and how it is trained, whatever the pairs.

    Args:
        rank: of the joint LoRAs.
        y_rank: of the y-LoRA of aligned conditions; 0 is none.
        y_conv_rank: of their y-LoRA beyond attention; 0 is none.
        drop: p of the dropout rule.
        role_shares: of two_way, condition_held, image_held.
        clean_share: of the held branches that are exactly clean.
        noise_share: of the held images whose condition is pure noise.
        aligned_share: of the steps in which aligned pairs see only around their own place.
        gamma: of min-SNR.
        floor: the least weight of a loss of v, so that pure noise is learned too; 1.0 is the
            plain v-loss.
        loop: how it is optimised; a sample is a pair.
    """

    rank: int = 16
    y_rank: int = 12
    y_conv_rank: int = 0
    drop: float = 0.1
    role_shares: tuple[float, float, float] = (0.35, 0.35, 0.3)
    clean_share: float = 0.7
    noise_share: float = 0.5
    aligned_share: float = 0.5
    gamma: float = 5.0
    floor: float = 0.1
    loop: LoopConfig = field(
        default_factory=lambda: LoopConfig(
            batch_size=32, lr=1e-3, budget=Budget(minutes=60), weight_decay=0.0
        )
    )

    def __post_init__(self) -> None:
        if abs(sum(self.role_shares) - 1) > 1e-6 or min(self.role_shares) < 0:
            raise ValueError(f"role_shares must be three shares of 1, got {self.role_shares}")
        if not 0 <= self.drop <= 1 / 3:
            raise ValueError(f"drop must be in [0, 1/3], got {self.drop}")
        for name in ("clean_share", "noise_share", "aligned_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in [0, 1], got {getattr(self, name)}")
        if self.gamma <= 0 or not 0 <= self.floor <= 1:
            raise ValueError(
                f"gamma must be positive, floor in [0, 1], got {self.gamma}, {self.floor}"
            )

    @property
    def attention(self) -> tuple[Attention, ...]:
        """How far the tokens of aligned pairs learn to see; the last is what they use."""
        far: tuple[Attention, ...] = ("global",) if self.aligned_share < 1 else ()
        return (*far, "aligned") if self.aligned_share > 0 else far

    def config(self, condition: Shown, base: str) -> JointConfig:
        """What an adapter for a base of this name says of itself."""
        return JointConfig(
            y=condition.branch,
            kind=condition.shows,
            rank=self.rank,
            y_rank=self.y_rank if condition.aligned else 0,
            y_conv_rank=self.y_conv_rank if condition.aligned else 0,
            post_joint="conv_fuse" if condition.aligned else "conv",
            roles=("two_way", "condition_held", "image_held"),
            attention=self.attention if condition.aligned else ("global",),
            trigger=condition.trigger,
            base=base,
            **vars(condition.suits),
        )

    def adapter(self, unet: UNet2DConditionModel, condition: Shown, base: str) -> JointAdapter:
        """An untrained adapter for a network."""
        generator = torch.Generator().manual_seed(self.loop.seed)
        return JointAdapter.for_network(unet, self.config(condition, base), generator)


@dataclass(frozen=True, kw_only=True)
class JointTrainingConfig(JointRecipe):
    """An adapter that is trained on the embedded world, by the plain v-loss (the floor is 1).

    Layout is decided at high noise, where min-SNR weighs little: with a floor of 0.1 the image
    learned next to nothing from its depth there, 3 % of its error in 41,000 pairs.

    Its matrices learn by Muon. Soft edges, started from depth, have a held-out v-error of 0.293
    (image) and 0.326 (condition) after 4 minutes; AdamW has 0.306 and 0.413 at a rate of 5e-4,
    0.293 and 0.356 at 2e-3, 0.298 and 0.335 at 6e-3.

    Args:
        floor: see `JointRecipe`.
        loop: see `JointRecipe`.
        scenes: training scenes.
        variants: wordings of each caption.
        focus: what the things that loose pairs have in common weigh in the loss, all together; the
            whole picture weighs 1.
    """

    floor: float = 1.0
    loop: LoopConfig = field(
        default_factory=lambda: LoopConfig(
            batch_size=32, lr=3e-3, matrix_lr=8e-3, budget=Budget(minutes=60), weight_decay=0.0
        )
    )
    scenes: int = 32768
    variants: int = 4
    focus: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.variants < 1:
            raise ValueError(f"variants must be at least 1, got {self.variants}")
        if self.focus < 0:
            raise ValueError(f"focus must be at least 0, got {self.focus}")


class JointTask:
    """A joint adapter as a `Task` of the loop.

    Args:
        config: what and how.
        adapter: what is trained.
        unet: the base's network, frozen.
        noising: the base's schedule.
        train: pairs.
        held: held-out pairs.
        recompute: blocks of the network are called again in the backward pass: less memory.
        draw_sheet: draws pictures with the adapter into a folder, if pictures are wanted.
    """

    def __init__(
        self,
        config: JointRecipe,
        adapter: JointAdapter,
        unet: UNet2DConditionModel,
        noising: Noising,
        train: TrainingPairs,
        held: HeldOutPairs,
        recompute: bool = False,
        draw_sheet: Callable[[JointAdapter, Path], None] | None = None,
    ) -> None:
        self.config, self.adapter, self.noising = config, adapter, noising
        self.unet = unet.requires_grad_(False).eval()
        self.train, self.held = train, held
        self.recompute, self._draw_sheet = recompute, draw_sheet
        self.device = noising.alpha.device

    def trained(self) -> nn.Module:
        """The adapter."""
        return self.adapter

    def losses(self, part: Part, generator: torch.Generator) -> Tensor:
        """Losses of a part of a random batch: the sum of both branches' weighted errors."""
        drawn = draw(self.config, part.count, len(self.noising), generator)
        if self.adapter.config.post_joint != "conv_fuse":
            drawn = replace(drawn, aligned=False)
        batch = self.train.batch(part, drawn, generator)
        drawn, noise = drawn.of(part), noise_of(batch, part, generator)
        return self.weighed(self.errors(batch, drawn, noise), drawn)

    def weighed(self, errors: tuple[Tensor, Tensor], drawn: Draw) -> Tensor:
        """(B,) losses of both branches' errors; a held branch's is left out."""
        weights = [
            self.noising.min_snr(index, self.config.gamma, self.config.floor)
            for index in (drawn.index_x, drawn.index_y)
        ]
        return weights[0] * errors[0] * (drawn.role != IMAGE_HELD) + weights[1] * errors[1] * (
            drawn.role != CONDITION_HELD
        )

    def errors(self, batch: Batch, drawn: Draw, noise: Tensor) -> tuple[Tensor, Tensor]:
        """(B,) squared errors of the image and of the condition; `noise` is as `batch.x0`."""
        index = torch.cat([drawn.index_x, drawn.index_y])
        clean = torch.cat([drawn.clean_x, drawn.clean_y])
        noisy, target = self.noising.noised(batch.x0, index, noise, clean)
        noisy = noisy.contiguous(memory_format=torch.channels_last)
        adapters, size = {NAME: self.adapter}, (noisy.shape[-2], noisy.shape[-1])
        # blocks that are called again are not to be changed by then
        calls = recomputed(self.unet) if self.recompute else quick_norms(self.unet)
        told = added(batch.prompt, self.unet.dtype)
        with (
            own_precision(self.unet),
            calls,
            attached(self.unet, adapters),
            rows_of(drawn, size).active(),
        ):
            output = self.unet(noisy, index, batch.prompt.tokens, **told).sample
        weight = batch.focus
        if weight is not None:
            weight = 1 + weight * self.noising.alpha[index].square().view(-1, 1, 1, 1)
        one, other = squared_error(output, target, weight).chunk(2)
        return one, other

    @torch.no_grad()
    def scores(self) -> dict[str, float]:
        """Held-out errors of one branch at three times, given the other exactly clean."""
        count = min(96, len(self.held))
        rows = torch.arange(count, device=self.device)
        moving = self.noising.scored(rows)
        kind, out = self.noising.schedule.prediction_type, dict[str, float]()
        for name, role in (("image", CONDITION_HELD), ("condition", IMAGE_HELD)):
            drawn = clean_draw(role, moving, self.adapter.config.attention[-1] == "aligned")
            found: list[Tensor] = []
            for part in parts_of(count, self.held.at_once):
                generator = stream(0, 0, self.device)
                batch = self.held.first(part, generator)
                noise = noise_of(batch, part, generator)
                found.append(self.errors(batch, drawn.of(part), noise)[role == IMAGE_HELD])
            out[f"{kind}_error_{name}"] = float(torch.cat(found).mean())
        return out

    def show(self, folder: Path) -> None:
        """Pictures with the adapter as it is, where they are wanted."""
        if self._draw_sheet is not None:
            self._draw_sheet(self.adapter, folder)

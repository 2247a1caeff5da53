"""Training of a joint adapter: an image and its condition, each at a time of its own.

Formula (6): `L = E w(t_x) |v_x - v_hat_x|^2 + w(t_y) |v_y - v_hat_y|^2`, `t_x, t_y` independent,
min-SNR weights, prompts dropped by one draw u for each pair: x's if `u < 2p`, y's if `p < u < 3p`.
Each pair plays one of three roles: in `two_way` both branches are noisy and look at each other;
in `condition_held` and `image_held` one branch is fixed: half the draws hold it exactly clean
(fed index 0), the rest at a uniform time; it hears nothing, and its loss is left out. Where the
base tells eps or x0, the errors are theirs.

Source: UniCon, arXiv:2410.11439; the roles are this package's.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from unicond.adapters.attach import attached
from unicond.adapters.config import Attention, JointConfig
from unicond.adapters.joint import JointAdapter
from unicond.conditions import Condition
from unicond.sampling.rows import Pairs, Rows, Variant
from unicond.training.budget import Budget
from unicond.training.captions import CaptionTable
from unicond.training.diffusion import Noising, squared_error
from unicond.training.loop import LoopConfig, stream
from unicond.training.norm import quick_norms

TWO_WAY, CONDITION_HELD, IMAGE_HELD = range(3)
NAME = "joint"


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


@dataclass(frozen=True, kw_only=True)
class JointRecipe:
    """An adapter and how it is trained, whatever the pairs.

    Args:
        rank: of the joint LoRAs.
        y_rank: of the y-LoRA of aligned conditions; 0 is none.
        drop: p of the dropout rule.
        role_shares: of two_way, condition_held, image_held.
        clean_share: of the held branches that are exactly clean.
        aligned_share: of the steps in which aligned pairs see only around their own place.
        gamma: of min-SNR.
        floor: the least weight of a loss of v, so that pure noise is learned too.
        loop: how it is optimised; a sample is a pair.
    """

    rank: int = 16
    y_rank: int = 12
    drop: float = 0.1
    role_shares: tuple[float, float, float] = (0.4, 0.35, 0.25)
    clean_share: float = 0.5
    aligned_share: float = 0.5
    gamma: float = 5.0
    floor: float = 0.1
    loop: LoopConfig = field(
        default_factory=lambda: LoopConfig(
            batch_size=32, lr=1e-3, budget=Budget(minutes=120), weight_decay=0.0
        )
    )

    def __post_init__(self) -> None:
        if abs(sum(self.role_shares) - 1) > 1e-6 or min(self.role_shares) < 0:
            raise ValueError(f"role_shares must be three shares of 1, got {self.role_shares}")
        if not 0 <= self.drop <= 1 / 3:
            raise ValueError(f"drop must be in [0, 1/3], got {self.drop}")
        for name in ("clean_share", "aligned_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in [0, 1], got {getattr(self, name)}")
        if self.gamma <= 0 or not 0 <= self.floor < 1:
            raise ValueError(
                f"gamma must be positive, floor in [0, 1), got {self.gamma}, {self.floor}"
            )

    @property
    def attention(self) -> tuple[Attention, ...]:
        """How far the tokens of aligned pairs learn to see; the last is what they use."""
        far: tuple[Attention, ...] = ("global",) if self.aligned_share < 1 else ()
        return (*far, "aligned") if self.aligned_share > 0 else far

    def adapter(self, unet: UNet2DConditionModel, condition: Shown, base: str) -> JointAdapter:
        """An untrained adapter for a network."""
        config = JointConfig(
            y=condition.branch,
            kind=condition.shows,
            rank=self.rank,
            y_rank=self.y_rank if condition.aligned else 0,
            post_joint="conv_fuse" if condition.aligned else "conv",
            roles=("two_way", "condition_held", "image_held"),
            attention=self.attention if condition.aligned else ("global",),
            trigger=condition.trigger,
            base=base,
        )
        generator = torch.Generator().manual_seed(self.loop.seed)
        return JointAdapter.for_network(unet, config, generator)


@dataclass(frozen=True, kw_only=True)
class JointTrainingConfig(JointRecipe):
    """An adapter that is trained on the embedded world.

    Args:
        scenes: training scenes.
        variants: wordings of each caption.
    """

    scenes: int = 32768
    variants: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.variants < 1:
            raise ValueError(f"variants must be at least 1, got {self.variants}")


@dataclass(frozen=True)
class Draw:
    """What is random about a batch of pairs; all (B,) but the last.

    Args:
        role: TWO_WAY, CONDITION_HELD or IMAGE_HELD.
        index_x: model index of the image; 0 where it is clean.
        index_y: the same of the condition.
        clean_x: the image is exactly clean.
        clean_y: the condition is exactly clean.
        drop_x: the image's prompt is dropped.
        drop_y: the condition's prompt is dropped.
        aligned: tokens see only around their own place.
    """

    role: Tensor
    index_x: Tensor
    index_y: Tensor
    clean_x: Tensor
    clean_y: Tensor
    drop_x: Tensor
    drop_y: Tensor
    aligned: bool = False


def draw(config: JointTrainingConfig, count: int, steps: int, generator: torch.Generator) -> Draw:
    """Draw roles, times and dropped prompts.

    Args:
        config: the shares.
        count: pairs.
        steps: T of the schedule.
        generator: on the device of the result.

    Returns:
        What is random about them.
    """
    device = generator.device

    def uniform() -> Tensor:
        return torch.rand(count, generator=generator, device=device)

    edges = torch.tensor(config.role_shares, device=device).cumsum(0)[:2]
    role = torch.bucketize(uniform(), edges, right=True)
    index_x, index_y = (
        torch.randint(steps, (count,), generator=generator, device=device) for _ in range(2)
    )
    clean, u = uniform() < config.clean_share, uniform()
    clean_x, clean_y = clean & (role == IMAGE_HELD), clean & (role == CONDITION_HELD)
    p = config.drop
    return Draw(
        role=role,
        index_x=torch.where(clean_x, 0, index_x),
        index_y=torch.where(clean_y, 0, index_y),
        clean_x=clean_x,
        clean_y=clean_y,
        drop_x=u < 2 * p,
        drop_y=(u > p) & (u < 3 * p),
        aligned=bool(torch.rand((), generator=generator, device=device) < config.aligned_share),
    )


def rows_of(drawn: Draw, size: tuple[int, int]) -> Rows:
    """The rows `[images, conditions]` of a batch of latents of a size, and who hears whom."""
    count, device = len(drawn.role), drawn.role.device
    x = torch.arange(count, device=device)
    one = torch.ones(count, device=device)
    pairs = Pairs(
        x=x,
        y=x + count,
        weight_x=one,
        weight_y=one,
        hears_x=drawn.role != IMAGE_HELD,
        hears_y=drawn.role != CONDITION_HELD,
        aligned=drawn.aligned,
    )
    return Rows((Variant(),), ("image", "condition"), count, {NAME: pairs}, size=size)


@dataclass(frozen=True)
class PairData:
    """Pairs of latents (N, C, h, w) with the captions of both branches."""

    image: Tensor
    condition: Tensor
    captions: CaptionTable
    condition_captions: CaptionTable


class JointTask:
    """A joint adapter as a `Task` of the loop.

    Args:
        config: what and how.
        adapter: what is trained.
        unet: the base's network, frozen.
        text_encoder: the base's, frozen.
        noising: the base's schedule.
        train: pairs.
        held: held-out pairs.
    """

    def __init__(
        self,
        config: JointTrainingConfig,
        adapter: JointAdapter,
        unet: UNet2DConditionModel,
        text_encoder: nn.Module,
        noising: Noising,
        train: PairData,
        held: PairData,
    ) -> None:
        self.config, self.adapter, self.noising = config, adapter, noising
        self.unet = unet.requires_grad_(False).eval()
        self.text_encoder = text_encoder.requires_grad_(False).eval()
        self.train, self.held = train, held
        self.device = train.image.device

    def trained(self) -> nn.Module:
        """The adapter."""
        return self.adapter

    def losses(self, count: int, generator: torch.Generator) -> Tensor:
        """(count,) losses of random pairs: the sum of both branches' weighted errors."""
        drawn = draw(self.config, count, len(self.noising), generator)
        if self.adapter.config.post_joint != "conv_fuse":
            drawn = replace(drawn, aligned=False)
        total = len(self.train.image)
        rows = torch.randint(total, (count,), generator=generator, device=self.device)
        errors = self.errors(self.train, rows, drawn, generator)
        weights = [
            self.noising.min_snr(index, self.config.gamma, self.config.floor)
            for index in (drawn.index_x, drawn.index_y)
        ]
        return weights[0] * errors[0] * (drawn.role != IMAGE_HELD) + weights[1] * errors[1] * (
            drawn.role != CONDITION_HELD
        )

    def errors(
        self, data: PairData, rows: Tensor, drawn: Draw, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """(B,) squared v-errors of the image and of the condition."""
        prompts = torch.cat(
            [
                data.captions.drawn(rows, drawn.drop_x, generator),
                data.condition_captions.drawn(rows, drawn.drop_y, generator),
            ]
        )
        with torch.no_grad():
            hidden = self.text_encoder(prompts).last_hidden_state
        x0 = torch.cat([data.image[rows], data.condition[rows]])
        noise = torch.randn(x0.shape, generator=generator, device=self.device)
        index = torch.cat([drawn.index_x, drawn.index_y])
        clean = torch.cat([drawn.clean_x, drawn.clean_y])
        noisy, target = self.noising.noised(x0, index, noise, clean)
        noisy = noisy.contiguous(memory_format=torch.channels_last)
        adapters, size = {NAME: self.adapter}, (noisy.shape[-2], noisy.shape[-1])
        with quick_norms(self.unet), attached(self.unet, adapters), rows_of(drawn, size).active():
            output = self.unet(noisy, index, hidden).sample
        one, other = squared_error(output, target).chunk(2)
        return one, other

    @torch.no_grad()
    def scores(self) -> dict[str, float]:
        """Held-out v-errors of one branch at three times, given the other exactly clean."""
        count = min(96, len(self.held.image))
        rows = torch.arange(count, device=self.device)
        zero, never = torch.zeros_like(rows), torch.zeros_like(rows, dtype=torch.bool)
        share = torch.tensor([0.999, 0.7, 0.4], device=self.device)
        moving = (share * len(self.noising)).long()[rows % 3]
        out: dict[str, float] = {}
        for name, role in (("image", CONDITION_HELD), ("condition", IMAGE_HELD)):
            held_x, held_y = role == IMAGE_HELD, role == CONDITION_HELD
            drawn = Draw(
                role=torch.full_like(rows, role),
                index_x=zero if held_x else moving,
                index_y=zero if held_y else moving,
                clean_x=~never if held_x else never,
                clean_y=~never if held_y else never,
                drop_x=never,
                drop_y=never,
                aligned=self.adapter.config.attention[-1] == "aligned",
            )
            found = self.errors(self.held, rows, drawn, stream(0, 0, self.device))
            out[f"v_error_{name}"] = float(found[0 if held_y else 1].mean())
        return out

    def show(self, folder: Path) -> None:
        """Nothing: pictures of an adapter are the command line's matter."""
        del folder

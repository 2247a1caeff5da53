"""Presets: named sets of recipes, as functions."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch

from unicond.adapters.grounding.config import Method
from unicond.backbones.precision import slow_in_bfloat16
from unicond.conditions import Condition
from unicond.evaluation.probes import ProbeConfig
from unicond.training.autoencoder import AutoencoderConfig
from unicond.training.budget import Budget
from unicond.training.grounding import OF_METHOD, GroundingTrainingConfig
from unicond.training.image_encoder import ImageEncoderConfig
from unicond.training.image_prompt import ImagePromptTrainingConfig
from unicond.training.joint import JointTrainingConfig
from unicond.training.loop import LoopConfig
from unicond.training.pixels import PixelConfig
from unicond.training.probes import ProbeTrainingConfig
from unicond.training.readout import ReadoutTrainingConfig
from unicond.training.text2image import TextToImageConfig

CUDA_SPEED, GPU_BATCH = 30, 4
"""A GPU spends a CPU's minutes divided by the one, on batches larger by the other."""

MINUTE_SHARES = {
    "depth": 2.5,
    "depth-metric": 0.6,
    "softedge": 1.25,
    "pose": 1.0,
    "identity": 0.9,
    "appearance": 0.75,
    "segmentation": 0.6,
    "normals": 0.2,
    "gligen": 0.5,
    "interact": 0.5,
    "migc": 0.85,
}
"""How long each adapter is trained, of the minutes of `Preset.joint` or `Preset.grounding`; what
starts from depth needs little."""
TAUGHT_SHARES = (0.2, 0.2, 0.6)
"""Roles of what starts from depth, which has learned where things are in an image: most of what is
left is to read a condition off one."""
HEAD, REST = 0.15, 0.25
"""Adapters learn at full rates for the one share of their minutes, at the other share of these
rates after that: what is new is learned quickly, and nothing comes apart."""
STYLE_SHARE = 0.1
"""How long the base is fine-tuned to one style, its own training = 1."""
LOOSE_SHARES = (0.3, 0.6, 0.1)
"""Roles of loose adapters, whose condition is given nearly always."""
LOOSE_RANKS = 3
"""Ranks of a loose adapter for each one of an aligned adapter."""
LOOSE_DROP = 0.25
"""P of the dropout rule for loose adapters: images are told nothing in half of their pairs."""
LOOSE_FOCUS = 2.0
"""What the things weigh that loose pairs have in common, the whole picture = 1: a face is one of
256 places of the latents, and as much of who somebody is as the coat."""
MIGC_HIDDEN = 256
"""Width inside of MIGC's position nets, of which there is one a layer."""


@dataclass(frozen=True)
class Preset:
    """The recipes of everything that ships.

    Args:
        vae: the autoencoder's.
        text2image: the base's.
        pixels: the base's without an autoencoder.
        joint: of joint adapters; `joint_of` says what each condition changes.
        readout: of readout heads.
        grounding: of grounding adapters; `grounding_of` says what each method changes.
        image_encoder: the image encoder's.
        image_prompt: the image prompt adapter's.
        probes: the judge's.
        held_scenes: held-out scenes that scores are taken on.
    """

    vae: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    text2image: TextToImageConfig = field(default_factory=TextToImageConfig)
    pixels: PixelConfig = field(default_factory=PixelConfig)
    joint: JointTrainingConfig = field(default_factory=JointTrainingConfig)
    readout: ReadoutTrainingConfig = field(default_factory=ReadoutTrainingConfig)
    grounding: GroundingTrainingConfig = field(default_factory=GroundingTrainingConfig)
    image_encoder: ImageEncoderConfig = field(default_factory=ImageEncoderConfig)
    image_prompt: ImagePromptTrainingConfig = field(default_factory=ImagePromptTrainingConfig)
    probes: ProbeTrainingConfig = field(default_factory=ProbeTrainingConfig)
    held_scenes: int = 256

    def text2image_of(self, style: str) -> TextToImageConfig:
        """The recipe of the base, or of what fine-tunes it to one style.

        Args:
            style: one of the world's, or "" for the base itself.

        Returns:
            `text2image`; a style takes `STYLE_SHARE` of its minutes at a quarter of its rates.
        """
        if not style:
            return self.text2image
        loop = with_share(gentler(self.text2image.loop), STYLE_SHARE)
        return replace(self.text2image, style=style, loop=loop)

    def joint_of(self, condition: Condition, goes_on: bool = False) -> JointTrainingConfig:
        """The recipe of one condition's adapter.

        Args:
            condition: which.
            goes_on: whether it starts from weights of its own.

        Returns:
            `joint` with the condition's share of its minutes, at rates that fall after a `HEAD`;
            what goes on has had it. What starts from depth reads images most of the time. Loose
            conditions, which have neither y-LoRA nor a fused projection, spend that room on rank,
            have nothing to estimate, and are told less, so that they look more; what their pictures
            have in common weighs more than what they have not.
        """
        loop = with_share(self.joint.loop, MINUTE_SHARES[condition.name])
        if goes_on:
            loop = gentler(loop)
        else:
            loop = replace(loop, budget=replace(loop.budget, head=HEAD, rest=REST))
        recipe = replace(self.joint, loop=loop)
        if not condition.aligned:
            rank = LOOSE_RANKS * recipe.rank
            told = {"rank": rank, "role_shares": LOOSE_SHARES, "noise_share": 0.0}
            return replace(recipe, **told, drop=LOOSE_DROP, focus=LOOSE_FOCUS)
        return replace(recipe, role_shares=TAUGHT_SHARES) if condition.starts_from else recipe

    def grounding_of(self, method: Method) -> GroundingTrainingConfig:
        """The recipe of one method's adapter.

        Args:
            method: which.

        Returns:
            `grounding` with the method's share of its minutes, and what differs by method.
            InteractDiffusion is told classes as often as colours; MIGC has narrower position nets,
            and things to tell that are mostly in colour.
        """
        recipe = replace(
            self.grounding,
            method=method,
            loop=with_share(self.grounding.loop, MINUTE_SHARES[method]),
            **OF_METHOD[method],
        )
        if method == "gligen":
            return recipe
        if method == "interact":
            return replace(recipe, colored=0.5)
        return replace(recipe, hidden=MIGC_HIDDEN, colored=0.9)


def mini() -> Preset:
    """The embedded model: 128 x 128 pixels, 8 x 16 x 16 latents, an 11 M-parameter U-Net.

    Beside it `mini-pixel`: 64 x 64 pixels without an autoencoder, a 4.5 M-parameter U-Net.

    Command: `unicond train all --preset mini`, or its stages `unicond train vae`, `text2image`,
    `joint --condition depth`, `readout --condition depth`, `gligen`, `interact`, `migc`,
    `image-encoder`, `image-prompt`, `pixels`, `probes`.
    Hardware and time: 2 CPU cores: 0.5 + 4.7 hours for autoencoder and base, 2.5 for depth and 5
    for all other conditions, 10 minutes for each readout head, 30 for GLIGEN, 30 for
    InteractDiffusion, 50 for MIGC, 1 hour for image prompts, 1 + 0.75 for the rest; a GPU: budgets
    30 times shorter.
    Scores (seed 0): in the card of each folder of weights.
    """
    return Preset()


def tiny() -> Preset:
    """Everything very small, for tests: the same code paths in seconds, useless weights.

    Command: `unicond train all --preset tiny`. Hardware and time: 1 CPU core, about a minute
    (drawing 1,024 scenes is most of it). Scores: none worth a name.
    """
    loop = LoopConfig(batch_size=4, lr=1e-3, budget=Budget(steps=2), precision="no")
    return Preset(
        vae=AutoencoderConfig(
            latent_channels=4,
            block_out_channels=(4, 4, 8, 8),
            norm_num_groups=2,
            drawings=("depth", "normals"),
            scenes=16,
            loop=loop,
        ),
        text2image=TextToImageConfig(
            block_out_channels=(16, 16),
            head_width=8,
            norm_num_groups=4,
            text_width=16,
            text_layers=1,
            scenes=16,
            normal_scenes=8,
            variants=1,
            loop=loop,
        ),
        pixels=PixelConfig(
            block_out_channels=(16, 16),
            head_width=8,
            norm_num_groups=4,
            text_width=16,
            text_layers=1,
            scenes=16,
            normal_scenes=8,
            variants=1,
            loop=loop,
        ),
        joint=JointTrainingConfig(rank=2, y_rank=2, scenes=16, variants=1, loop=loop),
        readout=ReadoutTrainingConfig(width=8, scenes=16, variants=1, loop=loop),
        grounding=GroundingTrainingConfig(scenes=16, variants=1, loop=loop),
        image_encoder=_tiny_encoder(loop),
        image_prompt=ImagePromptTrainingConfig(tokens=2, scenes=16, variants=1, loop=loop),
        probes=ProbeTrainingConfig(
            probe=ProbeConfig(widths=(4, 8)), scenes=16, reconstructed_scenes=8, loop=loop
        ),
        held_scenes=24,
    )


def _tiny_encoder(loop: LoopConfig) -> ImageEncoderConfig:
    return ImageEncoderConfig(
        size=32,
        patch=16,
        width=16,
        layers=1,
        head_width=8,
        embedding=8,
        scenes=16,
        variants=1,
        loop=loop,
    )


PRESETS: dict[str, Callable[[], Preset]] = {"mini": mini, "tiny": tiny}


def named(name: str) -> Preset:
    """A preset by its name.

    Args:
        name: one of `PRESETS`.

    Returns:
        Its recipes.

    Raises:
        ValueError: there is none of this name.
    """
    if name not in PRESETS:
        raise ValueError(f"preset {name!r} is not known; choose one of {', '.join(PRESETS)}")
    return PRESETS[name]()


def with_budget(
    loop: LoopConfig, minutes: float | None = None, steps: int | None = None
) -> LoopConfig:
    """A recipe's loop with another budget, if one is given."""
    if minutes is None and steps is None:
        return loop
    return replace(loop, budget=replace(loop.budget, minutes=minutes, steps=steps))


def with_share(loop: LoopConfig, share: float) -> LoopConfig:
    """A recipe's loop with a share of its minutes; budgets in steps stay what they are."""
    minutes = loop.budget.minutes
    if minutes is None:
        return loop
    return replace(loop, budget=replace(loop.budget, minutes=share * minutes))


def gentler(loop: LoopConfig) -> LoopConfig:
    """A recipe's loop at a quarter of its rates, for what goes on from trained weights.

    At full rates an adapter of soft edges lost what 27 minutes had taught it of images: a held-out
    v-error of 0.282 rose to 0.315 in 10 more; one of metric depth, started from depth, had 0.306
    after 220 steps, 0.359 after 900, and 0.342 when the rate had fallen.
    """
    matrix_lr = None if loop.matrix_lr is None else REST * loop.matrix_lr
    return replace(loop, lr=REST * loop.lr, matrix_lr=matrix_lr)


def on_gpu(loop: LoopConfig, own_budget: bool = False) -> LoopConfig:
    """A recipe's loop as a GPU runs it: larger batches, and fewer minutes unless they were asked.

    Args:
        loop: as a CPU runs it.
        own_budget: the budget was given by hand, and stays.

    Returns:
        The loop; budgets in steps stay what they are.
    """
    budget = loop.budget
    if budget.minutes is None:
        return loop
    if not own_budget:
        budget = replace(budget, minutes=budget.minutes / CUDA_SPEED)
    return replace(loop, batch_size=GPU_BATCH * loop.batch_size, budget=budget)


def as_fast(loop: LoopConfig, device: torch.device) -> LoopConfig:
    """A recipe's loop in float32 where the device is slower in bfloat16.

    Args:
        loop: as it is elsewhere.
        device: where it runs.

    Returns:
        The loop.
    """
    slow = loop.precision == "bf16" and slow_in_bfloat16(device)
    return replace(loop, precision="no") if slow else loop

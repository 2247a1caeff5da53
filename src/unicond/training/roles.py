"""What is random about a batch of pairs: who plays which role, at what time, told which words.

Each pair plays one of three roles: in `two_way` both branches are noisy and look at each other;
in `condition_held` and `image_held` one branch is fixed: most draws hold it exactly clean (fed
index 0), the rest at a uniform time; it hears nothing, and its loss is left out. Under a held image
half of the conditions are pure noise, where nearly all of an estimate in one to four steps is
decided. Prompts are dropped by one draw u for each pair: x's if `u < 2p`, y's if `p < u < 3p`.

Source: UniCon, arXiv:2410.11439; the roles are this package's.
"""

from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from unicond.sampling.rows import Pairs, Rows, Variant
from unicond.training.processes import Part

TWO_WAY, CONDITION_HELD, IMAGE_HELD = range(3)
NAME = "joint"


class Shares(Protocol):
    """What of a recipe the draws follow (see `joint.JointRecipe`)."""

    @property
    def drop(self) -> float:
        """P of the dropout rule."""
        ...

    @property
    def role_shares(self) -> tuple[float, float, float]:
        """Of two_way, condition_held, image_held."""
        ...

    @property
    def clean_share(self) -> float:
        """Of the held branches that are exactly clean."""
        ...

    @property
    def aligned_share(self) -> float:
        """Of the steps in which tokens see only around their own place."""
        ...

    @property
    def noise_share(self) -> float:
        """Of the held images whose condition is pure noise."""
        ...


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

    def of(self, part: Part) -> "Draw":
        """The same of a part of the batch."""
        columns = {
            name: part.of(value) for name, value in vars(self).items() if isinstance(value, Tensor)
        }
        return replace(self, **columns)


def draw(config: Shares, count: int, steps: int, generator: torch.Generator) -> Draw:
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
    unseen = (uniform() < config.noise_share) & (role == IMAGE_HELD)
    index_y = torch.where(unseen, steps - 1, index_y)
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


def clean_draw(role: int, moving: Tensor, aligned: bool) -> Draw:
    """One branch held exactly clean, the other at model indices `moving` (B,); none is dropped."""
    zero, never = torch.zeros_like(moving), torch.zeros_like(moving, dtype=torch.bool)
    held_x, held_y = role == IMAGE_HELD, role == CONDITION_HELD
    return Draw(
        role=torch.full_like(moving, role),
        index_x=zero if held_x else moving,
        index_y=zero if held_y else moving,
        clean_x=~never if held_x else never,
        clean_y=~never if held_y else never,
        drop_x=never,
        drop_y=never,
        aligned=aligned,
    )

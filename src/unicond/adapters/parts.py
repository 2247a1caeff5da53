"""What an adapter adds to one attention layer: low-rank parts and the output projection."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unicond.adapters.config import JointConfig, PostJoint
from unicond.adapters.network import AttentionShape

Pair = tuple[Tensor | None, Tensor | None]


def start(rank: int, *shape: int, generator: torch.Generator | None) -> Tensor:
    """A at the start, (rank, *shape) of N(0, 1 / rank^2).

    Nothing is drawn on the meta device, on which an adapter waits for its weights: to say what
    would be takes milliseconds a layer.
    """
    if torch.get_default_device().type == "meta":
        return torch.empty(rank, *shape)
    return torch.randn(rank, *shape, generator=generator) / rank


class LowRank(nn.Module):
    """`B A h`, with alpha = rank, so that its scale is 1.

    Args:
        shape: `(in, out)` features.
        rank: of the product.
        generator: draws A ~ N(0, 1 / rank^2); B starts at zero.
    """

    def __init__(
        self, shape: tuple[int, int], rank: int, generator: torch.Generator | None
    ) -> None:
        super().__init__()
        self.A = nn.Parameter(start(rank, shape[0], generator=generator))
        self.B = nn.Parameter(torch.zeros(shape[1], rank))

    def forward(self, h: Tensor) -> Tensor:
        """(..., in) to (..., out), computed in the dtype of `h` (or of autocast).

        float32 parameters are cast to a half-precision network's activations, not the reverse: the
        product is added to the output of a layer that computes in that dtype anyway.
        """
        return F.linear(F.linear(h, self.A.to(h.dtype)), self.B.to(h.dtype))


class AttentionLora(nn.Module):
    """A LoRA for the four projections of one attention layer."""

    def __init__(self, shape: AttentionShape, rank: int, generator: torch.Generator | None) -> None:
        super().__init__()
        self.to_q = LowRank(shape.of("to_q"), rank, generator)
        self.to_k = LowRank(shape.of("to_k"), rank, generator)
        self.to_v = LowRank(shape.of("to_v"), rank, generator)
        self.to_out = LowRank(shape.of("to_out"), rank, generator)


class ProjOut(nn.Module):
    """The projection of what was heard, zero at the start.

    `"conv"`: p_x = P o_x, p_y = P o_y.    `"conv_fuse"`: [p_x; p_y] = P [o_x; o_y], token by token.

    Args:
        width: d, features of a token; P is d x d or 2d x 2d.
        post_joint: which of the two.
    """

    def __init__(self, width: int, post_joint: PostJoint) -> None:
        super().__init__()
        self.fuse = post_joint == "conv_fuse"
        size = 2 * width if self.fuse else width
        self.weight = nn.Parameter(torch.zeros(size, size))

    def forward(self, o_x: Tensor | None, o_y: Tensor | None) -> Pair:
        """Project what the rows of some pairs heard.

        Args:
            o_x: (P, N, d) of the image rows; None, which counts as zero, where they hear nothing.
            o_y: (P, M, d) of the condition rows, or None. `"conv_fuse"` needs M = N.

        Returns:
            `(p_x, p_y)`, shaped as the inputs; None where the input is.

        Raises:
            ValueError: `"conv_fuse"` of unequal numbers of tokens.
        """
        if not self.fuse or o_x is None or o_y is None:
            return self._alone(o_x, 0), self._alone(o_y, 1)
        self.check(o_x, o_y)
        p_x, p_y = F.linear(torch.cat([o_x, o_y], -1), self.weight.to(o_x.dtype)).chunk(2, -1)
        return p_x, p_y

    def check(self, o_x: Tensor, o_y: Tensor) -> None:
        """Raise ValueError where `"conv_fuse"` would mix unequal numbers of tokens."""
        if self.fuse and o_x.shape[1] != o_y.shape[1]:
            raise unequal(o_x.shape[1], o_y.shape[1])

    def block(self, x: bool, y: bool) -> Tensor:
        """The part of P that takes these sides to these sides; at least one is asked for."""
        if not self.fuse or (x and y):
            return self.weight
        side = 0 if x else 1
        return self.weight.chunk(2, 0)[side].chunk(2, 1)[side]

    def across(self, from_x: bool) -> Tensor:
        """The part of a fusing P that takes one side to the other; (d, d)."""
        to, of = (1, 0) if from_x else (0, 1)
        return self.weight.chunk(2, 0)[to].chunk(2, 1)[of]

    def _alone(self, o: Tensor | None, side: int) -> Tensor | None:
        """P on one side; of a fusing P the diagonal block, since the other side's `o` is zero."""
        if o is None:
            return None
        return F.linear(o, self.block(side == 0, side == 1).to(o.dtype))


def unequal(one: int, other: int) -> ValueError:
    """The error of a fusing projection between branches of unequal numbers of tokens."""
    return ValueError(
        f"conv_fuse mixes image and condition token by token, but there are {one} and {other} "
        "tokens: give both branches the same size, or use an adapter with post_joint 'conv'"
    )


class JointParts(nn.Module):
    """What one self-attention layer needs for joint attention."""

    def __init__(
        self, shape: AttentionShape, config: JointConfig, generator: torch.Generator | None
    ) -> None:
        super().__init__()
        self.xy = AttentionLora(shape, config.rank, generator)
        self.yx = AttentionLora(shape, config.rank, generator)
        self.proj_out = ProjOut(shape.out, config.post_joint)


class LayerParts(nn.Module):
    """An adapter's part in one attention layer: `joint` on self-attention, `y` on every attention.

    Args:
        shape: the layer's widths.
        config: the adapter's ranks and kind of projection.
        joint: whether it is a self-attention layer.
        generator: for the start values.
    """

    def __init__(
        self,
        shape: AttentionShape,
        config: JointConfig,
        joint: bool,
        generator: torch.Generator | None,
    ) -> None:
        super().__init__()
        self.joint = JointParts(shape, config, generator) if joint else None
        self.y = AttentionLora(shape, config.y_rank, generator) if config.y_rank else None

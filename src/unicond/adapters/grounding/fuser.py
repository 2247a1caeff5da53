"""The fuser: the picture looks at the tokens of what is grounded, between attn1 and attn2.

    o = W h,    x = x + s tanh(a) SelfAttn(norm([x; o]))[:picture],    x = x + s tanh(b) FF(norm(x))

It acts through the processor of attn1, whose result the block adds to its input `r`: the processor
returns `fused(attn1 + r) - r`. The input is remembered by a hook on the block's first norm. Source:
GLIGEN, Li et al. 2023, arXiv:2301.07093, eq. 7 and 8; weights are held in diffusers' own class.
"""

from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from typing import cast

import torch
from diffusers.models.attention import GatedSelfAttentionDense
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn
from typing_extensions import override

from unicond.adapters.around import Around
from unicond.adapters.places import Places
from unicond.adapters.processor import Processor
from unicond.adapters.recompute import Hooked


def fuse(fuser: GatedSelfAttentionDense, x: Tensor, tokens: Tensor, scale: float = 1.0) -> Tensor:
    """Let the picture look at tokens.

    Parity: diffusers `GatedSelfAttentionDense.forward`, which knows no scale.

    Args:
        fuser: the weights.
        x: (R, picture's tokens, width).
        tokens: (R, T, width of tokens).
        scale: `s`.

    Returns:
        (R, picture's tokens, width).
    """
    picture = x.shape[1]
    heard = fuser.attn(fuser.norm1(torch.cat([x, fuser.linear(tokens)], 1)))[:, :picture]
    gates = (fuser.alpha_attn, fuser.alpha_dense)
    attention, dense = (scale * cast(Tensor, gate).tanh() for gate in gates)
    x = x + attention * heard
    return x + dense * fuser.ff(fuser.norm2(x))


class FuserProcessor(Around, Hooked):
    """Attention that is followed by a fuser; rows that are not grounded stay as they are.

    Args:
        inner: the processor around which it is put.
        norm: the block's first norm, which is handed the block's input.
        fuser: the weights.
        tokens: (S + 1, T, width), of each sample and, last, of nothing.
        places: tells which rows are which sample's.
        scale: weight of the fuser.
    """

    def __init__(
        self,
        inner: Processor,
        norm: nn.Module,
        fuser: GatedSelfAttentionDense,
        tokens: Tensor,
        places: Places,
        scale: float,
    ) -> None:
        super().__init__(inner)
        self._norm = norm
        self._fuser = fuser
        self._tokens = tokens
        self._places = places
        self._scale = scale
        self._input: Tensor | None = None

    @contextmanager
    def hooked(self) -> Generator[None]:
        """Inside the block, this processor and those in it see their block's input."""
        with ExitStack() as stack:
            if isinstance(self._inner, Hooked):
                stack.enter_context(self._inner.hooked())
            stack.enter_context(self.hook())
            yield

    @contextmanager
    def hook(self) -> Generator[None]:
        """Inside the block, this processor alone sees its block's input."""
        hook = self._norm.register_forward_pre_hook(self._remember)
        try:
            yield
        finally:
            hook.remove()
            self._input = None

    def _remember(self, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._input = inputs[0]

    @override
    def changed(self, attn: Attention, picture: Tensor, out: Tensor) -> Tensor:
        before, self._input = self._input, None
        place = self._places.of(len(out), out.device)
        if place is None:
            return out
        assert before is not None, "the block's norm runs before its attention"
        before = before[place.rows]
        # computed in the fuser's precision, returned in the network's
        x = (out[place.rows] + before).to(self._tokens.dtype)
        fused = fuse(self._fuser, x, self._tokens[place.samples], self._scale)
        change = fused - before.to(fused.dtype)
        return out.index_copy(0, place.rows, change.to(out.dtype))

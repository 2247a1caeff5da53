"""Values from which grounding adapters learn quickly: what they add first is little, and no noise.

GLIGEN's and InteractDiffusion's fusers are published with shut gates in front of random values: a
gate can learn next to nothing from them, and they nothing behind it. Here gates begin open, and the
last matrices behind them 0, so that a fresh fuser changes nothing either, and learns at once.

MIGC has no gate. Here its own attentions begin by adding nothing, and its balance of phases by

    softmax weight of a phase ~ e^5 where its region is, ~ 1 elsewhere and for the layout's phase

so that each region hears its phrase, and all else the prompt: a picture of regions, as without any
training. With random values it begins by averaging all phases everywhere.
"""

from typing import cast

import torch
from diffusers.models.attention import GatedSelfAttentionDense
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn

from unicond.adapters.grounding.adapter import GroundingAdapter
from unicond.adapters.grounding.balance import CBAM, SAC

GATE = 1.0
"""Of a fuser, before its tanh."""
CARRIED = 6.4
"""Of both convolutions of a balance: e^5 to 1, taken with its gates (1/4 and, open, 1/2)."""
OPEN = 2.0
"""Of a balance's gate of phases, open and shut; it counts twice."""


@torch.no_grad()
def begin(adapter: GroundingAdapter) -> GroundingAdapter:
    """Give a fresh adapter these values, in place.

    Args:
        adapter: of any method.

    Returns:
        The same one.
    """
    for _, part in adapter.parts():
        if isinstance(part, GatedSelfAttentionDense):
            _last(part.attn).weight.zero_()
            cast(nn.Linear, part.ff.net[-1]).weight.zero_()
            for gate in (part.alpha_attn, part.alpha_dense):
                cast(Tensor, gate).fill_(GATE)
        else:
            for attention in (part.ea, part.la):
                _last(attention).weight.zero_()
            _balance(part.sac)
    return adapter


def _last(attention: Attention) -> nn.Linear:
    """The matrix behind an attention; its bias begins at 0 anyway."""
    return cast(nn.Linear, cast(nn.ModuleList, attention.to_out)[0])


def _balance(sac: SAC) -> None:
    """The first channel carries where a phase is to its map; gates are the same everywhere."""
    of_channels, of_phases = _level(sac.cbam1), _level(sac.cbam2)
    of_channels.zero_()
    of_phases.fill_(OPEN)
    of_phases[-1] = -OPEN  # the layout's
    sac.conv1.weight[0] = 0.0
    sac.conv1.weight[0, -1] = CARRIED
    sac.conv2.weight[0, 0] = CARRIED


def _level(gates: CBAM) -> Tensor:
    """Make gates the same for every picture and place; what they are then, one a channel."""
    last = cast(nn.Linear, gates.ChannelGate.mlp[-1])
    last.weight.zero_()
    gates.SpatialGate.spatial.conv.weight.zero_()
    return last.bias

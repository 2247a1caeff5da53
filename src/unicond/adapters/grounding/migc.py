"""MIGC: what each instance's phrase makes of the picture, balanced place by place.

For the image tokens h of a cross-attention layer and the phrases k of the instances,

    ca_k   = CrossAttn(h, words_k)                         the layer's own
    ea_k   = m_k EA(norm h, [phrase_k; MLP(waves(box_k))])  enhancement
    inst_k = m_k ca_k + ea_k
    la     = LA(h), each token looks at tokens that share a region with it
    out    = sum_k softmax_k(SAC([m_bg ca_global, inst_1, ..., inst_n, la]))_k x_k

SAC gives every phase a map by a convolution, a gate of channels and places (CBAM, arXiv:1807.06521)
and another convolution; a second gate sees the maps of all phases at once, in shuffled slots.
Source: Zhou et al. 2024, arXiv:2402.05408. Parity: the names of the weights are the published
file's.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn
from typing_extensions import override

from unicond.adapters.grounding.balance import SAC
from unicond.adapters.grounding.boxes import POSITION, Regions, waves
from unicond.adapters.grounding.config import GroundingConfig
from unicond.adapters.grounding.position import mlp


class BoxPosition(nn.Module):
    """Tokens of boxes.

    Args:
        config: widths.
    """

    def __init__(self, config: GroundingConfig) -> None:
        super().__init__()
        self.linears_position = mlp((POSITION, config.hidden, config.text))

    @override
    def forward(self, boxes: Tensor) -> Tensor:
        """(B, N, 4), (x1, y1, x2, y2), to (B, N, text)."""
        # Parity: the published net reads (x1, x2, y1, y2)
        weight = next(self.parameters())
        return self.linears_position(waves(boxes[..., [0, 2, 1, 3]]).to(weight.dtype))


@dataclass(frozen=True)
class Wanted:
    """The instances of some rows.

    Args:
        phrases: (B, N, text).
        boxes: (B, N, 4).
        masks: (B, N), 1 where there is an instance.
        regions: where they are, on some grid.
        ca_scale: (B, N); see `inputs.Instances`.
        ea_scale: likewise.
        sac_scale: likewise.
    """

    phrases: Tensor
    boxes: Tensor
    masks: Tensor
    regions: Regions
    ca_scale: Tensor | None = None
    ea_scale: Tensor | None = None
    sac_scale: Tensor | None = None


class MIGC(nn.Module):
    """What one cross-attention layer gets.

    Args:
        config: widths and slots.
        width: C, of the layer's tokens.
        heads: of its attention.
    """

    def __init__(self, config: GroundingConfig, width: int, heads: int) -> None:
        super().__init__()
        head = width // heads
        self.ea = Attention(width, config.text, heads=heads, dim_head=head)
        self.la = Attention(width, heads=heads, dim_head=head)
        self.norm = nn.LayerNorm(width)
        self.sac = SAC(width, config.slots)
        self.pos_net = BoxPosition(config)
        self.slots = config.slots

    def enhanced(self, picture: Tensor, phrases: Tensor, boxes: Tensor) -> Tensor:
        """What the picture hears of phrases and their boxes, everywhere.

        Args:
            picture: (B, HW, C) tokens.
            phrases: (B, N, text).
            boxes: (B, N, 4).

        Returns:
            (B, N, HW, C).
        """
        context = torch.stack([phrases, self.pos_net(boxes)], 2)
        count = phrases.shape[1]
        tokens = self.norm(picture).repeat_interleave(count, 0)
        return self.ea(tokens, context.flatten(0, 1)).unflatten(0, (-1, count))

    def layout(self, picture: Tensor, regions: Regions) -> Tensor:
        """(B, HW, C): each token looks at those that share a region, or the background, with it."""
        places = torch.cat([regions.instances, regions.background], 1).flatten(2) > 0
        seen = places.mT.to(picture.dtype) @ places.to(picture.dtype) > 0
        bias = torch.zeros_like(seen, dtype=picture.dtype)
        return self.la(picture, attention_mask=bias.masked_fill(~seen, torch.finfo(bias.dtype).min))

    @override
    def forward(self, heard: Tensor, picture: Tensor, wanted: Wanted, order: Tensor) -> Tensor:
        """Put the instances into the picture.

        Args:
            heard: (B, N + 1, HW, C), by the layer's own attention, of the prompt and the phrases.
            picture: (B, HW, C) tokens.
            wanted: the instances, on the layer's grid.
            order: (B, slots), of the last gate.

        Returns:
            (B, HW, C), in the place of what is heard of the prompt alone.
        """
        regions, grid = wanted.regions, wanted.regions.background.shape[-2:]
        masks = regions.instances.flatten(2)[..., None]
        of_words = heard[:, 1:] * masks
        of_boxes = self.enhanced(picture, wanted.phrases, wanted.boxes) * masks
        if wanted.ca_scale is not None:
            of_words = of_words * wanted.ca_scale[:, :, None, None]
        if wanted.ea_scale is not None:
            of_boxes = of_boxes * wanted.ea_scale[:, :, None, None]
        empty = regions.background.flatten(2)[..., None]
        layout = self.layout(picture, regions)[:, None]
        phases = torch.cat([heard[:, :1] * empty, of_words + of_boxes, layout], 1)
        guidance = torch.cat(
            [regions.background, regions.instances, torch.ones_like(regions.background)], 1
        )
        maps = self.sac(phases.mT.unflatten(-1, grid), guidance, order, wanted.sac_scale)
        there = F.pad(wanted.masks > 0, (1, 1), value=True)
        maps = maps.masked_fill(~there[:, :, None, None], -torch.inf)
        return (maps.softmax(1).flatten(2)[..., None] * phases).sum(1)

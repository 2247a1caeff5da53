"""MIGC: what each instance's phrase makes of the picture, balanced place by place.

For the image tokens h of a cross-attention layer and the phrases k of the instances,

    ca_k   = CrossAttn(h, words_k)                         the layer's own
    ea_k   = m_k EA(norm h, [phrase_k; MLP(waves(box_k))])  enhancement
    inst_k = m_k ca_k + ea_k
    la     = LA(h), each token looks at tokens that share a region with it
    out    = sum_k softmax_k(SAC([m_bg ca_global, inst_1, ..., inst_n, la]))_k x_k

SAC gives every phase a map by a convolution, a gate of channels and places (CBAM, arXiv:1807.06521)
and another convolution; a second gate sees the maps of all phases at once, in shuffled slots.
Samples may have different numbers of instances: each is computed once, what is not there never.
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

    @property
    def there(self) -> tuple[Tensor, Tensor]:
        """(P,) and (P,): sample and number of each instance."""
        sample, number = (self.masks > 0).nonzero().unbind(1)
        return sample, number


def heard(attn: Attention, picture: Tensor, context: Tensor, sample: Tensor) -> Tensor:
    """What a picture's tokens hear of texts, each by itself, with queries made once a picture.

    Args:
        attn: a cross-attention layer.
        picture: (B, HW, C) tokens.
        context: (P, words, text).
        sample: (P,), whose tokens hear it.

    Returns:
        (P, HW, C).
    """
    assert attn.to_k is not None
    assert attn.to_v is not None
    assert attn.to_out is not None

    def heads(tokens: Tensor) -> Tensor:
        return tokens.unflatten(-1, (attn.heads, -1)).transpose(1, 2)

    asked = heads(attn.to_q(picture))[sample]
    known, told = heads(attn.to_k(context)), heads(attn.to_v(context))
    found = F.scaled_dot_product_attention(asked, known, told)
    return attn.to_out[0](found.transpose(1, 2).flatten(2))


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

    def enhanced(self, picture: Tensor, wanted: Wanted) -> Tensor:
        """What the picture hears of phrases and their boxes, everywhere.

        Args:
            picture: (B, HW, C) tokens.
            wanted: the instances.

        Returns:
            (P, HW, C), of each that is there.
        """
        context = torch.stack([wanted.phrases, self.pos_net(wanted.boxes)], 2)
        there = wanted.there
        return heard(self.ea, self.norm(picture), context[there], there[0])

    def layout(self, picture: Tensor, regions: Regions) -> Tensor:
        """(B, HW, C): each token looks at those that share a region, or the background, with it."""
        places = torch.cat([regions.instances, regions.background], 1).flatten(2) > 0
        seen = places.mT.to(picture.dtype) @ places.to(picture.dtype) > 0
        bias = torch.zeros_like(seen, dtype=picture.dtype)
        return self.la(picture, attention_mask=bias.masked_fill(~seen, torch.finfo(bias.dtype).min))

    @override
    def forward(
        self, prompt: Tensor, phrases: Tensor, picture: Tensor, wanted: Wanted, order: Tensor
    ) -> Tensor:
        """Put the instances into the picture.

        Args:
            prompt: (B, HW, C), what the layer's own attention hears of the prompt.
            phrases: (P, HW, C), likewise of the phrase of each instance that is there.
            picture: (B, HW, C) tokens.
            wanted: the instances, on the layer's grid.
            order: (B, slots), of the last gate.

        Returns:
            (B, HW, C), in the place of what is heard of the prompt alone.
        """
        regions, grid, there = wanted.regions, wanted.regions.background.shape[-2:], wanted.there
        masks = regions.instances[there]
        places = masks.flatten(1)[..., None]
        of_words, of_boxes = phrases * places, self.enhanced(picture, wanted) * places
        if wanted.ca_scale is not None:
            of_words = of_words * wanted.ca_scale[there][:, None, None]
        if wanted.ea_scale is not None:
            of_boxes = of_boxes * wanted.ea_scale[there][:, None, None]
        background = regions.background[:, 0]
        phases = (
            prompt * background.flatten(1)[..., None],
            of_words + of_boxes,
            self.layout(picture, regions),
        )
        guidance = torch.cat([background, masks, torch.ones_like(background)])
        rows = torch.cat(phases).mT.unflatten(-1, grid)
        maps = self.sac(rows, guidance, there, order, wanted.sac_scale)
        shown = F.pad(wanted.masks > 0, (1, order.shape[1] - wanted.masks.shape[1] + 1))
        shown[:, [0, -1]] = True
        maps = maps.masked_fill(~shown[:, :, None, None], -torch.inf).softmax(1)
        first, things, last = (
            part.flatten(1)[..., None] for part in (maps[:, 0], maps[:, 1:-1][there], maps[:, -1])
        )
        out = first * phases[0] + last * phases[2]
        return out.index_add(0, there[0], things * phases[1])

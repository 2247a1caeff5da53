"""Cross-attention that looks at pictures, too, through the processor of attn2.

    out = inner(h, words) + s W_o Attn(W_q h, k, v)

with keys k and values v of the pictures' tokens: since W_o is linear, this is W_o of the sum of
both attentions. Rows that have no part in it keep their bits.
"""

import torch
from diffusers.models.attention_processor import Attention
from torch import Tensor
from typing_extensions import override

from unicond.adapters.around import Around
from unicond.adapters.network import layers_of
from unicond.adapters.places import Places
from unicond.adapters.processor import Processor
from unicond.adapters.views import Everything


class ImagePromptProcessor(Around):
    """Attention to words and, apart from it, to pictures.

    Queries are the layer's own, of a user's LoRA too; a y-LoRA acts on the words alone. Controls
    see the attention to words.

    Args:
        inner: the processor around which it is put.
        k: (S + 1, tokens, width), keys of each sample's pictures and, last, of none.
        v: values, likewise.
        places: tells which rows are which sample's.
        scale: weight of the attention to pictures.
    """

    def __init__(
        self, inner: Processor, k: Tensor, v: Tensor, places: Places, scale: float
    ) -> None:
        super().__init__(inner)
        self._k = k
        self._v = v
        self._places = places
        self._scale = scale

    @override
    def changed(self, attn: Attention, picture: Tensor, out: Tensor) -> Tensor:
        place = self._places.of(len(out), out.device)
        if place is None:
            return out
        layer, seen = layers_of(attn), Everything()
        q = layer.q(picture[place.rows])
        k, v = (values[place.samples].to(q.dtype) for values in (self._k, self._v))
        heard = seen.attend(attn, q, seen.keys(attn, k, v, None))
        shift = layer.out(torch.zeros_like(heard[:1, :1]))  # the bias is in `out` already
        change = self._scale * layer.dropout(layer.out(heard) - shift)
        return out.index_add(0, place.rows, change.to(out.dtype))

"""Cross-attention that puts instances where their boxes are, through the processor of attn2.

In the layers that carry MIGC it acts for the first steps. Where a naive window is given, every
cross-attention layer without MIGC, and those with it outside of its window, averages instead:

    out = (ca_global + sum_k 10 m_k ca_k) / (1 + sum_k 10 m_k + 1e-6)

Rows that are not grounded keep their bits.
"""

import torch
from diffusers.models.attention_processor import Attention
from torch import Tensor
from typing_extensions import override

from unicond.adapters.around import Around
from unicond.adapters.grounding.boxes import Regions
from unicond.adapters.grounding.inputs import Instances
from unicond.adapters.grounding.migc import MIGC, Wanted, heard
from unicond.adapters.places import Place, Places
from unicond.adapters.processor import Processor
from unicond.adapters.views import grid_of
from unicond.sampling.state import current_move

_NAIVE = 10.0
"""Weight of an instance against the prompt, where the picture is averaged."""


def averaged(prompt: Tensor, phrases: Tensor, wanted: Wanted) -> Tensor:
    """What is heard of the prompt and the phrases, averaged by the instances' regions.

    Args:
        prompt: (B, HW, C), what is heard of it.
        phrases: (P, HW, C), likewise of each instance that is there.
        wanted: the instances, on the layer's grid.

    Returns:
        (B, HW, C).
    """
    weights = _NAIVE * wanted.regions.instances.flatten(2)[..., None]
    there = wanted.there
    total = prompt.index_add(0, there[0], weights[there] * phrases)
    return total / (1 + weights.sum(1) + 1e-6)


class Table:
    """The instances of a run: each sample's, and what is taken of them for the rows of a layer.

    Args:
        inputs: on the network's device.
    """

    def __init__(self, inputs: Instances) -> None:
        self._inputs = inputs
        boxes, masks = (value.float().cpu() for value in (inputs.boxes, inputs.masks))
        regions = Regions.of(boxes, masks, inputs.size, inputs.latents)
        self._regions = regions.to(inputs.boxes.device)

    def words(self, samples: Tensor) -> Tensor:
        """(R, N, words, width) of some samples."""
        return self._inputs.words[samples]

    def order(self, samples: Tensor, layer: int, slots: int) -> Tensor:
        """(R, slots): the shuffle of each sample in a layer of the present step."""
        move = current_move()
        step = 0 if move is None else move.number
        drawn = [self._inputs.shuffle(one, step, layer, slots) for one in samples.tolist()]
        return torch.stack(drawn).to(samples.device)

    def wanted(self, samples: Tensor, tokens: int, dtype: torch.dtype) -> Wanted:
        """The instances of some samples, on the grid of a layer.

        Args:
            samples: (R,).
            tokens: of the layer.
            dtype: to compute in.

        Returns:
            The instances.

        Raises:
            ValueError: the layer's tokens are no picture of the latents.
        """
        given = self._inputs
        try:
            grid = grid_of(given.latents, tokens)
        except ValueError as error:
            raise ValueError(
                f"instances are given for latents of {given.latents}, but a layer has {tokens} "
                "tokens, which is no halving of them: give `latents` as the run has them"
            ) from error
        regions = self._regions.take(samples).at(grid)
        scales = (given.ca_scale, given.ea_scale, given.sac_scale)
        return Wanted(
            given.phrases[samples].to(dtype),
            given.boxes[samples],
            given.masks[samples],
            Regions(regions.instances.to(dtype), regions.background.to(dtype)),
            *(None if scale is None else scale[samples].to(dtype) for scale in scales),
        )


class InstanceProcessor(Around):
    """Cross-attention with MIGC or its naive stand-in.

    Args:
        inner: the processor around which it is put.
        table: the instances.
        migc: the weights of this layer, and its number among those that have some.
        places: tells in which rows, and when, MIGC acts.
        naive: the same of the average.
    """

    def __init__(
        self,
        inner: Processor,
        table: Table,
        migc: tuple[MIGC, int] | None,
        places: Places,
        naive: Places | None,
    ) -> None:
        super().__init__(inner)
        self._table = table
        self._migc = migc
        self._places = places
        self._naive = naive

    @override
    def changed(self, attn: Attention, picture: Tensor, out: Tensor) -> Tensor:
        found = self._act(attn, picture, out)
        if found is None:
            return out
        place, changed = found
        return out.index_copy(0, place.rows, changed.to(out.dtype))

    def _act(self, attn: Attention, picture: Tensor, out: Tensor) -> tuple[Place, Tensor] | None:
        """The rows that change, and what they change to."""
        if self._migc is not None and (place := self._places.of(len(out), out.device)):
            module, layer = self._migc
            dtype = module.norm.weight.dtype
            wanted = self._table.wanted(place.samples, out.shape[1], dtype)
            order = self._table.order(place.samples, layer, module.slots)
            mine, prompt = picture[place.rows], out[place.rows]
            phrases = self._heard(attn, mine, place, wanted).to(dtype)
            return place, module(prompt.to(dtype), phrases, mine.to(dtype), wanted, order)
        if self._naive is not None and (place := self._naive.of(len(out), out.device)):
            wanted = self._table.wanted(place.samples, out.shape[1], out.dtype)
            phrases = self._heard(attn, picture[place.rows], place, wanted)
            return place, averaged(out[place.rows], phrases, wanted)
        return None

    def _heard(self, attn: Attention, picture: Tensor, place: Place, wanted: Wanted) -> Tensor:
        """(P, HW, C): of the phrase of each instance that is there."""
        words = self._table.words(place.samples)[wanted.there]
        return heard(attn, picture, words.to(picture.dtype), wanted.there[0])

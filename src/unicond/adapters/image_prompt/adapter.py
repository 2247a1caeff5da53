"""An image prompt adapter: the weights that let one network look at pictures beside its words.

IP-Adapter makes tokens of a picture's embedding e and gives every cross-attention layer a second
pair of projections, for them alone:

    c = LayerNorm(W e + b), reshaped to (tokens, width)
    out = W_o (Attn(q, W_k text, W_v text) + s Attn(q, W_k' c, W_v' c)) + b_o

Its parameters have the names of the published files:

    image_proj.{proj,norm}.*           from an embedding to tokens
    ip_adapter.<n>.to_{k,v}_ip.weight  n = 1, 3, 5, ...: of the cross-attention layers in the
                                       network's order (down, up, middle)

It holds none of the network's weights, and is put into one by `image_prompt.attach.Attachment`.
Source: Ye et al. 2023, arXiv:2308.06721.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

import torch
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn
from typing_extensions import override

from unicond.adapters.image_prompt import published
from unicond.adapters.image_prompt.config import ImagePromptConfig
from unicond.adapters.module import AdapterModule
from unicond.adapters.network import attention_layers, attention_shapes, is_joint, layers_of


class ImageProjection(nn.Module):
    """From a picture's embedding to tokens.

    Parity: diffusers `ImageProjection`, whose `image_embeds` is `proj` in published files.

    Args:
        config: widths.
    """

    def __init__(self, config: ImagePromptConfig) -> None:
        super().__init__()
        self.proj = nn.Linear(config.embedding, config.tokens * config.width)
        self.norm = nn.LayerNorm(config.width)

    @override
    def forward(self, embeds: Tensor) -> Tensor:
        """Embeddings (..., embedding) to tokens (..., tokens, width)."""
        width = self.norm.normalized_shape[0]
        return self.norm(self.proj(embeds).unflatten(-1, (-1, width)))


class LayerProjections(nn.Module):
    """What one cross-attention layer makes of the tokens: keys and values.

    Args:
        width: of the tokens.
        inner: of keys and values, all heads together.
    """

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.to_k_ip = nn.Linear(width, inner, bias=False)
        self.to_v_ip = nn.Linear(width, inner, bias=False)


class ImagePromptAdapter(AdapterModule[ImagePromptConfig]):
    """All weights of one adapter, as a module: train it, move it, cast it, save it as any other.

    Args:
        config: widths.
        inner: width of keys and values of each cross-attention layer, in the network's order.
    """

    def __init__(self, config: ImagePromptConfig, inner: Sequence[int]) -> None:
        super().__init__(config)
        self.inner = tuple(inner)
        self.image_proj = ImageProjection(config)
        self.ip_adapter = nn.ModuleDict(
            {str(2 * n + 1): LayerProjections(config.width, one) for n, one in enumerate(inner)}
        )

    @classmethod
    def for_network(
        cls,
        network: nn.Module,
        embedding: int,
        *,
        tokens: int = 4,
        base: str = "unknown",
        generator: torch.Generator | None = None,
    ) -> "ImagePromptAdapter":
        """A fresh adapter for a network, on its device, float32.

        Keys and values begin as the network's own for words (section 3.2.2 of the source), so that
        a fresh adapter is not neutral: it hears random words.

        Args:
            network: a diffusers U-Net whose blocks use `Attention` modules.
            embedding: width of a picture's embedding.
            tokens: that a picture becomes.
            base: the network's name.
            generator: on the CPU; the same one gives the same adapter on every device. None is
                seed 0.

        Returns:
            The adapter.

        Raises:
            ValueError: the network has no cross-attention, or words of several widths.
        """
        layers = cross_layers(network)
        shapes = attention_shapes(network)
        widths = {shapes[name].context for name in layers}
        if len(widths) != 1:
            what = f"words of widths {sorted(widths)}" if widths else "no cross-attention"
            raise ValueError(f"{type(network).__name__} has {what}; a picture's tokens need one")
        config = ImagePromptConfig(
            embedding=embedding, width=widths.pop(), tokens=tokens, base=base
        )
        with torch.device("meta"):
            adapter = cls(config, [shapes[name].inner for name in layers])
        adapter.to_empty(device="cpu")
        with torch.no_grad():
            proj = adapter.image_proj.proj
            gain = 1 / math.sqrt(embedding)
            proj.weight.normal_(0.0, gain, generator=generator or torch.Generator().manual_seed(0))
            proj.bias.zero_()
            adapter.image_proj.norm.reset_parameters()
            for mine, layer in zip(adapter.layers(), layers.values(), strict=True):
                own = layers_of(layer)
                mine.to_k_ip.weight.copy_(own.k.weight)
                mine.to_v_ip.weight.copy_(own.v.weight)
        return adapter.to(next(network.parameters()).device)

    @classmethod
    @override
    def fitting(cls, config: ImagePromptConfig, values: Mapping[str, Tensor], source: str) -> Self:
        return cls(config, published.inner_widths(values, source))

    def layers(self) -> Iterator[LayerProjections]:
        """This adapter's part in each cross-attention layer, in the network's order."""
        for part in self.ip_adapter.values():
            assert isinstance(part, LayerProjections)
            yield part

    def tokens(self, embeds: Tensor) -> Tensor:
        """What the network looks at.

        Args:
            embeds: (S, n, embedding), of n pictures for each of S samples.

        Returns:
            (S + 1, n * tokens, width): of every sample's pictures, one after the other, and, last,
            of the embedding 0, which rows without pictures get.

        Raises:
            ValueError: the embeddings are of another shape or width.
        """
        if embeds.ndim != 3 or 0 in embeds.shape or embeds.shape[-1] != self.config.embedding:
            raise ValueError(
                f"embeddings have shape {tuple(embeds.shape)}; give (samples, pictures, "
                f"{self.config.embedding}), from the image encoder that the adapter was made for"
            )
        embeds = embeds.to(self.image_proj.proj.weight)
        return self.image_proj(torch.cat([embeds, torch.zeros_like(embeds[:1])])).flatten(1, 2)

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        subfolder: str | None = None,
        dtype: torch.dtype = torch.float32,
        revision: str | None = None,
    ) -> "ImagePromptAdapter":
        """Load an adapter in this package's layout, or a published file (see `published`).

        Args:
            source: a folder, a file, or the id of a Hub repository.
            subfolder: inside of it, or a file in a repository.
            dtype: of the parameters.
            revision: of the repository.

        Returns:
            The adapter, on the CPU, for inference: its weights need no gradient.

        Raises:
            FileNotFoundError: there is no such folder, file or repository.
            ValueError: the files are damaged, incomplete, of wrong shapes, of another kind of
                IP-Adapter, or would run code.
        """
        config, values = published.read(source, subfolder, revision)
        name = str(source) if subfolder is None else f"{source}/{subfolder}"
        adapter = cls.from_tensors(config, {key: v.to(dtype) for key, v in values.items()}, name)
        return adapter.requires_grad_(False).eval()


def cross_layers(network: nn.Module) -> Mapping[str, Attention]:
    """{name: layer} of every `attn2` of a network, in the order in which published files count."""
    return {name: layer for name, layer in attention_layers(network).items() if not is_joint(name)}

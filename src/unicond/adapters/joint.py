"""A joint adapter: the weights that let one network draw an image and its condition together.

UniCon (arXiv:2410.11439) adds to every self-attention layer a joint cross attention between the
rows of an image x and those of its condition y. With the layer's own frozen weights `W`,

    W^xy = W + B^xy A^xy    on everything computed from x,
    W^yx = W + B^yx A^yx    on everything computed from y,      W in (W_q, W_k, W_v, W_o),

and a projection `ProjOut`, zero at the start, on the result. The condition's own attention may
carry one more LoRA, `y`, which may go on beyond attention (`maps`). The adapter holds only these
added weights, no copies of the network's, and is put into a network by
`unicond.adapters.attach.attached`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Self

import torch
from torch import Tensor, nn
from typing_extensions import override

from unicond.adapters import hub, tensors
from unicond.adapters.config import JointConfig
from unicond.adapters.maps import MapLora, MapShape, map_shapes
from unicond.adapters.module import AdapterModule
from unicond.adapters.network import (
    AttentionShape,
    attention_shapes,
    is_joint,
    plant,
    prompt_width,
)
from unicond.adapters.parts import LayerParts


class JointAdapter(AdapterModule[JointConfig]):
    """All weights of one adapter, as a module: train it, move it, cast it, save it as any other.

    A parameter is named by the layer that it acts on, for example
    `down_blocks.0.attentions.0.transformer_blocks.0.attn1.joint.xy.to_q.A`; the order is by name.

    Args:
        config: what the weights do not say.
        shapes: {layer name: widths}; those of the network, or some of them.
        generator: for the start values; None is torch's default generator.
        maps: {layer name: widths} of layers outside of attention that y-LoRA acts on, too.
    """

    GIVEN: ClassVar[str] = "its rank and layer"

    def __init__(
        self,
        config: JointConfig,
        shapes: Mapping[str, AttentionShape],
        generator: torch.Generator | None = None,
        maps: Mapping[str, MapShape] | None = None,
    ) -> None:
        super().__init__(config)
        self.shapes = {
            name: shapes[name] for name in sorted(shapes) if is_joint(name) or config.y_rank
        }
        for name, shape in self.shapes.items():
            plant(self, name, LayerParts(shape, config, is_joint(name), generator))
        self.map_shapes = dict(sorted((maps or {}).items())) if config.y_conv_rank else {}
        for name, shape in self.map_shapes.items():
            plant(self, f"{name}.y", MapLora(shape, config.y_conv_rank, generator))

    @classmethod
    def for_network(
        cls, network: nn.Module, config: JointConfig, generator: torch.Generator | None = None
    ) -> "JointAdapter":
        """A fresh adapter for every attention layer of a network, on its device, float32.

        It changes nothing yet: B and ProjOut are zero.

        Args:
            network: any diffusers network whose blocks use `Attention` modules.
            config: ranks, branches and the rest; `text` is the network's own.
            generator: on the CPU; the same one gives the same adapter on every device.

        Returns:
            The adapter.

        Raises:
            ValueError: the network has no self-attention layers.
        """
        shapes = attention_shapes(network)
        if not any(is_joint(name) for name in shapes):
            raise ValueError(
                f"{type(network).__name__} has no diffusers `Attention` named attn1, so that no "
                "joint attention can be added"
            )
        device = next(network.parameters()).device
        config = replace(config, text=prompt_width(shapes))
        with torch.device("meta" if device.type == "meta" else "cpu"):
            adapter = cls(config, shapes, generator, map_shapes(network))
        return adapter.to(device)

    @classmethod
    @override
    def fitting(cls, config: JointConfig, values: Mapping[str, Tensor], source: str) -> Self:
        shapes = tensors.implied_shapes(values, source)
        return cls(config, shapes, maps=tensors.implied_maps(values, source))

    def layers(self) -> Iterator[tuple[str, LayerParts]]:
        """Pairs of layer name and this adapter's part in it."""
        for name in self.shapes:
            parts = self.get_submodule(name)
            assert isinstance(parts, LayerParts)
            yield name, parts

    def maps(self) -> Iterator[tuple[str, MapLora]]:
        """Pairs of layer name and this adapter's part in it, outside of attention."""
        for name in self.map_shapes:
            part = self.get_submodule(f"{name}.y")
            assert isinstance(part, MapLora)
            yield name, part

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        subfolder: str | None = None,
        kind: str | None = None,
        y: str | None = None,
        trigger: str | None = None,
        dtype: torch.dtype = torch.float32,
        revision: str | None = None,
    ) -> "JointAdapter":
        """Load an adapter in this package's layout or in that of the authors' released checkpoints.

        Args:
            source: a folder or, where there is none of that name, the id of a Hub repository.
            subfolder: inside of it.
            kind: what the condition shows; needed for a released folder whose name does not tell,
                where it gives y and trigger too.
            y: another name for the condition branch.
            trigger: other words in front of the condition's prompt.
            dtype: of the parameters.
            revision: of the repository.

        Returns:
            The adapter, on the CPU.

        Raises:
            FileNotFoundError: there is no such folder or repository, or a file is missing in it.
            ValueError: the files are damaged, incomplete, of wrong shapes, or would run code.
        """
        config, values = hub.read(source, subfolder, revision, kind)
        config = replace(
            config,
            kind=config.kind if kind is None else kind,
            y=config.y if y is None else y,
            trigger=config.trigger if trigger is None else trigger,
        )
        name = str(source) if subfolder is None else f"{source}/{subfolder}"
        values = {key: value.to(dtype) for key, value in values.items()}
        return cls.from_tensors(config, values, name)

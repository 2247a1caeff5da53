"""A grounding adapter: the weights that tell one network where things are.

Its parameters have the names of the published files in diffusers' layout:

    position_net.*                                     GLIGEN, InteractDiffusion
    <transformer block>.fuser.*                        GLIGEN, InteractDiffusion, in every block
    <transformer block>.attn2.migc.*                   MIGC, in the middle and above it

It holds none of the network's weights, and is put into one by `grounding.attach.Attachment`.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

import torch
from diffusers.models.attention import GatedSelfAttentionDense
from torch import Tensor, nn
from typing_extensions import override

from unicond.adapters.grounding import published
from unicond.adapters.grounding.blocks import blocks_of
from unicond.adapters.grounding.config import GroundingConfig, Method
from unicond.adapters.grounding.inputs import Boxes, Instances, Interactions
from unicond.adapters.grounding.migc import MIGC
from unicond.adapters.grounding.position import BoxNet, InteractionNet, tokens_of
from unicond.adapters.module import AdapterModule
from unicond.adapters.network import plant

Part = GatedSelfAttentionDense | MIGC
Inputs = Boxes | Interactions | Instances

_TAKES: Mapping[Method, type[Inputs]] = {
    "gligen": Boxes,
    "interact": Interactions,
    "migc": Instances,
}
SLOTS: Mapping[Method, int] = {"gligen": 30, "interact": 30, "migc": 28}
"""The most things that published adapters take."""
MIGC_BLOCKS = ("mid_block", "up_blocks.1")
"""Where MIGC acts in Stable Diffusion 1.x: at the two coarsest levels, from the middle upwards."""


class GroundingAdapter(AdapterModule[GroundingConfig]):
    """All weights of one adapter, as a module: train it, move it, cast it, save it as any other.

    Args:
        config: what the weights do not say.
        widths: {transformer block: features of its tokens}.

    Raises:
        ValueError: heads are neither one number nor one for each block, or do not divide a width.
    """

    def __init__(self, config: GroundingConfig, widths: Mapping[str, int]) -> None:
        super().__init__(config)
        self.widths = {name: widths[name] for name in sorted(widths)}
        if len(config.heads) not in (1, len(widths)):
            raise ValueError(f"heads are {config.heads}; give one number, or {len(widths)} of them")
        if config.method != "migc":
            net = BoxNet if config.method == "gligen" else InteractionNet
            self.position_net = net(config)
        for number, (name, width) in enumerate(self.widths.items()):
            heads = config.heads_of(number)
            if width % heads:
                raise ValueError(f"{name} has {width} features, which {heads} heads do not divide")
            plant(self, _path(config, name), _part(config, width, heads))

    @classmethod
    def for_network(
        cls,
        network: nn.Module,
        method: Method,
        *,
        base: str = "unknown",
        text: int | None = None,
        hidden: int = 512,
        slots: int | None = None,
        blocks: Sequence[str] = MIGC_BLOCKS,
        generator: torch.Generator | None = None,
    ) -> "GroundingAdapter":
        """A fresh adapter for a network, on its device, float32.

        A fresh fuser changes nothing: its gates are zero. MIGC has no gate, and does.

        Args:
            network: a diffusers U-Net whose blocks use `Attention` modules.
            method: whose adapter.
            base: the network's name.
            text: width of a phrase's embedding; default that of the network's prompts.
            hidden: width inside of the position net.
            slots: the most things that it takes; default as published.
            blocks: where MIGC acts, as beginnings of names; the others act everywhere.
            generator: on the CPU; the same one gives the same adapter on every device. None is
                seed 0.

        Returns:
            The adapter.

        Raises:
            ValueError: the network has no such blocks.
        """
        shapes = blocks_of(network)
        prompts = max((shape.prompts for shape in shapes.values()), default=0)
        if method == "migc":
            shapes = {name: one for name, one in shapes.items() if _begins(name, blocks)}
        if not shapes or not prompts:
            where = f" in {', '.join(blocks)}" if method == "migc" else ""
            raise ValueError(f"{type(network).__name__} has no transformer blocks{where}")
        config = GroundingConfig(
            method=method,
            text=text or prompts,
            tokens=(text if method == "migc" else None) or prompts,
            hidden=hidden,
            slots=slots or SLOTS[method],
            heads=tuple(shapes[name].heads for name in sorted(shapes)),
            base=base,
        )
        with torch.device("meta"):
            adapter = cls(config, {name: one.width for name, one in shapes.items()})
        _begin(adapter.to_empty(device="cpu"), generator or torch.Generator().manual_seed(0))
        return adapter.to(next(network.parameters()).device)

    @classmethod
    @override
    def fitting(cls, config: GroundingConfig, values: Mapping[str, Tensor], source: str) -> Self:
        return cls(config, published.widths(values, source))

    def parts(self) -> Iterator[tuple[str, Part]]:
        """Pairs of transformer block and this adapter's part in it."""
        for name in self.widths:
            part = self.get_submodule(_path(self.config, name))
            assert isinstance(part, Part)
            yield name, part

    def check(self, inputs: Inputs) -> None:
        """Raise ValueError or TypeError unless these inputs are for this adapter."""
        config = self.config
        wanted = _TAKES[config.method]
        if not isinstance(inputs, wanted):
            raise TypeError(f"{config.method} takes {wanted.__name__}, not {type(inputs).__name__}")
        if inputs.masks.shape[1] > config.slots:
            raise ValueError(
                f"there are {inputs.masks.shape[1]} things in a sample, but this {config.method} "
                f"adapter takes at most {config.slots}"
            )
        for name, width in inputs.widths().items():
            if width != config.text:
                raise ValueError(
                    f"{name} have width {width}, but this {config.method} adapter takes "
                    f"{config.text}: they must come from the text encoder that it was made for"
                )

    def tokens(self, inputs: Boxes | Interactions) -> Tensor:
        """What a fuser lets the picture look at.

        Args:
            inputs: of S samples.

        Returns:
            (S + 1, T, tokens): of every sample and, last, of nothing.
        """
        filled = inputs.filled(self.config.slots).and_nothing()
        return tokens_of(self.position_net, filled)

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        subfolder: str | None = None,
        dtype: torch.dtype = torch.float32,
        revision: str | None = None,
    ) -> "GroundingAdapter":
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
            ValueError: the files are damaged, incomplete, of wrong shapes, or would run code.
        """
        config, values = published.read(source, subfolder, revision)
        name = str(source) if subfolder is None else f"{source}/{subfolder}"
        adapter = cls.from_tensors(config, {key: v.to(dtype) for key, v in values.items()}, name)
        return adapter.requires_grad_(False).eval()


def _begins(name: str, blocks: Sequence[str]) -> bool:
    return any(f"{name}.".startswith(f"{block}.") for block in blocks)


def _path(config: GroundingConfig, block: str) -> str:
    """Where the part in a transformer block lies, in the adapter and in files."""
    return f"{block}.{'attn2.migc' if config.method == 'migc' else 'fuser'}"


def _part(config: GroundingConfig, width: int, heads: int) -> Part:
    if config.method == "migc":
        return MIGC(config, width, heads)
    return GatedSelfAttentionDense(width, config.tokens, heads, width // heads)


@torch.no_grad()
def _begin(adapter: nn.Module, generator: torch.Generator) -> None:
    """Start values: gates and nulls 0, norms 1, matrices of unit gain."""
    for name, value in adapter.named_parameters():
        if value.ndim >= 2:
            value.normal_(0.0, 1 / math.sqrt(value[0].numel()), generator=generator)
        else:
            value.fill_(1.0 if name.endswith("weight") else 0.0)

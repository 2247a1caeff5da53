"""A readout head: a few convolutions that read a map from the features of a frozen network.

    h = sum_l resize(Conv_l(normal(f_l))) + W embed(t),    R = Conv(silu(Conv(silu(h))))

f_l are the outputs of the blocks of the way up for noisy latents of time t, each normalised in
groups, brought to the finest one's size. The network is not changed; the head is trained on its
features of noisy pictures whose maps are known, and read by `mechanisms.guidance.readout`.

Source: Luo et al. 2023, arXiv:2312.02150, section 3.1. Deviates: one convolution a block in the
place of a bottleneck of residual ones.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from unicond.adapters import released, stored, tensors

CONFIG_FILE = "readout_config.json"
MODEL_FILE = "readout_model.safetensors"
_GROUPS = 8
_WAVES = 32


@dataclass(frozen=True, kw_only=True)
class ReadoutConfig(stored.StoredConfig):
    """Everything about a readout head that its weights do not say.

    Args:
        kind: what the map shows: "depth", "edge", "pose", ...
        blocks: channels of the blocks of the way up, in running order.
        channels: of the map.
        width: of the head, a multiple of 8.
        base: the network that it was made for: a Hub id or a name.
        error: mean square of its error on held-out maps in [-1, 1], which the usual scale of
            guidance follows; None where it was not measured.

    Raises:
        ValueError: a field is outside of what is allowed.
    """

    TYPE: ClassVar[str] = "unicond.readout"
    FORMAT: ClassVar[int] = 1
    KIND: ClassVar[str] = "a readout head"
    TUPLES: ClassVar[tuple[str, ...]] = ("blocks",)
    OPTIONAL: ClassVar[tuple[str, ...]] = ("error",)

    kind: str
    blocks: tuple[int, ...]
    channels: int = 3
    width: int = 64
    base: str = "unknown"
    error: float | None = None

    def __post_init__(self) -> None:
        if self.error is not None and not (type(self.error) is float and self.error > 0):
            raise ValueError(f"error is {self.error!r}; give a number above 0, or leave it out")
        numbers = {"channels": (self.channels,), "width": (self.width,), "blocks": self.blocks}
        for name, values in numbers.items():
            if not values or not all(type(value) is int and value >= 1 for value in values):
                raise ValueError(f"{name} is {getattr(self, name)!r}; give integers of at least 1")
        for name, value in (("kind", self.kind), ("base", self.base)):
            if not isinstance(value, str) or not value:  # pyright: ignore[reportUnnecessaryIsInstance] (of a file)
                raise ValueError(f"{name} is {value!r}; it must be a text that is not empty")
        odd = [count for count in (self.width, *self.blocks) if count % _GROUPS]
        if odd:
            raise ValueError(f"width and blocks must be multiples of {_GROUPS}, not {odd}")


class ReadoutHead(nn.Module):
    """The head, as a module: train it, move it, cast it, save it as any other.

    Args:
        config: channels and width.
        generator: for the start values; None is torch's default generator.
    """

    def __init__(self, config: ReadoutConfig, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.normals = nn.ModuleList(
            nn.GroupNorm(_GROUPS, count, affine=False) for count in config.blocks
        )
        self.taken = nn.ModuleList(nn.Conv2d(count, width, 1) for count in config.blocks)
        self.time = nn.Linear(2 * _WAVES, width)
        self.mixed = nn.Conv2d(width, width, 3, padding=1)
        self.out = nn.Conv2d(width, config.channels, 3, padding=1)
        for name, weight in self.named_parameters():
            with torch.no_grad():
                if name.endswith("bias"):
                    weight.zero_()
                else:
                    scale = 1 / math.sqrt(weight[0].numel())
                    weight.normal_(0.0, scale, generator=generator)

    @property
    def channels(self) -> int:
        """Of the maps that it reads."""
        return self.config.channels

    @override
    def forward(self, features: Sequence[Tensor], t: Tensor) -> Tensor:
        """Read the map.

        Args:
            features: outputs of the blocks of the way up, (B, C_l, h_l, w_l), in running order.
            t: (B,), times of the latents in [0, 1].

        Returns:
            (B, channels, h, w), of the finest block's size; the features' gradients lead through.

        Raises:
            ValueError: other blocks than those of the configuration.
        """
        found = tuple(one.shape[1] for one in features)
        if found != self.config.blocks:
            raise ValueError(
                f"this head reads blocks of {self.config.blocks} channels, and the network's have "
                f"{found}; it was made for {self.config.base!r}"
            )
        weight = self.out.weight
        size = max((one.shape[-2:] for one in features), key=math.prod)
        h = self.time(_waves(t.to(weight)))[:, :, None, None]
        for one, normal, taken in zip(features, self.normals, self.taken, strict=True):
            h = h + F.interpolate(taken(normal(one.to(weight))), list(size), mode="bilinear")
        return self.out(F.silu(self.mixed(F.silu(h))))

    def loss(
        self, features: Sequence[Tensor], t: Tensor, wanted: Tensor, mask: Tensor | None = None
    ) -> Tensor:
        """What training makes small: the mean squared error of the reading.

        Args:
            features: as `forward` takes them.
            t: (B,), times of the latents in [0, 1].
            wanted: (B, channels, H, W), the true map; averaged down to the reading's size.
            mask: (B, 1, H, W) in [0, 1], 1 where the map is known; None is everywhere.

        Returns:
            (B,); 0 where a sample's mask is empty.
        """
        read = self(features, t)
        size = (read.shape[-2], read.shape[-1])
        error = (read - F.adaptive_avg_pool2d(wanted.to(read), size)).square().mean(1, keepdim=True)
        if mask is None:
            return error.flatten(1).mean(1)
        known = F.adaptive_avg_pool2d(mask.to(read), size).flatten(1)
        total = known.sum(1)
        return (known * error.flatten(1)).sum(1) / torch.where(total > 0, total, 1.0)

    def save_pretrained(self, folder: str | Path, dtype: torch.dtype | None = None) -> None:
        """Write `readout_config.json` and `readout_model.safetensors` into a folder.

        Args:
            folder: created where missing.
            dtype: of the file, for example `torch.float16`; as they are where None.

        Raises:
            OSError: the files cannot be written (a full disk).
            ValueError: a weight is not finite (in `dtype`).
        """
        weights, config = (MODEL_FILE, self.state_dict()), (CONFIG_FILE, self.config.to_json())
        stored.write(Path(folder), weights, config, {}, dtype)

    @classmethod
    def from_pretrained(
        cls, source: str | Path, dtype: torch.dtype = torch.float32
    ) -> "ReadoutHead":
        """Load a head from a folder.

        Args:
            source: what `save_pretrained` wrote.
            dtype: of the parameters.

        Returns:
            The head, on the CPU, for inference: its weights need no gradient.

        Raises:
            FileNotFoundError: there is no such folder, or a file is missing in it.
            ValueError: the files are damaged, incomplete or of wrong shapes.
        """
        root = Path(source).expanduser()
        if not (root / CONFIG_FILE).is_file():
            raise FileNotFoundError(f"{root} is no readout head: it has no {CONFIG_FILE}")
        text = (root / CONFIG_FILE).read_text(encoding="utf-8")
        config = ReadoutConfig.from_json(text, str(root / CONFIG_FILE))
        values = released.load_tensors(root / MODEL_FILE)
        with torch.device("meta"):
            head = cls(config)
        tensors.check(head.state_dict(), values, str(root), "its configuration")
        head.load_state_dict({name: v.to(dtype) for name, v in values.items()}, assign=True)
        return head.requires_grad_(False).eval()


def channels_of(network: nn.Module) -> tuple[int, ...]:
    """The output channels of the blocks of the way up, as `ReadoutConfig.blocks` wants them.

    Args:
        network: a diffusers U-Net, or one with its names.

    Returns:
        One number a block, in running order.

    Raises:
        ValueError: it has no such blocks.
    """
    blocks = [module for name, module in network.named_modules() if name.endswith("up_blocks")]
    if not blocks:
        raise ValueError(f"{type(network).__name__} has no up_blocks for a readout head to read")
    found = list[int]()
    for block in blocks[0].children():
        # an ordinary LoRA on it keeps the convolution as its base_layer
        last = [
            module
            for name, module in block.named_modules()
            if name.removesuffix(".base_layer").endswith("conv2") and isinstance(module, nn.Conv2d)
        ]
        found.append(last[-1].out_channels)
    return tuple(found)


def _waves(t: Tensor) -> Tensor:
    """(B, 2 waves): sines and cosines of times in [0, 1], of wave lengths 2 down to 1/500."""
    steps = torch.linspace(0, 1, _WAVES, device=t.device, dtype=torch.float32)
    angles = t.float()[:, None] * math.pi * 1000**steps
    return torch.cat([angles.sin(), angles.cos()], 1).to(t)

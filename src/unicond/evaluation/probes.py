"""The probe: one small network that reads everything the world's metrics need from a picture.

A U-Net from the picture (its 2 x 2 pixels as channels) down to an eighth of its size and back to
half, with one dense head whose output is unfolded to full size, a head for keypoints at half
size, and a head for the whole picture. Batch normalisation, so that absolute colours survive. It
is trained on renders only (`unicond train probes`) and is to this world what Depth Anything, HED
and OpenPose are to photographs.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from unicond.world.vocabulary import (
    CLASSES,
    COLOR_NAMES,
    GROUNDS,
    KEYPOINTS,
    PARTS,
    SKIES,
    SKINS,
    STYLES,
)

DENSE = {
    "depth": 1,
    "normals": 3,
    "edges": 1,
    "classes": len(CLASSES),
    "colors": len(COLOR_NAMES),
    "parts": len(PARTS),
    "skins": len(SKINS),
}
"""Channels of the maps at full size."""
POINTS = {"keypoints": len(KEYPOINTS), "offsets": 2}
"""Channels of the maps at half size."""
WHOLE = {"style": len(STYLES), "ground": len(GROUNDS), "sky": len(SKIES)}
"""Classes of what is said of the whole picture."""
CONFIG, WEIGHTS = "config.json", "probe.safetensors"


@dataclass(frozen=True, kw_only=True)
class ProbeConfig:
    """Size of a probe.

    Args:
        widths: channels at a half, a quarter, an eighth and a sixteenth of the picture's size.
        blocks: residual blocks at each size, on the way down.
    """

    widths: tuple[int, ...] = (32, 64, 128, 192)
    blocks: int = 1

    def __post_init__(self) -> None:
        if len(self.widths) < 2 or min(self.widths) < 4 or self.blocks < 1:
            raise ValueError(
                f"a probe needs two or more widths of at least 4 and a block, got {self.widths}, "
                f"{self.blocks}"
            )


@dataclass(frozen=True)
class ProbeMaps:
    """What the probe reads in B pictures of H x W; logits where a choice is meant.

    Args:
        depth: (B, 1, H, W) inverse depth as a picture, [-1, 1], near is 1.
        normals: (B, 3, H, W) as in `world.Rendering`, not normalised.
        edges: (B, 1, H, W) soft edges in [-1, 1].
        classes: (B, 8, H, W) logits over `vocabulary.CLASSES`.
        colors: (B, 11, H, W) logits over `vocabulary.COLOR_NAMES`.
        parts: (B, 8, H, W) logits over `vocabulary.PARTS`.
        skins: (B, 4, H, W) logits over `vocabulary.SKINS`, meant where the part is skin.
        keypoints: (B, 18, H/2, W/2) heatmaps, 1 at a keypoint; logits.
        offsets: (B, 2, H/2, W/2) from a pixel of a person to that person's middle (x, y), as
            shares of the picture's width and height: tells people apart.
        style: (B, 6) logits over `vocabulary.STYLES`.
        ground: (B, 6) logits over `vocabulary.GROUNDS`.
        sky: (B, 4) logits over `vocabulary.SKIES`.
        features: (B, D) for Frechet distances.
    """

    depth: Tensor
    normals: Tensor
    edges: Tensor
    classes: Tensor
    colors: Tensor
    parts: Tensor
    skins: Tensor
    keypoints: Tensor
    offsets: Tensor
    style: Tensor
    ground: Tensor
    sky: Tensor
    features: Tensor


class _Block(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut."""

    def __init__(self, entering: int, leaving: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(entering, leaving, 3, padding=1, bias=False)
        self.norm_first = nn.BatchNorm2d(leaving)
        self.second = nn.Conv2d(leaving, leaving, 3, padding=1, bias=False)
        self.norm_second = nn.BatchNorm2d(leaving)
        self.shortcut = nn.Identity() if entering == leaving else nn.Conv2d(entering, leaving, 1)

    def forward(self, maps: Tensor) -> Tensor:
        inner = functional.relu(self.norm_first(self.first(maps)))
        return functional.relu(self.shortcut(maps) + self.norm_second(self.second(inner)))


class Probe(nn.Module):
    """The network; call it with pictures (B, 3, H, W) in [-1, 1], H and W multiples of 16."""

    def __init__(self, config: ProbeConfig | None = None) -> None:
        super().__init__()
        self.config = config or ProbeConfig()
        widths = self.config.widths
        self.stem = nn.Conv2d(12, widths[0], 3, padding=1)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        before = widths[0]
        for width in widths:
            blocks = [_Block(before if n == 0 else width, width) for n in range(self.config.blocks)]
            self.down.append(nn.Sequential(*blocks))
            before = width
        for width, below in zip(widths[-2::-1], widths[:0:-1], strict=True):
            self.up.append(_Block(width + below, width))
        top = 2 * widths[0]
        self.top = nn.Sequential(nn.Conv2d(widths[0], top, 3, padding=1), nn.ReLU())
        self.dense = nn.Conv2d(top, 4 * sum(DENSE.values()), 1)
        with torch.no_grad():  # the four pixels of a block start alike: no checkerboard to unlearn
            blocks = self.dense.weight.view(-1, 4, top)
            blocks.copy_(blocks[:, :1].clone())
        self.points = nn.Conv2d(top, sum(POINTS.values()), 1)
        self.whole = nn.Linear(widths[-1] + widths[-2], sum(WHOLE.values()))

    def forward(self, pictures: Tensor) -> ProbeMaps:
        """Read pictures.

        Args:
            pictures: (B, 3, H, W) in [-1, 1].

        Returns:
            Everything that can be read.

        Raises:
            ValueError: the size is not a multiple of what the levels need.
        """
        multiple = 2 ** len(self.config.widths)
        if pictures.shape[-1] % multiple or pictures.shape[-2] % multiple:
            raise ValueError(
                f"the probe reads pictures whose sides are multiples of {multiple}, not "
                f"{tuple(pictures.shape[-2:])}"
            )
        maps = self.stem(functional.pixel_unshuffle(pictures, 2))
        levels: list[Tensor] = []
        for number, blocks in enumerate(self.down):
            maps = blocks(maps if number == 0 else functional.avg_pool2d(maps, 2))
            levels.append(maps)
        pooled = [level.mean((2, 3)) for level in levels[-2:]]
        features = torch.cat(pooled, 1)
        for block, side in zip(self.up, levels[-2::-1], strict=True):
            maps = block(torch.cat([functional.interpolate(maps, scale_factor=2.0), side], 1))
        top = self.top(maps)
        dense = functional.pixel_shuffle(self.dense(top), 2)
        parts = dict(zip(DENSE, dense.split(list(DENSE.values()), 1), strict=True))
        points = self.points(top).split(list(POINTS.values()), 1)
        parts |= dict(zip(POINTS, points, strict=True))
        whole = self.whole(features).split(list(WHOLE.values()), 1)
        parts |= dict(zip(WHOLE, whole, strict=True))
        return ProbeMaps(**parts, features=features)

    def save_pretrained(self, folder: Path, dtype: torch.dtype = torch.float16) -> None:
        """Write `config.json` and `probe.safetensors`."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / CONFIG).write_text(json.dumps(asdict(self.config), indent=1))
        tensors = {
            name: value.to(dtype) if value.is_floating_point() else value
            for name, value in self.state_dict().items()
        }
        save_file({name: value.contiguous() for name, value in tensors.items()}, folder / WEIGHTS)

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> "Probe":
        """Load a probe.

        Args:
            folder: that `save_pretrained` wrote.

        Returns:
            The probe, in float32 and evaluation mode.

        Raises:
            ValueError: the folder holds no probe, or a damaged one.
        """
        place = Path(folder)
        try:
            config = json.loads((place / CONFIG).read_text())
            probe = cls(ProbeConfig(widths=tuple(config["widths"]), blocks=config["blocks"]))
            tensors = load_file(place / WEIGHTS)
            probe.load_state_dict(
                {n: v.float() if v.is_floating_point() else v for n, v in tensors.items()}
            )
        except FileNotFoundError as error:
            raise ValueError(
                f"{place} holds no probe ({CONFIG} and {WEIGHTS}); `unicond train probes` makes one"
            ) from error
        except (
            SafetensorError,
            KeyError,
            TypeError,
            RuntimeError,
            OSError,
            json.JSONDecodeError,
        ) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise ValueError(f"the probe in {place} is damaged: {reason}") from error
        return probe.eval()

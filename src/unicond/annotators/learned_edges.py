"""Soft edges by a learned detector: HED in the layout of ControlNet's annotators.

Five blocks of 3 x 3 convolutions, each but the first after halving the picture; features of each
are projected to one channel and brought back to full size, and the sigmoid of their mean is the
edge. How many blocks, layers and channels there are is read off the weights:

    norm (1, 3, 1, 1); block<n>.convs.<k>.{weight, bias}; block<n>.projection.{weight, bias}

Source: Xie & Tu 2015, arXiv:1504.06375. Weights: `ControlNetHED.pth` of `lllyasviel/Annotators`,
loaded as tensors alone.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from unicond.annotators.base import default_device, loaded
from unicond.world.annotate import quantised

FILES = ("model.safetensors", "ControlNetHED.safetensors", "ControlNetHED.pth")
"""Looked for in this order."""


class EdgeNetwork(nn.Module):
    """The network that weights describe.

    Args:
        weights: {name: tensor}.

    Raises:
        ValueError: they are no such network's.
    """

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.norm = nn.Parameter(torch.zeros(1, 3, 1, 1))
        number = 1
        while f"block{number}.convs.0.weight" in weights:
            self.add_module(f"block{number}", _block(weights, f"block{number}."))
            number += 1
        try:
            self.load_state_dict(dict(weights))
        except RuntimeError as error:
            raise ValueError(f"these are no weights of HED: {error}") from error

    def forward(self, pictures: Tensor) -> Tensor:
        """Edges (B, 1, H, W) in (0, 1) of RGB pictures (B, 3, H, W) in [0, 255]."""
        size = (pictures.shape[-2], pictures.shape[-1])
        features, total = pictures - self.norm, pictures.new_zeros(())
        blocks = list(self.children())
        for number, block in enumerate(blocks):
            if number:
                features = functional.max_pool2d(features, 2)
            for layer in block.get_submodule("convs").children():
                features = functional.relu(layer(features))
            side = block.get_submodule("projection")(features)
            total = total + functional.interpolate(side, size, mode="bilinear", align_corners=False)
        return torch.sigmoid(total / len(blocks))


def _block(weights: Mapping[str, Tensor], prefix: str) -> nn.Module:
    """One block's layers in the sizes of their weights."""
    block, layers, outputs = nn.Module(), nn.ModuleList(), 0
    while (weight := weights.get(f"{prefix}convs.{len(layers)}.weight")) is not None:
        outputs, inputs, height, _ = weight.shape
        layers.append(nn.Conv2d(inputs, outputs, height, padding=height // 2))
    block.add_module("convs", layers)
    block.add_module("projection", nn.Conv2d(outputs, 1, 1))
    return block


class LearnedEdges:
    """A learned edge detector.

    Args:
        model: hub id or folder with one of `FILES`, or such a file.
        device: where to run; CUDA where there is one if None.

    Raises:
        ValueError: no detector can be loaded from there.
    """

    kind = "softedge"

    def __init__(self, model: str | Path, device: str | torch.device | None = None) -> None:
        self.name, self.device = f"softedge:{model}", default_device(device)
        weights = loaded(lambda: _weights(model), "soft edges", model)
        self._network = EdgeNetwork(weights).to(self.device).requires_grad_(False).eval()

    @torch.no_grad()
    def __call__(self, pictures: Tensor) -> Tensor:
        """Soft edges of pictures (B, 3, H, W) in [-1, 1], bright on black, in the same range."""
        # one at a time: features of a large photograph take much memory
        parts = pictures.to(self.device).split(1)
        return quantised(torch.cat([self._network((part + 1) * 127.5) for part in parts])).cpu()


def _weights(model: str | Path) -> dict[str, Tensor]:
    """Tensors from a file, a folder or a repository."""
    path = Path(model)
    if path.is_dir():
        found = next((path / name for name in FILES if (path / name).is_file()), None)
        if found is None:
            raise ValueError(f"the folder has none of {', '.join(FILES)}")
        path = found
    elif not path.is_file():
        path = _downloaded(str(model))
    if path.suffix == ".safetensors":
        return load_file(path)
    found = torch.load(path, map_location="cpu", weights_only=True)
    if not (isinstance(found, dict) and all(isinstance(one, Tensor) for one in found.values())):
        raise ValueError(f"{path.name} holds something else than named tensors")
    return found


def _downloaded(repository: str) -> Path:
    for name in FILES:
        try:
            return Path(hf_hub_download(repository, name))
        except EntryNotFoundError:
            continue
    raise ValueError(f"the repository has none of {', '.join(FILES)}")

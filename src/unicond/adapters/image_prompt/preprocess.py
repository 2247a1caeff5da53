"""Pictures as a CLIP image encoder takes them, with the numbers of `preprocessor_config.json`.

    resize the shorter side to `size`, cut the middle `crop` x `crop` out, (v - mean) / std

Resizing is Pillow's, in 8 bits a value, as in the processor that the encoders were trained with:
transformers' own is another one with torchvision installed and without.
Parity: transformers `CLIPImageProcessorPil`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

FILE = "preprocessor_config.json"
_STEPS = ("do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_convert_rgb")


@dataclass(frozen=True, kw_only=True)
class Preprocess:
    """How a picture is prepared; defaults are CLIP's.

    Args:
        size: pixels of the shorter side.
        crop: pixels a side of the middle that is seen; at most `size`.
        mean: of red, green and blue in [0, 1].
        std: likewise.
        resample: Pillow's number of a way to resize; 3 is bicubic.

    Raises:
        ValueError: a field is outside of what is allowed.
    """

    size: int = 224
    crop: int = 224
    mean: tuple[float, ...] = (0.48145466, 0.4578275, 0.40821073)
    std: tuple[float, ...] = (0.26862954, 0.26130258, 0.27577711)
    resample: int = 3

    def __post_init__(self) -> None:
        if not 1 <= self.crop <= self.size:
            raise ValueError(f"size is {self.size} and crop {self.crop}; give 1 <= crop <= size")
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise ValueError(f"mean {self.mean} and std {self.std} must be three each, std > 0")
        if self.resample not in list(Image.Resampling):
            raise ValueError(f"resample is {self.resample}; Pillow knows 0 to 5")

    def __call__(self, picture: Tensor) -> Tensor:
        """Prepare one picture.

        Args:
            picture: (3, H, W) in [-1, 1].

        Returns:
            (3, crop, crop) float32, on the CPU.

        Raises:
            ValueError: it is of another shape.
        """
        if picture.ndim != 3 or len(picture) != 3 or 0 in picture.shape:
            raise ValueError(f"a picture has shape (3, H, W), not {tuple(picture.shape)}")
        values = (picture.detach().float().cpu() + 1) * 127.5
        image = Image.fromarray(values.round().clamp(0, 255).byte().permute(1, 2, 0).numpy())
        short = min(image.size)
        width, height = (int(self.size * side / short) for side in image.size)
        image = image.resize((width, height), Image.Resampling(self.resample))
        left, top = (width - self.crop) // 2, (height - self.crop) // 2
        image = image.crop((left, top, left + self.crop, top + self.crop))
        return self.normalised(torch.from_numpy(np.array(image)).permute(2, 0, 1))

    def normalised(self, pictures: Tensor) -> Tensor:
        """Pictures of the right size already.

        Args:
            pictures: (..., 3, crop, crop) uint8.

        Returns:
            (v - mean) / std of v in [0, 1]: the same shape, float32, on the same device.
        """
        values = pictures.float() / 255
        mean, std = (values.new_tensor(each).view(3, 1, 1) for each in (self.mean, self.std))
        return (values - mean) / std

    def to_json(self) -> str:
        """The content of `preprocessor_config.json`, as transformers writes it."""
        return json.dumps({
            "image_processor_type": "CLIPImageProcessor",
            **dict.fromkeys(_STEPS, True),
            "size": {"shortest_edge": self.size},
            "crop_size": {"height": self.crop, "width": self.crop},
            "resample": self.resample,
            "rescale_factor": 1 / 255,
            "image_mean": list(self.mean),
            "image_std": list(self.std),
        }, indent=2) + "\n"  # fmt: skip

    @classmethod
    def read(cls, folder: Path, side: int) -> "Preprocess":
        """The settings beside an encoder; CLIP's at the encoder's size where there are none.

        Args:
            folder: of the encoder.
            side: pixels a side that the encoder takes.

        Returns:
            The settings.

        Raises:
            ValueError: they are damaged, do something else, or are of another size.
        """
        path = folder / FILE
        if not path.is_file():
            return cls(size=side, crop=side)
        try:
            said: object = json.loads(path.read_text(encoding="utf-8"))
        except json.JSONDecodeError as error:
            raise ValueError(f"{path} is not JSON: {error}") from error
        if not isinstance(said, Mapping):
            raise ValueError(f"{path} holds no settings")
        plain = cls()
        try:
            off = [step for step in _STEPS if said.get(step, True) is not True]
            if abs(float(said.get("rescale_factor", 1 / 255)) * 255 - 1) > 1e-6:
                off.append("rescale_factor")
            found = cls(
                size=_side(said.get("size", side), "shortest_edge"),
                crop=_side(said.get("crop_size", side), "height"),
                mean=tuple(said.get("image_mean", plain.mean)),
                std=tuple(said.get("image_std", plain.std)),
                resample=said.get("resample", plain.resample),
            )
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}: {error}") from error
        if off:
            raise ValueError(f"{path}: {off[0]} is {said[off[0]]!r}; CLIP's preparation is read")
        if found.crop != side:
            raise ValueError(
                f"{path} makes {found.crop} pixels a side, but the encoder takes {side}"
            )
        return found


def _side(said: object, key: str) -> int:
    """One number of pixels: as it is, or under a key, where a height is the width as well."""
    if not isinstance(said, Mapping):
        value = said
    elif key in said and said.get("width", said[key]) == said[key]:
        value = said[key]
    else:
        raise ValueError(f"a size is {dict(said)}; a number is read, or {key}, of squares")
    if type(value) is not int:
        raise ValueError(f"a size is {value!r}; it must be an integer")
    return value

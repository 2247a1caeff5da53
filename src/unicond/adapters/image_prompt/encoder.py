"""The image encoder that an adapter looks through: CLIP's, in a folder `image_encoder/` beside it.

config.json + model.safetensors (transformers' layout) + preprocessor_config.json
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor
from transformers import CLIPVisionModelWithProjection

from unicond.adapters import hub, stored
from unicond.adapters.image_prompt import preprocess
from unicond.adapters.image_prompt.preprocess import Preprocess

FOLDER = "image_encoder"
_CONFIG, _WEIGHTS = "config.json", "model.safetensors"
_FILES = (_CONFIG, _WEIGHTS, preprocess.FILE)


@dataclass(frozen=True)
class ImageEncoder:
    """From pictures to embeddings.

    Args:
        model: CLIP's image tower.
        preprocess: how it wants its pictures.
    """

    model: CLIPVisionModelWithProjection
    preprocess: Preprocess

    @property
    def width(self) -> int:
        """Of an embedding."""
        return self.model.config.projection_dim

    @torch.no_grad()
    def embed(self, pictures: Sequence[Tensor]) -> Tensor:
        """Embeddings of pictures.

        Args:
            pictures: (3, H, W) each, in [-1, 1], of any sizes.

        Returns:
            (n, embedding) float32, on the encoder's device. For one sample with n pictures,
            `Attachment` wants `embed(pictures)[None]`.

        Raises:
            ValueError: there is no picture, or one has another shape.
        """
        if not len(pictures):
            raise ValueError("there is no picture to embed; give at least one")
        prepared = torch.stack([self.preprocess(picture) for picture in pictures])
        weight = next(self.model.parameters())
        return self.model(prepared.to(weight)).image_embeds.float()

    def save_pretrained(self, folder: str | Path, dtype: torch.dtype | None = None) -> None:
        """Write the encoder's files into a folder.

        Args:
            folder: created where missing; each file replaces its older version at once.
            dtype: of the file; as the weights are where None.

        Raises:
            OSError: the files cannot be written (a full disk).
            ValueError: a weight is not finite (in `dtype`).
        """
        weights = (_WEIGHTS, self.model.state_dict())
        config = (_CONFIG, self.model.config.to_json_string())
        beside = {preprocess.FILE: self.preprocess.to_json()}
        stored.write(Path(folder), weights, config, beside, dtype)

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        subfolder: str | None = None,
        dtype: torch.dtype = torch.float32,
        revision: str | None = None,
    ) -> "ImageEncoder":
        """Load an encoder.

        Args:
            source: a folder, or the id of a Hub repository.
            subfolder: inside of it.
            dtype: of the parameters.
            revision: of the repository.

        Returns:
            The encoder, on the CPU, for inference: its weights need no gradient.

        Raises:
            FileNotFoundError: there is no such folder or repository, or a file is missing.
            ValueError: the files are damaged, or do not belong together.
        """
        folder = hub.locate(source, subfolder, revision, _FILES)
        for name in (_CONFIG, _WEIGHTS):
            if not (folder / name).is_file():
                raise FileNotFoundError(f"{folder} is no image encoder: it has no {name}")
        try:
            found = CLIPVisionModelWithProjection.from_pretrained(
                str(folder),
                use_safetensors=True,
                dtype=dtype,
                ignore_mismatched_sizes=True,  # told below
                output_loading_info=True,
            )
        except Exception as error:  # damaged files can fail in any way
            why = (str(error).splitlines() or [type(error).__name__])[0]
            raise ValueError(
                f"the image encoder in {folder} cannot be read ({why}): get it from its source "
                "again"
            ) from error
        model, told = cast(
            tuple[CLIPVisionModelWithProjection, Mapping[str, Collection[object]]], found
        )
        for what, words in (("missing_keys", "missing"), ("mismatched_keys", "of another size")):
            if told[what]:
                first = sorted(str(k[0] if isinstance(k, tuple) else k) for k in told[what])[0]
                raise ValueError(
                    f"the image encoder in {folder} is not that of its {_CONFIG}: tensors {words}: "
                    f"{len(told[what])}, first {first}"
                )
        settings = Preprocess.read(folder, side_of(model))
        return cls(model.requires_grad_(False).eval(), settings)

    @classmethod
    def beside(
        cls,
        source: str | Path,
        subfolder: str | None = None,
        dtype: torch.dtype = torch.float32,
        revision: str | None = None,
    ) -> "ImageEncoder":
        """Load the encoder in `image_encoder/` beside an adapter.

        Args:
            source: of the adapter, as its `from_pretrained` takes it: a folder, a file, or the id
                of a repository.
            subfolder: likewise.
            dtype: of the parameters.
            revision: of the repository.

        Returns:
            The encoder (see `from_pretrained`).

        Raises:
            FileNotFoundError: there is none; the message says where it is looked for.
        """
        path = Path(source).expanduser()
        root = path.parent if path.is_file() else source
        inside = Path(subfolder or "")
        inside = inside.parent if inside.suffix in (".safetensors", ".bin") else inside
        try:
            return cls.from_pretrained(root, (inside / FOLDER).as_posix(), dtype, revision)
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"the adapter {source} has no image encoder beside it ({error}); published ones "
                "are at h94/IP-Adapter in models/image_encoder and sdxl_models/image_encoder: load "
                "the one that it was made for with ImageEncoder.from_pretrained"
            ) from error


def side_of(model: CLIPVisionModelWithProjection) -> int:
    """Pixels a side of the pictures that an encoder takes; ValueError where they are no squares."""
    side = model.config.image_size
    if not isinstance(side, int):
        raise ValueError(f"the image encoder takes pictures of size {side!r}; squares are read")
    return side

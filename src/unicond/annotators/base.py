"""The interface of all annotators, and what those that load a model share."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

import torch
from PIL import Image
from torch import Tensor

from unicond.pictures.reading import to_pil

CAPTION = "caption"
"""The kind of annotators that return text."""

T = TypeVar("T")


class Annotator(Protocol):
    """What makes conditions, or captions, of pictures.

    `name` says which annotator it is, with its model: two with one name make the same of the same
    pictures. `kind` is what it makes: a key of `data.conditions.KINDS`, or `"caption"`.
    """

    @property
    def name(self) -> str:
        """Which annotator, and which model."""
        ...

    @property
    def kind(self) -> str:
        """What it makes."""
        ...

    def __call__(self, pictures: Tensor) -> Tensor | list[str]:
        """Annotate.

        Args:
            pictures: (B, 3, H, W) float32 in [-1, 1].

        Returns:
            (B, 3, H, W) float32 in [-1, 1], on the CPU; or B captions.

        Raises:
            PictureError: nothing can be made of one of the pictures.
        """
        ...


def loaded(load: Callable[[], T], what: str, model: str | Path) -> T:
    """Run a loading function, and say what to do where it fails.

    Args:
        load: the function.
        what: is loaded.
        model: hub id or folder.

    Returns:
        What it returned.

    Raises:
        ValueError: nothing can be loaded from there.
    """
    try:
        return load()
    except (ImportError, MemoryError):
        raise
    except Exception as error:  # readers raise nearly anything for a damaged file
        why = str(error) or type(error).__name__
        raise ValueError(
            f"no model for {what} can be loaded from {model}: {why}; give the id of a public "
            "repository on the hub, or a folder with its files, and get files that are cut off or "
            "damaged again"
        ) from error


def pil_images(pictures: Tensor) -> list[Image.Image]:
    """Pictures (B, 3, H, W) in [-1, 1] as transformers' image processors take them."""
    return [to_pil(picture) for picture in pictures]


def default_device(device: str | torch.device | None) -> torch.device:
    """The device that was asked for; CUDA where there is one if none was.

    One that cannot be used is a `ValueError`.
    """
    chosen = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=chosen).device
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"the device {chosen!r} cannot be used: {error}") from None

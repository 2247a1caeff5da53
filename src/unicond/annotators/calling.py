"""One picture to all its conditions: `unicond.annotate`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image
from torch import Tensor

from unicond.annotators.base import Annotator
from unicond.annotators.registry import check_kinds, load_annotator
from unicond.pictures.reading import read_picture, to_pil

if TYPE_CHECKING:
    import torch

    from unicond.pictures.decoding import Source


def annotate(
    picture: "Source",
    conditions: "Sequence[str | Annotator]",
    models: Mapping[str, str | Path] | None = None,
    device: "str | torch.device | None" = None,
) -> dict[str, Image.Image | str]:
    """Make conditions of one picture.

    Args:
        picture: a path, PIL image, array or tensor.
        conditions: of "depth", "softedge", "pose", "segmentation", "normals" and "caption"; or
            annotators that are loaded already (`load_annotator`), for many pictures.
        models: {condition: hub id or folder} in place of the defaults.
        device: where to run; CUDA where there is one if None.

    Returns:
        {condition: picture of the same size}; the caption is a string.

    Raises:
        PictureError: the picture cannot be read, or nothing can be made of it.
        ValueError: an unknown condition, or a model that cannot be loaded.
    """
    given = dict(models or {})
    check_kinds([item for item in conditions if isinstance(item, str)], given)
    batch = read_picture(picture)[None]
    out: dict[str, Image.Image | str] = {}
    for item in conditions:
        made = load_annotator(item, given.get(item), device) if isinstance(item, str) else item
        found = made(batch)[0]
        out[made.kind] = to_pil(found) if isinstance(found, Tensor) else found
    return out

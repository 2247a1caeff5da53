"""All annotators by the kind of what they make."""

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from unicond.annotators.base import CAPTION, Annotator, default_device

if TYPE_CHECKING:
    import torch

DEFAULTS = {
    "depth": "depth-anything/Depth-Anything-V2-Small-hf",
    "softedge": "filter",
    "pose": "balanced",
    "segmentation": "openmmlab/upernet-convnext-small",
    "normals": "depth-anything/Depth-Anything-V2-Small-hf",
    CAPTION: "Salesforce/blip-image-captioning-base",
}
"""What can be made of a picture, and by which model unless another is named."""
MADE = tuple(DEFAULTS)
_CLASSES = {
    "depth": ("depth", "DepthAnnotator"),
    "softedge": ("learned_edges", "LearnedEdges"),
    "pose": ("pose", "PoseAnnotator"),
    "segmentation": ("segmentation", "SegmentationAnnotator"),
    CAPTION: ("captions", "CaptionAnnotator"),
}


def load_annotator(
    kind: str, model: str | Path | None = None, device: "str | torch.device | None" = None
) -> Annotator:
    """Load an annotator.

    Args:
        kind: one of `MADE`.
        model: hub id or folder; None is the one of `DEFAULTS`. For soft edges `"filter"` needs no
            weights; for normals it is a model of depth; for poses also a size (`pose.SIZES`).
        device: where to run; CUDA where there is one if None.

    Returns:
        The annotator.

    Raises:
        ValueError: an unknown kind, or nothing can be loaded from there.
    """
    check_kinds([kind])
    chosen = DEFAULTS[kind] if model is None else model
    if kind == "normals":
        from unicond.annotators.normals import NormalsAnnotator

        return NormalsAnnotator(chosen, device)
    if kind == "softedge" and chosen == DEFAULTS["softedge"]:
        from unicond.annotators.edges import SoftEdges

        return SoftEdges(device=default_device(device))
    module, name = _CLASSES[kind]
    return getattr(import_module(f"unicond.annotators.{module}"), name)(chosen, device)


def name_of(kind: str, model: str | Path | None = None) -> str:
    """The `name` that a loaded annotator will have, without loading it."""
    return f"{kind}:{DEFAULTS[kind] if model is None else model}"


def check_kinds(kinds: Sequence[str], models: Mapping[str, object] | None = None) -> None:
    """Raise unless all kinds can be made, and models are given for some of them only.

    Args:
        kinds: asked for.
        models: {kind: model} given beside them.

    Raises:
        ValueError: they are not.
    """
    for kind in kinds:
        if kind not in MADE:
            raise ValueError(f"{kind!r} cannot be made of a picture; choose of {', '.join(MADE)}")
    for kind in models or {}:
        if kind not in kinds:
            raise ValueError(f"a model for {kind!r} is given, but only {', '.join(kinds)} are made")

"""Grounding DINO finds things by their names; SAM finds the pixels of what is in a box.

Source: Liu et al. 2023, arXiv:2303.05499; Kirillov et al. 2023, arXiv:2304.02643.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModelForZeroShotObjectDetection,
    AutoTokenizer,
    GroundingDinoForObjectDetection,
    GroundingDinoProcessor,
    SamModel,
    SamProcessor,
)

from unicond.annotators.base import default_device, loaded
from unicond.evaluation.metrics_objects import Box
from unicond.evaluation.mig import DETECTOR, SEGMENTER
from unicond.evaluation.mig.rule import Detection
from unicond.evaluation.subject import fingerprint
from unicond.pictures.reading import to_pil

DETECTORS, SEGMENTERS = ("grounding-dino", "mm-grounding-dino"), ("sam",)
"""Kinds of models, as their configuration names them, that can be loaded."""


@dataclass(frozen=True, eq=False)
class Grounded:
    """A detector and a segmenter, see `load_grounded`.

    Attributes:
        names: {"detector" or "segmenter": hub id or folder}.
        detector: Grounding DINO, on its device.
        reader: prepares pictures and names for it.
        segmenter: SAM, on the same device.
        preparer: prepares pictures and boxes for it.
    """

    names: Mapping[str, str]
    detector: GroundingDinoForObjectDetection
    reader: GroundingDinoProcessor
    segmenter: SamModel
    preparer: SamProcessor

    @torch.no_grad()
    def detections(self, picture: Tensor, thing: str) -> list[Detection]:
        """A box for each of the detector's queries; see `rule.Detector`."""
        inputs = self.reader(images=to_pil(picture), text=[[thing]], return_tensors="pt")  # pyright: ignore[reportCallIssue]
        found = self.detector(**inputs.to(self.detector.device))
        x, y, wide, high = found.pred_boxes[0].double().unbind(-1)
        corners = torch.stack([x - wide / 2, y - high / 2, x + wide / 2, y + high / 2], -1)
        scores = found.logits[0].double().sigmoid().amax(-1)
        return [
            Detection((left, top, right, bottom), score)
            for (left, top, right, bottom), score in zip(
                corners.tolist(), scores.tolist(), strict=True
            )
        ]

    @torch.no_grad()
    def masks(self, picture: Tensor, boxes: Sequence[Box]) -> Tensor:
        """Of the segmenter's three masks for each box, the one it trusts most.

        See `rule.Detector`.
        """
        height, width = picture.shape[-2:]
        corners = (torch.tensor(boxes) * torch.tensor([width, height, width, height])).tolist()
        inputs = self.preparer(images=to_pil(picture), input_boxes=[corners], return_tensors="pt")  # pyright: ignore[reportCallIssue]
        sizes = inputs.pop("original_sizes"), inputs.pop("reshaped_input_sizes")
        inputs["input_boxes"] = inputs["input_boxes"].float()
        found = self.segmenter(**inputs.to(self.segmenter.device), multimask_output=True)
        every = self.preparer.post_process_masks(found.pred_masks.cpu(), *sizes)[0]
        best = found.iou_scores[0].argmax(-1).cpu()
        return every[torch.arange(len(boxes)), best]

    def fingerprints(self) -> dict[str, str]:
        """{part: its name, and a fingerprint of its weights}: what numbers depend on."""
        parts = {"detector": self.detector, "segmenter": self.segmenter}
        return {part: f"{self.names[part]} {fingerprint(net)}" for part, net in parts.items()}


def load_grounded(
    detector: str | Path = DETECTOR,
    segmenter: str | Path = SEGMENTER,
    device: str | torch.device | None = None,
) -> Grounded:
    """Load a detector and a segmenter.

    Args:
        detector: hub id or folder of a Grounding DINO.
        segmenter: hub id or folder of a SAM.
        device: where to run; CUDA where there is one if None.

    Returns:
        Both, ready to look at pictures.

    Raises:
        ValueError: one cannot be loaded from there, or is of another kind; or the device cannot be
            used.
    """
    place, what = default_device(device), "finding things"
    _check_kind(detector, DETECTORS, what)
    _check_kind(segmenter, SEGMENTERS, "masks")
    found = loaded(
        lambda: AutoModelForZeroShotObjectDetection.from_pretrained(detector), what, detector
    )
    pictures = loaded(
        lambda: AutoImageProcessor.from_pretrained(detector, backend="pil"), what, detector
    )
    tokenizer = loaded(lambda: AutoTokenizer.from_pretrained(detector), what, detector)
    cut = loaded(lambda: SamModel.from_pretrained(segmenter), "masks", segmenter)
    boxed = loaded(
        lambda: AutoImageProcessor.from_pretrained(segmenter, backend="pil"), "masks", segmenter
    )
    return Grounded(
        {"detector": str(detector), "segmenter": str(segmenter)},
        cast(GroundingDinoForObjectDetection, found.to(place).eval()),
        GroundingDinoProcessor(pictures, tokenizer),
        cast(SamModel, cut.to(place).eval()),  # type: ignore[arg-type]
        SamProcessor(boxed),
    )


def _check_kind(model: str | Path, kinds: Sequence[str], what: str) -> None:
    """Raise unless a model is of one of some kinds; another would be loaded with random weights."""
    kind = loaded(lambda: AutoConfig.from_pretrained(model), what, model).model_type
    if kind not in kinds:
        raise ValueError(f"{model} is a model {kind!r}; for {what} give one of {', '.join(kinds)}")

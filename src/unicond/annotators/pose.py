"""People's poses by rtmlib: a detector of people, a detector of keypoints, and our drawing.

The skeletons are drawn by the world's own code, in OpenPose's colours. Keypoints are COCO's; the
neck, which COCO does not have, is the middle of the shoulders.

Source: RTMPose, Jiang et al. 2023, arXiv:2303.07399; YOLOX, Ge et al. 2021, arXiv:2107.08430.
"""

import contextlib
import io
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor

from unicond.annotators.base import default_device, loaded
from unicond.world.drawings import draw_people
from unicond.world.vocabulary import KEYPOINTS

SIZES = ("lightweight", "balanced", "performance")
"""Pairs of models that rtmlib downloads."""
DETECTOR, KEYPOINT_DETECTOR = "detector.onnx", "pose.onnx"
"""Files of a folder with models of one's own."""
COCO = (
    "nose",
    "left eye",
    "right eye",
    "left ear",
    "right ear",
    "left shoulder",
    "right shoulder",
    "left elbow",
    "right elbow",
    "left wrist",
    "right wrist",
    "left hip",
    "right hip",
    "left knee",
    "right knee",
    "left ankle",
    "right ankle",
)
_SHOULDERS = COCO.index("left shoulder"), COCO.index("right shoulder")


def openpose_points(xy: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
    """COCO's keypoints as OpenPose's.

    Args:
        xy: (P, 17 or more, 2); further ones (feet, hands, face) are left out.
        scores: (P, 17 or more).

    Returns:
        (P, 18, 2) and (P, 18) in the order of `vocabulary.KEYPOINTS`; the neck's score is the lower
        one of the shoulders'.
    """
    at = [COCO.index(name) for name in KEYPOINTS if name != "neck"]
    neck = KEYPOINTS.index("neck")
    middle = xy[:, _SHOULDERS].mean(1, keepdim=True)
    least = scores[:, _SHOULDERS].amin(1, keepdim=True)
    points, told = xy[:, at], scores[:, at]
    return (
        torch.cat([points[:, :neck], middle, points[:, neck:]], 1),
        torch.cat([told[:, :neck], least, told[:, neck:]], 1),
    )


class PoseAnnotator:
    """Detectors of people and of their keypoints.

    Args:
        model: one of `SIZES`, which rtmlib downloads, or a folder with `detector.onnx` (YOLOX) and
            `pose.onnx` (RTMPose).
        device: where to run; CUDA where there is one if None.
        least_score: keypoints that are less certain are not drawn.

    Raises:
        ValueError: rtmlib is not installed, or the models cannot be loaded.
    """

    kind = "pose"

    def __init__(
        self,
        model: str | Path,
        device: str | torch.device | None = None,
        least_score: float = 0.3,
    ) -> None:
        self.name, self.least_score = f"pose:{model}", least_score
        try:
            import onnxruntime
            from rtmlib import YOLOX, Body, RTMPose
        except ImportError as error:
            raise ValueError(
                f"poses need the libraries rtmlib and onnxruntime ({error}): "
                "pip install 'unicond[pose]'"
            ) from error
        runs_on = str(default_device(device))
        able = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
        where = runs_on if able and runs_on.startswith("cuda") else "cpu"
        with contextlib.redirect_stdout(io.StringIO()):  # says of each file that it is loaded
            if str(model) in SIZES:
                body = loaded(lambda: Body(mode=str(model), device=where), "poses", model)
                self._people, self._points = body.det_model, cast(RTMPose, body.pose_model)
                return
            files = [Path(model) / name for name in (DETECTOR, KEYPOINT_DETECTOR)]
            if missing := [file for file in files if not file.is_file()]:
                raise ValueError(
                    f"{missing[0]} does not exist; give one of {', '.join(SIZES)}, or a folder "
                    f"with {DETECTOR} and {KEYPOINT_DETECTOR}"
                )
            (height, width), (rows, columns) = (_input_size(file) for file in files)
            self._people = YOLOX(str(files[0]), (height, width), device=where)
            self._points = RTMPose(str(files[1]), (columns, rows), device=where)

    def people(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        """Everybody in one picture.

        Args:
            picture: (3, H, W) in [-1, 1].

        Returns:
            Keypoints (P, 18, 2) in pixels and scores (P, 18); P is 0 where there is nobody.
        """
        rgb = ((picture.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 0)
        bgr = np.ascontiguousarray(rgb.cpu().numpy()[..., ::-1])
        boxes = self._people(bgr)
        if not len(boxes):  # given no boxes, the keypoint detector takes the picture for a person
            return torch.zeros(0, len(KEYPOINTS), 2), torch.zeros(0, len(KEYPOINTS))
        xy, scores = self._points(bgr, bboxes=list(boxes))
        return openpose_points(torch.from_numpy(xy).float(), torch.from_numpy(scores).float())

    def __call__(self, pictures: Tensor) -> Tensor:
        """Skeletons in pictures (B, 3, H, W) in [-1, 1] on black; the same shape and range."""
        size = (pictures.shape[-2], pictures.shape[-1])
        drawn: list[Tensor] = []
        for picture in pictures:
            xy, scores = self.people(picture)
            shown = scores >= self.least_score
            row = torch.zeros(len(xy), dtype=torch.int64)
            drawn.append(draw_people(xy, shown, row, 1, size))
        return torch.cat(drawn)


def _input_size(file: Path) -> tuple[int, int]:
    """Height and width that a network takes."""
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has an exception type of its own for each fault
        raise ValueError(f"{file} cannot be loaded: {error}") from error
    shape = session.get_inputs()[0].shape
    if len(shape) != 4 or not all(isinstance(side, int) for side in shape[2:]):
        raise ValueError(f"{file} takes {shape}; its input must be (1, 3, height, width)")
    return int(shape[2]), int(shape[3])

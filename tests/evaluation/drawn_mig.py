"""A small bench in COCO-MIG's format, pictures that obey it, and a detector that knows where."""

import json

import torch

from unicond.evaluation.metrics_objects import Box
from unicond.evaluation.mig.rule import Detection

LEVELS = {
    "red": (255, 0, 0),
    "blue": (0, 0, 255),
    "yellow": (255, 255, 0),
    "green": (0, 200, 0),
    "black": (0, 0, 0),
    "white": (255, 255, 255),
    "brown": (120, 70, 30),
}
GREY = (127, 127, 127)
LEFT: Box = (0.0, 0.25, 0.5, 0.75)
RIGHT: Box = (0.5, 0.25, 1.0, 0.75)
TOP: Box = (0.25, 0.0, 0.75, 0.25)


def asked(*segment, image_id="500084"):
    """An entry of (box, label), as the file has it."""
    labels = [label for _, label in segment]
    return {
        "caption": f"a photo of {' and '.join(labels)} ",
        "segment": [{"bbox": list(box), "label": label} for box, label in segment],
        "image_id": image_id,
    }


BENCH = {
    "0": asked((LEFT, "a black cat"), (RIGHT, "a white cat")),
    "1": asked((LEFT, "a red wine glass"), (RIGHT, "a blue bird"), image_id="74711"),
    "2": asked((LEFT, "a red cat"), (RIGHT, "a green dog"), (TOP, "a brown dog"), image_id="9"),
}


def save_bench(path, bench=None):
    path.write_text(json.dumps(BENCH if bench is None else bench))
    return path


def paint(parts, size=(512, 512), ground=GREY):
    """(3, H, W) in [-1, 1]: rectangles of (box, levels) on a ground, later ones on top."""
    height, width = size
    canvas = torch.tensor(ground)[:, None, None].repeat(1, height, width)
    for (left, top, right, bottom), levels in parts:
        rows = slice(round(top * height), round(bottom * height))
        columns = slice(round(left * width), round(right * width))
        canvas[:, rows, columns] = torch.tensor(levels)[:, None, None]
    return canvas / 127.5 - 1


class Exact:
    """Sees things where it is told, and takes all of a box for the thing.

    Args:
        seen: {thing: its detections}.
    """

    def __init__(self, seen):
        self.seen, self.looked = seen, []

    def detections(self, picture, thing):
        self.looked.append((tuple(picture.shape), thing))
        return self.seen.get(thing, [])

    def masks(self, picture, boxes):
        height, width = picture.shape[-2:]
        masks = torch.zeros(len(boxes), height, width, dtype=torch.bool)
        for mask, (left, top, right, bottom) in zip(masks, boxes, strict=True):
            mask[
                round(top * height) : round(bottom * height),
                round(left * width) : round(right * width),
            ] = True
        return masks


def sure(*boxes):
    return [Detection(box, 0.9) for box in boxes]

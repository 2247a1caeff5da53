"""Conditions that nobody's annotator made: rough sketches of one arrangement, and a word in edges.

A ball stands left of a box on the ground: flat shapes, without shading, perspective or detail, as
one would draw them in a minute. A condition that is given coarse makes a scene of them.
"""

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional

from unicond.conditions import Source
from unicond.pictures.metric_depth import draw_metric_depth
from unicond.pictures.reading import read_picture
from unicond.world.annotate import quantised
from unicond.world.drawings import draw_people
from unicond.world.palette import CLASS_RGB
from unicond.world.vocabulary import KEYPOINTS

SKETCHED = "a red ball left of a blue box on grass"
SKETCHED_PERSON = "a person waving on grass"
_BALL = (0.32, 0.62, 0.17)
"""Middle x and y, radius; shares of the picture's side."""
_BOX = (0.56, 0.46, 0.84, 0.8)
"""Left, upper, right, lower."""
_HORIZON = 0.42
_FIGURE = {
    "nose": (0.5, 0.22),
    "neck": (0.5, 0.33),
    "right shoulder": (0.41, 0.34),
    "right elbow": (0.36, 0.46),
    "right wrist": (0.37, 0.58),
    "left shoulder": (0.59, 0.34),
    "left elbow": (0.68, 0.27),
    "left wrist": (0.66, 0.14),
    "right hip": (0.45, 0.58),
    "right knee": (0.44, 0.74),
    "right ankle": (0.43, 0.9),
    "left hip": (0.55, 0.58),
    "left knee": (0.56, 0.74),
    "left ankle": (0.58, 0.9),
    "right eye": (0.48, 0.2),
    "left eye": (0.52, 0.2),
    "right ear": (0.45, 0.21),
    "left ear": (0.55, 0.21),
}
"""A stick figure that waves; shares of the picture's sides."""


def rough(source: Source, size: int) -> tuple[Tensor, str]:
    """A rough sketch of a kind of map, and a prompt for it.

    Args:
        source: an aligned condition's.
        size: pixels a side.

    Returns:
        (3, size, size) in [-1, 1], and the prompt.

    Raises:
        ValueError: the source is no map.
    """
    if source == "skeleton":
        spots = torch.tensor([_FIGURE[name] for name in KEYPOINTS]) * size
        shown = torch.ones(1, len(KEYPOINTS), dtype=torch.bool)
        row = torch.zeros(1, dtype=torch.int64)
        return draw_people(spots[None], shown, row, 1, (size, size))[0], SKETCHED_PERSON
    sky, ground, ball, box = _shapes(size)
    depth = 3.0 / (0.2 + (_grid(size)[1] - _HORIZON).clamp_min(0) * 3)
    if source == "edges":
        strength = sum(_outline(shape) for shape in (ground, ball, box))
        return quantised(torch.as_tensor(strength)[None])[0], SKETCHED
    if source in ("depth", "metric_depth"):
        metres = torch.where(ball, 4.0, torch.where(box, 5.0, depth + 1.5))
        if source == "metric_depth":
            return draw_metric_depth(metres, ~sky).expand(3, -1, -1), SKETCHED
        near = torch.where(sky, 0.0, 1 / metres)
        return (2 * near / near.max() - 1).expand(3, -1, -1), SKETCHED
    if source == "segmentation":
        picture = torch.zeros(3, size, size)
        for name, shape in (("sky", sky), ("ground", ground), ("ball", ball), ("box", box)):
            picture = torch.where(shape, torch.tensor(CLASS_RGB[name])[:, None, None], picture)
        return 2 * picture - 1, SKETCHED
    if source == "normals":
        return _normals(sky, ball, box), SKETCHED
    raise ValueError(f"{source} is no map of a picture, so that nothing can be sketched")


def spelled(edges: Tensor, word: str) -> Tensor:
    """An edge map across whose middle a word is written.

    Args:
        edges: (3, H, W) in [-1, 1].
        word: a few letters.

    Returns:
        (3, H, W), in the levels of soft edges.
    """
    height, width = edges.shape[-2:]
    font = ImageFont.load_default(height // 3)
    left, upper, right, lower = font.getbbox(word)
    canvas = Image.new("RGB", (int(right - left), int(lower - upper)), "black")
    ImageDraw.Draw(canvas).text((-left, -upper), word, fill="white", font=font)
    canvas = canvas.resize((round(0.9 * width), round(0.4 * height)), Image.Resampling.LANCZOS)
    letters = _outline(read_picture(canvas)[:1] > 0)[0]
    whole, top = (edges[:1] + 1) / 2, round(0.3 * height)
    side = (width - letters.shape[1]) // 2
    whole = whole.clone()
    whole[:, top - 2 : top + letters.shape[0] + 2] = 0.0
    whole[0, top : top + letters.shape[0], side : side + letters.shape[1]] = letters
    return quantised(whole[None])[0]


def _grid(size: int) -> tuple[Tensor, Tensor]:
    """Pixel centres in x and y, (size, size), as shares."""
    place = (torch.arange(size) + 0.5) / size
    return place[None].expand(size, -1), place[:, None].expand(-1, size)


def _shapes(size: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Where sky, ground, ball and box are, (size, size) bool."""
    x, y = _grid(size)
    ball = (x - _BALL[0]).square() + (y - _BALL[1]).square() < _BALL[2] ** 2
    box = (x > _BOX[0]) & (x < _BOX[2]) & (y > _BOX[1]) & (y < _BOX[3])
    things = ball | box
    return (y < _HORIZON) & ~things, (y >= _HORIZON) & ~things, ball, box


def _outline(shape: Tensor) -> Tensor:
    """The rim of a shape (..., H, W) bool, two pixels wide, (1, H, W) in [0, 1]."""
    values = shape.float().reshape(1, *shape.shape[-2:])
    grown = functional.max_pool2d(values, 3, 1, 1)
    return grown + functional.max_pool2d(-values, 3, 1, 1)


def _normals(sky: Tensor, ball: Tensor, box: Tensor) -> Tensor:
    """Normals of a ground that faces up, a round ball and a box seen from the front."""
    x, y = _grid(len(sky))
    across, up = (x - _BALL[0]) / _BALL[2], (_BALL[1] - y) / _BALL[2]
    toward = (1 - across.square() - up.square()).clamp_min(0).sqrt()
    round_ = torch.stack([across, up, toward])
    flat = torch.tensor([0.0, 0.0, 1.0])[:, None, None]
    ground = torch.tensor([0.0, 0.95, 0.3])[:, None, None]
    picture = torch.where(ball, round_, torch.where(box, flat, ground))
    return torch.where(sky, 0.0, picture)

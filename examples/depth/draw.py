"""Draws the six depth maps of `unicond.pictures.example_depths()`, as one would in an editor.

Each is put together from flat shapes (ramps, discs, capsules, boxes) in inverse depth, near is 1;
where shapes overlap the nearer one wins. None is a render of the world, so that the mini model has
seen nothing like them, and each is a file of another size and kind.

    python examples/depth/draw.py [folder]
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

FOLDER = Path(__file__).parents[2] / "src" / "unicond" / "assets" / "depth"
ROUND = 0.10  # how much nearer the middle of a rounded shape is than its rim

LIST = {
    "ball_and_box.png": ("a red ball left of a blue box on grass", "near-white", "8-bit grey"),
    "person.png": ("a person standing on grass", "near-white", "16-bit grey"),
    "cylinder_and_box.png": (
        "a green cylinder in front of an orange box on sand",
        *("near-white", "RGBA, the sky is transparent"),
    ),
    "cone_and_ball.png": (
        "a yellow cone left of a purple ball on tiles",
        *("near-white", "8-bit grey, a border of 16 pixels"),
    ),
    "person_and_pill.png": (
        "a person waving left of a green pill on snow",
        *("near-black", "palette, near is black"),
    ),
    "ball_on_box.png": (
        "a white ball on top of a brown box on wood",
        *("metric", "16-bit, millimetres, the sky is 0"),
    ),
}


class Drawing:
    """Inverse depth (height, width) of a ground that rises to the horizon, and what stands on it.

    Lengths are pixels, y goes down. A shape stands as far away as the ground at its `foot`.
    """

    def __init__(self, width: int, height: int, horizon: float, far: float = 0.0) -> None:
        self.y, self.x = np.mgrid[:height, :width] + 0.5
        self.height, self.horizon, self.far = height, horizon, far
        self.near = np.where(self.y > horizon, self.ground(self.y), 0.0)

    def ground(self, y: np.ndarray | float) -> np.ndarray | float:
        """Inverse depth of the ground at a height y of the picture."""
        return self.far + (0.9 - self.far) * (y - self.horizon) / (self.height - self.horizon)

    def put(self, inside: np.ndarray, near: np.ndarray) -> None:
        """Lay a shape over what is behind it."""
        self.near = np.where(inside, np.maximum(self.near, near), self.near)

    def capsule(self, a: tuple, b: tuple, radius: float, foot: float) -> None:
        """From (x, y) to (x, y); a ball where the ends are one."""
        ax, ay, dx, dy = *a, b[0] - a[0], b[1] - a[1]
        along = ((self.x - ax) * dx + (self.y - ay) * dy) / max(dx * dx + dy * dy, 1e-9)
        along = np.clip(along, 0, 1)
        rim = np.hypot(self.x - ax - along * dx, self.y - ay - along * dy) / radius
        bulge = np.sqrt(np.clip(1 - rim**2, 0, 1))
        self.put(rim < 1, self.ground(foot) * (1 + ROUND * bulge))

    def ball(self, x: float, foot: float, radius: float) -> None:
        """A disc that bulges."""
        self.capsule((x, foot - radius), (x, foot - radius), radius, foot - 0.12 * radius)

    def upright(self, x: float, foot: float, tall: float, low: float, high: float) -> None:
        """A cylinder (the same half width below and above), or a cone (0 above)."""
        half = low + (high - low) * np.clip((foot - self.y) / tall, 0, 1)
        across = np.clip((self.x - x) / np.maximum(half, 1e-9), -1, 1)
        bulge = np.sqrt(1 - across**2)
        inside = (abs(self.x - x) < half) & (self.y < foot + 0.25 * half * bulge)
        inside &= self.y > foot - tall - 0.25 * high * bulge
        self.put(inside, self.ground(foot) * (1 + ROUND * bulge))

    def box(self, left: float, right: float, foot: float, tall: float, shift: float) -> None:
        """A front face, and a top that goes back by `shift` to the side."""
        near, rise = self.ground(foot), 0.22 * (right - left)
        front = (self.x > left) & (self.x < right) & (self.y < foot) & (self.y > foot - tall)
        back = (foot - tall - self.y) / rise
        slid = self.x - shift * back
        self.put(front, near + 0 * self.x)
        self.put((back >= 0) & (back < 1) & (slid > left) & (slid < right), near * (1 - 0.2 * back))

    def person(self, x: float, foot: float, tall: float, wave: bool = False) -> None:
        """A standing figure of capsules, seen from the front."""

        def at(across: float, up: float) -> tuple:
            return x + across * tall, foot - up * tall

        limbs = [((-0.06, 0.03), (-0.05, 0.48), 0.045), ((0.06, 0.03), (0.05, 0.48), 0.045)]
        limbs += [((0, 0.52), (0, 0.76), 0.095), ((0, 0.92), (0, 0.92), 0.075)]
        limbs += [((-0.1, 0.8), (-0.16, 0.45), 0.035), ((0, 0.8), (0, 0.88), 0.04)]
        limbs += [((0.1, 0.8), (0.25, 0.99) if wave else (0.16, 0.45), 0.035)]
        for low, high, radius in limbs:
            self.capsule(at(*low), at(*high), radius * tall, foot)


def draw() -> Iterator[np.ndarray]:
    """The arrays of the six files, in the order of `LIST`."""
    d = Drawing(200, 131, horizon=48)
    d.ball(68, 106, 26)
    d.box(108, 151, 98, 38, shift=9)
    yield levels(d.near, np.uint8)

    d = Drawing(97, 160, horizon=70)
    d.person(49, 125, 88)
    yield levels(d.near, np.uint16)

    d = Drawing(256, 256, horizon=96, far=0.12)
    d.box(128, 212, 176, 66, shift=-14)
    d.upright(98, 222, 104, 32, 32)
    grey = levels(d.near, np.uint8)
    yield np.dstack([grey, grey, grey, np.where(d.near > 0, 255, 0).astype(np.uint8)])

    d = Drawing(640, 480, horizon=170)
    d.upright(190, 372, 215, 82, 0)
    d.ball(430, 420, 92)
    yield np.pad(levels(d.near, np.uint8)[16:-16, 16:-16], 16, constant_values=24)

    d = Drawing(181, 135, horizon=44)
    d.person(56, 118, 92, wave=True)
    d.capsule((105, 108), (138, 100), 13, foot=115)
    yield 255 - levels(d.near, np.uint8)

    d = Drawing(211, 157, horizon=50, far=0.08)
    d.box(62, 140, 134, 50, shift=12)
    d.capsule((106, 54), (106, 54), 25, foot=128)
    yield np.where(d.near > 0, 2000 / np.maximum(d.near, 0.05), 0).round().astype(np.uint16)


def levels(near: np.ndarray, dtype: type) -> np.ndarray:
    return (np.clip(near, 0, 1) * np.iinfo(dtype).max).round().astype(dtype)


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    listed = {}
    for (name, (prompt, kind, note)), array in zip(LIST.items(), draw(), strict=True):
        picture = Image.fromarray(array)
        picture = picture.convert("P") if note.startswith("palette") else picture
        picture.save(folder / name, optimize=True)
        listed[name] = {"prompt": prompt, "kind": kind, "note": note}
    (folder / "list.json").write_text(json.dumps(listed, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)

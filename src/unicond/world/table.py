"""Scenes as tensors: one row per primitive, one row per camera and place.

Every primitive is a unit shape under an affine map: `local = M (world - center)`. A ray keeps its
parameter `t` under that map, so each shape needs one closed form only: unit ball, box [-1, 1]^3,
cylinder of radius 1 and height 2, cone with apex (0, 1, 0) and base radius 1 at y = -1, capsule of
radius 1 and straight part `stretch` up and down. Camera rays are `position + t (A + u B + v C)`
with u, v in the picture plane and forward part 1, so that `t` is the camera-z depth itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from unicond.world import solids
from unicond.world.palette import COLOR_RGB, EYE_RGB, HAIR_RGB, SHOE_RGB, SKIN_RGB
from unicond.world.people import pieces
from unicond.world.scene import Person, Scene, Solid
from unicond.world.vectors import camera_axes, focal, turn
from unicond.world.vocabulary import (
    CLASSES,
    COLOR_NAMES,
    GROUNDS,
    HAIR_COLOR_NAMES,
    PARTS,
    SHAPES,
    SKIES,
)

BALL, BOX, CYLINDER, PILL, CONE = range(5)


@dataclass(frozen=True)
class Table:
    """P primitives of S scenes, sorted by shape; numbers are float32, indices int32.

    Components come first, so that each is contiguous and a lookup by row is one fast gather.

    Attributes:
        first: rows at which each of `SHAPES` begins, and P; six numbers.
        shape: (P,) index into `SHAPES`; a person's pieces are balls and pills.
        scene: (P,) row of the scene.
        instance: (P,) 1 for the scene's first entity.
        part: (P,) index into `PARTS`.
        kind: (P,) index into `CLASSES`.
        name: (P,) index into `COLOR_NAMES`.
        touches: (P,) 1 for what may rest on something.
        rgb: (3, P) surface colour, sRGB in [0, 1].
        center: (3, P) metres.
        matrix: (9, P), `M` above row by row.
        stretch: (P,).
        eye: (3, S) camera positions.
        view: (9, S) right, down, forward.
        focal: (S,) as a share of the shorter side.
        sun: (3, S) unit vector towards the light.
        pattern: (4, S): offset x, offset z, cos and sin of the turn.
        ground: (S,) index into `GROUNDS`.
        sky: (S,) index into `SKIES`.
    """

    first: tuple[int, ...]
    shape: Tensor
    scene: Tensor
    instance: Tensor
    part: Tensor
    kind: Tensor
    name: Tensor
    touches: Tensor
    rgb: Tensor
    center: Tensor
    matrix: Tensor
    stretch: Tensor
    eye: Tensor
    view: Tensor
    focal: Tensor
    sun: Tensor
    pattern: Tensor
    ground: Tensor
    sky: Tensor

    def to(self, device: torch.device | str) -> "Table":
        """The same on another device."""
        names = [f.name for f in fields(self) if f.name != "first"]
        return Table(self.first, **{name: getattr(self, name).to(device) for name in names})


# shape, instance, part, kind, name, touches; rgb, center, x, y, radii, stretch
_Row = tuple[list[int], list[float]]


def _solid_row(solid: Solid, instance: int) -> _Row:
    x, y, _ = solids.axes(solid)
    half = [0.5 * extent for extent in solid.size]
    stretch = 0.0
    if solid.shape == "pill":
        stretch = (half[1] - half[0]) / half[0]
    if solid.shape in ("pill", "ball"):
        half = [half[0]] * 3
    kind, name = CLASSES.index(solid.shape), COLOR_NAMES.index(solid.color)
    ints = [SHAPES.index(solid.shape), instance, PARTS.index("solid"), kind, name, 1]
    return ints, [*COLOR_RGB[solid.color], *solid.center, *x, *y, *half, stretch]


def _person_rows(person: Person, instance: int) -> list[_Row]:
    who = person.identity
    look = {
        "skin": ("other", SKIN_RGB[who.skin]),
        "hair": (HAIR_COLOR_NAMES[who.hair], HAIR_RGB[who.hair]),
        "shirt": (who.shirt, COLOR_RGB[who.shirt]),
        "trousers": (who.trousers, COLOR_RGB[who.trousers]),
        "shoes": ("other", SHOE_RGB),
        "eyes": ("other", EYE_RGB),
    }
    kind = CLASSES.index("person")
    rows: list[_Row] = []
    for piece in pieces(person):
        name, rgb = look[piece.part]
        shape = PILL if piece.stretch > 0.0 else BALL
        part, number = PARTS.index(piece.part), COLOR_NAMES.index(name)
        ints = [shape, instance, part, kind, number, int(piece.touches)]
        floats = [*rgb, *piece.center, *piece.x, *piece.y, *piece.radii, piece.stretch]
        rows.append((ints, floats))
    return rows


def _scene_row(scene: Scene) -> list[float]:
    right, down, forward = camera_axes(scene.camera)
    place = scene.place
    height = np.radians(place.sun_height)
    flat = turn((0.0, 0.0, float(np.cos(height))), place.sun_yaw)
    angle = np.radians(place.turn)
    return [
        *scene.camera.position,
        *right,
        *down,
        *forward,
        focal(scene.camera),
        flat[0],
        float(np.sin(height)),
        flat[2],
        *place.offset,
        float(np.cos(angle)),
        float(np.sin(angle)),
        GROUNDS.index(place.ground),
        SKIES.index(place.sky),
    ]


def tabulate(scenes: Sequence[Scene]) -> Table:
    """Put scenes into one table (on the CPU).

    Args:
        scenes: any number of scenes.

    Returns:
        Their primitives and cameras, in order.
    """
    rows: list[tuple[list[int], list[float]]] = []
    for number, scene in enumerate(scenes):
        found = [_solid_row(solid, 1 + n) for n, solid in enumerate(scene.solids)]
        for n, person in enumerate(scene.people):
            found += _person_rows(person, 1 + len(scene.solids) + n)
        rows += [([*ints, number], floats) for ints, floats in found]
    rows.sort(key=lambda row: row[0][0])
    whole = np.asarray([ints for ints, _ in rows], dtype=np.int32).reshape(-1, 7)
    real = np.asarray([floats for _, floats in rows], dtype=np.float64).reshape(-1, 16)
    x, y = real[:, 6:9], real[:, 9:12]
    axes = np.stack([x, y, np.cross(x, y)], axis=1)
    matrix = (axes / real[:, 12:15, None]).reshape(-1, 9)
    view = np.asarray([_scene_row(scene) for scene in scenes], dtype=np.float64)

    def turned(values: np.ndarray, kind: type = np.float32) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values.T, dtype=kind))

    column = [turned(whole[:, n], np.int32) for n in range(7)]
    return Table(
        first=tuple(int(n) for n in np.searchsorted(whole[:, 0], range(len(SHAPES) + 1))),
        shape=column[0],
        instance=column[1],
        part=column[2],
        kind=column[3],
        name=column[4],
        touches=column[5],
        scene=column[6],
        rgb=turned(real[:, :3]),
        center=turned(real[:, 3:6]),
        matrix=turned(matrix),
        stretch=turned(real[:, 15]),
        eye=turned(view[:, :3]),
        view=turned(view[:, 3:12]),
        focal=turned(view[:, 12]),
        sun=turned(view[:, 13:16]),
        pattern=turned(view[:, 16:20]),
        ground=turned(view[:, 20], np.int32),
        sky=turned(view[:, 21], np.int32),
    )

"""Drafting one random scene: camera and light, what people act on, then other solids.

Solids are placed by where they are to touch the ground in the picture and how large they are to
look there, which keeps them in the frame; what overlaps too much or collides is drawn again.
"""

import dataclasses
import math
from dataclasses import dataclass, field

import numpy as np

from unicond.world import solids, vocabulary
from unicond.world.layout import Frame, Room, solid_frame, solid_room
from unicond.world.scene import Camera, Person, Place, Relation, Solid, Vec3
from unicond.world.vectors import add, camera_axes, focal, turn
from unicond.world.vocabulary import COLORS, GROUNDS, SHAPES, SKIES

MARGIN = 0.02
MOST_OVERLAP = 0.22
TRIES = 30
TWIN_SHARE = 0.12
SUN_HEIGHT = {"day": (35, 62), "sunset": (24, 34), "night": (38, 60), "overcast": (45, 75)}
ALONE_SHARES = (0.0, 0.22, 0.35, 0.25, 0.10, 0.05, 0.03)
BESIDE_ONE_SHARES = (0.28, 0.40, 0.20, 0.07, 0.03, 0.01, 0.01)
BESIDE_MORE_SHARES = (0.5, 0.35, 0.15, 0.0, 0.0, 0.0, 0.0)


@dataclass
class Draft:
    """A scene in the making; frames and rooms keep the order solids were added, people apart.

    `yaw` is the direction (degrees) in which the camera lies as seen from the scene.
    """

    camera: Camera
    place: Place
    yaw: float
    solids: list[Solid] = field(default_factory=list)
    people: list[Person] = field(default_factory=list)
    actions: list[Relation] = field(default_factory=list)
    frames: list[Frame] = field(default_factory=list)
    rooms: list[Room] = field(default_factory=list)

    def fits(self, frame: Frame, room: Room, beside: int | None = None) -> bool:
        """Whether something may go there; `beside` is a row of `frames` that it may overlap."""
        if not frame.inside(MARGIN) or frame.near < 1.05:
            return False
        others = [n for n in range(len(self.frames)) if n != beside]
        return not any(
            self.rooms[n].meets(room) or self.frames[n].overlap(frame) > MOST_OVERLAP
            for n in others
        )

    def ground_at(self, x: float, y: float) -> tuple[Vec3, float] | None:
        """The ground point seen at (x, y) of the picture and its depth; None above the horizon."""
        right, down, forward = camera_axes(self.camera)
        scale = focal(self.camera)
        way = add(add(forward, right, x / scale), down, y / scale)
        if way[1] > -1e-3:
            return None
        depth = -self.camera.position[1] / way[1]
        return add(self.camera.position, way, depth), depth


def pick(rng: np.random.Generator, options: tuple[str, ...]) -> str:
    """One of the options."""
    return options[int(rng.integers(len(options)))]


def draw_place(rng: np.random.Generator, yaw: float) -> Place:
    """Ground, sky and a light that comes from the camera's side, mostly from its left or right."""
    sky = pick(rng, SKIES)
    side = rng.choice((-1.0, 1.0)) * rng.uniform(15, 112)
    return Place(
        pick(rng, GROUNDS),
        sky,
        sun_yaw=yaw + side,
        sun_height=rng.uniform(*SUN_HEIGHT[sky]),
        offset=(rng.uniform(-20, 20), rng.uniform(-20, 20)),
        turn=rng.uniform(0, 360),
    )


def draw_camera(
    rng: np.random.Generator, yaw: float, distance: float, aim: float, fov: float
) -> Camera:
    """A camera `distance` metres off, aimed about `aim` metres above the ground."""
    height = rng.uniform(0.8, 2.5)
    flat = math.sqrt(max(1.0, distance**2 - (height - aim) ** 2))
    spot = turn((0.0, 0.0, flat), yaw)
    target = (rng.uniform(-0.12, 0.12), aim, rng.uniform(-0.12, 0.12))
    return Camera((spot[0], height, spot[2]), target, fov)


def solid_size(shape: str, side: float, rng: np.random.Generator) -> Vec3:
    """Free proportions for a solid whose longest side is `side` metres."""
    if shape == "ball":
        return (side, side, side)
    if shape == "box":
        shares = rng.uniform(0.6, 1.0, 3)
        shares /= shares.max()
        return (float(side * shares[0]), float(side * shares[1]), float(side * shares[2]))
    low, high = {"cylinder": (0.5, 0.9), "pill": (0.42, 0.58), "cone": (0.65, 0.95)}[shape]
    wide = side * rng.uniform(low, high)
    return (wide, side, wide)


def new_color(draft: Draft, rng: np.random.Generator) -> str:
    """A colour, most times one that no solid has yet."""
    used = {solid.color for solid in draft.solids}
    left = tuple(c for c in COLORS if c not in used)
    return pick(rng, left if rng.random() < 0.88 else COLORS)


def rest(solid: Solid, x: float, z: float, height: float) -> Solid:
    """The solid, lowered or lifted so that it rests at `height` metres over (x, z)."""
    low = solids.reach(solid, (0.0, -1.0, 0.0))
    return dataclasses.replace(solid, center=(x, height + low, z))


def _loose_solid(
    shape: str, color: str, side: float, may_lie: bool, rng: np.random.Generator
) -> Solid:
    size = solid_size(shape, side, rng)
    lies = {"cylinder": 0.22, "pill": 0.5, "cone": 0.12}.get(shape, 0.0)
    tilt = solids.lying_tilt(shape, size) if may_lie and rng.random() < lies else 0.0
    return Solid(shape, color, (0.0, 0.0, 0.0), size, rng.uniform(0, 360), tilt)


def add_solid(draft: Draft, rng: np.random.Generator, share: tuple[float, float]) -> bool:
    """Put one more solid on the ground.

    Args:
        draft: gets the solid.
        rng: for its looks and place.
        share: least and greatest size in the picture, as shares of its side.

    Returns:
        Whether room was found.
    """
    shape, color = pick(rng, SHAPES), new_color(draft, rng)
    if draft.solids and rng.random() < TWIN_SHARE:
        twin = draft.solids[int(rng.integers(len(draft.solids)))]
        shape, color = twin.shape, twin.color
    for _ in range(TRIES):
        spot = draft.ground_at(rng.uniform(-0.4, 0.4), rng.uniform(-0.12, 0.46))
        wanted = rng.uniform(*share)
        if spot is None or not 1.6 <= spot[1] <= 9.0:
            continue
        side = wanted * spot[1] / focal(draft.camera)
        if not 0.28 <= side <= 1.25:
            continue
        solid = _loose_solid(shape, color, side, True, rng)
        solid = rest(solid, spot[0][0], spot[0][2], 0.0)
        if keep_solid(draft, solid):
            return True
    return False


def keep_solid(draft: Draft, solid: Solid, beside: int | None = None) -> bool:
    """Add a solid to the draft if it fits; whether it did."""
    frame, room = solid_frame(draft.camera, solid), solid_room(solid)
    if not draft.fits(frame, room, beside):
        return False
    draft.solids.append(solid)
    draft.frames.insert(len(draft.solids) - 1, frame)
    draft.rooms.insert(len(draft.solids) - 1, room)
    return True


def stack_solid(draft: Draft, rng: np.random.Generator) -> bool:
    """Put one more solid on top of one that has a free flat top; whether it could."""
    used = {solid.support for solid in draft.solids} | {
        str(r.target) for r in draft.actions if r.name in ("sitting on", "pushing")
    }
    held = {r.target for r in draft.actions if r.name == "holding"}
    free = [
        n
        for n, solid in enumerate(draft.solids)
        if solids.has_flat_top(solid) and str(n) not in used and n not in held
    ]
    if not free:
        return False
    below = int(rng.choice(free))
    base = draft.solids[below]
    half = 0.5 * min(base.size[0], base.size[2])
    shape, color = pick(rng, SHAPES), new_color(draft, rng)
    for _ in range(8):
        side = rng.uniform(1.1, 2.4) * half
        solid = _loose_solid(shape, color, side, False, rng)
        if side < 0.25 or solids.footprint(solid) > half:
            continue
        slack = 0.5 * (half - solids.footprint(solid))
        x, z = base.center[0] + rng.uniform(-slack, slack), base.center[2]
        solid = rest(dataclasses.replace(solid, support=str(below)), x, z, solids.top(base))
        if keep_solid(draft, solid, below):
            return True
    return False


def solid_count(shares: tuple[float, ...], low: int, high: int, rng: np.random.Generator) -> int:
    """How many solids: drawn by `shares` within what is allowed."""
    weights = np.array(shares)
    weights[:low] = 0.0
    weights[high + 1 :] = 0.0
    if weights.sum() == 0.0:
        return low
    return int(rng.choice(len(weights), p=weights / weights.sum()))


def add_solids(draft: Draft, count: int, rng: np.random.Generator) -> bool:
    """Add solids until there are `count`; whether all found room."""
    crowd = count + len(draft.people)
    share = (0.23, 0.5) if crowd <= 2 else (0.18, 0.36) if crowd <= 4 else (0.14, 0.26)
    while len(draft.solids) < count:
        stacked = len(draft.solids) > 0 and rng.random() < 0.3 and stack_solid(draft, rng)
        if not stacked and not add_solid(draft, rng, share):
            return False
    return True


def draft_solids(count: int, rng: np.random.Generator) -> Draft | None:
    """A scene of `count` solids without people; None if they found no room."""
    yaw, fov = rng.uniform(-180, 180), rng.uniform(36, 54)
    distance = rng.uniform(2.8, 4.6) + 0.25 * max(0, count - 2)
    camera = draw_camera(rng, yaw, distance, rng.uniform(0.15, 0.55), fov)
    draft = Draft(camera, draw_place(rng, yaw), yaw)
    return draft if add_solids(draft, count, rng) else None


def random_identity_words(rng: np.random.Generator) -> tuple[str, ...]:
    """Skin, hair, shirt, trousers, hair cut, sleeves, build."""
    lists = (
        vocabulary.SKINS,
        vocabulary.HAIRS,
        vocabulary.SHIRTS,
        vocabulary.TROUSERS,
        vocabulary.HAIR_CUTS,
        vocabulary.SLEEVES,
        vocabulary.BUILDS,
    )
    return tuple(pick(rng, options) for options in lists)

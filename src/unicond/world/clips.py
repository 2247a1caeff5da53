"""Clips: one scene over time, for pairs of frames that show the same things.

Three kinds: `orbit` moves the camera around what it looks at, `move` pushes one solid (with all
that rests on it) over the ground, `walk` lets people go where they face. Frames are scenes:
relations are found anew.
"""

from dataclasses import replace

import numpy as np

from unicond.world import poses
from unicond.world.layout import Room, person_frame, person_room, solid_frame, solid_room
from unicond.world.people import body
from unicond.world.relations import find_relations, resting_on
from unicond.world.scene import Person, Scene, Solid, Vec3
from unicond.world.vectors import add, turn
from unicond.world.vocabulary import ACTIONS, check_word

KINDS = ("orbit", "move", "walk")
ORBIT_DEGREES = 40.0
MOVE_M = 0.9
STEP_M = 1.28
"""One cycle of a walk (both feet) takes a person this far, metres: four times the stride."""
LEAST_WALK = 0.2
"""Who cannot go this share of a cycle stays."""


def clip(scene: Scene, kind: str, frames: int) -> list[Scene]:
    """A scene over time.

    Args:
        scene: where the clip begins, except that walkers are in the midst of a step.
        kind: one of "orbit", "move", "walk".
        frames: how many, at least 2.

    Returns:
        The frames; seed, index and style are the scene's.

    Raises:
        ValueError: an unknown kind, fewer than 2 frames, or nothing in the scene that can move so.
    """
    check_word(kind, KINDS, "clip")
    if frames < 2:
        raise ValueError(f"a clip of {frames} frames does not move; give at least 2")
    shares = [n / (frames - 1) for n in range(frames)]
    made = {"orbit": _orbit, "move": _move, "walk": _walk}[kind](scene, shares)
    actions = tuple(r for r in scene.relations if r.name in ACTIONS)
    if kind == "walk":
        walkers = set(_walkers(scene))
        actions = tuple(r for r in actions if r.subject - len(scene.solids) not in walkers)
    return [replace(each, relations=find_relations(each, actions)) for each in made]


def _orbit(scene: Scene, shares: list[float]) -> list[Scene]:
    """The camera goes around its target; left or right by the scene's number."""
    sign = 1.0 if scene.index % 2 else -1.0
    camera, out = scene.camera, []
    arm = add(camera.position, camera.target, -1.0)
    for share in shares:
        if share == 0.0:
            out.append(scene)
            continue
        spot = add(camera.target, turn(arm, sign * ORBIT_DEGREES * share))
        out.append(replace(scene, camera=replace(camera, position=spot)))
    return out


def _pile(scene: Scene, base: int) -> set[int]:
    """A solid and all that rests on it."""
    below, pile = resting_on(scene), {base}
    while True:
        more = {n for n, under in below.items() if under in pile} - pile
        if not more:
            return pile
        pile |= more


def _rooms(scene: Scene, without: set[int]) -> list[Room]:
    """The room that all but some entities take up."""
    rooms = [solid_room(s) for n, s in enumerate(scene.solids) if n not in without]
    first = len(scene.solids)
    people = [p for n, p in enumerate(scene.people) if first + n not in without]
    return rooms + [person_room(p, body(p)) for p in people]


def _shift(solid: Solid, way: Vec3) -> Solid:
    return replace(solid, center=add(solid.center, way))


def _move(scene: Scene, shares: list[float]) -> list[Scene]:
    """One solid slides as far as it can without a collision and within the picture."""
    used = {r.target for r in scene.relations if r.name in ACTIONS and r.name != "pointing at"}
    free = [n for n, s in enumerate(scene.solids) if s.support == "ground" and n not in used]
    rng = np.random.default_rng([scene.seed, scene.index, 11])
    best: tuple[float, set[int], Vec3] | None = None
    for base in free:
        pile = _pile(scene, base)
        rooms = _rooms(scene, pile)
        for _ in range(12):
            way = turn((0.0, 0.0, MOVE_M), rng.uniform(0, 360))
            far = _free_share(scene, pile, rooms, way)
            if best is None or far > best[0]:
                best = (far, pile, way)
    if best is None or best[0] < 0.2:
        raise ValueError(
            f"no solid of scene {scene.index} has room to move; choose 'orbit' or another scene"
        )
    far, pile, way = best
    out = []
    for share in shares:
        step = (far * share * way[0], 0.0, far * share * way[2])
        moved = [_shift(s, step) if n in pile else s for n, s in enumerate(scene.solids)]
        out.append(replace(scene, solids=tuple(moved)))
    return out


def _free_share(scene: Scene, pile: set[int], rooms: list[Room], way: Vec3) -> float:
    """How much of a way a pile can go, in steps of a tenth."""
    for tenth in range(1, 11):
        step = (0.1 * tenth * way[0], 0.0, 0.1 * tenth * way[2])
        for n in pile:
            solid = _shift(scene.solids[n], step)
            inside = solid_frame(scene.camera, solid).inside(0.0)
            if not inside or any(solid_room(solid).meets(room) for room in rooms):
                return 0.1 * (tenth - 1)
    return 1.0


def _walkers(scene: Scene) -> list[int]:
    """People (by their number among people) who are free to walk."""
    first = len(scene.solids)
    busy = {r.subject - first for r in scene.relations if r.name in ACTIONS}
    busy -= {r.subject - first for r in scene.relations if r.name == "pointing at"}
    return [n for n, p in enumerate(scene.people) if n not in busy and p.pose.name != "sitting"]


def _walk(scene: Scene, shares: list[float]) -> list[Scene]:
    """Walkers go up to one full cycle of steps, within the picture and past nothing.

    Where there is more room behind than ahead, they arrive at their place instead of leaving it.
    """
    paths = {n: _path(scene, n) for n in _walkers(scene)}
    paths = {n: ends for n, ends in paths.items() if abs(ends[1] - ends[0]) >= LEAST_WALK}
    if not paths:
        raise ValueError(f"nobody in scene {scene.index} is free to walk; choose 'orbit' or 'move'")
    out = []
    for share in shares:
        people = list(scene.people)
        for n, (start, end) in paths.items():
            people[n] = _step(people[n], start + share * (end - start))
        out.append(replace(scene, people=tuple(people)))
    return out


def _step(person: Person, cycles: float) -> Person:
    """The person after so many cycles of a walk (negative: before)."""
    far = turn((0.0, 0.0, STEP_M * person.scale * cycles), person.yaw)
    spot = add(person.position, far)
    return replace(person, pose=poses.walking(360.0 * cycles), position=spot)


def _path(scene: Scene, number: int) -> tuple[float, float]:
    """From where to where a person can walk, in cycles from their place."""
    person, rooms = scene.people[number], _rooms(scene, {len(scene.solids) + number})

    def reach(sign: float) -> float:
        for tenth in range(11):
            moved = _step(person, sign * 0.1 * tenth)
            posed = body(moved)
            inside = person_frame(scene.camera, posed, moved.scale).inside(0.0)
            if not inside or any(person_room(moved, posed).meets(room) for room in rooms):
                return 0.1 * max(0, tenth - 1)
        return 1.0

    ahead, behind = reach(1.0), reach(-1.0)
    return (0.0, ahead) if ahead >= behind else (-behind, 0.0)

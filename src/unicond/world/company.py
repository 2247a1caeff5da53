"""Drafting scenes with people: what they do, with which object, and where they stand."""

import dataclasses
import math

import numpy as np

from unicond.world import poses
from unicond.world.draft import (
    ALONE_SHARES,
    BESIDE_MORE_SHARES,
    BESIDE_ONE_SHARES,
    TRIES,
    Draft,
    add_solid,
    add_solids,
    draft_solids,
    draw_camera,
    draw_place,
    keep_solid,
    new_color,
    pick,
    random_identity_words,
    rest,
    solid_count,
    solid_size,
)
from unicond.world.layout import person_frame, person_room
from unicond.world.people import body
from unicond.world.scene import Identity, Person, Pose, Relation, Solid, Vec3
from unicond.world.vectors import add, focal, project, turn, yaw_of

FREE_POSES = ("standing", "walking", "sitting", "pointing", "waving", "arms up")
FREE_SHARES = (0.2, 0.22, 0.12, 0.14, 0.16, 0.16)
ACTION_SHARES = {"": 0.25, "pointing at": 0.2, "holding": 0.2, "sitting on": 0.18, "pushing": 0.17}
LEAST_ARM = 0.2
TALL = {"sitting": 1.0, "arms up": 2.0, "sitting on": 1.4}


def draw_draft(
    plan: np.random.Generator,
    rng: np.random.Generator,
    with_people: bool,
    low: int,
    high: int,
) -> Draft | None:
    """One try at a scene.

    Args:
        plan: for the cast: how many people and solids, who does what.
        rng: for everything else.
        with_people: whether there are people.
        low: fewest solids.
        high: most solids.

    Returns:
        The draft, or None if it did not fit the picture.
    """
    if not with_people:
        return draft_solids(solid_count(ALONE_SHARES, max(1, low), max(1, high), plan), rng)
    count = int(plan.choice((1, 2, 3), p=(0.8, 0.15, 0.05)))
    if count == 1:
        return _one_person(low, high, plan, rng)
    return _several_people(count, solid_count(BESIDE_MORE_SHARES, low, high, plan), plan, rng)


def random_person(pose: Pose, yaw: float, position: Vec3, rng: np.random.Generator) -> Person:
    """Somebody new in a given pose and place."""
    identity = Identity(*random_identity_words(rng))
    return Person(identity, pose, position, yaw, rng.uniform(0.93, 1.05))


def _facing(draft: Draft, rng: np.random.Generator) -> float:
    """A yaw, mostly turned to the camera."""
    return draft.yaw + (rng.uniform(-60, 60) if rng.random() < 0.75 else rng.uniform(-180, 180))


def keep_person(draft: Draft, person: Person, beside: int | None = None) -> bool:
    """Add a person to the draft if they fit; whether they did."""
    posed = body(person)
    frame = person_frame(draft.camera, posed, person.scale)
    room = person_room(person, posed)
    if not draft.fits(frame, room, beside):
        return False
    draft.people.append(person)
    draft.frames.append(frame)
    draft.rooms.append(room)
    return True


def _start(tall: float, share: float, rng: np.random.Generator) -> Draft:
    """Camera and place such that somebody `tall` metres fills `share` of the picture's height."""
    yaw, fov = rng.uniform(-180, 180), rng.uniform(34, 52)
    distance = tall * 0.5 / math.tan(math.radians(fov) / 2) / share
    camera = draw_camera(rng, yaw, distance, 0.48 * tall + rng.uniform(-0.08, 0.06), fov)
    return Draft(camera, draw_place(rng, yaw), yaw)


def _one_person(
    low: int, high: int, plan: np.random.Generator, rng: np.random.Generator
) -> Draft | None:
    count = solid_count(BESIDE_ONE_SHARES, low, high, plan)
    action = ""
    if count > 0:
        action = str(plan.choice(list(ACTION_SHARES), p=list(ACTION_SHARES.values())))
    name = str(plan.choice(FREE_POSES, p=FREE_SHARES))
    tall = TALL.get(action or name, 1.78)
    most = 0.86 if count <= 1 else 0.74
    least = 0.55 if tall > 1.1 else 0.4
    if action == "pushing":
        least, most = 0.45, 0.66
    draft = _start(tall, rng.uniform(least, min(most, 0.6) if tall <= 1.1 else most), rng)
    made = {
        "": _free,
        "pointing at": _point_at,
        "holding": _hold,
        "sitting on": _sit_on,
        "pushing": _push,
    }[action]
    if not made(draft, name, count, rng) or not add_solids(draft, count, rng):
        return None
    return _settle(draft)


def _several_people(
    count: int, beside: int, plan: np.random.Generator, rng: np.random.Generator
) -> Draft | None:
    draft = _start(1.8, rng.uniform(0.46, 0.66 if count == 2 else 0.54), rng)
    for k in range(count):
        name = str(plan.choice(FREE_POSES, p=FREE_SHARES))
        middle = (k + 0.5) / count - 0.5
        for _ in range(TRIES):
            spot = (0.75 * middle * 1.3 + rng.uniform(-0.06, 0.06)) * _depth(draft)
            side = turn((spot / focal(draft.camera), 0.0, rng.uniform(-0.5, 0.5)), draft.yaw)
            person = random_person(poses.free_pose(name, rng), _facing(draft, rng), side, rng)
            if keep_person(draft, person):
                break
        else:
            return None
    return _settle(draft) if add_solids(draft, beside, rng) else None


def _depth(draft: Draft) -> float:
    """How far the middle of the scene is, metres."""
    return math.hypot(draft.camera.position[0], draft.camera.position[2])


def _spot(draft: Draft, rng: np.random.Generator, spread: float = 0.26) -> Vec3:
    """A place on the ground about the middle of the scene."""
    wide = spread * _depth(draft) / focal(draft.camera)
    side = (rng.uniform(-wide, wide), 0.0, rng.uniform(-0.3, 0.3))
    return turn(side, draft.yaw)


def _free(draft: Draft, name: str, count: int, rng: np.random.Generator) -> bool:
    """Somebody who does nothing to an object."""
    for _ in range(TRIES):
        spot = _spot(draft, rng, 0.08 if count == 0 else 0.28)
        person = random_person(poses.free_pose(name, rng), _facing(draft, rng), spot, rng)
        if keep_person(draft, person):
            return True
    return False


def _act(draft: Draft, action: str, solid: int) -> bool:
    """Note that the last person does something to a solid."""
    draft.actions.append(Relation(-len(draft.people), action, solid))
    return True


def _settle(draft: Draft) -> Draft:
    """Replace what stands for people (negative numbers) by their entity indices."""
    first = len(draft.solids) - 1
    draft.actions = [dataclasses.replace(r, subject=first - r.subject) for r in draft.actions]
    for relation in draft.actions:
        if relation.name == "holding":
            held = draft.solids[relation.target]
            draft.solids[relation.target] = dataclasses.replace(held, support=str(relation.subject))
    return draft


def _point_at(draft: Draft, _: str, count: int, rng: np.random.Generator) -> bool:
    """An object on the ground and somebody who points at it."""
    if not add_solid(draft, rng, (0.18, 0.34) if count <= 2 else (0.15, 0.28)):
        return False
    goal = draft.solids[0].center
    for _try in range(TRIES):
        spot = _spot(draft, rng)
        way = add(goal, spot, -1.0)
        flat = math.hypot(way[0], way[2])
        if not 1.2 <= flat <= 2.8:
            continue
        toward = yaw_of(way)
        off = (draft.yaw - toward + 180) % 360 - 180
        yaw = toward + max(-60.0, min(60.0, off)) + rng.uniform(-12, 12)
        scale = rng.uniform(0.93, 1.05)
        start = (spot[0], poses.CHEST * scale, spot[2])
        pose = poses.pointing(turn(add(goal, start, -1.0), -yaw), rng)
        person = random_person(pose, yaw, spot, rng)
        person = dataclasses.replace(person, scale=scale)
        if _arm_shows(draft, person) and keep_person(draft, person):
            return _act(draft, "pointing at", 0)
    return False


def _arm_shows(draft: Draft, person: Person) -> bool:
    """Whether a stretched arm stands off the body in the picture, by a fifth of the height."""
    points = body(person).points
    seen = {name: project(draft.camera, point) for name, point in points.items()}
    high = abs(seen["left ankle"][1] - seen["head"][1])
    hands = (seen["left wrist"][0], seen["right wrist"][0])
    return max(abs(hand - seen["neck"][0]) for hand in hands) > LEAST_ARM * high


def _hold(draft: Draft, _: str, count: int, rng: np.random.Generator) -> bool:
    """Somebody with an object in both hands, before the chest or above the head."""
    del count
    shape, color = pick(rng, ("ball", "box", "cylinder", "cone", "pill")), new_color(draft, rng)
    for _try in range(TRIES):
        size = solid_size(shape, rng.uniform(0.3, 0.44), rng)
        half = [0.5 * extent for extent in size]
        yaw = draft.yaw + rng.uniform(-52, 52)
        scale, spot = rng.uniform(0.93, 1.05), _spot(draft, rng)
        if rng.random() < 0.25:
            height, ahead = 1.86 + half[1] / scale, 0.12
            grip = height - 0.3 * half[1]
        else:
            height, ahead = rng.uniform(1.0, 1.3), 0.2 + half[2] / scale
            grip = height - 0.02
        pose = poses.holding(half[0] / scale + 0.035, grip, ahead - 0.04, rng)
        person = dataclasses.replace(random_person(pose, yaw, spot, rng), scale=scale)
        center = add(spot, turn((0.0, scale * height, scale * ahead), yaw))
        if keep_person(draft, person):
            if keep_solid(draft, Solid(shape, color, center, size, yaw), 0):
                return _act(draft, "holding", 0)
            _forget(draft)
    return False


def _forget(draft: Draft) -> None:
    """Take the only person back out of a draft that has nothing else yet."""
    for entries in (draft.people, draft.frames, draft.rooms):
        entries.clear()


def _sit_on(draft: Draft, _: str, count: int, rng: np.random.Generator) -> bool:
    """Somebody on a box or cylinder, feet on the ground before it."""
    del count
    shape, color = pick(rng, ("box", "box", "cylinder")), new_color(draft, rng)
    for _try in range(TRIES):
        wide, seat = rng.uniform(0.55, 0.85), rng.uniform(0.42, 0.52)
        deep = wide if shape == "cylinder" else rng.uniform(0.45, 0.6)
        wide = min(wide, 0.7) if shape == "cylinder" else wide
        deep = wide if shape == "cylinder" else deep
        yaw = draft.yaw + rng.choice((-1.0, 1.0)) * rng.uniform(10, 80)
        scale, spot = rng.uniform(0.93, 1.05), _spot(draft, rng)
        pose = poses.sitting(seat / scale, rng)
        person = dataclasses.replace(random_person(pose, yaw, spot, rng), scale=scale)
        back = add(spot, turn((0.0, 0.0, 0.17 * scale - 0.5 * deep), yaw))
        solid = rest(Solid(shape, color, spot, (wide, seat, deep), yaw), back[0], back[2], 0.0)
        if keep_person(draft, person):
            if keep_solid(draft, solid, 0):
                return _act(draft, "sitting on", 0)
            _forget(draft)
    return False


def _depth_behind(shape: str, size: Vec3, hand: Vec3) -> float:
    """How far behind its middle a resting solid begins, where a hand at (x, y) touches it."""
    half = 0.5 * size[2]
    if shape == "box":
        return half
    high = hand[1] - half if shape == "ball" else 0.0
    return math.sqrt(max(0.0, half**2 - hand[0] ** 2 - high**2))


def _push(draft: Draft, _: str, count: int, rng: np.random.Generator) -> bool:
    """Somebody leaning into a large object, seen from the side."""
    del count
    shape, color = pick(rng, ("box", "ball", "cylinder")), new_color(draft, rng)
    for _try in range(TRIES):
        size = solid_size(shape, rng.uniform(0.78, 1.05), rng)
        if size[1] < 0.74:
            continue
        yaw = draft.yaw + rng.choice((-1.0, 1.0)) * rng.uniform(50, 115)
        scale, spot = rng.uniform(0.93, 1.05), _spot(draft, rng, 0.3)
        height = (0.72 if shape == "ball" else 0.9) * size[1]
        pose = poses.pushing(height / scale, 0.42, rng)
        person = dataclasses.replace(random_person(pose, yaw, spot, rng), scale=scale)
        hand = turn(add(body(person).points["left hand"], spot, -1.0), -yaw)
        ahead = hand[2] + 0.05 * scale + _depth_behind(shape, size, hand)
        at = add(spot, turn((0.0, 0.0, ahead), yaw))
        solid = rest(Solid(shape, color, at, size, yaw), at[0], at[2], 0.0)
        if keep_person(draft, person):
            if keep_solid(draft, solid, 0):
                return _act(draft, "pushing", 0)
            _forget(draft)
    return False

"""Articulated people: from a pose to 18 keypoints, and to the rounded pieces that are drawn.

A pose gives the ends (hands, feet, pelvis, trunk); elbows and knees come from two-bone inverse
kinematics: with bones l1, l2 and the end at distance d, the joint lies `(l1^2 - l2^2 + d^2) / 2d`
along the way and `sqrt(l1^2 - that^2)` off it, towards a pole (knees forward, elbows back). Lengths
are metres at height 1.75 m.
"""

import math
from dataclasses import dataclass, replace

from unicond.world.scene import Person, Pose, Vec3
from unicond.world.vectors import add, cross, dot, turn, unit

UPPER_ARM, FOREARM, THIGH, SHIN = 0.28, 0.26, 0.42, 0.41
ANKLE, TRUNK, SHOULDER, HIP = 0.08, 0.50, 0.185, 0.095
GIRTH = {"slim": 0.86, "average": 1.0, "broad": 1.2}
UP, LEFT, FORWARD = (0.0, 1.0, 0.0), (1.0, 0.0, 0.0), (0.0, 0.0, 1.0)


@dataclass(frozen=True, slots=True)
class Body:
    """A posed body, in the world: named points and the directions of trunk and head."""

    points: dict[str, Vec3]
    trunk_left: Vec3
    trunk_up: Vec3
    head_left: Vec3
    head_up: Vec3


@dataclass(frozen=True, slots=True)
class Piece:
    """A capsule or ellipsoid: centre, unit axes x and y (z is x cross y), radii along them.

    `stretch` is half the length of the straight part along y, in units of the y radius: 0 is an
    ellipsoid. What `touches` may rest on something, and darkens it.
    """

    part: str
    center: Vec3
    x: Vec3
    y: Vec3
    radii: Vec3
    stretch: float = 0.0
    touches: bool = False


def bend(start: Vec3, end: Vec3, first: float, second: float, pole: Vec3) -> tuple[Vec3, Vec3]:
    """Two-bone inverse kinematics.

    Args:
        start: where the first bone begins.
        end: where the second should end; out of reach, it ends as near as it can.
        first: length of the first bone.
        second: length of the second bone.
        pole: direction to which the joint points.

    Returns:
        The joint between the bones, and the end that was reached.
    """
    way = add(end, start, -1.0)
    distance = math.sqrt(dot(way, way))
    along = unit(way) if distance > 1e-6 else unit(pole)
    reach = min(max(distance, abs(first - second) + 1e-3), 0.999 * (first + second))
    share = (first**2 - second**2 + reach**2) / (2 * reach)
    off = unit(add(pole, along, -dot(pole, along)))
    joint = add(add(start, along, share), off, math.sqrt(max(0.0, first**2 - share**2)))
    return joint, add(start, along, reach)


def _trunk(pose: Pose) -> tuple[Vec3, Vec3, Vec3, Vec3]:
    """Trunk left and up, head left and up, in the body's own frame."""
    lean, sway = math.radians(pose.lean), math.radians(pose.sway)
    up = unit((math.sin(sway), math.cos(sway) * math.cos(lean), math.sin(lean)))
    left = turn(LEFT, pose.twist)
    left = unit(add(left, up, -dot(left, up)))
    pitch = math.radians(pose.head_pitch + 0.4 * pose.lean)
    ahead = turn((0.0, -math.sin(pitch), math.cos(pitch)), pose.head_yaw + pose.twist)
    head_left = unit(cross(UP, ahead))
    return left, up, head_left, unit(cross(ahead, head_left))


def body(person: Person) -> Body:
    """The person's joints in the world.

    Args:
        person: identity, pose and place.

    Returns:
        Points by name: the 18 keypoints of OpenPose and pelvis, head, hands, heels, toes.
    """
    pose, girth = person.pose, 0.5 + 0.5 * GIRTH[person.identity.build]
    left, up, head_left, head_up = _trunk(pose)
    ahead = cross(head_left, head_up)
    neck = add(pose.pelvis, up, TRUNK)
    head = add(add(neck, head_up, 0.2), ahead, 0.015)
    local = {"pelvis": pose.pelvis, "neck": neck, "head": head}
    local["nose"] = add(add(head, ahead, 0.135), head_up, -0.02)
    ends = (("left", 1.0, pose.left_hand, pose.left_foot),)
    ends += (("right", -1.0, pose.right_hand, pose.right_foot),)
    for side, sign, hand, foot in ends:
        shoulder = add(add(neck, up, -0.06), left, sign * SHOULDER * girth)
        hip = add(pose.pelvis, LEFT, sign * HIP * girth)
        elbow, wrist = bend(shoulder, hand, UPPER_ARM, FOREARM, (0.55 * sign, -0.6, -0.6))
        ankle = add(foot, UP, ANKLE)
        knee, ankle = bend(hip, ankle, THIGH, SHIN, (0.15 * sign, 0.3, 1.0))
        arm = unit(add(wrist, elbow, -1.0))
        sole = add(ankle, UP, -0.5 * ANKLE)
        toe = unit((0.25 * sign, 0.0, 1.0))
        local |= {f"{side} shoulder": shoulder, f"{side} elbow": elbow, f"{side} wrist": wrist}
        local |= {f"{side} hip": hip, f"{side} knee": knee, f"{side} ankle": ankle}
        local |= {f"{side} hand": add(wrist, arm, 0.05), f"{side} heel": add(sole, toe, -0.03)}
        local[f"{side} toe"] = add(sole, toe, 0.13)
        face = add(add(head, ahead, 0.105), head_up, 0.025)
        local[f"{side} eye"] = add(face, head_left, sign * 0.052)
        local[f"{side} ear"] = add(head, head_left, sign * 0.12)
    points = {
        name: add(person.position, turn(point, person.yaw), person.scale)
        for name, point in local.items()
    }
    turned = [turn(direction, person.yaw) for direction in (left, up, head_left, head_up)]
    return Body(points, *turned)


def _limb(part: str, a: Vec3, b: Vec3, radius: float, side: Vec3, flat: float = 1.0) -> Piece:
    """A capsule from a to b, `flat` times as deep as it is wide along `side`."""
    way = add(b, a, -1.0)
    length = math.sqrt(dot(way, way))
    y = unit(way) if length > 1e-6 else UP
    x = unit(add(side, y, -dot(side, y)))
    if dot(x, x) < 0.5:
        x = unit(cross(y, (0.31, 0.17, 0.93)))
    middle = add(a, way, 0.5)
    depth = flat * radius
    touches = part == "shoes"
    return Piece(part, middle, x, y, (radius, depth, depth), 0.5 * length / depth, touches)


def _head(person: Person, posed: Body) -> list[Piece]:
    """Head, eyes and hair."""
    p, s, cut = posed.points, person.scale, person.identity.hair_cut
    left, up = posed.head_left, posed.head_up
    ahead = cross(left, up)
    head = p["head"]

    def blob(part: str, center: Vec3, radii: Vec3) -> Piece:
        return Piece(part, center, left, up, (radii[0] * s, radii[1] * s, radii[2] * s))

    crown = add(add(head, up, 0.038 * s), ahead, -0.032 * s)
    pieces = [
        blob("skin", head, (0.118, 0.145, 0.128)),
        blob("hair", crown, (0.133, 0.137, 0.132)),
        blob("eyes", p["left eye"], (0.021, 0.026, 0.02)),
        blob("eyes", p["right eye"], (0.021, 0.026, 0.02)),
        blob("skin", p["nose"], (0.02, 0.025, 0.025)),
    ]
    if cut == "long":
        low = add(add(head, up, -0.2 * s), ahead, -0.075 * s)
        high = add(add(head, up, 0.02 * s), ahead, -0.055 * s)
        pieces.append(_limb("hair", low, high, 0.132 * s, left, 0.6))
    if cut == "bun":
        bun = add(add(head, up, 0.175 * s), ahead, -0.07 * s)
        pieces.append(blob("hair", bun, (0.075, 0.07, 0.075)))
    return pieces


def pieces(person: Person, posed: Body | None = None) -> list[Piece]:
    """What is drawn of a person.

    Args:
        person: identity, pose and place.
        posed: `body(person)`, if it is at hand.

    Returns:
        Capsules and ellipsoids in the world, each of one part (`vocabulary.PARTS`).
    """
    posed = posed or body(person)
    p, s = posed.points, person.scale
    girth, left, up = GIRTH[person.identity.build], posed.trunk_left, posed.trunk_up
    ahead = cross(left, up)
    wide, lower = s * girth, "shirt" if person.identity.sleeves == "long" else "skin"
    waist, chest = add(p["pelvis"], up, 0.13 * s), add(p["neck"], up, -0.15 * s)
    out = [
        _limb("shirt", waist, chest, 0.172 * wide, left, 0.72),
        _limb("shirt", p["left shoulder"], p["right shoulder"], 0.068 * wide, ahead),
        _limb("skin", add(p["neck"], up, -0.03 * s), add(p["neck"], up, 0.1 * s), 0.06 * s, left),
    ]
    hips = _limb("trousers", p["left hip"], p["right hip"], 0.11 * wide, ahead)
    out.append(replace(hips, touches=True))
    for side in ("left", "right"):
        knee, ankle = p[f"{side} knee"], p[f"{side} ankle"]
        elbow, wrist = p[f"{side} elbow"], p[f"{side} wrist"]
        out += [
            _limb("trousers", p[f"{side} hip"], knee, 0.092 * wide, left),
            _limb("trousers", knee, ankle, 0.07 * wide, left),
            _limb("shoes", p[f"{side} heel"], p[f"{side} toe"], 0.055 * s, UP, 1.25),
            _limb("shirt", p[f"{side} shoulder"], elbow, 0.06 * wide, left),
            _limb(lower, elbow, wrist, 0.052 * wide, left),
            Piece("skin", p[f"{side} hand"], left, up, (0.06 * s, 0.06 * s, 0.06 * s)),
        ]
    return out + _head(person, posed)

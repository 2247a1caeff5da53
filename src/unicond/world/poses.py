"""Natural poses with free variation, as ends in the body's own frame (see `scene.Pose`)."""

import math
from dataclasses import replace

import numpy as np

from unicond.world.people import FORWARD, LEFT, SHOULDER, UP
from unicond.world.scene import Pose, Vec3
from unicond.world.vectors import add, turn, unit

STAND = 0.90
CHEST = 1.34
REACH = 0.53


def hanging(sign: float, rng: np.random.Generator) -> Vec3:
    """A hand at the side of the body (`sign` +1 is the left hand)."""
    return (
        sign * rng.uniform(0.22, 0.31),
        STAND - rng.uniform(0.03, 0.09),
        rng.uniform(-0.02, 0.12),
    )


def standing(rng: np.random.Generator) -> Pose:
    """Standing upright, now and then with a hand on the hip."""
    apart = rng.uniform(0.09, 0.16)
    left, right = hanging(1.0, rng), hanging(-1.0, rng)
    if rng.random() < 0.25:
        left = (0.2, 1.02, 0.08)
    elif rng.random() < 0.2:
        right = (-0.2, 1.02, 0.08)
    return Pose(
        "standing",
        (0.0, STAND - rng.uniform(0.0, 0.02), 0.0),
        left,
        right,
        (apart, 0.0, rng.uniform(-0.06, 0.06)),
        (-apart, 0.0, rng.uniform(-0.06, 0.06)),
        lean=rng.uniform(-3, 5),
        sway=rng.uniform(-4, 4),
        head_yaw=rng.uniform(-30, 30),
        head_pitch=rng.uniform(-8, 12),
    )


def walking(phase: float, stride: float = 0.32, swing: float = 0.3) -> Pose:
    """One moment of a walk.

    Args:
        phase: degrees; at 0 the left foot is furthest ahead, at 180 the right one.
        stride: how far the feet go before and behind the body, metres.
        swing: the same for the hands.

    Returns:
        The pose.
    """
    c, s = math.cos(math.radians(phase)), math.sin(math.radians(phase))
    return Pose(
        "walking",
        (0.0, STAND - 0.035 * abs(c), 0.0),
        (0.26, 0.85 + 0.1 * abs(c), -swing * c + 0.06),
        (-0.26, 0.85 + 0.1 * abs(c), swing * c + 0.06),
        (0.09, 0.14 * max(0.0, -s), stride * c),
        (-0.09, 0.14 * max(0.0, s), -stride * c),
        lean=5.0,
        twist=-8.0 * c,
        head_yaw=8.0 * c,
    )


def waving(rng: np.random.Generator) -> Pose:
    """Standing with one hand up beside the head."""
    pose = standing(rng)
    sign = 1.0 if rng.random() < 0.5 else -1.0
    hand = (sign * rng.uniform(0.38, 0.52), rng.uniform(1.62, 1.8), rng.uniform(0.0, 0.12))
    if sign > 0:
        return replace(pose, name="waving", left_hand=hand, right_hand=hanging(-1.0, rng))
    return replace(pose, name="waving", right_hand=hand, left_hand=hanging(1.0, rng))


def arms_up(rng: np.random.Generator) -> Pose:
    """Standing with both hands above the head."""
    apart, height, ahead = rng.uniform(0.28, 0.5), rng.uniform(1.76, 1.9), rng.uniform(0.0, 0.12)
    left, right = (apart, height, ahead), (-apart, height + rng.uniform(-0.06, 0.06), ahead)
    return replace(standing(rng), name="arms up", left_hand=left, right_hand=right)


def pointing(direction: Vec3, rng: np.random.Generator) -> Pose:
    """Standing with one arm stretched along `direction` (in the body's frame), looking there."""
    direction = unit(direction)
    sign = 1.0 if direction[0] >= 0.0 else -1.0
    pose = standing(rng)
    twist = 0.35 * math.degrees(math.atan2(direction[0], max(0.2, direction[2])))
    shoulder = add((0.0, STAND + 0.44, 0.0), turn(LEFT, twist), sign * SHOULDER)
    hand = add(shoulder, direction, REACH)
    away = math.degrees(math.atan2(direction[0], direction[2]))
    look = max(-55.0, min(55.0, away - twist))
    pose = replace(pose, name="pointing", twist=twist, head_yaw=look, sway=0.0, lean=0.0)
    if sign > 0:
        return replace(pose, left_hand=hand, right_hand=hanging(-1.0, rng))
    return replace(pose, right_hand=hand, left_hand=hanging(1.0, rng))


def sitting(seat: float, rng: np.random.Generator) -> Pose:
    """Sitting at height `seat` (metres, 0 is the ground) with the feet on the ground ahead."""
    pelvis = (0.0, seat + 0.11, 0.0)
    low = seat < 0.25
    ahead = rng.uniform(0.56, 0.66) if low else rng.uniform(0.42, 0.54)
    apart = rng.uniform(0.1, 0.2)
    if rng.random() < 0.6:
        spot = (0.34, 0.42) if low else (seat + 0.22, 0.34)
        hands = [(sign * (apart + 0.04), spot[0], spot[1]) for sign in (1.0, -1.0)]
    else:
        hands = [(sign * 0.36, seat + 0.14, rng.uniform(-0.1, 0.1)) for sign in (1.0, -1.0)]
    return Pose(
        "sitting",
        pelvis,
        hands[0],
        hands[1],
        (apart, 0.0, ahead),
        (-apart, 0.0, ahead + rng.uniform(-0.08, 0.08)),
        lean=rng.uniform(-6, 8) - (8.0 if low else 0.0),
        head_yaw=rng.uniform(-35, 35),
        head_pitch=rng.uniform(-8, 10),
    )


def holding(hand_gap: float, height: float, ahead: float, rng: np.random.Generator) -> Pose:
    """Standing with both hands at the sides of something held in front.

    Args:
        hand_gap: distance of each wrist from the body's middle plane, metres.
        height: of the hands above the ground.
        ahead: of the hands before the body.
        rng: for the rest of the pose.

    Returns:
        The pose.
    """
    pose = replace(standing(rng), name="holding", sway=0.0, lean=-2.0, head_pitch=10.0)
    left, right = (hand_gap, height, ahead), (-hand_gap, height, ahead)
    return replace(pose, left_hand=left, right_hand=right)


def pushing(height: float, ahead: float, rng: np.random.Generator) -> Pose:
    """Leaning into something: both hands against it at `height`, `ahead` of the feet's middle."""
    lean = rng.uniform(14, 22) + 55 * max(0.0, 1.0 - height)
    stride = rng.uniform(0.28, 0.4)
    apart = rng.uniform(0.14, 0.2)
    feet = [(0.1, 0.0, -stride), (-0.1, 0.0, 0.25 * stride)]
    if rng.random() < 0.5:
        feet = [(0.1, 0.0, 0.25 * stride), (-0.1, 0.0, -stride)]
    return Pose(
        "pushing",
        (0.0, STAND - 0.06, -0.16),
        (apart, height, ahead),
        (-apart, height, ahead),
        feet[0],
        feet[1],
        lean=lean,
        head_pitch=-0.3 * lean,
    )


def free_pose(name: str, rng: np.random.Generator) -> Pose:
    """A pose that needs no object.

    Args:
        name: one of standing, walking, sitting, pointing, waving, arms up.
        rng: for its variation.

    Returns:
        The pose, feet or seat on the ground.

    Raises:
        ValueError: another name.
    """
    if name == "standing":
        return standing(rng)
    if name == "walking":
        return walking(rng.uniform(0, 360), rng.uniform(0.24, 0.38), rng.uniform(0.18, 0.34))
    if name == "sitting":
        return sitting(0.0, rng)
    if name == "waving":
        return waving(rng)
    if name == "arms up":
        return arms_up(rng)
    if name == "pointing":
        side = turn(FORWARD, rng.choice((-1.0, 1.0)) * rng.uniform(20, 85))
        return pointing(add(side, UP, rng.uniform(-0.2, 0.4)), rng)
    raise ValueError(
        f"pose {name!r} needs an object; the free ones are standing, walking, sitting, "
        "pointing, waving, arms up"
    )

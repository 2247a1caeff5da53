"""Closed-form ray intersections, over flat lists of (primitive, ray) pairs.

Rays come in the unit shapes' own frames (see `table`). Everything is elementwise on float32 with +,
-, *, / and sqrt, so that a ray's result depends on nothing beside it.
"""

import torch
from torch import Tensor

from unicond.world.table import BALL, BOX, CONE, CYLINDER, PILL

NO_HIT = float("inf")
EPSILON = 1e-4
"""Ray parameters (metres) below this do not count: the ray starts on a surface."""

Xyz = tuple[Tensor, Tensor, Tensor]


def dot3(a: Xyz, b: Xyz) -> Tensor:
    """Inner product, always summed in the same order."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def take(values: Tensor, rows: Tensor) -> Tensor:
    """Columns of (N,) or (C, N) by int32 numbers, (K,) or (C, K).

    `index_select` on one contiguous row at a time is five times faster than advanced indexing.
    """
    if values.ndim == 1:
        return values.index_select(0, rows)
    return torch.stack([row.index_select(0, rows) for row in values.unbind(0)])


def transform(m: Tensor, v: Xyz) -> Xyz:
    """Apply matrices (9, N) to vectors."""
    a, b, c, d, e, f, g, h, i = m.unbind(0)
    return dot3((a, b, c), v), dot3((d, e, f), v), dot3((g, h, i), v)


def transform_back(m: Tensor, v: Xyz) -> Xyz:
    """Apply the transposes of matrices (9, N) to vectors."""
    a, b, c, d, e, f, g, h, i = m.unbind(0)
    return dot3((a, d, g), v), dot3((b, e, h), v), dot3((c, f, i), v)


def _nearest(a: Tensor, b: Tensor, slack: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Entry and exit of a quadric, and whether it is met at all.

    The roots lie about the closest approach `-b / a`; `slack` is what is left of the squared radius
    there, which float32 resolves better than the discriminant.
    """
    meets = slack >= 0
    middle = -b / a
    half = torch.sqrt(slack.clamp_min(0) / a)
    return middle - half, middle + half, meets


def hit_ball(o: Xyz, d: Xyz, stretch: Tensor) -> Tensor:
    """Unit ball. Returns the entry parameter, or inf."""
    del stretch
    a = dot3(d, d)
    b = dot3(o, d)
    t = -b / a
    p = (o[0] + t * d[0], o[1] + t * d[1], o[2] + t * d[2])
    near, _, meets = _nearest(a, b, 1 - dot3(p, p))
    return torch.where(meets & (near > EPSILON), near, NO_HIT)


def _slab(o: Tensor, d: Tensor, half: float = 1.0) -> tuple[Tensor, Tensor]:
    """Parameters at which a ray enters and leaves |x| <= half."""
    safe = torch.where(d.abs() < 1e-9, 1e-9, d)
    one, two = (-half - o) / safe, (half - o) / safe
    return torch.minimum(one, two), torch.maximum(one, two)


def hit_box(o: Xyz, d: Xyz, stretch: Tensor) -> Tensor:
    """Box [-1, 1]^3. Returns the entry parameter, or inf."""
    del stretch
    (n0, f0), (n1, f1), (n2, f2) = (_slab(o[k], d[k]) for k in range(3))
    near = torch.maximum(torch.maximum(n0, n1), n2)
    far = torch.minimum(torch.minimum(f0, f1), f2)
    return torch.where((near <= far) & (near > EPSILON), near, NO_HIT)


def _tube(o: Xyz, d: Xyz) -> tuple[Tensor, Tensor, Tensor]:
    """The infinite cylinder x^2 + z^2 <= 1: entry, exit, whether met."""
    a = (d[0] * d[0] + d[2] * d[2]).clamp_min(1e-12)
    b = o[0] * d[0] + o[2] * d[2]
    t = -b / a
    x, z = o[0] + t * d[0], o[2] + t * d[2]
    return _nearest(a, b, 1 - (x * x + z * z))


def hit_cylinder(o: Xyz, d: Xyz, stretch: Tensor) -> Tensor:
    """Cylinder of radius 1, |y| <= 1. Returns the entry parameter, or inf."""
    del stretch
    enter, leave, meets = _tube(o, d)
    low, high = _slab(o[1], d[1])
    near, far = torch.maximum(enter, low), torch.minimum(leave, high)
    return torch.where(meets & (near <= far) & (near > EPSILON), near, NO_HIT)


def hit_pill(o: Xyz, d: Xyz, stretch: Tensor) -> Tensor:
    """Capsule of radius 1 about |y| <= stretch. Returns the entry parameter, or inf."""
    enter, _, meets = _tube(o, d)
    y = o[1] + enter * d[1]
    end = torch.where(y > 0, stretch, -stretch)
    cap = hit_ball((o[0], o[1] - end, o[2]), d, stretch)
    side = torch.where(meets & (enter > EPSILON), enter, NO_HIT)
    return torch.where(y.abs() <= stretch, side, torch.where(meets, cap, NO_HIT))


def hit_cone(o: Xyz, d: Xyz, stretch: Tensor) -> Tensor:
    """Cone with apex (0, 1, 0), base radius 1 at y = -1. Returns the entry parameter, or inf."""
    del stretch
    q, dq = 0.5 * (1 - o[1]), -0.5 * d[1]
    a = d[0] * d[0] + d[2] * d[2] - dq * dq
    a = torch.where(a.abs() < 1e-9, 1e-9, a)
    b = o[0] * d[0] + o[2] * d[2] - q * dq
    c = o[0] * o[0] + o[2] * o[2] - q * q
    slack = b * b - a * c
    root = torch.sqrt(slack.clamp_min(0))
    best = torch.full_like(a, NO_HIT)
    for t in ((-b - root) / a, (-b + root) / a):
        y = o[1] + t * d[1]
        good = (slack >= 0) & (t > EPSILON) & (y >= -1) & (y <= 1)
        best = torch.where(good & (t < best), t, best)
    t = (-1 - o[1]) / torch.where(d[1].abs() < 1e-9, 1e-9, d[1])
    x, z = o[0] + t * d[0], o[2] + t * d[2]
    good = (x * x + z * z <= 1) & (t > EPSILON) & (t < best)
    return torch.where(good, t, best)


HITS = {
    BALL: hit_ball,
    BOX: hit_box,
    CYLINDER: hit_cylinder,
    PILL: hit_pill,
    CONE: hit_cone,
}


def local_normal(shape: int, p: Xyz, stretch: Tensor) -> Xyz:
    """The outward gradient at a surface point, in the unit shape's own frame (any length).

    Args:
        shape: one of BALL, BOX, CYLINDER, PILL, CONE.
        p: the point, on the unit shape.
        stretch: the capsule's straight part.

    Returns:
        Its three components.
    """
    x, y, z = p
    if shape == BALL:
        return p
    if shape == PILL:
        return x, y - torch.maximum(torch.minimum(y, stretch), -stretch), z
    zero = torch.zeros_like(x)
    if shape == BOX:
        ax, ay, az = x.abs(), y.abs(), z.abs()
        on_x = (ax >= ay) & (ax >= az)
        on_y = ~on_x & (ay >= az)
        return (
            torch.where(on_x, x, zero),
            torch.where(on_y, y, zero),
            torch.where(on_x | on_y, zero, z),
        )
    radius = torch.sqrt(x * x + z * z)
    if shape == CYLINDER:
        cap = y.abs() >= radius
        return torch.where(cap, zero, x), torch.where(cap, y, zero), torch.where(cap, zero, z)
    base = (y + 1) < (radius - 0.5 * (1 - y)).abs()
    minus = torch.full_like(y, -1.0)
    return (
        torch.where(base, zero, x),
        torch.where(base, minus, 0.25 * (1 - y)),
        torch.where(base, zero, z),
    )

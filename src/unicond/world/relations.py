"""Which relations hold in a scene, as its camera sees it.

`left of` and `right of`: the picture boxes lie side by side. `in front of` and `behind`: one is
nearer by a clear margin and the boxes share columns. `on top of`: the one rests on the other.
People's actions hold by how they were posed. Relations are those of the picture, never of a
person's own left and right.
"""

from unicond.world.layout import Frame, entity_frame
from unicond.world.scene import Relation, Scene, Solid

SIDE_OVERLAP = 0.25
COLUMN_OVERLAP = 0.35
DEPTH_GAP_M = 0.35


def spatial(a: Frame, b: Frame) -> str | None:
    """The relation of `a` to `b` by their boxes, if it is clear.

    Args:
        a: box of the subject.
        b: box of the target.

    Returns:
        "left of", "right of", "in front of", "behind" or None.
    """
    shared = min(a.right, b.right) - max(a.left, b.left)
    narrow = min(a.right - a.left, b.right - b.left)
    gap = 0.5 * (b.near + b.far) - 0.5 * (a.near + a.far)
    if shared >= COLUMN_OVERLAP * narrow and abs(gap) >= DEPTH_GAP_M:
        return "in front of" if gap > 0 else "behind"
    if shared <= SIDE_OVERLAP * narrow:
        return "left of" if a.middle[0] < b.middle[0] else "right of"
    return None


def resting_on(scene: Scene) -> dict[int, int]:
    """Which entity rests on (or is held by) which, by index."""
    out: dict[int, int] = {}
    for n, solid in enumerate(scene.solids):
        if solid.support != "ground":
            out[n] = int(solid.support)
    return out


def find_relations(scene: Scene, actions: tuple[Relation, ...] = ()) -> tuple[Relation, ...]:
    """All relations between entities, most telling first.

    Args:
        scene: the scene; its own relations are not looked at.
        actions: what people do to objects, which the geometry was made for.

    Returns:
        Actions, then `on top of`, then `in front of` and `behind`, then sides; pairs that act on or
        carry each other have no further relation.
    """
    frames = [entity_frame(scene, n) for n in range(len(scene))]
    found = list(actions)
    taken = {frozenset((r.subject, r.target)) for r in actions}
    for n, below in resting_on(scene).items():
        if isinstance(scene.entity(below), Solid):
            found.append(Relation(n, "on top of", below))
            taken.add(frozenset((n, below)))
    flat: list[Relation] = []
    for a in range(len(frames)):
        for b in range(len(frames)):
            name = spatial(frames[a], frames[b])
            if a != b and name and frozenset((a, b)) not in taken:
                flat.append(Relation(a, name, b))
    deep = [r for r in flat if r.name in ("in front of", "behind")]
    return (*found, *deep, *(r for r in flat if r not in deep))

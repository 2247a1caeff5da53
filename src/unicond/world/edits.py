"""Edits whose result is known: two scenes that differ in one thing, with captions that say so.

`Edits(seed)[i]` is always the same edit. Of a photo with one to three solids one is recoloured,
becomes another shape, is added or is removed, or the whole picture is drawn in another style.
Nothing else changes: camera, light, ground, the others. The two captions differ in the words of the
edit alone, so that words can be aligned; what is added is said beside something ("a red ball left
of a blue box"), so that the words say where it goes, too.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor
from torch.nn import functional

from unicond.world.captions import GROUND_WORDS, STYLE_WORDS, solid_words
from unicond.world.draft import Draft, pick, rest, solid_size
from unicond.world.generate import World
from unicond.world.layout import solid_frame, solid_room
from unicond.world.relations import find_relations
from unicond.world.render import Rendering, render
from unicond.world.scene import Scene, Solid
from unicond.world.vocabulary import COLORS, SHAPES, STYLES

TRIES = 256
"""Scenes looked at for one edit: nearly always a few are enough."""
MOST_SOLIDS = 3
LEAST_SHARE = 0.01
"""Of the picture, which every thing covers before and after."""
LOOKED_AT = 64
"""Pixels a side at which that is looked at: an edit is the same at every size."""
LEVEL = 1 / 255
"""Half a level of 8 bits: pictures in [-1, 1] that differ by less are the same."""


@dataclass(frozen=True)
class SceneEdit:
    """One edit.

    Attributes:
        kind: one of `KINDS`.
        source: the scene before.
        target: the scene after; rendered, it is the true result.
        source_caption: says what the source shows.
        target_caption: the same but for the words of the edit.
        words: what is new, as in "a blue ball" or "a sketch"; of a removal, what goes.
        entity: the solid that changes, as an index into the target, of a removal into the source;
            None where the whole picture does.
    """

    kind: str
    source: Scene
    target: Scene
    source_caption: str
    target_caption: str
    words: str
    entity: int | None

    @property
    def shown(self) -> Scene:
        """The scene in which the changed solid is: the target, of a removal the source."""
        return self.source if self.kind == "remove" else self.target

    @property
    def solid(self) -> Solid | None:
        """The changed solid as `shown` has it."""
        return None if self.entity is None else self.shown.solids[self.entity]


@dataclass(frozen=True)
class Edits:
    """An endless sequence of edits; their kinds take turns, in the order of `KINDS`.

    Attributes:
        seed: of the world whose scenes are edited, 0 or more.
    """

    seed: int = 0

    def __getitem__(self, index: int) -> SceneEdit:
        """Edit `index`, 0 or more."""
        if index < 0:
            raise IndexError(f"edit {index} is not there; indices start at 0 and have no end")
        kind = KINDS[index % len(KINDS)]
        least = 2 if kind in ("add", "remove") else 1
        world = World(self.seed, "photo", people=False, min_objects=least, max_objects=MOST_SOLIDS)
        for number in range(TRIES * index, TRIES * (index + 1)):
            scene = world[number]
            edit = _EDITS[kind](scene, np.random.default_rng([self.seed, number, 17]))
            if edit is not None and _is_clear(edit):
                return edit
        raise RuntimeError(f"edit {index} of world {self.seed} found no scene in {TRIES} tries")

    def edits(self, rows: Sequence[int]) -> list[SceneEdit]:
        """Edits by their indices."""
        return [self[row] for row in rows]


def change_mask(source: Tensor, target: Tensor, margin: int | None = None) -> Tensor:
    """Where two pictures differ, and a little around it.

    Args:
        source: (B, 3, H, W) in [-1, 1].
        target: (B, 3, H, W) in [-1, 1].
        margin: pixels around, 0 or more; None is a 64th of the shorter side.

    Returns:
        (B, 1, H, W) bool: within `margin`, along both axes, of a pixel that differs visibly.

    Raises:
        ValueError: the shapes differ.
    """
    if source.shape != target.shape or source.ndim != 4:
        raise ValueError(
            "both must have one shape (B, 3, H, W); these are "
            f"{tuple(source.shape)} and {tuple(target.shape)}"
        )
    reach = min(source.shape[-2:]) // 64 if margin is None else margin
    differs = ((source - target).abs().amax(1, keepdim=True) > LEVEL).float()
    return functional.max_pool2d(differs, 2 * reach + 1, 1, reach) > 0


def rendered(edits: Sequence[SceneEdit], size: int) -> tuple[Rendering, Rendering]:
    """The pictures before and after, with their exact maps, as tensors that gradients may meet.

    Args:
        edits: one or more.
        size: pixels a side.

    Returns:
        The sources and the targets.
    """
    pair = [render([getattr(e, which) for e in edits], size) for which in ("source", "target")]
    before, after = (
        Rendering(**{name: value.clone() for name, value in vars(each).items()}) for each in pair
    )
    return before, after


def style_words(style: str) -> str:
    """The shortest way of saying a style, as in "a photo of"."""
    return min((words for words in STYLE_WORDS[style] if words.startswith("a ")), key=len)


def _recolour(scene: Scene, rng: np.random.Generator) -> SceneEdit | None:
    """One solid in a colour that nothing has."""
    n = int(rng.integers(len(scene.solids)))
    left = tuple(c for c in COLORS if c not in {solid.color for solid in scene.solids})
    new = dataclasses.replace(scene.solids[n], color=pick(rng, left))
    return _changed("recolour", scene, n, new, rng)


def _swap_class(scene: Scene, rng: np.random.Generator) -> SceneEdit | None:
    """One solid on the ground as another shape, as large, of the same colour and place."""
    free = [n for n in _bare(scene) if scene.solids[n].support == "ground"]
    if not free:
        return None
    n = int(rng.choice(free))
    old = scene.solids[n]
    shape = pick(rng, tuple(s for s in SHAPES if s != old.shape))
    size = solid_size(shape, 1.0, rng)
    grown = (math.prod(old.size) / math.prod(size)) ** (1 / 3)
    wide, high, deep = (grown * extent for extent in size)
    new = Solid(shape, old.color, (0.0, 0.0, 0.0), (wide, high, deep), old.yaw)
    new = rest(new, old.center[0], old.center[2], 0.0)
    others = [solid for k, solid in enumerate(scene.solids) if k != n]
    draft = Draft(
        scene.camera,
        scene.place,
        0.0,
        frames=[solid_frame(scene.camera, solid) for solid in others],
        rooms=[solid_room(solid) for solid in others],
    )
    if not draft.fits(solid_frame(scene.camera, new), solid_room(new)):
        return None
    return _changed("swap_class", scene, n, new, rng)


def _changed(
    kind: str, scene: Scene, n: int, new: Solid, rng: np.random.Generator
) -> SceneEdit | None:
    """Solid n in another form; said beside others by what is true of both scenes."""
    solids = tuple(new if k == n else solid for k, solid in enumerate(scene.solids))
    target = dataclasses.replace(scene, solids=solids)
    target = dataclasses.replace(target, relations=find_relations(target))
    order = [int(k) for k in rng.permutation(len(solids))]
    true = [each for each in scene.relations if each in target.relations]
    told = [(each.subject, each.name, each.target) for each in true if n == each.subject]
    link = told[int(rng.integers(len(told)))] if told else None
    texts = [_caption(each, order, link) for each in (scene, target)]
    return SceneEdit(kind, scene, target, *texts, words=solid_words(new), entity=n)


def _add(scene: Scene, rng: np.random.Generator) -> SceneEdit | None:
    """The scene without one of its solids, and with it."""
    free = _bare(scene)
    if len(scene.solids) < 2 or not free:
        return None
    n = int(rng.choice(free))
    order = [int(k) for k in rng.permutation(len(scene.solids)) if k != n]
    told = [each for each in scene.relations if each.subject == n]
    link = None
    if told:
        relation = told[int(rng.integers(len(told)))]
        link = (n, relation.name, relation.target)
        order.sort(key=lambda k: k != relation.target)
    less = _without(scene, n)
    before = _caption(less, [k - (k > n) for k in order], None)
    after = _caption(scene, [n, *order], link)
    return SceneEdit("add", less, scene, before, after, solid_words(scene.solids[n]), n)


def _remove(scene: Scene, rng: np.random.Generator) -> SceneEdit | None:
    """The way back of an addition."""
    found = _add(scene, rng)
    if found is None:
        return None
    return dataclasses.replace(
        found,
        kind="remove",
        source=found.target,
        target=found.source,
        source_caption=found.target_caption,
        target_caption=found.source_caption,
    )


def _restyle(scene: Scene, rng: np.random.Generator) -> SceneEdit | None:
    """The whole photo in another style."""
    style = pick(rng, tuple(style for style in STYLES if style != scene.style))
    order = [int(k) for k in rng.permutation(len(scene.solids))]
    told = [each for each in scene.relations if each.subject == order[0]]
    link = (order[0], told[0].name, told[0].target) if told else None
    text = _caption(scene, order, link)
    before, after = (f"{style_words(each)} {text}" for each in (scene.style, style))
    words = style_words(style).removesuffix(" of")
    return SceneEdit("restyle", scene, scene.with_style(style), before, after, words, None)


_EDITS: Mapping[str, Callable[[Scene, np.random.Generator], SceneEdit | None]] = {
    "recolour": _recolour,
    "swap_class": _swap_class,
    "add": _add,
    "remove": _remove,
    "restyle": _restyle,
}
KINDS = tuple(_EDITS)
"""What can be done, in the order in which it takes turns."""


def _bare(scene: Scene) -> list[int]:
    """Solids that nothing rests on."""
    used = {solid.support for solid in scene.solids}
    return [n for n in range(len(scene.solids)) if str(n) not in used]


def _without(scene: Scene, n: int) -> Scene:
    """The scene without solid n, which nothing rests on."""

    def renumbered(solid: Solid) -> Solid:
        if solid.support == "ground" or int(solid.support) < n:
            return solid
        return dataclasses.replace(solid, support=str(int(solid.support) - 1))

    left = tuple(renumbered(solid) for k, solid in enumerate(scene.solids) if k != n)
    less = dataclasses.replace(scene, solids=left, relations=())
    return dataclasses.replace(less, relations=find_relations(less))


def _caption(scene: Scene, order: Sequence[int], link: tuple[int, str, int] | None) -> str:
    """The solids in an order, one of them linked to another by a relation, and the ground."""
    clauses: list[str] = []
    for n in order:
        words = solid_words(scene.solids[n])
        if link is not None and n == link[0]:
            words = f"{words} {link[1]} {solid_words(scene.solids[link[2]])}"
        if link is None or n != link[2]:
            clauses.append(words)
    return f"{' and '.join(clauses)} {GROUND_WORDS[scene.place.ground]}"


def _is_clear(edit: SceneEdit) -> bool:
    """Whether before and after everything is seen well, and no two solids have the same words."""
    for scene in (edit.source, edit.target):
        if len({(solid.shape, solid.color) for solid in scene.solids}) < len(scene.solids):
            return False
        seen = render(scene, LOOKED_AT, style="photo", smooth=False).instances
        counts = seen[seen > 0].long().bincount(minlength=len(scene.solids) + 1)[1:]
        if int((counts >= LEAST_SHARE * seen.numel()).sum()) < len(scene.solids):
            return False
    return True

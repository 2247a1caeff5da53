"""Which scenes a condition is learned on, and the other pictures of loose pairs.

A loose condition pairs a scene of the world with a partner (`world.partners`). Only the partners
are drawn, in a cache folder of their own whose rows are those scenes that have one; the scenes
themselves lie in the world's cache already.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import count as counted
from pathlib import Path

from unicond.conditions import Scenes, Source
from unicond.data import renders
from unicond.world import World
from unicond.world.partners import is_portrait, other_frame, same_person
from unicond.world.scene import Scene

BLOCK = 512
FITS: Mapping[Scenes, Callable[[Scene], bool]] = {
    "all": lambda _: True,
    "people": lambda scene: bool(scene.people),
    "portraits": is_portrait,
}
"""Whether a scene is one of those that a condition asks for."""
PARTNERS: Mapping[Source, tuple[Callable[[Scene], Scene], Scenes]] = {
    "same_person": (same_person, "portraits"),
    "other_frame": (other_frame, "all"),
}
"""What makes each kind of partner, and of which scenes."""


def scene_rows(scenes: Scenes, seed: int, count: int) -> list[int]:
    """Numbers of the scenes of a kind.

    Args:
        scenes: which kind.
        seed: of the world.
        count: how many scenes of the world are looked at.

    Returns:
        Ascending numbers below `count`.
    """
    if scenes == "all":
        return list(range(count))
    blocks = range(-(-count // BLOCK))
    return [row for block in blocks for row in _block(scenes, seed, block) if row < count]


@lru_cache(maxsize=256)
def _block(scenes: Scenes, seed: int, block: int) -> tuple[int, ...]:
    """The fitting numbers among `BLOCK` scenes; memory only, since looking is quick."""
    world, start = World(seed), block * BLOCK
    return tuple(n for n in range(start, start + BLOCK) if FITS[scenes](world[n]))


@dataclass(frozen=True, kw_only=True)
class PartnerRecipe:
    """The partners of a world's scenes: row n is the partner of the n-th scene that has one.

    Attributes:
        source: which kind of partner.
        seed: of the world.
        size: pixels a side.
        version: raised by hand when partners of the same scene change.
    """

    source: Source
    seed: int = 0
    size: int = 128
    version: int = 1

    @property
    def kept(self) -> tuple[str, ...]:
        """The maps that a new shard gets."""
        return ("image",)

    def folder(self, cache: Path) -> Path:
        """Where these renders lie."""
        return renders.named_by_hash(cache, "partners", asdict(self))

    def scenes(self, start: int, count: int) -> list[Scene]:
        """The partners of rows `start` to `start + count - 1`."""
        make, kind = PARTNERS[self.source]
        world = World(self.seed)
        return [make(world[n]) for n in self._firsts(kind, start + count)[start:]]

    def _firsts(self, kind: Scenes, count: int) -> list[int]:
        """The numbers of the first `count` scenes that have a partner."""
        for blocks in counted(1):
            found = scene_rows(kind, self.seed, max(count, blocks * BLOCK))
            if len(found) >= count:
                return found[:count]
        raise AssertionError("unreachable: worlds have no end")

"""`World`: an endless, seeded sequence of random scenes.

Scene i of world s draws from generators seeded with `[s, i, ...]`, so that it depends on nothing
else; style has a stream of its own, so that forcing one leaves the scene as it is. A draft that
does not fit the picture is thrown away and drawn again with the same cast, so that crowded scenes
do not become rare.
"""

import dataclasses
from collections.abc import Iterator

import numpy as np

from unicond.world.company import draw_draft
from unicond.world.draft import Draft
from unicond.world.relations import find_relations
from unicond.world.scene import Scene
from unicond.world.vocabulary import STYLES, check_word

STYLE_SHARES = (0.60, 0.08, 0.08, 0.08, 0.08, 0.08)
PEOPLE_SHARE = 0.4
ATTEMPTS = 120
PLAN_ATTEMPTS = 12
"""How often the same cast (people, actions, number of solids) is tried before another is drawn."""


@dataclasses.dataclass(frozen=True)
class World:
    """All scenes of one seed: `World(seed)[i]` is always the same scene.

    Attributes:
        seed: 0 or more.
        style: draw every scene in this style; None mixes them, 60 % photo.
        people: True: every scene has people; False: none has; None: 40 % have.
        min_objects: fewest solids, 0 to 6.
        max_objects: most solids, 0 to 6.
    """

    seed: int = 0
    style: str | None = None
    people: bool | None = None
    min_objects: int = 0
    max_objects: int = 6

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ValueError(f"seed {self.seed} is negative; give 0 or more")
        if self.style is not None:
            check_word(self.style, STYLES, "style")
        if not 0 <= self.min_objects <= self.max_objects <= 6:
            raise ValueError(
                f"objects from {self.min_objects} to {self.max_objects} are not possible; "
                "give 0 <= min_objects <= max_objects <= 6"
            )
        if self.max_objects == 0 and self.people is False:
            raise ValueError("no objects and no people leave nothing to draw; allow one of them")

    def __getitem__(self, index: int) -> Scene:
        """Scene `index`, 0 or more."""
        if index < 0:
            raise IndexError(f"scene {index} is not there; indices start at 0 and have no end")
        first = np.random.default_rng([self.seed, index])
        style = STYLES[first.choice(len(STYLES), p=STYLE_SHARES)]
        with_people = first.random() < PEOPLE_SHARE
        if self.people is not None:
            with_people = self.people
        if self.max_objects == 0:
            with_people = True
        for attempt in range(ATTEMPTS):
            rng = np.random.default_rng([self.seed, index, 1, attempt])
            plan = np.random.default_rng([self.seed, index, 2, attempt // PLAN_ATTEMPTS])
            draft = draw_draft(plan, rng, with_people, self.min_objects, self.max_objects)
            if draft is not None:
                return self._scene(index, self.style or style, draft)
        raise RuntimeError(f"scene {index} of world {self} found no room in {ATTEMPTS} attempts")

    def _scene(self, index: int, style: str, draft: Draft) -> Scene:
        solids, people = tuple(draft.solids), tuple(draft.people)
        scene = Scene(self.seed, index, style, draft.camera, draft.place, solids, people)
        return dataclasses.replace(scene, relations=find_relations(scene, tuple(draft.actions)))

    def scenes(self, start: int, count: int) -> list[Scene]:
        """Scenes `start` to `start + count - 1`."""
        return [self[index] for index in range(start, start + count)]

    def __iter__(self) -> Iterator[Scene]:
        """Scenes from 0 on, without end."""
        index = 0
        while True:
            yield self[index]
            index += 1

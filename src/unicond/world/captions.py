"""Captions from varied templates, and the list of what each one names.

A caption is a style, clauses joined by "and", and sometimes a place. A clause is a thing, a count
of equal things, or two things in a relation. The vocabulary is small and lower case. What is named
is returned beside the text, so that a picture can be scored by whether the named things are found
in it.
"""

from dataclasses import dataclass

import numpy as np

from unicond.world.scene import Identity, Person, Relation, Scene, Solid
from unicond.world.vocabulary import ACTIONS

STYLE_WORDS = {
    "photo": ("a photo of",),
    "toon": ("a toon drawing of", "toon drawing of", "a toon of"),
    "sketch": ("a pencil sketch of", "sketch of", "a sketch of"),
    "neon": ("a night neon picture of", "neon picture of", "a neon picture of"),
    "pastel": ("a pastel drawing of", "pastel drawing of", "a pastel of"),
    "blueprint": ("a blueprint of", "blueprint of", "a blueprint drawing of"),
}
GROUND_WORDS = {
    "grass": "on grass",
    "sand": "on sand",
    "wood": "on a wooden floor",
    "tiles": "on tiles",
    "snow": "on snow",
    "checker": "on a checker floor",
}
SKY_WORDS = {
    "day": ("on a sunny day", "by day"),
    "sunset": ("at sunset",),
    "night": ("at night",),
    "overcast": ("under an overcast sky", "on an overcast day"),
}
COUNT_WORDS = {2: "two", 3: "three", 4: "four", 5: "five", 6: "six"}
PLURALS = {
    "ball": "balls",
    "box": "boxes",
    "cylinder": "cylinders",
    "pill": "pills",
    "cone": "cones",
    "person": "people",
}
MOST_NAMED = 4
ALL_SHARE = 0.85
RELATION_SHARE = 0.75
PLACE_SHARE = 0.55


@dataclass(frozen=True)
class Named:
    """A group of equal things that a caption names; `color` is "" for people.

    `entities` are their indices in the scene: as many as the caption says there are.
    """

    kind: str
    color: str
    entities: tuple[int, ...]

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.entities)


@dataclass(frozen=True)
class Caption:
    """A caption and what it names.

    Attributes:
        text: lower case, no full stop.
        named: things by class and colour.
        relations: those that the text says.
        style: the style that it says, or "" for a photo that is not said to be one.
        ground: the ground it says, or "".
        sky: the sky it says, or "".
    """

    text: str
    named: tuple[Named, ...]
    relations: tuple[Relation, ...]
    style: str = ""
    ground: str = ""
    sky: str = ""


def describe(scene: Scene, variant: int = 0, looks: bool = True) -> Caption:
    """A caption of a scene.

    Args:
        scene: the scene; its style is what the caption says.
        variant: which wording; the same number always gives the same one.
        looks: whether clothes, hair and skin of people may be said; the rest is the same.

    Returns:
        The caption and what it names.

    Raises:
        ValueError: the variant is negative.
    """
    if variant < 0:
        raise ValueError(f"variant {variant} is negative; give 0 or more")
    rng = np.random.default_rng([scene.seed, scene.index, 7, variant])
    entities = _choose(scene, rng)
    relations = _choose_relations(scene, entities, rng)
    clauses, named = _clauses(scene, entities, relations, rng, looks)
    text = " and ".join(clauses)
    style = ""
    if scene.style != "photo" or rng.random() < 0.3:
        style = scene.style
        options = STYLE_WORDS[style]
        text = f"{options[int(rng.integers(len(options)))]} {text}"
    ground = sky = ""
    if rng.random() < PLACE_SHARE:
        which = rng.random()
        ground = scene.place.ground if which < 0.75 else ""
        sky = scene.place.sky if which > 0.4 else ""
    if ground:
        text = f"{text} {GROUND_WORDS[ground]}"
    if sky:
        options = SKY_WORDS[sky]
        text = f"{text} {options[int(rng.integers(len(options)))]}"
    return Caption(text, named, relations, style, ground, sky)


def _choose(scene: Scene, rng: np.random.Generator) -> list[int]:
    """Which entities the caption names: mostly all, at most four."""
    everyone = list(range(len(scene)))
    people = everyone[len(scene.solids) :]
    count = len(everyone)
    if rng.random() > ALL_SHARE:
        count = int(rng.integers(1, count + 1))
    count = min(count, max(MOST_NAMED, len(people)))
    order = [int(n) for n in rng.permutation(everyone)]
    order.sort(key=lambda n: n not in people)
    return order[:count]


def _choose_relations(
    scene: Scene, entities: list[int], rng: np.random.Generator
) -> tuple[Relation, ...]:
    """Relations to say, each thing in one at most; actions and stacks first."""
    if rng.random() > RELATION_SHARE:
        return ()
    told = [r for r in scene.relations if r.subject in entities and r.target in entities]
    firm = [r for r in told if r.name not in ("left of", "right of", "in front of", "behind")]
    loose = [told[int(n)] for n in rng.permutation(len(told)) if told[int(n)] not in firm]
    loose.sort(key=lambda r: r.name in ("left of", "right of") and rng.random() < 0.6)
    used: set[int] = set()
    out: list[Relation] = []
    for relation in firm + loose:
        if used.isdisjoint((relation.subject, relation.target)):
            out.append(relation)
            used |= {relation.subject, relation.target}
    return tuple(out)


def _article(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def solid_words(solid: Solid) -> str:
    """A solid as captions name it: "a red ball", "an orange box"."""
    return _article(f"{solid.color} {solid.shape}")


def phrases(entity: Solid | Person) -> tuple[str, str, str, str]:
    """What an entity is called where it stands alone.

    Args:
        entity: of a scene.

    Returns:
        Its class, "ball" or "person"; the same with an article; with its colour, "red ball" or
        "person in a red shirt"; that with an article.
    """
    if isinstance(entity, Solid):
        plain, colored = entity.shape, f"{entity.color} {entity.shape}"
    else:
        plain, colored = "person", f"person in a {entity.identity.shirt} shirt"
    return plain, _article(plain), colored, _article(colored)


def _clothes(who: Identity, rng: np.random.Generator) -> str:
    """Some of a person's attributes, in words; often none."""
    style = int(rng.choice(5, p=(0.25, 0.35, 0.15, 0.15, 0.1)))
    shirt, trousers = f"a {who.shirt} shirt", f"{who.trousers} trousers"
    return (
        "",
        f" in {shirt} and {trousers}",
        f" in {shirt}",
        f" with {who.hair} hair in {shirt} and {trousers}",
        f" with {who.skin} skin and {who.hair} hair in {shirt}",
    )[style]


def _person_words(person: Person, busy: bool, rng: np.random.Generator, looks: bool) -> str:
    """A person's words; one `busy` with an object gets no pose ("sitting on snow" would lie)."""
    clothes = _clothes(person.identity, rng)
    words = f"a person{clothes if looks else ''}"
    says_pose = rng.random() < 0.75
    pose = "with arms up" if person.pose.name == "arms up" else person.pose.name
    if busy or not says_pose:
        return words
    return f"{words} {pose}"


def _clauses(
    scene: Scene,
    entities: list[int],
    relations: tuple[Relation, ...],
    rng: np.random.Generator,
    looks: bool,
) -> tuple[list[str], tuple[Named, ...]]:
    """The clauses of a caption in random order, and what they name."""
    related = {n for r in relations for n in (r.subject, r.target)}
    clauses: list[str] = []
    named: list[Named] = []
    busy = {r.subject for r in scene.relations if r.name in ACTIONS}
    busy |= {r.subject for r in relations}

    def name(index: int) -> str:
        entity = scene.entity(index)
        if isinstance(entity, Solid):
            named.append(Named(entity.shape, entity.color, (index,)))
            return solid_words(entity)
        named.append(Named("person", "", (index,)))
        return _person_words(entity, index in busy, rng, looks)

    for r in relations:
        clauses.append(f"{name(r.subject)} {r.name} {name(r.target)}")
    groups: dict[tuple[str, str], list[int]] = {}
    for index in entities:
        if index in related:
            continue
        entity = scene.entity(index)
        key = (entity.shape, entity.color) if isinstance(entity, Solid) else ("person", str(index))
        groups.setdefault(key, []).append(index)
    loners = [n for (kind, _), rows in groups.items() if kind == "person" for n in rows]
    if len(loners) > 1 and rng.random() < 0.5:
        groups = {key: rows for key, rows in groups.items() if key[0] != "person"}
        groups[("person", "")] = loners
    for (kind, color), rows in groups.items():
        if len(rows) == 1:
            clauses.append(name(rows[0]))
            continue
        plural = f"{color} {PLURALS[kind]}".strip()
        clauses.append(f"{COUNT_WORDS[len(rows)]} {plural}")
        named.append(Named(kind, color, tuple(rows)))
    return [clauses[int(n)] for n in rng.permutation(len(clauses))], _merged(named)


def _merged(named: list[Named]) -> tuple[Named, ...]:
    """Equal things under one entry, so that counts add up."""
    groups: dict[tuple[str, str], tuple[int, ...]] = {}
    for each in named:
        key = (each.kind, each.color)
        groups[key] = groups.get(key, ()) + each.entities
    return tuple(Named(kind, color, rows) for (kind, color), rows in groups.items())

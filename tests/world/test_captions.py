"""Captions say what they list, and nothing else."""

import re

import pytest

from unicond.world import Person, Solid, World, describe
from unicond.world import vocabulary as words
from unicond.world.captions import COUNT_WORDS, GROUND_WORDS, PLURALS, SKY_WORDS, STYLE_WORDS

COUNTS = {"a": 1, "an": 1} | {word: count for count, word in COUNT_WORDS.items()}
SINGULARS = {many: one for one, many in PLURALS.items()}
THING = re.compile(
    rf"\b({'|'.join(COUNTS)}) (?:({'|'.join(words.COLORS)}) )?"
    rf"({'|'.join([*SINGULARS, *PLURALS])})\b"
)


def said(text: str) -> dict[tuple[str, str], int]:
    """Things in a text by class and colour, read off without the scene."""
    found: dict[tuple[str, str], int] = {}
    for count, color, kind in THING.findall(text):
        key = (SINGULARS.get(kind, kind), color)
        found[key] = found.get(key, 0) + COUNTS[count]
    return found


def all_captions(scenes):
    return [(scene, describe(scene, variant)) for scene in scenes for variant in range(4)]


def test_what_people_look_like_can_be_left_unsaid_and_the_rest_is_the_same(scenes):
    clothes = (
        r"( (in|with) (an? )?\w+ (shirt|trousers|hair|skin)( and (an? )?\w+ (trousers|hair))?)+"
    )
    said = [
        (describe(scene, n), describe(scene, n, looks=False)) for scene in scenes for n in (0, 1)
    ]
    for whole, silent in said:
        assert re.sub(clothes, "", whole.text) == silent.text
        assert whole.named == silent.named
    assert any(whole.text != silent.text for whole, silent in said)


def test_captions_name_what_they_list(scenes):
    for scene, caption in all_captions(scenes):
        assert said(caption.text) == {(n.kind, n.color): n.count for n in caption.named}
        for named in caption.named:
            for index in named.entities:
                entity = scene.entity(index)
                if isinstance(entity, Solid):
                    assert (entity.shape, entity.color) == (named.kind, named.color)
                else:
                    assert named.kind == "person"


def test_relations_are_said_and_true(scenes):
    told = 0
    for scene, caption in all_captions(scenes):
        for r in caption.relations:
            told += 1
            assert r in scene.relations
            subject, target = scene.entity(r.subject), scene.entity(r.target)
            end = "person" if isinstance(target, Person) else f"{target.color} {target.shape}"
            start = "person" if isinstance(subject, Person) else f"{subject.color} {subject.shape}"
            assert re.search(rf"{start}\b.* {r.name} an? {end}\b", caption.text)
        # "sitting on a wooden floor" and "pointing at sunset" are a pose and a place
        place = "wooden|checker|sunny|overcast"
        names = re.findall(rf"({'|'.join(words.RELATIONS)}) an? (?!{place})", caption.text)
        assert sorted(names) == sorted(r.name for r in caption.relations)
    assert told > 200


def test_style_and_place_are_true(scenes):
    for scene, caption in all_captions(scenes):
        for table, value, truth in (
            (STYLE_WORDS, caption.style, scene.style),
            (SKY_WORDS, caption.sky, scene.place.sky),
            ({k: (v,) for k, v in GROUND_WORDS.items()}, caption.ground, scene.place.ground),
        ):
            spoken = [key for key, options in table.items() for o in options if o in caption.text]
            if table is SKY_WORDS and scene.style == "neon":
                spoken = [key for key in spoken if key == value]
            assert set(spoken) == ({value} if value else set())
            assert value in ("", truth)
        assert scene.style == "photo" or caption.style == scene.style


def test_poses_and_clothes_are_true(scenes):
    shirts = 0
    for scene, caption in all_captions(scenes):
        poses = re.findall(r"standing|walking|waving|with arms up|sitting(?! on)", caption.text)
        there = [p.pose.name for p in scene.people]
        for pose in poses:
            assert pose.removeprefix("with ") in there
        for color in re.findall(r"a (\w+) shirt", caption.text):
            shirts += 1
            assert color in [p.identity.shirt for p in scene.people]
        for color in re.findall(r"(\w+) trousers", caption.text):
            assert color in [p.identity.trousers for p in scene.people]
        for color in re.findall(r"(\w+) hair", caption.text):
            assert color in [p.identity.hair for p in scene.people]
    assert shirts > 100


def test_nobody_on_a_seat_is_said_to_sit_on_the_ground():
    for scene in World(9, people=True, min_objects=1).scenes(0, 60):
        if any(r.name == "sitting on" for r in scene.relations):
            for variant in range(8):
                caption = describe(scene, variant)
                ground = "|".join(GROUND_WORDS.values())
                assert not re.search(rf"sitting ({ground})", caption.text)


def test_wording_varies_and_repeats(scenes):
    scene = next(s for s in scenes if len(s) >= 3)
    texts = [describe(scene, variant).text for variant in range(12)]
    assert len(set(texts)) >= 6
    assert texts == [describe(scene, variant).text for variant in range(12)]


def test_vocabulary_is_small_and_lower_case(scenes):
    texts = [caption.text for _, caption in all_captions(scenes)]
    used = {word for text in texts for word in text.split()}
    assert all(re.fullmatch("[a-z]+", word) for word in used)
    assert len(used) < 90
    # 77 tokens of a text encoder, less start and end
    assert max(len(text.split()) for text in texts) <= 75
    assert min(len(text.split()) for text in texts) <= 3


def test_negative_variants_are_refused(scenes):
    with pytest.raises(ValueError, match="0 or more"):
        describe(scenes[0], -1)

"""What adapters are told in training: whose boxes, in whose words, how much of it and how often."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import small
import torch
from transformers import CLIPTokenizer

from unicond.data.things import Things
from unicond.grounding import NOTHING_MORE
from unicond.training import things, tokenizer
from unicond.training.captions import CaptionTable
from unicond.training.grounding import GroundingTrainingConfig
from unicond.training.processes import Part
from unicond.training.text2image import Pictured
from unicond.training.things import Placed

SIZE = 64
TOKENIZER = Path(__file__).parents[1] / "golden" / "unicon" / "base" / "tokenizer"
ALL = GroundingTrainingConfig(nothing=0.0, both=0.0, some=0.0, alone=0.0, colored=1.0)


def named(plain, colored):
    return [plain, f"a {plain}", colored, f"a {colored}"]


BALL, BOX, CONE = (
    named(k, f"{c} {k}") for k, c in (("ball", "red"), ("box", "blue"), ("cone",) * 2)
)
PERSON = named("person", "person in a green shirt")
SCENES = [
    Things(
        [BALL, BOX, PERSON],
        [[0, 8, 16, 32], [32, 8, 64, 40], [20, 0, 30, 60]],
        [300, 700, 400],
        [(2, "holding", 0), (0, "left of", 1), (1, "right of", 0), (2, "left of", 1)],
    ),
    Things([BOX, BALL], [[1, 2, 9, 60], [40, 40, 42, 42]], [200, 4], [(0, "left of", 1)]),
    Things([CONE], [[8, 8, 24, 24]], [120], []),
]
"""In the second, the ball is too small to be told of; in the third there is no relation."""


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    texts = [text for one in SCENES for names in one.phrases for text in names]
    texts += [NOTHING_MORE, *(name for one in SCENES for _, name, _ in one.relations)]
    split = sorted({word for text in texts for word in text.split()})
    return tokenizer.build(tuple(split), tmp_path_factory.mktemp("words"))


@pytest.fixture(scope="module")
def text_encoder(words):
    return small.base(len(words))["text_encoder"].eval()


@pytest.fixture(scope="module")
def data(words, text_encoder):
    captions = CaptionTable.of(words, [["a red ball"]] * 3)
    pictures = Pictured(torch.randn(3, 4, 8, 8), captions)
    return Placed.of(pictures, SCENES, SIZE, text_encoder, words)


def told(data, config, row, seed=0, count=1, silent=False):
    """The draw of some samples of one scene, and what the adapter gets."""
    generator = torch.Generator().manual_seed(seed)
    nothing = torch.full((count,), silent)
    found = things.draw(data, config, torch.full((count,), row), nothing, generator)
    return found, things.inputs_of(data, config.method, found)


@pytest.fixture(scope="module")
def read(words, text_encoder):
    """Phrases of embeddings (..., 16), by what the text encoder makes of every phrase."""
    texts = [text for one in SCENES for names in one.phrases for text in names]
    actions = [name for one in SCENES for _, name, _ in one.relations]
    texts = list(dict.fromkeys([*texts, *actions, NOTHING_MORE]))
    known = things.Phrases.of(text_encoder, words, texts).pooled
    assert torch.cdist(known, known).add(torch.eye(len(texts))).min() > 1e-3

    def phrases(embedded):
        gaps = torch.cdist(embedded.flatten(0, -2), known)
        assert gaps.min(1).values.max() < 1e-4
        return [texts[place] for place in gaps.argmin(1).tolist()]

    return phrases


def boxed(corners):
    return tuple(place / SIZE for place in corners)


def boxes_of(inputs, sample=0):
    there = inputs.masks[sample] > 0
    return [tuple(box) for box in inputs.boxes[sample][there].tolist()]


@pytest.mark.parametrize("method", ["gligen", "migc"])
def test_each_box_has_its_own_things_words(data, read, method):
    config = replace(ALL, method=method)
    orders = set()
    for seed in range(12):
        _, inputs = told(data, config, 0, seed)
        found = list(zip(boxes_of(inputs), read(inputs.phrases[0]), strict=True))
        wanted = {
            boxed(box): names[2:]
            for box, names in zip(SCENES[0].boxes, SCENES[0].phrases, strict=True)
        }
        assert {box for box, _ in found} == wanted.keys()
        assert all(text in wanted[box] for box, text in found)
        orders.add(tuple(box for box, _ in found))
    assert len(orders) > 3


def test_only_what_is_clearly_visible_is_told(data, read):
    _, inputs = told(data, ALL, 1)
    assert boxes_of(inputs) == [boxed(SCENES[1].boxes[0])]
    assert data.shown.sum(1).tolist() == [4 + 3, 1, 1]
    few = data.only(torch.tensor([0, 2]))
    _, inputs = told(few, ALL, 1)
    assert boxes_of(inputs) == [boxed(SCENES[2].boxes[0])]
    assert read(inputs.phrases[0])[0].endswith("cone cone")


def test_scenes_are_drawn_as_often_as_they_have_things(data):
    assert data.weights("gligen").tolist() == data.weights("migc").tolist() == [3, 1, 1]
    assert data.weights("interact").tolist() == [6, 1, 1]  # in the first somebody acts
    hidden = replace(data, shown=data.shown & ~data.firm)
    assert hidden.weights("interact").tolist() == [3, 1, 1]


def sentences(inputs, read):
    """What is told in one draw: subject, action, object, and their boxes."""
    columns = [read(part[0]) for part in (inputs.subjects, inputs.actions, inputs.objects)]
    subjects, actions, objects = ([text.removeprefix("a ") for text in each] for each in columns)
    places = (
        [tuple(box) for box in part[0].tolist()]
        for part in (inputs.subject_boxes, inputs.object_boxes)
    )
    return list(zip(subjects, actions, objects, *places, strict=True))


def sentence(s, name, o):
    """One of the first scene's, in colour."""
    (subject, thing), boxes = (SCENES[0].phrases[n][2] for n in (s, o)), SCENES[0].boxes
    return subject, name, thing, boxed(boxes[s]), boxed(boxes[o])


def test_relations_are_told_as_callers_tell_them(data, read):
    """Firm ones first, and that a thing is there of those alone that are in no relation."""
    config = replace(ALL, method="interact")
    numbers = {sentence(*one): one for one in SCENES[0].relations}
    alone = {n: sentence(n, NOTHING_MORE, n) for n in range(3)}
    counts, seconds = [], set()
    for seed in range(60):
        found = sentences(told(data, config, 0, seed)[1], read)
        pairs = [numbers[one] for one in found if one in numbers]
        named = {n for s, _, o in pairs for n in (s, o)}
        assert found[len(pairs) :] == [alone[n] for n in range(3) if n not in named]
        assert pairs[0] == (2, "holding", 0)
        counts.append(len(pairs))
        seconds.update(pairs)
    assert seconds == set(SCENES[0].relations)
    assert {*counts} == {1, 2, 3, 4}


def test_a_share_of_the_layouts_tells_of_each_thing_that_it_is_there(data, read):
    """As mini-MIG's do: each seen thing once, with itself."""
    wanted = sorted(sentence(n, NOTHING_MORE, n) for n in range(3))
    config = replace(ALL, method="interact", alone=1.0)
    orders = {tuple(sentences(told(data, config, 0, seed)[1], read)) for seed in range(12)}
    assert all(sorted(one) == wanted for one in orders)
    assert len(orders) > 3
    count = 2000
    found, inputs = told(data, replace(config, alone=0.4), 0, count=count)
    subject, _, target = data.relations[0][found.places[:, :3]].unbind(2)
    share = ((subject == target) & found.there[:, :3]).all(1).float().mean()
    assert float(share) == pytest.approx(0.4, abs=0.045)  # four standard errors
    assert inputs.masks.sum(1).max() <= 4


def test_relations_of_some_things_are_between_them(data):
    config = replace(ALL, method="interact", some=1.0)
    found, _ = told(data, config, 0, count=1200)
    relations = data.relations[0][found.places]
    sets = [
        frozenset(relations[n, found.there[n]][:, [0, 2]].flatten().tolist()) for n in range(1200)
    ]
    shares = [sum(len(one) == k for one in sets) / 1200 for k in (1, 2, 3)]
    assert shares == pytest.approx([1 / 3] * 3, abs=0.06)  # four standard errors
    assert len(set(sets)) == 7  # each subset of three things


def test_shares_are_those_of_the_recipe(data):
    count = 2000
    config = replace(ALL, some=0.5, colored=0.75)
    found, _ = told(data, config, 0, count=count)
    many = found.there.sum(1)
    shares = [float((many == number).float().mean()) for number in range(4)]
    # half tell all three, the others one to three alike; four standard errors
    assert shares == pytest.approx([0.0, 1 / 6, 1 / 6, 2 / 3], abs=0.045)
    colored = found.wording >= 2
    assert torch.equal(colored.flatten(1).all(1), colored.flatten(1).any(1))  # all things or none
    assert float(colored[:, 0, 0].float().mean()) == pytest.approx(0.75, abs=0.04)
    assert float((found.wording % 2).float().mean()) == pytest.approx(0.5, abs=0.02)
    first = found.places[:, 0].bincount() / count
    assert first.tolist() == pytest.approx([1 / 3] * 3, abs=0.045)


def test_slots_are_the_most_that_is_told(data):
    found, inputs = told(data, replace(ALL, slots=2), 0, count=200)
    assert found.places.shape == inputs.masks.shape == (200, 2)
    assert found.there.all()
    assert {*found.places.flatten().tolist()} == {0, 1, 2}


def test_nothing_is_one_empty_slot(data):
    for method in ("gligen", "interact", "migc"):
        _, inputs = told(data, replace(ALL, method=method), 0, count=5, silent=True)
        assert inputs.masks.tolist() == [[0.0]] * 5


def test_instances_have_words_size_and_shuffles_of_their_own(data, words, text_encoder):
    _, inputs = told(data, replace(ALL, method="migc"), 2, count=2)
    both = [things.Phrases.of(text_encoder, words, [text]) for text in CONE[2:]]
    for sample in range(2):
        gaps = [float((inputs.words[sample, 0] - one.words[0]).abs().max()) for one in both]
        mine = both[gaps.index(min(gaps))]
        assert min(gaps) < 1e-5
        torch.testing.assert_close(inputs.phrases[sample, 0], mine.pooled[0])
    assert (inputs.size, inputs.latents) == ((SIZE, SIZE), (8, 8))
    orders = [inputs.shuffle(sample, 0, 0, 12).tolist() for sample in range(2)]
    assert orders[0] != orders[1]
    assert inputs.shuffle(0, 0, 1, 12).tolist() != orders[0]


def test_a_part_is_told_what_the_whole_is(data):
    for method in ("gligen", "interact", "migc"):
        config = replace(ALL, method=method, some=1.0)
        found, whole = told(data, config, 0, count=6)
        part = things.inputs_of(data, method, found.of(Part(0, 6, 1, 2)))
        wide = part.masks.shape[1]
        for name, value in part.tensors().items():
            assert torch.equal(value, whole.tensors()[name][3:, :wide]), (method, name)
        assert not whole.masks[3:, wide:].any()


def test_what_one_does_alone_is_told_beside_what_it_does_to_others(words, text_encoder, read):
    """A relation with itself says more than that a thing is there, if its action does."""
    acts = [(0, "holding", 0), (0, "left of", 1), (2, NOTHING_MORE, 2)]
    boxes = [[0.0, 0.0, 0.5, 0.5], [0.5, 0.0, 1.0, 0.5], [0.0, 0.5, 0.5, 1.0]]
    names = [["person"] * 4, ["red ball"] * 4, ["blue box"] * 4]
    layout = things.Layout(boxes, [True] * 3, names, acts, [True, True, False])
    pictures = Pictured(torch.zeros(1, 4, 8, 8), CaptionTable.of(words, [["a red ball"]]))
    speak = partial(things.Phrases.of, text_encoder, words)
    data = Placed.told(pictures, [layout], speak, (SIZE, SIZE), torch.device("cpu"))
    config = replace(ALL, method="interact")
    seen = set()
    for seed in range(40):
        inputs = told(data, config, 0, seed)[1]
        found = [one[:3] for one in sentences(inputs, read)]
        pairs, rest = [one for one in found if one[1] != "and"], found[-1]
        seen.add(frozenset(pairs))
        assert rest == ("blue box", "and", "blue box")
    dance, by = ("person", "holding", "person"), ("person", "left of", "red ball")
    assert frozenset({dance, by}) in seen


def test_captions_of_large_vocabularies_keep_their_numbers():
    many = CLIPTokenizer.from_pretrained(TOKENIZER)
    many.add_tokens([f"w{number}" for number in range(2**15)])
    wanted = many("w32767").input_ids
    assert max(wanted) >= 2**15
    table = CaptionTable.of(many, [["w32767"]])
    row, none = torch.zeros(1, dtype=torch.long), torch.zeros(1, dtype=torch.bool)
    found = table.drawn(row, none, torch.Generator().manual_seed(0))
    assert found[0, : len(wanted)].tolist() == wanted


def test_latents_may_wait_in_half_precision(data):
    waiting = replace(data.pictures, latents=data.pictures.latents.half())
    rows = torch.tensor([2, 0])
    assert waiting.at(rows).dtype == torch.float32
    torch.testing.assert_close(waiting.at(rows), data.pictures.at(rows), rtol=1e-3, atol=1e-3)

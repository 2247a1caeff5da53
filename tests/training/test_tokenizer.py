"""The tokenizer: one token a word, anything else by bytes, files that transformers loads."""

import pytest
from transformers import CLIPTokenizer

from unicond.training import tokenizer
from unicond.training.captions import NORMAL_MAP, CaptionTable, world_words
from unicond.world import World, describe

WORDS = ("a", "ball", "balls", "all", "red", "shirt", "shirts", "_", ",", "depth", "map", "normal")


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    return tokenizer.build(WORDS, tmp_path_factory.mktemp("words") / "tokenizer")


def test_each_word_is_one_token(words):
    for word in WORDS:
        assert len(words(word).input_ids) == 3, word
    assert len({words(word).input_ids[1] for word in WORDS}) == len(WORDS)
    assert len(words("a red ball, all balls").input_ids) == 2 + 6


def test_anything_else_encodes_and_comes_back(words):
    text = "zwei blaue bälle 42 😀 \\x00"
    ids = words(text).input_ids
    assert words.unk_token_id not in ids[1:-1]
    assert words.decode(ids[1:-1]).replace(" ", "") == text.replace(" ", "")
    assert len(words("x" * 10_000, truncation=True, max_length=77).input_ids) == 77


def test_it_pads_like_clip_and_loads_again(words, tmp_path):
    ids = words("a ball", padding="max_length", max_length=77).input_ids
    assert len(ids) == 77
    assert set(ids[4:]) == {words.eos_token_id}
    assert words.bos_token_id == len(words) - 2
    assert words.eos_token_id == len(words) - 1
    words.save_pretrained(tmp_path)
    again = CLIPTokenizer.from_pretrained(str(tmp_path))
    assert again("a red ball, all").input_ids == words("a red ball, all").input_ids


def test_the_worlds_captions_are_made_of_its_words(monkeypatch):
    monkeypatch.setattr("unicond.training.captions.WORD_SCENES", 1500)
    known = set(world_words())
    scenes = World(seed=5).scenes(0, 60)
    used = tokenizer.words_of(describe(scene, 3).text for scene in scenes)
    assert set(used) <= known
    assert {"normal", "map", "depth", "_", ","} <= known


def test_caption_tables_drop_and_vary(words):
    import torch

    table = CaptionTable.of(words, [["a ball", "a red ball"]] * 3, NORMAL_MAP)
    generator = torch.Generator().manual_seed(0)
    rows = torch.tensor([0, 1, 2])
    drawn = table.drawn(rows, torch.tensor([False, True, False]), generator)
    assert drawn.shape == (3, 77)
    assert torch.equal(drawn[1], table.empty)
    assert words.decode(drawn[0]).count("normal") == 1
    assert drawn[0].tolist() in table.table[0].long().tolist()


def test_captions_that_are_said_twice_are_what_they_are_alone(words):
    said = [["a ball", "red"], ["a shirt", "a ball"], ["red", "red"]]
    table = CaptionTable.of(words, said, "depth ").table
    for row, wordings in enumerate(said):
        for variant, text in enumerate(wordings):
            ids = words(f"depth {text}", padding="max_length", max_length=77).input_ids
            assert table[row, variant].tolist() == ids

"""Which tokens of two prompts belong together; the tiny tokenizer spells words by letters."""

import pytest
import torch

from unicond.mechanisms.attention.words import aligned, places, refined, scales, swapped, words_of

N = 77


@pytest.fixture(scope="module")
def tokenizer(tiny):
    return tiny.backbone.tokenizers[0]


def test_words_are_runs_of_tokens(tokenizer):
    found = words_of(tokenizer, "A red ball, café")
    assert [(word.text, word.tokens) for word in found][:4] == [
        ("a", range(1, 2)),
        ("red", range(2, 5)),
        ("ball", range(5, 9)),
        (",", range(9, 10)),
    ]
    ids = tokenizer("a red ball , café").input_ids
    assert found[-1].tokens.stop == len(ids) - 1
    long = words_of(tokenizer, "ball " * 30)  # 4 tokens each, 75 fit
    assert len(long) == 18
    assert long[-1].tokens.stop == 73


def test_a_swap_of_words_of_one_length_is_a_permutation_in_place(tokenizer):
    alignment = swapped(tokenizer, "a red ball", "a tan cube")
    assert torch.equal(alignment.mapper, torch.eye(N)[None])
    assert torch.equal(alignment.shared, torch.ones(1, N))


@pytest.mark.parametrize(("old", "new"), [("red", "yellow"), ("yellow", "red")])
def test_a_swap_keeps_the_mass_of_each_word(tokenizer, old, new):
    """Maps still sum to 1, and the word in the other's place has its mass, in equal parts."""
    source, target = f"a {old} ball", f"a {new} ball"
    mapper = swapped(tokenizer, source, target).mapper[0]
    torch.testing.assert_close(mapper.sum(1), torch.ones(N))
    maps = torch.rand(5, N).softmax(-1)
    moved = maps @ mapper
    torch.testing.assert_close(moved.sum(1), torch.ones(5))
    for one, other in ((old, new), ("ball", "ball")):
        before = maps * places(tokenizer, source, [one])
        after = moved * places(tokenizer, target, [other])
        torch.testing.assert_close(before.sum(1), after.sum(1))
    equal = moved[:, 2 : 2 + len(new)]
    torch.testing.assert_close(equal, equal[:, :1].expand_as(equal))
    shift = len(new) - len(old)
    end = 2 + len(old) + len("ball")
    torch.testing.assert_close(moved[:, end + shift], maps[:, end])  # the end token


def test_words_that_do_not_stand_one_for_one_are_listed(tokenizer):
    with pytest.raises(ValueError, match="nothing against 'big'"):
        swapped(tokenizer, "a red ball", "a big red ball")
    with pytest.raises(ValueError, match="'red', 'ball' against 'box'"):
        swapped(tokenizer, "a red ball", "a box")
    with pytest.raises(
        ValueError, match="no word is in both prompts: 'red', 'ball' against 'cone'"
    ):
        refined(tokenizer, "red ball", "cone")


def test_what_cannot_be_swapped_is_refined(tokenizer):
    for old, new, way in [
        ("a red ball", "a tan cube", swapped),
        ("a ball on grass", "a red ball grass", refined),  # as many words, in other places
        ("a red ball", "a big red ball", refined),
    ]:
        found, want = aligned(tokenizer, old, new), way(tokenizer, old, new)
        assert torch.equal(found.mapper, want.mapper)
        assert torch.equal(found.shared, want.shared)


def test_a_refinement_shares_what_both_have(tokenizer):
    alignment = refined(tokenizer, "a red ball", "a big ball")
    mapper, shared = alignment.mapper[0], alignment.shared[0]
    kept = [0, 1, *range(5, N)]
    assert shared.nonzero().flatten().tolist() == kept
    assert torch.equal(mapper[kept, kept], torch.ones(len(kept)))
    assert mapper.sum() == len(kept)
    longer = refined(tokenizer, "a ball", "a red ball")
    assert longer.shared[0, 2:5].sum() == 0
    assert longer.mapper[0, 2, 5] == 1  # ball's first letter
    assert longer.mapper[0, 6, 9] == 1  # the end
    assert longer.shared.sum() == N - 3


def test_prompts_of_samples_are_aligned_one_by_one(tokenizer):
    both = swapped(tokenizer, "a red ball", ["a red box", "a tan ball"])
    for row, target in enumerate(("a red box", "a tan ball")):
        assert torch.equal(both.mapper[row], swapped(tokenizer, "a red ball", target).mapper[0])
    with pytest.raises(ValueError, match="2 source prompts, but 3 target prompts"):
        refined(tokenizer, ["a"] * 2, ["a"] * 3)


def test_places_and_scales(tokenizer):
    where = places(tokenizer, ["a red ball on a ball", "ball"], ["ball"])
    assert where[0].nonzero().flatten().tolist() == [5, 6, 7, 8, 12, 13, 14, 15]
    assert where[1].nonzero().flatten().tolist() == [1, 2, 3, 4]
    assert places(tokenizer, "a red ball", ["red ball"]).sum() == 7
    factors = scales(tokenizer, "a red ball", {"red": 2.0, "a": -1.0})
    assert factors[0, :9].tolist() == [1, -1, 2, 2, 2, 1, 1, 1, 1]
    with pytest.raises(ValueError, match="'blue', 'ball red' not in the prompt 'a red ball'"):
        places(tokenizer, "a red ball", ["blue", "red", "ball red"])
    with pytest.raises(ValueError, match="factor of 'red' is inf"):
        scales(tokenizer, "a red ball", {"red": float("inf")})

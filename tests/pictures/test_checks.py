"""Seeds and prompts as people type them."""

import pytest

from unicond.pictures import PictureError, check_prompt, check_seed, parse_seeds

TOP = 2**63 - 1


@pytest.mark.parametrize(
    ("text", "seeds"),
    [
        ("7", (7,)),
        ("0", (0,)),
        (" 7 - 9 ", (7, 8, 9)),
        ("7-7", (7,)),
        ("1,5,9", (1, 5, 9)),
        ("9, 1-3", (9, 1, 2, 3)),
        (str(TOP), (TOP,)),
        (f"{TOP - 1}-{TOP}", (TOP - 1, TOP)),
        ("1-10000", tuple(range(1, 10001))),
    ],
)
def test_seeds_are_read(text, seeds):
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "seeds '' are not understood; write 7, 7-14 or 1,5,9"),
        ("seven", "'seven' are not understood"),
        ("1.5", "not understood"),
        ("1,,2", "not understood"),
        ("1-2-3", "not understood"),
        ("7-", "not understood"),
        ("-1", r"seed -1 is out of range; give 0 to 9223372036854775807 \(2\^63 - 1\)"),
        ("1--1", "seed -1 is out of range"),
        (str(TOP + 1), f"seed {TOP + 1} is out of range"),
        ("9" * 5000, "is out of range; give 0 to"),
        ("14-7", "seeds 14-7 run backwards; write 7-14"),
        ("0-10000", "seeds '0-10000' are more than 10,000; ask for fewer"),
        (f"0-{TOP}", "more than 10,000"),
        ("0-5000,5001-10000", "more than 10,000"),
        ("3,1-4", "seed 3 is named twice"),
    ],
)
def test_bad_seeds_are_refused(text, message):
    with pytest.raises(PictureError, match=message):
        parse_seeds(text)


def test_single_seeds_are_checked():
    assert check_seed(0) == 0
    with pytest.raises(PictureError, match="seed -1 is out of range"):
        check_seed(-1)


def test_prompts():
    for text in ("", "a red ball", "球", "x" * 9_999):
        assert check_prompt(text) == text
    with pytest.raises(
        PictureError, match="the prompt has 10,000 characters; give fewer than 10,000"
    ):
        check_prompt("x" * 10_000)
    with pytest.raises(PictureError, match="has 12 characters; give fewer than 5"):
        check_prompt("a red ball 7", limit=5)
    with pytest.raises(PictureError, match="no text; type it in UTF-8"):
        check_prompt("a \udce9 ball")
    with pytest.raises(TypeError, match="a prompt is a string, not NoneType"):
        check_prompt(None)

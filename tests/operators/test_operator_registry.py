"""Operators by name, as a command line writes them."""

import re
from pathlib import Path

import pytest
from operator_cases import pictures

from unicond.operators import OPERATORS, make_operator
from unicond.operators.registry import usages

SHAPE = (3, 16, 16)
DOCS = Path(__file__).parents[2] / "docs" / "operators.md"


@pytest.mark.parametrize("name", OPERATORS)
def test_every_name_makes_an_operator(name):
    entry = OPERATORS[name]
    operator = make_operator(name, SHAPE)
    assert operator.shape == SHAPE
    assert operator.linear == entry.linear
    written = ":".join([name, *(str(option.default) for option in entry.options)])
    assert make_operator(written, SHAPE).measurement_shape == operator.measurement_shape


@pytest.mark.parametrize("name", OPERATORS)
def test_every_option_is_read(name):
    """Another value makes another measurement."""
    other = {"method": "bicubic", "weights": "luma", "seed": "5", "levels": "9", "angle": "33"}
    other |= {"share": "0.5", "oversampling": "3", "left": "0.0", "top": "0.0", "right": "1.0"}
    other |= {"bottom": "1.0", "std": "1.5", "length": "4", "ratio": "0.5", "quality": "70"}
    x = pictures(1, SHAPE)
    plain = make_operator(name, SHAPE).forward(x)
    for place, option in enumerate(OPERATORS[name].options):
        text = f"{name}:{':' * place}{other[option.name]}"
        changed = make_operator(text, SHAPE).forward(x)
        assert changed.shape != plain.shape or (changed - plain).abs().max() > 1e-3, text


def test_usage_shows_the_defaults():
    assert OPERATORS["motion"].usage("motion") == "motion[:LENGTH=9.0[:ANGLE=0.0]]"
    assert len(usages()) == len(OPERATORS)


def test_the_docs_have_a_row_for_each():
    rows = re.findall(r"^\| `([^`]+)`", DOCS.read_text(), flags=re.MULTILINE)
    assert rows == usages()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sr3", r"no operator 'sr3'; choose of denoise, inpaint-box.*, sr4\[:METHOD=average\]"),
        ("", "no operator ''; choose of"),
        ("blur:3:4", r"'blur:3:4' has too many options; write blur\[:STD=3.0\]"),
        ("denoise:1", "has too many options; write denoise"),
        ("blur:wide", "std is a number, not 'wide'"),
        ("jpeg:2.5", "quality is a whole number, not '2.5'"),
        ("sr2:nearest", "method is one of average, bicubic, not 'nearest'"),
        ("blur:0", "more than 0 and at most the shorter side, 16"),
        ("blur:nan", "out of range"),
        ("motion:17", "give 1 to the longer side, 16 pixels"),
        ("motion:3:inf", "any angle"),
        ("jpeg:0", "give 1 to 100"),
        ("jpeg:101", r"\(written jpeg\[:QUALITY=20\]\)"),
        ("quantize:1", "give 2 to 256"),
        ("phase:0", "give 1 to 4"),
        ("hadamard:0", "give 0 < ratio <= 1"),
        ("hadamard:0.5:-1", "seed -1 is out of range"),
        ("inpaint-free:1", "give more than 0, at most 0.9"),
        ("inpaint-random:0.5:99999999999999999999", "seed .* is out of range"),
        ("inpaint-random:0", "give more than 0"),
        ("inpaint-box:0.5:0:0.5:1", "out of range; give left, top, right, bottom as shares"),
        ("inpaint-box:0:0:1.5:1", "out of range"),
        ("inpaint-box:0:0:1:1", "hides every pixel"),
        ("inpaint-box:0.5:0.5:0.51:0.51", "holds no pixel of 16 x 16"),
    ],
)
def test_errors_say_what_is_allowed(text, message):
    with pytest.raises(ValueError, match=message):
        make_operator(text, SHAPE)


@pytest.mark.parametrize(
    ("text", "shape", "message"),
    [
        ("sr4", (3, 18, 16), "both sides are multiples of it"),
        ("hadamard", (3, 12, 16), "must be powers of two"),
        ("jpeg", (4, 16, 16), "3 channels"),
        ("colorize:luma", (1, 16, 16), "do not fit pictures of 1 channels"),
        ("sr4", (16, 16), r"pictures of \(C, H, W\), not \(16, 16\)"),
        ("denoise", (3, 0, 16), r"pictures of \(C, H, W\)"),
    ],
)
def test_pictures_that_do_not_fit_are_refused(text, shape, message):
    with pytest.raises(ValueError, match=message):
        make_operator(text, shape)

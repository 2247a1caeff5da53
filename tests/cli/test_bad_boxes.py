"""Bad input of the commands that are told of boxes and of several models: refused in one line.

And before anything is drawn: no network runs here.
"""

import json

import diffusers
import pytest
from typer.testing import CliRunner

from unicond.cli import app

BOX = {"phrase": "a dog", "box": [0.1, 0.2, 0.5, 0.9]}
LONG = {"phrase": "a very " * 40 + "long dog", "box": BOX["box"]}
PAIR = [BOX, {"phrase": "a cat", "box": [0.5, 0.2, 0.9, 0.9]}]
COMMANDS = {
    "generate": "generate --prompt p --adapter migc",
    "layout": "layout p --method migc --adapter migc",
    "aggregate": "aggregate p --model migc --model text --adapter migc",
}
FILES = {
    "outside": ([{**BOX, "box": [0.1, 0.2, 1.5, 0.9]}], "0 <= left < right <= 1"),
    "below 0": ([{**BOX, "box": [-0.1, 0.2, 0.5, 0.9]}], "0 <= left < right <= 1"),
    "inverted": ([{**BOX, "box": [0.1, 0.9, 0.5, 0.2]}], "0 <= top < bottom <= 1"),
    "empty": ([{**BOX, "box": [0.1, 0.2, 0.1, 0.9]}], "the box of 'a dog' is (0.1, 0.2, 0.1, 0.9)"),
    "no phrase": ([{**BOX, "phrase": ""}], "a box needs a phrase"),
    "no box": ([], "a grounding needs boxes"),
    "too many": ([BOX] * 31, "31 boxes are given, 30 are the most"),
    "more than slots": ([BOX] * 29, "this migc adapter takes at most 28"),
    "long": ([LONG], "tokens, and the text encoder takes 77: shorten it"),
}


@pytest.fixture
def refused(tiny_base, grounders, tmp_path, monkeypatch):
    """The message of a command that is refused; names of adapters stand for their folders."""

    def ran(*_, **__):
        raise AssertionError("the network ran")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(diffusers.UNet2DConditionModel, "forward", ran)

    def call(line, boxes=None, more=()):
        words = [
            f"{word}={grounders[word]}" if before == "--adapter" and word in grounders else word
            for before, word in zip(["", *line], line, strict=False)
        ]
        if boxes is not None:
            (tmp_path / "boxes.json").write_text(json.dumps(boxes))
            words += ["--boxes", "boxes.json"]
        asked = [*words, *more, "--base", str(tiny_base), "--steps", "4"]
        found = CliRunner().invoke(app, asked)
        assert isinstance(found.exception, ValueError), found.output
        assert not list(tmp_path.rglob("*.png"))
        return str(found.exception)

    return call


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("fault", FILES)
def test_files_of_boxes(refused, command, fault):
    boxes, message = FILES[fault]
    assert message in refused(COMMANDS[command].split(), {"boxes": boxes})


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"subject": 2, "action": "on", "object": 0}, "names box 2, but the boxes are 0 to 1"),
        ({"subject": "a cow", "action": "on", "object": 0}, "'a cow', but 0 of the boxes have"),
        ({"subject": 0, "action": " ", "object": 1}, "an interaction of 0 has no action"),
    ],
)
def test_interactions(refused, command, told, message):
    assert message in refused(COMMANDS[command].split(), {"boxes": PAIR, "interactions": [told]})


@pytest.mark.parametrize(
    ("line", "told", "message"),
    [
        ("generate --prompt p --adapter gligen", {"beta": 0.1}, "of the image's 4 moves that is"),
        ("generate --prompt p --adapter gligen", {"beta": 2}, "beta is 2"),
        ("generate --prompt p --adapter migc", {"repeat": 0}, "repeat is 0"),
        ("generate --prompt p --adapter none", {}, "load gligen, interact or migc"),
        ("layout p --method gligen --adapter none", {}, "'gligen' is an adapter, which this model"),
        ("layout p --method regions --adapter none", {"boxes": [LONG]}, "text encoder takes 77"),
        ("aggregate p --model text --model none --adapter none", {}, "none of the models takes"),
        ("aggregate p --model text --model gligen --adapter none", {}, "none of the models takes"),
        (
            "aggregate p --model gligen --model gligen --adapter gligen",
            {},
            "models 1 and 2 are one model asked the same thing",
        ),
        (
            "aggregate p --model gligen --model text --adapter gligen --window 2-4",
            {},
            "moves 2 to 4 ends beyond the plan, whose moves are 0 to 3",
        ),
        (
            "aggregate p --model text --model migc --adapter migc --window 2-3",
            {"migc_steps": 1},
            "model 2 is asked in the moves 2 to 3, but its adapter acts in none of them",
        ),
        (
            "aggregate p --model gligen --model text --adapter gligen --boxes-of 1=boxes.json",
            {},
            "those that take them, 1, have boxes of their own",
        ),
        (
            "aggregate p --model gligen --model text --adapter gligen --boxes-of 2=boxes.json",
            {},
            "model 2, 'text', takes no boxes",
        ),
    ],
)
def test_what_does_not_go_with_the_boxes(refused, line, told, message):
    assert message in refused(line.split(), {"boxes": PAIR} | told)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("generate --prompt p --adapter migc", "migc is told where things are: give --boxes FILE"),
        ("layout p", "a layout says what is where by box"),
        ("layout p --box a@0.5,0,0.2,1 --method migc", "the box of 'a' is (0.5, 0.0, 0.2, 1.0)"),
        (
            "aggregate p --model migc --model text --adapter migc",
            "model 1 is 'migc', which is told where things are: give boxes (--boxes)",
        ),
        ("aggregate p --model depth --model text --adapter none", "'depth'"),
        ("aggregate p --model text --model text --adapter none", "one model asked the same thing"),
        ("aggregate p --model text --model text:1.5", "1.5 should be less than or equal to 1"),
        ("aggregate p --model text --model text:-0.5", "-0.5 should be greater than or equal to 0"),
        ("aggregate p --model text --model text --window 3-1", "is not FIRST-LAST"),
    ],
)
def test_what_is_lacking_or_too_much(refused, line, message):
    assert message in refused(line.split())

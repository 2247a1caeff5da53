"""Photos in other styles: what is asked, what counts as taken and kept, and a tiny table."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from truth import Brightness, reading_of

import unicond
from unicond.evaluation.condition_table import Run
from unicond.evaluation.study import Bench, tabulate
from unicond.evaluation.subject import Sampling
from unicond.evaluation.tasks.group import Cost
from unicond.evaluation.tasks.page import write_page
from unicond.evaluation.tasks.style import (
    METHODS,
    STYLE,
    STYLES,
    asked,
    methods,
    missing,
    prepared,
)
from unicond.world.vocabulary import STYLES as ALL_STYLES

STEPS = 2
DEPTH = Path(__file__).parents[1] / "golden" / "unicon" / "weights" / "depth"


@pytest.fixture(scope="module")
def bench(tiny_base, tmp_path_factory):
    out = tmp_path_factory.mktemp("tasks")
    run = Run(2, 3, 2, out, "unicond table tasks", {"base": "tiny"}, True)
    model = unicond.load(tiny_base, [DEPTH], device="cpu")
    return Bench(model, Brightness(), run, Sampling(steps=STEPS, guidance=3.0), folder=out)


def test_styles_and_solids_take_turns(bench):
    each = [asked(bench, number) for number in (0, 1, 4, 5, 9, 10)]
    assert [one.style for one in each] == [STYLES[n] for n in (0, 1, 4, 0, 4, 0)]
    assert [len(one.scene.solids) for one in each] == [1, 1, 1, 2, 2, 3]
    for one in each:
        assert one.scene.style == "photo"
        assert one.other != one.scene
        assert one.styled.endswith(one.plain)
        assert one.styled.removesuffix(one.plain) == one.look[: len(one.styled) - len(one.plain)]
        assert not any(style in one.plain for style in ALL_STYLES)


def test_the_truth_has_taken_the_style_and_kept_all(bench):
    cases = prepared(bench, range(5))
    styled = [one.scene.with_style(one.style) for one in cases.each]
    truth = reading_of(styled, cases.after, torch.zeros(5, 1))
    photo = replace(truth, style=torch.zeros(5).long())
    other = replace(truth, classes=truth.classes.roll(1, 0))
    found = []
    for seen in (truth, photo, other):
        knows = replace(cases, bench=replace(bench, judge=lambda _, seen=seen: seen))
        found.append(knows.scores("x", cases.after.image, [Cost()] * 5).values)
    assert [one["style_taken"] for one in found] == [[1] * 5, [0] * 5, [1] * 5]
    assert found[0]["miou"] == found[1]["miou"] == [1] * 5
    assert max(found[2]["miou"]) < 0.9
    assert max(found[0]["abs_rel"]) < 0.02


def test_only_the_look_is_drawn_in_the_style_and_shows_another_scene(bench):
    cases = prepared(bench, range(2))
    assert torch.equal(cases.before.classes, cases.after.classes)
    assert (cases.before.image - cases.after.image).abs().mean() > 0.05
    assert (cases.looks - cases.after.image).abs().mean() > 0.05


@pytest.fixture(scope="module")
def made(bench):
    table, folder = tabulate(STYLE.study, bench)
    return table, folder, STYLE.show(bench)


def test_rows_and_page(made, tmp_path):
    table, folder, pictures = made
    names = ("unedited", "truth", *METHODS)
    cases = ("all", *STYLES[:2])
    assert [r.name for r in table.rows] == [f"style/{c}/{n}" for c in cases for n in names]
    for row in table.rows:
        assert {"style_taken", "abs_rel", "miou", "seconds", "calls", "seed"} == row.metrics.keys()
    calls = {name: table.row(f"style/all/{name}").metrics["calls"] for name in names}
    assert calls["unedited"] == calls["truth"] == 0
    assert calls["style_injection"] == 2 * STEPS  # up and down
    assert calls["sdedit"] == round(0.75 * STEPS) < calls["sdedit+depth"]  # which reads the depth
    assert calls["text"] == STEPS
    text = write_page(STYLE, table, folder, pictures, tmp_path / "style").read_text()
    assert "<h2>toon: pictures</h2>" in text
    assert '<tr class="bound"><td>text</td>' in text


def test_the_look_and_the_words_change_what_is_made(bench):
    """Injection by the picture, SDEdit by the caption, text without the photo."""
    cases = prepared(bench, range(1))
    plain = {method: cases.result(0, method) for method in METHODS}
    looks = replace(cases, looks=-cases.looks)
    photo = replace(cases, before=replace(cases.before, image=-cases.before.image))
    (one,) = cases.each
    words = replace(cases, each=(replace(one, style="neon"),))
    for method, changed in (
        ("style_injection", (looks, photo)),
        ("sdedit", (photo, words)),
        ("sdedit+depth", (photo, words)),
        ("text", (words,)),
    ):
        for other in (looks, photo, words):
            same = torch.equal(other.result(0, method), plain[method])
            if method != "style_injection" or other is not words:  # the look's own words
                assert same == all(other is not each for each in changed)


def test_a_model_without_depth_has_no_row_of_it(bench):
    bare = replace(bench, model=bench.model.only())
    assert methods(bench) == METHODS
    assert methods(bare) == ("style_injection", "sdedit", "text")
    assert missing(bare) == {"sdedit+depth": "no adapter of it is loaded (--adapter depth)"}
    shaped, plain = (prepared(bench, range(1)).task(0, name) for name in ("sdedit+depth", "sdedit"))
    assert (shaped.method, shaped.keep, plain.keep) == ("sdedit", ("depth",), ())


def test_words_of_a_style_are_where_no_picture_shows_it(bench):
    cases = prepared(bench, range(1))
    (one,) = cases.each
    shown, told = (cases.task(0, method) for method in ("style_injection", "sdedit"))
    assert (shown.prompt, shown.source_prompt) == (one.plain, one.plain)
    assert (shown.style_prompt, told.style_prompt) == (one.look, "")
    assert torch.equal(shown.style, cases.looks[0])
    assert (told.prompt, told.style) == (one.styled, None)
    for task in (shown, told):
        assert (task.seed, task.num_inference_steps, task.guidance_scale) == (3_000_000, STEPS, 3.0)

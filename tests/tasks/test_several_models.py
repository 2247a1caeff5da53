"""One picture by several models: as a task, on the command line, and again from its record."""

import json
import warnings
from dataclasses import fields, replace
from inspect import signature
from itertools import combinations

import pytest
import torch
from pydantic import TypeAdapter
from typer.testing import CliRunner

import unicond
from unicond.aggregation.manner import DEFAULT, PAPER, PAPER_STYLE, PAPER_THREE, Place
from unicond.aggregation.mixing import even_weights
from unicond.calls.output import read_record
from unicond.calls.rerun import repeat
from unicond.cli import app
from unicond.cli.manners import window_of
from unicond.cli.table_amdm import manners_of
from unicond.grounding import Grounding, Interaction
from unicond.pictures.metadata import write_png
from unicond.pictures.reading import read_picture
from unicond.tasks import forms
from unicond.tasks.base import pictures_back
from unicond.tasks.filled import Filled
from unicond.tasks.together import Together

USUAL = {"num_inference_steps": 4, "guidance_scale": 3.0}


@pytest.fixture
def depth(tmp_path):
    grey = torch.rand(1, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    return str(write_png(grey.expand(3, -1, -1), tmp_path / "depth.png", {}))


def test_each_model_has_its_own_picture_prompt_and_noise(tiny, tiny_base, depth):
    def made(*models, **changes):
        task = Together("a dog", models, **USUAL, **changes)
        return task.run(tiny).latents["image"]

    pictures = {"1": depth}
    first = made("depth", "text", pictures=pictures, weights=[1.0])
    alone = tiny("a dog", depth=depth, branches=["image"], **USUAL).latents["image"]
    assert torch.equal(first, alone)
    both = made("depth", "text", pictures=pictures)
    others = [
        made("depth", "text", pictures=pictures, prompts={"2": "a cat"}),
        made("depth", "text", pictures=pictures, start="own"),
        made("depth", "text", pictures=pictures, window=(0, 2)),
        made("depth", "depth", pictures={"1": depth, "2": depth}, prompts={"2": "a cat"}),
    ]
    for other in others:
        assert (both - other).abs().max() > 1e-3
    late = {"pictures": pictures, "window": (1, 3)}  # in the first move all noise is the first's
    shared, joined = (made("depth", "text", **late, start=start) for start in ("shared", "joined"))
    assert (shared - joined).abs().max() > 1e-3
    own = made("depth", "text", pictures=pictures, start="own")
    for changes in ({"mix": "lerp"}, {"mean": "posterior"}):
        other = made("depth", "text", pictures=pictures, start="own", **changes)
        assert (own - other).abs().max() > 1e-3


def test_all_have_the_size_of_the_first_ones_picture(tiny, tmp_path):
    wide = torch.linspace(-1, 1, 32 * 64).reshape(1, 32, 64).expand(3, -1, -1)
    path = str(write_png(wide, tmp_path / "wide.png", {}))
    out = Together("a dog", ["depth", "text"], pictures={"1": path}, **USUAL).run(tiny)
    assert out.record.size[0] * 2 == out.record.size[1]


def test_a_picture_holds_its_task_and_is_made_again(tiny, tmp_path, depth):
    task = Together("a dog", ["depth", "text"], pictures={"1": depth}, **USUAL)
    out = task.run(tiny)
    (path,) = out.save(tmp_path / "out")
    record = read_record(path)
    recorded = pictures_back(Together, json.loads(json.dumps(record.task)))
    again = TypeAdapter(Together).validate_python(recorded).run(tiny)
    assert torch.equal(again.latents["image"], out.latents["image"])
    assert torch.equal(repeat(tiny, record).latents["image"], out.latents["image"])


def test_what_does_not_fit_is_refused(tiny, depth):
    refused = [
        (dict(models=["depth", "text"]), "model 1 is 'depth': give its picture, depth=FILE"),
        (dict(models=["text", "text"], pictures={"2": depth}), "model 2, 'text', takes no picture"),
        (dict(models=["text", "gligen"]), "model 2 is 'gligen', a grounding adapter that this"),
        (dict(models=["text"], pictures={"3": depth}), "a picture is given to model 3, but there"),
        (dict(models=["text"], prompts={"0": "x"}), "a prompt is given to model 0, but there"),
        (dict(models=["text", "text"]), "one model asked the same thing"),
        (dict(models=["text", tiny.backbone.name]), "one model asked the same thing"),
        (dict(models=["depth", "text"], pictures={"1": depth}, window=(1, 9)), "beyond the plan"),
        (dict(models=["text", "text"], first=3), "the first is to be model 3, but there are 2"),
        (dict(models=["text", "text"], start="late"), "choose one of own, shared, joined"),
        (dict(models=["text", "text"], seed=-1), "seed -1 is out of range"),
        (dict(models=["text", "text"], seed=2**63 - 1, count=2), "is out of range; give 0 to"),
        (dict(models=["text", "text"], weights=[0.5, 0.5]), "2 models are mixed by 1 weights"),
        (dict(models=["text"]), "several models are aggregated, but 1 given"),
        (dict(models=["text", "text"], solver="x"), "solver 'x' is not known"),
        (dict(models=["text", "text"], solver="heun", eta=1.0), "eta is the 'ddim' solver's"),
    ]
    for changes, message in refused:
        with pytest.raises(ValueError, match=message):
            Together("a dog", **changes, **USUAL).run(tiny)


def test_all_models_make_the_steps_of_one_solver(tiny, depth):
    """At a weight of 1 the first one's picture is that of a run of its own."""
    for told in ({"solver": "heun"}, {"solver": "ddim", "eta": 1.0}):
        task = Together(
            "a dog", ["depth", "text"], pictures={"1": depth}, weights=[1.0], **told, **USUAL
        )
        found = task.run(tiny).latents["image"]
        plain = replace(task, solver=None, eta=None).run(tiny).latents["image"]
        alone = tiny.only("depth")(
            "a dog", depth=depth, branches=["image", "depth"], **told, **USUAL
        )
        assert torch.equal(found, alone.latents["image"])
        assert (found - plain).abs().max() > 1e-3


def test_the_command_line(tiny_base, tmp_path, depth):
    from pathlib import Path

    adapter = Path(__file__).parents[1] / "golden" / "unicon" / "weights" / "depth"
    common = ["--base", str(tiny_base), "--adapter", str(adapter), "--steps", "4"]
    common += ["--solver", "ddim", "--eta", "0.5"]
    models = ["--model", f"depth={depth}", "--model", "text:0.4", "--prompt-of", "2=a cat"]
    ran = CliRunner().invoke(
        app, ["aggregate", *models, "--prompt", "a dog", *common, "--out", str(tmp_path / "out")]
    )
    assert ran.exit_code == 0, ran.output
    task = read_record(tmp_path / "out" / "0_image.png").task
    assert task["prompt"] == "a dog"
    assert task["models"] == ["depth", "text"]
    assert task["weights"] == [0.4]
    assert task["prompts"] == {"2": "a cat"}
    assert (task["solver"], task["eta"]) == ("ddim", 0.5)
    usual = (DEFAULT.mix, DEFAULT.mean, DEFAULT.start)
    assert (task["mix"], task["mean"], task["start"]) == usual
    assert task["window"] == vars(DEFAULT.window)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (["--model", "text:0.3", "--model", "mini"], "is the first, whose picture is kept"),
        (["--model", "text", "--model", "mini:0.3", "--first", "2"], "'mini' is the first, whose"),
        (["--model", "text", "--model", "mini", "--first", "3"], "to be model 3, but there are 2"),
        (
            ["--model", "text", "--model", "mini", "--manner", "x"],
            "--manner: 'x' should be 'default' or 'paper'",
        ),
        (["--model", "=f.png", "--model", "text"], "is not NAME, NAME:WEIGHT or NAME=FILE:WEIGHT"),
        (["--model", "text", "--model", "mini", "--window", "3-1"], "is not FIRST-LAST"),
        (["--model", "text", "--model", "mini", "--window", "0@3"], "needs at least 1 move"),
        (
            ["--model", "text", "--model", "mini", "--mean", "x"],
            "--mean: 'x' should be 'posterior', 'released' or 'none'",
        ),
        (
            ["--model", "text", "--model", "mini", "--start", "x"],
            "--start: 'x' should be 'own', 'shared' or 'joined'",
        ),
        (["--model", "text"], "should have at least 2 items"),
        (
            ["--model", "text", "--model", "mini:2"],
            "--model: 2.0 should be less than or equal to 1",
        ),
        (
            ["--model", "text", "--model", "mini", "--prompt-of", "3=a cat"],
            "--prompt-of 3=a cat is of no model: there are 2",
        ),
        (
            ["--model", "text", "--model", "mini", "--step-size", "40", "--step-size", "50"],
            "there is none: give mean posterior or released (--mean), or leave the step sizes out",
        ),
        (
            ["--model", "text", "--model", "mini", "--mean", "posterior", "--step-size", "40"],
            "2 models need as many step sizes of at least 0, not (40.0,)",
        ),
        (["--model", "text", "--prompt", "a cat"], "give what the picture shows once"),
    ],
)
def test_the_command_line_refuses_what_it_cannot_read(asked, message):
    ran = CliRunner().invoke(app, ["aggregate", "a dog", *asked])
    assert isinstance(ran.exception, ValueError)
    assert message in str(ran.exception)


@pytest.mark.parametrize(
    ("text", "window"),
    [("1-3", (1, 4)), ("2-2", (2, 3)), ("3@120", Place(3, 120.0)), ("3@0.5", Place(3, 0.5))],
)
def test_windows_are_read_as_they_are_written(text, window):
    assert window_of(text) == window
    assert replace(PAPER, window=window).written == text


def test_python_and_the_command_line_have_one_manner():
    """And the page's form, and the table."""
    manner = manners_of(None, None, None, None, None)
    assert manner == (DEFAULT,)
    told = signature(unicond.aggregate).parameters
    assert told["manner"].default == "default"
    own = {one.name: one.default for one in fields(Together)}
    form = forms.Aggregate(prompt="a", model=[{"name": "text"}, {"name": "text"}])
    filled = Filled(form, lambda _: "", {}).task()
    for name in vars(DEFAULT):
        assert own[name] == getattr(filled, name) == getattr(DEFAULT, name)


@pytest.mark.parametrize(
    ("count", "style", "manner"),
    [(2, False, PAPER), (2, True, PAPER_STYLE), (3, True, PAPER_THREE), (4, False, PAPER.among(4))],
)
def test_a_form_names_the_papers_manner(count, style, manner):
    models = [{"name": "text"}] * count
    if style:
        models[-1] = {"name": "style", "picture": {"upload": "s.png"}}

    def task(models=models, **said):
        form = forms.Aggregate(prompt="a", model=models, manner="paper", **said)
        return Filled(form, lambda picture: picture.upload, {}).task()

    assert {name: getattr(task(), name) for name in vars(manner)} == vars(manner)
    said = {"mix": "slerp", "window": (2, 3), "start": "shared"}
    own = task(mean="posterior", step_size=(1.0,) * count, **said)
    assert (own.mix, own.mean, own.window, own.start) == ("slerp", "posterior", (2, 4), "shared")
    assert (own.step_sizes, own.weights) == ((1.0,) * count, manner.weights)
    plain = task(mean="none")
    assert (plain.mean, plain.step_sizes, plain.weights) == (None, None, manner.weights)
    weighted = task([*models[:-1], {**models[-1], "weight": 0.9}]).weights
    assert list(weighted) == [*(manner.weights or even_weights(count))[:-1], 0.9]


def test_any_model_can_be_the_first(tiny, depth):
    """With its own number in all that is said of it."""
    for start in ("joined", "own"):
        own = {"start": start, "weights": [0.4], **USUAL}
        first = Together("a dog", ["depth", "text"], pictures={"1": depth}, **own).run(tiny)
        second = Together("a dog", ["text", "depth"], pictures={"2": depth}, first=2, **own)
        found = second.run(tiny)
        assert torch.equal(found.latents["image"], first.latents["image"])
        assert replace(found.record, task=None) == replace(first.record, task=None)


SAID = Grounding.of([("a dog", 0.1, 0.2, 0.5, 0.9), ("a red ball", 0.6, 0.5, 0.9, 0.9)])


@pytest.fixture(scope="module")
def grounded(tiny, grounders):
    depth = {"depth": tiny.adapters["depth"].source}
    return unicond.load(tiny.backbone.name, {**depth, **grounders})


def test_grounding_adapters_are_models_of_their_own(grounded, depth):
    """Beside each other on one network, each with its own adapter alone."""
    models = ("interact", "migc", "depth")
    task = Together(
        "a dog", models, pictures={"3": depth}, grounding=SAID, weights=[1.0, 1.0], **USUAL
    )
    first = task.run(grounded)
    alone = grounded.only("interact")("a dog", grounding=SAID, **USUAL).latents["image"]
    assert torch.equal(first.latents["image"], alone)
    own = {"2": Grounding(SAID.boxes[:1])}
    both = Together("a dog", models[:2], grounding=SAID, **USUAL).run(grounded)
    other = Together("a dog", models[:2], grounding=SAID, groundings=own, **USUAL).run(grounded)
    assert (both.latents["image"] - alone).abs().max() > 1e-3
    assert (both.latents["image"] - other.latents["image"]).abs().max() > 1e-4
    recorded = json.loads(json.dumps(other.record.task))
    assert (
        TypeAdapter(Together).validate_python(pictures_back(Together, recorded)).groundings == own
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "model 2 is 'migc', which is told where things are"),
        ({"grounding": SAID, "groundings": {"1": SAID}}, "model 1, 'text', takes no boxes"),
        ({"grounding": SAID, "groundings": {"3": SAID}}, "a grounding is given to model 3"),
        ({"grounding": SAID, "pictures": {"2": "x.png"}}, "model 2, 'migc', takes no picture"),
    ],
)
def test_models_that_are_told_too_much_or_too_little(grounded, changes, message):
    with pytest.raises(ValueError, match=message):
        Together("a dog", ("text", "migc"), **USUAL, **changes).run(grounded)


@pytest.mark.parametrize("name", ["interact", "migc", "gligen"])
def test_one_grounding_model_given_twice(grounded, name):
    with pytest.raises(ValueError, match="models 1 and 2 are one model asked the same thing"):
        Together("a dog", (name, name), grounding=SAID, **USUAL).run(grounded)


def test_boxes_that_no_model_takes(grounded, depth):
    task = Together("a dog", ("text", "depth"), pictures={"2": depth}, grounding=SAID, **USUAL)
    with pytest.raises(ValueError, match="none of the models takes them: the grounding adapters"):
        task.run(grounded)


def test_boxes_of_all_that_each_has_of_its_own(grounded):
    own = {"2": SAID, "3": SAID}
    asked = {"models": ("text", "migc", "interact"), "grounding": SAID, **USUAL}
    with pytest.raises(ValueError, match="those that take them, 2, 3, have boxes of their own"):
        Together("a dog", groundings=own, **asked).run(grounded)


@pytest.mark.parametrize(
    ("models", "lost"),
    [
        (("gligen", "migc"), "methods 'gligen', 'migc' take no interactions"),
        (("interact", "migc"), ""),
    ],
)
def test_what_none_of_the_models_takes_of_the_boxes_is_told(grounded, models, lost):
    """What one of them takes is told to all of them."""
    acts = (Interaction(0, "touching", 1),)
    said = replace(SAID, beta=0.5, repeat=2, interactions=acts)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        Together("a dog", models, grounding=said, **USUAL).run(grounded)
    found = [str(one.message) for one in told if "does nothing" in str(one.message)]
    assert [one.partition(":")[0] for one in found] == ([lost] if lost else [])


def test_boxes_on_the_command_line(tiny_base, grounders, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "boxes.json"
    file.write_text('{"boxes": [{"phrase": "a dog", "box": [0.1, 0.2, 0.5, 0.9]}]}')
    adapters = [f"{name}={folder}" for name, folder in grounders.items()]
    options = [x for name in adapters for x in ("--adapter", name)]
    options += ["--boxes", str(file), "--base", str(tiny_base), "--steps", "4"]
    models = ["--model", "interact", "--model", "migc:0.4"]
    made = CliRunner().invoke(app, ["aggregate", "a dog", *models, *options])
    assert made.exit_code == 0, made.output
    task = read_record(tmp_path / "out/aggregate/0_image.png").task
    assert (task["models"], task["weights"]) == (["interact", "migc"], [0.4])
    assert task["grounding"]["boxes"][0]["phrase"] == "a dog"


def test_three_kinds_of_models_on_the_command_line(tiny_base, grounders, prompter, tmp_path):
    """At a weight of 1 the model behind it gives nothing."""
    generator = torch.Generator().manual_seed(2)
    ref = write_png(torch.rand(3, 40, 30, generator=generator) * 2 - 1, tmp_path / "ref.png", {})
    file = tmp_path / "boxes.json"
    file.write_text(json.dumps(TypeAdapter(Grounding).dump_python(SAID, mode="json")))
    named = {name: grounders[name] for name in ("interact", "migc")} | {"image-prompt": prompter}
    options = [f"--adapter={name}={folder}" for name, folder in named.items()]
    options += ["--boxes", str(file), "--base", str(tiny_base), "--steps", "4"]

    def made(*weights):
        migc, style = weights
        models = ["interact", f"migc:{migc}", f"style={ref}:{style}"]
        out = tmp_path / f"{migc}-{style}"
        asked = [f"--model={model}" for model in models] + ["--prompt", "a dog", "--out", str(out)]
        ran = CliRunner().invoke(app, ["aggregate", *asked, *options])
        assert ran.exit_code == 0, ran.output
        record = read_record(out / "0_image.png")
        assert record.task["models"] == ["interact", "migc", "style"]
        assert record.task["weights"] == [*weights]
        assert record.num_inference_steps == 4
        return record, read_picture(out / "0_image.png")

    record, whole = made(0.5, 0.45)
    assert record.task["prompt"] == "a dog"
    assert record.task["pictures"]["3"]["path"] == str(ref)
    assert [one["phrase"] for one in record.task["grounding"]["boxes"]] == ["a dog", "a red ball"]
    assert "Aggregate" in record.mechanisms
    pictures = [whole, *(made(*weights)[1] for weights in ((1.0, 0.45), (0.5, 1.0), (1.0, 1.0)))]
    for one, other in combinations(pictures, 2):
        assert (one - other).abs().max() > 1 / 127.5  # more than a step of 8 bits
    model = unicond.load(tiny_base, [grounders["interact"]])
    alone = model("a dog", grounding=SAID, num_inference_steps=4).pictures["image"][0]
    assert (pictures[-1] - alone).abs().max() < 1 / 127.5

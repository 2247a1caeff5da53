"""From options to forms: each field can be said, and what is wrong is told as it was typed."""

import json
import re

import pytest
from typer.testing import CliRunner

from unicond.cli import app, asked
from unicond.tasks.forms import FORMS, Edit, Generate

COMMON = "--negative-prompt dark --seed 3 --count 2 --size 64x96 --steps 5 --guidance 2"
GIVEN = "--depth d.png --give pose=p.png"
LINES = {
    "generate": [
        f"--prompt p {COMMON} {GIVEN} --image i.png --boxes boxes.json --image-prompt a.png "
        "--ip-scale 0.5 --depth-kind metric --mask depth=m.png --mask-invert --mask-threshold 0.5 "
        "--guide depth --noise pose=0.2 --hold pose --only image --fit pad --solver ddim "
        "--spacing trailing --eta 0.5 --condition-guidance 2 --condition-guidance-against 0.2 "
        "--perturbed-guidance 2 --guidance-window 1:0.5 --joint-scale 0.5 "
        "--conditioning-scale depth=0.5:0.2 --held two_way --attention aligned --no-cache "
        "--refresh 3 --ensemble-size 2 --sampling released --plan joint "
        "--reconstruction-weight depth=2 --reconstruction-iterations 2 "
        "--reconstruction-lr 0.1 --reconstruction-window 1:0.5",
        "--method readout --scale 2",
    ],
    "edit": [
        f"p.png --prompt p {COMMON} --source-prompt s --method semantic --strength 0.5 "
        "--keep depth --align swap --weight ball=2 --subject b --source-subject c --scale 3 "
        "--per pixel --style s.png --style-prompt s"
    ],
    "restore": [
        f"p.png --prompt p {COMMON} --operator mask --noise-std 0.1 --mask m.png --method ddnm "
        "--simulate --mean"
    ],
    "compose": [
        f"p {COMMON} {GIVEN} --with a=2 --without b --region c@0,0,1,1 --region d@m.png "
        "--method blended --picture p.png --other mini --scene 0.5"
    ],
    "layout": [
        f"p {COMMON} {GIVEN} --box a@0,0,1,1 --method segmentation --scale 2 --coarse 0.5",
        "p --boxes boxes.json",
    ],
    "aggregate": [
        f"p {COMMON} --model depth=d.png --model text:0.4 --prompt-of 2=q --boxes boxes.json "
        "--boxes-of 1=boxes.json --first 2 --ip-scale 0.5 --manner paper --mix lerp "
        "--mean posterior --step-size 40 --step-size 50 --window 1-3 --start own "
        "--solver ddim --eta 0.5"
    ],
}
NOT_SAID = {
    "task": "the command itself",
    "base": "the command loads its own model; a form names one that is served",
    "previews": "nobody looks on while a command runs",
}


@pytest.fixture
def form_asked(monkeypatch, tmp_path):
    """The form of a command line, before it is looked at closer."""
    monkeypatch.chdir(tmp_path)
    boxes = {"boxes": [{"phrase": "a dog", "box": [0, 0, 0.5, 1]}]}
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    seen = []

    def fill(form, *_models):
        seen.append(form)
        raise ValueError("enough")

    monkeypatch.setattr(asked, "fill", fill)

    def call(task, line):
        ran = CliRunner().invoke(app, [task, *line.split()])
        assert str(ran.exception) == "enough", ran.output
        return seen.pop()

    return call


@pytest.mark.parametrize("task", FORMS)
def test_every_field_can_be_said(form_asked, task):
    said = set[str]()
    for line in LINES[task]:
        form = form_asked(task, line)
        assert isinstance(form, FORMS[task])
        said |= {
            name
            for name, field in FORMS[task].model_fields.items()
            if field.is_required() or getattr(form, name) != field.default
        }
    assert said == FORMS[task].model_fields.keys() - NOT_SAID.keys()


def test_parts_of_models_are_said(form_asked):
    first, second = form_asked("aggregate", LINES["aggregate"][0]).model
    assert (first.name, first.picture.upload, first.boxes.boxes[0].phrase) == (
        "depth",
        "d.png",
        "a dog",
    )
    assert (second.name, second.weight, second.prompt) == ("text", 0.4, "q")


def test_values_are_what_was_typed(form_asked):
    form = form_asked("generate", LINES["generate"][0])
    assert (form.size, form.guidance_window, form.cache) == ((64, 96), (1.0, 0.5), False)
    assert form.conditioning_scale == {"depth": (0.5, 0.2)}
    assert (form.give["pose"].upload, form.mask["depth"].upload) == ("p.png", "m.png")
    assert form_asked("generate", "--seed 0-99").seed == tuple(range(100))
    assert form_asked("aggregate", "p --model a --model b --window 3@60").window.moves == 3


@pytest.mark.parametrize(
    ("kind", "wrong", "message"),
    [
        (Edit, {"strength": 2.0}, "--strength: 2.0 should be less than or equal to 1"),
        (Edit, {"align": "both"}, "--align: 'both' should be 'swap' or 'refine'"),
        (Edit, {"source_prompt": "a" * 10_001}, "--source-prompt: 'aaa"),
        (Edit, {"size": (0, 8)}, "--size: 0 should be greater than or equal to 1"),
        (Edit, {"seed": -1, "scale": float("nan")}, "; --scale: nan should be a finite number"),
        (Generate, {"seed": (1, -1)}, "--seed: -1 should be greater than or equal to 0"),
        (Generate, {"give": {"a/b": "x.png"}}, "--give: 'a/b' should match pattern"),
    ],
)
def test_what_is_wrong_is_told_as_it_was_typed(kind, wrong, message):
    needed = {"picture": "p.png", "prompt": "a dog"} if kind is Edit else {}
    with pytest.raises(ValueError, match=re.escape(message)) as refused:
        asked.form_of(kind, {**needed, **wrong})
    assert len(str(refused.value)) < 200

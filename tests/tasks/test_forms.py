"""Forms: named as the command line's options are, and what a model runs is what they say."""

import json
from pathlib import Path
from typing import get_args

import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from unicond.calls.request import Attention, Held, Sampling
from unicond.pictures.depth import DepthKind
from unicond.pictures.fitting import Policy
from unicond.sampling.schedules import Spacing
from unicond.tasks.filled import Filled
from unicond.tasks.form_pictures import pictures_of, with_pictures
from unicond.tasks.forms import ANY, FORMS, Edit, Generate, Picture

SURFACE = json.loads((Path(__file__).parents[1] / "cli" / "surface.json").read_text())
MANIFEST = {"batch", "engine", "redo", "rows", "workers"}
ELSEWHERE = {"adapter", "device", "dtype", "head", "lora", "offload", "out", "slicing"} | MANIFEST
"""Options of what a model is and where files go, which are no client's."""
PRINTED = {"preview", "schema"}
"""Options by which a command draws or prints what it understood, and runs no model."""
OWN = {"task", "previews"}


@pytest.mark.parametrize("task", FORMS)
def test_fields_are_the_options(task):
    options = {flag.removeprefix("--").replace("-", "_") for flag in SURFACE[f"unicond {task}"]}
    options = {one for one in options if not one.startswith("no_")} - ELSEWHERE - PRINTED
    options -= {"what"}  # the prompt, as an argument
    fields = {field.alias or name for name, field in FORMS[task].model_fields.items()} - OWN
    if task == "aggregate":  # a prompt of its own stands in the model's own entry
        options -= {"prompt_of", "boxes_of"}
    assert fields == options


def test_choices_are_those_of_the_library():
    schema = Generate.model_json_schema()["properties"]
    choices = {"depth_kind": DepthKind, "fit": Policy, "sampling": Sampling}
    for name, kind in choices.items():
        assert tuple(schema[name]["enum"]) == get_args(kind)
    for name, kind in {"held": Held, "attention": Attention, "spacing": Spacing}.items():
        assert tuple(schema[name]["anyOf"][0]["enum"]) == get_args(kind)


def test_a_form_is_what_it_was_after_json():
    form = ANY.validate_python(
        {
            "task": "compose",
            "prompt": "grass",
            "with": {"a dog": 3.0, "a cat": None},
            "region": [{"text": "a dog", "mask": {"upload": "m"}}],
            "give": {"depth": {"upload": "d"}},
        }
    )
    assert ANY.validate_json(form.model_dump_json(by_alias=True, exclude_none=False)) == form


def test_pictures_are_found_and_replaced_in_order():
    form = Generate(
        depth=Picture(upload="b"), image=Picture(upload="a"), mask={"depth": Picture(upload="c")}
    )
    assert [one.upload for one in pictures_of(form)] == ["a", "b", "c"]
    numbers = iter("123")
    changed = with_pictures(form, lambda _: Picture(upload=next(numbers)))
    assert [one.upload for one in pictures_of(changed)] == ["1", "2", "3"]
    assert changed.image == Picture(upload="1")


def test_a_form_generates_what_the_call_does(tiny, tmp_path):
    """Every setting that the call has is changed, and reaches it."""
    path = tmp_path / "depth.png"
    Image.radial_gradient("L").resize((64, 64)).save(path)
    form = Generate(
        prompt="a dog",
        negative_prompt="a cat",
        seed=(3, 8),
        size=(64, 32),
        steps=2,
        guidance=2.5,
        depth=Picture(upload="d"),
        depth_kind="near-black",
        noise={"depth": 0.6},
        hold=("depth",),
        only=("image",),
        fit="stretch",
        solver="ddim",
        spacing="linspace",
        eta=0.5,
        condition_guidance=1.5,
        condition_guidance_against={"depth": 0.25},
        perturbed_guidance=1.25,
        guidance_window=(1.0, 0.3),
        joint_scale=0.8,
        conditioning_scale={"depth": (0.9, 0.5)},
        held="two_way",
        attention="global",
    )
    out = Filled(form, lambda _: str(path), {}).run(tiny)
    import unicond

    same = tiny(
        "a dog",
        negative_prompt="a cat",
        seed=[3, 8],
        size=(64, 32),
        num_inference_steps=2,
        guidance_scale=2.5,
        depth=unicond.given(path, noise=0.6, hold=True, kind="near-black", fit="stretch"),
        branches=["image"],
        solver="ddim",
        spacing="linspace",
        eta=0.5,
        condition_guidance=1.5,
        condition_guidance_against={"depth": 0.25},
        perturbed_guidance=1.25,
        guidance_window=unicond.Window(1.0, 0.3),
        joint_scale=0.8,
        conditioning_scale={"depth": (0.9, 0.5)},
        held="two_way",
        attention="global",
    )
    assert out.record == same.record
    assert torch.equal(out.latents["image"], same.latents["image"])


def test_a_form_is_its_task(tiny, tmp_path):
    path = tmp_path / "photo.png"
    Image.radial_gradient("L").resize((64, 64)).convert("RGB").save(path)
    form = Edit(picture=Picture(upload="p"), prompt="a dog", method="sdedit", steps=3, seed=4)
    out = Filled(form, lambda _: str(path), {}).run(tiny)
    from unicond.tasks.edit import Edit as Task

    task = Task(str(path), "a dog", method="sdedit", num_inference_steps=3, seed=4)
    same = task.run(tiny)
    assert out.record == same.record
    assert torch.equal(out.latents["image"], same.latents["image"])


def test_forms_say_what_is_where(tiny, grounders):
    import unicond
    from unicond.tasks.together import Together

    model = unicond.load(tiny.backbone.name, dict(grounders))
    boxes = {"boxes": [{"phrase": "a dog", "box": [0.1, 0.2, 0.5, 0.9]}], "beta": 0.7}
    said = unicond.Grounding((unicond.Box("a dog", (0.1, 0.2, 0.5, 0.9)),), beta=0.7)
    form = Generate.model_validate({"prompt": "a dog", "boxes": boxes, "steps": 2})
    out = Filled(form, lambda _: "", {}).run(model)
    same = model("a dog", grounding=said, num_inference_steps=2)
    assert torch.equal(out.latents["image"], same.latents["image"])
    asked = {"task": "aggregate", "prompt": "a dog", "boxes": boxes, "steps": 4}
    form = ANY.validate_python(asked | {"model": [{"name": "interact"}, {"name": "migc"}]})
    out = Filled(form, lambda _: "", {}).run(model)
    task = Together("a dog", ["interact", "migc"], grounding=said, num_inference_steps=4)
    assert torch.equal(out.latents["image"], task.run(model).latents["image"])


def test_options_of_what_is_not_there_are_refused_before_anything_is_loaded():
    one = {"task": "aggregate", "prompt": "a", "ip_scale": 0.5}
    for told, said in (
        ({**one, "model": [{"name": "text"}, {"name": "migc"}]}, "no model 'style' is there"),
        ({"task": "generate", "sampling": "released", "solver": "heun"}, "published solvers ddim"),
        ({"task": "generate", "mask_invert": True}, "mask_invert: no mask is given"),
    ):
        with pytest.raises(ValueError, match=said):
            Filled(ANY.validate_python(told), lambda _: "", {}).check()


@pytest.mark.parametrize(
    "wrong",
    [
        {"task": "edit", "prompt": "a"},
        {"task": "edit", "prompt": "a", "picture": {}},
        {"task": "restore", "picture": "x", "operator": "sr4", "noise_std": -0.1},
        {"task": "restore", "picture": "x", "operator": "sr4", "noise_std": float("nan")},
        {"task": "layout", "prompt": "a", "box": []},
        {"task": "layout", "prompt": "a", "boxes": {"boxes": []}},
        {"task": "generate", "boxes": {"boxes": [{"phrase": "a", "box": [0, 0, 2, 1]}]}},
        {"task": "compose", "region": [{"text": "a"}]},
        {"task": "generate", "guide": ["no space"]},
        {"task": "generate", "mask_threshold": 0},
        {"task": "generate", "unknown": 1},
    ],
)
def test_forms_that_are_none(wrong):
    with pytest.raises(ValidationError):
        ANY.validate_python(wrong)

"""Settings of all tasks come back whole: from the page, and from inside PNGs."""

import hashlib
import io

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from unicond.studio.page import kept, tabs
from unicond.studio.page.fields import filled
from unicond.studio.page.kept import Kept
from unicond.studio.page.more import value_of, words_of
from unicond.studio.page.recorded import told_of_png
from unicond.studio.page.told import form_of
from unicond.tasks.filled import Filled
from unicond.tasks.form_pictures import with_pictures
from unicond.tasks.forms import FORMS, Picture

BRANCHES = ["image", "depth", "pose", "softedge"]
JOB = "0" * 32
BOXES = {
    "boxes": [{"phrase": "a ball", "box": [0.0, 0.0, 0.5, 1.0], "ca_scale": 0.5}],
    "interactions": [{"subject": 0, "action": "holding", "object": 0}],
    "scale": 0.5,
}


def noise(seed, size=(64, 64), mode="RGB"):
    values = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    return Image.fromarray(values).convert(mode)


def depth(seed=0, size=(64, 64)):
    return noise(seed, size, "L")


def half(known=255, unknown=0):
    """A mask that is known at the left."""
    values = np.full((64, 64), unknown, np.uint8)
    values[:, :32] = known
    return Image.fromarray(values)


COMMON = {"negative_prompt": "rain", "size": [64, 64], "steps": 3, "guidance": 2.5, "previews": 0}
COUNTED = {**COMMON, "seed": 7, "count": 2}
WHOLE = {
    "generate": {
        **COUNTED,
        "prompt": "a dog",
        "method": "readout",
        "scale": 2.0,
        "give": {"depth": noise(0), "pose": noise(1)},
        "boxes": BOXES,
        "image_prompt": [noise(2), noise(3)],
        "ip_scale": 0.5,
        "depth_kind": "metric",
        "mask": {"depth": half()},
        "guide": ["pose"],
        "noise": {"depth": 0.5},
        "only": ["image"],
        "fit": "pad",
        "solver": "euler",
        "spacing": "trailing",
        "eta": 0.5,
        "condition_guidance": 1.5,
        "condition_guidance_against": 0.25,
        "perturbed_guidance": 0.75,
        "guidance_window": [0.9, 0.1],
        "joint_scale": 0.8,
        "conditioning_scale": {"depth": [1.0, 0.5], "pose": 0.25},
        "held": "two_way",
        "attention": "global",
        "cache": False,
        "refresh": 2,
        "ensemble_size": 3,
        "sampling": "released",
        "plan": "image-first",
        "reconstruction_weight": {"depth": 0.5},
        "reconstruction_iterations": 2,
        "reconstruction_lr": 0.125,
        "reconstruction_window": [1.0, 0.5],
    },
    "edit": {
        **COUNTED,
        "picture": noise(0),
        "prompt": "a cat",
        "source_prompt": "a dog",
        "method": "style_injection",
        "strength": 0.5,
        "keep": ["depth"],
        "scale": -2.0,
        "style": noise(1),
        "style_prompt": "a wall",
        "align": "refine",
        "weight": {"cat": 2.0},
        "subject": "cat",
        "source_subject": "dog",
        "per": "pixel",
    },
    "restore": {
        **COUNTED,
        "prompt": "a dog",
        "picture": noise(0),
        "operator": "mask",
        "noise_std": 0.25,
        "mask": half(),
        "method": "ddnm",
        "simulate": True,
        "mean": True,
    },
    "compose": {
        **COUNTED,
        "prompt": "grass",
        "with": {"a dog": 2.0, "a cat": None},
        "without": {"rain": 3.0},
        "region": [{"text": "a", "box": [0.0, 0.0, 0.5, 0.5]}, {"text": "b", "mask": half()}],
        "method": "blended",
        "picture": noise(0),
        "other": "second",
        "scene": 0.5,
        "give": {"depth": noise(1), "pose": noise(2)},
    },
    "layout": {
        **COUNTED,
        "prompt": "a red ball",
        "box": [{"phrase": "red ball", "box": [0.0, 0.25, 0.5, 1.0]}],
        "method": "segmentation",
        "scale": 0.5,
        "coarse": 0.25,
        "give": {"depth": noise(1), "pose": noise(2)},
    },
    "aggregate": {
        **COUNTED,
        "prompt": "a dog",
        "model": [
            {"name": "depth", "picture": depth(), "prompt": "a cat"},
            *[{"name": "gligen", "boxes": BOXES, "weight": 0.25}] * 5,
            {"name": "text", "weight": 0.75},
        ],
        "first": 2,
        "boxes": BOXES,
        "ip_scale": 0.5,
        "manner": "paper",
        "mix": "lerp",
        "mean": "posterior",
        "step_size": [0.5, 0.25],
        "window": [2, 4],
        "start": "own",
        "solver": "ddim",
        "eta": 0.5,
    },
}
"""Of each task a form that says something unusual of every field that does not exclude another."""
EXCLUDED = {
    "generate": {"image", "depth", "mask_invert", "mask_threshold", "hold"},
    "layout": {"boxes", "depth"},
    "compose": {"depth"},
}


@pytest.fixture(scope="module")
def made():
    """The tabs of all tasks."""
    with gr.Blocks():
        found = {task: build() for task, build in tabs.BUILT.items()}
        return {**found, "generate": tabs.generate(gr.State([]))}


def names_of(task):
    return {field.alias or name for name, field in FORMS[task].model_fields.items()}


def plain(told):
    """A form whose pictures are named by what they show."""
    form, sent = form_of(told)

    def shown(picture):
        pixels = np.asarray(opened(sent[picture.upload]))
        return Picture(upload=f"{pixels.shape} {hashlib.sha256(pixels.tobytes()).hexdigest()}")

    return with_pictures(form, shown).model_dump(exclude={"base"})


def shown(tab, told):
    return filled(tab.parts, told, BRANCHES)


@pytest.mark.parametrize("task", FORMS)
def test_every_field_of_a_form_is_on_the_page_once(made, task):
    names = [name for part in made[task].parts for name in part.names]
    assert sorted(names) == sorted(names_of(task) - {"task", "base"})


@pytest.mark.parametrize("task", FORMS)
def test_every_field_comes_back_from_the_page(made, task):
    told = {"task": task, **WHOLE[task]}
    assert names_of(task) - told.keys() == EXCLUDED.get(task, set()) | {"base"}
    back = kept.said(made[task].parts, shown(made[task], told), None, BRANCHES)
    assert plain({**back, "task": task}) == plain(told)


@pytest.mark.parametrize("task", FORMS)
def test_an_untouched_page_says_nothing_unusual(made, task):
    """Beside what a form must have, every component's usual value is the form's own."""
    needed = {name: one for name, one in WHOLE[task].items() if name in ("picture", "prompt")}
    needed |= {
        name: WHOLE[task][name] for name in ("box", "model", "operator") if name in WHOLE[task]
    }
    needed |= {"noise_std": 0.0} if task == "restore" else {}
    told = {"task": task, **needed}
    back = kept.said(made[task].parts, shown(made[task], told), None, BRANCHES)
    usual = {"previews": 4, "count": 1} | (
        {"depth_kind": "near-white"} if task == "generate" else {}
    )
    assert plain({**back, "task": task}) == plain({**told, **usual})


def test_what_was_not_touched_is_said_as_it_was(made):
    """Also what no component shows: more levels than 8 bits, soft masks, one seed of several."""
    parts = made["generate"].parts
    exact = Image.fromarray(np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) * 16)
    before = {
        "task": "generate",
        "prompt": "a dog",
        "seed": [7, 3],
        "give": {"depth": exact},
        "mask": {"depth": half(200, 90)},
        "mask_invert": True,
        "mask_threshold": 0.5,
        "noise": {"depth": 0.0},
    }
    values = shown(made["generate"], before)
    said = kept.said(parts, values, before, BRANCHES)
    assert plain({**said, "task": "generate"}) == plain({**before, "previews": 4})
    # a prompt of its own: the rest stays
    values[0] = "a cat"
    changed = kept.said(parts, values, before, BRANCHES)
    assert plain({**changed, "task": "generate"}) == plain(
        {**before, "prompt": "a cat", "previews": 4}
    )


def test_what_was_touched_is_read_from_the_page(made):
    """A mask that said where to make is shown as paint there, and sent as what is known."""
    parts = made["generate"].parts
    before = {
        "task": "generate",
        "give": {"depth": noise(0)},
        "mask": {"depth": half(200, 90)},
        "mask_invert": True,
        "mask_threshold": 0.5,
        "seed": [7, 3],
    }
    tab = made["generate"]
    values = shown(tab, before)
    editor, _, level, *_ = tab.slots.of(1)
    values[tab.components.index(level)] = 0.5
    said = kept.said(parts, values, before, BRANCHES)
    assert "mask_invert" not in said
    assert np.asarray(said["mask"]["depth"])[0, [0, 63]].tolist() == [0, 255]
    assert said["noise"] == {"depth": 0.5}
    assert said["seed"] == [7, 3]
    painted = dict(values[tab.components.index(editor)])
    assert painted["background"].size == (64, 64)


def test_pictures_are_the_same_as_browsers_return_them():
    grey = noise(0, mode="L")
    assert kept.same(grey, grey.convert("RGBA"))
    assert kept.same(grey, grey.point([min(255, value + 2) for value in range(256)]))
    assert not kept.same(grey, grey.point([min(255, value + 3) for value in range(256)]))
    assert not kept.same(grey, grey.resize((32, 32)))
    assert kept.same({"a": (1, grey)}, {"a": [1.0, grey]})
    assert not kept.same({"a": [1]}, {"a": [1, 2]})


def test_what_belongs_to_lost_pictures_goes_with_them():
    told = {
        "task": "generate",
        "give": {"depth": None, "pose": Kept(JOB, "1.png")},
        "noise": {"depth": 0.5, "pose": 0.5},
        "hold": ["depth", "pose"],
        "mask": {"depth": Kept(JOB, "2.png")},
        "image_prompt": [None],
    }
    found, lost = kept.there(told)
    assert found == {
        "task": "generate",
        "give": {"pose": Kept(JOB, "1.png")},
        "noise": {"pose": 0.5},
        "hold": ["pose"],
        "mask": {},
        "image_prompt": [],
    }
    assert lost == ["image prompt", "depth"]


@pytest.mark.parametrize(
    ("text", "alone", "value"),
    [
        (" ", False, None),
        ("image, depth", False, ["image", "depth"]),
        ("depth", False, ["depth"]),
        ("1:0.2", False, [1.0, 0.2]),
        ("1, 3", False, [1.0, 3.0]),
        ("0.5", True, 0.5),
        ("image=0.5, depth=1:0", True, {"image": 0.5, "depth": [1.0, 0.0]}),
    ],
)
def test_lists_are_written_as_on_the_command_line(text, alone, value):
    assert value_of(text, alone) == value
    if value is not None:
        assert value_of(words_of(value), alone) == value


COARSE = {
    "task": "generate",
    **COMMON,
    "prompt": "a dog",
    "seed": 7,
    "count": 2,
    "give": {"depth": depth(0, (64, 96))},
    "noise": {"depth": 0.5},
    "hold": ["depth"],
    "depth_kind": "near-black",
    "fit": "stretch",
    "eta": 0.5,
    "spacing": "trailing",
    "condition_guidance": 1.5,
    "condition_guidance_against": 0.25,
    "perturbed_guidance": 0.75,
    "guidance_window": [0.9, 0.1],
    "joint_scale": 0.8,
    "conditioning_scale": {"depth": [1.0, 0.5]},
    "held": "two_way",
}
MASKED = {
    "task": "generate",
    **COMMON,
    "prompt": "a dog",
    "seed": [7, 3],
    "give": {"image": noise(0)},
    "mask": {"image": half(200, 90)},
    "mask_invert": True,
    "mask_threshold": 0.5,
    "solver": "euler",
    "reconstruction_weight": {"image": 0.5},
    "reconstruction_iterations": 2,
    "reconstruction_lr": 0.125,
    "reconstruction_window": [1.0, 0.5],
}
GUIDED = {**COARSE, "guide": ["depth"], "hold": [], "noise": {}, "held": None}
PLACES = [{"text": "a", "box": [0.0, 0.0, 0.5, 0.5]}, {"text": "b", "mask": half()}]
COMPOSED = {**WHOLE["compose"], "with": {}, "without": {}, "method": "noise_collage", "other": ""}
UNSAID = dict.fromkeys(
    ("style", "style_prompt", "scale", "align", "weight", "subject", "source_subject", "per")
)
RUN = [
    COARSE,
    MASKED,
    GUIDED,
    {**WHOLE["edit"], "task": "edit", "method": "sdedit", "keep": [], **UNSAID},
    {**WHOLE["restore"], "task": "restore", "guidance": 1.0},
    {**COMPOSED, "task": "compose", "picture": None, "give": {"depth": depth()}, "region": PLACES},
    {
        **WHOLE["layout"],
        "task": "layout",
        "method": "regions",
        "scale": None,
        "coarse": 0.0,
        "give": {"depth": depth()},
    },
    {
        **WHOLE["aggregate"],
        "task": "aggregate",
        "model": [
            {"name": "depth", "picture": depth(), "prompt": "a cat", "weight": 0.25},
            {"name": "text"},
            {"name": "served", "weight": 0.75, "prompt": "a bird"},
        ],
        "boxes": None,
        "ip_scale": 0.8,
        "manner": "default",
        "step_size": [0.5, 0.25, 0.125],
        "steps": 6,
    },
]


def run(model, told, folder, bases):
    """Make what a form says as a worker does, from pictures in the folder of a job."""
    form, sent = form_of(told)
    given = folder / "jobs" / JOB / "given"
    given.mkdir(parents=True, exist_ok=True)
    for name, content in sent.items():
        (given / f"{name}.png").write_bytes(content)
    read = f"jobs/{JOB}/given/{{}}.png".format
    return Filled(form, lambda picture: read(picture.upload), bases).run(model)


@pytest.mark.parametrize("told", RUN, ids=[f"{n}-{one['task']}" for n, one in enumerate(RUN)])
def test_a_png_brings_all_settings_back(tiny, tiny_base, tmp_path, monkeypatch, told):
    """What comes back says the same of every field, and makes the same picture again."""
    monkeypatch.chdir(tmp_path)
    model, bases = tiny.only("depth"), {"served": tiny.backbone.name}
    told = {name: value for name, value in told.items() if value is not None}
    out = run(model, told, tmp_path, bases)
    path = next(one for one in out.save("out") if one.name.endswith("_image.png"))
    recorded = told_of_png(str(path), lambda _: True, bases)
    assert recorded.lost == []
    assert recorded.told["base"] == "served"
    found, lost = kept.there(recorded.told)
    assert lost == []
    given = tmp_path / "jobs" / JOB / "given"
    back = kept.pictured(found, lambda one: Image.open(given / one.name))
    first, second = plain(told), plain(back)
    said = form_of(told)[0].model_fields_set - {"previews", "base"}
    for name in first:
        if name in said or second[name] is None:
            assert second[name] == first[name], name
    more = run(model, {**back, "base": None}, tmp_path, bases)
    for branch, picture in out.pictures.items():
        assert np.array_equal(more.pictures[branch], picture), branch


def test_a_map_that_a_head_follows_comes_back(tiny, tmp_path, monkeypatch, head_ships):
    told = {
        **COUNTED,
        **{"task": "generate", "prompt": "a dog", "method": "readout", "scale": 2.0},
        **{"give": {"depth": depth()}, "mask": {"depth": half()}, "only": ["image"]},
    }
    test_a_png_brings_all_settings_back(tiny, None, tmp_path, monkeypatch, told)


def opened(content):
    return Image.open(io.BytesIO(content))


def test_what_no_form_says_is_told(tiny, tmp_path):
    out = tiny.only("depth")("a dog", depth=depth(), num_inference_steps=2)
    path = next(one for one in out.save(tmp_path) if one.name.endswith("_image.png"))
    recorded = told_of_png(str(path), lambda _: True, {"other": "elsewhere"})
    assert recorded.lost == [f"it was made by {tiny.backbone.name}, which is not served here"]
    assert kept.there(recorded.told)[1] == ["depth"]

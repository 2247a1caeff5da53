"""Layouts: every method knows of the boxes in its own way; what they are drawn as; refusals."""

import json
import warnings
from dataclasses import replace
from itertools import combinations

import pytest
import torch
from pydantic import TypeAdapter

import unicond
from unicond.adapters.joint import JointAdapter
from unicond.adapters.readout import ReadoutConfig, ReadoutHead
from unicond.calls.output import read_record
from unicond.grounding import Box, Grounding, Interaction
from unicond.mechanisms.blending.regions import MOST_REGIONS
from unicond.pictures.metadata import write_png
from unicond.tasks.base import pictures_back
from unicond.tasks.compose import Compose
from unicond.tasks.layout import DRAWN, GROUNDED, METHODS, Layout
from unicond.tasks.places import HORIZON, draw_outlines, draw_segmentation
from unicond.world.palette import CLASS_RGB, COLOR_RGB

PROMPT = "a red ball left of a blue box"
BOXES = (("a red ball", 0.0, 0.25, 0.5, 1.0), ("a blue box", 0.5, 0.5, 1.0, 1.0))
USUAL = {"num_inference_steps": 3, "guidance_scale": 3.0}
ROUNDING = 1e-4  # across batch sizes, in float32


@pytest.fixture(scope="module")
def segmented(tiny_base, tiny, tmp_path_factory):
    """The tiny base with an adapter that says that it is for segmentations."""
    folder = tmp_path_factory.mktemp("adapters") / "segmentation"
    JointAdapter.from_pretrained(tiny.adapters["depth"].source).save_pretrained(folder)
    (path,) = folder.glob("*.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "kind": "segmentation"}))
    return unicond.load(tiny_base, {"classes": folder, "depth": tiny.adapters["depth"].source})


@pytest.fixture(scope="module")
def plain(tiny):
    return tiny(PROMPT, branches=["image"], **USUAL).latents["image"]


@pytest.fixture(scope="module")
def grounded(tiny, grounders):
    """The tiny base with a depth adapter and every grounding adapter."""
    depth = {"depth": tiny.adapters["depth"].source}
    return unicond.load(tiny.backbone.name, {**depth, **grounders})


OTHERS = [name for name in METHODS if name not in ("readout", *DRAWN, *GROUNDED)]


def test_what_the_adapters_decide_is_checked_when_they_are_known(grounded):
    """More boxes than regions can be, and a scale, are of MIGC, though not of the usual method."""
    many = Layout(PROMPT, BOXES[:1] * (MOST_REGIONS + 4), **USUAL).run(grounded)
    assert many.record.task["method"] == "migc"
    said = replace(Grounding.of(BOXES), interactions=(Interaction(0, "touching", 1),))
    scaled = Layout(PROMPT, said, scale=0.5, **USUAL).run(grounded)
    assert scaled.record.task["method"] == "interact"
    with pytest.raises(ValueError, match="'regions' has no scale"):
        Layout(PROMPT, BOXES, scale=0.5, **USUAL).run(grounded.only("depth"))
    with pytest.raises(ValueError, match="16 are the most"):
        Layout(PROMPT, BOXES[:1] * (MOST_REGIONS + 4), **USUAL).run(grounded.only("depth"))


@pytest.mark.parametrize("method", GROUNDED)
def test_grounding_adapters_are_told_the_boxes(grounded, method, plain):
    """The method's own adapter alone, whatever else is loaded."""
    out = Layout(PROMPT, BOXES, method=method, **USUAL).run(grounded)
    said = Grounding.of(BOXES)
    same = grounded.only(method)(PROMPT, grounding=said, branches=["image"], **USUAL)
    assert torch.equal(out.latents["image"], same.latents["image"])
    assert not torch.equal(out.latents["image"], plain)
    assert torch.equal(out.before, draw_outlines(BOXES, (64, 64))[None])
    assert out.record.adapters == {method: str(grounded.grounders[method].source)}


@pytest.mark.parametrize("method", GROUNDED)
def test_grounding_adapters_act_beside_a_condition(grounded, method):
    depth = torch.linspace(-1, 1, 64).expand(3, 64, 64)
    task = Layout(PROMPT, BOXES, method=method, conditions={"depth": depth}, **USUAL)
    out, said = task.run(grounded), Grounding.of(BOXES)
    same = grounded.only("depth", method)(PROMPT, grounding=said, depth=depth, **USUAL)
    assert torch.equal(out.latents["image"], same.latents["image"])
    assert out.record.adapters.keys() == {"depth", method}
    assert out.record.generated == ("image",)
    assert (out.pictures["depth"] - depth).abs().max() < 1e-6
    boxes_alone = Layout(PROMPT, BOXES, method=method, **USUAL).run(grounded)
    depth_alone = grounded.only("depth")(PROMPT, depth=depth, **USUAL)
    for other in (boxes_alone, depth_alone):
        assert (out.latents["image"] - other.latents["image"]).abs().max() > 1e-3


def test_more_is_said_of_boxes_in_a_grounding(grounded, tmp_path):
    boxes = Grounding.of(BOXES).boxes
    said = Grounding(boxes, (Interaction(0, "left of", 1),), beta=0.7)
    task = Layout(PROMPT, said, method="interact", scale=0.5, **USUAL)
    assert task.grounding == Grounding(boxes, said.interactions, scale=0.5, beta=0.7)
    out = task.run(grounded)
    recorded = json.loads(json.dumps(out.record.task))
    assert TypeAdapter(Layout).validate_python(pictures_back(Layout, recorded)).boxes == said
    with pytest.warns(UserWarning, match="method 'regions' takes no interactions, beta: what"):
        plainly = Layout(PROMPT, said, method="regions", **USUAL).run(grounded)
    same = Layout(PROMPT, BOXES, method="regions", **USUAL).run(grounded)
    assert torch.equal(plainly.latents["image"], same.latents["image"])


@pytest.mark.parametrize(
    ("method", "changes", "lost"),
    [
        ("gligen", {"interactions": (Interaction(0, "left of", 1),)}, "interactions"),
        ("gligen", {"migc_steps": 3, "repeat": 2}, "migc_steps, repeat"),
        ("migc", {"beta": 0.3}, "beta"),
        ("interact", {"boxes": (Box("a dog", (0.1, 0.2, 0.5, 0.9), ea_scale=0.5),)}, "ea_scale"),
        ("interact", {"beta": 0.7, "interactions": (Interaction(0, "left of", 1),)}, ""),
        ("gligen", {"scale": 0.5, "beta": 0.7, "cut": True}, ""),
        ("migc", {"naive_fuser_steps": 2}, ""),
    ],
)
def test_what_a_method_does_not_take_of_boxes_is_told(grounded, method, changes, lost):
    task = Layout(PROMPT, replace(Grounding.of(BOXES), **changes), method=method, **USUAL)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        task.run(grounded)
    said = [str(one.message) for one in told if "does nothing" in str(one.message)]
    wanted = f"method {method!r} takes no {lost}: what the boxes say of that does nothing"
    assert said == ([wanted] if lost else [])


@pytest.mark.filterwarnings("ignore:method .* takes no interactions")
def test_what_was_trained_for_boxes_comes_first(grounded, tiny):
    acts = Grounding(Grounding.of(BOXES).boxes, (Interaction(0, "left of", 1),))
    for model, boxes, method in (
        (grounded, BOXES, "migc"),
        (grounded, acts, "interact"),
        (grounded.only("gligen"), acts, "gligen"),
        (tiny, acts, "regions"),
    ):
        asked = Layout(PROMPT, boxes, **USUAL)
        out, same = asked.run(model), replace(asked, method=method).run(model)
        assert torch.equal(out.latents["image"], same.latents["image"])
        assert out.record.task == same.record.task
        assert out.record.task["method"] == method


def test_a_grounding_adapter_that_is_not_loaded(tiny):
    with pytest.raises(ValueError, match="'gligen' is an adapter, which this model has not"):
        Layout(PROMPT, BOXES, method="gligen", **USUAL).run(tiny)


@pytest.mark.parametrize("method", OTHERS)
def test_every_method_but_the_text_alone_knows_of_the_boxes(tiny, plain, method):
    out = Layout(PROMPT, BOXES, method=method, **USUAL).run(tiny)
    assert out.record.generated == ("image",)
    assert out.latents["image"].isfinite().all()
    assert torch.equal(out.latents["image"], plain) == (method == "text")
    assert torch.equal(out.before, draw_outlines(BOXES, (64, 64))[None])


LONG = ("a very " * 40 + "red ball", *BOXES[0][1:])


@pytest.mark.parametrize("method", ["regions", "noise_collage", "segmented_regions"])
def test_a_phrase_that_would_be_cut_is_refused(tiny, method, monkeypatch):
    """Before the network runs; cut on request."""

    def ran(*_, **__):
        raise RuntimeError("the network ran")

    monkeypatch.setattr(type(tiny.backbone.network), "forward", ran)
    monkeypatch.setattr("unicond.tasks.layout.segmented", lambda _: "depth")
    said = Grounding.of([LONG])
    with pytest.raises(ValueError, match=r"very .* tokens, and the text encoder takes 77: shorten"):
        Layout(PROMPT, [LONG], method=method, **USUAL).run(tiny)
    with pytest.raises(RuntimeError, match="the network ran"):
        Layout(PROMPT, replace(said, cut=True), method=method, **USUAL).run(tiny)


@pytest.mark.parametrize("method", [None, *GROUNDED])
def test_bad_boxes_are_told_before_a_model_is_there(method):
    for boxes, message in (
        ([("a ball", 0.5, 0.1, 0.2, 0.9)], "the box of 'a ball' is"),
        (BOXES[:1] * 31, "31 boxes are given, 30 are the most"),
    ):
        with pytest.raises(ValueError, match=message):
            Layout(PROMPT, boxes, method=method)


@pytest.mark.parametrize("method", ["layout", "paint_with_words", "self_guidance"])
def test_a_scale_of_nothing_is_the_text_alone(tiny, plain, method):
    out = Layout(PROMPT, BOXES, method=method, scale=0.0, **USUAL).run(tiny)
    assert torch.equal(out.latents["image"], plain)


@pytest.mark.parametrize("method", ["layout", "paint_with_words"])
def test_each_phrase_goes_to_its_own_box(tiny, method):
    """Its words of the prompt, and nothing of the other's."""
    (made,) = METHODS[method](Layout(PROMPT, BOXES, method=method), tiny, (64, 64))
    objects = made.objects if method == "layout" else made.regions
    where = [one.words[0].nonzero()[:, 0].tolist() for one in objects]
    assert where == [[*range(1, 9)], [*range(15, 23)]]  # the tiny tokenizer spells by letters
    if method == "layout":
        assert [one.box for one in objects] == [box[1:] for box in BOXES]
    else:
        corners = torch.stack([one.mask[0, 0, [2, 4], [0, 7]] for one in objects])
        assert torch.equal(corners, torch.eye(2))


def test_the_middle_and_the_size_of_each_box_are_asked_for(tiny):
    boxes = (BOXES[0], ("a blue box", 0.0, 0.0, 1.0, 1.0))
    (made,) = METHODS["self_guidance"](
        Layout(PROMPT, boxes, method="self_guidance"), tiny, (64, 64)
    )
    places, sizes = made.terms[::2], made.terms[1::2]
    assert [term.to for term in places] == [(0.25, 0.625), (0.5, 0.5)]
    assert [term.to for term in sizes] == [0.375, 0.9]  # nothing fills the picture
    assert {term.weight for term in made.terms} == {0.5}
    assert made.scale == 300
    where = [term.words[0].nonzero()[:, 0].tolist() for term in places]
    assert where == [[*range(1, 9)], [*range(15, 23)]]


def test_a_head_follows_a_map_inside_the_boxes(tiny, plain, heads):
    """The map is not given to the adapter of depth that the model has."""
    depth = torch.linspace(-1, 1, 64).expand(3, 64, 64)
    asked = {
        "method": "readout",
        "conditions": {"depth": depth},
        "head": str(heads / "readout/depth"),
    }
    out = Layout(PROMPT, BOXES[:1], scale=1.0, **asked, **USUAL).run(tiny)
    assert set(out.pictures) == {"image"}
    assert (out.given["depth"] - depth).abs().max() < 1e-6  # the mean of its channels
    assert not torch.equal(out.latents["image"], plain)
    off = Layout(PROMPT, BOXES[:1], scale=0.0, **asked, **USUAL).run(tiny)
    assert torch.equal(off.latents["image"], plain)
    (made,) = METHODS["readout"](Layout(PROMPT, BOXES[:1], **asked), tiny, (64, 64))
    assert made.wanted.shape == (1, 1, 64, 64)
    assert (made.wanted[0, 0] - depth[0]).abs().max() < 1e-6
    assert made.mask[0, 0].nonzero().amin(0).tolist() == [2, 0]
    assert made.mask[0, 0].nonzero().amax(0).tolist() == [7, 3]


def test_a_head_of_another_base_is_refused(tiny, tmp_path):
    config = ReadoutConfig(kind="depth", blocks=(8,), channels=1, width=8, base="another")
    ReadoutHead(config).save_pretrained(tmp_path / "head")
    depth = {"depth": torch.zeros(3, 64, 64)}
    task = Layout(
        PROMPT, BOXES, method="readout", conditions=depth, head=str(tmp_path / "head"), **USUAL
    )
    with pytest.raises(ValueError, match="was made for 'another', whose blocks have"):
        task.run(tiny)


@pytest.mark.parametrize(
    ("method", "composed"), [("regions", "multidiffusion"), ("noise_collage", "noise_collage")]
)
def test_places_are_those_of_a_composition(tiny, method, composed):
    out = Layout(PROMPT, BOXES, method=method, **USUAL).run(tiny)
    same = Compose(PROMPT, regions=BOXES, method=composed, **USUAL).run(tiny)
    assert torch.equal(out.latents["image"], same.latents["image"])


@pytest.mark.parametrize("method", ["regions", "layout"])
def test_under_a_condition(tiny, method, tmp_path):
    depth = torch.linspace(-1, 1, 64).expand(3, 64, 64)
    path = write_png(depth, tmp_path / "depth.png", {})
    task = Layout(PROMPT, BOXES, method=method, conditions={"depth": str(path)}, **USUAL)
    out = task.run(tiny)
    alone = Layout(PROMPT, BOXES, method=method, **USUAL).run(tiny)
    assert not torch.equal(out.latents["image"], alone.latents["image"])
    assert (out.pictures["depth"] - depth).abs().max() < 0.01  # of 8 bits, read again


def test_a_segmentation_is_a_condition_of_the_model(segmented, plain):
    out = Layout(PROMPT, BOXES, method="segmentation", **USUAL).run(segmented)
    drawn = draw_segmentation(BOXES, (64, 64))
    assert torch.equal(out.pictures["classes"], drawn[None])
    assert not torch.equal(out.latents["image"], plain)
    coarse = Layout(PROMPT, BOXES, method="segmentation", coarse=0.5, **USUAL).run(segmented)
    assert "classes" in coarse.record.generated
    wide = {"depth": torch.linspace(-1, 1, 96).expand(3, 64, 96)}  # is cropped, the boxes are not
    both = Layout(PROMPT, BOXES, method="segmentation", conditions=wide, size=64, **USUAL)
    assert torch.equal(both.run(segmented).pictures["classes"], drawn[None])
    given = {"conditions": {"classes": drawn}}
    with pytest.raises(ValueError, match="draws 'classes' itself"):
        Layout(PROMPT, BOXES, method="segmentation", **given, **USUAL).run(segmented)


def test_regions_under_a_segmentation(segmented, plain):
    """Both act: without the regions it is `segmentation`, without the map `regions`."""
    task = Layout(PROMPT, BOXES, method="segmented_regions", **USUAL)
    out = task.run(segmented)
    assert torch.equal(out.pictures["classes"], draw_segmentation(BOXES, (64, 64))[None])
    assert "Regions" in out.record.mechanisms
    made = [
        out,
        *(replace(task, method=name).run(segmented) for name in ("segmentation", "regions")),
    ]
    pictures = [plain, *(one.latents["image"] for one in made)]
    for one, other in combinations(pictures, 2):
        assert (one - other).abs().max() > 1e-3
    coarse = replace(task, coarse=0.5).run(segmented)
    assert "classes" in coarse.record.generated
    with pytest.raises(ValueError, match="method 'segmented_regions' gives the boxes as a segment"):
        task.run(segmented.only())
    with pytest.raises(ValueError, match="'a dog' names nothing that a segmentation"):
        replace(task, boxes=[("a dog", 0.0, 0.0, 1.0, 1.0)])


def test_things_are_drawn_in_their_boxes_and_colours():
    """Each class fills its box from side to side, and nothing is drawn beside it."""
    size = (48, 96)
    for thing in ("ball", "box", "cylinder", "pill", "cone", "person"):
        drawn = draw_segmentation([(f"a green {thing} on grass", 0.25, 0.25, 0.5, 1.0)], size)
        color = torch.tensor(CLASS_RGB[thing])[:, None, None] * 2 - 1
        here = (drawn - color).abs().amax(0) < 0.01
        rows, columns = here.any(1).nonzero(), here.any(0).nonzero()
        assert (int(rows.min()), int(rows.max())) == (12, 47)
        assert (int(columns.min()), int(columns.max())) == (24, 47)
        assert here[12:, 24:48].float().mean() > 0.45
        ground = torch.tensor(CLASS_RGB["ground"]) * 2 - 1
        assert (drawn[:, round(HORIZON * 48), 0] - ground).abs().max() < 0.01
    both = draw_segmentation([("a ball", 0, 0, 1, 1), ("a box", 0, 0, 1, 0.5)], (64, 64))
    ball = torch.tensor(CLASS_RGB["ball"]) * 2 - 1
    assert (both[:, 16, 32] - ball).abs().max() < 0.01  # it ends lower: it is nearer


@pytest.mark.parametrize("size", [(64, 64), (128, 128)])
def test_outlines_tell_classes_apart(size):
    """A pill is no ball and a cylinder no box, in boxes of several proportions."""

    def area(thing, right, bottom):
        drawn = draw_segmentation([(f"a {thing}", 0.25, 0.25, right, bottom)], size)
        color = torch.tensor(CLASS_RGB[thing])[:, None, None] * 2 - 1
        return (drawn - color).abs().amax(0) < 0.01

    for right, bottom in ((0.5, 0.5), (0.5, 0.8), (0.8, 0.5), (0.5, 0.56)):
        cylinder, solid = area("cylinder", right, bottom), area("box", right, bottom)
        assert 0.8 < cylinder.sum() / solid.sum() < 0.96  # corners are left
        pill, ball = area("pill", right, bottom), area("ball", right, bottom)
        shared = (pill & ball).sum() / (pill | ball).sum()
        assert shared < 0.9
    lying = area("pill", 0.5, 0.5).float()
    side, half = size[0] // 4, size[0] // 8
    (up_left, up_right), (low_left, low_right) = (
        [part.mean() for part in row.split(half, 1)]
        for row in lying[side : 2 * side, side : 2 * side].split(half, 0)
    )
    assert min(up_right, low_left) > max(up_left, low_right) + 0.2  # along the diagonal that rises


@pytest.mark.parametrize("thing", ["ball", "box", "cylinder", "pill", "cone", "person"])
@pytest.mark.parametrize(("right", "bottom"), [(9, 9), (9, 20), (20, 9), (11, 11), (12, 14)])
def test_boxes_of_a_few_pixels_are_not_left_empty(thing, right, bottom):
    drawn = draw_segmentation([(thing, 8 / 64, 8 / 64, right / 64, bottom / 64)], (64, 64))
    color = torch.tensor(CLASS_RGB[thing])[:, None, None] * 2 - 1
    here = (drawn - color).abs().amax(0) < 0.01
    assert here[8:bottom, 8:right].float().mean() >= 0.3
    here[8:bottom, 8:right] = False
    assert not here.any()


def test_outlines_are_in_the_colours_of_the_phrases():
    drawn = draw_outlines(BOXES, (64, 64))
    for name, x, y in (("red", 0, 40), ("blue", 63, 40)):
        assert (drawn[:, y, x] - (torch.tensor(COLOR_RGB[name]) * 2 - 1)).abs().max() < 0.01
    assert (drawn[:, 8, :] == 1).all()
    assert (drawn[:, 40, 10] == 1).all()
    white = draw_outlines([("a white ball", 0.0, 0.0, 1.0, 1.0)], (64, 64))
    assert (white[:, 0, 0] != 1).any()


def test_it_is_written_and_comes_back_from_its_record(tiny, tmp_path):
    task = Layout(PROMPT, list(BOXES), method="noise_collage", count=2, **USUAL)
    out = task.run(tiny)
    files = {one.name: one for one in out.save(tmp_path)}
    assert set(files) == {"0_image.png", "1_image.png", "0_before.png", "1_before.png"}
    recorded = json.loads(json.dumps(read_record(files["1_image.png"]).task))
    back = TypeAdapter(Layout).validate_python(pictures_back(Layout, recorded))
    again = back.run(tiny)
    torch.testing.assert_close(again.latents["image"], out.latents["image"], atol=0, rtol=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "magic"}, "no method 'magic': choose one of regions, noise_collage"),
        ({"boxes": ()}, "a layout needs boxes"),
        ({"boxes": (("a ball", 0.0, 0.0, 1.2, 1.0),)}, "the box of 'a ball' is"),
        ({"boxes": (("a ball", 0.4, 0.0, 0.4, 1.0),), "method": "text"}, "is empty"),
        ({"boxes": (("", 0.0, 0.0, 1.0, 1.0),)}, "a box needs a phrase"),
        ({"boxes": BOXES[:1] * (MOST_REGIONS + 1)}, "17 places are given, and 16 are the most"),
        ({"scale": 2.0}, "'regions' has no scale: drop it, or choose layout or paint_with_words"),
        ({"head": "depth"}, "'regions' reads nothing off the network: drop head"),
        ({"method": "readout"}, "follows one map inside the boxes, and 0 conditions are given"),
        (
            {"method": "readout", "conditions": {"depth": torch.zeros(3, 64, 64)}},
            "the readout head 'depth' was made for 'mini@",
        ),
        (
            {
                "method": "readout",
                "conditions": {"depth": torch.zeros(3, 64, 64)},
                "head": "nowhere",
            },
            "no readout head 'nowhere': embedded are depth, pose, softedge",
        ),
        ({"method": "self_guidance", "scale": -1.0}, "must be 0 .off. or positive"),
        ({"coarse": 0.5}, "'regions' draws no map that could be coarse"),
        ({"method": "layout", "scale": -1.0}, "scale is -1.0; it must be 0 .off. or"),
        (
            {"method": "layout", "prompt": "a ball and a box"},
            "'a red ball', 'a blue box' not in the prompt 'a ball and a box': 'layout' places",
        ),
        ({"method": "paint_with_words", "prompt": "a red ball"}, "'a blue box' not in the prompt"),
        ({"method": "segmentation"}, r"no adapter of this model is for it \(it has depth, id\)"),
        (
            {"method": "segmentation", "boxes": (("a horse", 0, 0, 1, 1),)},
            "'a horse' names nothing that a segmentation of this world has: write one of ball",
        ),
        ({"conditions": {"image": "x.png"}}, "conditions names 'image'"),
    ],
)
def test_what_does_not_fit_is_refused_before_the_network_runs(
    tiny, arguments, message, monkeypatch
):
    def forbidden(*args, **kwargs):
        raise AssertionError("the network ran")

    monkeypatch.setattr(type(tiny.backbone.network), "forward", forbidden)
    with pytest.raises(ValueError, match=message):
        Layout(**{"prompt": PROMPT, "boxes": BOXES, **USUAL, **arguments}).run(tiny)

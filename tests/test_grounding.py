"""Saying where things are: what callers give, and what a model with grounding adapters makes of it.

On a tiny base of random weights, whose adapters get open gates: what they change is large.
"""

import json
import warnings
from dataclasses import replace
from itertools import combinations, pairwise
from typing import get_args

import pytest
import torch
from typer.testing import CliRunner

import unicond
from unicond import Box, Grounding, Interaction, Window
from unicond.adapters.during import Attached
from unicond.adapters.grounding.attach import Attachment, until_step
from unicond.adapters.grounding.config import Method
from unicond.adapters.grounding.inputs import Boxes, Instances, Seeded
from unicond.calls.output import read_record
from unicond.calls.rerun import repeat
from unicond.cli import app
from unicond.grounding import NOTHING_MORE, grounding_of, read_grounding, schema
from unicond.sampling.state import Move, numbered

pytestmark = [
    pytest.mark.filterwarnings("ignore:the model has"),  # what is idle is compared with
    pytest.mark.filterwarnings("ignore:method .* takes no"),  # one grounding is told to all
]
METHODS = get_args(Method)
ROUNDING = 1e-4  # across batch sizes, in float32
BALL = Box("a red ball", (0.1, 0.2, 0.4, 0.9))
DOG = Box("a dog", (0.5, 0.1, 0.9, 0.6))
PAIR = Grounding((BALL, DOG), (Interaction("a dog", "pushing", 0),))


@pytest.fixture(scope="module")
def models(tiny_base, grounders):
    return {method: unicond.load(tiny_base, [folder]) for method, folder in grounders.items()}


def made(model, grounding=None, prompt="a dog", **asked):
    asked = {"num_inference_steps": 3, "seed": 3} | asked
    return model(prompt, grounding=grounding, **asked).latents["image"]


@pytest.mark.parametrize("method", METHODS)
def test_what_is_said_changes_the_picture(models, method):
    model = models[method]
    plain, grounded = made(model), made(model, PAIR)
    assert (plain - grounded).abs().max() > 1e-3
    elsewhere = Grounding((Box("a red ball", (0.6, 0.2, 0.9, 0.9)), DOG))
    assert (made(model, elsewhere) - grounded).abs().max() > 1e-3
    assert torch.equal(made(model), plain)


@pytest.mark.parametrize("method", METHODS)
def test_without_a_grounding_it_is_the_base_bit_for_bit(tiny_base, models, method):
    assert torch.equal(made(unicond.load(tiny_base)), made(models[method]))


def test_a_model_with_idle_adapters_warns(tiny, grounders, models):
    said = r"the model has gligen, but the call does not say where things are \(grounding=\)"
    with pytest.warns(UserWarning, match=said) as found:
        models["gligen"]("a dog", num_inference_steps=1)
    assert found[0].filename == __file__
    beside = {"depth": tiny.adapters["depth"].source, "gligen": grounders["gligen"]}
    model = unicond.load(tiny.backbone.name, beside)
    with pytest.warns(UserWarning, match=said):
        model("a dog", num_inference_steps=1)
    for one in (model, models["gligen"]):
        assert not one.prepare("a dog", grounding=PAIR).idle
    assert not model.only("depth").prepare("a dog").idle


@pytest.mark.parametrize(
    ("names", "lost"),
    [
        (["gligen"], "method 'gligen' takes no interactions, migc_steps: what the boxes say"),
        (["gligen", "migc"], "methods 'gligen', 'migc' take no interactions:"),
        (["migc"], "method 'migc' takes no interactions, beta:"),
        (["interact", "migc"], ""),
    ],
)
def test_what_no_adapter_takes_of_a_grounding_is_told(tiny_base, grounders, names, lost):
    said = replace(PAIR, beta=0.5, migc_steps=1)
    several = unicond.load(tiny_base, [grounders[name] for name in names])
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        several("a dog", grounding=said, num_inference_steps=2)
    found = [one for one in told if "does nothing" in str(one.message)]
    assert [str(one.message)[: len(lost)] for one in found] == ([lost] if lost else [])
    assert {one.filename for one in found} <= {__file__}


def test_the_command_line_refuses_an_idle_adapter(tiny_base, grounders, tmp_path):
    options = ["--base", str(tiny_base), "--adapter", str(grounders["migc"])]
    refused = CliRunner().invoke(app, ["generate", *options, "--out", str(tmp_path / "out")])
    assert "the adapter migc is told where things are: give --boxes FILE" in str(refused.exception)


@pytest.mark.parametrize("method", METHODS)
def test_a_sample_does_not_depend_on_its_batch(models, method):
    three = Grounding((BALL, DOG, Box("a cat", (0.2, 0.5, 0.8, 1.0))), migc_steps=9)
    for said in ([PAIR, Grounding((DOG,))], three):
        whole = made(models[method], said, seed=[3, 4])
        for row, seed in enumerate((3, 4)):
            own = said if isinstance(said, Grounding) else said[row]
            alone = made(models[method], own, seed=seed)
            torch.testing.assert_close(whole[row : row + 1], alone, rtol=0, atol=ROUNDING)


def test_it_is_what_the_attachment_does_with_encoded_phrases(tiny_base, models):
    model, plain = models["gligen"], unicond.load(tiny_base)
    encoder, tokenizer = plain.backbone.text_encoders[0], plain.backbone.tokenizers[0]
    words = tokenizer([BALL.phrase, DOG.phrase], padding=True, return_tensors="pt")
    phrases = encoder(**words).pooler_output.detach()[None]
    boxes = torch.tensor([[BALL.box, DOG.box]])
    adapter = model.grounders["gligen"].adapter
    inputs = Boxes(masks=torch.ones(1, 2), boxes=boxes, phrases=phrases)
    with Attachment(plain.backbone.network, adapter, inputs).active():
        wanted = made(plain)
    torch.testing.assert_close(made(model, PAIR), wanted, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize(("beta", "moves"), [(0.0, 0), (0.5, 2), (1.0, 4)])
def test_beta_is_a_share_of_the_moves(models, beta, moves):
    model = models["gligen"]
    found = made(model, Grounding((BALL,), beta=beta), num_inference_steps=4)
    adapter = model.grounders["gligen"].adapter
    pooled = model.backbone.encode_phrases([BALL.phrase])[0]
    inputs = Boxes(masks=torch.ones(1, 1), boxes=torch.tensor([[BALL.box]]), phrases=pooled[None])
    attachment = Attachment(model.backbone.network, adapter, inputs, window=until_step(moves - 1))
    wanted = made(model, num_inference_steps=4, mechanisms=[Attached(attachment)])
    assert torch.equal(found, wanted)


def test_migc_acts_up_to_its_step(models):
    model = models["migc"]
    never, always = (Grounding((BALL,), migc_steps=n) for n in (-1, 9))
    assert torch.equal(made(model, never), made(model))
    assert (made(model, always) - made(model)).abs().max() > 1e-3
    naive = Grounding((BALL,), migc_steps=-1, naive_fuser_steps=9)
    assert (made(model, naive) - made(model)).abs().max() > 1e-3
    loud = Grounding((Box(BALL.phrase, BALL.box, ca_scale=3.0),), migc_steps=9)
    assert (made(model, loud) - made(model, always)).abs().max() > 1e-4


@pytest.fixture(scope="module")
def beside_depth(tiny, grounders):
    depth = tiny.adapters["depth"].source
    return unicond.load(tiny.backbone.name, {"depth": depth, **grounders})


UP_AND_DOWN = [
    Move({"image": t, "depth": 1.0}, {"image": s, "depth": 1.0})
    for t, s in pairwise([0, 0.25, 0.5, 0.75, 1, 0.75, 0.5, 0.25, 0])
]


@pytest.mark.parametrize(
    ("plan", "beta", "migc"),
    [
        (None, range(5), range(5)),
        ("condition-first", range(5, 7), range(5, 8)),
        ("image-first", range(2), range(3)),
        ("1,1;1,0.5;0.5,0.5;0.5,0;0,0", range(3, 5), range(3, 6)),
        (UP_AND_DOWN, range(2, 6), range(2, 6)),
    ],
)
def test_windows_count_the_images_moves(beside_depth, plan, beta, migc):
    """Where it rests nothing is counted, and where it goes up as where it comes down again."""
    said = Grounding((BALL,), beta=0.5)
    steps = None if isinstance(plan, list) else 10
    more = {"image": torch.zeros(3, 64, 64)} if isinstance(plan, list) else {}
    asked = {"branches": ["image", "depth"], "plan": plan, "num_inference_steps": steps} | more
    for method, acts in (("gligen", beta), ("interact", beta), ("migc", migc)):
        call = beside_depth.only("depth", method).prepare("a dog", grounding=said, **asked)
        (one,) = (each for each in call.mechanisms if isinstance(each, Attached))
        moves = numbered(call.plan)
        assert [m.number for m in moves if one.attachment.acts(m)] == list(acts)


@pytest.mark.parametrize("method", ["gligen", "migc"])
def test_an_image_that_waits_is_grounded_when_it_moves(beside_depth, method):
    model = beside_depth.only("depth", method)
    asked = {"plan": "condition-first", "num_inference_steps": 4, "branches": ["image", "depth"]}
    off = Grounding((BALL,), scale=0.0, migc_steps=-1)
    here = made(model, Grounding((BALL,), beta=0.5), **asked)
    assert (here - made(model, off, **asked)).abs().max() > 1e-3


def test_a_share_that_is_no_move_is_refused(models):
    little = Grounding((BALL,), beta=0.1)
    with pytest.raises(ValueError, match="of the image's 9 moves that is none, so that gligen wo"):
        models["gligen"].prepare("a dog", grounding=little, num_inference_steps=9)
    for one in (replace(little, beta=0.0), replace(little, scale=0.0)):
        models["gligen"].prepare("a dog", grounding=one, num_inference_steps=9)


@pytest.mark.parametrize("name", ["ca_scale", "ea_scale", "sac_scale"])
def test_migcs_scales_are_each_boxs_own(models, name):
    """And at 1.0 as if there were none."""
    model = models["migc"]

    def scaled(*values):
        boxes = (replace(one, **{name: v}) for one, v in zip((BALL, DOG), values, strict=True))
        return made(model, Grounding(tuple(boxes), migc_steps=9))

    pooled, words = model.backbone.encode_phrases([BALL.phrase, DOG.phrase])
    inputs = Instances(
        masks=torch.ones(1, 2),
        boxes=torch.tensor([[BALL.box, DOG.box]]),
        phrases=pooled[None],
        words=words[None],
        size=(64, 64),
        latents=(8, 8),
        shuffle=Seeded((3,)),
    )
    adapter = model.grounders["migc"].adapter
    attachment = Attachment(model.backbone.network, adapter, inputs, window=until_step(9))
    assert torch.equal(scaled(1.0, 1.0), made(model, mechanisms=[Attached(attachment)]))
    pictures = [scaled(*values) for values in ((1.0, 1.0), (3.0, 1.0), (1.0, 3.0), (0.0, 1.0))]
    for one, other in combinations(pictures, 2):
        assert (one - other).abs().max() > 1e-4


def test_an_enhancement_of_scale_zero_gives_nothing(tiny_base, grounders, models):
    """As if its last layer were zero."""
    quiet = tuple(replace(one, ea_scale=0.0) for one in (BALL, DOG))
    found = made(models["migc"], Grounding(quiet, migc_steps=9))
    silenced = unicond.load(tiny_base, [grounders["migc"]])
    with torch.no_grad():
        for _, part in silenced.grounders["migc"].adapter.parts():
            for value in part.ea.to_out[0].parameters():
                value.zero_()
    assert torch.equal(found, made(silenced, Grounding((BALL, DOG), migc_steps=9)))
    assert (found - made(models["migc"], Grounding((BALL, DOG), migc_steps=9))).abs().max() > 1e-3


def test_migc_is_told_a_phrase_several_times_over(models):
    model = models["migc"]
    twice = made(model, Grounding((BALL,), migc_steps=9, repeat=2))
    written = Box(f"{BALL.phrase}, and {BALL.phrase}", BALL.box)
    assert torch.equal(twice, made(model, Grounding((written,), migc_steps=9)))
    once = made(models["gligen"], Grounding((BALL,)))
    assert torch.equal(made(models["gligen"], Grounding((BALL,), repeat=2)), once)


def test_several_adapters_act_in_one_network(tiny_base, grounders, models):
    model = unicond.load(tiny_base, list(grounders.values()))
    assert list(model.grounders) == list(METHODS)
    for method in METHODS:
        alone = made(model.only(method), PAIR)
        assert torch.equal(alone, made(models[method], PAIR))
        assert (made(model, PAIR) - alone).abs().max() > 1e-4


def test_beside_a_depth_map(tiny, grounders):
    model = unicond.load(
        tiny.backbone.name, {"depth": tiny.adapters["depth"].source, "gligen": grounders["gligen"]}
    )
    depth = torch.rand(1, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    plain, grounded = (made(model, said, depth=depth) for said in (None, PAIR))
    assert (plain - grounded).abs().max() > 1e-3
    with pytest.raises(ValueError, match="the image is given, not made"):
        model(image=torch.zeros(3, 64, 64), grounding=PAIR)


def test_models_that_share_a_network_each_have_their_own(tiny_base, grounders):
    """Aggregated with a weight of one, the first is as if it were alone, whatever the other is."""
    model = unicond.load(tiny_base, list(grounders.values()))
    first, second = model.only("interact"), model.only("migc")

    said = replace(PAIR, migc_steps=4)

    def call(one, seed, said=said):
        return one.prepare("a dog", grounding=said, seed=seed, num_inference_steps=4)

    alone = call(first, 3).run().latents["image"]
    both = unicond.aggregate([call(first, 3), call(second, 9)], [1.0]).latents["image"]
    assert torch.equal(both, alone)
    mixed = unicond.aggregate([call(first, 3), call(second, 9)]).latents["image"]
    assert (mixed - alone).abs().max() > 1e-3
    idle = call(second, 9, replace(PAIR, migc_steps=1))
    with pytest.raises(ValueError, match="model 2 is asked in the moves 2 to 3, but its adapter"):
        unicond.aggregate([call(first, 3), idle], window=Window.steps(2, 4))


def test_a_picture_can_be_made_again(tiny_base, grounders, tmp_path):
    model = unicond.load(tiny_base, [grounders["interact"]])
    out = model("a dog", grounding=[PAIR, Grounding((DOG,))], seed=[3, 4], num_inference_steps=2)
    record = read_record(out.save(tmp_path)[0])
    assert record.grounding == out.record.grounding
    assert record.adapters == {"interact": str(grounders["interact"])}
    found = repeat(model, record).latents["image"]
    assert (found - out.latents["image"]).abs().max() <= ROUNDING


def test_interactions_are_told_with_their_boxes_and_lone_things_with_themselves():
    cone = Box("a cone", (0.0, 0.0, 0.1, 0.1))
    said = Grounding((BALL, DOG, cone), (Interaction(1, "pushing", "a red ball"),))
    assert said.told() == [(DOG, "pushing", BALL), (cone, NOTHING_MORE, cone)]


def test_a_file_says_the_same(tmp_path):
    file = tmp_path / "boxes.json"
    file.write_text(
        json.dumps(
            {
                "boxes": [
                    {"phrase": "a red ball", "box": [0.1, 0.2, 0.4, 0.9]},
                    {"phrase": "a dog", "box": [0.5, 0.1, 0.9, 0.6]},
                ],
                "interactions": [{"subject": "a dog", "action": "pushing", "object": 0}],
            }
        )
    )
    assert read_grounding(file) == PAIR
    assert {"boxes", "interactions", "beta", "migc_steps"} <= schema()["properties"].keys()


def test_the_schema_holds_the_limits():
    """Those that a schema can say; messages stay the reader's own (below)."""
    whole = schema()
    own = {name: part["properties"] for name, part in whole["$defs"].items()}
    told = whole["properties"]
    share = {"type": "number", "minimum": 0, "maximum": 1}
    text = {"type": "string", "minLength": 1, "pattern": r"\S"}
    for found, wanted in (
        (told["boxes"], {"minItems": 1, "maxItems": 30}),
        (told["interactions"], {"maxItems": 30}),
        (told["beta"], share),
        (told["migc_steps"], {"minimum": -1}),
        (told["naive_fuser_steps"], {"minimum": -1}),
        (told["repeat"], {"minimum": 1}),
        (own["Box"]["phrase"], text),
        (own["Box"]["box"], {"prefixItems": [share] * 4, "minItems": 4, "maxItems": 4}),
        (own["Interaction"]["action"], text),
        (own["Interaction"]["subject"], {"minimum": 0}),
        (own["Interaction"]["object"], {"minimum": 0}),
    ):
        assert found == found | wanted


BOX = {"phrase": "x", "box": [0, 0, 1, 1]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"boxes": []}, "needs boxes"),
        ({"boxes": [BOX] * 31}, "31 boxes are given, 30 are the most"),
        ({"boxes": [{"phrase": "x", "box": [0.5, 0, 0.2, 1]}]}, r"boxes.0: .*0 <= left < right"),
        ({"boxes": [{"phrase": "x", "box": [0, 0, 1.5, 1]}]}, "0 <= top < bottom <= 1"),
        ({"boxes": [{"phrase": " ", "box": [0, 0, 1, 1]}]}, "needs a phrase"),
        ({"boxes": [{"phrase": "x", "bbox": [0, 0, 1, 1]}]}, "boxes.0"),
        ({"boxes": [{**BOX, "ca_scale": float("nan")}]}, "ca_scale of 'x' is nan"),
        ({"boxes": [BOX], "beta": 2}, "beta is 2"),
        ({"boxes": [BOX], "scale": float("inf")}, "scale is inf"),
        ({"boxes": [BOX], "migc_steps": -2}, "migc_steps is -2"),
        ({"boxes": [BOX], "repeat": 0}, "repeat is 0"),
        ({"boxes": [BOX], "more": 1}, "more"),
        (
            {"boxes": [BOX], "interactions": [{"subject": 0, "action": "holding", "object": 1}]},
            "names box 1, but the boxes are 0 to 0",
        ),
        (
            {"boxes": [BOX], "interactions": [{"subject": "y", "action": "holding", "object": 0}]},
            "names 'y', but 0 of the boxes",
        ),
        (
            {"boxes": [BOX, BOX], "interactions": [{"subject": "x", "action": "a", "object": 0}]},
            "names 'x', but 2 of the boxes",
        ),
        (
            {"boxes": [BOX], "interactions": [{"subject": 0, "action": "", "object": 0}]},
            "has no action",
        ),
        ([], "unicond layout --schema"),
    ],
)
def test_what_makes_no_sense_is_refused(content, message):
    with pytest.raises(ValueError, match=message):
        grounding_of(content)


def test_a_file_that_is_not_there_or_no_json(tmp_path):
    with pytest.raises(ValueError, match="is no file; give a JSON file"):
        read_grounding(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(ValueError, match=r"bad\.json: "):
        read_grounding(tmp_path / "bad.json")


LONG = Box("a very " * 80 + "long ball", BALL.box)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"grounding": [PAIR] * 2, "seed": [1, 2, 3]}, "different numbers of samples"),
        ({"grounding": [PAIR, Grounding((DOG,), beta=0.5)], "seed": [1, 2]}, "differ in their"),
        ({"grounding": Grounding((LONG,))}, "tokens, and the text encoder takes"),
    ],
)
def test_calls_that_do_not_fit_are_refused(models, asked, message):
    with pytest.raises(ValueError, match=message):
        models["gligen"]("a dog", **asked)


def test_a_long_phrase_is_cut_on_request(models):
    assert torch.isfinite(made(models["gligen"], Grounding((LONG,), cut=True))).all()


def test_a_model_without_an_adapter_for_it_says_so(tiny):
    with pytest.raises(ValueError, match="load gligen, interact or migc"):
        tiny("a dog", grounding=PAIR)


def test_only_names_what_is_there(models):
    with pytest.raises(ValueError, match="no adapter 'depth' in this model; it has gligen"):
        models["gligen"].only("depth")


def test_published_files_go_by_their_method(tiny_base, grounders, tmp_path, models):
    """Plain tensors, in a file of their own, for a network of eight heads as the published ones."""
    file = tmp_path / "weights.safetensors"
    file.write_bytes((grounders["migc"] / "adapter_model.safetensors").read_bytes())
    model = unicond.load(tiny_base, {"migc": file})
    assert torch.equal(made(model, PAIR), made(models["migc"], PAIR))

"""Parts, guides and plans through the public call: what moves, is refused, and is recorded."""

import numpy as np
import pytest
import torch
from PIL import Image

import unicond
from unicond.calls.output import read_record
from unicond.calls.rerun import repeat
from unicond.mechanisms.guidance.gradients import AdamW
from unicond.sampling.window import Window

SIDE = 64
PAIR = {"branches": ["image", "depth"], "seed": 1}


@pytest.fixture
def picture():
    return torch.rand(3, SIDE, SIDE, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.fixture
def half():
    mask = torch.zeros(1, SIDE, SIDE)
    mask[..., : SIDE // 2] = 1
    return mask


def test_guidance_from_a_part_moves_both_branches_and_keeps_the_part(tiny, picture, half):
    """A partial depth map steers the image through joint attention."""
    known = unicond.given(picture, mask=half)
    plain = tiny("a dog", depth=known, **PAIR)
    guided = tiny("a dog", depth=known, **PAIR, reconstruction_weight=0.5)
    for branch in ("image", "depth"):
        assert guided.latents[branch].isfinite().all()
        assert not torch.allclose(guided.latents[branch], plain.latents[branch], atol=1e-3)
    clean = tiny.backbone.encode(picture[None])
    part = clean.shape[-1] // 2
    assert torch.equal(guided.latents["depth"][..., :part], clean[..., :part])
    assert guided.record.reconstruction_weight == {"depth": 0.5}
    assert not any(
        p.requires_grad or p.grad is not None for p in tiny.backbone.network.parameters()
    )


def test_a_weight_of_0_and_a_window_that_never_opens_are_absent(tiny, picture, half):
    arguments = {"image": unicond.given(picture, mask=half), "solver": "ddpm", **PAIR}
    plain = tiny("a dog", **arguments)
    assert plain.record.reconstruction_weight == {"image": 0.0}
    closed = {"reconstruction_weight": 1.0, "reconstruction_window": Window.steps(7, 9)}
    for options in ({"reconstruction_weight": 0.0}, closed):
        off = tiny("a dog", **arguments, **options)
        for branch in ("image", "depth"):
            assert torch.equal(plain.latents[branch], off.latents[branch])


@pytest.mark.parametrize("optimizer", [None, AdamW(iterations=2)])
def test_a_guided_sample_does_not_depend_on_its_batch(tiny, picture, half, optimizer):
    options = {
        "image": unicond.given(picture, mask=half),
        "depth": unicond.given(picture.flip(-1), guide=True),
        "branches": ["image", "depth"],
        "guidance_scale": 2.0,
        "reconstruction_weight": 0.3,
        "reconstruction_optimizer": optimizer,
    }
    together = tiny("a dog", seed=[5, 6], **options)
    for sample, seed in enumerate((5, 6)):
        alone = tiny("a dog", seed=seed, **options)
        for branch in ("image", "depth"):
            error = alone.latents[branch][0] - together.latents[branch][sample]
            assert error.abs().max() < 1e-4 * alone.latents[branch].std()


def test_a_guide_is_generated_and_brings_the_prediction_nearer(tiny, picture):
    """Depth guidance: nothing is put back, and both branches are made."""
    guide = {"depth": unicond.given(picture, guide=True)}
    seen = {}
    for weight in (0.0, 0.3):
        last = []
        out = tiny("a dog", **guide, **PAIR, reconstruction_weight=weight, callback=last.append)
        assert out.record.generated == ("image", "depth")
        seen[weight] = last[-1].predictions
    clean = tiny.backbone.encode(picture[None])
    gaps = {w: (p["depth"].x0 - clean).square().sum() for w, p in seen.items()}
    assert gaps[0.3] < gaps[0.0]
    assert not torch.allclose(seen[0.3]["image"].x0, seen[0.0]["image"].x0, atol=1e-3)
    default = tiny("a dog", **guide, **PAIR)
    assert default.record.reconstruction_weight == {"depth": 1.0}


def test_a_guide_with_a_mask_guides_by_its_part(tiny, picture, half):
    other = torch.where(half > 0, picture, -picture)
    made = [
        tiny("a dog", depth=unicond.given(one, mask=half, guide=True), **PAIR)
        for one in (picture, other)
    ]
    whole = tiny("a dog", depth=unicond.given(picture, guide=True), **PAIR)
    assert not torch.allclose(made[0].latents["image"], whole.latents["image"], atol=1e-3)
    kept = tiny.backbone.encode(picture[None])[..., :4]
    assert not torch.allclose(made[0].latents["depth"][..., :4], kept, atol=1e-3)  # not put back


def test_a_user_lora_stays_frozen_under_guidance(tiny_base, picture, half, tmp_path):
    from diffusers import StableDiffusionPipeline, UNet2DConditionModel
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    network = UNet2DConditionModel.from_pretrained(tiny_base / "unet")
    network.add_adapter(LoraConfig(r=2, target_modules=["attn1.to_q"], init_lora_weights=False))
    StableDiffusionPipeline.save_lora_weights(tmp_path, get_peft_model_state_dict(network))
    path = str(tmp_path / "pytorch_lora_weights.safetensors")
    model = unicond.load(tiny_base, loras={path: 1.0})
    assert not any(p.requires_grad for p in model.backbone.network.parameters())
    out = model(image=unicond.given(picture, mask=half), reconstruction_weight=1.0)
    assert out.latents["image"].isfinite().all()


@pytest.mark.parametrize("plan", ["joint", "image-first", "curve(0.2)", "1,1;0.5,1;0,0"])
def test_plans_by_name(tiny, plan):
    """The moves are those of the plan; the diagonal is the default way."""
    walked = []
    out = tiny("a dog", **PAIR, num_inference_steps=4, plan=plan, callback=walked.append)
    assert out.record.plan == plan
    times = [(p.move.s["image"], p.move.s["depth"]) for p in walked]
    assert times[-1] == (0, 0)
    default = tiny("a dog", **PAIR, num_inference_steps=4)
    same = torch.equal(out.latents["image"], default.latents["image"])
    assert same == (plan == "joint")
    if plan == "image-first":
        assert times[1] == (0, walked[0].move.t["depth"])


def test_a_coarse_plan_is_a_noised_condition(tiny, picture):
    by_plan = tiny("a dog", depth=picture, **PAIR, plan="coarse(0.4)")
    by_noise = tiny("a dog", depth=unicond.given(picture, noise=0.4), **PAIR)
    points = tiny("a dog", depth=picture, **PAIR, plan="1,0.4;0,0")
    for branch in ("image", "depth"):
        assert torch.equal(by_plan.latents[branch], by_noise.latents[branch])
        assert torch.equal(by_plan.latents[branch], points.latents[branch])
    assert by_plan.record.generated == ("image", "depth")


def test_plans_with_parts_and_held_conditions_beside(tiny, picture, half):
    walked = []
    tiny(
        "a dog",
        image=unicond.given(picture, mask=half),
        id=picture,
        plan="condition-first",
        num_inference_steps=4,
        callback=walked.append,
    )
    assert [p.move.s["id"] for p in walked] == [0] * 4
    assert walked[1].move.s["depth"] == 0
    assert walked[1].move.s["image"] == walked[0].move.t["image"]


def test_guidance_and_plans_are_recorded_and_repeated(tiny, tmp_path):
    values = np.linspace(0, 255, SIDE * SIDE).reshape(SIDE, SIDE).astype(np.uint8)
    Image.fromarray(values).save(tmp_path / "picture.png")
    Image.fromarray(np.tri(SIDE, dtype=np.uint8) * 200).save(tmp_path / "mask.png")
    picture, mask = str(tmp_path / "picture.png"), str(tmp_path / "mask.png")
    out = tiny(
        "a dog",
        image=unicond.given(picture, mask=mask, threshold=0.5),
        depth=unicond.given(picture, guide=True),
        **PAIR,
        num_inference_steps=4,
        plan="image-first",
        conditioning_scale={"depth": (0.8, 0.5)},
        reconstruction_weight={"image": 0.7},
        reconstruction_optimizer=AdamW(iterations=2, learning_rate=0.01),
        reconstruction_window=Window(1.0, 0.25),
    )
    record = read_record(out.save(tmp_path / "out")[0])
    assert record == out.record
    assert record.reconstruction_weight == {"image": 0.7, "depth": 1.0}
    assert record.conditioning_scale == {"depth": (0.8, 0.5)}
    again = repeat(tiny, record)
    for branch in ("image", "depth"):
        assert torch.equal(again.latents[branch], out.latents[branch])


def known(picture, **options):
    return unicond.given(picture, **options)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"reconstruction_weight": 1.0}, "nothing is known in part"),
        (
            {"reconstruction_window": (0.5, 0.0)},
            r"_window says when .* nothing is known in",
        ),
        ({"reconstruction_optimizer": AdamW()}, "nothing is known in part"),
        ({"reconstruction_weight": {"depth": 1.0}}, "names 'depth', which is not given"),
        (
            {"reconstruction_weight": {"depth": 1.0}, "depth": known},
            "names 'depth', which is given whole and held",
        ),
        (
            {"reconstruction_weight": -1.0, "depth": lambda p: known(p, guide=True)},
            "reconstruction_weight of 'depth' is -1.0",
        ),
        (
            {"reconstruction_weight": float("nan"), "depth": lambda p: known(p, guide=True)},
            "reconstruction_weight of 'depth' is nan",
        ),
        (
            {
                "reconstruction_weight": 1.0,
                "depth": lambda p: known(p, mask=torch.tensor([[0.3, 0.0]]).expand(2, 2)),
            },
            "nowhere above 0.30 at the latents' size, so that nothing is known",
        ),
        ({"plan": "sideways"}, "plan 'sideways' is not known"),
        ({"plan": "joint", "depth": known, "id": known}, "no condition of this run moves"),
        ({"plan": "joint", "image": known}, "no image of this run moves"),
        ({"plan": "joint", "branches": ["image"]}, "no condition of this run moves"),
        ({"plan": "coarse(0.4)"}, "starts 'depth' at 0.4, but it is not given"),
        (
            {"plan": "coarse(0.4)", "depth": lambda p: known(p, noise=0.5), "branches": ["image"]},
            "is given with a mask, a guide, hold or another noise",
        ),
        (
            {"plan": "1,0.4;0,0", "depth": lambda p: known(p, guide=True), "branches": ["image"]},
            "is given with a mask, a guide, hold or another noise",
        ),
        ({"plan": "image-first", "num_inference_steps": 1}, "needs as many steps at least"),
        ({"plan": "joint", "sampling": "released"}, "drop one of them"),
        ({"held": "one_way"}, "for branches that are held, and none is; drop it"),
        (
            {"held": "one_way", "depth": lambda p: known(p, guide=True)},
            "none is: 'depth' has a mask or is a guide, so that it moves",
        ),
        (
            {"held": "one_way", "depth": known, "conditioning_scale": {"depth": (1.0, 1.0)}},
            "'depth' is held one-way, so that it receives nothing, but w_y of 'depth' is 1.0",
        ),
        (
            {"held": "one_way", "image": known, "conditioning_scale": {"depth": (1.0, 1.0)}},
            "'image' is held one-way, so that it receives nothing, but w_x of 'depth' is 1.0",
        ),
    ],
)
def test_what_does_not_fit_is_refused_before_the_network_runs(
    tiny, picture, arguments, message, monkeypatch
):
    def forbidden(*args, **kwargs):
        raise AssertionError("the network ran")

    monkeypatch.setattr(type(tiny.backbone.network), "forward", forbidden)
    made = {k: v(picture) if callable(v) else v for k, v in arguments.items()}
    with pytest.raises(ValueError, match=message):
        tiny("a dog", **made)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"guide": True, "noise": 0.5}, "generated from pure noise"),
        ({"guide": True, "hold": True}, "generated from pure noise"),
        ({"threshold": 0.5}, "makes a mask binary"),
        ({"threshold": 1.5, "mask": "m.png"}, "makes a mask binary"),
    ],
)
def test_ways_of_giving_that_contradict(picture, options, message):
    with pytest.raises(ValueError, match=message):
        unicond.given(picture, **options)


def test_equal_weights_of_a_held_branch_are_one_number(tiny, picture):
    """`1.0` is no claim on what a one-way branch receives; a pair is, unless its w_y is 0."""
    arguments = {"depth": picture, "branches": ["image"], "held": "one_way", "seed": 2}
    one = tiny("a dog", **arguments, conditioning_scale={"depth": 0.5})
    pair = tiny("a dog", **arguments, conditioning_scale={"depth": (0.5, 0.0)})
    assert torch.equal(one.latents["image"], pair.latents["image"])


def test_guidance_goes_with_a_cached_condition(tiny, picture, half):
    """A held condition's rows run once; the graph of each later call begins at the moving rows."""
    arguments = {
        "image": unicond.given(picture, mask=half),
        "depth": picture.flip(-1),
        "branches": ["image"],
        "held": "one_way",
        "seed": 2,
        "reconstruction_weight": 0.5,
    }
    kept = tiny("a dog", **arguments, cache=True).latents["image"]
    again = tiny("a dog", **arguments, cache=False).latents["image"]
    plain = tiny("a dog", **{**arguments, "reconstruction_weight": 0.0}).latents["image"]
    assert (kept - again).abs().max() < 1e-4 * again.std()
    assert not torch.allclose(again, plain, atol=1e-3)

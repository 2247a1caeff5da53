"""The public call: what is given conditions, what is left out is generated."""

import numpy as np
import pytest
import torch
from PIL import Image

import unicond
from unicond.calls.output import read_record
from unicond.calls.rerun import repeat
from unicond.sampling.noise import Generators

SIDE = 64


@pytest.fixture
def picture():
    return torch.rand(3, SIDE, SIDE, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.fixture
def depth_file(tmp_path):
    values = torch.linspace(0, 255, SIDE * SIDE).reshape(SIDE, SIDE).byte().numpy()
    path = tmp_path / "depth.png"
    Image.fromarray(values).save(path)
    return path


def test_what_is_left_out_is_generated(tiny, picture):
    out = tiny("a dog", branches=["image", "depth"])
    assert out.record.generated == ("image", "depth")
    out = tiny("a dog", depth=picture, branches=["image"])
    assert out.record.generated == ("image",)
    assert torch.equal(out.pictures["depth"][0], picture)
    out = tiny(image=picture, branches=["depth"])
    assert out.record.generated == ("depth",)
    assert torch.equal(out.pictures["image"][0], picture)
    assert out.image[0].size == (SIDE, SIDE)
    assert len(out.depth) == 1


def test_leaving_branches_out_is_plain_text_to_image(tiny, tiny_base):
    """The same numbers as a model without adapters, for the same seed."""
    plain = unicond.load(tiny_base)
    one = tiny("a dog", branches=["image"], seed=3)
    two = plain("a dog", seed=3)
    assert list(one.pictures) == ["image"]
    assert torch.equal(one.latents["image"], two.latents["image"])


def test_it_is_diffusers_pipeline_without_conditions(tiny_base):
    """Same seed, same prompt, DDIM: the same latents as diffusers' own pipeline.

    SD's scheduler ends at model index 0 (`set_alpha_to_one=False`), we at t = 0: set alike here.
    """
    import diffusers

    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(tiny_base, safety_checker=None)
    pipeline.scheduler = diffusers.DDIMScheduler.from_config(
        pipeline.scheduler.config, set_alpha_to_one=True
    )
    pipeline.set_progress_bar_config(disable=True)
    theirs = pipeline(
        "a dog",
        num_inference_steps=5,
        guidance_scale=4.0,
        generator=torch.Generator().manual_seed(11),
        output_type="latent",
    ).images
    ours = unicond.load(tiny_base)("a dog", num_inference_steps=5, guidance_scale=4.0, seed=11)
    error = (ours.latents["image"] - theirs).abs().max()
    assert error < 1e-4 * theirs.std(), f"{error:.2e}"


def test_adapters_change_the_picture_and_go_without_trace(tiny, picture):
    before = tiny("a dog", branches=["image"], seed=3).latents["image"]
    with_depth = tiny("a dog", branches=["image"], depth=picture, seed=3).latents["image"]
    after = tiny("a dog", branches=["image"], seed=3).latents["image"]
    assert torch.equal(before, after)
    assert not torch.allclose(before, with_depth, atol=1e-2)


def test_a_sample_does_not_depend_on_its_batch(tiny, picture):
    together = tiny("a dog", depth=picture, seed=[5, 6], condition_guidance=1.0)
    for sample, seed in enumerate((5, 6)):
        alone = tiny("a dog", depth=picture, seed=seed, condition_guidance=1.0)
        for branch in ("image", "id"):
            error = alone.latents[branch][0] - together.latents[branch][sample]
            assert error.abs().max() < 1e-4 * alone.latents[branch].std()


def test_seeds_and_prompts_one_a_sample(tiny):
    out = tiny(["a dog", "the cat"], seed=4, branches=["image"])
    assert out.record.seeds == (4, 5)
    assert out.record.prompts == ("a dog", "the cat")
    assert len(tiny("a dog", count=3, branches=["image"])) == 3


def test_coarse_starts_at_its_noise_and_ends_clean(tiny, picture):
    coarse = tiny("a dog", depth=unicond.given(picture, noise=0.4), branches=["image"], seed=1)
    assert coarse.record.generated == ("image", "depth")
    held = unicond.given(picture, noise=0.4, hold=True)
    fixed = tiny("a dog", depth=held, branches=["image"], seed=1)
    assert fixed.record.generated == ("image",)
    assert torch.equal(fixed.pictures["depth"][0], picture)
    assert not torch.allclose(fixed.latents["image"], coarse.latents["image"], atol=1e-3)


def test_a_known_part_is_kept(tiny, picture):
    mask = torch.zeros(1, SIDE, SIDE)
    mask[..., : SIDE // 2] = 1
    out = tiny("a dog", image=unicond.given(picture, mask=mask), branches=["image"], seed=1)
    clean = tiny.backbone.encode(picture[None])
    half = clean.shape[-1] // 2
    assert torch.equal(out.latents["image"][..., :half], clean[..., :half])
    inverted = unicond.given(picture, mask=1 - mask, invert=True)
    again = tiny("a dog", image=inverted, branches=["image"], seed=1)
    assert torch.equal(again.latents["image"], out.latents["image"])


def test_a_given_image_is_noised_a_little_to_estimate_from(tiny, picture):
    """By default `estimation_noise` is put on it, by an explicit 0 none; it comes back whole."""
    default = tiny(image=picture, branches=["depth"])
    exact = tiny(image=unicond.given(picture, noise=0.0), branches=["depth"])
    assert not torch.equal(default.latents["depth"], exact.latents["depth"])
    assert torch.equal(default.pictures["image"][0], picture)


@pytest.mark.parametrize("solver", sorted(unicond.SOLVERS))
def test_every_solver_by_name(tiny, solver):
    out = tiny("a dog", solver=solver, branches=["image"])
    assert out.latents["image"].isfinite().all()


@pytest.mark.parametrize("solver", ["ddim", "euler_ancestral", "dpmpp_2m"])
def test_the_released_setting(tiny, picture, solver):
    out = tiny("a dog", depth=picture, sampling="released", solver=solver, branches=["image"])
    assert out.latents["image"].isfinite().all()
    ours = tiny("a dog", depth=picture, solver=solver, branches=["image"])
    assert not torch.equal(out.latents["image"], ours.latents["image"])


def test_callbacks_see_every_move_and_can_cancel(tiny):
    seen = []
    tiny("a dog", branches=["image"], callback=lambda progress: seen.append(progress.move.number))
    assert seen == [0, 1, 2]
    with pytest.raises(unicond.Cancelled, match="stopped after move 1 of 3"):
        tiny("a dog", branches=["image"], callback=lambda _: False)


def test_saved_pictures_can_be_made_again(tiny, depth_file, tmp_path):
    out = tiny("a dog", depth=depth_file, seed=[7, 8], branches=["image"])
    paths = out.save(tmp_path / "out")
    assert [path.name for path in paths] == ["7_image.png", "8_image.png"]
    record = read_record(paths[1])
    assert record == out.record
    again = repeat(tiny, record)
    assert torch.equal(again.latents["image"], out.latents["image"])
    depth_file.write_bytes(b"changed")
    with pytest.raises(ValueError, match="changed"):
        repeat(tiny, record)


def test_generated_depth_is_saved_for_other_programs(tiny, picture, tmp_path):
    out = tiny(image=picture, branches=["depth"])
    names = {path.name for path in out.save(tmp_path)}
    assert names == {"0_depth.png", "0_depth_16bit.png", "0_depth_16bit.npy"}
    assert read_record(tmp_path / "0_depth_16bit.png") == out.record
    assert Image.open(tmp_path / "0_depth_16bit.png").mode == "I;16"


def test_memory_is_no_record(tiny, picture):
    out = tiny("a dog", depth=picture, branches=["image"])
    with pytest.raises(ValueError, match="given from memory, not from a file"):
        repeat(tiny, out.record)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"edges": "x.png"}, r"no branch 'edges' in this model; it has image, depth, id"),
        ({"branches": ["pose"]}, r"no branch 'pose' in this model"),
        ({"prompt": ["a", "b"], "seed": [1, 2, 3]}, "different numbers of samples"),
        ({"seed": -1}, "seed -1 is out of range"),
        ({"seed": 2**63}, "out of range"),
        ({"count": 0}, "count asks for 0 samples"),
        ({"size": 13}, "the latents cannot hold height 13, width 13: both must be multiples of 16"),
        ({"prompt": "x" * 10_000}, "10,?000"),
        ({"solver": "plms"}, "solver 'plms' is not known"),
        ({"eta": 2.0}, r"eta must be in \[0, 1\]"),
        ({"num_inference_steps": 0}, "num_inference_steps must be at least 1"),
        ({"depth": "nowhere.png"}, "nowhere.png"),
        ({"held": "oneway"}, "held is 'oneway'; give one of one_way, two_way"),
        ({"attention": "near"}, "attention is 'near'; give one of global, aligned"),
        (
            {"sampling": "released", "solver": "heun", "branches": ["image"]},
            "published solvers ddim, euler, .*, not with 'heun'",
        ),
        (
            {"sampling": "released", "solver": unicond.sampling.solvers.DDIM()},
            "not with 'DDIM'",
        ),
        ({"sampling": "theirs"}, "sampling is 'theirs'; give one of unicond, released"),
        ({"num_inference_steps": 1.5}, "num_inference_steps is 1.5; give an integer"),
    ],
)
def test_bad_requests_are_named_before_the_network_runs(tiny, arguments, message, monkeypatch):
    def forbidden(*args, **kwargs):
        raise AssertionError("the network ran")

    monkeypatch.setattr(type(tiny.backbone.network), "forward", forbidden)
    with pytest.raises(ValueError, match=message):
        tiny(**{"prompt": "a dog", **arguments})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prompt": None}, "a prompt is a string, not NoneType; give '' for none"),
        ({"prompt": ["a dog", 7]}, "a prompt is a string, not int"),
        ({"negative_prompt": None}, "a prompt is a string, not NoneType"),
        ({"seed": 1.5}, "a seed is a whole number, not 1.5"),
        ({"seed": "7"}, "a seed is a whole number, not '7'"),
        ({"seed": [1, None]}, "a seed is a whole number, not None"),
    ],
)
def test_arguments_of_another_type_are_named(tiny, arguments, message):
    with pytest.raises(TypeError, match=message):
        tiny(**{"prompt": "a dog", "branches": ["image"], **arguments})


def test_numpys_seeds_and_a_single_branch_by_name(tiny):
    out = tiny("a dog", seed=np.int64(3), branches="image", num_inference_steps=1)
    assert out.record.seeds == (3,)
    assert type(out.record.seeds[0]) is int
    assert out.record.branches == ("image",)


@pytest.mark.parametrize("noise", [-0.1, 1.5, float("nan")])
def test_noise_out_of_range(picture, noise):
    with pytest.raises(ValueError, match=f"noise {noise} is outside"):
        unicond.given(picture, noise=noise)


def test_nothing_left_to_generate(tiny, picture):
    given = unicond.given(picture, noise=0.0)
    with pytest.raises(ValueError, match="nothing to generate"):
        tiny(image=given, depth=picture, id=picture)


def test_bases_that_are_none(tmp_path):
    with pytest.raises(ValueError, match="there is no folder 'nothing-here'"):
        unicond.load("nothing-here")
    with pytest.raises(ValueError, match="cannot be read as a base model"):
        unicond.load(tmp_path)


def test_adapters_that_are_none(tiny_base):
    with pytest.raises(ValueError, match="no adapter 'sketchy': embedded are"):
        unicond.load(tiny_base, ["sketchy"])


def test_conditioning_scales_weigh_each_condition(tiny, picture):
    """0.0 is the pair switched off, as if the adapter had no joint attention."""
    arguments = {"prompt": "a dog", "depth": picture, "branches": ["image"], "seed": 2}
    one = tiny(**arguments).latents["image"]
    off = tiny(**arguments, conditioning_scale={"depth": 0.0}).latents["image"]
    half = tiny(**arguments, conditioning_scale={"depth": (0.5, 1.0)}).latents["image"]
    plain = tiny("a dog", branches=["image"], seed=2).latents["image"]
    assert torch.allclose(off, plain, atol=1e-4)
    assert not torch.allclose(half, one, atol=1e-3)
    with pytest.raises(ValueError, match="conditioning_scale names 'pose'"):
        tiny(**arguments, conditioning_scale={"pose": 1.0})
    with pytest.raises(ValueError, match="held one-way, so that it receives nothing"):
        tiny(**arguments, conditioning_scale={"depth": (0.5, 1.0)}, held="one_way")


def test_a_held_branch_of_an_unknown_role_is_two_way(tiny, picture):
    """The published adapters know no held role; `held` overrides, and changes the picture."""
    arguments = {"prompt": "a dog", "depth": picture, "branches": ["image"], "seed": 2}
    default = tiny(**arguments).latents["image"]
    assert torch.equal(default, tiny(**arguments, held="two_way").latents["image"])
    one_way = tiny(**arguments, held="one_way").latents["image"]
    assert not torch.allclose(default, one_way, atol=1e-4)


def test_a_coarse_start_is_the_picture_at_its_noise(tiny, picture):
    """`alpha x0 + sigma z` with the branch's own stream."""
    seen = []
    schedule, level = tiny.backbone.schedule, 0.4
    depth = unicond.given(picture, noise=level, hold=True)
    tiny("a dog", depth=depth, branches=["image"], seed=1, callback=seen.append)
    clean = tiny.backbone.encode(picture[None])
    z = Generators([1], ("image", "depth")).draw("depth", clean)
    want = schedule.alpha(level) * clean + schedule.sigma(level) * z
    assert torch.allclose(seen[0].state.latents["depth"], want, atol=1e-6)


def test_a_known_part_of_a_noise_level_is_let_go_below_it(tiny, picture):
    mask = torch.zeros(1, SIDE, SIDE)
    mask[..., : SIDE // 2] = 1
    out = tiny(
        "a dog", image=unicond.given(picture, mask=mask, noise=0.5), branches=["image"], seed=1
    )
    clean = tiny.backbone.encode(picture[None])
    half = clean.shape[-1] // 2
    assert not torch.allclose(out.latents["image"][..., :half], clean[..., :half], atol=1e-3)


def test_maps_are_estimated_and_other_pictures_drawn(tiny):
    """A map is read off an image in the base's few steps; another picture takes as many as any."""
    image = Image.radial_gradient("L").resize((64, 64)).convert("RGB")
    assert tiny(image=image, branches=["depth"]).record.num_inference_steps == 2
    assert tiny(image=image, branches=["id"]).record.num_inference_steps == 3
    assert tiny(image=image, branches=["depth", "id"]).record.num_inference_steps == 3

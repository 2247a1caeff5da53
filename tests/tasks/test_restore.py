"""Restorations: what each method keeps of the measurement, how it is read, and what is refused."""

import json

import pytest
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from pydantic import TypeAdapter

import unicond
from unicond.backbones import pixels
from unicond.backbones.pixels import UnshuffledUNet
from unicond.calls.output import read_record
from unicond.calls.rerun import repeat
from unicond.operators import OPERATORS, make_operator
from unicond.pictures.metadata import write_png
from unicond.sampling.noise import Generators
from unicond.tasks import measured
from unicond.tasks.base import pictures_back
from unicond.tasks.restore import Restore
from unicond.tasks.restorers import DEFAULTS, METHODS, Case

SIDE = 32
QUICK = {"num_inference_steps": 4}
ROUNDING = 1e-4  # of pictures in [-1, 1], over some steps in float32
SMALL = ("ddnm", "ddrm", "mcg", "pigdm", "classifier", "universal", "ilvr", "ccdf")
EXACT = ("ddnm", "ddrm", "mcg", "ilvr", "repaint", "ccdf", "replacement", "reconstruction")


@pytest.fixture(scope="module")
def pixel(tiny, tiny_base, tmp_path_factory):
    """A base of 32 x 32 pixels with random weights."""
    shape = dict(UNet2DConditionModel.load_config(tiny_base / "unet"))
    shape |= {"sample_size": 8, "in_channels": 48, "out_channels": 48}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = UnshuffledUNet.from_config(shape)
    folder = tmp_path_factory.mktemp("pixels") / "base"
    words = tiny.backbone.text_encoders[0], tiny.backbone.tokenizers[0]
    noise = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True}
    noise |= {"timestep_spacing": "trailing", "clip_sample": False}
    scheduler = DDIMScheduler.from_pretrained(tiny_base / "scheduler", **noise)
    pixels.save(folder, network, *words, scheduler)
    return unicond.load(folder)


@pytest.fixture
def picture():
    return torch.rand(3, SIDE, SIDE, generator=torch.Generator().manual_seed(1)) * 1.8 - 0.9


@pytest.fixture
def mask():
    found = torch.ones(1, SIDE, SIDE)
    found[:, 8:24, 8:24] = 0
    return found


@pytest.mark.parametrize("method", ["mcg", "ccdf"])
def test_noise_that_undoing_the_operator_would_blow_up_is_refused(pixel, picture, method):
    """What a blur leaves least of is 0.001 of it: noise of 0.05 would come out as 47."""
    blurred = Restore(picture, "blur", 0.05, method=method, simulate=True, **QUICK)
    with pytest.raises(ValueError, match=f"{method} takes a measurement as exact.*choose ddrm"):
        blurred.run(pixel)
    for operator, noise in (("blur", 0.0), ("sr4", 0.05)):
        task = Restore(picture, operator, noise, method=method, simulate=True, **QUICK)
        assert task.run(pixel).latents["image"].isfinite().all()


@pytest.mark.parametrize("method", ["dps", "pigdm", "universal", "reconstruction"])
def test_guidance_through_the_network_waits_until_a_prediction_says_something(pixel, method):
    task = Restore(torch.zeros(3, SIDE, SIDE), "inpaint-box", 0.05, method=method, simulate=True)
    case = Case(task.seen(pixel.backbone), pixel.backbone, (1.0, 0.8, 0.4))
    guide, moves = METHODS[method][0](case).mechanisms[0], list(case.down())
    assert [guide.window.active(move, "image") for move in moves] == [False, True, True]


@pytest.mark.parametrize(
    ("method", "operator"),
    [
        *((method, "inpaint-box") for method in METHODS if method != "ilvr"),
        *((method, "sr4") for method in SMALL),
        ("dps", "quantize"),
        ("universal", "quantize"),
    ],
)
def test_every_method_restores_what_it_is_for(pixel, picture, method, operator):
    """Those that take the measurement as exact meet it; the others come nearer than without it."""
    task = Restore(picture, operator, 0.0, method=method, simulate=True, **QUICK)
    found = task.run(pixel).latents["image"]
    free = pixel(branches=["image"], guidance_scale=1.0, **QUICK).latents["image"]
    made = make_operator(operator, (3, SIDE, SIDE))
    gap, usual = ((made.forward(x) - made.forward(picture[None])).abs() for x in (found, free))
    least = 0.7 if method == "dps" else 0.5  # DPS's steps together move a value by less than 1
    assert gap.max() < ROUNDING if method in EXACT else gap.mean() < least * usual.mean()
    if operator == "inpaint-box":
        hole = (slice(None), slice(None), slice(8, 24), slice(8, 24))
        assert (found - picture)[hole].abs().mean() > 0.1


@pytest.mark.parametrize("operator", ["sr4", "inpaint-box", "denoise"])
def test_two_steps_are_enough_to_start_late(pixel, picture, operator):
    task = Restore(picture, operator, 0.0, method="ccdf", simulate=True, num_inference_steps=2)
    assert task.run(pixel).latents["image"].isfinite().all()


@pytest.mark.parametrize("method", ["ddnm", "dps"])
def test_the_mean_of_samples_is_one_picture_of_less_error(pixel, picture, tmp_path, method):
    """Of one measurement; linear measurements that every sample meets, their mean meets, too."""
    asked = {"method": method, "simulate": True, "seed": 5, **QUICK}
    mean = Restore(picture, "sr4", 0.05, count=4, mean=True, **asked).run(pixel)
    seen = Restore(picture, "sr4", 0.05, **asked).seen(pixel.backbone)
    y = seen.measurement.values[0]
    samples = Restore(y, "sr4", 0.05, method=method, seed=5, count=4, **QUICK).run(pixel)
    wanted = samples.pictures["image"].mean(0, keepdim=True)
    torch.testing.assert_close(mean.pictures["image"], wanted, rtol=0, atol=1e-4)
    off = (samples.pictures["image"] - picture).square().mean((1, 2, 3))
    assert (mean.pictures["image"] - picture).square().mean() < 0.99 * off.mean()
    assert (len(mean), mean.record.seeds, mean.record.task["count"]) == (1, (5,), 4)
    names = sorted(path.name for path in mean.save(tmp_path))
    assert names == ["5_before.png", "5_image.png"]
    with pytest.raises(ValueError, match="mean is that of several samples, and count is 1"):
        Restore(picture, "sr4", 0.05, mean=True, **asked)


def test_a_mean_is_made_again_from_its_record(pixel, picture, tmp_path):
    small = write_png(picture[:, :8, :8], tmp_path / "small.png", {})
    task = Restore(str(small), "sr4", 0.0, count=3, mean=True, **QUICK)
    out = task.run(pixel)
    (path,) = [one for one in out.save(tmp_path / "out") if one.name.endswith("image.png")]
    again = repeat(pixel, read_record(path))
    assert torch.equal(again.pictures["image"], out.pictures["image"])


@pytest.mark.parametrize("method", METHODS)
def test_every_method_restores_through_an_autoencoder(tiny, method):
    picture = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(1)) * 1.8 - 0.9
    operator = "sr4" if method == "ilvr" else "inpaint-box:0.2:0.2:0.7:0.7"
    out = Restore(picture, operator, 0.0, method=method, simulate=True, **QUICK).run(tiny)
    assert out.pictures["image"].shape == (1, 3, 64, 64)
    assert out.pictures["image"].isfinite().all()
    if method in ("repaint", "replacement", "reconstruction"):
        whole, known = torch.ones(1, 1, 64, 64), torch.ones(8, 8, dtype=torch.bool)
        whole[..., 13:45, 13:45] = 0
        known[1:6, 1:6] = False  # what the hole touches is not known
        clean = tiny.backbone.encode(measured.filled(picture * whole, whole))
        gap = (out.latents["image"] - clean).abs()
        assert gap[..., known].max() < ROUNDING
        assert gap[..., ~known].amin(0).amax(0).min() > 0.01


@pytest.mark.parametrize("operator", OPERATORS)
def test_every_operator_has_a_method_and_is_shown(pixel, picture, operator):
    task = Restore(picture, operator, 0.05, simulate=True, count=2, **QUICK)
    out = task.run(pixel)
    assert task.chosen() == DEFAULTS[measured.kind_of(operator)]
    assert out.pictures["image"].shape == (2, 3, SIDE, SIDE)
    assert out.before.shape[:2] == (2, 3)
    assert out.before.abs().max() <= 1
    assert out.before.std() > 0.01
    out.settings("before", 1)


def test_noise_is_of_the_sample_and_not_the_noise_of_its_start(pixel, picture):
    arguments = {"simulate": True, "method": "ccdf", **QUICK}
    both = Restore(picture, "denoise", 0.2, count=2, seed=3, **arguments).run(pixel)
    alone = Restore(picture, "denoise", 0.2, seed=4, **arguments).run(pixel)
    assert torch.equal(both.before[1:], alone.before)
    assert (both.latents["image"][1:] - alone.latents["image"]).abs().max() < ROUNDING
    noise = (alone.before - picture)[0]
    free = (alone.before.abs() < 1)[0]  # what is shown is clipped
    assert abs(float(noise[free].std()) - 0.2) < 0.02
    start = Generators([4]).draw("image", picture[None])[0]
    both_noises = torch.stack([noise[free], start[free]])
    assert float(torch.corrcoef(both_noises)[0, 1].abs()) < 0.1  # 3000 values: 5 standard errors


@pytest.mark.parametrize("operator", ["sr4", "sr2:bicubic", "blur:1", "jpeg", "colorize:luma"])
def test_a_file_is_the_measurement(pixel, picture, operator):
    """The size of the run follows from it; what is made measures as it does."""
    made = make_operator(operator, (3, SIDE, SIDE))
    y = made.forward(picture[None])
    seen = Restore(y[0], operator, 0.0).seen(pixel.backbone)
    assert seen.size == (SIDE, SIDE)
    assert torch.allclose(seen.measurement.values, y, atol=1e-6)
    out = Restore(y[0], operator, 0.0, **QUICK).run(pixel)
    assert torch.allclose(out.before, y.expand(-1, 3, -1, -1).clamp(-1, 1), atol=1e-6)
    if operator in ("sr4", "sr2:bicubic", "colorize:luma"):
        found = made.forward(out.latents["image"])
        assert (found - y).abs().max() < ROUNDING


def test_a_mask_picture_says_what_is_known(pixel, picture, mask):
    out = Restore(picture, "mask", 0.0, mask=mask, **QUICK).run(pixel)
    known = mask.expand(3, -1, -1) > 0
    assert (out.latents["image"][0] - picture)[known].abs().max() < ROUNDING
    assert torch.equal(out.before[0][known], picture[known])
    assert (out.before[0][~known] == 0).all()
    soft = Restore(picture, "mask", 0.0, mask=0.9 * mask, **QUICK).run(pixel)
    assert torch.equal(soft.before, out.before)


def test_with_a_size_the_measurement_is_brought_to_it(pixel, picture, mask):
    seen = Restore(picture, "sr2", 0.0, size=SIDE).seen(pixel.backbone)
    assert seen.size == (SIDE, SIDE)
    assert seen.shown().shape == (1, 3, 16, 16)
    wide = Restore(picture, "mask", 0.0, mask=mask, size=(16, SIDE)).seen(pixel.backbone)
    assert wide.known().shape == (1, 1, 16, SIDE)
    assert torch.equal(wide.known()[0], mask[:, 8:24])


def test_holes_are_filled_from_around(picture, mask):
    level = torch.full((1, 3, 10, 7), 0.3)
    known = torch.zeros(1, 1, 10, 7)
    known[..., 2, 5] = 1
    assert torch.allclose(measured.filled(level * known, known), level)
    found = measured.filled(picture[None] * mask, mask[None])
    assert torch.equal(found * mask, picture[None] * mask)
    assert found.abs().max() <= 0.9 + 1e-6


def test_without_words_there_is_no_guidance(pixel, picture):
    def scale(**words):
        task = Restore(picture, "sr4", 0.0, method="ddnm", simulate=True, **QUICK, **words)
        return task.run(pixel).record.guidance_scale

    assert scale() == 1.0
    assert scale(prompt="a ball") == pixel.backbone.defaults.guidance_scale
    assert scale(guidance_scale=2.0) == 2.0


def test_it_is_made_again_from_its_record(pixel, picture, mask, tmp_path):
    path = str(write_png(picture, tmp_path / "given.png", {}))
    drawn = str(write_png(mask.expand(3, -1, -1) * 2 - 1, tmp_path / "mask.png", {}))
    out = Restore(path, "mask", 0.0023, mask=drawn, prompt="a ball", **QUICK).run(pixel)
    files = {one.name: one for one in out.save(tmp_path / "out")}
    assert set(files) == {"0_image.png", "0_before.png"}
    record = read_record(files["0_image.png"])
    recorded = json.loads(json.dumps(record.task))
    assert recorded == record.task
    assert recorded["method"] == DEFAULTS["mask"]
    again = TypeAdapter(Restore).validate_python(pictures_back(Restore, recorded))
    assert torch.equal(again.run(pixel).latents["image"], out.latents["image"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"operator": "sharpen"},
            r"no operator 'sharpen'; choose of mask .*, denoise, inpaint-box",
        ),
        ({"operator": "mask:3"}, "no operator 'mask:3'"),
        ({"operator": "sr4:nearest"}, "method is one of average, bicubic"),
        ({"operator": "blur:much"}, "std is a number, not 'much'"),
        ({"method": "magic"}, "no method 'magic' restores; choose of ddnm, ddrm, dps"),
        ({"method": "repaint"}, "'repaint' is for masks; 'sr4' is restored by ddnm, .*ilvr, ccdf"),
        ({"operator": "jpeg", "method": "ddrm"}, "'jpeg' is restored by dps"),
        ({"operator": "blur", "method": "ilvr"}, "'ilvr' is for pictures made smaller"),
        ({"noise_std": None}, r"noise_std is None: say how noisy .* \(--noise-std\)"),
        ({"noise_std": -0.1}, "noise_std is -0.1"),
        ({"noise_std": float("nan")}, "noise_std is nan"),
        ({"operator": "mask"}, r"give mask \(--mask\), white is known"),
        ({"mask": torch.eye(SIDE)}, "'sr4' takes no mask picture"),
        ({"operator": "mask", "mask": torch.zeros(8, 8)}, "the mask is empty: all black"),
        ({"operator": "mask", "mask": torch.eye(8)[:4]}, "other proportions"),
        ({"operator": "phase"}, r"what 'phase' measures is no picture: .*\(--simulate\)"),
        ({"operator": "hadamard:0.5"}, "what 'hadamard:0.5' measures is no picture"),
        ({"operator": "colorize"}, "starts from a grey picture, but the channels of this one lie"),
        ({"picture": torch.zeros(3, 15, 16)}, "of 60 x 64 pixels.* to multiples of 2, or say to"),
        ({"operator": "sr8"}, "of 128 x 128 pixels, many times .*, 32 x 32: use a larger base"),
        ({"size": 36}, "nearest are height 32 or 40"),
        ({"num_inference_steps": 0}, "0"),
        (
            {"method": "ccdf", "num_inference_steps": 1},
            r"1 step has pure noise alone to start from: give 2 steps or more \(--steps\)",
        ),
        ({"seed": -1}, "seed -1 is out of range"),
    ],
)
def test_what_does_not_fit_is_refused_before_the_network_runs(
    pixel, picture, arguments, message, monkeypatch
):
    def forbidden(*args, **kwargs):
        raise AssertionError("the network ran")

    monkeypatch.setattr(type(pixel.backbone.network), "forward", forbidden)
    usual = {"picture": picture[:, :16, :16], "operator": "sr4", "noise_std": 0.0, **QUICK}
    with pytest.raises(ValueError, match=message):
        Restore(**usual | arguments).run(pixel)


def test_points_are_too_fine_for_latents(tiny):
    task = Restore(torch.zeros(3, 64, 64), "inpaint-random", 0.0, method="replacement", **QUICK)
    with pytest.raises(ValueError, match="a latent of this base is 8 pixels wide, and none is"):
        task.run(tiny)

"""Restorations: what is measured on them, several pictures in one run, and a tiny table."""

import math
from dataclasses import replace

import pytest
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from truth import Brightness

import unicond
from unicond.backbones import pixels
from unicond.backbones.pixels import UnshuffledUNet
from unicond.evaluation.bars import with_findings
from unicond.evaluation.condition_table import Run
from unicond.evaluation.grid import save_grid
from unicond.evaluation.metrics_pictures import boundary, ssim
from unicond.evaluation.study import Bench, tabulate
from unicond.evaluation.subject import Sampling
from unicond.evaluation.tasks import restoration
from unicond.evaluation.tasks.group import Cost
from unicond.evaluation.tasks.page import write_page
from unicond.evaluation.tasks.restoration import (
    INPUT,
    RESTORATION,
    WHOLE_LATENTS,
    methods_on,
)
from unicond.evaluation.tasks.restored import Way, eight_bits, prepared, residual
from unicond.tasks.restore import Restore

SIDE, STEPS = 32, 2
ROUNDING = 1e-4  # across batch sizes, in float32


def noise(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 1.6 - 0.8


def test_ssim_of_flat_pictures_is_that_of_their_light():
    a, b = torch.full((1, 3, 16, 16), 0.5), torch.full((1, 3, 16, 16), -0.25)
    c = 0.02**2
    wanted = (2 * 0.5 * -0.25 + c) / (0.5**2 + 0.25**2 + c)
    assert ssim(a, b).item() == pytest.approx(wanted, abs=1e-9)


def test_ssim_of_equal_inverted_and_fainter_pictures():
    picture = noise(2, 3, 20, 17)
    assert torch.allclose(ssim(picture, picture), torch.ones(2).double())
    wave = torch.tensor([1.0, -1.0]).repeat(1, 3, 24, 12)  # of mean 0 under almost any window
    upper, lower = 2 * 0.5 + 0.06**2, 1 + 0.25 + 0.06**2
    assert ssim(0.5 * wave, wave).item() == pytest.approx(upper / lower, abs=2e-3)
    upper, lower = -2 + 0.06**2, 2 + 0.06**2
    assert ssim(-wave, wave).item() == pytest.approx(upper / lower, abs=2e-3)


def test_ssim_by_sums_over_one_window():
    """One place is left of 11 x 11 pixels; weights and moments are written out."""
    a, b = noise(1, 1, 11, 11, seed=1), noise(1, 1, 11, 11, seed=2)
    weight = [
        [math.exp(-((x - 5) ** 2 + (y - 5) ** 2) / 4.5) for x in range(11)] for y in range(11)
    ]
    w = torch.tensor(weight, dtype=torch.float64)
    w = w / w.sum()
    x, y = a[0, 0].double(), b[0, 0].double()
    mx, my = (w * x).sum(), (w * y).sum()
    vx, vy = (w * (x - mx) ** 2).sum(), (w * (y - my) ** 2).sum()
    vxy = (w * (x - mx) * (y - my)).sum()
    c, k = 0.02**2, 0.06**2
    wanted = (2 * mx * my + c) * (2 * vxy + k) / ((mx**2 + my**2 + c) * (vx + vy + k))
    assert ssim(a, b).item() == pytest.approx(wanted.item(), abs=1e-12)
    with pytest.raises(ValueError, match="at least 11 x 11"):
        ssim(a[..., 1:], b[..., 1:])


def test_eight_bits_are_within_half_a_level():
    picture = noise(1, 3, 8, 8)
    gap = (eight_bits(picture) - picture).abs()
    assert 0 < gap.max() <= 1 / 255 + 1e-6
    assert torch.equal(
        eight_bits(torch.tensor([-1.5, -1.0, 1.0, 7.0])), torch.tensor([-1, -1, 1, 1.0])
    )


@pytest.fixture(scope="module")
def base(tiny, tiny_base, tmp_path_factory):
    """A base of 32 x 32 pixels with random weights."""
    shape = dict(UNet2DConditionModel.load_config(tiny_base / "unet"))
    shape |= {"sample_size": 8, "in_channels": 48, "out_channels": 48}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = UnshuffledUNet.from_config(shape)
    folder = tmp_path_factory.mktemp("pixels") / "base"
    words = tiny.backbone.text_encoders[0], tiny.backbone.tokenizers[0]
    told = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True}
    told |= {"timestep_spacing": "trailing", "clip_sample": False}
    scheduler = DDIMScheduler.from_pretrained(tiny_base / "scheduler", **told)
    pixels.save(folder, network, *words, scheduler)
    return folder


@pytest.fixture(scope="module")
def bench(base, tmp_path_factory):
    out = tmp_path_factory.mktemp("tasks")
    run = Run(2, 3, 2, out, "unicond table tasks", {"base": "tiny"}, True)
    model = unicond.load(base, device="cpu")
    return Bench(model, Brightness(), run, Sampling(steps=STEPS, guidance=3.0), folder=out)


def test_residual_by_hand(bench):
    """A constant added moves every average by it, and a pattern below a block's size by nothing."""
    scenes = prepared(bench, range(2))
    seen = Way("sr4", "clean").task(scenes).seen(bench.model.backbone)
    clean = scenes.cases.images
    assert residual(seen, clean).max() < 1e-6
    assert torch.allclose(residual(seen, clean + 0.3), torch.full((2,), 0.3).double(), atol=1e-6)
    fine = torch.tensor([0.2, -0.2]).repeat(1, 3, SIDE, SIDE // 2)
    assert residual(seen, clean + fine).max() < 1e-6
    loud = Way("sr4", "noisy").task(scenes).seen(bench.model.backbone)
    assert residual(loud, clean).mean() == pytest.approx(0.05, rel=0.2)  # of 384 values


@pytest.mark.parametrize("method", ["ddrm", "dps", "pigdm"])
def test_together_is_as_alone(bench, method):
    """Each picture gets the noise, the words, and the result, of a run of its own."""
    scenes = prepared(bench, range(2))
    way = Way("sr4", "noisy")
    both = way.task(scenes, method).run(bench.model).latents["image"]
    cases, usual = scenes.cases, {"num_inference_steps": STEPS, "guidance_scale": 3.0}
    for row, (picture, seed) in enumerate(zip(cases.images, cases.seeds, strict=True)):
        own = {"prompt": cases.captions[row], "method": method, "seed": seed, **usual}
        alone = Restore(picture, "sr4", 0.05, simulate=True, **own)
        found = alone.run(bench.model).latents["image"]
        assert (both[row] - found[0]).abs().max() < ROUNDING


@pytest.mark.parametrize("operator", ["inpaint-free", "hadamard"])
def test_what_is_drawn_is_each_scenes_own(bench, operator):
    """By its number, whichever scenes it is measured with: A^+ A of one picture tells."""
    way, picture = Way(operator, "clean"), noise(1, 3, SIDE, SIDE)

    def kept(rows):
        parts = way.parts(prepared(bench, rows))
        operators = [way.task(part).seen(bench.model.backbone).operator for part in parts]
        return [each.pinv(each.forward(picture)) for each in operators]

    first, second, third = kept(range(3))
    assert not torch.equal(first, second)
    assert not torch.equal(second, third)
    assert torch.equal(second, kept(range(1, 2))[0])
    boxes = Way("inpaint-box", "clean")
    assert len(boxes.parts(prepared(bench, range(3)))) == 1


def test_scenes_of_one_by_one_are_joined_in_their_order(bench):
    scenes, way = prepared(bench, range(2)), Way("inpaint-free", "noisy")
    found = restoration.results(way, "ddnm", scenes).values
    alone = [restoration.results(way, "ddnm", part).values for part in scenes.each]
    for metric in restoration.METRICS:
        assert found[metric] == [value for part in alone for value in part[metric]]
    assert found["boundary_error"][0] != found["boundary_error"][1]
    assert found["calls"] == [STEPS, STEPS]


@pytest.fixture(scope="module")
def made(bench):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(restoration, "OPERATORS", ("inpaint-box", "sr4"))
        table, folder = tabulate(RESTORATION.study, bench)
        yield table, folder, RESTORATION.show(bench)


def test_rows(made):
    table, folder, _ = made
    names = {row.name for row in table.rows}
    assert {"restoration/sr4-clean/ddnm", "restoration/inpaint-box-noisy/repaint"} < names
    assert {"restoration/inpaint-box-clean/ccdf", "restoration/sr4-noisy/ilvr"} < names
    assert "restoration/sr4-clean/repaint" not in names
    assert len(names) == len(table.rows) == 2 * (1 + 11 + 1 + 9)
    for row in table.rows:
        masked = {"boundary_error"} if "inpaint" in row.name else set[str]()
        found = {key for key in row.metrics if "_over_" not in key}
        plain = {*restoration.METRICS} - {"boundary_error"}
        assert found == {*plain, *masked, "seconds", "calls", "seed"}
        assert {"psnr", "ssim", "feature_distance", "residual"} <= row.intervals.keys()
        assert (row.metrics["calls"] == 0) == row.name.endswith(INPUT)
    assert (folder / "plot.png").read_bytes()[:4] == b"\x89PNG"


def test_what_is_exact_leaves_no_residual_but_that_of_the_file(made):
    """A random network's results leave [-1, 1], which a file cannot hold."""
    table, _, _ = made
    for case in ("inpaint-box", "sr4"):
        for method in ("ddnm", "ddrm"):
            exact = table.row(f"restoration/{case}-clean/{method}").metrics
            assert exact["residual"] < 1e-3
            assert exact["residual_saved"] > exact["residual"]
            loud = table.row(f"restoration/{case}-noisy/{method}").metrics
            assert loud["residual"] > 1e-3
    hole = table.row(f"restoration/inpaint-box-clean/{INPUT}").metrics
    assert hole["residual"] < 1e-6
    rounding = 2 / 255 / math.sqrt(12)  # of uniform errors; flat parts do not fill their level
    assert hole["residual_saved"] < 2 * rounding
    assert table.row("restoration/sr4-clean/ddnm").metrics["calls"] == STEPS


def test_edges_are_measured_where_a_mask_has_them(bench):
    """A constant added inside the band counts as it is; beyond it nothing does."""
    scenes = prepared(bench, range(2))
    seen = Way("inpaint-box", "clean").task(scenes).seen(bench.model.backbone)
    band = boundary(seen.known())[0, 0]
    clean, spent = scenes.cases.images, [Cost()] * 2
    near, far = clean + 0.25 * band, clean + 0.25 * ~band
    for picture, wanted in ((near, 0.25), (far, 0.0)):
        values = scenes.scores("edges", seen, picture, picture, spent).values
        assert values["boundary_error"] == pytest.approx([wanted] * 2, abs=1e-6)
    grey = Way("colorize", "clean").task(scenes).seen(bench.model.backbone)
    assert scenes.scores("grey", grey, clean, clean, spent).values["boundary_error"] == [None] * 2


def test_by_how_much_methods_are_better(made):
    """What is better has the sign above nothing: less error, more PSNR."""
    table, _, _ = made
    for case in ("clean", "noisy"):
        box, small = f"restoration/inpaint-box-{case}", f"restoration/sr4-{case}"
        errors = [table.row(f"{box}/{m}").metrics for m in ("repaint", "replacement")]
        gained = errors[1]["boundary_error"] - errors[0]["boundary_error"]
        assert errors[0]["boundary_error_over_replacement"] == pytest.approx(gained)
        ilvr = table.row(f"{small}/ilvr").metrics["psnr"]
        for method in ("ddnm", "pigdm"):
            row = table.row(f"{small}/{method}")
            over = "psnr_over_ilvr"
            assert row.metrics[over] == pytest.approx(row.metrics["psnr"] - ilvr)
            assert over in row.intervals


def test_its_bars_are_about_rows_that_there_are(made, bench):
    table, _, _ = made
    found = {each.claim: each for each in with_findings(table, RESTORATION.bars).findings}
    exact = found["ddnm leaves a residual below 1e-3 on sr4"]
    assert exact.met
    assert found["ddnm leaves a residual below 1e-3 on blur"].met is None
    assert found["repaint is above replacement on inpaint-box-clean by boundary error"].met in (
        True,
        False,
    )
    gained = found["of sr4-clean the best method gains PSNR over the plain estimate"]
    rows = [row for row in table.rows if row.name.startswith("restoration/sr4-clean/")]
    assert gained.met is any(row.intervals["psnr_over_input"][0] > 0 for row in rows[1:])
    for row in rows[1:]:
        over = row.metrics["psnr"] - rows[0].metrics["psnr"]
        assert row.metrics["psnr_over_input"] == pytest.approx(over)
    nearer = "of sr4-clean the best method is nearer to the picture, as the probe sees it, than"
    assert any(claim.startswith(nearer) and one.met is not None for claim, one in found.items())


def test_words_are_told_where_a_guidance_is_asked_for(bench):
    scenes = prepared(replace(bench, generation=Sampling(steps=STEPS)), range(2))
    told = replace(scenes, bench=replace(bench, generation=Sampling(steps=STEPS, guidance=3.0)))
    way = Way("sr4", "clean")
    without, with_ = (way.task(each, "ddnm").run(bench.model) for each in (scenes, told))
    assert without.record.prompts == ("", "")
    assert with_.record.prompts == scenes.cases.captions
    assert (without.record.guidance_scale, with_.record.guidance_scale) == (1.0, 3.0)
    bicubic = Way("sr4:bicubic", "clean")
    assert bicubic.case == "sr4-bicubic-clean"
    seen = [each.task(scenes).seen(bench.model.backbone) for each in (way, bicubic)]
    assert (seen[0].measurement.values - seen[1].measurement.values).abs().max() > 1e-2


def test_the_page(made, tmp_path):
    table, folder, pictures = made
    assert list(pictures)[:2] == ["inpaint-box-clean", "inpaint-box-noisy"]
    text = write_page(RESTORATION, table, folder, pictures, tmp_path / "restoration").read_text()
    assert '<tr class="bound"><td>input</td>' in text
    assert "<h2>sr4-noisy</h2>" in text


def test_masks_that_leave_no_latent_whole_leave_methods_out(tiny, bench, monkeypatch):
    backbone = tiny.backbone
    assert set(WHOLE_LATENTS) < set(methods_on("inpaint-box", backbone))
    assert not set(WHOLE_LATENTS) & set(methods_on("inpaint-random", backbone))
    assert set(WHOLE_LATENTS) < set(methods_on("inpaint-random", bench.model.backbone))
    monkeypatch.setattr(restoration, "OPERATORS", ("inpaint-random", "sr4"))
    assert restoration.missing(bench) == {}
    left = restoration.missing(replace(bench, model=tiny))
    names = "repaint, replacement, reconstruction"
    assert [*left] == [f"inpaint-random-{noise} by {names}" for noise in ("clean", "noisy")]


def test_methods_that_would_blow_up_the_noise_are_left_out(bench, monkeypatch):
    monkeypatch.setattr(restoration, "OPERATORS", ("blur", "sr4"))
    backbone = bench.model.backbone
    assert {"mcg", "ccdf"} < set(methods_on("blur", backbone))
    assert set(methods_on("blur", backbone)) - set(methods_on("blur", backbone, "noisy")) == {
        "mcg",
        "ccdf",
    }
    assert methods_on("sr4", backbone, "noisy") == methods_on("sr4", backbone)
    why = "to undo the operator makes the noise louder than the picture"
    assert restoration.missing(bench) == {"blur-noisy by mcg, ccdf": why}


def test_a_clean_picture_is_its_own_best(bench):
    scenes = prepared(bench, range(2))
    seen = Way("blur", "clean").task(scenes).seen(bench.model.backbone)
    clean = scenes.cases.images
    near = (clean + 0.01).clamp(-1, 1)
    values = scenes.scores("x", seen, near, near, [Cost()] * 2).values
    far = scenes.scores("y", seen, -clean, -clean, [Cost()] * 2).values
    for row in range(2):
        assert values["feature_distance"][row] < far["feature_distance"][row]
        assert values["ssim"][row] > far["ssim"][row]
        assert values["psnr"][row] >= 40 - 1e-3 > far["psnr"][row]


def test_a_grid_needs_its_level(tmp_path):
    with pytest.raises(ValueError, match=r"each with 'input'; \['b'\] lack it"):
        save_grid({"a": {"input": 1.0}, "b": {"x": 2.0}}, "input", tmp_path / "g.png", "t")


def test_the_group_brings_its_base_and_needs_no_adapter():
    assert (RESTORATION.base, RESTORATION.needs, RESTORATION.takes) == ("mini-pixel", (), ())

"""Reconstruction by inversion: what comes back exactly does, and the rest is as near as it is."""

from dataclasses import replace

import pytest
import torch
from truth import Brightness

import unicond
from unicond.evaluation.condition_table import Run
from unicond.evaluation.metrics_pictures import psnr
from unicond.evaluation.study import Bench, tabulate
from unicond.evaluation.subject import Sampling
from unicond.evaluation.tasks import inversion
from unicond.evaluation.tasks.inversion import GUIDANCES, INVERSION, METHODS, Way, prepared, ways

STEPS = 2
EXACT = ("direct", "edit_friendly", "edict")


@pytest.fixture(scope="module")
def bench(tiny_base, tmp_path_factory):
    out = tmp_path_factory.mktemp("tasks")
    run = Run(2, 3, 2, out, "unicond table tasks", {"base": "tiny"}, True)
    return Bench(unicond.load(tiny_base, device="cpu"), Brightness(), run)


@pytest.fixture(scope="module")
def made(bench):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inversion, "STEPS", (STEPS,))
        table, folder = tabulate(INVERSION.study, bench)
        assert (folder / "plot.png").read_bytes()[:4] == b"\x89PNG"
        yield table, INVERSION.show(bench)


def test_every_way_is_planned(bench):
    names = [way.name for way in ways(bench)]
    assert len(set(names)) == len(names) == 3 * 2 * 8
    assert {"50-1-ddim", "10-7.5-null_text", "20-1-edict", "50-7.5-sdedit"} < set(names)


def test_steps_and_a_guidance_that_are_asked_for_take_their_place(bench):
    few = ways(replace(bench, generation=Sampling(steps=4)))
    assert {(way.steps, way.guidance) for way in few} == {(4, g) for g in GUIDANCES}
    one = ways(replace(bench, generation=Sampling(steps=4, guidance=2.5)))
    assert {way.case for way in one} == {"4-2.5"}


def test_rows(made):
    table, pictures = made
    best = table.row("inversion/all/autoencoder").metrics["psnr"]
    for guidance in ("1", "7.5"):
        for method in METHODS:
            row = table.row(f"inversion/{STEPS}-{guidance}/{method}")
            numbers = row.metrics
            assert numbers["psnr_autoencoder"] == best
            assert numbers["below_autoencoder"] == pytest.approx(best - numbers["psnr"])
            assert (numbers["steps"], numbers["guidance"]) == (STEPS, float(guidance))
            assert {"psnr", "psnr_same_words", "below_autoencoder"} <= row.intervals.keys()
            assert numbers["seconds"] > 0
            over = {key for key in row.intervals if key.startswith("psnr_over_")}
            assert over == {f"psnr_over_{b}" for a, b in inversion.ORDERS if a == method}
            for key in over:
                worse = f"inversion/{STEPS}-{guidance}/{key.removeprefix('psnr_over_')}"
                gained = numbers["psnr"] - table.row(worse).metrics["psnr"]
                assert numbers[key] == pytest.approx(gained)
            if method in EXACT:
                assert abs(numbers["below_autoencoder"]) < 1e-2
    assert list(pictures) == [f"{STEPS}-{g} (steps-guidance)" for g in ("1", "7.5")]


def test_calls_of_a_run(made):
    table, _ = made
    numbers = {m: table.row(f"inversion/{STEPS}-7.5/{m}").metrics for m in METHODS}
    assert numbers["ddim"]["calls"] == 2 * STEPS
    assert numbers["sdedit"]["calls"] == round(0.75 * STEPS)
    assert numbers["sdedit"]["psnr"] == numbers["sdedit"]["psnr_same_words"]
    assert numbers["edit_friendly"]["calls"] == STEPS
    assert numbers["edict"]["calls"] == 4 * STEPS
    assert numbers["fixed_point"]["calls"] > 2 * STEPS
    assert numbers["null_text"]["calls"] > 2 * STEPS
    unguided = table.row(f"inversion/{STEPS}-1/null_text").metrics
    assert unguided["calls"] < numbers["null_text"]["calls"]


def test_the_same_words_bring_back_the_same(bench):
    """Source and target are one picture where nothing treats them differently."""
    cases = prepared(bench, range(2))
    source, target = Way("ddim", STEPS, 7.5).reconstructions(cases)
    assert torch.allclose(source, target, atol=1e-4)
    source, target = Way("direct", STEPS, 7.5).reconstructions(cases)
    assert (source - target).abs().max() > 1e-2  # only the source is put back
    decoded = bench.model.backbone.decode(bench.model.backbone.encode(cases.pictures))
    assert psnr(source, decoded).min() > 60


@pytest.mark.parametrize("guidance", ["1", "7.5"])
def test_the_source_is_the_reconstruction_of_every_method(bench, made, guidance):
    """Direct inversion puts it back where DDIM's misses; their targets are one."""
    table, _ = made
    cases = prepared(bench, range(2))
    for method in ("ddim", "direct"):
        numbers = table.row(f"inversion/{STEPS}-{guidance}/{method}").metrics
        way = Way(method, STEPS, float(guidance))
        source, target = (psnr(one, cases.pictures) for one in way.reconstructions(cases))
        assert numbers["psnr"] == pytest.approx(float(source.mean()), abs=1e-3)
        assert numbers["psnr_same_words"] == pytest.approx(float(target.mean()), abs=1e-3)
    ddim, direct = (
        table.row(f"inversion/{STEPS}-{guidance}/{m}").metrics for m in ("ddim", "direct")
    )
    assert direct["below_autoencoder"] == pytest.approx(0, abs=1e-2)
    assert direct["psnr"] > ddim["psnr"] + 0.1
    assert direct["psnr_same_words"] == pytest.approx(ddim["psnr_same_words"], abs=0.05)

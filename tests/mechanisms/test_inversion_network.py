"""Inversion through a network: words that are fitted, rows that are kept, and float32."""

from dataclasses import replace

import pytest
import torch

import unicond
from unicond.adapters.attach import attached
from unicond.denoisers.network import NetworkDenoiser, Pairing, keeper
from unicond.mechanisms.blending.classifier_free import ClassifierFree
from unicond.mechanisms.blending.multidiffusion import Panorama
from unicond.mechanisms.inversion.fixed_point import FixedPoint, residuals
from unicond.mechanisms.inversion.methods import plan_edit
from unicond.mechanisms.inversion.null_text import NullText, embeddings
from unicond.pictures.metadata import read_settings
from unicond.sampling.controls import Control, acting
from unicond.sampling.loop import run
from unicond.sampling.noise import Generators
from unicond.sampling.prompts import reword
from unicond.sampling.rows import Variant
from unicond.sampling.state import Mechanism, State

SEEDS = (3, 4)
PLAIN = (Variant(),)


def noise_of(seed, count=2):
    return torch.randn((count, 4, 8, 8), generator=torch.Generator().manual_seed(seed))


def words(tiny, *branches):
    """A loud table: the tiny network hardly hears its own text encoder's differences."""
    texts = {"source": "a red ball", "target": "a blue box", "depth": "", "negative": "fog"}
    found = {name: tiny.backbone.encode_prompts([text], (64, 64)) for name, text in texts.items()}
    loud = {name: replace(one, tokens=20 * one.tokens) for name, one in found.items()}
    return {
        "positive": {branch: loud[branch] for branch in branches},
        "negative": dict.fromkeys(branches, loud["negative"]),
    }


def denoiser_of(tiny, *branches, **options):
    return NetworkDenoiser(tiny.backbone.network, words(tiny, *branches), **options)


@torch.no_grad()
def go(tiny, edit, denoiser, beside=(), held=None):
    schedule = tiny.backbone.schedule
    noise = Generators(SEEDS, (*edit.branches, *edit.hold))
    states = [edit.state(noise_of(1), schedule, noise, held)]
    mechanisms = [*edit.mechanisms, *edit.inner, *beside]
    for progress in run(states[0], denoiser, edit.plan, edit.solver, mechanisms):
        states.append(progress.state)
    return states


def off(states):
    return float((states[-1].latents["source"] - noise_of(1)).square().mean().sqrt())


def times_of(tiny, count=4):
    return tiny.backbone.schedule.times(count)


def test_null_text_reduces_the_error_that_guidance_makes(tiny):
    guidance = [ClassifierFree(6.0)]
    denoiser = denoiser_of(tiny, "source", "target")
    guided = go(tiny, plan_edit("ddim", times_of(tiny)), denoiser, guidance)
    edit = plan_edit("null_text", times_of(tiny))
    null = NullText(learning_rate=1.0, stop=0.0, slack=0.0)
    fitted = go(tiny, replace(edit, inner=(null,)), denoiser, guidance)
    assert off(fitted) < 0.7 * off(guided)
    assert [tuple(one.shape) for one in embeddings(fitted[-1])] == [(2, 77, 32)] * 4
    assert not any(p.grad is not None for p in tiny.backbone.network.parameters())
    changed = fitted[-1].latents["target"] - guided[-1].latents["target"]
    assert changed.abs().max() > 1e-3  # the target is guided by the fitted words, too


def test_fits_are_made_out_of_attentions_sight(tiny):
    """A control that wants the target's rows is let into the calls of the moves alone."""
    seen = []

    class Sight(Control):
        def wants(self, layer):
            return ("maps",) if layer.kind == "cross" and layer.part == "mid" else ()

        def maps(self, layer, maps, rows):
            seen.append(rows.branches)
            return ()

    class Looking(Mechanism):
        def wrap(self, denoiser, move):
            def looked(state, variants=PLAIN):
                with acting(Sight()):
                    return denoiser(state, variants)

            return looked if move.s["target"] < move.t["target"] else denoiser

    edit = plan_edit("null_text", times_of(tiny, 2))
    edit = replace(edit, mechanisms=(*edit.mechanisms, Looking()), inner=(NullText(iterations=2),))
    go(tiny, edit, denoiser_of(tiny, "source", "target"), [ClassifierFree(2.0)])
    assert seen == [("source", "target")] * 2


def test_negative_prompt_is_the_sources_prompt_as_the_negative_one(tiny):
    times, guidance = times_of(tiny), [ClassifierFree(6.0)]
    denoiser = denoiser_of(tiny, "source", "target")
    found = go(tiny, plan_edit("negative_prompt", times), denoiser, guidance)
    mine = dict.fromkeys(("source", "target"), denoiser.prompts["positive"]["source"])
    table = {**denoiser.prompts, "negative": mine}
    want = go(tiny, plan_edit("ddim", times), replace(denoiser, prompts=table), guidance)
    for branch in ("source", "target"):
        assert torch.equal(found[-1].latents[branch], want[-1].latents[branch])
    plain = go(tiny, plan_edit("ddim", times), denoiser)
    torch.testing.assert_close(
        found[-1].latents["source"], plain[-1].latents["source"], rtol=0, atol=1e-4
    )


@pytest.mark.parametrize("method", ["fixed_point", "edict", "edit_friendly", "direct"])
def test_in_float32_the_source_comes_back(tiny, method):
    """The exact methods to float32's digits, where DDIM inversion is far off."""
    denoiser = denoiser_of(tiny, "source", "target")
    # no random network converges at all noise levels
    edits = [plan_edit(one, times_of(tiny, 8), strength=0.4) for one in ("ddim", method)]
    if method == "fixed_point":
        edits[1] = replace(edits[1], mechanisms=(FixedPoint(iterations=30),))
    plain, states = (go(tiny, edit, denoiser) for edit in edits)
    if method == "fixed_point":
        assert residuals(states[-1]).max() < 1e-4
    assert off(states) < 1e-3 < 0.1 * off(plain), (off(states), off(plain))
    assert states[-1].latents["source"].dtype == torch.float32


@pytest.mark.parametrize("wide", [False, True])
def test_a_run_says_where_its_fixed_points_were_not_found(tiny, tmp_path, wide):
    """A random network's iteration does not converge up to pure noise, nor through windows."""
    picture = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(4)) * 2 - 1
    shown = {"source": unicond.Reference(prompt="a ball", picture=picture)}

    def out(method, strength=1.0, *, tolerance=1e-5):
        edit = plan_edit(method, times_of(tiny, 4), target="image", strength=strength)
        own = edit.mechanisms
        if method == "fixed_point":
            own = [FixedPoint(target="image", iterations=8, tolerance=tolerance)]
        panorama = [Panorama(window=(8, 4))] if wide else []
        return tiny(
            "a ball",
            seed=[5, 6],
            branches=["image"],
            image=picture,
            references=shown,
            plan=edit.plan,
            solver=edit.solver,
            guidance_scale=1.0,
            mechanisms=[*own, *panorama],
        )

    found = out("fixed_point")
    report = found.reports["FixedPoint"]
    assert report.value.shape == (2,)
    assert report.missed() == [0, 1]
    (sentence,) = found.shortfalls()
    assert "FixedPoint: residual" in sentence
    assert "is above the tolerance 1.0e-05 (seed 5, 6)" in sentence
    path = next(one for one in found.save(tmp_path) if one.name == "6_image.png")
    said = read_settings(path)["reports"]["FixedPoint"]
    assert said == {"residual": pytest.approx(float(report.value[1])), "tolerance": 1e-5}
    assert out("fixed_point", tolerance=float(report.value.max())).shortfalls() == []
    free = out("fixed_point", tolerance=0.0)  # iterates to the end, and promises nothing
    assert (list(free.reports), free.shortfalls()) == (["FixedPoint"], [])
    plain = out("ddim")
    assert (plain.reports, plain.shortfalls()) == ({}, [])


@pytest.mark.parametrize(
    ("method", "heard"), [("ddim", ("source", "target")), ("null_text", ("target",))]
)
def test_a_kept_condition_gives_the_numbers_of_one_that_is_recomputed(tiny, method, heard):
    """Up with the source's rows, down with both; the condition is kept where two share it, too."""
    branches = ("source", "target", "depth")
    pairings = [Pairing("depth", x, "depth", deaf=frozenset({"depth"})) for x in heard]
    edit = plan_edit(method, times_of(tiny, 3), hold={"depth": 0.0})
    if method == "null_text":
        edit = replace(edit, inner=(NullText(iterations=2),))
    held, ends = {"depth": noise_of(2)}, []
    with attached(tiny.backbone.network, {"depth": tiny.adapters["depth"].adapter}):
        for cache in (False, None):
            kept = keeper(cache, None, ["depth"], pairings)
            assert kept.branches == ({"depth"} if cache is None else frozenset())
            denoiser = denoiser_of(tiny, *branches, pairings=pairings, keeper=kept)
            states = go(tiny, edit, denoiser, [ClassifierFree(2.0)], held)
            assert states[-1].latents["depth"] is held["depth"]
            ends.append(states[-1].latents)
        plain = plan_edit("ddim", times_of(tiny, 3))
        alone = go(tiny, plain, denoiser_of(tiny, *branches), [ClassifierFree(2.0)])
    for branch in ("source", "target"):
        torch.testing.assert_close(ends[0][branch], ends[1][branch], rtol=0, atol=1e-4)
    for branch in heard:  # the condition is heard
        assert (ends[0][branch] - alone[-1].latents[branch]).abs().max() > 1e-3


def test_rewordings_go_on_top_of_each_other_and_leave_the_table(tiny):
    denoiser = denoiser_of(tiny, "source", "target")
    state = State({"source": noise_of(1)}, {"source": 0.5}, tiny.backbone.schedule, None)
    plain = denoiser(state)[0]["source"].x0
    target = denoiser.prompts["positive"]["target"]
    told = reword(state, lambda table: {**table, "mine": {"source": target}})
    again = reword(told, lambda table: {**table, "positive": table["mine"]})
    table = {"positive": {"source": target}}
    want = replace(denoiser, prompts=table)(state)[0]["source"].x0
    assert torch.equal(denoiser(again)[0]["source"].x0, want)
    assert not torch.equal(want, plain)
    assert torch.equal(denoiser(told)[0]["source"].x0, plain)
    assert torch.equal(denoiser(state)[0]["source"].x0, plain)

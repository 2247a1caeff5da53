"""What aggregation is compared with, and models that are told of boxes in COCO-MIG."""

import pytest
import torch
from drawn_mig import LEFT, RIGHT, asked

import unicond
from unicond.aggregation.manner import PAPER
from unicond.evaluation.amdm.blends import averaged, blended, both, score_sum, with_averaged
from unicond.evaluation.amdm.models import make, prepare
from unicond.evaluation.amdm.wanted import of_entry
from unicond.evaluation.mig.bench import Entry
from unicond.evaluation.mig.layouters import (
    METHODS,
    NEGATIVE,
    OFFICIAL_NEGATIVE,
    check_method,
    layouter,
    models_of,
)
from unicond.evaluation.subject import Sampling
from unicond.sampling.window import Window

SAMPLING = Sampling(steps=4, solver="ddim", guidance=3.0)
ENTRY = Entry.model_validate(asked((LEFT, "a red ball"), (RIGHT, "a blue box")))
WANTED = of_entry(ENTRY, plain=True)
PAIR = ("interact", "migc")


@pytest.fixture(scope="module")
def model(tiny_base, grounders):
    return unicond.load(tiny_base, grounders, device="cpu")


def latents(out):
    return out.latents["image"]


def test_an_average_is_weight_by_weight(model):
    one, other = (model.grounders[name].adapter for name in ("interact", "gligen"))
    mean, mine, theirs = (each.state_dict() for each in (averaged(one, other, 0.25), one, other))
    shared = [name for name in mine if name in theirs and mine[name].shape == theirs[name].shape]
    assert any("fuser" in name for name in shared)
    assert set(mine) - set(shared)
    for name, value in mean.items():
        if name in shared:
            torch.testing.assert_close(value, 0.25 * mine[name] + 0.75 * theirs[name])
        else:
            assert torch.equal(value, mine[name])
    assert all(torch.equal(v, mine[n]) for n, v in averaged(one, other, 1.0).state_dict().items())
    with pytest.raises(ValueError, match="interact and migc have no weight in common"):
        averaged(one, model.grounders["migc"].adapter)
    changed = latents(make(with_averaged(model, "gligen"), ["interact"], WANTED, [1], SAMPLING))
    assert (changed - latents(make(model, ["interact"], WANTED, [1], SAMPLING))).abs().max() > 1e-3


def test_the_score_sum_of_one_model_with_itself_is_that_model(model):
    alone = latents(make(model, ["interact"], WANTED, [1], SAMPLING))
    always = Window.steps(0, 4)
    twice = blended(score_sum, model, ("interact", "interact"), WANTED, [1], SAMPLING, always)
    torch.testing.assert_close(latents(twice), alone, rtol=1e-4, atol=1e-4)
    other = blended(score_sum, model, PAIR, WANTED, [1], SAMPLING, always)
    assert (latents(other) - alone).abs().max() > 1e-3
    off = blended(score_sum, model, PAIR, WANTED, [1], SAMPLING, Window.steps(9, 9))
    assert torch.equal(latents(off), alone)


@pytest.mark.parametrize("name", ["migc", "gligen"])
def test_beside_another_an_adapter_acts_in_every_move(model, name):
    """Alone they act in the first moves, and the window can lie behind these."""
    alone, beside = (
        prepare(model, name, WANTED, [1], SAMPLING, beside=told) for told in (False, True)
    )
    (usual,), (whole,) = alone.record.grounding, beside.record.grounding
    assert (usual.migc_steps, usual.beta) == ((None, 1.0) if name == "migc" else (None, 0.3))
    assert (whole.migc_steps, whole.beta) == ((4, 1.0) if name == "migc" else (None, 1.0))
    assert (latents(alone.run()) - latents(beside.run())).abs().max() > 1e-4


def test_one_step_of_the_score_sum_is_the_mean_of_both(model):
    """DDIM's step is linear in the prediction, so that means of predictions are means of states."""
    once = Sampling(steps=1, solver="ddim", guidance=3.0)
    one, other = (latents(make(model, [name], WANTED, [1], once)) for name in PAIR)
    mean = blended(score_sum, model, PAIR, WANTED, [1], once, Window.steps(0, 1))
    torch.testing.assert_close(latents(mean), (one + other) / 2, rtol=1e-4, atol=1e-4)


def test_both_adapters_act_in_one_network(model):
    alone = [latents(make(model, [name], WANTED, [1], SAMPLING)) for name in PAIR]
    found = latents(both(model, PAIR, WANTED, [1], SAMPLING))
    again = latents(both(model, PAIR[::-1], WANTED, [1], SAMPLING))
    assert all((found - each).abs().max() > 1e-3 for each in alone)
    torch.testing.assert_close(found, again, rtol=1e-3, atol=1e-3)  # they act on other layers


@pytest.mark.parametrize("method", METHODS)
def test_layouters(model, method):
    way = layouter(method, model, Sampling(steps=4))
    out = way(ENTRY, [7, 8])
    assert way.name == method
    assert method in way.label
    assert out.pictures["image"].shape[0] == 2
    record = out.record
    official = method == "migc-official"
    sampled = (record.solver, record.num_inference_steps, record.negative_prompt)
    assert sampled == (("euler", 4, OFFICIAL_NEGATIVE) if official else ("ddim", 4, NEGATIVE))
    if method == "text":
        assert record.grounding == ()
        return
    (grounding,) = record.grounding
    assert [one.phrase for one in grounding.boxes] == ["a red ball", "a blue box"]
    assert grounding.beta == (0.3 if method == "gligen" else 1.0)
    assert tuple(record.adapters) == (models_of(method)[0],)
    assert (grounding.migc_steps, grounding.repeat) == ((2, 2) if official else (None, 1))
    if official:
        return
    told = of_entry(ENTRY, plain=False)
    settings = Sampling(steps=4, solver="ddim")
    first = prepare(model, method.split("+")[0], told, [7, 8], settings, negative=NEGATIVE).run()
    assert torch.equal(latents(first), latents(out)) == ("+" not in method)
    if "+" in method:
        assert "released" in way.label
        same = make(model, PAIR, told, [7, 8], settings, PAPER, NEGATIVE)
        assert torch.equal(latents(same), latents(out))


def test_methods_need_their_adapters():
    check_method("text", ())
    with pytest.raises(ValueError, match="'regions' is not one of text, gligen, interact, migc"):
        check_method("regions", ())
    with pytest.raises(ValueError, match="needs the adapter migc: give --adapter migc=WHERE"):
        check_method("interact+migc", ["interact"])
    with pytest.raises(ValueError, match="needs the adapters interact, migc"):
        check_method("interact+migc", ["gligen"])

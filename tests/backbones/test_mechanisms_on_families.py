"""Mechanisms on bases that predict v, that have two text encoders, and that have no autoencoder.

Each kind of mechanism once: what it makes is finite, another thing than without it, and the same
alone and in a batch.
"""

import pytest
import tiny_bases

import unicond
from every_method import KINDS, NEW, OLD, Bench, picture
from unicond.mechanisms.inversion.methods import plan_edit

FAMILIES = ("two", "xl", "pixels")
MECHANISMS = (
    "Layout",
    "PromptToPrompt",
    "StyleInjection",
    "Composable",
    "Regions",
    "DDNM",
    "ILVR",
)
STEPS = 2
ROUNDING = 1e-4
"""Of float32 across batch sizes, of latents whose standard deviation is about 1."""


@pytest.fixture(scope="module")
def benches(models, tmp_path_factory):
    folder = tiny_bases.save_pixels(tmp_path_factory.mktemp("pixels") / "base")
    every = {**models, "pixels": unicond.load(folder)}
    return {kind: Bench(every[kind]) for kind in FAMILIES}


def asked(bench, name):
    """What is asked beside the mechanism, and the mechanisms around it: outer and inner ones."""
    told = {"branches": ["image"], "guidance_scale": 3.0, "num_inference_steps": STEPS}
    if name == "StyleInjection":
        shown = {branch: unicond.Reference(prompt=OLD) for branch in ("source", "style")}
        return {**told, "references": shown}, [], []
    if name == "PromptToPrompt":  # between the parts of an inversion
        edit = plan_edit("ddim", bench.model.backbone.schedule.times(STEPS), target="image")
        source = unicond.Reference(prompt=OLD, picture=picture(4))
        told |= {"references": {"source": source}, "image": picture(4), "plan": edit.plan}
        told |= {"solver": edit.solver, "num_inference_steps": None}
        return told, edit.mechanisms, edit.inner
    return told, [], []


@pytest.mark.parametrize("kind", FAMILIES)
@pytest.mark.parametrize("name", MECHANISMS)
def test_it_acts_alike_in_every_batch(name, kind, benches):
    bench = benches[kind]
    told, outer, inner = asked(bench, name)
    mechanism = KINDS[name].make(bench, 1.0)

    def made(seeds, *own):
        prompts = [NEW] * len(seeds)
        out = bench.model(prompts, seed=seeds, mechanisms=[*outer, *own, *inner], **told)
        return out.latents["image"]

    both, alone, without = made([3, 4], mechanism), made([3], mechanism), made([3])
    assert both.isfinite().all()
    spread = float(without.std())
    assert (alone - without).abs().max() > 1e-2 * spread
    assert (both[0] - alone[0]).abs().max() < ROUNDING * max(1.0, spread)

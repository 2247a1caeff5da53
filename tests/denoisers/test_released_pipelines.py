"""UniCon's published pipeline, all recorded runs: the same loop, in the `released` setting."""

import json
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file

from unicond.adapters.attach import attached
from unicond.adapters.joint import JointAdapter
from unicond.denoisers.network import NetworkDenoiser, Pairing
from unicond.mechanisms.blending.classifier_free import ClassifierFree
from unicond.mechanisms.blending.condition import ConditionGuidance
from unicond.mechanisms.correction.replacement import Replacement
from unicond.sampling import released, schedules
from unicond.sampling.loop import run
from unicond.sampling.prompts import Prompt
from unicond.sampling.solvers import named
from unicond.sampling.state import State

GOLDEN = Path(__file__).parents[1] / "golden" / "unicon"
RUNS = GOLDEN / "pipeline_cases"
CASES = json.loads((RUNS / "cases.json").read_text())
SOLVERS = {
    "DDIMScheduler": "ddim",
    "EulerAncestralDiscreteScheduler": "euler_ancestral",
    "DPMSolverMultistepScheduler": "dpmpp_2m",
}


class Replay:
    """Draws the recorded noises, in their order."""

    def __init__(self, draws):
        self.draws = iter(draws)

    def draw(self, branch, like):
        return next(self.draws).reshape(like.shape)


@pytest.fixture(scope="module")
def network():
    return UNet2DConditionModel.from_pretrained(GOLDEN / "base" / "unet").eval()


@pytest.fixture(scope="module")
def adapters():
    names = ("depth", "id")
    return {name: JointAdapter.from_pretrained(GOLDEN / "weights" / name) for name in names}


def run_case(case, tensors, network, adapters):
    names = ("image", "depth", "id")[: case["inputs"]]
    solver = SOLVERS[case["scheduler"]]
    schedule = schedules.from_config(case["scheduler_config"])
    times = released.times_of(schedule, solver, case["num_inference_steps"])
    end = released.end_of(schedule, solver)
    segments = [segment[:-1] for segment in case["schedule"]]
    rows = released.parse(segments, case["num_inference_steps"])
    assert rows == [tuple(row[:-1]) for row in case["parsed_schedule"]]
    plan = released.plan(rows, names, times, end)
    split = {
        key: split_branches(tensors[key], names)
        for key in ("noise", "image_latents", "latent_mask")
    }
    latents = {
        name: start_of(
            schedule, solver, times, row, split["noise"][name], split["image_latents"][name]
        )
        for name, row in zip(names, rows[0], strict=True)
    }
    levels = released.levels(times)
    parts = [
        Replacement(
            name,
            split["image_latents"][name],
            1 - split["latent_mask"][name],
            noise=split["noise"][name],
            levels=levels,
        )
        for name in names
    ]
    eta = case["eta"] if solver == "ddim" else None
    denoiser = NetworkDenoiser(
        network, prompts_of(case, names), pairings_of(case, names), case["joint_scale"]
    )
    guidance = [
        ConditionGuidance(case["cond_guidance_scale"]),
        ClassifierFree(case["guidance_scale"]),
    ]
    draws = tensors.get("scheduler_noise_in_draw_order", torch.zeros(0))
    state = State(latents, dict(plan[0].t), schedule, Replay(draws))
    used = {pair[4]: adapters[pair[4]] for pair in case["pairs_per_input"]}
    with torch.no_grad(), attached(network, used):
        steps = list(run(state, denoiser, plan, named(solver, eta), [*guidance, *parts]))
    return names, schedule, steps


def start_of(schedule, solver, times, index, noise, clean):
    alpha, sigma = schedule.alpha(times[index]), schedule.sigma(times[index])
    if index > 0:
        return alpha * clean + sigma * noise
    return sigma * noise if solver.startswith("euler") else noise


def split_branches(tensor, names):
    return dict(zip(names, tensor.chunk(len(names)), strict=True))


def prompts_of(case, names):
    table = load_file(RUNS / "_prompt_embeds.safetensors")
    key = case["prompt_embeds_key"]
    return {
        prompt: {n: Prompt(table[f"{key}.{field}"][i][None]) for i, n in enumerate(names)}
        for prompt, field in (("positive", "prompt_embeds"), ("negative", "negative_prompt_embeds"))
    }


def pairings_of(case, names):
    return [
        Pairing(model, names[x], names[y], weight_x, weight_y)
        for x, y, weight_x, weight_y, model in case["pairs_per_input"]
    ]


@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_the_published_run(name, network, adapters):
    case, tensors = CASES[name], load_file(RUNS / f"{name}.safetensors")
    names, schedule, steps = run_case(case, tensors, network, adapters)
    assert len(steps) == len(tensors["latents_after_each_step"])
    limit = 1e-4 * tensors["final_latents"].std()
    for step, want in zip(steps, tensors["latents_after_each_step"], strict=True):
        for branch, expected in split_branches(want, names).items():
            # diffusers' Euler keeps latents / alpha
            alpha = schedule.alpha(step.state.t[branch]) if name.startswith("ead") else 1.0
            error = (step.state.latents[branch] / alpha - expected).abs().max()
            assert error < limit, f"{branch} after move {step.move.number}: {error:.2e}"

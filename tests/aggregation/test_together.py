"""Several models in one run, on real networks of tiny size."""

import copy
from dataclasses import replace

import pytest
import torch

import unicond
from unicond.sampling.window import Window

SIDE = 64
ALWAYS = Window.steps(0, 4)
ROUNDING = 1e-4  # across batch sizes, in float32


@pytest.fixture
def depth():
    return torch.rand(1, SIDE, SIDE, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.fixture
def other(tiny_base):
    """Another network of the same family: its weights are a little off."""
    model = unicond.load(tiny_base)
    with torch.no_grad():
        for parameter in model.backbone.network.parameters():
            parameter.mul_(1.05)
    return model


def only(model, prompt="a dog", **asked):
    asked = {"branches": ["image"], "num_inference_steps": 4, "seed": [3, 4]} | asked
    return model.prepare(prompt, **asked)


def test_the_picture_is_the_first_models_with_what_the_other_knows(tiny, other, depth):
    alone = only(tiny, depth=depth).run()
    both = unicond.aggregate([only(tiny, depth=depth), only(other, "a cat", seed=[5, 6])])
    assert list(both.pictures) == ["image", "depth"]
    assert both.record == alone.record
    assert torch.equal(both.pictures["depth"], alone.pictures["depth"])
    assert (both.latents["image"] - alone.latents["image"]).abs().max() > 1e-2


def test_weights_of_one_leave_it_alone_bit_for_bit(tiny, other, depth):
    alone = only(tiny, depth=depth).run()
    both = unicond.aggregate([only(tiny, depth=depth), only(other)], [1.0])
    assert torch.equal(both.latents["image"], alone.latents["image"])


def test_a_sample_does_not_depend_on_its_batch(tiny, other, depth):
    def made(seeds, others):
        return unicond.aggregate(
            [only(tiny, depth=depth, seed=seeds), only(other, seed=others)], window=ALWAYS
        ).latents["image"]

    whole = made([3, 4], [5, 6])
    for row, (seed, its) in enumerate(((3, 5), (4, 6))):
        found = made([seed], [its])
        torch.testing.assert_close(whole[row : row + 1], found, rtol=0, atol=ROUNDING)


def test_one_network_can_be_asked_two_things(tiny, depth):
    """Its adapters are attached once, for both."""
    calls = [only(tiny, depth=depth), only(tiny, depth=depth.flip(-1)), only(tiny, "a cat")]
    found = unicond.aggregate(calls, window=ALWAYS).latents["image"]
    assert torch.isfinite(found).all()
    alone = only(tiny, depth=depth).run().latents["image"]
    assert (found - alone).abs().max() > 1e-2
    assert torch.equal(only(tiny, depth=depth).run().latents["image"], alone)


def test_the_others_stop_after_the_window(tiny, other):
    calls = []
    hooks = [
        model.backbone.network.register_forward_pre_hook(lambda *_, n=name: calls.append(n))
        for name, model in (("first", tiny), ("second", other))
    ]
    try:
        window = Window.steps(1, 3)
        unicond.aggregate([only(tiny), only(other)], window=window, joined=False)
        own = (calls.count("first"), calls.count("second"))
        calls.clear()
        unicond.aggregate([only(tiny), only(other)], window=window)
    finally:
        for hook in hooks:
            hook.remove()
    assert own == (4, 3)
    assert (calls.count("first"), calls.count("second")) == (4, 2)


def test_a_callback_cancels_and_sees_every_move(tiny, other):
    seen = []

    def callback(progress):
        seen.append(progress.move.number)
        return len(seen) < 2

    with pytest.raises(unicond.Cancelled, match="after move 2 of 4"):
        unicond.aggregate([only(tiny, callback=callback), only(other)])
    assert seen == [0, 1]


def test_calls_that_do_not_go_together_are_refused(tiny, other, depth):
    refused = [
        ([only(tiny)], "1 models are mixed by"),
        ([only(tiny), only(tiny)], "models 1 and 2 are one model asked the same thing"),
        ([only(tiny), only(other, num_inference_steps=5)], "'2:image' takes 5 moves"),
        ([only(tiny), only(other, seed=[1])], "model 2 makes 1 samples, the first one 2"),
        ([only(tiny), only(other, solver="heun")], "share their solver, .* model 2's heun"),
        ([only(tiny), only(other, size=128)], "share their size"),
        (
            [only(tiny), tiny.prepare(image=depth.expand(3, -1, -1), branches=["depth"])],
            "model 2 is to make depth, but what is aggregated is the image",
        ),
    ]
    for calls, message in refused:
        with pytest.raises(ValueError, match=message):
            unicond.aggregate(calls)
    with pytest.raises(ValueError, match="moves 2 to 4 ends beyond the plan, whose moves are 0 to"):
        unicond.aggregate([only(tiny), only(other)], window=Window.steps(2, 5))
    with pytest.raises(ValueError, match="a model that joins has predicted nothing"):
        unicond.aggregate([only(tiny), only(other)], mean="released")


def test_one_model_loaded_twice_is_one_model(tiny, tiny_base):
    again = unicond.load(tiny_base)
    assert again.backbone.network is not tiny.backbone.network
    with pytest.raises(ValueError, match="models 1 and 2 are one model asked the same thing"):
        unicond.aggregate([only(tiny.only()), only(again)])


def test_networks_that_predict_otherwise_are_read_by_their_own_schedule(tiny, other):
    """The very same model, whose output is v instead of noise: the same picture."""
    schedule = other.backbone.schedule
    kept = unicond.aggregate([only(tiny), only(other)], window=ALWAYS).latents["image"]
    network = copy.deepcopy(other.backbone.network)
    run = network.forward

    def as_v(latents, timesteps, *told, **more):
        out = run(latents, timesteps, *told, **more)
        t = [schedule.time(float(index)) for index in timesteps]
        alpha, sigma = (
            torch.tensor([scale(each) for each in t]).float().view(-1, 1, 1, 1)
            for scale in (schedule.alpha, schedule.sigma)
        )
        out.sample = (out.sample - sigma * latents) / alpha
        return out

    network.forward = as_v
    v = replace(schedule, prediction_type="v")
    turned = replace(other, backbone=replace(other.backbone, network=network, schedule=v))
    found = unicond.aggregate([only(tiny), only(turned)], window=ALWAYS).latents["image"]
    torch.testing.assert_close(found, kept, rtol=0, atol=ROUNDING)


def test_what_differs_is_said(tiny, other):
    powers = tuple(power**2 for power in other.backbone.schedule.alphas_cumprod)
    schedule = replace(other.backbone.schedule, alphas_cumprod=powers)
    noisier = replace(other, backbone=replace(other.backbone, schedule=schedule))
    message = r"share the noise schedule, but at t=0.0625 .* has alpha=0\.\d+, sigma=.* alpha=0\."
    with pytest.raises(ValueError, match=message):
        unicond.aggregate([only(tiny), only(noisier)])


def test_a_model_whose_adapters_are_told_nothing_is_refused(tiny, tiny_base, grounders):
    idle = unicond.load(tiny_base, {"migc": grounders["migc"]})
    with pytest.raises(ValueError, match="model 2: the model has migc and nothing else"):
        unicond.aggregate([only(tiny), only(idle)])


def test_another_adapter_of_the_same_name_on_one_network_is_refused(tiny, depth):
    from unicond.adapters.joint import JointAdapter
    from unicond.model import Loaded

    config = tiny.adapters["depth"].adapter.config
    fresh = JointAdapter.for_network(tiny.backbone.network, config)
    twin = replace(tiny, adapters={"depth": Loaded("fresh", fresh)})
    with pytest.raises(ValueError, match="model 2 brings another adapter 'depth'"):
        unicond.aggregate([only(tiny, depth=depth), only(twin, "a cat", depth=depth)])

"""Ensembles: what several noises read off one image, averaged."""

import pytest
import torch
from PIL import Image

import unicond
from unicond.calls.output import read_record
from unicond.calls.rerun import repeat
from unicond.calls.walks import APART
from unicond.sampling.noise import apart
from unicond.sampling.state import Move

IMAGE = torch.linspace(-1, 1, 64).repeat(3, 64, 1)
EXACT = unicond.given(IMAGE, noise=0.0)


def test_the_mean_of_its_members(tiny):
    """Members are runs of their own from distant seeds; no noise is on the image here."""
    whole = tiny(image=EXACT, branches=["depth"], seed=[5, 2], ensemble_size=3)
    runs = [
        tiny(image=EXACT, branches=["depth"], seed=[apart(s, APART * m) for s in (5, 2)])
        for m in range(3)
    ]
    pictures = torch.stack([one.pictures["depth"] for one in runs])
    assert pictures.std(0).max() > 1e-2
    assert torch.allclose(whole.pictures["depth"], pictures.mean(0), atol=1e-5)
    latents = torch.stack([one.latents["depth"] for one in runs]).mean(0)
    assert torch.allclose(whole.latents["depth"], latents, atol=1e-5)
    assert whole.record.seeds == (5, 2)


def test_the_noise_of_a_held_image_is_drawn_once_and_its_rows_run_once(tiny):
    rows = []
    network = tiny.backbone.network
    hook = network.register_forward_pre_hook(lambda _, inputs: rows.append(len(inputs[0])))
    try:
        tiny(image=IMAGE, branches=["depth"], ensemble_size=3, held="one_way")
    finally:
        hook.remove()
    assert rows == [2, 1, 1, 1, 1, 1]  # two steps a member


def test_what_is_kept_of_rows_that_hear_is_of_their_own_member_and_run(tiny):
    read = {"image": EXACT, "branches": ["depth"], "num_inference_steps": 6}
    read |= {"held": "two_way", "refresh": 4}
    prepared = tiny.prepare(**read, seed=5, ensemble_size=2)
    runs = [tiny(**read, seed=apart(5, APART * m)).latents["depth"] for m in range(2)]
    assert (runs[0] - runs[1]).abs().max() > 1e-2
    for whole in (prepared.run(), prepared.run()):
        assert torch.equal(whole.latents["depth"], torch.stack(runs).mean(0))


def test_a_callback_counts_the_moves_of_all_members(tiny):
    seen = []
    read = {"image": IMAGE, "branches": ["depth"], "ensemble_size": 2}
    tiny(**read, callback=lambda one: seen.append((one.move.number, one.move.count)))
    assert seen == [(0, 4), (1, 4), (2, 4), (3, 4)]
    with pytest.raises(unicond.Cancelled, match="stopped after move 3 of 4"):
        tiny(**read, callback=lambda one: one.move.number < 2)


def test_one_is_no_ensemble(tiny):
    one = tiny(image=IMAGE, branches=["depth"], ensemble_size=1)
    assert torch.equal(one.latents["depth"], tiny(image=IMAGE, branches=["depth"]).latents["depth"])


def test_a_sample_alone_is_as_in_a_batch(tiny):
    both = tiny(image=IMAGE, branches=["depth"], seed=[5, 2], ensemble_size=2)
    alone = tiny(image=IMAGE, branches=["depth"], seed=2, ensemble_size=2)
    assert torch.allclose(both.pictures["depth"][1:], alone.pictures["depth"], atol=1e-4)


def test_it_can_be_made_again(tiny, tmp_path):
    photo = tmp_path / "photo.png"
    Image.radial_gradient("L").resize((64, 64)).convert("RGB").save(photo)
    out = tiny(image=photo, branches=["depth"], ensemble_size=2)
    record = read_record(out.save(tmp_path / "out")[0])
    assert record.ensemble_size == 2
    assert torch.equal(repeat(tiny, record).latents["depth"], out.latents["depth"])


def test_what_suits_an_adapter_is_taken_but_not_by_an_unusual_walk(tiny):
    config = tiny.adapters["depth"].adapter.config
    object.__setattr__(config, "estimation_ensemble", 2)
    try:
        read = {"image": IMAGE, "branches": ["depth"]}
        assert tiny(**read).record.ensemble_size == 2
        assert tiny(**read, ensemble_size=1).record.ensemble_size == 1
        assert tiny(**read, sampling="released").record.ensemble_size == 1
        moves = [Move({"image": 0.0, "depth": 1.0}, {"image": 0.0, "depth": 0.0})]
        assert tiny(**read, plan=moves).record.ensemble_size == 1
        assert tiny("a dog", depth=IMAGE, branches=["image"]).record.ensemble_size == 1
    finally:
        object.__setattr__(config, "estimation_ensemble", None)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"image": IMAGE, "branches": ["depth"], "ensemble_size": 0}, "ensemble_size is 0; give 1"),
        ({"depth": IMAGE, "branches": ["image"], "ensemble_size": 2}, "but this call draws"),
        ({"ensemble_size": 2}, "but this call draws"),
        ({"image": IMAGE, "branches": ["id"], "ensemble_size": 2}, "but this call draws"),
    ],
)
def test_an_ensemble_of_nothing_is_refused(tiny, asked, message):
    with pytest.raises(ValueError, match=message):
        tiny(**asked)

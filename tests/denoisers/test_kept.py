"""Held branches that run once: the same numbers, fewer rows, and errors where nothing is held."""

import pytest
import torch
from PIL import Image

import unicond
from unicond.denoisers.network import Pairing, keeper

PICTURES = {
    "depth": Image.linear_gradient("L").resize((64, 64)),
    "image": Image.radial_gradient("L").resize((64, 64)).convert("RGB"),
    "id": Image.linear_gradient("L").rotate(90).resize((64, 64)).convert("RGB"),
}
SETTINGS = {"seed": [3, 4], "num_inference_steps": 4, "guidance_scale": 2.0}


@pytest.fixture
def rows(tiny):
    """How many rows each network call had."""
    counts = []
    hook = tiny.backbone.network.register_forward_pre_hook(
        lambda _, arguments: counts.append(len(arguments[0]))
    )
    yield counts
    hook.remove()


def latents(tiny, **options):
    given = {b: PICTURES[b] for b in options.pop("given", ("depth",))}
    result = tiny("a ball", **SETTINGS, **options, **given)
    return torch.cat([result.latents[b] for b in result.latents if b in result.record.generated])


@pytest.mark.parametrize(
    ("given", "options", "calls"),
    [
        (("depth",), {"branches": ["image", "depth"]}, [8, 4, 4, 4]),
        (("depth",), {"branches": ["image", "depth"], "solver": "heun"}, [8, 4, 4, 4, 4, 4, 4]),
        (("depth",), {"branches": ["image", "depth"], "condition_guidance": 1.0}, [12, 6, 6, 6]),
        (("depth", "id"), {}, [12, 4, 4, 4]),
        (("depth",), {}, [12, 8, 8, 8]),  # the identity picture is generated: its rows stay
        (("image",), {"branches": ["image", "depth"]}, [8, 4, 4, 4]),
        (("image",), {}, [12, 8, 8, 8]),
    ],
)
@pytest.mark.parametrize("attention", ["global", "aligned"])
def test_rows_that_are_kept_give_the_numbers_of_rows_that_are_recomputed(
    tiny, rows, given, options, calls, attention
):
    if attention == "aligned" and "branches" not in options:
        options = {**options, "branches": ["image", "depth"]}
        given, calls = given[:1], [8, 4, 4, 4]
    options = {**options, "given": given, "held": "one_way", "attention": attention}
    recomputed = latents(tiny, cache=False, **options)
    assert set(rows) == {calls[0]}
    rows.clear()
    kept = latents(tiny, **options)
    assert rows == calls
    torch.testing.assert_close(kept, recomputed, rtol=0, atol=1e-5)


def test_a_condition_of_weight_zero_hears_from_what_is_kept_of_it(tiny, rows):
    """Released weights: the condition receives nothing, but its part in the fused projection."""
    options = {
        "branches": ["image", "depth"],
        "held": "two_way",
        "conditioning_scale": {"depth": (1.0, 0.0)},
    }
    recomputed = latents(tiny, cache=False, **options)
    rows.clear()
    torch.testing.assert_close(latents(tiny, **options), recomputed, rtol=0, atol=1e-5)
    assert rows == [8, 4, 4, 4]
    deaf = latents(tiny, branches=["image", "depth"], held="one_way")
    assert (deaf - recomputed).abs().max() > 1e-3


def test_refreshing_at_every_move_is_exact_and_less_often_is_near(tiny, rows):
    options = {"branches": ["image", "depth"], "held": "two_way"}
    exact = latents(tiny, **options)
    assert rows == [8] * 4
    rows.clear()
    assert torch.equal(latents(tiny, refresh=1, **options), exact)
    assert rows == [8] * 4
    rows.clear()
    near = latents(tiny, refresh=2, **options)
    assert rows == [8, 4, 8, 4]
    alone = latents(tiny, branches=["image", "depth"], joint_scale=0.0)
    assert 0 < (near - exact).norm() < 0.5 * (alone - exact).norm()


def test_a_held_level_is_kept_too(tiny, rows):
    coarse = unicond.given(PICTURES["depth"], noise=0.4, hold=True)
    options = {"branches": ["image", "depth"], "held": "one_way", **SETTINGS}
    recomputed = tiny("a ball", depth=coarse, cache=False, **options).latents["image"]
    rows.clear()
    kept = tiny("a ball", depth=coarse, **options).latents["image"]
    assert rows == [8, 4, 4, 4]
    torch.testing.assert_close(kept, recomputed, rtol=0, atol=1e-5)


def test_a_window_of_guidance_records_once_for_each_set_of_variants(tiny, rows):
    """Two variants, then one: each has a recording of its own."""
    from unicond.mechanisms.blending.classifier_free import ClassifierFree
    from unicond.sampling.window import Window

    options = {"branches": ["image", "depth"], "held": "one_way", "seed": 3}
    options |= {"num_inference_steps": 4, "guidance_scale": 1.0, "depth": PICTURES["depth"]}
    windowed = [ClassifierFree(3.0, window=Window(1.0, 0.5))]
    recomputed = tiny("a ball", cache=False, mechanisms=windowed, **options).latents["image"]
    rows.clear()
    kept = tiny("a ball", mechanisms=windowed, **options).latents["image"]
    assert rows == [4, 2, 2, 1]
    torch.testing.assert_close(kept, recomputed, rtol=0, atol=1e-5)


def test_what_cannot_be_kept_is_refused(tiny):
    depth = PICTURES["depth"]
    with pytest.raises(ValueError, match="nothing is held: every branch moves"):
        tiny("a ball", cache=True)
    with pytest.raises(ValueError, match="nothing is held: every branch moves"):
        tiny("a ball", refresh=2)
    with pytest.raises(ValueError, match="depth hears the others and so changes with them"):
        tiny("a ball", depth=depth, cache=True, held="two_way")
    with pytest.raises(ValueError, match="needs the cache"):
        tiny("a ball", depth=depth, refresh=2, cache=False)
    with pytest.raises(ValueError, match="'id' is only loosely related to the image"):
        tiny("a ball", id=PICTURES["id"], attention="aligned")


def test_only_branches_that_hear_nothing_are_kept():
    deaf = Pairing("depth", "image", "depth", deaf=frozenset({"depth"}))
    hears = Pairing("id", "image", "id")
    assert keeper(None, None, {"depth", "id"}, [deaf, hears]).branches == {"depth"}
    assert keeper(None, None, {"image"}, [deaf]).branches == set()
    assert keeper(None, 3, {"id"}, [hears]).branches == {"id"}
    assert keeper(False, None, {"depth"}, [deaf]).branches == set()

"""Held branches that run once: the same numbers, fewer rows, and errors where nothing is held."""

import pytest
import torch
from PIL import Image

import unicond
from unicond.adapters.attach import attached
from unicond.adapters.config import JointConfig
from unicond.adapters.joint import JointAdapter
from unicond.denoisers.network import NetworkDenoiser, Pairing, keeper
from unicond.sampling.noise import Generators
from unicond.sampling.rows import Variant
from unicond.sampling.state import State

PICTURES = {
    "depth": Image.linear_gradient("L").resize((64, 64)),
    "image": Image.radial_gradient("L").resize((64, 64)).convert("RGB"),
    "id": Image.linear_gradient("L").rotate(90).resize((64, 64)).convert("RGB"),
}
SETTINGS = {"seed": [3, 4], "num_inference_steps": 3, "guidance_scale": 2.0}


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


PAIR = {"branches": ["image", "depth"]}
OF_PAIRS = [
    (("depth",), PAIR, [8, 4, 4]),
    (("depth",), {**PAIR, "solver": "heun"}, [8, 4, 4, 4, 4]),
    (("depth",), {**PAIR, "condition_guidance": 1.0}, [12, 6, 6]),
    (("image",), PAIR, [8, 4, 4]),
]
OF_ALL = [
    (("depth", "id"), {}, [12, 4, 4]),
    (("depth",), {}, [12, 8, 8]),  # the identity picture is generated: its rows stay
    (("image",), {}, [12, 8, 8]),
]
"""Identity is loosely related to the image: its attention is always global."""


@pytest.mark.parametrize(
    ("given", "options", "calls", "attention"),
    [
        *((*one, "global") for one in (*OF_PAIRS, *OF_ALL)),
        *((*one, "aligned") for one in OF_PAIRS),
    ],
)
def test_rows_that_are_kept_give_the_numbers_of_rows_that_are_recomputed(
    tiny, rows, given, options, calls, attention
):
    options = {**options, "given": given, "held": "one_way", "attention": attention}
    recomputed = latents(tiny, cache=False, **options)
    assert set(rows) == {calls[0]}
    rows.clear()
    kept = latents(tiny, **options)
    assert rows == calls
    torch.testing.assert_close(kept, recomputed, rtol=0, atol=1e-5)


@pytest.fixture(scope="module")
def fused(tiny_base, tmp_path_factory):
    """The tiny base with two aligned adapters that fuse, one with y-LoRA beyond attention."""
    network = unicond.load(tiny_base).backbone.network
    folders = {name: tmp_path_factory.mktemp("fused") / name for name in ("depth", "edge")}
    for number, (name, folder) in enumerate(folders.items()):
        config = JointConfig(
            y=name,
            kind=name,
            rank=2,
            y_rank=2,
            y_conv_rank=2 * number,
            roles=("two_way", "condition_held", "image_held"),
            attention=("global", "aligned"),
        )
        adapter = JointAdapter.for_network(network, config)
        generator = torch.Generator().manual_seed(number)
        for parameter in adapter.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.2
        adapter.save_pretrained(folder)
    return unicond.load(tiny_base, folders)


@pytest.mark.parametrize(
    ("given", "fewer"), [(("depth", "edge"), 4), (("depth",), 8), (("image",), 8)]
)
@pytest.mark.parametrize("attention", ["global", "aligned"])
def test_two_fused_adapters_at_once_give_the_numbers_of_rows_that_are_recomputed(
    fused, given, fewer, attention
):
    """Both conditions held, one of them, or the image for both."""
    pictures = {"edge": PICTURES["depth"].rotate(90), **PICTURES}
    options = SETTINGS | {b: pictures[b] for b in given} | {"attention": attention}
    recomputed = fused("a ball", cache=False, **options)
    counts = []
    hook = fused.backbone.network.register_forward_pre_hook(
        lambda _, arguments: counts.append(len(arguments[0]))
    )
    try:
        kept = fused("a ball", cache=True, **options)
    finally:
        hook.remove()
    assert counts == [12, *[fewer] * (len(counts) - 1)]
    for branch in recomputed.record.generated:
        found, wanted = kept.latents[branch], recomputed.latents[branch]
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)


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
    assert rows == [8, 4, 4]
    deaf = latents(tiny, branches=["image", "depth"], held="one_way")
    assert (deaf - recomputed).abs().max() > 1e-3


def test_refreshing_at_every_move_is_exact_and_less_often_is_near(tiny, rows):
    options = {"branches": ["image", "depth"], "held": "two_way"}
    exact = latents(tiny, **options)
    assert rows == [8] * 3
    rows.clear()
    assert torch.equal(latents(tiny, refresh=1, **options), exact)
    assert rows == [8] * 3
    rows.clear()
    near = latents(tiny, refresh=2, **options)
    assert rows == [8, 4, 8]
    alone = latents(tiny, branches=["image", "depth"], joint_scale=0.0)
    assert 0 < (near - exact).norm() < 0.5 * (alone - exact).norm()


def test_a_held_level_is_kept_too(tiny, rows):
    coarse = unicond.given(PICTURES["depth"], noise=0.4, hold=True)
    options = {"branches": ["image", "depth"], "held": "one_way", **SETTINGS}
    recomputed = tiny("a ball", depth=coarse, cache=False, **options).latents["image"]
    rows.clear()
    kept = tiny("a ball", depth=coarse, **options).latents["image"]
    assert rows == [8, 4, 4]
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


HELD = frozenset({"depth", "still"})
SHARED = {
    "two": [("image", "depth"), ("other", "depth")],
    "beside one that moves": [("image", "other"), ("image", "depth"), ("other", "depth")],
    "on either side": [("image", "depth"), ("depth", "other")],
    "two held": [("image", "depth"), ("depth", "still"), ("other", "still"), ("other", "depth")],
}


@torch.no_grad()
@pytest.mark.parametrize("refresh", [None, 3])
@pytest.mark.parametrize("adapter", ["depth", "id"])
@pytest.mark.parametrize("case", SHARED)
def test_a_held_branch_that_pairs_of_one_adapter_share_is_kept(tiny, rows, case, adapter, refresh):
    """In any company, on either side, fused or not; with `refresh`, what hears is kept, too."""
    backbone, deaf = tiny.backbone, HELD if refresh is None else frozenset()
    weights = ((1.0, 0.5), (0.6, 1.0), (0.8, 0.7), (0.9, 1.0))
    pairings = [
        Pairing(adapter, *pair, *weight, deaf=deaf)
        for pair, weight in zip(SHARED[case], weights, strict=False)
    ]
    names = tuple(dict.fromkeys(name for pair in SHARED[case] for name in pair))
    held = [name for name in names if name in HELD]
    words = dict(zip(names, ("a ball", "a box", "a cone", "a cube"), strict=False))
    table = {"positive": {b: backbone.encode_prompts([words[b]] * 2, (64, 64)) for b in names}}
    noise = Generators([3, 4], names)
    like = torch.zeros(2, *backbone.latent_shape((64, 64)))
    latents = {name: noise.draw(name, like) for name in names}
    t = {name: 0.0 if name in HELD else 0.8 for name in names}
    first = State(latents, t, backbone.schedule, noise)
    moved = {b: v if b in HELD else 0.9 * v + 0.1 * v.flip(-1) for b, v in latents.items()}
    # two calls at one place: with `refresh`, what was kept is what is found there
    second = first if refresh else first.at(moved, {b: min(s, 0.5) for b, s in t.items()})
    found = {}
    with attached(backbone.network, {adapter: tiny.adapters[adapter].adapter}):
        for cache in (False, None):
            keeps = keeper(cache, None if cache is False else refresh, held, pairings)
            assert keeps.branches == (frozenset() if cache is False else frozenset(held))
            denoiser = NetworkDenoiser(backbone.network, table, pairings, keeper=keeps)
            rows.clear()
            variants = [Variant(), Variant(joint=0.5)]
            found[cache] = [denoiser(state, variants) for state in (first, second)]
            fewer = 0 if cache is False else len(held)
            assert rows == [4 * len(names), 4 * (len(names) - fewer)]
    for exact, kept in zip(found[False], found[None], strict=True):
        for one, other in zip(exact, kept, strict=True):
            for name in names:
                torch.testing.assert_close(other[name].eps, one[name].eps, rtol=0, atol=1e-5)


def test_only_branches_that_hear_nothing_are_kept():
    deaf = Pairing("depth", "image", "depth", deaf=frozenset({"depth"}))
    hears = Pairing("id", "image", "id")
    assert keeper(None, None, {"depth", "id"}, [deaf, hears]).branches == {"depth"}
    assert keeper(None, None, {"image"}, [deaf]).branches == set()
    assert keeper(None, 3, {"id"}, [hears]).branches == {"id"}
    assert keeper(False, None, {"depth"}, [deaf]).branches == set()

"""Composition, semantic guidance, fusion and collage on Gaussians, where the answer is known."""

import math
from dataclasses import replace

import pytest
import torch
from gaussian_pixels import SCHEDULE, Pixels, half, noise_of, sample, state_at
from measured import Dense
from scipy.ndimage import gaussian_filter

from unicond.denoisers.exact import JointGaussian
from unicond.mechanisms.blending.classifier_free import ClassifierFree
from unicond.mechanisms.blending.composable import Composable
from unicond.mechanisms.blending.condition import ConditionGuidance
from unicond.mechanisms.blending.magic_fusion import MagicFusion, blurred
from unicond.mechanisms.blending.multidiffusion import Panorama, Regions
from unicond.mechanisms.blending.noise_collage import NoiseCollage
from unicond.mechanisms.blending.perturbed import PerturbedAttention
from unicond.mechanisms.blending.regions import Region
from unicond.mechanisms.blending.semantic import Edit, SemanticGuidance
from unicond.mechanisms.guidance.dps import DPS
from unicond.mechanisms.measurement import Measurement
from unicond.sampling import plans
from unicond.sampling.loop import run
from unicond.sampling.noise import Generators
from unicond.sampling.rows import Variant
from unicond.sampling.solvers import DDIM, named
from unicond.sampling.state import Move, State
from unicond.sampling.window import Window

SIDE = 64
MOVE = Move({"image": 0.6}, {"image": 0.5}, shares={"image": 0.5})
LEFT = (0.0, 0.0, 0.5, 1.0)
UNIT = {"positive": (0.0, 1.0), "negative": (0.0, 1.0)}


def predicted(mechanism, denoiser, latents, t=0.6, move=MOVE):
    return mechanism.wrap(denoiser, move)(state_at(t, latents), [Variant()])[0]["image"]


# ---- composable diffusion


def test_and_of_two_experts_is_their_product():
    """Each speaks of its own half, so that noisy scores add up exactly: N(2, 1/4) x N(-1, 1/2)."""
    laws = {
        **UNIT,
        "a": (half(2, 0, SIDE), half(0.25, 1, SIDE)),
        "b": (half(0, -1, SIDE), half(1, 0.5, SIDE)),
    }
    both = Composable(concepts={"a": 1.0, "b": 1.0})
    start = noise_of(1, 1, 1, SIDE, SIDE)
    found = sample(Pixels(laws), start, [both], steps=200).latents["image"]
    product = {**UNIT, "positive": (half(2, -1, SIDE), half(0.25, 0.5, SIDE))}
    want = sample(Pixels(product), start, steps=200).latents["image"]
    assert torch.allclose(found, want, atol=1e-10)
    count = SIDE * SIDE / 2
    for part, mean, variance in (
        (found[..., : SIDE // 2], 2, 0.25),
        (found[..., SIDE // 2 :], -1, 0.5),
    ):
        assert abs(part.mean() - mean) < 4 * (variance / count) ** 0.5 + 0.01  # 200 steps
        assert abs(part.var() - variance) < 4 * variance * (2 / count) ** 0.5 + 0.01


def test_weights_and_negation_shift_the_mean_exactly():
    """One covariance: the mean is `m_u + g (m_p - m_u) + sum_i w_i (m_i - m_u)`."""
    laws = {"positive": (0.5, 1.0), "negative": (-1.0, 1.0), "ball": (2.0, 1.0), "rain": (1, 1.0)}
    mechanisms = [Composable(concepts={"ball": 0.7, "rain": -1.5}), ClassifierFree(3.0)]
    start = noise_of(2, 1, 1, 16, 16)
    found = sample(Pixels(laws), start, mechanisms).latents["image"]
    mean = -1 + 3.0 * 1.5 + 0.7 * 3 - 1.5 * 2
    want = sample(Pixels({"positive": (mean, 1.0)}), start).latents["image"]
    assert torch.allclose(found, want, atol=1e-10)
    away = sample(Pixels(laws), start, [Composable(concepts={"rain": -1.5})]).latents["image"]
    plain = sample(Pixels(laws), start).latents["image"]
    assert bool((away < plain).all())  # the concept is at 1, above the negative prompt's -1


def test_a_concept_costs_a_row_and_shares_the_negative_one():
    denoiser = Pixels({**UNIT, "a": (1.0, 1.0)})
    guided = Composable(concepts={"a": 2.0}).wrap(ClassifierFree(3.0).wrap(denoiser, MOVE), MOVE)
    guided(state_at(0.6, noise_of(1, 1, 1, 4, 4)), [Variant()])
    (_, variants), *others = denoiser.calls
    assert not others
    assert {variant.prompt for variant in variants} == {"positive", "negative", "a"}
    assert not any(variant.guided for variant in variants)


# ---- semantic guidance


def test_an_edit_touches_the_largest_differences_of_each_sample():
    """|d| = |m_e - gain z|: its largest quarter in each sample alone moves, by scale d."""
    laws = {**UNIT, "hat": (0.0, 0.25)}
    latents = noise_of(3, 2, 2, 8, 8) * torch.tensor([1.0, 100.0]).view(2, 1, 1, 1)
    denoiser = Pixels(laws)
    state = state_at(0.6, latents)
    d = denoiser.predict(state, "image", "hat").x0 - denoiser.predict(state, "image", "negative").x0
    plain = denoiser.predict(state, "image", "positive")
    edit = Edit(prompt="hat", scale=4.0, quantile=0.75)
    for per in ("value", "pixel"):
        found = predicted(SemanticGuidance(edits=[edit], per=per), denoiser, latents)
        size = d.abs() if per == "value" else d.abs().sum(1, keepdim=True)
        for sample_ in range(2):
            kept = int(0.25 * size[sample_].numel())
            least = size[sample_].flatten().sort().values[-kept]
            mask = (size[sample_] >= least).expand_as(d[sample_])
            want = plain.x0[sample_] + 4.0 * mask * d[sample_]
            assert torch.allclose(found.x0[sample_], want, atol=1e-12)
            changed = (found.eps[sample_] - plain.eps[sample_]).abs() > 1e-12
            assert torch.equal(changed, mask)
    alpha, sigma = state.scales("image")
    assert torch.allclose(alpha * found.x0 + sigma * found.eps, latents, atol=1e-10)


def test_edits_add_up_and_begin_after_their_warm_up():
    laws = {**UNIT, "hat": (2.0, 1.0), "snow": (half(1, -1, 8), 1.0)}
    hat = Edit(prompt="hat", scale=1.5, quantile=0.0, window=Window.share(0.5, 1.0))
    snow = Edit(prompt="snow", scale=-2.0, quantile=0.0, window=Window.share(0, 1))
    latents = noise_of(3, 1, 1, 8, 8)

    def shift(edits, number):
        move = Move({"image": 0.6}, {"image": 0.5}, shares={"image": number / 10})
        found = predicted(SemanticGuidance(edits=edits), Pixels(laws), latents, move=move)
        return found.x0 - Pixels(laws).predict(state_at(0.6, latents), "image", "positive").x0

    assert torch.allclose(shift([hat, snow], 5), shift([hat], 5) + shift([snow], 5), atol=1e-12)
    assert torch.equal(shift([hat, snow], 4), shift([snow], 4))
    assert not shift([hat], 4).any()
    assert bool((shift([snow], 4)[..., :4] < 0).all())  # negative: away from the concept
    denoiser = Pixels(laws)
    predicted(
        SemanticGuidance(edits=[hat]), denoiser, latents, move=Move({"image": 1}, {"image": 0})
    )
    assert [variants for _, variants in denoiser.calls] == [[Variant()]]


# ---- two models


def test_fusion_takes_each_pixel_from_the_model_that_has_more_to_say():
    own = Pixels({"positive": (half(3, 0.5, SIDE), 1.0), "negative": (0.0, 1.0)})
    other = Pixels({"positive": (half(0.5, -4, SIDE), 1.0), "negative": (0.0, 1.0)})
    start = noise_of(5, 1, 1, SIDE, SIDE)
    fusion = MagicFusion(other=other, blur=0.0)
    found = sample(own, start, [fusion], steps=50).latents["image"]
    want = Pixels({"positive": (half(3, -4, SIDE), 1.0)})
    assert torch.allclose(found, sample(want, start, steps=50).latents["image"], atol=1e-10)


@pytest.mark.parametrize("deviation", [0.0, 1.0])
def test_fusion_is_the_argmax_of_two_softmaxes(deviation):
    """On random maps, computed another way; with the weight, the blur and the other's guidance."""
    side, g, w, temperature = 12, 2.5, 1.3, 0.7
    maps = [noise_of(seed, 1, 3, side, side) for seed in (1, 2)]
    own, other = (Pixels({"positive": (m, 1.0), "negative": (0.1, 1.0)}) for m in maps)
    latents = noise_of(3, 2, 3, side, side)
    fusion = MagicFusion(
        other=other, blur=deviation, weight=w, temperature=temperature, guidance_scale=g
    )
    found = predicted(fusion, own, latents)

    def budget(mean):
        saliency = (mean - 0.1).abs().mean(1)[0].numpy()
        reach = math.ceil(3 * deviation)
        saliency = gaussian_filter(saliency, deviation, mode="nearest", radius=reach)
        saliency = torch.from_numpy(saliency)
        return torch.softmax((saliency / saliency.mean() / temperature).flatten(), 0)

    pick = (w * budget(maps[1]) > budget(maps[0])).view(1, 1, side, side)
    assert 0.1 < pick.double().mean() < 0.9
    state = state_at(0.6, latents)
    guided = Pixels({"positive": (0.1 + g * (maps[1] - 0.1), 1.0)})
    theirs, mine = (one.predict(state, "image", "positive") for one in (guided, own))
    assert torch.allclose(found.x0, torch.where(pick, theirs.x0, mine.x0), atol=1e-12)
    assert torch.allclose(found.eps, torch.where(pick, theirs.eps, mine.eps), atol=1e-12)
    # what others remember of the run's own model (other words, say) is not the second one's
    state = state.remember("prompts", "the run's own")
    fusion.wrap(own, MOVE)(state, [Variant()])
    assert own.calls[-1][0].memory
    assert not other.calls[-1][0].memory
    # from pure noise eps is the same for all prompts, x0 is not
    assert torch.allclose(
        predicted(fusion, own, latents, t=1.0).x0,
        torch.where(pick, 0.1 + g * (maps[1] - 0.1), maps[0]).expand_as(latents),
    )


def test_the_blur_is_a_gaussian():
    spot = torch.zeros(1, 1, 31, 31, dtype=torch.float64)
    spot[..., 15, 15] = 1
    found = blurred(spot, 1.5)
    assert abs(found.sum() - 1) < 1e-12
    places = torch.arange(31, dtype=torch.float64) - 15
    variance = (found[0, 0].sum(0) * places**2).sum()
    assert abs(variance - 1.5**2) < 0.08  # cut at 3 deviations and more
    flat = torch.full((1, 1, 5, 5), 0.7, dtype=torch.float64)
    assert torch.allclose(blurred(flat, 2.0), flat)


# ---- collage


def test_objects_land_in_their_boxes():
    """One covariance: the mean is that of objects and scene by weight, outside the scene's."""
    laws = {**UNIT, "ball": (3.0, 1.0), "box": (-2.0, 1.0)}
    objects = [
        Region(prompt="ball", box=(0.125, 0.25, 0.5, 0.75)),
        Region(prompt="box", box=(0.375, 0.5, 1.0, 1.0), weight=2.0),
    ]
    start = noise_of(5, 1, 1, 16, 16)
    collage = NoiseCollage(objects=objects, scene=0.5)
    found = sample(Pixels(laws), start, [collage]).latents["image"]
    mean = torch.zeros(16, 16, dtype=torch.float64)
    mean[4:12, 2:8] = 3 / 1.5
    mean[8:, 6:] = -2 * 2 / 2.5
    mean[8:12, 6:8] = (3 - 2 * 2) / 3.5
    want = sample(Pixels({"positive": (mean, 1.0)}), start).latents["image"]
    assert torch.allclose(found, want, atol=1e-10)


def test_a_collage_that_leaves_nothing_somewhere_is_refused_before_sampling():
    denoiser = Pixels({**UNIT, "ball": (3.0, 1.0)})
    collage = NoiseCollage(objects=[Region(prompt="ball", box=LEFT)], scene=0.0)
    with pytest.raises(ValueError, match=r"leave 50% of the picture bare: give the scene"):
        sample(denoiser, noise_of(1, 1, 1, 8, 8), [collage])
    assert not denoiser.calls


# ---- all of them

LAWS = {
    "positive": (0.3, 1.0),
    "negative": (0.0, 0.8),
    "a": (1.0, 0.5),
    "b": (half(2, -1, 8), 0.7),
}
OTHER = Pixels({"positive": (half(0, 2, 8), 0.6), "negative": (0.0, 1.0)})
REGIONS = [Region(prompt="a", box=LEFT), Region(prompt="b", box=(0.3, 0.3, 0.9, 0.9))]
ACTING = {
    "composable": Composable(concepts={"a": 2.0, "b": -1.0}),
    "semantic": SemanticGuidance(edits=[Edit(prompt="a"), Edit(prompt="b", scale=-3.0)]),
    "semantic per pixel": SemanticGuidance(edits=[Edit(prompt="a")], per="pixel"),
    "fusion": MagicFusion(other=OTHER, guidance_scale=2.0),
    "collage": NoiseCollage(objects=REGIONS),
    "regions": Regions(regions=REGIONS, bootstrap=Window.share(0, 0.5)),
    "panorama": Panorama(window=(8, 4), stride=(8, 2), profile="tent"),
}
CLOSED = Window.steps(0, 0)
NEUTRAL = {
    "composable": Composable(concepts={"a": 0.0}),
    "composable closed": Composable(concepts={"a": 5.0}, window=CLOSED),
    "semantic": SemanticGuidance(edits=[Edit(prompt="a", scale=0.0)]),
    "semantic closed": SemanticGuidance(edits=[Edit(prompt="a", window=CLOSED)]),
    "fusion": MagicFusion(other=OTHER, weight=0.0),
    "fusion closed": MagicFusion(other=OTHER, window=CLOSED),
    "collage": NoiseCollage(objects=[Region(prompt="a", box=LEFT, weight=0.0)]),
    "collage closed": NoiseCollage(objects=REGIONS, window=CLOSED),
    "regions": Regions(
        regions=[Region(prompt="a", box=LEFT, weight=0.0)], bootstrap=Window.share(0, 1)
    ),
    "regions closed": Regions(regions=REGIONS, window=CLOSED, bootstrap=Window.share(0, 1)),
    "panorama": Panorama(window=8),
}


@pytest.mark.parametrize("name", NEUTRAL)
def test_a_neutral_mechanism_is_absent(name):
    """Bit for bit, the random draws of an ancestral solver and the calls included."""
    start, solver = noise_of(1, 2, 1, 8, 8), named("ddpm")
    plain, with_it = Pixels(LAWS), Pixels(LAWS)
    asked = len(OTHER.calls)
    want = sample(plain, start, solver=solver).latents["image"]
    found = sample(with_it, start, [NEUTRAL[name]], solver=solver).latents["image"]
    assert torch.equal(found, want)
    assert [v for _, v in with_it.calls] == [v for _, v in plain.calls]
    assert len(OTHER.calls) == asked


@pytest.mark.parametrize("name", ACTING)
def test_a_sample_does_not_depend_on_its_batch(name):
    start = noise_of(1, 3, 1, 8, 8) * torch.tensor([1.0, 0.5, 2.0]).view(3, 1, 1, 1)
    mechanisms = [ACTING[name], ClassifierFree(2.0)]

    def made(rows):
        return sample(
            Pixels(LAWS), start[rows], mechanisms, solver=named("ddpm"), seeds=[4 + r for r in rows]
        ).latents["image"]

    together = made([0, 1, 2])
    alone = torch.cat([made([row]) for row in range(3)])
    assert torch.allclose(alone, together, atol=1e-10)


@pytest.mark.parametrize("name", ACTING)
def test_a_held_branch_stays_and_conditions(name):
    """Beside a held depth (correlation 0.8) the same objects serve every combination."""
    covariance = torch.tensor([[1.0, 0.8], [0.8, 1.0]], dtype=torch.float64)
    means = {
        p: torch.full((2,), m, dtype=torch.float64) for p, m in zip(LAWS, (0, 0, 1, 2), strict=True)
    }
    denoiser = JointGaussian(("image", "depth"), covariance, means)
    plan = plans.descend(SCHEDULE.times(6), {"image": 1.0, "depth": 0.0})

    def made(known, mechanisms):
        start = {"image": noise_of(2, 1, 1, 8, 8), "depth": known}
        state = State(start, plan[0].t, SCHEDULE, Generators([7], ("image", "depth")))
        for progress in run(state, denoiser, plan, DDIM(), mechanisms):
            state = progress.state
        assert state.latents["depth"] is known
        return state.latents["image"]

    known = torch.full((1, 1, 8, 8), 1.3, dtype=torch.float64)
    found = made(known, [ACTING[name]])
    other = made(known + 1, [ACTING[name]])
    moved = (other - found).mean()
    # 0.8 where all predictions hear the depth; the second model of a fusion does not, and masks
    # by magnitude change with it
    assert 0.2 < moved < 1.0


@pytest.mark.parametrize("name", ["composable", "semantic", "fusion", "collage", "regions"])
def test_a_branch_that_the_run_has_not_is_refused(name):
    mechanism = replace(ACTING[name], branch="pose")
    with pytest.raises(ValueError, match=r"'pose', but the branches of this run are image"):
        sample(Pixels(LAWS), noise_of(1, 1, 1, 8, 8), [mechanism])


# ---- displacements

BLENDING = {
    **{name: ACTING[name] for name in ("composable", "fusion", "collage")},
    "semantic": SemanticGuidance(edits=[Edit(prompt="b", window=Window.share(0, 1))]),
    "regions": Regions(regions=REGIONS, scene=0.5),
    "condition": ConditionGuidance(1.5),
    "perturbed": PerturbedAttention(2.0),
}


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("name", BLENDING)
def test_a_step_of_dps_is_its_formula_around_and_inside_of_what_blends(name, order):
    """The positive law alone says where it leads; a pixel of the second model is left alone."""
    latents, zeta = noise_of(3, 2, 1, 8, 8), 0.7
    y = noise_of(4, 1, 64)
    known = Measurement(operator=Dense(torch.eye(64).double(), (1, 8, 8)), values=y, noise_std=0.0)
    dps = DPS(measurement=known, scale=zeta)

    def stepped(mechanisms):
        steps = run(state_at(0.6, latents), Pixels(LAWS), [MOVE], DDIM(), mechanisms)
        return next(steps).state.latents["image"]

    blending, (mean, variance) = BLENDING[name], LAWS["positive"]
    alpha, sigma = SCHEDULE.alpha(0.6), SCHEDULE.sigma(0.6)
    slope = alpha * variance / (alpha**2 * variance + sigma**2)
    gap = y.view(1, 1, 8, 8) - (mean + slope * (latents - alpha * mean))
    nudge = zeta * slope * gap / gap.flatten(1).norm(dim=1).view(2, 1, 1, 1)
    plain, found = stepped([blending]), stepped([blending, dps][::order])
    alike = name in ("condition", "perturbed")  # pixels look at nothing
    assert torch.allclose(plain, stepped([]), rtol=0, atol=1e-12) == alike
    if name == "fusion" and order == 1:
        own = plain == stepped([])
        assert 0.1 < own.double().mean() < 0.9
        nudge = torch.where(own, nudge, 0.0)
    assert torch.allclose(found, plain + nudge, rtol=0, atol=1e-12)


def test_a_nudge_of_some_regions_is_weighed_as_they_are():
    """Only "a" asks for one: of the half that is its own, and of half of what it shares with b."""
    latents = noise_of(3, 1, 1, 8, 8)

    def nudging(state, variants):
        found = Pixels(LAWS)(state, variants)
        nudge = torch.full_like(latents, 3.0)
        return [
            {"image": replace(one["image"], nudge=nudge if variant.prompt == "a" else None)}
            for variant, one in zip(variants, found, strict=True)
        ]

    inside = [region.inside(latents) for region in REGIONS]
    for mechanism in (Regions(regions=REGIONS), NoiseCollage(objects=REGIONS, scene=0.5)):
        scene = 0.5 if isinstance(mechanism, NoiseCollage) else (1 - inside[0]) * (1 - inside[1])
        found = mechanism.wrap(nudging, MOVE)(state_at(0.6, latents), [Variant()])[0]["image"]
        want = 3.0 * inside[0] / (inside[0] + inside[1] + scene)
        assert torch.allclose(found.nudge, want, atol=1e-12)


BOX = (0.1, 0.1, 0.4, 0.4)
MASK = torch.zeros(1, 1, 4, 4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Region(prompt="a", box=(0.5, 0, 1.2, 1)), "leaves the picture"),
        (lambda: Region(prompt="a", box=(-0.1, 0, 0.5, 1)), "leaves the picture"),
        (lambda: Region(prompt="a", box=(float("nan"), 0, 0.5, 1)), "leaves the picture"),
        (lambda: Region(prompt="a", box=(0.5, 0.2, 0.5, 1)), "is empty"),
        (lambda: Region(prompt="a", box=(0.5, 0.8, 0.9, 0.2)), "is empty"),
        (lambda: Region(prompt=" ", box=BOX), "needs a prompt"),
        (lambda: Region(prompt="a"), "a box or a mask"),
        (lambda: Region(prompt="a", box=BOX, mask=MASK), "a box or a mask"),
        (lambda: Region(prompt="a", mask=MASK), "is empty"),
        (lambda: Region(prompt="a", mask=MASK[0]), "must be"),
        (lambda: Region(prompt="a", mask=MASK + 2), r"in \[0, 1\]"),
        (lambda: Region(prompt="a", box=BOX, weight=-1.0), "positive"),
        (lambda: NoiseCollage(objects=[]), "0 regions; give 1 to 16"),
        (lambda: Regions(regions=[Region(prompt="a", box=BOX)] * 17), "17 regions; give 1 to 16"),
        (lambda: NoiseCollage(objects=REGIONS, scene=-1.0), "weight of the scene"),
        (lambda: Regions(regions=REGIONS, scene=float("nan")), "weight of the scene"),
        (lambda: Composable(concepts={}), "at least one text"),
        (lambda: Composable(concepts={" ": 1.0}), "at least one text"),
        (lambda: Composable(concepts={"a": float("inf")}), "finite"),
        (lambda: SemanticGuidance(edits=[]), "at least one edit"),
        (lambda: Edit(prompt=""), "needs a prompt"),
        (lambda: Edit(prompt="a", quantile=1.0), "would leave nothing"),
        (lambda: Edit(prompt="a", quantile=-0.1), r"\[0, 1\)"),
        (lambda: Edit(prompt="a", scale=float("nan")), "finite"),
        (lambda: MagicFusion(other=OTHER, temperature=0.0), "temperature > 0"),
        (lambda: MagicFusion(other=OTHER, weight=-1.0), "weight of the second model is -1.0"),
    ],
)
def test_what_does_not_fit_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_prompts_are_named_by_their_text():
    assert ACTING["composable"].prompts() == {"a": "a", "b": "b"}
    assert NEUTRAL["composable"].prompts() == {}
    assert Composable(concepts={"negative": 1.0, "a": 1.0}).prompts() == {"a": "a"}
    assert ACTING["regions"].prompts() == {"a": "a", "b": "b"}

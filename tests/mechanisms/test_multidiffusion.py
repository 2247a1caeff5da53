"""Windows of a wide picture and prompts for regions, averaged in every pixel."""

import pytest
import torch
from gaussian_pixels import PLAIN, SCHEDULE, Pixels, half, noise_of, sample, state_at

from unicond.denoisers.exact import JointGaussian, PixelGaussian
from unicond.mechanisms.blending.classifier_free import ClassifierFree
from unicond.mechanisms.blending.multidiffusion import Panorama, Regions
from unicond.mechanisms.blending.regions import Region
from unicond.sampling import plans
from unicond.sampling.loop import run
from unicond.sampling.noise import Generators
from unicond.sampling.predictions import Prediction
from unicond.sampling.rows import Variant
from unicond.sampling.solvers import DDIM
from unicond.sampling.state import Move, State
from unicond.sampling.window import Window

MOVE = Move({"image": 0.6}, {"image": 0.5})
LEFT = (0.0, 0.0, 0.5, 1.0)


def whole(state, variants=PLAIN):
    """What depends on all that a window holds, of all branches, and where in it: no formula."""
    everything = torch.stack(list(state.latents.values())).sum(0)
    height, width = everything.shape[-2:]
    ramp = torch.arange(height)[:, None] + 0.1 * torch.arange(width)
    mean = everything.mean((-2, -1), keepdim=True)
    return [
        {
            b: Prediction(latents * mean + ramp + state.t[b], latents - ramp * len(v.prompt))
            for b, latents in state.latents.items()
        }
        for v in variants
    ]


@pytest.mark.parametrize("profile", ["flat", "tent"])
@pytest.mark.parametrize(("window", "stride"), [((3, 4), (2, 3)), (3, 1), ((3, 20), None)])
def test_a_panorama_is_the_weighted_mean_of_its_windows(window, stride, profile):
    """Naively, pixel by pixel; image and depth see through the same window, each at its time."""
    size = (5, 13)
    latents = {"image": noise_of(1, 2, 1, *size), "depth": noise_of(2, 2, 1, *size)}
    state = state_at({"image": 0.6, "depth": 0.2}, latents)
    panorama = Panorama(window=window, stride=stride, profile=profile)
    variants = [Variant(), Variant("negative")]
    found = panorama.wrap(whole, MOVE)(state, variants)

    sides = (window, window) if isinstance(window, int) else window
    steps = [max(1, side // 2) for side in sides] if stride is None else stride
    steps = [steps, steps] if isinstance(steps, int) else steps
    starts, lengths = [], [min(side, full) for side, full in zip(sides, size, strict=True)]
    for full, side, step in zip(size, lengths, steps, strict=True):
        places = [p for p in range(0, full, step) if p + side < full]
        starts.append([*places, full - side])
    for number, _ in enumerate(variants):
        for branch in latents:
            total = torch.zeros(2, 2, 1, *size, dtype=torch.float64)
            weights = torch.zeros(size, dtype=torch.float64)
            for top in starts[0]:
                for left in starts[1]:
                    rows, columns = slice(top, top + lengths[0]), slice(left, left + lengths[1])
                    crop = state.at({b: v[..., rows, columns] for b, v in latents.items()}, state.t)
                    part = whole(crop, variants)[number][branch]
                    for i in range(lengths[0]):
                        for j in range(lengths[1]):
                            w = 1.0
                            if profile == "tent":
                                w = min(i + 1, lengths[0] - i) * min(j + 1, lengths[1] - j)
                            total[0, ..., top + i, left + j] += w * part.x0[..., i, j]
                            total[1, ..., top + i, left + j] += w * part.eps[..., i, j]
                            weights[top + i, left + j] += w
            x0, eps = total / weights
            assert torch.allclose(found[number][branch].x0, x0, atol=1e-10)
            assert torch.allclose(found[number][branch].eps, eps, atol=1e-10)


def test_identical_windows_are_the_single_prediction():
    row = noise_of(3, 1, 2, 6, 1).expand(-1, -1, -1, 14)

    def by_row(state, variants=PLAIN):
        latents = state.latents["image"]
        power = latents.square().mean((-2, -1), keepdim=True)
        return [{"image": Prediction(latents * power, latents + power)} for _ in variants]

    wide = Panorama(window=6, stride=2).wrap(by_row, MOVE)(state_at(0.6, row))[0]["image"]
    single = by_row(state_at(0.6, row[..., :6]))[0]["image"]
    assert torch.allclose(wide.x0, single.x0[..., :1].expand_as(row), atol=1e-12)
    assert torch.allclose(wide.eps, single.eps[..., :1].expand_as(row), atol=1e-12)


def test_a_panorama_keeps_the_marginal():
    """Independent pixels: exactly the run without windows, at any width."""
    start = noise_of(1, 1, 1, 16, 200)
    mechanisms = [Panorama(window=16, stride=8), ClassifierFree(2.0)]
    laws = {"positive": (0.4, 0.3), "negative": (0.1, 0.3)}
    found = sample(Pixels(laws), start, mechanisms, steps=150).latents["image"]
    want = sample(Pixels({"positive": (0.7, 0.3)}), start, steps=150).latents["image"]
    assert torch.allclose(found, want, atol=1e-10)
    count = found.numel()
    assert abs(found.mean() - 0.7) < 4 * (0.3 / count) ** 0.5 + 0.01
    assert abs(found.var() - 0.3) < 4 * 0.3 * (2 / count) ** 0.5 + 0.01


def test_a_panorama_of_a_stationary_texture_is_that_texture():
    """Neighbours correlate by 1/2, exactly in each window; tents keep that where windows end."""
    window, width, count = 16, 40, 3000
    places = torch.arange(window, dtype=torch.float64)
    law = PixelGaussian(
        0.5 ** (places[:, None] - places).abs(), torch.zeros(window, dtype=torch.float64)
    )
    start, losses = noise_of(4, count, 1, 1, width), {}
    for profile in ("flat", "tent"):
        panorama = Panorama(window=(1, window), stride=(1, 4), profile=profile)
        found = sample(law, start, [panorama], steps=40).latents["image"][:, 0, 0]
        covariance = found.T @ found / count
        # 40 steps and windows that see less than all: 5 %, and 4 standard errors
        assert (covariance.diag() - 1).abs().max() < 0.05 + 4 * (2 / count) ** 0.5
        losses[profile] = float((covariance.diag(1) - 0.5).abs().max())
    assert losses["tent"] < 0.05 + 4 * (1.25 / count) ** 0.5 < losses["flat"]  # flat shows seams


def test_a_wide_image_follows_the_wide_depth_beside_it():
    """E[image | depth] = 0.8 depth in every column: the windows of both are the same."""
    covariance = torch.tensor([[1.0, 0.8], [0.8, 1.0]], dtype=torch.float64)
    denoiser = JointGaussian(
        ("image", "depth"), covariance, {"positive": torch.zeros(2, dtype=torch.float64)}
    )
    depth = torch.linspace(-2, 2, 48, dtype=torch.float64).expand(1, 1, 400, -1)
    plan = plans.descend(SCHEDULE.times(60), {"image": 1.0, "depth": 0.0})
    start = {"image": noise_of(1, 1, 1, 400, 48), "depth": depth}
    state = State(start, plan[0].t, SCHEDULE, Generators([7], ("image", "depth")))
    panorama = Panorama(window=(400, 8), stride=(400, 4), profile="tent")
    for progress in run(state, denoiser, plan, DDIM(), [panorama]):
        state = progress.state
    assert state.latents["depth"] is depth
    error = state.latents["image"].mean(-2) - 0.8 * depth.mean(-2)
    assert error.abs().max() < 4 * (0.36 / 400) ** 0.5 + 0.02
    with pytest.raises(ValueError, match="all branches of one size"):
        panorama.begin(state_at(0.5, {"image": depth, "depth": depth[..., :40]}))


def test_windows_are_counted_and_may_not_leave_gaps():
    denoiser = Pixels({"positive": (0.0, 1.0)})
    for width, calls in ((8, 1), (9, 2), (12, 2), (13, 3), (64, 15)):
        before = len(denoiser.calls)
        latents = noise_of(1, 1, 1, 8, width)
        Panorama(window=8).wrap(denoiser, MOVE)(state_at(0.6, latents))
        assert len(denoiser.calls) - before == calls
    for window, stride in ((8, 9), (8, 0), ((8, 4), 5), (0, None), ((4, -1), 1)):
        with pytest.raises(ValueError, match=r"windows? of"):
            Panorama(window=window, stride=stride)


# ---- regions

LAWS = {
    "positive": (0.3, 1.0),
    "negative": (0.0, 1.0),
    "ball": (2.0, 1.0),
    "box": (half(-1, 1, 16), 1.0),
}


def region_means(scene=0.0, g=1.0):
    """Means of a 16 x 16 picture: ball in the left half, box (weight 3) in a mask that overlaps."""
    mean = torch.full((16, 16), g * 0.3, dtype=torch.float64)
    mean[:, :8] = (g * 2 + scene * g * 0.3) / (1 + scene)
    mean[4:8, 8:12] = (3 * g * 1 + scene * g * 0.3) / (3 + scene)
    mean[4:8, 4:8] = (g * 2 + 3 * g * -1 + scene * g * 0.3) / (4 + scene)
    return mean


@pytest.mark.parametrize(("scene", "g"), [(0.0, 1.0), (0.5, 1.0), (0.5, 3.0)])
def test_each_region_follows_its_own_prompt(scene, g):
    """One covariance: the mean is that of the prompts by weight; text guidance acts on each."""
    mask = torch.zeros(1, 1, 32, 32)
    mask[..., 8:16, 8:24] = 1
    regions = [Region(prompt="ball", box=LEFT), Region(prompt="box", mask=mask, weight=3.0)]
    start = noise_of(1, 2, 1, 16, 16)
    mechanisms = [Regions(regions=regions, scene=scene), ClassifierFree(g)]
    found = sample(Pixels(LAWS), start, mechanisms).latents["image"]
    want = {"positive": (region_means(scene, g), 1.0)}
    assert torch.allclose(found, sample(Pixels(want), start).latents["image"], atol=1e-10)


def test_soft_masks_leave_their_share_to_the_scene():
    regions = [Region(prompt="ball", mask=torch.full((1, 1, 4, 4), 0.25))]
    found = Regions(regions=regions).wrap(Pixels(LAWS), MOVE)(
        state_at(0.6, noise_of(1, 1, 1, 16, 16))
    )[0]["image"]
    mixed = {"positive": (0.25 * 2.0 + 0.75 * 0.3, 1.0)}
    state = state_at(0.6, noise_of(1, 1, 1, 16, 16))
    assert torch.allclose(found.x0, Pixels(mixed).predict(state, "image", "positive").x0)


def test_a_box_holds_every_latent_that_it_touches():
    inside = Region(prompt="a", box=(1 / 3, 0.5, 2 / 3, 0.51)).inside(torch.zeros(1, 4, 6, 9))
    assert inside.shape == (1, 1, 6, 9)
    assert torch.equal(inside[0, 0].nonzero(), torch.tensor([[3, 3], [3, 4], [3, 5]]))


def test_bootstrapping_shows_a_region_a_plain_colour_around_it():
    denoiser = Pixels(LAWS)
    regions = [Region(prompt="ball", box=LEFT), Region(prompt="box", box=(0.5, 0.5, 1, 1))]
    mechanism = Regions(regions=regions, bootstrap=Window.share(0, 0.5))
    latents = noise_of(1, 2, 3, 16, 16)
    clean = 0.002  # where nearly all that is seen is the colour
    early = Move({"image": clean}, {"image": 0.0}, shares={"image": 0.4})
    mechanism.wrap(denoiser, early)(state_at(clean, latents))
    (first, asked), *alone = denoiser.calls
    assert [variant.prompt for variant in asked] == ["positive"]
    assert torch.equal(first.latents["image"], latents)
    assert [[variant.prompt for variant in v] for _, v in alone] == [["ball"], ["box"]]
    for (state, _), region in zip(alone, regions, strict=True):
        seen, inside = state.latents["image"], region.inside(latents) > 0
        assert torch.equal(seen.where(inside, 0.0), latents.where(inside, 0.0))
        around = [channel[~inside[0, 0]] for row in seen for channel in row]
        spread = SCHEDULE.sigma(clean)
        assert all(0.8 * spread < values.std() < 1.2 * spread for values in around)
        levels = torch.stack([values.mean() for values in around])
        assert levels.std() > 0.3  # a colour for each sample and channel
    late = Move({"image": clean}, {"image": 0.0}, shares={"image": 0.5})
    mechanism.wrap(denoiser, late)(state_at(clean, latents))
    assert [v.prompt for v in denoiser.calls[-1][1]] == ["positive", "ball", "box"]


def test_a_mask_for_another_number_of_samples_is_refused():
    regions = [Region(prompt="ball", mask=torch.ones(3, 1, 4, 4))]
    with pytest.raises(ValueError, match="has 3 rows, but there are 2 samples"):
        sample(Pixels(LAWS), noise_of(1, 2, 1, 8, 8), [Regions(regions=regions)])

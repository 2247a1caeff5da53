"""RePaint, CCDF and ILVR on closed-form Gaussians."""

import pytest
import torch
from measured import (
    SHAPE,
    TRUTH,
    VP,
    Drawn,
    Fixed,
    N,
    gaussian,
    measured,
    random,
    sample,
    spread,
    start,
)

from unicond.mechanisms.correction.ccdf import CCDF
from unicond.mechanisms.correction.ilvr import ILVR
from unicond.mechanisms.correction.repaint import resampled
from unicond.mechanisms.correction.replacement import Replacement
from unicond.mechanisms.measurement import Measurement
from unicond.operators.quantisation import Quantisation
from unicond.operators.resizing import super_resolution
from unicond.sampling import plans
from unicond.sampling.noise import Generators
from unicond.sampling.state import Move
from unicond.sampling.window import Window

BOARD = (1, 4, 4)
ESTIMATE = TRUTH.view(1, *SHAPE) + 0.3
METHODS = {
    "ccdf": lambda **o: CCDF(measurement=measured(), estimate=ESTIMATE, **o),
    "ilvr": lambda **o: ILVR(reference=random(1, 1, 4, 4, seed=3), factor=2, **o),
}


def board(variance=1.0):
    return gaussian(variance * torch.eye(16).double(), torch.zeros(16).double())


def fall(count):
    return plans.descend(VP.times(count), {"image": 1.0})


@pytest.mark.parametrize(("count", "jump", "repeats"), [(12, 3, 4), (250, 10, 10), (11, 10, 2)])
def test_every_stretch_is_gone_r_times(count, jump, repeats):
    plan = fall(count)
    moves = resampled(plan, jump, repeats)
    plans.check(moves)
    up = [move for move in moves if move.kind == "renoise"]
    stretches = (count - 1) // jump
    assert len(up) == stretches * (repeats - 1)
    assert len(moves) - len(up) == count + jump * (repeats - 1) * stretches
    visits = [sum(move.t == one.t and move.kind == "step" for move in moves) for one in plan]
    once = count - 1 - stretches * jump
    assert visits == [1] * once + [repeats] * (stretches * jump) + [1]
    assert resampled(plan, jump, 1) == plan


def test_held_branches_are_held_on_the_way_up():
    plan = plans.descend(VP.times(7), {"image": 1.0, "depth": 0.0})
    moves = resampled(plan, 2, 3)
    assert all(move.t["depth"] == move.s["depth"] == 0.0 for move in moves)
    assert plans.held(moves) == {"depth"}


def line():
    """Correlated pixels in a line, the first half of them known."""
    size, half = 8, 4
    place = torch.arange(size).double()
    covariance = 0.95 * torch.exp(-((place[:, None] - place) ** 2) / 8) + 0.05 * torch.eye(size)
    mask = torch.zeros(1, 1, 1, size).double()
    mask[..., :half] = 1
    return covariance, mask, (size, half)


@pytest.mark.parametrize("solver", ["ddim", "ddpm"])
@pytest.mark.parametrize(("jump", "repeats"), [(2, 5), (10, 10)])
def test_repaints_free_part_has_nearly_its_conditional_covariance(solver, jump, repeats):
    """Of all noise that is drawn: within 16 % where replacement is 17 to 27 % off, and nearer.

    Exact it is only for many repeats of many moves; the rest is computed beside, by matrices: 0.12,
    0.16 of the conditional covariance's norm with DDIM, 0.11 and 0.13 with DDPM.
    """
    covariance, mask, (size, half) = line()
    inner, across = covariance[:half, :half], covariance[half:, :half]
    want = covariance[half:, half:] - across @ torch.linalg.solve(inner, across.T)
    known = [Replacement("image", torch.zeros(1, 1, 1, size).double(), mask)]
    prior = gaussian(covariance, torch.zeros(size).double())
    options = {"steps": 31, "solver": solver, "denoiser": prior}
    errors = [
        float((spread(known, (1, 1, size), remake=remake, **options)[half:, half:] - want).norm())
        for remake in (list, lambda p: resampled(p, jump, repeats))
    ]
    assert errors[1] < 0.16 * want.norm()
    assert errors[1] < 0.75 * errors[0], errors


@pytest.mark.parametrize("solver", ["ddim", "ddpm"])
@pytest.mark.parametrize(("jump", "repeats"), [(2, 5), (10, 10)])
def test_repaints_free_part_follows_the_known_one(solver, jump, repeats):
    """Correlated pixels in a line: the mean of the free ones is nearer to the conditional mean.

    Without noise a run follows its mean, which is linear in the known part: `K known`. The error
    is its mean square over what the known part can be, `trace (K - K*) C (K - K*)^T`.
    """
    covariance, mask, (size, half) = line()
    known = torch.eye(half, size).double().view(half, 1, 1, size)
    inner, across = covariance[:half, :half], covariance[half:, :half]
    errors = {}
    for name, remake in {
        "replacement": list,
        "repaint": lambda p: resampled(p, jump, repeats),
    }.items():
        out = sample(
            [Replacement("image", known, mask)],
            steps=31,
            solver=solver,
            latents=torch.zeros(half, 1, 1, size).double(),
            denoiser=gaussian(covariance, torch.zeros(size).double()),
            remake=remake,
        )
        assert torch.equal(out[:, :half], torch.eye(half).double())
        gap = out[:, half:].T - torch.linalg.solve(inner, across.T).T
        errors[name] = (gap @ inner @ gap.T).trace().sqrt()
    assert errors["repaint"] < 0.7 * errors["replacement"], errors


def test_ccdf_starts_at_the_noised_estimate():
    count, t = 4000, 0.3
    state = METHODS["ccdf"]().begin(start(torch.zeros(count, *SHAPE).double(), t, Drawn()))
    alpha, sigma = VP.alpha(t), VP.sigma(t)
    left = state.latents["image"] - alpha * ESTIMATE
    error = 4 / (count * N) ** 0.5
    assert abs(left.mean()) < error * sigma
    assert abs(left.var() - sigma**2) < 2**0.5 * error * sigma**2


@pytest.mark.parametrize("s", [0.2, 0.0])
def test_the_projection_is_its_formula(s):
    """`(I - A^+ A) x_s + A^+ (alpha_s y + sigma_s A z)`, by matrices."""
    m, z, latents = measured(), random(2, *SHAPE, seed=8), random(2, *SHAPE)
    state = start(latents, s, Fixed(z))
    move = Move({"image": 0.3}, {"image": s})
    found = METHODS["ccdf"]().settle(state, {}, move).latents["image"].flatten(1)
    a = m.operator.matrix
    inverse = torch.linalg.pinv(a)
    noisy = VP.alpha(s) * m.values + VP.sigma(s) * z.flatten(1) @ a.T
    want = latents.flatten(1) @ (torch.eye(N).double() - inverse @ a).T + noisy @ inverse.T
    assert torch.allclose(found, want, atol=1e-12)


def test_ccdf_ends_with_what_was_measured():
    out = sample([METHODS["ccdf"]()], steps=5, t=0.3, noise=Drawn(), latents=random(2, *SHAPE))
    assert measured().gap(out.view(2, *SHAPE)).abs().max() < 1e-10


@pytest.mark.parametrize("kind", ["step", "renoise"])
def test_ilvr_is_its_formula(kind):
    """`x_s + phi(y_s) - phi(x_s)`, phi as a matrix; what is fine stays."""
    reference, z, latents = (
        random(1, 1, 4, 4, seed=3),
        random(2, 1, 4, 4, seed=8),
        random(2, *BOARD),
    )
    mechanism = ILVR(reference=reference, factor=2)
    s = 0.4
    move = Move({"image": 0.5 if kind == "step" else 0.3}, {"image": s}, kind)
    state = mechanism.settle(start(latents, s, Fixed(z)), {}, move)
    places = torch.arange(16).view(4, 4)
    phi = torch.zeros(16, 16).double()
    for top in (0, 2):
        for left in (0, 2):
            block = places[top : top + 2, left : left + 2].flatten()
            phi[block[:, None], block] = 0.25
    y = VP.alpha(s) * reference + VP.sigma(s) * z
    want = latents.flatten(1) + (y - latents).flatten(1) @ phi.T
    assert torch.allclose(state.latents["image"].flatten(1), want, atol=1e-12)


def test_ilvr_ends_with_the_references_averages():
    """For all of its low-pass; that of the same prior without it is another."""
    reference = random(1, 1, 8, 8, seed=3)
    low = super_resolution((1, 8, 8), 4).forward
    prior = gaussian(torch.eye(64).double(), torch.zeros(64).double())
    options = {"denoiser": prior, "latents": random(2, 1, 8, 8), "noise": Drawn()}
    out = sample([ILVR(reference=reference, factor=4)], **options).view(2, 1, 8, 8)
    assert (low(out) - low(reference)).abs().max() < 1e-10
    plain = sample([], **options).view(2, 1, 8, 8)
    assert (low(plain) - low(reference)).abs().max() > 0.1


def test_a_closed_window_is_absent():
    latents, noises = random(2, *BOARD), [Fixed(), Fixed()]
    plain = sample([], latents=latents, noise=noises[0], solver="ddpm", denoiser=board())
    closed = [METHODS["ilvr"](window=Window.steps(0, 0))]
    found = sample(closed, latents=latents, noise=noises[1], solver="ddpm", denoiser=board())
    assert torch.equal(plain, found)
    assert noises[0].draws == noises[1].draws


def test_held_branches_are_left_alone():
    held = Move({"image": 0.0}, {"image": 0.0})
    for name, mechanism in METHODS.items():
        state = start(random(1, *(BOARD if name == "ilvr" else SHAPE)), 0.0)
        assert mechanism().settle(state, {}, held) is state


@pytest.mark.parametrize("name", [*METHODS, "replacement"])
def test_what_is_inverted_is_left_alone(name):
    """Its own branch's way up along the flow alone: not another's, nor a jump of noise."""
    latents = random(1, *(BOARD if name == "ilvr" else SHAPE))
    known = Replacement("image", torch.zeros_like(latents), torch.ones_like(latents[:, :1]))
    mechanism = known if name == "replacement" else METHODS[name]()
    up, noised = (Move({"image": 0.3}, {"image": 0.5}, kind) for kind in ("step", "renoise"))
    beside = Move({"image": 0.6, "source": 0.3}, {"image": 0.5, "source": 0.5})
    noise = Fixed()
    state = start(latents, 0.5, noise)
    assert mechanism.settle(state, {}, up) is state
    assert noise.draws == 0
    assert not mechanism.displaces(up)
    for move in (noised, beside):
        assert not torch.equal(mechanism.settle(state, {}, move).latents["image"], latents)
        assert mechanism.displaces(move) == ("image",)


@pytest.mark.parametrize("name", METHODS)
def test_a_sample_does_not_depend_on_its_batch(name):
    shape = BOARD if name == "ilvr" else SHAPE
    latents, seeds = random(3, *shape), (4, 5, 6)

    def draw(rows):
        noise = Generators([seeds[row] for row in rows])
        denoiser = board() if name == "ilvr" else None
        return sample([METHODS[name]()], 6, "ddpm", latents[rows], noise, denoiser=denoiser, t=0.5)

    together = draw([0, 1, 2])
    for row in range(3):
        assert torch.allclose(draw([row])[0], together[row], atol=1e-10)


def not_linear():
    operator = Quantisation(shape=SHAPE, levels=4)
    values = operator.forward(TRUTH.view(1, *SHAPE))
    return Measurement(operator=operator, values=values, noise_std=0.0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: resampled(fall(10), 0, 2), "must be 1 or more, not 0 and 2"),
        (lambda: resampled(fall(10), 10, 2), "a plan of 10 moves has no stretch of 10"),
        (
            lambda: resampled([Move({"a": 0.2}, {"a": 0.4})] * 3, 1, 2),
            "branch 'a' goes up in the plan, from 0.2 to 0.4",
        ),
        (lambda: ILVR(reference=torch.zeros(1, 1, 6, 4), factor=4), "divide both sides"),
        (lambda: ILVR(reference=torch.zeros(1, 1, 4, 4), factor=1), "must be 2 or more"),
        (
            lambda: sample([METHODS["ilvr"]()]),
            r"reference has shape \(1, 1, 4, 4\), the latents of 'image' \(1, 1, 2, 3\)",
        ),
        (lambda: sample([METHODS["ccdf"]()]), "but the plan starts 'image' at t=1.0"),
        (
            lambda: sample([CCDF(measurement=measured(), estimate=torch.zeros(1, 1, 2, 2))], t=0.3),
            r"the estimate has shape \(1, 1, 2, 2\)",
        ),
        (
            lambda: CCDF(measurement=not_linear(), estimate=ESTIMATE),
            "CCDF needs the singular values of a linear operator",
        ),
    ],
)
def test_what_cannot_correct_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()

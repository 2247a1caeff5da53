"""Closed forms: the v target, its loss, min-SNR's weights."""

import pytest
import torch

from unicond.sampling.predictions import from_output
from unicond.sampling.schedules import from_config
from unicond.training.diffusion import Noising, mini_scheduler, squared_error


@pytest.fixture(scope="module")
def noising():
    return Noising.of(mini_scheduler(), "cpu")


def test_the_schedule_ends_in_pure_noise_and_trails(noising):
    assert float(noising.alpha[-1]) == 0.0
    assert noising.schedule.spacing == "trailing"
    assert noising.schedule.prediction_type == "v"
    assert len(noising) == 1000


def test_a_perfect_prediction_has_loss_zero_and_gives_x0(noising):
    generator = torch.Generator().manual_seed(0)
    x0, noise = (torch.randn(4, 2, 3, 3, generator=generator) for _ in range(2))
    index = torch.tensor([0, 300, 700, 999])
    noisy, target = noising.noised(x0, index, noise)
    assert torch.equal(squared_error(target, target), torch.zeros(4))
    for row in range(4):
        alpha, sigma = float(noising.alpha[index[row]]), float(noising.sigma[index[row]])
        read = from_output(target[row], noisy[row], alpha, sigma, "v")
        assert torch.allclose(read.x0, x0[row], atol=1e-5)
        assert torch.allclose(read.eps, noise[row], atol=1e-5)


def test_errors_are_means_by_weight():
    errors = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]], [[0.0, 0.0], [0.0, 6.0]]]])
    weight = torch.tensor([[[[1.0, 1.0], [1.0, 5.0]]]])
    found = squared_error(errors, torch.zeros_like(errors), weight)
    assert found.tolist() == pytest.approx([(1 + 4 + 9 + 5 * (16 + 36)) / (2 * 8)])
    same = squared_error(errors, torch.zeros_like(errors), torch.full_like(weight, 3.0))
    assert same.tolist() == pytest.approx([(1 + 4 + 9 + 16 + 36) / 8])


def test_clean_rows_are_exactly_clean(noising):
    x0 = torch.randn(2, 1, 2, 2)
    clean = torch.tensor([True, False])
    noisy, _ = noising.noised(x0, torch.zeros(2, dtype=torch.int64), torch.randn(2, 1, 2, 2), clean)
    assert torch.equal(noisy[0], x0[0])
    assert not torch.equal(noisy[1], x0[1])


def test_min_snr_is_the_papers_but_for_its_floor(noising):
    index = torch.arange(1000)
    snr = (noising.alpha.double() / noising.sigma.double()).square()
    paper = snr.clamp_max(5) / (snr + 1)
    found = noising.min_snr(index, 5.0, 0.0).double()
    assert torch.allclose(found, paper, atol=1e-6)
    assert float(noising.min_snr(index, 5.0, 0.1)[-1]) == pytest.approx(0.1)
    assert float(found[-1]) == 0.0


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_weights_of_every_kind_weigh_x0s_error_alike(kind):
    """With errors `e` of x0: eps is off by `e alpha / sigma`, v by `e / sigma`."""
    config = {"num_train_timesteps": 1000, "beta_schedule": "scaled_linear"}
    config |= {"beta_start": 0.00085, "beta_end": 0.012, "prediction_type": kind}
    noising = Noising.on(from_config(config), "cpu")
    alpha, sigma = noising.alpha.double(), noising.sigma.double()
    error = {"epsilon": alpha / sigma, "v_prediction": 1 / sigma, "sample": 1.0}[kind]
    found = noising.min_snr(torch.arange(1000), 5.0, 0.0).double() * error**2
    assert torch.allclose(found, (alpha / sigma).square().clamp_max(5), rtol=1e-4)


def test_flow_matching_is_refused():
    with pytest.raises(ValueError, match="variance-preserving"):
        Noising.on(from_config({"_class_name": "FlowMatchEulerDiscreteScheduler"}), "cpu")


def test_times_cover_the_schedule_evenly(noising):
    index = noising.spread(10, torch.Generator().manual_seed(0))
    assert sorted((index // 100).tolist()) == list(range(10))
    assert not torch.equal(index, index.sort().values)


def test_times_gather_where_signal_and_noise_weigh_alike(noising):
    index = noising.spread(50_000, torch.Generator().manual_seed(0), uniform_share=0.2)
    found = torch.bincount(index // 100, minlength=10) / len(index)
    middle = (noising.alpha * noising.sigma).square().view(10, 100).sum(1)
    wanted = 0.2 / 10 + 0.8 * middle / middle.sum()
    assert torch.allclose(found, wanted, atol=1e-3)  # the jitter of 50,000 equal parts


def test_scored_times_come_in_turn(noising):
    assert noising.scored(torch.arange(4)).tolist() == [999, 700, 400, 999]

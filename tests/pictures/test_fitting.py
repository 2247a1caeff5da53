"""Pictures are brought to sizes that the latents can hold, only in the way that was asked for."""

import pytest
import torch

from unicond.pictures import PictureError, allowed_size, check_size, fit, resized


def ramp(height, width):
    return torch.linspace(-1, 1, width).expand(3, height, width).clone()


@pytest.mark.parametrize("policy", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("size", [128, (64, 192), (192, 64)])
@pytest.mark.parametrize("shape", [(131, 200), (160, 97), (1, 7), (640, 480)])
def test_every_policy_gives_the_size(policy, size, shape):
    fitted = fit(ramp(*shape), size, 64, policy)
    assert fitted.shape == (3, *((size, size) if isinstance(size, int) else size))
    assert fitted.abs().max() <= 1


def test_crop_keeps_the_middle_and_the_proportions():
    picture = ramp(100, 300)
    fitted = fit(picture, 100, 4, "crop")
    assert torch.equal(fitted, picture[:, :, 100:200])
    upright = picture.mT
    assert torch.equal(fit(upright, 100, 4, "crop"), upright[:, 100:200])
    half = fit(picture, 50, 2, "crop")
    assert half.mean().abs() < 1e-6
    assert (half[0, 0, -1] - half[0, 0, 0] - 98 / 299 * 2).abs() < 0.01


def test_stretch_keeps_both_ends_and_pad_keeps_all():
    picture = ramp(40, 80)
    stretched = fit(picture, 80, 8, "stretch")
    torch.testing.assert_close(stretched[:, 0], picture[:, 0])
    padded = fit(picture, 80, 8, "pad", fill=-0.5)
    assert torch.equal(padded[:, 20:60], picture)
    assert (padded[:, :20] == -0.5).all()
    assert (padded[:, 60:] == -0.5).all()


def test_keep_changes_nothing_or_refuses():
    picture = ramp(64, 128)
    assert fit(picture, None, 64, "keep") is picture
    with pytest.raises(
        PictureError,
        match="cannot hold height 131, width 200: both must be multiples of 64; nearest are "
        "height 128 or 192, width 192 or 256",
    ):
        fit(ramp(131, 200), None, 64, "keep")
    with pytest.raises(PictureError, match="has height 64, width 128, but 64, 64 is asked for"):
        fit(picture, 64, 64, "keep")


def test_sizes_that_the_latents_cannot_hold_are_named():
    check_size(64, 128, 64)
    with pytest.raises(PictureError, match=r"nearest are height 64, width 128$"):
        check_size(7, 128, 64)
    with pytest.raises(PictureError, match=r"nearest are height 8, width 8$"):
        check_size(0, -8, 8)
    with pytest.raises(
        PictureError, match="multiples of 32; nearest are height 96 or 128, width 96"
    ):
        fit(ramp(50, 50), 100, 32)
    with pytest.raises(ValueError, match="policy 'squash' is not known; choose one of"):
        fit(ramp(8, 8), 8, 8, "squash")


def test_the_allowed_size_is_the_nearest_in_the_same_proportions():
    assert allowed_size(131, 200, 8) == (128, 200)
    assert allowed_size(131, 200, 64) == (128, 192)
    assert allowed_size(3, 3, 8) == (8, 8)
    assert allowed_size(1310, 2000, 8, area=128**2) == (104, 160)
    assert fit(ramp(131, 200), None, 64).shape == (3, 128, 192)


def test_shrinking_averages_and_nothing_overshoots():
    noise = torch.randn(1, 128, 128, generator=torch.Generator().manual_seed(0))
    for mode in ("smooth", "linear"):
        assert resized(noise, (16, 16), mode).std() < 0.2  # 8 x 8 pixels make one
    step = torch.where(torch.arange(32) < 16, -0.5, 0.5).expand(1, 32, 32)
    for mode in ("smooth", "linear", "nearest"):
        assert resized(step, (45, 45), mode).abs().max() <= 0.5
    assert resized(step, (45, 45), "nearest").unique().tolist() == [-0.5, 0.5]

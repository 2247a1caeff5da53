"""Error along the edge of a mask, against distances worked out one pixel at a time."""

import pytest
import torch

from unicond.evaluation.metrics_pictures import boundary, boundary_error


def masks_of(seed, shape=(2, 1, 14, 17)):
    return (torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < 0.97).float()


@pytest.mark.parametrize("width", [1, 2.5, 4])
def test_the_band_is_all_within_the_distance_of_the_other_side(width):
    masks = masks_of(0)
    found = boundary(masks, width)
    height, wide = masks.shape[-2:]
    for mask, band in zip(masks[:, 0] >= 0.5, found[:, 0], strict=True):
        for i in range(height):
            for j in range(wide):
                other = (mask != mask[i, j]).nonzero()
                near = (other - torch.tensor([i, j])).square().sum(1).min() <= width**2
                assert band[i, j] == near


def test_a_straight_edge_has_four_rows_on_each_side():
    mask = torch.zeros(1, 1, 32, 32)
    mask[..., 20:] = 1
    band = boundary(mask)
    assert band.sum() == 8 * 32
    assert band[..., 16:24].all()
    assert torch.equal(boundary(1 - mask), band)


def test_the_error_is_the_mean_over_the_band_of_each_sample():
    references = torch.rand((2, 3, 32, 32), generator=torch.Generator().manual_seed(1))
    mask = torch.zeros(1, 1, 32, 32)
    mask[..., 20:] = 1
    pictures = references.clone()
    pictures[..., :16] += 100  # beyond the band nothing counts
    pictures[..., 24:] -= 100
    assert torch.equal(boundary_error(pictures, references, mask), torch.zeros(2).double())
    pictures[1, :, :, 17] += 0.8  # one of eight columns
    error = boundary_error(pictures, references, mask)
    assert error[0] == 0
    assert error[1] == pytest.approx(0.1, abs=1e-6)  # float32 pictures
    assert boundary_error(pictures, references, mask, width=1).max() == 0


@pytest.mark.parametrize(
    ("mask", "width", "message"),
    [
        (torch.ones(1, 1, 8, 8), 4, r"masks \[0\] have no edge"),
        (torch.zeros(2, 1, 8, 8), 4, r"masks \[0, 1\] have no edge"),
        (torch.zeros(1, 8, 8), 4, r"masks must be \(B, 1, H, W\)"),
        (torch.zeros(1, 1, 8, 8), 0.5, "width at least 1"),
        (torch.zeros(1, 1, 4, 4), 4, "are not of the pictures' size"),
    ],
)
def test_masks_without_an_edge_are_refused(mask, width, message):
    pictures = torch.zeros(1, 3, 8, 8)
    with pytest.raises(ValueError, match=message):
        boundary_error(pictures, pictures, mask, width)

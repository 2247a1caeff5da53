"""White is known; masks that know nothing or everything are refused."""

import numpy as np
import pytest
import torch
from PIL import Image

from unicond.pictures import PictureError, read_mask


def half(height=8, width=12):
    mask = np.zeros((height, width), np.uint8)
    mask[:, : width // 2] = 255
    return mask


def test_white_is_known_from_every_source(tmp_path):
    Image.fromarray(half()).save(tmp_path / "a.png")
    expected = torch.zeros(1, 8, 12)
    expected[:, :, :6] = 1
    bits = half() > 0
    sources = [tmp_path / "a.png", Image.fromarray(bits), half(), bits, bits.astype(float)]
    sources += [torch.from_numpy(bits), expected, np.dstack([half()] * 3)]
    sources.append(np.dstack([np.full_like(half(), 255)] * 3 + [half()]))  # a hole is free
    for source in sources:
        torch.testing.assert_close(read_mask(source), expected)
    torch.testing.assert_close(read_mask(half(), invert=True), 1 - expected)


def test_soft_values_stay_and_other_sizes_make_no_new_ones():
    soft = np.array([[0.0, 0.25], [0.5, 1.0]])
    mask = read_mask(soft, size=(7, 7))
    assert mask.shape == (1, 7, 7)
    assert mask.unique().tolist() == [0, 0.25, 0.5, 1]
    assert read_mask(half(80, 121), size=(8, 12)).shape == (1, 8, 12)


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        (np.zeros((4, 4)), {}, "the mask is empty: all black, so nothing .* is known"),
        (np.ones((4, 4)), {}, "all white, so nothing is free"),
        (np.ones((4, 4)), {"invert": True}, "the mask is empty"),
        (np.eye(64), {"size": (1, 1)}, "the mask is empty|all white"),
        (half(), {"size": (8, 8)}, "height 8, width 12, but its picture 8, 8: other proportions"),
        (np.full((4, 4), 3.0), {}, r"lie in \[3, 3\]; give \[0, 1\]"),
        (np.full((4, 4), np.nan), {}, r"lie in \[nan, nan\]"),
        (torch.zeros(3, 4, 4), {}, r"shape \(3, 4, 4\); give \(H, W\) or \(1, H, W\)"),
        ("nowhere.png", {}, "does not exist"),
    ],
)
def test_bad_masks_are_refused(source, options, message):
    with pytest.raises(PictureError, match=message):
        read_mask(source, **options)

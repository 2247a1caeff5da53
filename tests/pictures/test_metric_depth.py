"""Metric depth as grey: the scale that the adapter's card states."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

from unicond.pictures.files import PictureError
from unicond.pictures.metric_depth import (
    draw_metric_depth,
    read_metres,
    read_metric_depth,
    write_metres,
)


def test_the_scale_is_the_stated_one():
    metres = torch.tensor([0.5, 1.0, math.sqrt(40.0), 40.0, 90.0, 3.0])
    drawn = draw_metric_depth(metres, torch.tensor([True] * 5 + [False]))
    assert drawn.tolist() == pytest.approx([1.0, 1.0, 0.0, -1.0, -1.0, -1.0], abs=1e-6)


def test_reading_undoes_drawing():
    metres = torch.linspace(1, 40, 48).reshape(2, 1, 4, 6)
    drawn = draw_metric_depth(metres, torch.ones_like(metres, dtype=torch.bool))
    assert drawn.dtype == torch.float32
    found = read_metric_depth(drawn.expand(-1, 3, -1, -1))
    assert found.shape == metres.shape
    assert torch.allclose(found, metres.double(), rtol=1e-5)


def test_a_grey_level_is_a_ratio():
    near, far = (read_metric_depth(torch.full((1, 1, 1, 2), v)).flatten()[0] for v in (0.5, -0.5))
    step = 2 / 255
    for value, metres in ((0.5, near), (-0.5, far)):
        closer = read_metric_depth(torch.full((1, 1, 1, 1), value + step))
        assert float(metres / closer) == pytest.approx(40 ** (1 / 255), rel=1e-5)
    assert float(read_metric_depth(torch.full((1, 3, 1, 1), 7.0))) == 1.0


def test_metres_are_read_from_arrays_and_from_millimetres(tmp_path):
    metres = np.array([[2.0, 4.0, 0.0], [8.0, 16.0, np.nan]], np.float32)
    np.save(tmp_path / "m.npy", metres)
    millimetres = (np.nan_to_num(metres) * 1000).astype(np.uint16)
    Image.fromarray(millimetres).save(tmp_path / "mm.png")
    expected = draw_metric_depth(torch.from_numpy(metres), torch.from_numpy(metres > 0))
    for source in (tmp_path / "m.npy", tmp_path / "mm.png", metres):
        found = read_metres(source)
        assert found.shape == (3, 2, 3)
        # the reader of pictures works in float32 shares of 65535
        assert torch.allclose(found, expected.expand(3, -1, -1), atol=1e-5)
    Image.fromarray(np.full((4, 4), 9, np.uint8)).save(tmp_path / "small.png")
    with pytest.raises(
        PictureError, match=r"8 bit .*give 16 bit in millimetres, or \.npy in metres"
    ):
        read_metres(tmp_path / "small.png")
    with pytest.raises(PictureError, match="negative distances"):
        read_metres(-metres)


def test_what_is_written_is_read_again(tmp_path):
    metres = torch.linspace(1, 40, 24).reshape(4, 6)
    drawn = draw_metric_depth(metres, metres > 0).expand(3, -1, -1)
    for path in write_metres(drawn, tmp_path / "d.png"):
        # millimetres are rounded: half of one at one metre
        assert torch.allclose(read_metres(path), drawn, atol=4e-4)

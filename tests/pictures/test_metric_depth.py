"""Metric depth as grey: the scale that the adapter's card states."""

import math

import pytest
import torch

from unicond.pictures.metric_depth import draw_metric_depth, read_metric_depth


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

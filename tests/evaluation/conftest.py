"""Tiny networks that several tests look at pictures with."""

import pytest
import tiny_grounding
import torch


@pytest.fixture(scope="session")
def grounding(tmp_path_factory):
    """A folder with `detector` and `segmenter`, tiny and random."""
    place = tmp_path_factory.mktemp("grounding")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        tiny_grounding.save_detector(place / "detector")
        torch.manual_seed(0)
        tiny_grounding.save_segmenter(place / "segmenter")
    return place

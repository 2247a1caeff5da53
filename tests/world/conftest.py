"""Scenes that several tests of the world share."""

import pytest
import torch

from unicond.world import Rendering, Scene, World, render


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def scenes() -> list[Scene]:
    return World(21).scenes(0, 200)


@pytest.fixture(scope="session")
def rendering(scenes) -> Rendering:
    return render(scenes, 96, style="photo", smooth=False)

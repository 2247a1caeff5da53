"""What several tests stand on: a tiny random model in the hub's own layout."""

import shutil
from pathlib import Path

import pytest

import unicond

GOLDEN = Path(__file__).parent / "golden" / "unicon"


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory):
    """A Stable-Diffusion-shaped base with random weights: 8 x 8 latents, cross width 32."""
    folder = tmp_path_factory.mktemp("bases") / "tiny"
    shutil.copytree(GOLDEN / "base", folder)
    (folder / "unicond.json").write_text('{"num_inference_steps": 3, "estimation_steps": 2}')
    return folder


@pytest.fixture(scope="session")
def tiny(tiny_base):
    """The tiny base with the depth and identity adapters of the published layout."""
    adapters = {"depth": GOLDEN / "weights" / "depth", "id": GOLDEN / "weights" / "id"}
    return unicond.load(tiny_base, adapters)

import copy

import pytest
import torch
from diffusers import UNet2DConditionModel
from golden_unicon import ROOT

from unicond.adapters.joint import JointAdapter


@pytest.fixture(scope="session")
def loaded():
    unet = UNet2DConditionModel.from_pretrained(ROOT / "base/unet").requires_grad_(False)
    names = ("depth", "id")
    return unet, {name: JointAdapter.from_pretrained(ROOT / "weights" / name) for name in names}


@pytest.fixture
def unet(loaded):
    return copy.deepcopy(loaded[0])


@pytest.fixture
def adapters(loaded):
    return copy.deepcopy(loaded[1])


@pytest.fixture
def call(unet):
    """Five rows of random input through the fixture network: `call(rows)` -> (5, 4, 8, 8)."""
    generator = torch.Generator().manual_seed(0)
    sample = torch.randn(5, 4, 8, 8, generator=generator)
    prompts = torch.randn(5, 11, 32, generator=generator)
    timesteps = torch.tensor([801, 21, 333, 500, 650])

    def run(rows=None, sample=sample):
        with torch.no_grad():
            if rows is None:
                return unet(sample, timesteps, prompts).sample
            with rows.active():
                return unet(sample, timesteps, prompts).sample

    run.sample = sample
    return run

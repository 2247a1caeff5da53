"""What several tests stand on: a tiny random model in the hub's own layout.

What is heavy is imported where it is used: xdist's own process reads this file, and runs no test.
"""

import resource
import shutil
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import get_args

import pytest
from typer import testing
from typer.main import get_command

import unicond

GOLDEN = Path(__file__).parent / "golden" / "unicon"


@pytest.fixture(scope="session", autouse=True)
def _commands_built_once():
    """Typer's runner would build all commands, the same ones, each time that one is called."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(testing, "_get_command", cache(get_command))
        yield


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


@pytest.fixture(scope="session")
def grounders(tiny_base, tmp_path_factory):
    """{method: a folder of its adapter for the tiny base, its gates open}."""
    import torch

    from unicond.adapters.grounding.adapter import GroundingAdapter
    from unicond.adapters.grounding.config import Method

    network = unicond.load(tiny_base).backbone.network
    found = {}
    for number, method in enumerate(get_args(Method)):
        generator = torch.Generator().manual_seed(number)
        blocks = ("mid_block", "up_blocks")
        adapter = GroundingAdapter.for_network(network, method, blocks=blocks, generator=generator)
        with torch.no_grad():
            for name, value in adapter.named_parameters():
                if "alpha" in name:
                    value.fill_(0.7)
        found[method] = tmp_path_factory.mktemp("grounders") / method
        adapter.save_pretrained(found[method])
    return found


@pytest.fixture(scope="session")
def heads(tiny, tmp_path_factory):
    """A folder of weights: an untrained readout head of depth for the tiny base."""
    import torch

    from unicond.adapters.readout import ReadoutConfig, ReadoutHead, channels_of

    blocks = channels_of(tiny.backbone.network)
    config = ReadoutConfig(kind="depth", blocks=blocks, channels=1, width=8, base="tiny")
    root = tmp_path_factory.mktemp("heads")
    ReadoutHead(config, torch.Generator().manual_seed(0)).save_pretrained(root / "readout/depth")
    return root


@pytest.fixture
def head_ships(heads, monkeypatch):
    """That head, as if it were embedded."""
    for module in ("unicond.loading", "unicond.tasks.heads"):
        monkeypatch.setattr(f"{module}.EMBEDDED", heads)
    return heads / "readout/depth"


@pytest.fixture(scope="session")
def prompter(tiny_base, tmp_path_factory):
    """A folder of an image prompt adapter for the tiny base, with its encoder."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    from unicond.adapters.image_prompt.adapter import ImagePromptAdapter
    from unicond.adapters.image_prompt.encoder import ImageEncoder
    from unicond.adapters.image_prompt.preprocess import Preprocess
    from unicond.adapters.image_prompt.prompter import Prompter
    from unicond.training.loop import seeded

    network = unicond.load(tiny_base).backbone.network
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    config = CLIPVisionConfig(
        **shape, num_attention_heads=2, image_size=16, patch_size=8, projection_dim=12
    )
    with seeded(5):
        model = CLIPVisionModelWithProjection(config)
    encoder = ImageEncoder(model.eval(), Preprocess(size=16, crop=16))
    folder = tmp_path_factory.mktemp("prompters") / "image-prompt"
    adapter = ImagePromptAdapter.for_network(network, encoder.width)
    Prompter(adapter, encoder).save_pretrained(folder)
    return folder


@pytest.fixture
def full_disk():
    """`full_disk(bytes)`: inside the block no file can grow beyond so many bytes."""

    @contextmanager
    def limited(count):
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (count, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return limited

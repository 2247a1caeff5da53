"""Sample pictures during training, through the package's one loop."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from unicond.backbones.pixels import CHANNELS, UnshuffledUNet
from unicond.denoisers.network import NetworkDenoiser
from unicond.mechanisms.blending.classifier_free import ClassifierFree
from unicond.sampling import loop, plans
from unicond.sampling.noise import Generators
from unicond.sampling.prompts import Prompt
from unicond.sampling.schedules import DiscreteSchedule
from unicond.sampling.solvers import DDIM
from unicond.sampling.state import State
from unicond.training.captions import tokens


@dataclass(frozen=True)
class Parts:
    """The parts of a text-to-image model that sampling needs."""

    unet: UNet2DConditionModel
    text_encoder: CLIPTextModel
    tokenizer: CLIPTokenizer
    schedule: DiscreteSchedule

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, h, w) of the latents that it was made for."""
        side = self.unet.config["sample_size"]
        if isinstance(self.unet, UnshuffledUNet):
            return CHANNELS, side * self.unet.factor, side * self.unet.factor
        return self.unet.config["in_channels"], side, side


@torch.no_grad()
def embed(parts: Parts, texts: Sequence[str]) -> Tensor:
    """(N, 77, width) embeddings of texts."""
    device = parts.text_encoder.device
    return parts.text_encoder(tokens(parts.tokenizer, texts).to(device)).last_hidden_state


@torch.no_grad()
def draw(
    parts: Parts, prompts: Sequence[str], guidance_scale: float, steps: int = 20, seed: int = 0
) -> Tensor:
    """Latents of one picture a prompt, DDIM.

    Args:
        parts: the model.
        prompts: one for each picture.
        guidance_scale: of classifier-free guidance against the empty prompt.
        steps: network calls.
        seed: of the first picture; the others count up.

    Returns:
        (N, C, h, w) float32, on the model's device.
    """
    unet, count = parts.unet, len(prompts)
    noise = Generators([seed + n for n in range(count)])
    like = torch.empty(count, *parts.shape, device=unet.device)
    table = {
        "positive": {"image": Prompt(embed(parts, prompts))},
        "negative": {"image": Prompt(embed(parts, [""]))},
    }
    times = parts.schedule.times(steps)
    state = State({"image": noise.draw("image", like)}, {"image": 1.0}, parts.schedule, noise)
    run = loop.run(
        state,
        NetworkDenoiser(unet, table),
        plans.descend(times, {"image": 1.0}),
        DDIM(),
        [ClassifierFree(guidance_scale)],
    )
    for done in run:
        state = done.state
    return state.latents["image"]

"""A second model beside the one that is called, for mechanisms that take one."""

import math
from collections.abc import Sequence

from unicond.backbones.base import Backbone, Size
from unicond.denoisers.converted import Converted
from unicond.denoisers.network import NetworkDenoiser
from unicond.model import Model

COMPARED = 16
"""Times at which two schedules must agree."""


def companion(
    model: Model,
    other: Model,
    prompt: str | Sequence[str],
    negative_prompt: str = "",
    size: Size | None = None,
) -> Converted:
    """Another model's denoiser of the image, without its adapters, for `MagicFusion(other=...)`.

    Args:
        model: the one that is called.
        other: the second one; its autoencoder should be the first one's.
        prompt: its own, one or one a sample.
        negative_prompt: its own.
        size: (height, width) of the picture; default the base's own square.

    Returns:
        A denoiser of the branch `"image"`.

    Raises:
        ValueError: their latents, what these are scaled by, or noise schedules differ.
    """
    check_companion(model.backbone, other.backbone, size)
    theirs = other.backbone
    texts = [prompt] if isinstance(prompt, str) else list(prompt)
    prompts = {
        "positive": {"image": theirs.encode_prompts(texts, size)},
        "negative": {"image": theirs.encode_negative(negative_prompt, size)},
    }
    return Converted(NetworkDenoiser(theirs.network, prompts), theirs.schedule)


def check_companion(ours: Backbone, theirs: Backbone, size: Size | None = None) -> None:
    """Refuse two bases that cannot draw one picture together; they may differ in what they predict.

    Args:
        ours: the one that is called.
        theirs: the second one.
        size: (height, width) of the picture.

    Raises:
        ValueError: their latents, what these are scaled by, or noise schedules differ.
    """
    shape = size or (ours.multiple, ours.multiple)
    if ours.latent_shape(shape) != theirs.latent_shape(shape):
        raise ValueError(
            f"two models in one picture must share the latents, but at {shape} pixels those of "
            f"{ours.name} are {ours.latent_shape(shape)}, of {theirs.name} "
            f"{theirs.latent_shape(shape)}"
        )
    if not all(map(math.isclose, ours.latent_scale, theirs.latent_scale)):
        (factor, shift), (other_factor, other_shift) = ours.latent_scale, theirs.latent_scale
        raise ValueError(
            f"two models in one picture must share the latents, but the autoencoder of {ours.name} "
            f"scales them by {factor:g} and shifts them by {shift:g}, that of {theirs.name} by "
            f"{other_factor:g} and {other_shift:g}: take models with one autoencoder"
        )
    for t in (number / COMPARED for number in range(1, COMPARED + 1)):
        scales = [(one.schedule.alpha(t), one.schedule.sigma(t)) for one in (ours, theirs)]
        if not all(map(math.isclose, *scales)):
            (alpha, sigma), (other_alpha, other_sigma) = scales
            raise ValueError(
                f"two models in one picture must share the noise schedule, but at t={t:g} "
                f"{ours.name} has alpha={alpha:.5g}, sigma={sigma:.5g}, {theirs.name} "
                f"alpha={other_alpha:.5g}, sigma={other_sigma:.5g}"
            )

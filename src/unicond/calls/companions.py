"""A second model beside the one that is called, for mechanisms that take one."""

from collections.abc import Sequence

from unicond.backbones.base import Backbone, Size
from unicond.denoisers.network import NetworkDenoiser
from unicond.model import Model


def companion(
    model: Model,
    other: Model,
    prompt: str | Sequence[str],
    negative_prompt: str = "",
    size: Size | None = None,
) -> NetworkDenoiser:
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
        ValueError: their latents, noise schedules or kinds of prediction differ.
    """
    check_companion(model.backbone, other.backbone, size)
    theirs = other.backbone
    texts = [prompt] if isinstance(prompt, str) else list(prompt)
    prompts = {
        "positive": {"image": theirs.encode_prompts(texts, size)},
        "negative": {"image": theirs.encode_negative(negative_prompt, size)},
    }
    return NetworkDenoiser(theirs.network, prompts)


def check_companion(ours: Backbone, theirs: Backbone, size: Size | None = None) -> None:
    """Refuse two bases that cannot draw one picture together.

    Args:
        ours: the one that is called.
        theirs: the second one.
        size: (height, width) of the picture.

    Raises:
        ValueError: their latents, noise schedules or kinds of prediction differ.
    """
    shape = size or (ours.multiple, ours.multiple)
    if ours.latent_shape(shape) != theirs.latent_shape(shape):
        raise ValueError(
            f"two models in one picture must share the latents, but at {shape} pixels those of "
            f"{ours.name} are {ours.latent_shape(shape)}, of {theirs.name} "
            f"{theirs.latent_shape(shape)}"
        )
    kinds = [
        (one.schedule.prediction_type, *(one.schedule.sigma(k / 8) for k in range(9)))
        for one in (ours, theirs)
    ]
    if kinds[0] != kinds[1]:
        raise ValueError(
            f"two models in one picture must share the noise schedule and what the network "
            f"predicts, but {ours.name} ({kinds[0][0]}) and {theirs.name} ({kinds[1][0]}) do not"
        )

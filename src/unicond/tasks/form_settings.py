"""From a form to generate to what a call of a model takes."""

from collections.abc import Mapping, Sequence
from typing import TypedDict

from unicond.calls.image_prompts import ImagePrompt
from unicond.calls.output import Output
from unicond.calls.prepared import Callback
from unicond.calls.request import Against, Attention, Given, Held, Sampling, Scale
from unicond.grounding import Grounding
from unicond.mechanisms.guidance.gradients import AdamW
from unicond.model import Model
from unicond.sampling.schedules import Spacing
from unicond.sampling.window import Window
from unicond.tasks import forms


class Settings(TypedDict):
    """What a call of a model takes beside prompts, seeds and pictures."""

    negative_prompt: str
    size: int | tuple[int, int] | None
    branches: Sequence[str] | None
    num_inference_steps: int | None
    solver: str | None
    spacing: Spacing | None
    eta: float | None
    guidance_scale: float | None
    condition_guidance: float | None
    condition_guidance_against: Against
    perturbed_guidance: float | None
    guidance_window: Window
    joint_scale: float
    conditioning_scale: Mapping[str, Scale]
    held: Held | None
    attention: Attention | None
    cache: bool | None
    refresh: int | None
    ensemble_size: int | None
    sampling: Sampling
    plan: str | None
    grounding: Grounding | None
    image_prompt: ImagePrompt | None
    reconstruction_weight: float | Mapping[str, float] | None
    reconstruction_optimizer: AdamW | None
    reconstruction_window: Window


def settings_of(form: forms.Generate) -> Settings:
    """What a call of a model takes beside prompts, seeds and pictures.

    Args:
        form: what is asked for.

    Returns:
        The arguments by their names.

    Raises:
        ValueError: an empty window, or a learning rate without iterations.
    """
    if form.reconstruction_lr is not None and form.reconstruction_iterations is None:
        raise ValueError("reconstruction_lr is AdamW's: give reconstruction_iterations too")
    optimizer = None
    if form.reconstruction_iterations is not None:
        usual = AdamW().learning_rate
        rate = usual if form.reconstruction_lr is None else form.reconstruction_lr
        optimizer = AdamW(iterations=form.reconstruction_iterations, learning_rate=rate)
    return {
        "negative_prompt": form.negative_prompt,
        "size": form.size,
        "branches": form.only,
        "num_inference_steps": form.steps,
        "solver": form.solver,
        "spacing": form.spacing,
        "eta": form.eta,
        "guidance_scale": form.guidance,
        "condition_guidance": form.condition_guidance,
        "condition_guidance_against": form.condition_guidance_against,
        "perturbed_guidance": form.perturbed_guidance,
        "guidance_window": _window(form.guidance_window, "guidance_window"),
        "joint_scale": form.joint_scale,
        "conditioning_scale": form.conditioning_scale,
        "held": form.held,
        "attention": form.attention,
        "cache": form.cache,
        "refresh": form.refresh,
        "ensemble_size": form.ensemble_size,
        "sampling": form.sampling,
        "plan": form.plan,
        "grounding": form.boxes,
        "image_prompt": None,
        "reconstruction_weight": form.reconstruction_weight,
        "reconstruction_optimizer": optimizer,
        "reconstruction_window": _window(form.reconstruction_window, "reconstruction_window"),
    }


def generated(
    model: Model,
    prompt: str | Sequence[str],
    seed: int | Sequence[int],
    count: int | None,
    settings: Settings,
    pictures: Mapping[str, Given],
    callback: Callback | None,
) -> Output:
    """Call a model with settings of one or several forms.

    Args:
        model: with the branches that are given; its adapters that are told nothing are left out.
        prompt: one, or one a sample.
        seed: of the first sample, or one a sample.
        count: samples; None follows from the others.
        settings: of all samples.
        pictures: {branch: how it is given}.
        callback: called after each move; False cancels.

    Returns:
        The pictures.
    """
    told = {"grounding": model.grounders, "image_prompt": model.prompters}
    used = [name for what, names in told.items() if settings[what] for name in names]
    return model.only(*model.adapters, *used)(
        prompt,
        seed=seed,
        count=count,
        callback=callback,
        **settings,  # pyright: ignore[reportArgumentType] (of pictures, whose names are branches)
        **pictures,
    )


def _window(ends: tuple[float, float], name: str) -> Window:
    start, end = ends
    if start <= end:
        raise ValueError(f"{name} {ends} falls from its first time to its second, as in [1, 0.2]")
    return Window(start, end or -1.0)

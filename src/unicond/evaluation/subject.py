"""The model under test, in the tasks of the tables. The only place that calls `unicond.Model`."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor, nn

from unicond.adapters.config import Attention, JointConfig
from unicond.calls.request import Given, Held, Weights
from unicond.mechanisms.guidance.gradients import AdamW
from unicond.model import Model, given
from unicond.sampling.solvers import named

Way = Literal["two_way", "one_way", "aligned"]
"""How a held branch and the other look at each other."""


@dataclass(frozen=True)
class Looks:
    """The arguments of `Model.__call__` that a way stands for; None is the model's own choice."""

    held: Held | None = None
    attention: Attention | None = None


WAYS: Mapping[Way | None, Looks] = {
    None: Looks(),
    "two_way": Looks("two_way", "global"),
    "one_way": Looks("one_way", "global"),
    "aligned": Looks("one_way", "aligned"),
}


@dataclass(frozen=True)
class Sampling:
    """Settings of one task; None is the model's default.

    Attributes:
        steps: moves that call the network.
        solver: a name in `unicond.SOLVERS`.
        guidance: of text, 1.0 is the conditional model alone.
        condition_guidance: of what is given, 0.0 is off.
        perturbed_guidance: perturbed-attention guidance, 0.0 is off.
        noise: share of noise on a picture that is given and held, 0 to 1.
        eta: noise of the `"ddim"` solver, 0 to 1.
        plan: the way through the times of image and condition, by name.
        joint_plan: that of both drawn from text alone, in the place of `plan`.
        joint_scale: of joint attention, 0.0 is off.
        weights: what the image and what the condition receive, (w_x, w_y).
        refresh: moves after which a held branch that hears runs again.
        ensemble: noises whose estimates are averaged.
        weight: of reconstruction guidance, 0.0 is off.
        optimizer: in the place of that weight.

    Raises:
        ValueError: there is no such solver, or it has no eta.
    """

    steps: int | None = None
    solver: str | None = None
    guidance: float | None = None
    condition_guidance: float | None = None
    perturbed_guidance: float | None = None
    noise: float | None = None
    eta: float | None = None
    plan: str | None = None
    joint_plan: str | None = None
    joint_scale: float | None = None
    weights: Weights | None = None
    refresh: int | None = None
    ensemble: int | None = None
    weight: float | None = None
    optimizer: AdamW | None = None

    def __post_init__(self) -> None:
        if self.solver is not None:
            named(self.solver, self.eta)

    def label(self) -> str:
        """The settings that are not defaults, as in "steps=10 guidance=2"."""
        named = {k: v for k, v in vars(self).items() if v is not None}
        return " ".join(f"{key}={value}" for key, value in named.items()) or "default"


@dataclass(frozen=True, eq=False)
class Subject:
    """A model, with settings for generation and for estimation.

    Attributes:
        model: base and adapters.
        branch: its condition's branch.
        generation: settings wherever the image is generated.
        estimation: settings wherever the image is given.
    """

    model: Model
    branch: str = "depth"
    generation: Sampling = field(default_factory=Sampling)
    estimation: Sampling = field(default_factory=Sampling)

    @property
    def config(self) -> JointConfig:
        """What is known of the condition's adapter."""
        return self.model.adapters[self.branch].adapter.config

    def with_settings(
        self, generation: Sampling | None = None, estimation: Sampling | None = None
    ) -> "Subject":
        """The same model under other settings."""
        return replace(
            self,
            generation=generation or self.generation,
            estimation=estimation or self.estimation,
        )

    def text_to_image(self, prompts: Sequence[str], seeds: Sequence[int]) -> Tensor:
        """(B, 3, H, W) in [-1, 1] from text alone, the condition's branch left out."""
        return self._generate(prompts, seeds, ("image",), {})["image"]

    def to_image(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        picture: Tensor,
        noise: float = 0.0,
        way: Way | None = None,
    ) -> Tensor:
        """(B, 3, H, W) images for condition pictures (B, 3, H, W), coarse up to time `noise`."""
        known = {self.branch: given(picture, noise=noise)}
        return self._generate(prompts, seeds, ("image", self.branch), known, way)["image"]

    def joint(self, prompts: Sequence[str], seeds: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Image and condition picture, both (B, 3, H, W), from text alone."""
        chosen = self.generation
        drawn = self.with_settings(replace(chosen, plan=chosen.joint_plan or chosen.plan))
        pictures = drawn._generate(prompts, seeds, ("image", self.branch), {})
        return pictures["image"], pictures[self.branch]

    def estimate(self, images: Tensor, seeds: Sequence[int], way: Way | None = None) -> Tensor:
        """(B, 3, H, W) condition pictures of images, without a prompt."""
        chosen = self.estimation
        image = images if chosen.noise is None else _noisy(images, chosen.noise)
        out = self._call("", seeds, (self.branch,), {"image": image}, chosen, way)
        return out[self.branch]

    def complete(
        self, prompts: Sequence[str], seeds: Sequence[int], known: Mapping[str, Given]
    ) -> dict[str, Tensor]:
        """Every branch, each (B, 3, H, W), of what is known of some, wholly, in part or as a guide.

        Args:
            prompts: one a sample.
            seeds: one a sample.
            known: {branch: how it is given}; further conditions than the subject's own join in.

        Returns:
            {branch: pictures}: the image, the subject's condition and all that was given.
        """
        branches = dict.fromkeys(("image", self.branch, *known))
        if "image" in known and known["image"].fixed:
            return self._call("", seeds, tuple(branches), known, self.estimation)
        return self._generate(prompts, seeds, tuple(branches), known)

    def reconstruct(self, pictures: Tensor) -> Tensor:
        """(B, 3, H, W) pictures through the autoencoder and back."""
        backbone = self.model.backbone
        with torch.no_grad():
            return backbone.decode(backbone.encode(pictures)).to(pictures).clamp(-1, 1)

    def _generate(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        branches: Sequence[str],
        known: Mapping[str, Given],
        way: Way | None = None,
    ) -> dict[str, Tensor]:
        chosen = self.generation if known else replace(self.generation, condition_guidance=None)
        return self._call(list(prompts), seeds, branches, known, chosen, way)

    def _call(
        self,
        prompts: str | list[str],
        seeds: Sequence[int],
        branches: Sequence[str],
        known: Mapping[str, Tensor | Given],
        chosen: Sampling,
        way: Way | None = None,
    ) -> dict[str, Tensor]:
        """{branch: pictures} of one call of the model under some settings."""
        held = WAYS[way]
        out = self.model(
            prompts,
            seed=list(seeds),
            branches=branches,
            num_inference_steps=chosen.steps,
            solver=chosen.solver,
            eta=chosen.eta,
            guidance_scale=chosen.guidance,
            condition_guidance=chosen.condition_guidance,
            perturbed_guidance=chosen.perturbed_guidance,
            joint_scale=1.0 if chosen.joint_scale is None else chosen.joint_scale,
            conditioning_scale={self.branch: chosen.weights} if chosen.weights else None,
            held=held.held,
            attention=held.attention,
            refresh=chosen.refresh,
            ensemble_size=chosen.ensemble,
            plan=chosen.plan,
            reconstruction_weight=chosen.weight,
            reconstruction_optimizer=chosen.optimizer,
            **known,  # pyright: ignore[reportArgumentType]
        )
        return {branch: picture.float() for branch, picture in out.pictures.items()}


def fingerprint(module: nn.Module) -> str:
    """Twelve hex digits of a module's parameters and buffers."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:12]


def fingerprints(model: Model) -> dict[str, str]:
    """{part: fingerprint} of all of a model that a table's numbers depend on."""
    backbone = model.backbone
    parts: dict[str, nn.Module] = {
        "network": backbone.network,
        **({} if backbone.vae is None else {"autoencoder": backbone.vae}),
        **dict(zip(backbone.TEXT_PARTS, backbone.text_encoders, strict=True)),
        **{f"adapter {name}": loaded.adapter for name, loaded in model.adapters.items()},
        **{f"adapter {name}": loaded.adapter for name, loaded in model.grounders.items()},
    }
    for name, loaded in model.prompters.items():
        parts[f"adapter {name}"] = loaded.adapter.adapter
        parts[f"image encoder of {name}"] = loaded.adapter.encoder.model
    about = {"defaults": str(backbone.defaults), "base": backbone.name}
    about |= {
        f"config of {name}": str(each.adapter.config) for name, each in model.adapters.items()
    }
    dtype = next(backbone.network.parameters()).dtype
    if dtype != torch.float32:
        about["dtype"] = str(dtype).removeprefix("torch.")
    return {name: fingerprint(module) for name, module in parts.items()} | about


def _noisy(images: Tensor, noise: float) -> Given:
    """Images held at time `noise`; a `Given` overrides the model's own default."""
    return given(images, noise=noise, hold=noise > 0)

"""A base model: network, autoencoder, text encoder and schedule, read from a diffusers folder.

The embedded `mini` and Stable Diffusion 1.x have the same files and take the same path through
here; only the name differs. Nothing is unpickled: weights must be safetensors.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from pydantic import TypeAdapter
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from unicond.sampling import schedules
from unicond.sampling.schedules import DiscreteSchedule, FlowSchedule

EMBEDDED = Path(__file__).parents[1] / "weights"
_PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")


@dataclass(frozen=True)
class Settings:
    """Sampling defaults of a base model; `unicond.json` in its folder overrides the usual ones.

    Args:
        num_inference_steps: network calls for generation.
        estimation_steps: network calls where the image is given and its conditions are estimated.
        estimation_noise: time to which a given image is noised for estimation.
        estimation_guidance: `guidance_scale` of estimation.
        solver: name in `solvers.SOLVERS`.
        guidance_scale: of text.
        condition_guidance: of a given condition; off where nothing is given.
    """

    num_inference_steps: int = 50
    estimation_steps: int = 20
    estimation_noise: float = 0.1
    estimation_guidance: float = 1.0
    solver: str = "ddim"
    guidance_scale: float = 7.5
    condition_guidance: float = 0.0


@dataclass(frozen=True, eq=False)
class Backbone:
    """Everything that a run needs from a base model.

    Args:
        name: what it was loaded by.
        network: the denoising network.
        vae: the autoencoder; float32 or the network's dtype.
        text_encoder: CLIP text model.
        tokenizer: its tokenizer.
        schedule: the noise schedule that it was trained on.
        defaults: sampling settings that suit it.
    """

    name: str
    network: UNet2DConditionModel
    vae: AutoencoderKL
    text_encoder: CLIPTextModel
    tokenizer: CLIPTokenizer
    schedule: DiscreteSchedule | FlowSchedule
    defaults: Settings = field(default=Settings())

    @classmethod
    def from_pretrained(
        cls,
        base: str | Path,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
    ) -> Self:
        """Load a diffusers folder or hub id, or an embedded model by its name.

        Args:
            base: folder, hub id or embedded name.
            dtype: of the denoising network; the autoencoder stays float32.
            device: of all parts.

        Returns:
            The base, frozen, in evaluation mode.

        Raises:
            ValueError: a part is missing, or only there as a pickle.
        """
        root = locate(base)
        missing = [part for part in _PARTS if not (root / part).is_dir()]
        if missing:
            raise ValueError(
                f"{base} cannot be read as a base model: it has no {' and no '.join(missing)}. "
                f"A base is a folder in diffusers' layout: {', '.join(_PARTS)}"
            )
        where = str(root)
        try:
            unet = UNet2DConditionModel.from_pretrained(
                where, subfolder="unet", use_safetensors=True, torch_dtype=dtype
            )
            vae = AutoencoderKL.from_pretrained(where, subfolder="vae", use_safetensors=True)
            text = CLIPTextModel.from_pretrained(
                where, subfolder="text_encoder", use_safetensors=True, dtype=torch.float32
            )
            tokenizer = CLIPTokenizer.from_pretrained(where, subfolder="tokenizer")
        except OSError as error:
            raise ValueError(
                f"{base} cannot be read as a base model: {_first_line(error)}. A base is a folder "
                f"in "
                f"diffusers' layout ({', '.join(_PARTS)}) with safetensors weights, or its hub id"
            ) from error
        for module in (unet, vae, text):
            nn.Module.to(module.requires_grad_(False).eval(), torch.device(device))
        config = _json(root, "scheduler/scheduler_config.json", base)
        defaults = TypeAdapter(Settings).validate_python(
            _json(root, "unicond.json", base, optional=True)
        )
        return cls(
            str(base), unet, vae.float(), text, tokenizer, schedules.from_config(config), defaults
        )

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self.network.device

    @property
    def factor(self) -> int:
        """Pixels a latent, along one side."""
        return 2 ** (len(self.vae.config["block_out_channels"]) - 1)

    @property
    def multiple(self) -> int:
        """Allowed picture sizes are multiples of this: what its levels halve evenly."""
        return self.factor * 2 ** (len(self.network.config["block_out_channels"]) - 1)

    @property
    def sample_size(self) -> int:
        """The side of the pictures that it was trained on, in pixels."""
        return int(self.network.config["sample_size"]) * self.factor

    def latent_shape(self, size: tuple[int, int]) -> tuple[int, int, int]:
        """(C, h, w) of the latents of pictures of this (height, width)."""
        channels = int(self.network.config["in_channels"])
        return channels, size[0] // self.factor, size[1] // self.factor

    @torch.inference_mode()
    def encode_prompts(self, prompts: Sequence[str]) -> Tensor:
        """(B, tokens, width) float32; longer prompts than the text encoder holds are cut."""
        tokens = self.tokenizer(
            list(prompts),
            padding="max_length",
            truncation=True,
            max_length=self.text_encoder.config.max_position_embeddings,
            return_tensors="pt",
        )
        ids = tokens.input_ids.to(self.device)
        return self.text_encoder(ids).last_hidden_state.clone()

    @torch.inference_mode()
    def encode(self, pictures: Tensor) -> Tensor:
        """Latents (B, C, h, w) of pictures (B, 3, H, W) in [-1, 1]: the mode of the posterior."""
        posterior = self.vae.encode(pictures.to(self.vae.device, self.vae.dtype))
        mode: Tensor = posterior.latent_dist.mode()  # pyright: ignore[reportAttributeAccessIssue]
        return ((mode - self._shift) * self.vae.config["scaling_factor"]).float()

    @torch.inference_mode()
    def decode(self, latents: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) in [-1, 1] of latents (B, C, h, w)."""
        raw = latents.to(self.vae.dtype) / self.vae.config["scaling_factor"] + self._shift
        decoded: Tensor = self.vae.decode(raw).sample  # pyright: ignore[reportAttributeAccessIssue]
        return decoded.float().clamp(-1, 1)

    @property
    def _shift(self) -> float:
        return float(self.vae.config.get("shift_factor") or 0.0)


def locate(base: str | Path) -> Path:
    """The local folder of a base model; hub ids are downloaded (without pickles).

    Args:
        base: folder, hub id or embedded name.

    Returns:
        The folder that holds `model_index.json`.

    Raises:
        ValueError: neither a folder, nor embedded, nor a hub id that can be reached.
    """
    embedded = sorted(path.parent.name for path in EMBEDDED.glob("*/model_index.json"))
    if str(base) in embedded:
        return EMBEDDED / str(base)
    if Path(base).is_dir():
        return Path(base)
    if str(base).count("/") != 1 or str(base).startswith((".", "/", "~")):
        raise ValueError(
            f"there is no folder {str(base)!r}; a base is a folder, a hub id 'owner/name', or one "
            f"of "
            f"the embedded models: {', '.join(embedded) or 'none here; make weights trains them'}"
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        patterns = ["*.json", "*.txt", "*/*.json", "*/*.txt", "*/*.safetensors"]
        return Path(snapshot_download(str(base), allow_patterns=patterns))
    except (HfHubHTTPError, LocalEntryNotFoundError) as error:
        raise ValueError(
            f"{base} is neither a local folder nor a hub id that can be reached: "
            f"{_first_line(error)}"
        ) from error


def identity(root: Path) -> str:
    """A short hash of a base's denoising network: what adapters are made for."""
    weights = sorted((root / "unet").glob("*.safetensors"))
    digest = hashlib.sha256()
    for path in weights:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _json(root: Path, name: str, base: str | Path, optional: bool = False) -> Mapping[str, object]:
    path = root / name
    if not path.is_file():
        if optional:
            return {}
        raise ValueError(f"{base} has no {name}; a base is a folder in diffusers' layout")
    return json.loads(path.read_text())


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__

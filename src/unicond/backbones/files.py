"""Where a base model's parts come from: a folder in diffusers' layout, on disk or on the Hub.

Nothing is unpickled: weights must be safetensors.
"""

import json
import re
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, cast

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

TextEncoder = CLIPTextModel | CLIPTextModelWithProjection
Part = TypeVar("Part", bound=UNet2DConditionModel | AutoencoderKL | TextEncoder)

EMBEDDED = Path(__file__).parents[1] / "weights"
LAYOUT = (
    "unet, vae, text_encoder, tokenizer, scheduler; XL also text_encoder_2, tokenizer_2; no vae "
    "where model_index.json says pixel_unshuffle"
)
_WEIGHTS = ("unet", "vae", "text_encoder", "text_encoder_2")
_GROUNDING = re.compile(r"^position_net\.|\.fuser\.")
"""Of a network's weights, those of GLIGEN's and InteractDiffusion's adapters."""
_STEMS = ("diffusion_pytorch_model", "model")


@dataclass(frozen=True)
class Folder:
    """A base in diffusers' layout.

    Args:
        name: what the caller named it by, for messages and records.
        root: holds a folder a part.
    """

    name: str
    root: Path

    def module(self, kind: type[Part], part: str, dtype: torch.dtype) -> Part:
        """One part with its weights.

        Args:
            kind: its class.
            part: its folder.
            dtype: of its parameters.

        Returns:
            The part, on the CPU.

        Raises:
            OSError: its files are missing or damaged.
            ValueError: the weights are not those of the configuration, or a pickle.

        Warns:
            UserWarning: a network has a grounding adapter's weights among its own; they are left
                out.
        """
        self._check_safe(part)
        own: dict[str, object] = {"dtype": dtype, "ignore_mismatched_sizes": True}  # told below
        if issubclass(kind, UNet2DConditionModel | AutoencoderKL):
            own = {"torch_dtype": dtype}
        if issubclass(kind, UNet2DConditionModel) and self._is_gated(part):
            own["attention_type"] = "default"
        try:
            found: object = kind.from_pretrained(
                str(self.root),
                subfolder=part,
                use_safetensors=True,
                variant=None if has_weights(self.root / part) else "fp16",
                output_loading_info=True,
                **own,  # pyright: ignore[reportArgumentType]
            )
        except (RuntimeError, ValueError) as error:
            why = first_line(error).removeprefix("Cannot load  because ").split(". If you")[0]
            raise self._misfit(part, why) from error
        module, told = cast(tuple[Part, Mapping[str, Collection[object]]], found)
        for what, words in (("missing_keys", "missing"), ("mismatched_keys", "of another size")):
            if names := sorted(str(k[0] if isinstance(k, tuple) else k) for k in told[what]):
                raise self._misfit(part, f"tensors {words}: {len(names)}, first {names[0]}")
        if issubclass(kind, UNet2DConditionModel):
            self._check_left(part, sorted(map(str, told["unexpected_keys"])))
        return module

    def tokenizer(self, part: str) -> CLIPTokenizer:
        """The tokenizer in a part's folder."""
        try:
            return CLIPTokenizer.from_pretrained(str(self.root), subfolder=part)
        except Exception as error:  # its reader raises nearly anything for a damaged file
            raise ValueError(
                f"{self.name} cannot be read as a base model: its {part} is damaged or not "
                f"complete ({first_line(error)}); get it from its source again"
            ) from error

    def _is_gated(self, part: str) -> bool:
        """Whether a network has fusers and a position net of its own."""
        return str(self.json(f"{part}/config.json").get("attention_type")).startswith("gated")

    def _check_left(self, part: str, names: Sequence[str]) -> None:
        """Tell of weights that a network does not take, and refuse all that are no grounding's.

        diffusers' own position net is GLIGEN's, and would take what InteractDiffusion's shares
        with it without a word.
        """
        rest = [name for name in names if not _GROUNDING.search(name)]
        if rest:
            raise self._misfit(part, f"tensors not expected: {len(rest)}, first {rest[0]}")
        if names:
            method = "interact" if any("linear_action" in name for name in names) else "gligen"
            warnings.warn(
                f"{self.name} has a grounding adapter's weights in its {part}, which are left out: "
                f"give it as the adapter, too, to use them, as in load({self.name!r}, "
                f"adapters={{{method!r}: {self.name!r}}})",
                stacklevel=6,  # for the caller of `unicond.load`
            )

    def _check_safe(self, part: str) -> None:
        """Refuse weights that are there as a pickle only."""
        pickles = [
            path for end in ("bin", "ckpt", "pt") for path in (self.root / part).glob(f"*.{end}")
        ]
        if pickles and not list((self.root / part).glob("*.safetensors")):
            raise ValueError(
                f"{self.name} cannot be read as a base model: {part}/{pickles[0].name} is a "
                "pickle, which could run code, and is not opened; get its .safetensors weights"
            )

    def _misfit(self, part: str, why: str) -> ValueError:
        return ValueError(
            f"{self.name} cannot be read as a base model: the weights in {part} are not those of "
            f"its config.json ({why}); get both from their source again"
        )

    def json(self, file: str, optional: bool = False) -> Mapping[str, object]:
        """The content of a JSON file; empty where an optional one is missing.

        Args:
            file: its path inside the folder.
            optional: whether it may be missing.

        Returns:
            The content.

        Raises:
            ValueError: it is missing or damaged.
        """
        path = self.root / file
        if path.is_file():
            try:
                return json.loads(path.read_text(encoding="utf-8"))
            except ValueError as error:
                raise ValueError(
                    f"{path} is damaged ({error}): get it from its source again"
                ) from error
        if optional:
            return {}
        raise ValueError(f"{self.name} has no {file}; a base is a folder in diffusers' layout")


def has_weights(folder: Path, variant: str | None = None) -> bool:
    """Whether a part's folder holds safetensors of a variant (None: the unnamed one)."""
    middle = f".{variant}" if variant else ""
    patterns = [f"{stem}{middle}{end}" for stem in _STEMS for end in ("", "-*-of-*")]
    return any(any(folder.glob(f"{pattern}.safetensors")) for pattern in patterns)


def locate(base: str | Path, half: bool = False, weights: bool = True) -> Path:
    """The local folder of a base model; hub ids are downloaded (without pickles).

    Args:
        base: folder, hub id or embedded name.
        half: of a hub id, prefer the weights in float16.
        weights: of a hub id, download weights, not only configurations and tokenizers.

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
            f"there is no folder {str(base)!r}; a base is a folder, a hub id 'owner/name', a "
            ".safetensors file, or one of the embedded models: "
            f"{', '.join(embedded) or 'none here; make weights trains them'}"
        )
    return _download(str(base), half, weights)


def _download(repo: str, half: bool, weights: bool) -> Path:
    """A repository's configurations, and of its weights one variant only."""
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    configs = ["*.json", "*.txt", "*/*.json", "*/*.txt"]
    variants = (".fp16", "") if half else ("", ".fp16")
    try:
        for middle in variants if weights else ():
            stems = [f"{stem}{middle}" for stem in _STEMS]
            names = [f"{stem}{end}" for stem in stems for end in ("", "-*-of-*")]
            files = [f"{part}/{name}.safetensors" for part in _WEIGHTS for name in names]
            root = Path(huggingface_hub.snapshot_download(repo, allow_patterns=configs + files))
            if has_weights(root / "unet", middle.removeprefix(".") or None):
                return root
        return Path(huggingface_hub.snapshot_download(repo, allow_patterns=configs))
    except (HfHubHTTPError, LocalEntryNotFoundError) as error:
        raise ValueError(
            f"{repo} is neither a local folder nor a hub id that can be reached: "
            f"{first_line(error)}"
        ) from error


def first_line(error: Exception) -> str:
    """An error in one line."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__

"""Captions by transformers' BLIP, or any model of its kind that needs no prompt.

Source: Li et al. 2022, arXiv:2201.12086.
"""

from pathlib import Path
from typing import cast

import torch
from torch import Tensor
from transformers import (
    AutoImageProcessor,
    AutoModelForImageTextToText,
    AutoTokenizer,
    BlipForConditionalGeneration,
)

from unicond.annotators.base import CAPTION, default_device, loaded, pil_images


class CaptionAnnotator:
    """A captioner.

    Args:
        model: hub id or folder.
        device: where to run; CUDA where there is one if None.
        words: most tokens that a caption may have.

    Raises:
        ValueError: no captioner can be loaded from there.
    """

    kind = CAPTION

    def __init__(
        self,
        model: str | Path,
        device: str | torch.device | None = None,
        words: int = 40,
    ) -> None:
        self.name, self.device, self.words = f"{CAPTION}:{model}", default_device(device), words
        network = loaded(
            lambda: AutoModelForImageTextToText.from_pretrained(model), "captions", model
        )
        self._network = cast(BlipForConditionalGeneration, network)
        self._network.to(self.device)  # type: ignore[call-overload]
        self._processor = loaded(
            lambda: AutoImageProcessor.from_pretrained(model, backend="pil"), "captions", model
        )
        self._tokenizer = loaded(lambda: AutoTokenizer.from_pretrained(model), "captions", model)

    @torch.no_grad()
    def __call__(self, pictures: Tensor) -> list[str]:
        """One caption for each picture (B, 3, H, W) in [-1, 1]; nothing is drawn at random."""
        inputs = self._processor(images=pil_images(pictures), return_tensors="pt").to(self.device)
        tokens = self._network.generate(**inputs, max_new_tokens=self.words, do_sample=False)
        texts = self._tokenizer.batch_decode(tokens, skip_special_tokens=True)
        return [" ".join(text.split()) for text in texts]

"""One's own pictures with boxes, as a grounding adapter is told them in training.

Every picture is cut in its middle to a square and encoded once; its latents are kept on disk, and
while a training runs in the CPU's memory.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor
from typing_extensions import override

from unicond.adapters.grounding.adapter import MIGC_BLOCKS, SLOTS
from unicond.adapters.grounding.config import Method
from unicond.backbones.base import Backbone
from unicond.data.boxes import BoxedPictures, Scene
from unicond.grounding import NOTHING_MORE
from unicond.training import processes
from unicond.training.captions import CaptionTable
from unicond.training.grounding import OF_METHOD, GroundingRecipe
from unicond.training.journal import Report
from unicond.training.loop import LoopConfig
from unicond.training.own import keeping
from unicond.training.own.job import OwnJob, usual_loop
from unicond.training.own.pairs import Encoder
from unicond.training.text2image import Pictured
from unicond.training.things import WORDINGS, Layout, Phrases, Placed

AT_ONCE = 64
"""Phrases that the text encoder takes at a time."""


@dataclass(frozen=True, kw_only=True)
class BoxRecipe(GroundingRecipe):
    """How a grounding adapter is trained on one's own pictures.

    Args:
        side: of the square pictures, in pixels; None is the base's own.
        held_out: pictures that are not trained on; None is a tenth, 8 at most.
    """

    slots: int = 30
    blocks: tuple[str, ...] = MIGC_BLOCKS
    alone: float = 0.0
    side: int | None = None
    held_out: int | None = None
    loop: LoopConfig = field(default_factory=usual_loop)

    @staticmethod
    def of(method: Method, **changes: object) -> "BoxRecipe":
        """The usual recipe of a method, with changes."""
        usual: dict[str, object] = {"method": method, "slots": SLOTS[method], **OF_METHOD[method]}
        return BoxRecipe(**(usual | changes))  # pyright: ignore[reportArgumentType]


@dataclass(frozen=True, kw_only=True)
class BoxJob(OwnJob):
    """The training of a grounding adapter on pictures with boxes.

    Args:
        recipe: how.
        slots: the most things that the adapter takes; None is that of the one that it starts from,
            or as published.
    """

    recipe: BoxRecipe
    slots: int | None = None

    @property
    @override
    def what(self) -> str:
        return self.recipe.method

    @property
    @override
    def how(self) -> BoxRecipe:
        return self.recipe


def layout_of(scene: Scene) -> Layout:
    """What is where in a picture, as it is told: things have one phrase each.

    Args:
        scene: what is where.

    Returns:
        Its interactions, and of each thing that it is there, which is told where no interaction of
        it is.
    """
    count = len(scene.phrases)
    there = [(number, NOTHING_MORE, number) for number in range(count)]
    acts = [one for one in scene.interactions if one not in there]
    return Layout(
        scene.boxes,
        [True] * count,
        [[phrase] * WORDINGS for phrase in scene.phrases],
        [*acts, *there],
        [*[True] * len(acts), *[False] * count],
    )


def slots_of(scene: Scene, method: Method) -> int:
    """The slots that a picture takes where all of it is told."""
    if method == "interact":
        return len(scene.interactions) + len(scene.alone)
    return len(scene.phrases)


def placed(
    job: BoxJob, backbone: Backbone, scenes: Sequence[Scene], latents: Tensor, side: int
) -> Placed:
    """Pictures as a grounding adapter's task takes them.

    Args:
        job: what is asked for.
        backbone: the base.
        scenes: what is where in them.
        latents: (N, C, h, w) of the same pictures.
        side: of the pictures, in pixels.

    Returns:
        Them, all tables on the base's device.
    """
    most = max(1, *(len(scene.captions) for scene in scenes))
    wordings = [scene.captions or ("",) for scene in scenes]
    said = [[texts[turn % len(texts)] for turn in range(most)] for texts in wordings]
    captions = CaptionTable.of(backbone.tokenizers[0], said, "", backbone.device)
    layouts = [layout_of(scene) for scene in scenes]
    pictures, is_migc = Pictured(latents, captions), job.recipe.method == "migc"

    def speak(texts: Sequence[str]) -> Phrases:
        parts = [texts[start : start + AT_ONCE] for start in range(0, len(texts), AT_ONCE)]
        told = [backbone.encode_phrases(part, cut=True) for part in parts]
        # whole phrases are large, and MIGC alone is told them
        words = [words if is_migc else words[:0] for _, words in told]
        return Phrases(torch.cat([pooled for pooled, _ in told]), torch.cat(words))

    return Placed.told(pictures, layouts, speak, (side, side), backbone.device)


def latents_of(
    job: BoxJob,
    encoder: Encoder,
    source: BoxedPictures,
    rows: Sequence[int],
    side: int,
    report: Report,
) -> Tensor:
    """Latents of some pictures; those that are on disk are not made again.

    Args:
        job: what is asked for.
        encoder: of the base.
        source: all pictures.
        rows: which.
        side: of the squares that are cut out of their middles, in pixels.
        report: told how many are made.

    Returns:
        (N, C, h, w) float16, on the CPU.
    """
    state, vae = processes.this_process(), keeping.identity(encoder.backbone.vae)
    folder = keeping.folder_of(job.cache, source.fingerprint(), vae, side)

    def made(number: int) -> keeping.Made:
        found = encoder.latents(source.picture(rows[number], side)[None])[0]
        return {"image": found.half().cpu().contiguous()}, {}

    share = state.process_index, state.num_processes
    keeping.fill(folder, rows, made, *share, keeping.told(report))
    state.wait_for_everyone()
    return torch.stack([_read(keeping.file_of(folder, row)) for row in rows])


def _read(path: Path) -> Tensor:
    with safe_open(path, "pt") as file:  # pyright: ignore[reportUnknownArgumentType]
        return file.get_tensor("image")

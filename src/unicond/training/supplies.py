"""What the stages are given: earlier weights, and scenes as latents, captions, maps, labels."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from unicond.conditions import CONDITIONS, Condition, Source
from unicond.data import latents, renders, texts
from unicond.data.partners import PartnerRecipe, scene_rows
from unicond.data.renders import RenderRecipe
from unicond.data.things import things
from unicond.training.captions import CaptionTable
from unicond.training.labels import Labels
from unicond.training.pairs import PairData
from unicond.training.probes import MAPS, Annotated
from unicond.training.readout import Mapped
from unicond.training.text2image import Pictured
from unicond.training.things import Placed
from unicond.training.workshop import Workshop
from unicond.world.vocabulary import PARTS

TRAIN, HELD = 0, 1
"""Worlds of the training and of the held-out scenes."""
ENCODED, DESCRIBED = "pictures encoded", "scenes described"
STYLED, SEARCHED = "scenes whose style is known", "scenes whose things are known"
"""What a training tells of before it begins."""
MOST_THINGS = 8
"""In one scene."""
TELLING: Mapping[Source, tuple[str, tuple[int, ...]]] = {
    "same_person": ("parts", tuple(map(PARTS.index, ("skin", "hair", "shirt", "trousers")))),
    "other_frame": ("instances", tuple(range(2, 2 + MOST_THINGS))),  # 0 is sky, 1 is ground
}
"""{what loose pairs have in common: a map, and its numbers that show it}."""


def load_vae(folder: Path, device: torch.device) -> tuple[AutoencoderKL, str]:
    """A trained autoencoder, frozen, and what tells it from others."""
    vae = AutoencoderKL.from_pretrained(folder, torch_dtype=torch.float32)
    vae.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return vae.requires_grad_(False).eval(), latents.identity(folder)


def load_parts(
    folder: Path, kind: type[UNet2DConditionModel] = UNet2DConditionModel
) -> nn.ModuleDict:
    """U-Net and text encoder of a pipeline folder, float32."""
    unet = kind.from_pretrained(folder / "unet", torch_dtype=torch.float32)
    unet.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    text = CLIPTextModel.from_pretrained(folder / "text_encoder", dtype=torch.float32)
    return nn.ModuleDict({"unet": unet, "text_encoder": text})


@dataclass(frozen=True)
class Base:
    """A trained base.

    Args:
        parts: {"unet", "text_encoder"}.
        vae: the autoencoder and what tells it from others.
        words: the tokenizer.
    """

    parts: nn.ModuleDict
    vae: tuple[AutoencoderKL, str]
    words: CLIPTokenizer

    @staticmethod
    def load(folder: Path, device: torch.device) -> "Base":
        """The base in a pipeline folder."""
        parts, vae = load_parts(folder).to(device), load_vae(folder / "vae", device)
        return Base(parts, vae, CLIPTokenizer.from_pretrained(str(folder / "tokenizer")))


def pictured(
    shop: Workshop,
    vae: tuple[AutoencoderKL, str] | int,
    words: CLIPTokenizer,
    seed: int,
    count: int,
    variants: int,
    name: str = "image",
    prefix: str = "",
    style: str = "",
) -> Pictured:
    """Latents of one kind of picture with captions.

    Args:
        shop: where.
        vae: the autoencoder and its identity, or the pixels a side of pictures that are learned as
            they are.
        words: the tokenizer.
        seed: of the world.
        count: scenes.
        variants: wordings of each caption.
        name: of the map.
        prefix: in front of the captions, which then say no style.
        style: the only one of pictures without a prefix, or "".

    Returns:
        Latents and captions of `count` scenes, or of those in the style, on the training device.

    Raises:
        ValueError: none of the scenes is in the style.
    """
    folder = shop.drawn(RenderRecipe(seed=seed), count, (name,))
    if isinstance(vae, int):
        found = renders.load_small(folder, name, count, vae, shop.device)
    else:
        found = latents.cached(*vae, folder, name, count, shop.device, shop.telling(ENCODED))
    recipe, told = RenderRecipe(seed=seed), shop.telling(DESCRIBED)
    said = texts.captions(folder, recipe, count, variants, styled=not prefix, report=told)
    everything = Pictured(found, CaptionTable.of(words, said, prefix, shop.device))
    if prefix or not style:
        return everything
    scenes = RenderRecipe(seed=seed).scenes(0, count)
    rows = [row for row, scene in enumerate(scenes) if scene.style == style]
    if not rows:
        raise ValueError(f"none of {count} scenes is in the style {style!r}; ask for more --scenes")
    return everything.only(torch.tensor(rows, device=shop.device))


def pairs(
    shop: Workshop,
    vae: tuple[AutoencoderKL, str],
    words: CLIPTokenizer,
    seed: int,
    count: int,
    variants: int,
    condition: Condition,
    focus: float = 0.0,
) -> PairData:
    """Pairs of latents with the captions of both branches.

    Args:
        shop: where.
        vae: the autoencoder and its identity.
        words: the tokenizer.
        seed: of the world.
        count: scenes, of which those are taken that the condition asks for.
        variants: wordings of each caption.
        condition: what is paired with the image.
        focus: what the things that loose pairs have in common weigh in the loss, all together; the
            whole picture weighs 1.

    Returns:
        The pairs, on the training device. Loose pairs are there both ways round, where both
        pictures have one style.

    Raises:
        ValueError: no scene is of the kind that the condition asks for, or there is a focus for
            pairs that are not loose.
    """
    if focus and condition.aligned:
        loose = ", ".join(each.name for each in CONDITIONS if not each.aligned)
        raise ValueError(
            f"focus {focus} weighs what loose pairs have in common, but {condition.name} shows "
            f"the whole of the image: give 0, or train one of {loose}"
        )
    rows = _rows_for(condition, seed, count)
    recipe = RenderRecipe(seed=seed)
    names = ("image", condition.source) if condition.aligned else ("image",)
    painter = _Painter(shop, vae, condition, variants, focus)
    images = painter.paint(recipe, count, names).only(rows)
    if not condition.aligned:
        partners = PartnerRecipe(source=condition.source, seed=seed)
        others = painter.paint(partners, len(rows), ("image",))
        told = shop.telling(STYLED)
        first = texts.styles(images.folder, recipe, count, told)
        second = texts.styles(others.folder, partners, len(rows), told)
        alike = [n for n, row in enumerate(rows) if first[row] == second[n]]
        return _both_ways(words, images, others, alike, condition.trigger)
    told = shop.telling(ENCODED)
    other = latents.cached(*vae, images.folder, condition.source, count, shop.device, told)[rows]
    plain, triggered = (
        CaptionTable.of(words, images.said, prefix, shop.device)
        for prefix in ("", condition.trigger)
    )
    return PairData(images.latents, other, plain, triggered)


def _rows_for(condition: Condition, seed: int, count: int) -> list[int]:
    """Those of the first scenes of a world that a condition asks for, or ValueError."""
    rows = scene_rows(condition.scenes, seed, count)
    if not rows:
        raise ValueError(
            f"of the first {count} scenes of world {seed} none are {condition.scenes}, which "
            f"{condition.name} is learned on; give more --scenes"
        )
    return rows


def mapped(
    shop: Workshop,
    vae: tuple[AutoencoderKL, str],
    words: CLIPTokenizer,
    seed: int,
    count: int,
    variants: int,
    condition: Condition,
) -> Mapped:
    """Latents with captions, and the map of each picture at the latents' size.

    Args:
        shop: where.
        vae: the autoencoder and its identity.
        words: the tokenizer.
        seed: of the world.
        count: scenes, of which those are taken that the condition asks for.
        variants: wordings of each caption.
        condition: an aligned one.

    Returns:
        Pictures and maps, on the training device.

    Raises:
        ValueError: no scene is of the kind that the condition asks for.
    """
    rows = torch.tensor(_rows_for(condition, seed, count), device=shop.device)
    pictures = pictured(shop, vae, words, seed, count, variants)
    folder = shop.drawn(RenderRecipe(seed=seed), count, (condition.source,))
    size = pictures.latents.shape[-1]
    maps = renders.load_small(folder, condition.source, count, size, shop.device)
    return Mapped(pictures.only(rows), maps[rows])


def placed(shop: Workshop, base: Base, seed: int, count: int, variants: int) -> Placed:
    """Scenes and what is where in them.

    Args:
        shop: where.
        base: whose latents, and whose text encoder's phrases.
        seed: of the world.
        count: scenes, of which those are taken that have something to tell.
        variants: wordings of each caption.

    Returns:
        The scenes, on the training device.

    Raises:
        ValueError: no scene has anything to tell.
    """
    recipe, text_encoder = RenderRecipe(seed=seed), base.parts["text_encoder"]
    assert isinstance(text_encoder, CLIPTextModel)
    pictures = pictured(shop, base.vae, base.words, seed, count, variants)
    folder = shop.drawn(recipe, count, ("instances",))
    seen = things(folder, recipe, count, shop.telling(SEARCHED))
    found = Placed.of(pictures, seen, recipe.size, text_encoder.eval(), base.words)
    rows = found.seen.any(1).nonzero()[:, 0]
    if not len(rows):
        raise ValueError(f"none of {count} scenes has anything to tell; give more --scenes")
    return found.only(rows)


@dataclass(frozen=True)
class _Side:
    """Pictures of the world as one branch has them.

    Args:
        folder: of their renders.
        latents: (N, C, h, w).
        said: wordings of each caption.
        focus: (N, 1, h, w) or None, see `pairs.Batch`.
    """

    folder: Path
    latents: Tensor
    said: list[list[str]]
    focus: Tensor | None

    def only(self, rows: list[int]) -> "_Side":
        """Some of them."""
        focus = None if self.focus is None else self.focus[rows]
        return _Side(self.folder, self.latents[rows], [self.said[row] for row in rows], focus)

    def then(self, others: "_Side") -> "_Side":
        """Them, and others behind them."""
        focus = _both(self.focus, others.focus)
        return _Side(
            self.folder,
            torch.cat([self.latents, others.latents]),
            self.said + others.said,
            None if focus is None else torch.cat(focus),
        )


@dataclass(frozen=True)
class _Painter:
    """Makes the sides of pairs, image or condition, from the world.

    Args:
        shop: where.
        vae: the autoencoder and its identity.
        condition: what is paired with the image.
        variants: wordings of each caption.
        focus: see `pairs`.
    """

    shop: Workshop
    vae: tuple[AutoencoderKL, str]
    condition: Condition
    variants: int
    focus: float

    def paint(
        self, recipe: RenderRecipe | PartnerRecipe, count: int, names: tuple[str, ...]
    ) -> _Side:
        """The first pictures of a recipe, with the other maps `names` drawn."""
        shop, source = self.shop, self.condition.source
        told = TELLING[source] if self.focus else None
        folder = shop.drawn(recipe, count, names if told is None else (*names, told[0]))
        found = latents.cached(
            *self.vae, folder, "image", count, shop.device, shop.telling(ENCODED)
        )
        described, looks = shop.telling(DESCRIBED), self.condition.says_looks
        said = texts.captions(folder, recipe, count, self.variants, looks=looks, report=described)
        if told is None:
            return _Side(folder, found, said, None)
        shares = renders.load_shares(folder, *told, count, found.shape[-1])
        return _Side(folder, found, said, self.focus * _each_alike(shares).to(shop.device))


def _each_alike(shares: Tensor) -> Tensor:
    """What the places of pictures weigh where K things take `shares` (N, K, h, w) of them.

    All things that are seen weigh the same, together 1 in the mean over the places (N, 1, h, w);
    less if they are smaller than one place.
    """
    whole = shares.mean((2, 3), keepdim=True)
    seen = (whole > 0).sum(1, keepdim=True).clamp_min(1)
    one_place = 1 / shares[0, 0].numel()
    return (shares / whole.clamp_min(one_place)).sum(1, keepdim=True) / seen


def _both(one: Tensor | None, other: Tensor | None) -> tuple[Tensor, Tensor] | None:
    """Two branches' focus, where there is one."""
    return None if one is None or other is None else (one, other)


def _both_ways(
    words: CLIPTokenizer, firsts: _Side, others: _Side, alike: list[int], trigger: str
) -> PairData:
    """Loose pairs of scenes and their partners; those that are `alike` the other way, too."""
    images, conditions = firsts.then(others.only(alike)), others.then(firsts.only(alike))
    # one prompt serves both branches when one of them is held: half of the condition's wordings
    # are the image's
    mixed = [a + b for a, b in zip(conditions.said, images.said, strict=True)]
    device = images.latents.device
    return PairData(
        images.latents,
        conditions.latents,
        CaptionTable.of(words, images.said, "", device),
        CaptionTable.of(words, mixed, trigger, device),
        _both(images.focus, conditions.focus),
    )


def annotated(
    shop: Workshop, vae: tuple[AutoencoderKL, str], seed: int, count: int, copies: int
) -> Annotated:
    """Renders with all their annotations; `copies` of them also through the autoencoder."""
    folder = shop.drawn(RenderRecipe(seed=seed), count, MAPS)
    maps = renders.load(folder, MAPS, count, shop.device)
    scenes = RenderRecipe(seed=seed).scenes(0, count)
    labels = Labels.of(scenes, maps["image"].shape[-1], shop.device)
    told = shop.telling(ENCODED)
    worn = latents.reconstructed(*vae, folder, copies, shop.device, told) if copies else None
    return Annotated(maps, labels, worn)

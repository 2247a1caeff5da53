"""The stages of image prompts: `image_encoder/`, and `adapters/image-prompt/`, which holds it."""

import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from unicond.adapters.hub import Card
from unicond.adapters.image_prompt.adapter import ImagePromptAdapter
from unicond.adapters.image_prompt.encoder import FOLDER, ImageEncoder, side_of
from unicond.adapters.image_prompt.prompter import Prompter
from unicond.data import latents, renders, texts
from unicond.data.folders import fingerprint
from unicond.data.renders import RenderRecipe
from unicond.training import cards, sampling, supplies
from unicond.training.captions import CaptionTable, tokens
from unicond.training.cards import TrainingCard
from unicond.training.diffusion import Noising, mini_scheduler
from unicond.training.image_encoder import Captioned, ImageEncoderConfig, ImageEncoderTask, Styled
from unicond.training.image_prompt import (
    SHOWN,
    Alike,
    ImagePromptTask,
    ImagePromptTrainingConfig,
    Prompted,
)
from unicond.training.loop import Task
from unicond.training.supplies import DESCRIBED, ENCODED, HELD, TRAIN
from unicond.training.text2image import Pictured
from unicond.training.workshop import Job, Save, Workshop, run
from unicond.world import describe
from unicond.world.captions import STYLE_WORDS
from unicond.world.vocabulary import STYLES

NAME = "image-prompt"
NOTE = (
    "Of four in ten samples the prompt is the picture itself, of the others another picture of the "
    "same style and place. Half of the captions do not say the style."
)


def train_image_encoder(shop: Workshop) -> Path:
    """Train the image encoder, beside the base's frozen text encoder: `image_encoder/`.

    Args:
        shop: where.

    Returns:
        The folder of weights.

    Raises:
        ValueError: the base is missing, or what it starts from is another encoder, or none.
    """
    config, base = shop.changed(shop.recipes.image_encoder), shop.parent("mini", "text2image")
    title, command = "Image encoder of the embedded world", shop.command("image-encoder")
    parents, folder = {"mini": fingerprint(base)}, shop.weights / FOLDER
    job = Job("image-encoder", title, command, folder, config, parents)

    def build() -> tuple[Task, Save]:
        text_encoder = supplies.load_parts(base)["text_encoder"].to(shop.device)
        assert isinstance(text_encoder, CLIPTextModel)
        words = CLIPTokenizer.from_pretrained(str(base / "tokenizer"))
        contrast = config.contrast(text_encoder.config.hidden_size)
        if shop.init is not None:
            _go_on(contrast.vision, _encoder(shop.init).model, shop.init)
        train = captioned(shop, words, config, TRAIN, config.scenes)
        held = styled(shop, words, config, HELD, shop.recipes.held_scenes)
        task = ImageEncoderTask(config, contrast, text_encoder, train, held)

        def save(folder: Path, card: TrainingCard) -> None:
            del card
            task.contrast.encoder().save_pretrained(folder, torch.float16)

        return task, save

    return run(shop, job, build)


def train_image_prompt(shop: Workshop) -> Path:
    """Train the image prompt adapter of the base: `adapters/image-prompt/`.

    Args:
        shop: where.

    Returns:
        The folder of weights.

    Raises:
        ValueError: the base or the image encoder is missing, or what it starts from is another
            adapter, or none.
    """
    config, base = shop.changed(shop.recipes.image_prompt), shop.parent("mini", "text2image")
    eyes = shop.parent(FOLDER, "image-encoder")
    parents = {"mini": fingerprint(base), FOLDER: fingerprint(eyes)}
    title, command = "Image prompt adapter of mini", shop.command(NAME)
    job = Job(NAME, title, command, shop.weights / "adapters" / NAME, config, parents)

    def build() -> tuple[Task, Save]:
        encoder = ImageEncoder.from_pretrained(eyes)
        task = image_prompt_task(shop, config, base, encoder, f"mini@{parents['mini']}")

        def save(folder: Path, card: TrainingCard) -> None:
            data = f"The embedded world. {NOTE}"
            told = Card(data, card.command, card.scores, "apache-2.0", made=card.made)
            Prompter(task.adapter, encoder).save_pretrained(folder, told, torch.float16)
            for name in (cards.FILE, "README.md"):  # the encoder ships in here
                if (eyes / name).exists():
                    shutil.copy(eyes / name, folder / FOLDER / name)

        return task, save

    return run(shop, job, build)


def image_prompt_task(
    shop: Workshop,
    config: ImagePromptTrainingConfig,
    base: Path,
    encoder: ImageEncoder,
    told: str,
) -> ImagePromptTask:
    """An adapter's task, on the base's weights.

    Args:
        shop: where.
        config: how it is trained.
        base: a pipeline's folder.
        encoder: of pictures; it is moved to the training device.
        told: the base's name.

    Returns:
        The task.
    """
    parts = supplies.load_parts(base).to(shop.device)
    unet, text_encoder = parts["unet"], parts["text_encoder"]
    assert isinstance(unet, UNet2DConditionModel)
    assert isinstance(text_encoder, CLIPTextModel)
    vae = supplies.load_vae(base / "vae", shop.device)
    words = CLIPTokenizer.from_pretrained(str(base / "tokenizer"))
    noising = Noising.of(mini_scheduler(), shop.device)
    encoder.model.to(shop.device)  # pyright: ignore[reportArgumentType] (transformers' decorator)
    train, held = (
        prompted(shop, vae, words, encoder, seed, count, config.variants)
        for seed, count in ((TRAIN, config.scenes), (HELD, shop.recipes.held_scenes))
    )
    adapter = config.adapter(unet, encoder.width, told)
    if shop.init is not None:
        try:
            old = ImagePromptAdapter.from_pretrained(shop.init)
        except FileNotFoundError as error:
            raise ValueError(f"--init: {error}") from error
        _go_on(adapter, old, shop.init)
    sampler = sampling.Parts(unet, text_encoder, words, noising.schedule)
    return ImagePromptTask(config, adapter, sampler, vae[0], noising, train, held)


def _encoder(folder: Path) -> ImageEncoder:
    """An earlier encoder; ValueError where there is none."""
    try:
        return ImageEncoder.from_pretrained(folder)
    except FileNotFoundError as error:
        raise ValueError(f"--init: {error}") from error


def _go_on(fresh: torch.nn.Module, old: torch.nn.Module, where: Path) -> None:
    """Give fresh weights an earlier one's values; ValueError where shapes differ."""
    try:
        fresh.load_state_dict(old.state_dict())
    except RuntimeError as error:
        why = str(error).splitlines()[1].strip()
        raise ValueError(f"--init {where} is another one than this recipe's: {why}") from error


def captioned(
    shop: Workshop, words: CLIPTokenizer, config: ImageEncoderConfig, seed: int, count: int
) -> Captioned:
    """Pictures of a world's first scenes, with captions that say the style."""
    recipe = RenderRecipe(seed=seed)
    folder = shop.drawn(recipe, count, ("image",))
    pictures = renders.load_small(folder, "image", count, config.size, shop.device)
    told = shop.telling(DESCRIBED)
    said = texts.captions(folder, recipe, count, config.variants, report=told)
    return Captioned(pictures, CaptionTable.of(words, said, "", shop.device))


def styled(
    shop: Workshop, words: CLIPTokenizer, config: ImageEncoderConfig, seed: int, count: int
) -> Styled:
    """Held-out pictures, and what would be said of each scene in every style."""
    scenes = RenderRecipe(seed=seed).scenes(0, count)
    said = [describe(scene.with_style(style)).text for scene in scenes for style in STYLES]
    every = tokens(words, said).view(count, len(STYLES), -1).to(shop.device)
    styles = torch.tensor([STYLES.index(scene.style) for scene in scenes], device=shop.device)
    return Styled(captioned(shop, words, config, seed, count), every, styles)


def prompted(
    shop: Workshop,
    vae: tuple[AutoencoderKL, str],
    words: CLIPTokenizer,
    encoder: ImageEncoder,
    seed: int,
    count: int,
    variants: int,
) -> Prompted:
    """Latents, captions with and without style, and embeddings of a world's first scenes.

    Args:
        shop: where.
        vae: the autoencoder and its identity.
        words: the tokenizer.
        encoder: of pictures, which sees them at its own size.
        seed: of the world.
        count: scenes.
        variants: wordings of each caption, with style and without.

    Returns:
        The pictures, on the training device.
    """
    recipe = RenderRecipe(seed=seed)
    folder = shop.drawn(recipe, count, ("image",))
    found = latents.cached(*vae, folder, "image", count, shop.device, shop.telling(ENCODED))
    told = shop.telling(DESCRIBED)
    said, bare = (
        texts.captions(folder, recipe, count, variants, styled=styled, report=told)
        for styled in (True, False)
    )
    photo = tuple(f"{start} " for start in STYLE_WORDS["photo"])
    captions = [
        [*some, *(_without(text, photo) for text in others)]
        for some, others in zip(said, bare, strict=True)
    ]
    table = CaptionTable.of(words, captions, "", shop.device)
    keys = [(scene.style, scene.place.ground, scene.place.sky) for scene in recipe.scenes(0, count)]
    others = torch.tensor([style != "photo" for style, *_ in keys], device=shop.device)
    pictures = renders.load_small(folder, "image", count, side_of(encoder.model), shop.device)
    embeds = embedded(encoder, pictures)
    alike = Alike.of(keys, shop.device)
    return Prompted(Pictured(found, table), embeds, alike, others, pictures[:SHOWN].clone())


@torch.no_grad()
def embedded(encoder: ImageEncoder, pictures: Tensor) -> Tensor:
    """(N, E) embeddings of pictures (N, 3, S, S) uint8 of the encoder's own size."""
    seen = (encoder.preprocess.normalised(part) for part in pictures.split(64))
    return torch.cat([encoder.model(part).image_embeds for part in seen]).float()


def _without(text: str, starts: tuple[str, ...]) -> str:
    """A text without one of some beginnings."""
    for start in starts:
        text = text.removeprefix(start)
    return text

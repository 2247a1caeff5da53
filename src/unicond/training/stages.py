"""From a preset to folders of weights: each trainer with its data, its parents and its card.

    vae -> text2image -> joint and grounding adapters, readout heads;   vae -> probes;   pixels
    text2image -> image encoder -> image prompt adapter

Everything that a stage makes lies in one folder of weights: `vae/`, `mini/` (a diffusers
pipeline), `adapters/<condition or method>/`, `readout/<condition>/`, `image_encoder/`,
`adapters/image-prompt/`, `mini-pixel/`, `probes/`; it appears there whole, when the stage is done.
"""

import shutil
from dataclasses import replace
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from transformers import CLIPTokenizer

from unicond import conditions
from unicond.adapters.hub import Card
from unicond.adapters.image_prompt.encoder import FOLDER
from unicond.adapters.joint import JointAdapter
from unicond.backbones.pixels import UnshuffledUNet
from unicond.conditions import Condition
from unicond.data import renders
from unicond.data.folders import fingerprint, whole_folder
from unicond.data.renders import RenderRecipe
from unicond.evaluation.probes import Probe
from unicond.pictures.files import check_output_folder
from unicond.training import cards, supplies, tokenizer
from unicond.training.autoencoder import AutoencoderTask
from unicond.training.captions import NORMAL_MAP, world_words
from unicond.training.cards import TrainingCard
from unicond.training.diffusion import Noising, mini_scheduler
from unicond.training.grounding import METHODS
from unicond.training.grounding_stage import train_grounding
from unicond.training.image_prompt_stages import train_image_encoder, train_image_prompt
from unicond.training.joint import JointTask, JointTrainingConfig
from unicond.training.loop import Task
from unicond.training.pairs import LatentPairs
from unicond.training.probes import ProbeTask
from unicond.training.readout import SHIPPED, ReadoutTask
from unicond.training.starting import go_on, go_on_from_part
from unicond.training.supplies import HELD, TRAIN
from unicond.training.text2image import Pictured, TextToImageTask
from unicond.training.workshop import Job, Save, Workshop, run


def train_vae(shop: Workshop) -> Path:
    """Train the autoencoder: `vae/`."""
    config, command = shop.changed(shop.recipes.vae), shop.command("vae")
    title = "Autoencoder of the embedded world"
    job = Job("vae", title, command, shop.weights / "vae", config)

    def build() -> tuple[Task, Save]:
        names = ("image", *config.drawings)
        train, held = (
            renders.load(
                shop.drawn(RenderRecipe(seed=seed), count, names), names, count, shop.device
            )
            for seed, count in ((TRAIN, config.scenes), (HELD, shop.recipes.held_scenes))
        )
        old = supplies.load_vae(shop.init, shop.device)[0] if shop.init else None
        task = AutoencoderTask(config, train, held, old and old.requires_grad_(True))

        def save(folder: Path, card: TrainingCard) -> None:
            del card
            task.finish().half().save_pretrained(folder)

        return task, save

    return run(shop, job, build)


def train_text2image(shop: Workshop, style: str = "") -> Path:
    """Train the base, `mini/`, a diffusers pipeline; or fine-tune it to a style, `mini-<style>/`.

    Args:
        shop: where; a style starts from the base in `shop.init`.
        style: one of the world's.

    Returns:
        The folder of weights.

    Raises:
        ValueError: there is no such style, no base to start from, or no autoencoder.
    """
    config = shop.changed(shop.recipes.text2image_of(style))
    if style and shop.init is None:
        raise ValueError(f"style {style!r} is fine-tuned from a base; name it: --init mini")
    parent = shop.init / "vae" if style and shop.init else shop.parent("vae", "vae")
    tail, title = (f"-{style}", f", fine-tuned to {style}") if style else ("", "")
    command = shop.command("text2image" + (f" --style {style}" if style else ""))
    title = f"Text-to-image model of the embedded world{title}"
    parents = {"vae": fingerprint(parent)}
    folder = shop.weights / f"mini{tail}"
    job = Job(f"text2image{tail}", title, command, folder, config, parents)

    def build() -> tuple[Task, Save]:
        vae = supplies.load_vae(parent, shop.device)
        words = _words(shop, job)
        many, few = config.scenes, config.normal_scenes
        train, normals, held = (
            supplies.pictured(
                shop, vae, words, seed, count, config.variants, name, prefix, config.style
            )
            for seed, count, name, prefix in (
                (TRAIN, many, "image", ""),
                (TRAIN, few, "normals", NORMAL_MAP),
                (HELD, shop.recipes.held_scenes, "image", ""),
            )
        )
        old = supplies.load_parts(shop.init) if shop.init else None
        task = TextToImageTask(config, vae[0], words, (train, normals), held, shop.device, old)

        def save(folder: Path, card: TrainingCard) -> None:
            del card
            task.save(folder)
            for name in (cards.FILE, "README.md"):  # the autoencoder ships in here
                if (parent / name).exists():
                    shutil.copy(parent / name, folder / "vae" / name)

        return task, save

    return run(shop, job, build)


def train_pixels(shop: Workshop) -> Path:
    """Train the base without an autoencoder: `mini-pixel/`."""
    config, command = shop.changed(shop.recipes.pixels), shop.command("pixels")
    title = "Text-to-image model of the embedded world, in pixels"
    job = Job("pixels", title, command, shop.weights / "mini-pixel", config)

    def build() -> tuple[Task, Save]:
        words = _words(shop, job)

        def drawn(seed: int, count: int, name: str = "image", prefix: str = "") -> Pictured:
            size, variants, style = config.size, config.variants, config.style
            return supplies.pictured(shop, size, words, seed, count, variants, name, prefix, style)

        train, held = drawn(TRAIN, config.scenes), drawn(HELD, shop.recipes.held_scenes)
        normals = train  # of which none are drawn, unless they have a share
        if config.normal_share:
            normals = drawn(TRAIN, config.normal_scenes, "normals", NORMAL_MAP)
        old = supplies.load_parts(shop.init, UnshuffledUNet) if shop.init else None
        task = TextToImageTask(config, None, words, (train, normals), held, shop.device, old)

        def save(folder: Path, card: TrainingCard) -> None:
            del card
            task.save(folder)

        return task, save

    return run(shop, job, build)


def _words(shop: Workshop, job: Job) -> CLIPTokenizer:
    """The tokenizer of the base that is started from, or one of the world's words."""
    if shop.init:
        return CLIPTokenizer.from_pretrained(str(shop.init / "tokenizer"))
    return tokenizer.build(world_words(), shop.runs / job.name / "tokenizer")


def train_joint(shop: Workshop, name: str = "depth") -> Path:
    """Train a joint adapter: `adapters/<name>/`.

    Args:
        shop: where.
        name: of a condition, one of `conditions.NAMES`.

    Returns:
        The folder of weights.

    Raises:
        ValueError: there is no such condition, or the base or the adapter that it starts from is
            missing.
    """
    condition = conditions.named(name)
    config = shop.changed(shop.recipes.joint_of(condition, goes_on=shop.init is not None))
    base = shop.parent("mini", "text2image")
    parents, start = {"mini": fingerprint(base)}, shop.init
    if condition.starts_from and start is None:
        first = condition.starts_from
        start = shop.parent(f"adapters/{first}", f"joint --condition {first}")
        parents[first] = fingerprint(start)
    title, folder = f"Joint {name} adapter of mini", shop.weights / "adapters" / name
    command = shop.command(f"joint --condition {name}")
    job = Job(f"joint-{name}", title, command, folder, config, parents)

    def build() -> tuple[Task, Save]:
        task = joint_task(shop, job, config, base, condition, start)

        def save(folder: Path, card: TrainingCard) -> None:
            data = f"The embedded world. {condition.note}"
            told = Card(data, card.command, card.scores, "apache-2.0", made=card.made)
            task.adapter.save_pretrained(folder, told, torch.float16)

        return task, save

    return run(shop, job, build)


def joint_task(
    shop: Workshop,
    job: Job,
    config: JointTrainingConfig,
    base: Path,
    condition: Condition,
    start: Path | None,
) -> JointTask:
    """An adapter's task, on the base's weights.

    Args:
        shop: where.
        job: what is run.
        config: how it is trained.
        base: a pipeline's folder.
        condition: what is paired with the image.
        start: a folder of weights that it starts from, or None.

    Returns:
        The task.
    """
    device, loaded = shop.device, supplies.Base.load(base, shop.device)
    unet, text_encoder = loaded.parts["unet"], loaded.parts["text_encoder"]
    assert isinstance(unet, UNet2DConditionModel)
    train, held = (
        supplies.pairs(
            shop, loaded.vae, loaded.words, seed, count, config.variants, condition, focus
        )
        for seed, count, focus in (
            (TRAIN, config.scenes, config.focus),
            (HELD, shop.recipes.held_scenes, 0.0),
        )
    )
    adapter = config.adapter(unet, condition, f"mini@{job.parents['mini']}").to(device)
    if start is not None:
        go_on_from_part(adapter, JointAdapter.from_pretrained(start), str(start))
    noising = Noising.of(mini_scheduler(), device)
    return JointTask(
        config,
        adapter,
        unet,
        noising,
        LatentPairs(train, text_encoder),
        LatentPairs(held, text_encoder),
    )


def train_readout(shop: Workshop, name: str = "depth") -> Path:
    """Train a readout head of the base: `readout/<name>/`.

    Args:
        shop: where.
        name: of an aligned condition.

    Returns:
        The folder of weights.

    Raises:
        ValueError: there is no such condition or it is no map of the picture, the base is missing,
            or what it starts from is another head, or none.
    """
    condition = conditions.named(name)
    if not condition.aligned:
        maps = ", ".join(each.name for each in conditions.CONDITIONS if each.aligned)
        raise ValueError(f"{name} is no map of the picture itself; a head reads one of {maps}")
    config, base = shop.changed(shop.recipes.readout), shop.parent("mini", "text2image")
    folder, parents = shop.weights / "readout" / name, {"mini": fingerprint(base)}
    title, command = f"Readout head of mini: {name}", shop.command(f"readout --condition {name}")
    job = Job(f"readout-{name}", title, command, folder, config, parents)

    def build() -> tuple[Task, Save]:
        loaded = supplies.Base.load(base, shop.device)
        parts, vae, words = loaded.parts, loaded.vae, loaded.words
        train, held = (
            supplies.mapped(shop, vae, words, seed, count, config.variants, condition)
            for seed, count in ((TRAIN, config.scenes), (HELD, shop.recipes.held_scenes))
        )
        told = f"mini@{parents['mini']}"
        head = config.head(parts["unet"], condition.shows, train.maps.shape[1], told)
        if shop.init is not None:
            go_on(head, shop.init, ("kind", "blocks", "channels", "width"))
        noising = Noising.of(mini_scheduler(), shop.device)
        task = ReadoutTask(config, head.to(shop.device), parts, noising, train, held)

        def save(folder: Path, card: TrainingCard) -> None:
            head.config = replace(head.config, error=card.scores["held_out_error"])
            head.save_pretrained(folder, torch.float16)

        return task, save

    return run(shop, job, build)


def train_probes(shop: Workshop) -> Path:
    """Train the judge: `probes/`."""
    config = shop.changed(shop.recipes.probes)
    parent = shop.parent("vae", "vae")
    command = shop.command("probes")
    title, parents = "Probe of the embedded world", {"vae": fingerprint(parent)}
    job = Job("probes", title, command, shop.weights / "probes", config, parents)

    def build() -> tuple[Task, Save]:
        vae = supplies.load_vae(parent, shop.device)
        train = supplies.annotated(shop, vae, TRAIN, config.scenes, config.reconstructed_scenes)
        held = supplies.annotated(shop, vae, HELD, shop.recipes.held_scenes, 0)
        old = Probe.from_pretrained(shop.init) if shop.init else None
        task = ProbeTask(config, train, held, old)

        def save(folder: Path, card: TrainingCard) -> None:
            del card
            task.probe.save_pretrained(folder)

        return task, save

    return run(shop, job, build)


def train_all(shop: Workshop, names: tuple[str, ...] = conditions.NAMES) -> list[Path]:
    """Everything that ships, in the order in which it depends on each other.

    Args:
        shop: where.
        names: of the conditions whose adapters, and readout heads where they ship, are trained;
            grounding adapters are in any case.

    Returns:
        The folders of weights.
    """
    made = [train_vae(shop), train_text2image(shop)]
    made += [train_joint(shop, name) for name in names]
    made += [train_readout(shop, name) for name in SHIPPED if name in names]
    made += [train_grounding(shop, method) for method in METHODS]
    made += [train_image_encoder(shop), train_image_prompt(shop)]
    return [*made, train_pixels(shop), train_probes(shop)]


def publish(shop: Workshop, target: Path) -> list[Path]:
    """Copy what ships (everything but the two encoders alone, which others hold) into a folder.

    Each part appears there whole.

    Args:
        shop: where it was made.
        target: folder of the weights that ship.

    Returns:
        The folders that were written.

    Raises:
        ValueError: the folder cannot be written.
    """
    check_output_folder(target)
    found = sorted(path.parent.relative_to(shop.weights) for path in shop.weights.rglob(cards.FILE))
    # autoencoder and image encoder ship inside of what needs them, with their cards
    alone = (Path("vae"), Path(FOLDER))
    shipped = [name for name in found if name not in alone and name.parent not in found]
    for name in shipped:
        with whole_folder(target / name) as aside:
            shutil.copytree(shop.weights / name, aside, dirs_exist_ok=True)
        shop.report(1.0, f"{target / name} is published")
    return [target / name for name in shipped]

"""PNGs that say how they were made.

Two text chunks go into each: `parameters`, for people and for web user interfaces, which read
    a red ball left of a blue box
    Negative prompt: blurry
    Steps: 20, Solver: ddim, CFG scale: 3.0, Seed: 7, Size: 128x128
and `unicond`, JSON in UTF-8, which holds every setting, so that the picture can be made again.
"""

import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import cast

from PIL import Image, PngImagePlugin, UnidentifiedImageError
from torch import Tensor

from unicond.pictures.files import FilePath, PictureError, existing_file, whole_file
from unicond.pictures.reading import to_pil

CHUNK = "unicond"
FORMAT = 1
Settings = Mapping[str, object]

_LABELS = {
    "num_inference_steps": "Steps",
    "solver": "Solver",
    "guidance_scale": "CFG scale",
    "seed": "Seed",
}
_PROMPTS = ("prompt", "negative_prompt")


def write_png(picture: Tensor | Image.Image, path: FilePath, settings: Settings | None) -> Path:
    """Write a picture with the settings that it was made with.

    Args:
        picture: (3, H, W) in [-1, 1], or a PIL image.
        path: of the PNG; missing folders are made.
        settings: {name: what JSON can hold}; `prompt`, `negative_prompt`, `num_inference_steps`,
            `solver`, `guidance_scale` and `seed` come first in the readable text; None writes none.

    Returns:
        The path.

    Raises:
        PictureError: the file cannot be written, or the picture is not finite.
        TypeError: a setting is nothing that JSON can hold.
        ValueError: a setting is not a finite number.
    """
    image = to_pil(picture) if isinstance(picture, Tensor) else picture
    chunks = PngImagePlugin.PngInfo()
    if settings is not None:
        content = {"format": FORMAT, "version": version("unicond"), "settings": dict(settings)}
        chunks.add_text("parameters", parameters_text(settings, image.size))
        chunks.add_itxt(CHUNK, json.dumps(content, ensure_ascii=False, allow_nan=False))
    with whole_file(path) as file:
        image.save(file, "PNG", pnginfo=chunks)
    return Path(path)


def parameters_text(settings: Settings, size: tuple[int, int]) -> str:
    """Settings in the manner of web user interfaces.

    Args:
        settings: as in `write_png`; lists and mappings are left to the JSON.
        size: width and height in pixels.

    Returns:
        The prompt, the negative prompt if there is one, and one line of the rest.
    """
    first = [(label, settings[name]) for name, label in _LABELS.items() if name in settings]
    rest = [
        (name.replace("_", " ").capitalize(), value)
        for name, value in settings.items()
        if name not in (*_LABELS, *_PROMPTS, "size")
    ]
    shown = [*first, ("Size", f"{size[0]}x{size[1]}"), *rest]
    pairs = [f"{k}: {_quoted(v)}" for k, v in shown if isinstance(v, str | int | float)]
    lines = [str(settings.get("prompt") or "")]
    if settings.get("negative_prompt"):
        lines.append(f"Negative prompt: {settings['negative_prompt']}")
    return "\n".join([*lines, ", ".join(pairs)])


def read_settings(path: FilePath) -> dict[str, object]:
    """The settings that a PNG was made with.

    Args:
        path: of a PNG that `write_png` wrote.

    Returns:
        The settings, as they were given.

    Raises:
        PictureError: it is no PNG, holds no settings, or they are damaged or of a newer format.
    """
    found = existing_file(path, (".png",))
    try:
        with Image.open(found, formats=["PNG"]) as image:
            image.load()  # other programs put text behind the picture
            text = cast("Mapping[str, str]", image.info).get(CHUNK)
    except UnidentifiedImageError as error:
        raise PictureError(f"{found} is not a PNG, and only those hold settings") from error
    except (OSError, SyntaxError, ValueError) as error:
        raise PictureError(f"{found} is damaged or cut off ({error})") from error
    if text is None:
        raise PictureError(
            f"{found} holds no settings: `unicond inspect` and `rerun` need a PNG made by unicond "
            "(editors and messengers drop what is written into it)"
        )
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise PictureError(f"the settings in {found} are damaged: {error}") from error
    if not isinstance(content, dict) or not isinstance(content.get("settings"), dict):
        raise PictureError(f"the settings in {found} are damaged: they are no record of settings")
    if content.get("format") != FORMAT:
        raise PictureError(
            f"{found} has settings of format {content.get('format')!r}, this version reads "
            f"{FORMAT}; update unicond"
        )
    return content["settings"]


def _quoted(value: object) -> str:
    """Values with commas or line breaks in quotes, as web user interfaces parse them."""
    text = str(value)
    special = any(mark in text for mark in ',:"\n')
    return json.dumps(text, ensure_ascii=False) if special else text

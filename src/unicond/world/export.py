"""Writing a world to disk: a Hugging Face imagefolder, or webdataset shards.

Scenes are written in parts of `shard_size`. A part is written under temporary names and renamed
when it is whole, its index last, so that what has its final name is complete: an export that was
stopped goes on with the first part that is missing. `export.json` holds the settings; other
settings are refused.
"""

import dataclasses
import io
import json
import os
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from unicond.world.annotate import Keypoints, boxes, keypoints, soft_edges
from unicond.world.captions import describe
from unicond.world.drawings import draw_segmentation, draw_skeletons
from unicond.world.generate import World
from unicond.world.render import render
from unicond.world.scene import Scene
from unicond.world.sheet import to_pixels
from unicond.world.vocabulary import check_word

BATCH = 16
FORMATS = ("imagefolder", "webdataset")
PICTURES = (
    "image",
    "depth",
    "inverse_depth",
    "normals",
    "edges",
    "skeleton",
    "segmentation",
    "instances",
    "classes",
    "colors",
)
"""One PNG of each for every scene.

`depth` is 16 bit in millimetres, 0 for sky; `instances` is 8 bit: 0 sky, 1 ground, k + 2 entity k;
`classes` and `colors` are 8 bit indices into the vocabulary.
"""


@dataclass(frozen=True)
class ExportConfig:
    """What to export.

    Attributes:
        world: the scenes' world.
        start: first scene.
        count: how many scenes.
        size: height and width in pixels.
        format: "imagefolder" or "webdataset".
        shard_size: scenes a part (a tar file, in webdataset).
        captions: wordings a scene.
    """

    world: World
    start: int = 0
    count: int = 1000
    size: tuple[int, int] = (128, 128)
    format: str = "imagefolder"
    shard_size: int = 256
    captions: int = 1

    def __post_init__(self) -> None:
        check_word(self.format, FORMATS, "format")
        for name in ("count", "shard_size", "captions"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)} is too small; give 1 or more")
        if self.start < 0:
            raise ValueError(f"start {self.start} is negative; scenes are numbered from 0")

    @property
    def parts(self) -> list[range]:
        """The numbers of the scenes of every part."""
        numbers = range(self.start, self.start + self.count)
        return [numbers[n : n + self.shard_size] for n in range(0, self.count, self.shard_size)]


def export(config: ExportConfig, folder: Path, progress: Callable[[int], None]) -> int:
    """Write a world to a folder; what is already there is kept.

    Args:
        config: what to write.
        folder: made if it is not there.
        progress: told how many scenes are done after each step, those found included.

    Returns:
        How many scenes were written now.

    Raises:
        ValueError: the folder holds an export with other settings.
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _claim(config, folder)
    written = 0
    for number, part in enumerate(config.parts):
        done = _index(config, folder, number)
        if not done.exists():
            _write_part(config, folder, number, part, progress)
            written += len(part)
        else:
            progress(len(part))
    if config.format == "imagefolder":
        _join(config, folder)
    return written


def _claim(config: ExportConfig, folder: Path) -> None:
    """Write the settings, or see that they are those of the export that is there."""
    text = json.dumps(dataclasses.asdict(config), indent=1)
    path = folder / "export.json"
    if path.exists() and path.read_text() != text:
        raise ValueError(
            f"{folder} holds an export with other settings (see {path}); "
            "choose another folder or the same settings"
        )
    _replace(path, text.encode())


def _replace(path: Path, data: bytes) -> None:
    """Write a file under a temporary name, then give it its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(data)
    os.replace(partial, path)


def _index(config: ExportConfig, folder: Path, number: int) -> Path:
    """The file whose presence says that a part is complete."""
    if config.format == "webdataset":
        return folder / f"world-{number:06d}.tar"
    return folder / "parts" / f"metadata-{number:06d}.jsonl"


def _write_part(
    config: ExportConfig, folder: Path, number: int, part: range, progress: Callable[[int], None]
) -> None:
    """Write one part, its index last."""
    index = _index(config, folder, number)
    index.parent.mkdir(parents=True, exist_ok=True)
    partial = index.with_name(index.name + ".partial")
    if config.format == "webdataset":
        with tarfile.open(partial, "w") as tar:
            for scene, files in _samples(config, part, progress):
                for name, data in files.items():
                    _add(tar, f"{scene.index:09d}.{name}", data)
    else:
        lines: list[str] = []
        for scene, files in _samples(config, part, progress):
            for name in PICTURES:
                _replace(folder / name / f"{scene.index:09d}.png", files[f"{name}.png"])
            lines.append(_metadata_line(scene, files["json"]))
        partial.write_text("".join(lines))
    os.replace(partial, index)


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    """Add a file without time or owner, so that the same world gives the same bytes."""
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    tar.addfile(entry, io.BytesIO(data))


def _metadata_line(scene: Scene, data: bytes) -> str:
    """A line of metadata.jsonl: every picture's file, then what there is to say."""
    row: dict[str, object] = {}
    for name in PICTURES:
        column = "file_name" if name == "image" else f"{name}_file_name"
        row[column] = f"{name}/{scene.index:09d}.png"
    return json.dumps(row | json.loads(data)) + "\n"


def _join(config: ExportConfig, folder: Path) -> None:
    """Put the parts' lines into metadata.jsonl."""
    parts = [_index(config, folder, number).read_bytes() for number in range(len(config.parts))]
    _replace(folder / "metadata.jsonl", b"".join(parts))


def _png(pixels: np.ndarray) -> bytes:
    """A PNG of (H, W, 3) or (H, W) uint8, or (H, W) uint16."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def _samples(
    config: ExportConfig, part: range, progress: Callable[[int], None]
) -> Iterator[tuple[Scene, dict[str, bytes]]]:
    """Scenes of a part with their files' contents by name."""
    for start in range(0, len(part), BATCH):
        scenes = [config.world[number] for number in part[start : start + BATCH]]
        yield from encode(scenes, config.size, config.captions)
        progress(len(scenes))


def encode(
    scenes: list[Scene], size: tuple[int, int], captions: int = 1
) -> list[tuple[Scene, dict[str, bytes]]]:
    """Every scene's files.

    Args:
        scenes: B scenes.
        size: height and width in pixels.
        captions: wordings a scene.

    Returns:
        B pairs of a scene and its files: "<picture>.png" for each of `PICTURES`, "txt" with the
        captions (one a line) and "json" with all data.
    """
    drawn = render(scenes, size)
    color = {
        "image": drawn.image,
        "inverse_depth": drawn.inverse_depth,
        "normals": drawn.normals,
        "edges": soft_edges(drawn),
        "skeleton": draw_skeletons(scenes, size),
        "segmentation": draw_segmentation(drawn),
    }
    pixels = {name: to_pixels(picture) for name, picture in color.items()}
    millimetres = (drawn.depth[:, 0] * 1000).round().clamp(0, 65535).numpy().astype(np.uint16)
    flat = {
        "depth": millimetres,
        "instances": (drawn.instances + 1).to(torch.uint8).numpy(),
        "classes": drawn.classes.numpy(),
        "colors": drawn.colors.numpy(),
    }
    found, joints = boxes(drawn, max(len(scene) for scene in scenes)), keypoints(scenes, drawn)
    out: list[tuple[Scene, dict[str, bytes]]] = []
    for n, scene in enumerate(scenes):
        texts = [describe(scene, variant).text for variant in range(captions)]
        data = _facts(scene, texts, found.corners[n].tolist(), found.pixels[n].tolist())
        data["keypoints"] = _people_points(joints, n)
        files = {f"{name}.png": _png((pixels | flat)[name][n]) for name in PICTURES}
        files |= {"txt": "\n".join(texts).encode(), "json": json.dumps(data).encode()}
        out.append((scene, files))
    return out


def _facts(
    scene: Scene, texts: list[str], corners: list[list[int]], pixels: list[int]
) -> dict[str, object]:
    """What is said of a scene beside its pictures."""
    first = describe(scene)
    count = len(scene)
    return {
        "text": texts[0],
        "captions": texts,
        "named": [dataclasses.asdict(named) for named in first.named],
        "told": [dataclasses.asdict(relation) for relation in first.relations],
        "boxes": corners[:count],
        "pixels": pixels[:count],
        "scene": json.loads(scene.to_json()),
    }


def _people_points(joints: Keypoints, row: int) -> list[dict[str, object]]:
    """Everybody's keypoints in one picture: x, y (pixels) and visibility of each."""
    out: list[dict[str, object]] = []
    for n in (joints.scene == row).nonzero().flatten().tolist():
        triples = zip(joints.xy[n].tolist(), joints.visibility[n].tolist(), strict=True)
        points = [[round(x, 2), round(y, 2), seen] for (x, y), seen in triples]
        out.append({"entity": int(joints.entity[n]), "points": points})
    return out

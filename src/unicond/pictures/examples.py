"""The depth maps that ship with the package: drawn by hand, none of them a render of the world."""

import json
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import cast

from unicond.pictures.depth import DepthKind


@dataclass(frozen=True)
class ExampleDepth:
    """A depth map and what it may show.

    Args:
        path: of the PNG.
        prompt: words that fit it.
        kind: how `read_depth` reads it.
        note: what is particular about the file.
    """

    path: Path
    prompt: str
    kind: DepthKind
    note: str


def example_depths() -> tuple[ExampleDepth, ...]:
    """All six; `examples/depth/draw.py` of the repository draws them.

    Returns:
        In the order of the list beside them.
    """
    folder = Path(str(resources.files("unicond"))) / "assets" / "depth"
    listed = json.loads((folder / "list.json").read_text(encoding="utf-8"))
    entries = cast("dict[str, dict[str, str]]", listed)
    return tuple(
        ExampleDepth(folder / name, entry["prompt"], cast(DepthKind, entry["kind"]), entry["note"])
        for name, entry in entries.items()
    )

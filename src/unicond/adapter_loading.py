"""Finding an adapter of any kind: embedded by name, in a folder or a file, or on the Hub."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import get_args

from unicond.adapters.grounding.adapter import GroundingAdapter
from unicond.adapters.grounding.config import GroundingConfig, Method
from unicond.adapters.hub import CONFIG_FILE
from unicond.adapters.image_prompt.config import ImagePromptConfig
from unicond.adapters.image_prompt.prompter import Prompter
from unicond.adapters.joint import JointAdapter
from unicond.backbones.files import EMBEDDED

Adapter = JointAdapter | GroundingAdapter | Prompter
IMAGE_PROMPT = "image-prompt"
_BY_NAME: Mapping[str, type[Adapter]] = {
    **dict.fromkeys(get_args(Method), GroundingAdapter),
    IMAGE_PROMPT: Prompter,
}
_BY_TYPE: Mapping[object, type[Adapter]] = {
    GroundingConfig.TYPE: GroundingAdapter,
    ImagePromptConfig.TYPE: Prompter,
}


def find(where: str, name: str | None) -> Adapter:
    """Load an adapter.

    Args:
        where: name of an embedded one, a folder, a file, a hub id, or `repo:subfolder`.
        name: by which published files are told: `"gligen"`, `"interact"`, `"migc"` or
            `"image-prompt"`; all others are of joint attention.

    Returns:
        The adapter, on the CPU.

    Raises:
        ValueError: there is none; the message says which are embedded.
    """
    folder = EMBEDDED / "adapters" / where
    if not folder.is_dir():
        folder = Path(where).expanduser()
    if (folder / CONFIG_FILE).is_file():
        return _BY_TYPE.get(_type_of(folder / CONFIG_FILE), JointAdapter).from_pretrained(folder)
    kind = _BY_NAME.get(name or "", JointAdapter)
    if folder.exists():
        return kind.from_pretrained(folder)
    repo, _, subfolder = where.partition(":")
    if "/" not in repo:
        names = sorted(path.name for path in (EMBEDDED / "adapters").glob("*"))
        raise ValueError(
            f"no adapter {where!r}: embedded are {', '.join(names) or 'none'}; else give a folder, "
            "a hub id 'owner/name', or 'owner/name:subfolder'"
        )
    return kind.from_pretrained(repo, subfolder=subfolder or None)


def name_of(adapter: Adapter) -> str:
    """What an adapter is called where nobody says: its branch, its method."""
    if isinstance(adapter, JointAdapter):
        return adapter.config.y
    return adapter.config.method if isinstance(adapter, GroundingAdapter) else IMAGE_PROMPT


def _type_of(config: Path) -> object:
    """What a configuration says that it is of; None if it says nothing that can be read."""
    try:
        content: object = json.loads(config.read_text(encoding="utf-8"))
    except ValueError:
        return None
    return content.get("type") if isinstance(content, dict) else None

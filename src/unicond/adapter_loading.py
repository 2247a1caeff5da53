"""Finding an adapter of any kind: embedded by name, in a folder or a file, or on the Hub."""

import json
import re
import warnings
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
from unicond.data.folders import fingerprint

Adapter = JointAdapter | GroundingAdapter | Prompter
IMAGE_PROMPT = "image-prompt"
_BY_NAME: Mapping[str, type[Adapter]] = {
    **dict.fromkeys(get_args(Method), GroundingAdapter),
    IMAGE_PROMPT: Prompter,
}
_HASHED = re.compile(r".+@([0-9a-f]{12})")
"""A base of which it is known which weights it had, as `mini@eb630475435b`."""
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


def check_bases(base: str | Path, adapters: Mapping[str, Adapter]) -> None:
    """Compare the bases that adapters were made for with one another, and with the one at hand.

    Args:
        base: that they are loaded with; its weights are looked at if they are in a local folder.
        adapters: {name: adapter}; those that do not say which weights their base had fit any.

    Raises:
        ValueError: two were made for different bases.

    Warns:
        UserWarning: they were made for other weights than the base's, as those that it was
            fine-tuned from: adapters then act, if less well.
    """
    known = {
        name: told
        for name, adapter in adapters.items()
        if _HASHED.fullmatch(told := _made_for(adapter))
    }
    if not known:
        return
    first, made_for = next(iter(known.items()))
    for name, other in known.items():
        if other != made_for:
            raise ValueError(
                f"the adapters {first!r} and {name!r} were made for different bases, {made_for} "
                f"and {other}, and do not go together: train one of them again for the other's "
                "base, or load them apart"
            )
    folder = EMBEDDED / base if (EMBEDDED / base).is_dir() else Path(base)
    if not folder.is_dir():
        return
    here = fingerprint(folder)
    if not made_for.endswith(f"@{here}"):
        warnings.warn(
            f"the adapters {', '.join(known)} were made for {made_for}, and {base} has other "
            f"weights ({here}): if it is not fine-tuned from that base, they will not act well",
            stacklevel=3,
        )


def _made_for(adapter: Adapter) -> str:
    """The base that an adapter's configuration names."""
    return (adapter.adapter if isinstance(adapter, Prompter) else adapter).config.base


def _type_of(config: Path) -> object:
    """What a configuration says that it is of; None if it says nothing that can be read."""
    try:
        content: object = json.loads(config.read_text(encoding="utf-8"))
    except ValueError:
        return None
    return content.get("type") if isinstance(content, dict) else None

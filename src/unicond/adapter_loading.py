"""Finding an adapter of any kind: embedded by name, in a folder or a file, or on the Hub."""

import json
import re
import warnings
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import get_args

from unicond.adapters.grounding.adapter import GroundingAdapter
from unicond.adapters.grounding.config import GroundingConfig, Method
from unicond.adapters.hub import CONFIG_FILE
from unicond.adapters.image_prompt.config import ImagePromptConfig
from unicond.adapters.image_prompt.prompter import Prompter
from unicond.adapters.joint import JointAdapter
from unicond.backbones.base import Backbone
from unicond.backbones.files import EMBEDDED
from unicond.data.folders import fingerprint

Adapter = JointAdapter | GroundingAdapter | Prompter
IMAGE_PROMPT = "image-prompt"
UNKNOWN = "unknown"
"""What configurations say that do not know their base."""
_BY_NAME: Mapping[str, type[Adapter]] = {
    **dict.fromkeys(get_args(Method), GroundingAdapter),
    IMAGE_PROMPT: Prompter,
}
_FAMILIES: Mapping[str, str] = {
    "v1": "Stable Diffusion 1.x",
    "2": "Stable Diffusion 2.x",
    "xl": "Stable Diffusion XL",
}
_FAMILY = re.compile(rf"stable-diffusion-({'|'.join(_FAMILIES)})(?![0-9a-z])")
"""What the names of well-known bases, and of copies of them, begin with."""
_HASHED = re.compile(r"(.+)@([0-9a-f]{12})")
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


def check_name(name: str, where: str, adapter: Adapter) -> None:
    """Compare the name of an adapter with what it is, where the name is a published method's.

    Args:
        name: that it is to have in the model.
        where: it lies, for the message.
        adapter: to be checked.

    Raises:
        ValueError: it is another method's, or a condition's.
    """
    is_joint, own = isinstance(adapter, JointAdapter), name_of(adapter)
    if name in _BY_NAME and (is_joint or own != name):
        what = f"the condition {own!r}" if is_joint else own
        raise ValueError(
            f"{name!r} was given an adapter of {what} ({where}): call it {own}, or give one of "
            f"{name}"
        )


def named(base: str | Path) -> str:
    """A base as the configuration of an adapter that is made for it names it.

    Args:
        base: folder, hub id, single file or embedded name.

    Returns:
        Its name, with the hash of its weights where they are embedded or in a local folder.
    """
    folder = _folder(base)
    return f"{base}@{fingerprint(folder)}" if folder.is_dir() else str(base)


def check_together(adapters: Mapping[str, Adapter]) -> None:
    """Compare the bases that adapters were made for with one another.

    Args:
        adapters: {name: adapter}; those that do not say what their base was fit any.

    Raises:
        ValueError: two were made for different weights.

    Warns:
        UserWarning: they were made for bases of different names, of which it is not known whether
            they are the same.
    """
    made_for, known = _bases(adapters)
    first = next(iter(known), "")
    for name, found in known.items():
        if found[2] != known[first][2]:
            raise ValueError(
                f"the adapters {first!r} and {name!r} were made for different bases, "
                f"{made_for[first]} and {made_for[name]}, and do not go together: train one of "
                "them again for the other's base, or load them apart"
            )
    _compare_names(made_for, {found[1] for found in known.values()})


def check_base(base: str | Path, backbone: Backbone, adapters: Mapping[str, Adapter]) -> None:
    """Compare what is known of the bases that adapters were made for with the one at hand.

    Args:
        base: that they are loaded with; its weights are looked at if they are in a local folder.
        backbone: it, loaded.
        adapters: {name: adapter}; all fit its network, and one another.

    Warns:
        UserWarning: they were made for other weights than the base's, as those that it was
            fine-tuned from; or one was made for a base whose name is of another family, or whose
            network tells something else: they then act, if less well.
    """
    made_for, known = _bases(adapters)
    first = next(iter(known), "")
    weights = other_weights(base, made_for[first]) if known else None
    if weights is not None:
        warnings.warn(
            f"the adapters {', '.join(known)} were made for {made_for[first]}, and {base} has "
            f"other weights ({weights}): if it is not fine-tuned from that base, they will not act "
            "well",
            stacklevel=3,
        )
    for name, adapter in adapters.items():
        made_for, here = _made_for(adapter), backbone.schedule.prediction_type
        family = _family_of(made_for)
        tells = adapter.config.prediction_type if isinstance(adapter, JointAdapter) else None
        what = ""
        if family not in (None, backbone.family):
            what = f"of {family}, and {backbone.name} is of {backbone.family}"
        elif tells not in (None, here):
            what = f"whose network predicts {tells!r}, and that of {backbone.name} {here!r}"
        if what:
            warnings.warn(
                f"the adapter {name!r} was made for {made_for}, {what}: it will not act well",
                stacklevel=3,
            )


def _bases(adapters: Mapping[str, Adapter]) -> tuple[dict[str, str], dict[str, re.Match[str]]]:
    """{name: the base that an adapter was made for}, where it says so; the same with a hash."""
    made_for = {name: told for name, one in adapters.items() if (told := _made_for(one)) != UNKNOWN}
    known = {name: found for name, told in made_for.items() if (found := _HASHED.fullmatch(told))}
    return made_for, known


def other_weights(base: str | Path, made_for: str) -> str | None:
    """The hash of a base's weights, where something was made for others.

    Args:
        base: that it is used with; its weights are looked at if they are in a local folder.
        made_for: the base that its configuration names.

    Returns:
        12 hex digits; None where they are the same, or it is not known whether they are.
    """
    told, folder = _HASHED.fullmatch(made_for), _folder(base)
    if told is None or not folder.is_dir():
        return None
    here = fingerprint(folder)
    return None if here == told[2] else here


def _compare_names(made_for: Mapping[str, str], alike: Collection[str]) -> None:
    """Warn of adapters for bases of different names, where their weights are not known.

    Args:
        made_for: {adapter: its base}.
        alike: names of the bases whose weights are known, which are the same.

    Warns:
        UserWarning: there are such.
    """
    names = {_without_owner(name) for name in alike}
    for told in made_for.values():
        if not _HASHED.fullmatch(told):
            if names and _without_owner(told) not in names:
                bases = ", ".join(dict.fromkeys(made_for.values()))
                warnings.warn(
                    f"the adapters {', '.join(made_for)} were made for {bases}: if these are not "
                    "the same weights, or fine-tuned from the same ones, they will not act well "
                    "together",
                    stacklevel=4,
                )
                return
            names.add(_without_owner(told))


def _family_of(base: str) -> str | None:
    """The family of a base that is called as the well-known ones are; None of others."""
    hashed = _HASHED.fullmatch(base)
    last = re.split("[/@]", hashed[1] if hashed else base)[-1]
    found = _FAMILY.match(last.lower())
    return _FAMILIES[found[1]] if found else None


def _without_owner(base: str) -> str:
    """A base's name; a hub id's without its owner, as others have copies of the same."""
    hub = re.fullmatch(r"[\w.-]+/([\w.-]+)", base)
    return hub[1] if hub else base


def _folder(base: str | Path) -> Path:
    """The folder of a base that is embedded or on disk; of others there is none of this name."""
    return EMBEDDED / base if (EMBEDDED / base).is_dir() else Path(base)


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

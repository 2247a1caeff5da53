"""API keys: one line a client in a file, `NAME SHA-256`. A key itself is shown once, and not kept.

Keys are 256 random bits, so that a plain hash keeps them.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from pathlib import Path

PREFIX = "unicond-"
_LINE = re.compile(r"([A-Za-z0-9_.@-]{1,64}) ([0-9a-f]{64})")


def hashed(key: str) -> str:
    """What is kept of a key."""
    return hashlib.sha256(key.encode()).hexdigest()


def read_keys(path: Path) -> dict[str, str]:
    """The keys of a file.

    Args:
        path: of the file; empty lines and those that begin with # are skipped.

    Returns:
        {name: hash}, at least one.

    Raises:
        ValueError: a line that is none, a name twice, or no key.
        OSError: it cannot be read.
    """
    found: dict[str, str] = {}
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line.strip())
        if match is None or match[1] in found:
            raise ValueError(
                f"line {number} of {path} is not NAME SHA-256 of a new name: add clients by "
                f"`unicond serve --api-key-file {path} --new-key NAME`"
            )
        found[match[1]] = match[2]
    if not found:
        raise ValueError(
            f"{path} holds no key: `unicond serve --api-key-file {path} --new-key NAME` adds one"
        )
    return found


def add_key(path: Path, name: str) -> str:
    """Make a key for a client.

    Args:
        path: of the file; made, for its owner alone, if missing.
        name: of the client.

    Returns:
        The key, which is kept nowhere.

    Raises:
        ValueError: no name, or one that is taken.
    """
    key = PREFIX + secrets.token_urlsafe(32)
    line = f"{name} {hashed(key)}"
    if _LINE.fullmatch(line) is None:
        raise ValueError(f"{name!r} is no name of a client: give up to 64 letters, digits, _.@-")
    if path.exists() and path.stat().st_size and name in read_keys(path):
        raise ValueError(f"{path} has a key of {name!r}: remove its line first, or give another")
    path.touch(mode=0o600)
    with path.open("a") as file:
        file.write(line + "\n")
    return key


def owner(keys: Mapping[str, str], key: str) -> str | None:
    """Whose a key is.

    Args:
        keys: {name: hash}.
        key: that was sent.

    Returns:
        The name; None if it is no one's.
    """
    digest = hashed(key)
    found = [name for name, kept in keys.items() if hmac.compare_digest(kept, digest)]
    return found[0] if found else None

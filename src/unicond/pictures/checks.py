"""Seeds and prompts as people type them, checked before any work is done."""

import operator
import re
from collections import Counter
from collections.abc import Sequence
from typing import SupportsIndex

from typing_extensions import TypeIs

from unicond.pictures.files import PictureError

MAX_SEED = 2**63 - 1
MAX_SEEDS = 10_000
MAX_PROMPT = 10_000

_PART = re.compile(r"([+-]?[0-9]+)(?:\s*-\s*([+-]?[0-9]+))?")


def parse_seeds(text: str) -> tuple[int, ...]:
    """Read seeds: "7", "7-14" (both ends are in), "1,5,9", or a mixture.

    Args:
        text: what was typed.

    Returns:
        The seeds in the order given, 0 to 2^63 - 1.

    Raises:
        PictureError: it is none of these, or a seed is out of range, named twice, or there are too
            many.

    >>> parse_seeds("7-9, 3")
    (7, 8, 9, 3)
    """
    seeds: list[int] = []
    for part in text.split(","):
        match = _PART.fullmatch(part.strip())
        if match is None:
            raise PictureError(
                f"seeds {_short(text)} are not understood; write 7, 7-14 or 1,5,9 (whole numbers)"
            )
        first = _seed(match[1])
        last = _seed(match[2]) if match[2] else first
        if last < first:
            raise PictureError(f"seeds {first}-{last} run backwards; write {last}-{first}")
        if len(seeds) + last - first + 1 > MAX_SEEDS:
            raise PictureError(f"seeds {_short(text)} are more than {MAX_SEEDS:,}; ask for fewer")
        seeds.extend(range(first, last + 1))
    twice = [seed for seed, count in Counter(seeds).items() if count > 1]
    if twice:
        raise PictureError(f"seed {twice[0]} is named twice; it would give the same picture again")
    return tuple(seeds)


def check_seed(seed: SupportsIndex) -> int:
    """Raise unless a seed is a whole number in range.

    Args:
        seed: a whole number.

    Returns:
        The seed.

    Raises:
        PictureError: it is negative or above 2^63 - 1.
        TypeError: it is no whole number.
    """
    try:
        number = operator.index(seed)
    except TypeError:
        raise TypeError(f"a seed is a whole number, not {seed!r}") from None
    if not 0 <= number <= MAX_SEED:
        raise PictureError(f"seed {number} is out of range; give 0 to {MAX_SEED} (2^63 - 1)")
    return number


def check_prompt(text: str, limit: int = MAX_PROMPT) -> str:
    """Raise unless a prompt can be taken; the empty one can.

    Args:
        text: the prompt.
        limit: it must be shorter than this many characters.

    Returns:
        The prompt, unchanged.

    Raises:
        PictureError: it is too long, or no Unicode text.
        TypeError: it is not a string.
    """
    if not isinstance(text, str):
        raise TypeError(f"a prompt is a string, not {type(text).__name__}; give '' for none")
    if len(text) >= limit:
        raise PictureError(
            f"the prompt has {len(text):,} characters; give fewer than {limit:,} (the text encoder "
            "reads only the first few dozen words anyway)"
        )
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise PictureError("the prompt holds bytes that are no text; type it in UTF-8")
    return text


def is_one_prompt(prompt: str | Sequence[str]) -> TypeIs[str]:
    """Whether it is one prompt; what is neither that nor a list counts as one, to be refused."""
    return isinstance(prompt, str) or not isinstance(prompt, Sequence)


def count_prompts(prompt: str | Sequence[str]) -> dict[str, int]:
    """{"prompt": how many there are} of a list; nothing of a single one, which fits any number."""
    return {} if is_one_prompt(prompt) else {"prompt": len(prompt)}


def _seed(digits: str) -> int:
    if len(digits) > 20:
        raise PictureError(
            f"seed {_short(digits)} is out of range; give 0 to {MAX_SEED} (2^63 - 1)"
        )
    return check_seed(int(digits))


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:57]}...")

"""What is wrong with a form, in sentences that do not repeat what it said."""

from collections.abc import Mapping, Sequence

SHOWN = 5
"""Faults of a form that are told at once."""
LONGEST = 300


def told(faults: Sequence[Mapping[str, object]]) -> str:
    """What is wrong with a form.

    Args:
        faults: as pydantic's `ValidationError.errors()` lists them.

    Returns:
        A sentence for each of the first ones.
    """
    found = [f"{_place(one['loc'])}{one['msg']}" for one in faults[:SHOWN]]
    more = len(faults) - SHOWN
    return "; ".join(found) + (f"; and {more} more" if more > 0 else "")


def clean(text: str, longest: int = LONGEST) -> str:
    """Text that any answer and any file can hold.

    Args:
        text: any.
        longest: characters; what follows them is left out.

    Returns:
        The text without halves of characters.
    """
    whole = text.encode("utf-8", "replace").decode()
    return whole if len(whole) <= longest else f"{whole[:longest]}..."


def _place(parts: object) -> str:
    named = ".".join(clean(str(part), 40) for part in parts) if isinstance(parts, tuple) else ""
    return f"{named}: " if named else ""

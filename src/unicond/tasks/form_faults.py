"""What is wrong with a form, in sentences that do not repeat what it said."""

from collections.abc import Callable, Mapping, Sequence

SHOWN = 5
"""Faults of a form that are told at once."""
LONGEST = 300
Fault = Mapping[str, object]
"""One of those that pydantic's `ValidationError.errors()` lists."""


def plain(fault: Fault) -> str:
    """A fault by the names of its fields."""
    return f"{_place(fault['loc'])}{fault['msg']}"


def told(faults: Sequence[Fault], tell: Callable[[Fault], str] = plain) -> str:
    """What is wrong with a form.

    Args:
        faults: all that was found.
        tell: a fault as a sentence.

    Returns:
        A sentence for each of the first ones.
    """
    found = [tell(one) for one in faults[:SHOWN]]
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

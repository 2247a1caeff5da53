"""What is wrong, where it belongs: below the button that was pressed, by the names on the page."""

import re
from collections.abc import Sequence
from html import escape

from unicond.studio.page.fields import Part


def named(message: str, task: str, parts: Sequence[Part]) -> str:
    """A message in which fields are called as they are on the page.

    Args:
        message: of a form; it calls them `TASK.FIELD`.
        task: of the form.
        parts: of its tab.

    Returns:
        The message, with labels where a field is one component.
    """
    labels = {part.names[0]: part.components[0].label for part in parts if len(part.names) == 1}  # pyright: ignore

    def label(found: re.Match[str]) -> str:
        return str(labels.get(found[1]) or found[1])

    return re.sub(rf"\b{task}\.(\w+)", label, message)


def wrong_html(message: str) -> str:
    """A message that is read out when it appears."""
    return f'<p role="alert" style="color: var(--error-text-color)">{escape(message)}</p>'

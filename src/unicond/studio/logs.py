"""The log of the server and its workers: what failed and where, without what clients have said.

The message of an error may repeat a prompt. It is left out, whoever logs the error, unless prompts
may be in the log.
"""

import logging
import traceback
from types import TracebackType

from typing_extensions import override

Raised = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


def begin(loud: bool) -> None:
    """Log to stderr from now on.

    Args:
        loud: whether messages of errors, which may repeat prompts, may be in it.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(Formatter(loud))
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def told(error: BaseException, loud: bool) -> str:
    """Where an error was raised, and what it is.

    Args:
        error: that was raised.
        loud: whether its message may be told.

    Returns:
        Lines as of a traceback; without messages only those of the error itself.
    """
    if loud:
        return "".join(traceback.format_exception(error)).rstrip()
    return "".join(traceback.format_tb(error.__traceback__)) + type(error).__name__


class Formatter(logging.Formatter):
    """Writes records with their time.

    Args:
        loud: whether messages of errors may be told.
    """

    def __init__(self, loud: bool) -> None:
        super().__init__("%(asctime)s %(message)s")
        self._loud = loud

    @override
    def format(self, record: logging.LogRecord) -> str:
        record.exc_text = None  # as another handler has written it, which logging keeps
        return super().format(record)

    @override
    def formatException(self, ei: Raised) -> str:
        return "" if ei[1] is None else told(ei[1], self._loud)

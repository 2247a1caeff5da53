"""How a request is refused: a status, and a message that says what to do.

    {"error": {"message": ..., "type": ..., "code": ..., "param": null}}

The shape is OpenAI's, so that its clients show the message.
"""

import errno
import logging
import sqlite3
from collections.abc import Mapping, Sequence

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from unicond.studio.metrics import Metrics
from unicond.tasks.form_faults import clean, told

logger = logging.getLogger("unicond.studio")


class Fault(BaseModel):
    """What is wrong.

    Args:
        message: for people.
        type: `invalid_request_error`, or `server_error`.
        code: for programs.
        param: is never given.
    """

    message: str
    type: str
    code: str
    param: str | None = None


class Refusal(BaseModel):
    """The answer to a request that is refused."""

    error: Fault


class RequestRefused(Exception):
    """A request that is refused.

    Args:
        status: of HTTP.
        code: for programs.
        message: for people.
        retry: seconds after which to try again; None is never.
    """

    def __init__(self, status: int, code: str, message: str, retry: float | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.retry = status, code, retry


def answer(refused: RequestRefused, metrics: Metrics) -> JSONResponse:
    """The answer to a request that is refused.

    Args:
        refused: why.
        metrics: count it.

    Returns:
        What is sent.
    """
    metrics.refused.labels(refused.code).inc()
    kind = "server_error" if refused.status >= 500 else "invalid_request_error"
    fault = Fault(message=clean(str(refused), 2000), type=kind, code=refused.code)
    headers = {} if refused.retry is None else {"Retry-After": str(max(1, round(refused.retry)))}
    if refused.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(Refusal(error=fault).model_dump(), refused.status, headers)


def faults(error: ValidationError | RequestValidationError) -> str:
    """What is wrong with a form, without what it said.

    Args:
        error: of its reading.

    Returns:
        A sentence for each of the first faults.
    """
    found: Sequence[Mapping[str, object]] = error.errors()  # pyright: ignore[reportAssignmentType]
    return told(found)


def of_storage(error: OSError | sqlite3.Error) -> RequestRefused:
    """What a client is told when something cannot be stored."""
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    if full or "full" in str(error):
        return RequestRefused(507, "disk_full", "the server's disk is full: try again later", 60)
    return RequestRefused(503, "busy", "the queue is busy: try again in a moment", 2)


def install(app: FastAPI, metrics: Metrics) -> None:
    """Answer every error in the one shape.

    Args:
        app: that raises them.
        metrics: count them.
    """

    def refused(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestRefused)
        return answer(error, metrics)

    def invalid(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError | ValidationError)
        return answer(RequestRefused(422, "invalid", faults(error)), metrics)

    def plain(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        names = {404: "not_found", 405: "method_not_allowed"}
        code = names.get(error.status_code, "http")
        return answer(RequestRefused(error.status_code, code, error.detail), metrics)

    def storage(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, OSError | sqlite3.Error)
        logger.warning("a request could not be stored: %s", error)
        return answer(of_storage(error), metrics)

    def gone(_: Request, __: Exception) -> JSONResponse:
        return answer(RequestRefused(400, "cut_off", "the request was cut off"), metrics)

    def within(_: Request, error: Exception) -> JSONResponse:
        logger.error("a request failed within", exc_info=error)
        why = "the server failed; its log says where"
        return answer(RequestRefused(500, "internal", why), metrics)

    app.add_exception_handler(RequestRefused, refused)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(ValidationError, invalid)
    app.add_exception_handler(HTTPException, plain)
    app.add_exception_handler(ClientDisconnect, gone)
    app.add_exception_handler(sqlite3.OperationalError, storage)
    app.add_exception_handler(OSError, storage)
    app.add_exception_handler(Exception, within)

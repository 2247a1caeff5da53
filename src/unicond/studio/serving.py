"""Running the server's app."""

import asyncio
import logging
from pathlib import Path

import platformdirs
import uvicorn

from unicond.studio import logs
from unicond.studio.app import create_app
from unicond.studio.page import mounting
from unicond.studio.settings import Settings
from unicond.studio.timed import Timed

CONNECTIONS = 1000
"""At the same time; more are refused with 503."""
LEAVING = 5
"""Seconds that answers have when the server ends."""


def data_folder(asked: Path | None) -> Path:
    """The folder of the queue and the pictures, as an absolute path.

    Args:
        asked: by the user; None is where the system keeps data of the user's programs.

    Returns:
        The folder.
    """
    usual = Path(platformdirs.user_data_dir("unicond", appauthor=False)) / "studio"
    return (usual if asked is None else asked.expanduser()).absolute()


def run(settings: Settings, host: str, port: int) -> None:
    """Serve until the process is told to end.

    Args:
        settings: of the server.
        host: address to listen on.
        port: likewise; 0 takes a free one.

    Raises:
        ValueError: the models cannot be loaded, another server uses the folder, or the address
            cannot be listened on.
    """
    logs.begin(settings.log_prompts)
    reasons: list[str] = []

    def broken(reason: str) -> None:
        reasons.append(reason)
        server.should_exit = True

    if settings.page:
        mounting.begin(settings)
    app = create_app(settings, broken)
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            host=host,
            port=port,
            http=Timed,
            ws="none",
            loop="asyncio",  # whatever else is installed
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=CONNECTIONS,
            timeout_graceful_shutdown=LEAVING,
        )
    )
    logging.getLogger("uvicorn.error").addFilter(_is_fault)
    server.run()
    if reasons:
        raise ValueError(f"the models cannot be loaded: {reasons[0]}")
    if not server.started:
        raise ValueError("the server could not be started: see above")


def _is_fault(record: logging.LogRecord) -> bool:
    """Whether a record is more than an open page that is left when the server ends."""
    return record.exc_info is None or not isinstance(record.exc_info[1], asyncio.CancelledError)

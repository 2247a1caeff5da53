"""The page inside of the server's app: at `/`, behind the same guard, for the same clients."""

import os
from pathlib import Path

from fastapi import FastAPI
from gradio import mount_gradio_app
from gradio.themes import Base
from PIL import Image
from starlette.routing import Match, Mount
from starlette.types import Scope

from unicond.studio import folder
from unicond.studio.desk import Desk
from unicond.studio.keys import owner
from unicond.studio.page.blocks import build
from unicond.studio.page.gate import Gate
from unicond.studio.settings import Settings

API = ("/v1", "/health", "/metrics", "/docs", "/redoc", "/openapi.json")
"""Paths that are never the page's."""
FETCHED = ("/gradio_api/file=http:", "/gradio_api/file=https:", "/gradio_api/proxy=")
"""By which Gradio would fetch from other hosts for a client."""
STYLE = """
.live img { max-width: 100%; margin-top: 0.5rem }
.live progress { width: 100%; height: 0.5rem }
.live progress::-webkit-progress-bar { background: var(--border-color-primary) }
.live progress::-webkit-progress-value { background: var(--color-accent) }
.live progress::-moz-progress-bar { background: var(--color-accent) }
#past .grid-container { grid-template-columns: repeat(auto-fill, minmax(120px, 1fr)) !important }
"""


class Beside(Mount):
    """A mount at `/` that leaves the API's paths to it, which refuses in its own way."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Whether a request is for the page."""
        path = str(scope.get("path", ""))
        api = any(path == one or path.startswith(f"{one}/") for one in API)
        if api or path.lower().startswith(FETCHED):
            return Match.NONE, {}
        return super().matches(scope)


def begin(settings: Settings) -> None:
    """Tell Gradio what it knows for a whole process alone: where it keeps files, and their size.

    What is sent to it and what it shows lies in the data folder, and it decodes no picture that is
    larger than the limit.

    Args:
        settings: of the one server of the process.
    """
    os.environ["GRADIO_TEMP_DIR"] = str(settings.data / folder.PAGE)
    Image.MAX_IMAGE_PIXELS = settings.limits.pixels // 2  # twice as many are an error of Pillow's


def install(app: FastAPI, settings: Settings) -> None:
    """Give the server its page.

    Args:
        app: of the server, with its desk in its state once it runs.
        settings: of the server.
    """

    def desk() -> Desk:
        return app.state.desk

    def is_known(name: str, key: str) -> bool:
        return owner(settings.keys, key.strip()) == name

    blocks = build(settings, desk)
    mount_gradio_app(
        app,
        blocks,
        "/",
        footer_links=[],
        run_history=False,
        auth=is_known if settings.keys else None,
        auth_message="Your name and your key" if settings.keys else None,
        allowed_paths=[str(settings.data.absolute() / folder.JOBS)],
        max_file_size=settings.limits.body,
        show_error=True,
        ssr_mode=False,
        pwa=False,
        enable_monitoring=False,
        mcp_server=False,
        theme=Base(font=("system-ui", "sans-serif"), font_mono=("ui-monospace", "monospace")),
        css=STYLE,
    )
    # Gradio checks where the files of a request lie only in apps that it launched itself
    blocks.has_launched = True
    mounted = app.router.routes.pop()
    assert isinstance(mounted, Mount)
    gate = Gate(mounted.app, Path(blocks.GRADIO_CACHE), settings)
    app.router.routes.append(Beside(mounted.path, gate))

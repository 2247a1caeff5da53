"""The API's description for people, at /docs; its scripts lie here, no other host is asked."""

from importlib.resources import files

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse
from starlette.staticfiles import StaticFiles

DOCS = "/docs"
ASSETS = f"{DOCS}/assets"


def install(app: FastAPI) -> None:
    """Describe an app on a page.

    Args:
        app: that was made with neither of FastAPI's own pages, which name other hosts.
    """

    def page() -> HTMLResponse:
        return get_swagger_ui_html(
            openapi_url=str(app.openapi_url),
            title=app.title,
            swagger_js_url=f"{ASSETS}/swagger-ui-bundle.js",
            swagger_css_url=f"{ASSETS}/swagger-ui.css",
            swagger_favicon_url=f"{ASSETS}/favicon.png",
            swagger_ui_parameters={"validatorUrl": None},  # else a host is asked what it thinks
        )

    app.mount(ASSETS, StaticFiles(directory=str(files("fastapi_offline") / "static")))
    app.add_api_route(DOCS, page, include_in_schema=False)

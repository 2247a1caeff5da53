"""What tests of the server stand on: settings on the tiny base, an app without workers."""

from pathlib import Path

import pytest
from starlette.testclient import TestClient

from unicond.studio.app import create_app
from unicond.studio.settings import Limits, Served, Settings

GOLDEN = Path(__file__).parents[1] / "golden" / "unicon"


@pytest.fixture(scope="session", autouse=True)
def pages_folder(tmp_path_factory):
    """What pages are sent lies beside no other process's, where no test says otherwise."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("pages")))
        yield


@pytest.fixture
def settings(tiny_base, tmp_path):
    """Settings of a server without workers."""
    depth = str(GOLDEN / "weights" / "depth")
    return Settings(
        data=tmp_path / "data",
        models={"tiny": Served(base=str(tiny_base), adapters=(f"depth={depth}",))},
        devices=(),
        page=False,
        limits=Limits(body=2**20, body_seconds=2.0, pixels=2**16, side=1024, count=4, steps=20),
    )


@pytest.fixture
def client(settings):
    """A client of such a server; what fails within is answered, as it is outside of tests."""
    with TestClient(create_app(settings), raise_server_exceptions=False) as made:
        yield made

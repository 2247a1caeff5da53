"""The page as it is served, without a worker: what it names, what it leaves, who sees it."""

import dataclasses
import json
import re
from html.parser import HTMLParser

import pytest
from noise_pictures import picture
from starlette.testclient import TestClient

from unicond.studio.app import create_app
from unicond.studio.keys import hashed

FOREIGN = re.compile(r"(?:https?:)?//(?!testserver)[\w.-]+\.\w+", re.IGNORECASE)
LOADED = {"script": "src", "link": "href", "img": "src", "iframe": "src", "form": "action"}


class Loads(HTMLParser):
    """What a browser fetches for a page."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        if tag in LOADED:
            self.found.append(dict(attrs).get(LOADED[tag]) or "")


@pytest.fixture(scope="module")
def served(tmp_path_factory, tiny_base):
    from unicond.studio.settings import Served, Settings

    data = tmp_path_factory.mktemp("page")
    settings = Settings(data=data, models={"tiny": Served(base=str(tiny_base))}, devices=())
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        yield client


def test_nothing_of_the_page_is_fetched_from_elsewhere(served):
    html = served.get("/").text
    loads = Loads()
    loads.feed(html)
    assert any(one.endswith(".js") for one in loads.found)
    assert [one for one in loads.found if FOREIGN.match(one)] == []
    assert re.findall(r"(?:url\(|@import )[\"']?(?:https?:)?//", html) == []
    style = served.get("/theme.css").text
    assert re.findall(r"(?:url\(|@import )[\"']?(?:https?:)?//", style) == []


def test_the_page_is_told_to_fetch_and_tell_nothing(served):
    config = served.get("/config").json()
    assert config["stylesheets"] == []
    assert config["analytics_enabled"] is False
    assert config["footer_links"] == []
    for component in config["components"]:
        component.pop("example_inputs", None)  # told to programs, not fetched
    found = set(FOREIGN.findall(json.dumps(config["components"])))
    assert found <= {"http://www.w3.org"}  # the name of SVG


def test_the_api_stays_as_it_is(served):
    assert served.get("/health").json()["status"] == "loading"
    assert served.get("/openapi.json").json()["info"]["title"] == "unicond"
    assert served.get("/v1/nothing").json()["error"]["code"] == "not_found"
    assert served.put("/v1/models").json()["error"]["code"] == "method_not_allowed"


def test_the_server_fetches_nothing_for_a_client(served):
    for path in ("file=http://127.0.0.1:9/", "file=HTTPS://elsewhere.example/", "proxy=http://a/"):
        assert served.get(f"/gradio_api/{path}").json()["error"]["code"] == "not_found"


def test_pages_of_other_origins_send_nothing(served):
    body = {"data": [], "fn_index": 0, "session_hash": "a"}
    headers = {"Origin": "http://elsewhere.example"}
    assert served.post("/gradio_api/queue/join", json=body, headers=headers).status_code == 403


def test_only_files_of_the_page_are_read(served, tmp_path):
    """A request names a file of the server's: it is not looked at."""
    path = tmp_path / "secret.png"
    path.write_bytes(picture())
    assert served.get(f"/gradio_api/file={path}").status_code == 403
    data = [{"path": str(path), "meta": {"_type": "gradio.FileData"}}]
    joined = served.post("/gradio_api/call/dropped", json={"data": data}).json()
    told = served.get(f"/gradio_api/call/dropped/{joined['event_id']}").text
    assert "event: error" in told
    assert "holds no settings" not in told


def test_with_keys_the_page_asks_for_one(settings):
    keyed = dataclasses.replace(settings, page=True, keys={"ann": hashed("unicond-right")})
    with TestClient(create_app(keyed)) as client:
        assert client.get("/config").status_code == 401
        wrong = {"username": "ann", "password": "unicond-wrong"}
        assert client.post("/login", data=wrong).status_code == 400
        assert client.post("/login", data={**wrong, "password": "unicond-right"}).status_code == 200
        assert client.get("/config").status_code == 200


def test_a_server_without_a_page_has_none(client):
    assert client.get("/").status_code == 404

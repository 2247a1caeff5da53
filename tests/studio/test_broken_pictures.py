"""The broken pictures by every way in: refused with a message, and nothing of them is kept."""

import base64
import dataclasses
import json

import pytest
from broken_pictures import BROKEN
from noise_pictures import picture
from starlette.testclient import TestClient

from unicond.studio.app import create_app
from unicond.studio.settings import Limits

EDIT = {"task": "edit", "prompt": "a dog", "method": "sdedit"}
LIMITS = Limits(pixels=256 * 256, side=1024, rate=1e9, burst=10**6, waiting_each=1)
PAGE_EVERY = 20
"""Of the pictures, one goes through the page in quick tests."""


def files_of(folder):
    return {path for path in folder.rglob("*") if path.is_file()}


def base64_of(client, content):
    form = {**EDIT, "picture": base64.b64encode(content).decode()}
    return client.post("/v1/jobs", json=form)


def part_of(client, content):
    form = {**EDIT, "picture": {"upload": "a"}}
    return client.post("/v1/jobs", data={"form": json.dumps(form)}, files={"a": content})


def image_of(client, content):
    return client.post("/v1/images/edits", data={"prompt": "a"}, files={"image": content})


def mask_of(client, content):
    files = {"image": picture(), "mask": content}
    return client.post("/v1/images/edits", data={"prompt": "a"}, files=files)


@pytest.mark.parametrize("ways", [(base64_of, part_of), (image_of, mask_of)])
def test_every_route_refuses_them(settings, ways):
    """Each picture by each route, by one way after the other."""
    app = create_app(dataclasses.replace(settings, limits=LIMITS))
    with TestClient(app, raise_server_exceptions=False) as client:
        before = files_of(settings.data)
        for number, (name, content) in enumerate(BROKEN):
            refused = ways[number % 2](client, content)
            assert refused.status_code == 422, (name, refused.text)
            assert refused.json()["error"]["message"], name
        assert files_of(settings.data) == before
        assert client.get("/v1/jobs").json()["data"] == []


class Page:
    """The tab to edit, by its fields' labels."""

    def __init__(self, client):
        self.client = client
        config = client.get("/config").json()
        known = {one["id"]: one for one in config["components"]}
        (event,) = [one for one in config["dependencies"] if one["api_name"] == "edit"]
        fields = [known[one]["props"] for one in event["inputs"] if known[one]["type"] != "state"]
        self.labels = [one.get("label") for one in fields]
        self.usual = [one.get("value") for one in fields]

    def asked(self, content):
        """What the page is told when a picture was given; empty where its upload is refused."""
        sent = self.client.post("/gradio_api/upload", files={"files": ("a.png", content)})
        if sent.status_code != 200:
            assert 400 <= sent.status_code < 500
            return "event: error"
        file = {"path": sent.json()[0], "meta": {"_type": "gradio.FileData"}}
        data = [*self.usual]
        data[self.labels.index("Picture")] = file
        data[self.labels.index("Prompt")] = "a cat"
        joined = self.client.post("/gradio_api/call/edit", json={"data": data}).json()
        return self.client.get(f"/gradio_api/call/edit/{joined['event_id']}").text


@pytest.mark.parametrize(
    "some", [BROKEN[::PAGE_EVERY], pytest.param(BROKEN, marks=pytest.mark.slow)]
)
def test_the_page_refuses_them(settings, some):
    """Or takes them for what they are; a full queue of this client refuses that, too."""
    paged = dataclasses.replace(settings, limits=LIMITS, page=True)
    with TestClient(create_app(paged), raise_server_exceptions=False) as client:
        form = {"task": "generate", "prompt": "a dog"}
        assert client.post("/v1/jobs", json=form).status_code == 202
        page, before = Page(client), files_of(settings.data)
        for name, content in some:
            told = page.asked(content)
            assert "event: error" in told or r"role=\"alert\"" in told, name
            assert "Field required" not in told, name
        assert files_of(settings.data) == before
        assert client.get("/health").status_code == 200

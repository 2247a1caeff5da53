"""What stands before Gradio: other clients' pictures, addresses to fetch, uploads without end."""

import dataclasses
import io
import json
import os
import shutil
import time
from types import SimpleNamespace

import pytest
from noise_pictures import picture
from PIL import Image
from starlette.testclient import TestClient

from unicond.studio import folder
from unicond.studio.app import create_app
from unicond.studio.page import mounting
from unicond.studio.page.gate import SENT
from unicond.studio.settings import Limits

FILE = "/gradio_api/file="
EVENTS = ("queue/join", "call/dropped", "run/dropped", "call/v2/dropped", "stream/x")
ADDRESSES = ("http://127.0.0.1:9/a.png", "https://elsewhere.example/a.png", " HTTPS://x/", "http:a")


@pytest.fixture
def paged(settings, monkeypatch):
    """Settings of a server with a page, which keeps its copies in the data folder."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", "")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    mounting.begin(settings)
    return dataclasses.replace(settings, page=True)


@pytest.fixture
def page(paged):
    with TestClient(create_app(paged), raise_server_exceptions=False) as client:
        yield client


def sent(client, content=None):
    """Where Gradio has put a picture."""
    files = {"files": ("my name.png", content or picture())}
    response = client.post("/gradio_api/upload", files=files)
    assert response.status_code == 200, response.text
    return response.json()[0]


def test_files_of_jobs_are_not_read_through_the_page(page, settings, monkeypatch):
    """Whoever knows a job's id has read it in a PNG: neither what was given nor what was made."""
    form = {"task": "edit", "picture": {"upload": "a"}, "prompt": "a dog", "method": "sdedit"}
    told = {"data": {"form": json.dumps(form)}, "files": {"a": picture()}}
    identity = page.post("/v1/jobs", **told).json()["id"]
    given = settings.data / folder.given(identity) / "0.png"
    assert given.is_file()
    monkeypatch.chdir(settings.data)
    aside = settings.data / folder.PAGE / ".." / given.relative_to(settings.data)
    for path in (given, f"/{given}", aside, given.relative_to(settings.data), "", "a%00b"):
        for start in (FILE, "/gradio_api/file/", "/gradio_api//file=", "//gradio_api/file="):
            assert page.get(f"{start}{path}").status_code in (403, 404), (start, path)
            assert page.head(f"{start}{path}").status_code in (403, 404)
    assert page.get(f"{FILE}{sent(page)}").content == picture()


def test_what_the_page_is_sent_lies_in_the_data_folder(page, settings):
    path = sent(page)
    assert path.startswith(str(settings.data / folder.PAGE))


def test_events_name_no_addresses(page):
    """A picture of an event is what was sent before; an address would be fetched by the server."""
    for path in ADDRESSES:
        one = {"path": path, "url": None, "meta": {"_type": "gradio.FileData"}}
        for told in (one, {"background": one, "layers": [], "composite": None}, [[{"image": one}]]):
            for where in EVENTS:
                body = {"data": [told], "path": told, "fn_index": 0, "session_hash": "a"}
                refused = page.post(f"/gradio_api/{where}", json=body)
                assert refused.status_code == 422, (path, where)
                assert "not named by its address" in refused.json()["error"]["message"]


def test_events_that_are_nested_without_end_are_refused(page):
    refused = page.post("/gradio_api/queue/join", content=b"[" * 100_000)
    assert refused.status_code == 422
    assert "nested too deeply" in refused.json()["error"]["message"]


def test_events_arrive_whole(page):
    """What is looked at is what Gradio gets; a picture that was sent may be named."""
    path = sent(page)
    data = [{"path": path, "meta": {"_type": "gradio.FileData"}}]
    joined = page.post("/gradio_api/call/dropped", json={"data": data}).json()
    told = page.get(f"/gradio_api/call/dropped/{joined['event_id']}").text
    assert r"role=\"alert\"" in told
    assert "holds no settings" in told


def test_pictures_beyond_the_limit_are_not_decoded(page, settings):
    """By whatever decodes them for the page: 65 536 pixels are taken here."""
    assert settings.limits.pixels == 2**16
    with pytest.warns(Image.DecompressionBombWarning):
        assert Image.open(io.BytesIO(picture((256, 256)))).size == (256, 256)
    with pytest.raises(Image.DecompressionBombError):
        Image.open(sent(page, picture((257, 256))))


def test_uploads_have_a_rate(paged):
    few = dataclasses.replace(paged, limits=Limits(burst=1, rate=0.01))
    with TestClient(create_app(few)) as client:
        for _ in range(SENT):
            sent(client)
        refused = client.post("/gradio_api/upload/", files={"files": ("a.png", picture())})
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) > 1


def test_uploads_leave_room_on_the_disk(paged, monkeypatch):
    """As much as the largest of them; nothing of what is refused is written."""
    limits = Limits(free=1000, body=2**20)
    tight = dataclasses.replace(paged, limits=limits)
    with TestClient(create_app(tight)) as client:
        sent(client)
        before = sorted(paged.data.rglob("*.png"))
        free = SimpleNamespace(free=limits.free + limits.body - 1)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
        refused = client.post("/gradio_api/upload", files={"files": ("b.png", picture(seed=2))})
        assert refused.status_code == 507
        assert before
        assert sorted(paged.data.rglob("*.png")) == before


def test_copies_go_by_age_and_by_size(tmp_path):
    """The oldest first, folders that are empty along; how old a picture's source is counts not."""
    paths = [tmp_path / folder.PAGE / name for name in ("a/1", "a/2", "b/3", "c/4", "tmp")]
    other = tmp_path / folder.JOBS / "5"
    for path in (other, *paths):
        if path == paths[3]:
            time.sleep(2.0)  # what removes by age may come late by half of it
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(10))
        os.utime(path, (1e9, 1e9))
        time.sleep(0.05)  # far more than the clock of a file system ticks
    folder.trim(tmp_path, 3600.0, 50)
    assert all(path.exists() for path in paths)
    folder.trim(tmp_path, 3600.0, 39)
    assert [path.exists() for path in paths] == [False, False, True, True, True]
    assert not paths[0].parent.exists()
    folder.trim(tmp_path, time.time() - paths[3].stat().st_ctime + 1.0, 1000)
    assert [path.exists() for path in paths] == [False, False, False, True, True]
    assert other.exists()
    folder.trim(tmp_path / "nothing", 1.0, 1)

"""The routes, without a worker: what is taken, what is refused and how, and who sees what."""

import base64
import dataclasses
import io
import json
import logging
import os
import random
import re
import sqlite3
import time

import pytest
from noise_pictures import picture
from starlette.testclient import TestClient

from unicond.studio.app import create_app
from unicond.studio.keys import add_key, hashed, read_keys
from unicond.studio.logs import Formatter
from unicond.studio.settings import Keeping, Limits

JOB = {"task": "generate", "prompt": "a dog", "only": ["image"]}
PNG = base64.b64encode(picture()).decode()


def files_of(folder):
    return {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}


def told(response):
    """The message of a refusal, in the one shape."""
    error = response.json()["error"]
    assert error.keys() == {"message", "type", "code", "param"}
    assert error["message"]
    return error["message"]


def test_a_job_waits_and_is_cancelled(client):
    made = client.post("/v1/jobs", json=JOB)
    assert made.status_code == 202
    job = made.json()
    assert (job["status"], job["task"], job["base"]) == ("queued", "generate", "tiny")
    path = f"/v1/jobs/{job['id']}"
    assert client.get(path).json() == job
    assert client.get("/v1/jobs").json()["data"] == [job]
    assert client.get("/health").json()["queued"] == 1
    assert client.delete(path).json()["status"] == "cancelled"
    assert client.get(path, params={"wait": 5}).json()["status"] == "cancelled"
    assert client.delete(path).status_code == 200
    assert client.get(path).status_code == 404


def test_pictures_come_in_base64_or_beside(client, settings):
    form = {**JOB, "depth": PNG}
    one = client.post("/v1/jobs", json=form)
    form["depth"] = {"upload": "map"}
    two = client.post("/v1/jobs", data={"form": json.dumps(form)}, files={"map": picture()})
    assert (one.status_code, two.status_code) == (202, 202), two.text
    kept = [settings.data / "jobs" / made.json()["id"] / "given" / "0.png" for made in (one, two)]
    assert kept[0].read_bytes() == kept[1].read_bytes()


TASKS = [
    {"task": "edit", "picture": PNG, "prompt": "a cat", "source_prompt": "a dog"},
    {"task": "restore", "picture": PNG, "operator": "sr4", "noise_std": 0.0},
    {"task": "compose", "prompt": "grass", "with": {"a dog": 5.0}, "without": {"a cat": None}},
    {"task": "layout", "prompt": "a dog", "box": [{"phrase": "dog", "box": [0, 0, 0.5, 1]}]},
    {
        "task": "aggregate",
        "prompt": "a",
        "model": [{"name": "depth", "picture": PNG}, {"name": "text"}],
    },
]


@pytest.mark.parametrize("form", TASKS, ids=lambda form: form["task"])
def test_every_task_is_taken(client, form):
    assert client.post("/v1/jobs", json=form).status_code == 202


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": "paint"}, "does not match any of the expected tags"),
        ({"task": None}, "does not match|tag"),
        ({"steps": 0}, "greater than or equal to 1"),
        ({"steps": 21}, "steps is 21; at most 20"),
        ({"count": 5}, "count is 5; at most 4"),
        ({"ensemble_size": 5}, "ensemble_size is 5; at most 4"),
        ({"seed": [1, 2, 3, 4, 5]}, "count is 5; at most 4"),
        ({"seed": -1}, "greater than or equal to 0"),
        ({"seed": 2**63}, "less than or equal"),
        ({"seed": [1, 2], "count": 3}, "different numbers of samples"),
        ({"size": 512}, "at most 65536 pixels"),
        ({"size": [65536, 65536]}, "at most 65536 pixels"),
        ({"prompt": "x" * 10_001}, "at most 10000 characters"),
        ({"prompt": "x" * 10_000}, "at most 9999"),
        ({"prompt": 7}, "valid string"),
        ({"base": "../../etc/passwd"}, "no model of that name; there is tiny"),
        ({"solver": "plms"}, "solver 'plms' is not known"),
        ({"plan": "sideways"}, "sideways"),
        ({"hold": ["depth"]}, "hold names 'depth', of which no picture"),
        ({"give": {"seed": PNG}}, "no branch can be called that"),
        ({"give": {"../x": PNG}}, "should match pattern"),
        ({"give": {"depth": PNG}, "depth": PNG}, "depth is given twice"),
        ({"guidance_window": [0.2, 0.8]}, "falls from its first time"),
        ({"adapter": "/etc/passwd"}, "Extra inputs are not permitted"),
        ({"depth": {"upload": "x", "base64": PNG}}, "give one of both"),
        ({"depth": {"path": "/etc/passwd"}}, "Extra inputs"),
        ({"depth": "/etc/passwd"}, "is not in base64"),
        ({"reconstruction_iterations": 21}, "reconstruction_iterations is 21"),
    ],
)
def test_what_cannot_be_is_refused(client, settings, change, message):
    before = files_of(settings.data)
    response = client.post("/v1/jobs", json={**JOB, **change})
    assert response.status_code == 422
    found = told(response)
    assert re.search(message, found), found
    assert files_of(settings.data) == before


def test_so_many_models_are_mixed_and_no_more(client):
    for count, status in ((8, 202), (9, 422)):
        form = {"task": "aggregate", "prompt": "a", "model": [{"name": "text"}] * count}
        response = client.post("/v1/jobs", json=form)
        assert response.status_code == status
    assert told(response) == "model lists 9; at most 8 are mixed"


def test_other_models_are_only_those_that_are_served(client):
    for other in ("/etc", "mini", "owner/name", "../tiny"):
        fused = {"task": "compose", "prompt": "a", "with": {"b": 1}, "method": "magic_fusion"}
        response = client.post("/v1/jobs", json={**fused, "other": other})
        assert "no model" in told(response)
        models = [{"name": "text"}, {"name": other}]
        response = client.post(
            "/v1/jobs", json={"task": "aggregate", "prompt": "a", "model": models}
        )
        assert "no model" in told(response)


def test_queue_and_rate_are_bounded(settings):
    few = dataclasses.replace(settings, limits=Limits(waiting_each=3, burst=5, rate=60))
    with TestClient(create_app(few)) as client:
        answers = [client.post("/v1/jobs", json=JOB) for _ in range(6)]
        metrics = client.get("/metrics").text
    assert [one.status_code for one in answers] == [202] * 3 + [429] * 3
    codes = [one.json()["error"]["code"] for one in answers[3:]]
    assert codes == ["queue_full", "queue_full", "rate"]
    assert all(int(one.headers["retry-after"]) >= 1 for one in answers[3:])
    assert 'unicond_jobs_accepted_total{task="generate"} 3.0' in metrics
    assert 'unicond_refused_total{code="queue_full"} 2.0' in metrics
    assert 'unicond_refused_total{code="rate"} 1.0' in metrics


def test_the_rate_is_looked_at_before_pictures(settings):
    """Decoding costs: whoever sends too much is refused without it, by every route."""
    few = dataclasses.replace(settings, limits=Limits(burst=1, rate=1))
    broken = {"files": {"image": b"no picture"}, "data": {"prompt": "a dog"}}
    with TestClient(create_app(few)) as client:
        first, second = (client.post("/v1/images/edits", **broken) for _ in range(2))
        third = client.post("/v1/jobs", json={**JOB, "depth": "AAAA"})
    assert first.status_code == 422
    assert "the image is not a picture" in told(first)
    assert (second.status_code, third.status_code) == (429, 429)


def test_a_full_disk_is_told(settings):
    full = dataclasses.replace(settings, limits=Limits(free=2**60))
    with TestClient(create_app(full)) as client:
        response = client.post("/v1/jobs", json=JOB)
    assert response.status_code == 507
    assert "disk is full" in told(response)


def test_keys_tell_clients_apart(settings, tmp_path):
    keys = {name: add_key(tmp_path / "keys", name) for name in ("ann", "bob")}
    assert (tmp_path / "keys").stat().st_mode & 0o077 == 0
    assert keys["ann"] not in (tmp_path / "keys").read_text()
    kept = read_keys(tmp_path / "keys")
    assert kept == {name: hashed(key) for name, key in keys.items()}
    with TestClient(create_app(dataclasses.replace(settings, keys=kept))) as client:
        ann, bob = ({"Authorization": f"Bearer {keys[name]}"} for name in ("ann", "bob"))
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": kept["ann"]}):
            for method, path in (("POST", "/v1/jobs"), ("GET", "/v1/models"), ("GET", "/metrics")):
                assert client.request(method, path, headers=headers).status_code == 401
        assert client.get("/health").status_code == 200
        path = f"/v1/jobs/{client.post('/v1/jobs', json=JOB, headers=ann).json()['id']}"
        assert client.get(path, headers=ann).status_code == 200
        for method, end in (("GET", ""), ("DELETE", ""), ("GET", "/events"), ("GET", "/results/x")):
            assert client.request(method, path + end, headers=bob).status_code == 404
        assert client.get("/v1/jobs", headers=bob).json()["data"] == []
        assert client.get(path, headers=ann).json()["status"] == "queued"


def test_pages_of_other_origins_are_kept_out(settings):
    home = dataclasses.replace(settings, hosts=("127.0.0.1", "localhost"))
    with TestClient(create_app(home), base_url="http://localhost:7860") as client:
        assert client.get("/health").status_code == 200
        for origin in ("http://evil.example", "null", "http://localhost:1", "http://["):
            response = client.post("/v1/jobs", json=JOB, headers={"Origin": origin})
            assert response.status_code == 403
        mine = client.post("/v1/jobs", json=JOB, headers={"Origin": "http://localhost:7860"})
        assert mine.status_code == 202
        assert "access-control-allow-origin" not in mine.headers
        for host in ("evil.example", "evil.example:7860", "", "[", "localhost.evil.example"):
            response = client.get("/health", headers={"Host": host})
            assert response.status_code == 421
        metrics = client.get("/metrics").text
        assert 'unicond_refused_total{code="wrong_origin"} 4.0' in metrics
        assert 'unicond_refused_total{code="wrong_host"} 5.0' in metrics


def test_bodies_are_bounded(client):
    large = json.dumps({**JOB, "depth": "A" * 2**20})
    assert client.post("/v1/jobs", content=large).status_code == 413

    def drip():
        for _ in range(20):
            yield b" " * 2**17

    headers = {"content-type": "application/json"}
    assert client.post("/v1/jobs", content=drip(), headers=headers).status_code == 413
    sent = client.post("/v1/jobs", data={"form": "{}"}, files={"x": os.urandom(2**20)})
    assert sent.status_code == 413


BODIES = [
    b"",
    b"{",
    b"null",
    b"[]",
    b"7",
    b'"generate"',
    b"{}",
    b"\xff\xfe\x00",
    b"\x00",
    b'{"task": "generate", "prompt": "\\ud800"}',
    b'{"task": "generate", "\\ud800": 1}',
    b'{"task": "generate", "give": {"\\ud800": "x"}}',
    b'{"task": "generate", "guidance": NaN}',
    b'{"task": "generate", "guidance": Infinity}',
    b'{"task": "generate", "guidance": 1e999}',
    b'{"task": "generate", "seed": ' + b"9" * 5000 + b"}",
    b'{"task": "generate", "seed": 1.5}',
    b"[" * 100_000,
    b'{"task": "generate", "give": ' + b'{"a": ' * 50_000,
    b'{"task": "generate", "size": [1, 2, 3]}',
    b'{"task": "compose", "with": {"a": NaN}}',
    b'{"task": "layout", "prompt": "a", "box": [{"phrase": "a", "box": [NaN, 0, 1, 1]}]}',
    b'{"task": "layout", "prompt": "a", "box": [{"phrase": "a", "box": [2, 2, 1, 1]}]}',
    b'{"task": "aggregate", "prompt": "a", "model": [{"name": "text"}]}',
]


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/images/generations"])
def test_json_that_is_none(client, settings, path):
    before = files_of(settings.data)
    for body in BODIES:
        if path != "/v1/jobs" and b'"prompt": "a"' in body:
            continue  # what OpenAI's requests have not is not looked at
        response = client.post(path, content=body, headers={"content-type": "application/json"})
        assert response.status_code in (400, 422), body[:80]
        assert told(response)
    assert files_of(settings.data) == before


def test_media_types_that_are_none(client):
    for kind in ("", "text/plain", "application/xml", "multipart/mixed", "a" * 2000):
        for path in ("/v1/jobs", "/v1/images/generations", "/v1/images/edits"):
            response = client.post(path, content=b"{}", headers={"content-type": kind})
            assert response.status_code == 415
    for kind in (
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=x",
    ):
        for body in (
            b"",
            b"--x",
            b"--x\r\n\r\n",
            b"--x\r\nContent-Disposition: form-data\r\n\r\na\r\n--x--",
        ):
            for path in ("/v1/jobs", "/v1/images/edits"):
                response = client.post(path, content=body, headers={"content-type": kind})
                assert response.status_code in (400, 422), (kind, body, response.text)
                assert told(response)


TRAVERSAL = [
    "../../../etc/passwd",
    "..\\..\\x",
    "/etc/passwd",
    "%2e%2e%2fx",
    "a\x00b",
    "~root",
    "C:\\x",
]


ADDED = ("base", "method", "operator", "plan", "other", "solver", "keep", "adapter", "attention")
EVERY_STRING = [
    JOB,
    {**JOB, "give": {"depth": PNG}, "mask": {"depth": PNG}, "noise": {"depth": 0.5}},
    {**JOB, "depth": PNG, "hold": ["depth"], "noise": {"depth": 0.5}},
    *TASKS,
]


def with_text(value, text):
    """Copies of a value, each with another of its strings or keys replaced, however deep."""
    if isinstance(value, str):
        yield text
    elif isinstance(value, list):
        for number, one in enumerate(value):
            for other in with_text(one, text):
                yield [*value[:number], other, *value[number + 1 :]]
    elif isinstance(value, dict):
        for key, one in value.items():
            yield {(text if name == key else name): each for name, each in value.items()}
            for other in with_text(one, text):
                yield {**value, key: other}


def test_every_string_is_replaced():
    found = list(with_text({"a": ["b", {"c": "d"}]}, "X"))
    assert found == [
        {"X": ["b", {"c": "d"}]},
        {"a": ["X", {"c": "d"}]},
        {"a": ["b", {"X": "d"}]},
        {"a": ["b", {"c": "X"}]},
    ]


def test_no_text_of_a_client_is_a_path(settings, tmp_path):
    """In every string of every form, and in names of parts and paths of requests."""
    free = dataclasses.replace(
        settings.limits, rate=1e9, burst=10**6, waiting=10**6, waiting_each=10**6
    )
    app = create_app(dataclasses.replace(settings, limits=free))
    with TestClient(app, raise_server_exceptions=False) as client:
        before = files_of(tmp_path)
        for text in TRAVERSAL:
            forms = [other for form in EVERY_STRING for other in with_text(form, text)]
            forms += [{**form, key: text} for form in EVERY_STRING for key in ADDED]
            answers = [client.post("/v1/jobs", json=form) for form in forms]
            assert {one.status_code for one in answers} == {202, 422}
            form = {**JOB, "depth": {"upload": text}}
            sent = client.post(
                "/v1/jobs", data={"form": json.dumps(form)}, files={text: (text, picture())}
            )
            assert sent.status_code in (202, 400, 422)
        _look_at_paths(client)
    new = files_of(tmp_path) - before
    assert all(str(path).startswith(("data/jobs/", "data/queue.sqlite")) for path in new)
    names = {path.name for path in new if str(path).startswith("data/jobs/")}
    assert names <= {"0.png", "1.png"}


def _look_at_paths(client):
    for text in ("../queue.sqlite", "..%2fqueue.sqlite", "%2e%2e/x", "%00"):
        assert client.get(f"/v1/jobs/{text}").status_code == 404
        assert client.get(f"/v1/jobs/x/results/{text}").status_code == 404


def test_random_forms_never_break_it(client):
    """Values of any type in any field of any form."""
    source = random.Random(3)
    values = [
        None,
        True,
        -1,
        0,
        2**70,
        1.5,
        "",
        "x",
        PNG,
        [],
        {},
        [[]],
        {"a": 1},
        [PNG],
        {"upload": "x"},
    ]
    schema = client.get("/openapi.json").json()["components"]["schemas"]
    for _ in range(300):
        task = source.choice(["generate", "edit", "restore", "compose", "layout", "aggregate"])
        names = list(schema[task.capitalize()]["properties"])
        form = {name: source.choice(values) for name in source.sample(names, source.randint(0, 8))}
        response = client.post("/v1/jobs", json={**form, "task": task})
        assert response.status_code in (202, 422, 429), response.text


def test_requests_of_openai_that_are_none(client):
    good = {"prompt": "a dog"}
    for change in (
        {"prompt": ""},
        {"n": 0},
        {"n": 17},
        {"size": "big"},
        {"size": "0x64"},
        {"size": "99999x99999"},
        {"model": "dall-e-3"},
        {"stream": True},
        {"output_format": "svg"},
        {"response_format": "png"},
        {"seed": -1},
    ):
        response = client.post("/v1/images/generations", json={**good, **change})
        assert response.status_code == 422, change
        assert told(response)
    for files in ({}, {"image": b"no"}, {"image": picture(), "other": b""}, {"mask": picture()}):
        response = client.post("/v1/images/edits", data=good, files=files or {"x": b""})
        assert response.status_code == 422
        assert told(response)


def test_the_description_has_every_form(client):
    described = client.get("/openapi.json").json()
    body = described["paths"]["/v1/jobs"]["post"]["requestBody"]["content"]
    assert body.keys() == {"application/json", "multipart/form-data"}
    tasks = body["application/json"]["schema"]["discriminator"]["mapping"]
    assert tasks.keys() == {"generate", "edit", "restore", "compose", "layout", "aggregate"}
    schemas = described["components"]["schemas"]
    assert all(reference.rpartition("/")[2] in schemas for reference in tasks.values())
    assert schemas["Restore"]["properties"]["noise_std"]["minimum"] == 0


def test_the_description_is_shown_without_other_hosts(client):
    page = client.get("/docs").text
    assert re.findall(r"(?:https?:)?//[\w.-]+\.\w+", page) == []
    named = re.findall(r"(?:src|href)=\"([^\"]+)\"", page)
    assert len(named) == 3
    for path in named:
        assert client.get(path).status_code == 200, path
    assert '"validatorUrl": null' in page
    assert client.get("/redoc").status_code == 404
    assert client.get("/docs/assets/../../queue.sqlite").status_code == 404


def test_what_is_not_there(client):
    for path in ("/", "/v1", "/v1/nothing", "/v1/jobs/x", "/v1/jobs/x/results/y"):
        assert told(client.get(path))
        assert client.get(path).status_code == 404
    assert client.put("/v1/jobs").status_code == 405
    assert client.get("/v1/jobs/x?wait=-1").status_code == 422
    assert client.get("/v1/jobs/x?wait=nan").status_code == 422
    assert client.get("/v1/jobs/x/events").status_code == 404


def test_what_has_expired_is_removed(settings, caplog):
    """Row and files; what waits stays. Nothing of it is in the log but numbers."""
    soon = dataclasses.replace(settings, keeping=Keeping(seconds=0.0, every=0.05))
    with caplog.at_level("INFO"), TestClient(create_app(soon)) as client:
        form = {**JOB, "prompt": "a secret", "depth": PNG}
        ended, waits = (client.post("/v1/jobs", json=form).json()["id"] for _ in range(2))
        client.delete(f"/v1/jobs/{ended}")
        end = time.monotonic() + 60
        while client.get(f"/v1/jobs/{ended}").status_code != 404:
            assert time.monotonic() < end
            time.sleep(0.05)
        assert client.get(f"/v1/jobs/{waits}").status_code == 200
        while [path.name for path in (settings.data / "jobs").iterdir()] != [waits]:
            assert time.monotonic() < end
            time.sleep(0.05)
    assert "secret" not in caplog.text


def test_a_locked_queue_does_not_end_the_sweep(settings):
    """Another program holds the queue while jobs expire; they are removed when it lets go."""
    soon = dataclasses.replace(settings, keeping=Keeping(seconds=2.0, every=0.05))
    with TestClient(create_app(soon)) as client:
        desk = client.app.state.desk
        identity = client.post("/v1/jobs", json=JOB).json()["id"]
        client.delete(f"/v1/jobs/{identity}")
        desk.database._writer.execute("PRAGMA busy_timeout = 20")
        other = sqlite3.connect(settings.data / "queue.sqlite", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        time.sleep(3)
        assert client.get(f"/v1/jobs/{identity}").status_code == 200
        other.execute("ROLLBACK")
        end = time.monotonic() + 60
        while client.get(f"/v1/jobs/{identity}").status_code != 404:
            assert time.monotonic() < end
            time.sleep(0.05)
        other.close()


def test_pictures_that_were_given_count_as_kept(settings):
    """A job that was cancelled has made nothing, but what it was given is beyond the size."""
    full = dataclasses.replace(settings, keeping=Keeping(bytes=len(picture()) // 2, every=0.05))
    with TestClient(create_app(full)) as client:
        forms = [{**JOB, "depth": PNG}, JOB]
        pictured, plain = (client.post("/v1/jobs", json=form).json()["id"] for form in forms)
        for identity in (plain, pictured):
            client.delete(f"/v1/jobs/{identity}")
        end = time.monotonic() + 60
        while client.get(f"/v1/jobs/{pictured}").status_code != 404:
            assert time.monotonic() < end
            time.sleep(0.05)
        while list((settings.data / "jobs").iterdir()):
            assert time.monotonic() < end
            time.sleep(0.05)


@pytest.mark.parametrize("loud", [False, True])
def test_errors_within_are_logged_without_what_was_said(settings, loud):
    """Whoever logs them, the server or Uvicorn: where, and what kind; the message only if asked."""
    text, said = io.StringIO(), "a secret prompt"
    handler = logging.StreamHandler(text)
    handler.setFormatter(Formatter(loud))
    app = create_app(settings)
    said = "a secret prompt"

    def fails() -> None:
        raise KeyError(said)

    app.get("/v1/fails")(fails)
    logging.getLogger().addHandler(handler)
    try:
        with TestClient(app, raise_server_exceptions=False) as client:
            assert client.get("/v1/fails").status_code == 500
    finally:
        logging.getLogger().removeHandler(handler)
    assert ("secret" in text.getvalue()) == loud
    assert "KeyError" in text.getvalue()
    assert "in fails" in text.getvalue()


def test_files_of_no_job_are_removed_at_the_start(settings):
    (settings.data / "jobs" / "stray" / "given").mkdir(parents=True)
    with TestClient(create_app(settings)) as client:
        kept = client.post("/v1/jobs", json=JOB).json()["id"]
    with TestClient(create_app(settings)) as client:
        assert client.get(f"/v1/jobs/{kept}").json()["status"] == "queued"
    assert [path.name for path in (settings.data / "jobs").iterdir()] == [kept]


def test_one_server_a_folder(settings, client):
    with pytest.raises(ValueError, match="another server uses"), TestClient(create_app(settings)):
        pass

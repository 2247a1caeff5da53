"""A client for Python: asks, watches, takes what was made.

from unicond.studio.client import Client

with Client("http://127.0.0.1:7860") as studio:
    job = studio.submit({"task": "generate", "prompt": "a red ball"}, depth="depth.png")
    for event in studio.events(job["id"]):
        print(event)
    studio.save(job["id"], "out")
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self, cast

import httpx2

Json = dict[str, object]
WAIT = 30.0
"""Seconds that one request waits for a job."""
SILENT = 60.0
"""Seconds without a word of the server, which says one every 15, that end a stream."""


class StudioError(Exception):
    """The server has refused.

    Args:
        status: of HTTP.
        code: for programs.
        message: what is wrong, and what to do.
    """

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


class Client:
    """A connection to a server.

    Args:
        address: such as `http://127.0.0.1:7860`.
        key: of this client, if the server asks for one.
        timeout: seconds for an answer.
    """

    def __init__(self, address: str, key: str | None = None, timeout: float = 60.0) -> None:
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        self._http = httpx2.Client(base_url=address, headers=headers, timeout=timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._http.close()

    def submit(self, form: Mapping[str, object], **pictures: str | Path | bytes) -> Json:
        """Ask for a job.

        Args:
            form: what for, as `/v1/jobs` takes it.
            **pictures: {field: file, or its content} of the form's pictures.

        Returns:
            The job, which waits.

        Raises:
            StudioError: the server takes it not.
            OSError: a file cannot be read.
        """
        files = {
            name: (name, one if isinstance(one, bytes) else Path(one).read_bytes())
            for name, one in pictures.items()
        }
        if not files:
            return self._json("POST", "/v1/jobs", json=dict(form))
        whole = {**form, **{name: {"upload": name} for name in files}}
        return self._json("POST", "/v1/jobs", data={"form": json.dumps(whole)}, files=files)

    def job(self, identity: str, wait: float = 0.0) -> Json:
        """Where a job is.

        Args:
            identity: of the job.
            wait: seconds to wait for its end.

        Returns:
            The job.
        """
        return self._json("GET", f"/v1/jobs/{identity}", params={"wait": wait} if wait else {})

    def ended(self, identity: str) -> Json:
        """A job when it has ended, however long that takes."""
        while True:
            job = self.job(identity, WAIT)
            if job["ended"] is not None:
                return job

    def events(self, identity: str) -> Iterator[tuple[str, Json]]:
        """What happens to a job until it ends.

        Args:
            identity: of the job.

        Yields:
            `job`, `move`, `preview` or `end`, and what is told of it.
        """
        with self._http.stream("GET", f"/v1/jobs/{identity}/events", timeout=SILENT) as response:
            if response.status_code >= 400:
                response.read()
                raise _error(response)
            name = ""
            for line in response.iter_lines():
                field, _, value = line.partition(": ")
                if field == "event":
                    name = value
                elif field == "data":
                    yield name, cast(Json, json.loads(value))

    def cancel(self, identity: str) -> Json:
        """Cancel a job; one that has ended is removed with its pictures."""
        return self._json("DELETE", f"/v1/jobs/{identity}")

    def save(self, identity: str, folder: str | Path) -> list[Path]:
        """Save what a job made.

        Args:
            identity: of a job that is done.
            folder: made if missing.

        Returns:
            The paths.
        """
        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        paths: list[Path] = []
        for one in cast("list[Mapping[str, str]]", self.job(identity)["results"]):
            response = self._http.get(one["url"])
            if response.status_code >= 400:
                raise _error(response)
            paths.append(target / Path(one["name"]).name)
            paths[-1].write_bytes(response.content)
        return paths

    def _json(
        self,
        method: str,
        path: str,
        json: Json | None = None,
        data: Mapping[str, str] | None = None,
        files: Mapping[str, tuple[str, bytes]] | None = None,
        params: Mapping[str, float] | None = None,
    ) -> Json:
        response = self._http.request(
            method, path, json=json, data=data, files=files, params=params
        )
        if response.status_code >= 400:
            raise _error(response)
        return cast(Json, response.json())


def _error(response: httpx2.Response) -> StudioError:
    told = cast("Mapping[str, str]", response.json()["error"])
    return StudioError(response.status_code, told["code"], told["message"])

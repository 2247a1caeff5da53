"""The server against its own description: schemathesis sends what it allows, and what it does not.

No job is queued (`waiting=0`), so that requests end where a worker would begin.
"""

from pathlib import Path

import hypothesis
import pytest
import schemathesis
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, status_code_conformance
from serving import START, in_thread

from unicond.studio.settings import Limits, Served, Settings


@pytest.fixture(scope="module")
def described(tmp_path_factory):
    data = tmp_path_factory.mktemp("schema") / "data"
    settings = Settings(
        data=data,
        models={"tiny": Served(base="nothing")},
        devices=(),
        limits=Limits(waiting=0, rate=1e9, burst=10**9),
    )
    with in_thread(settings) as (address, _):
        yield schemathesis.openapi.from_url(f"{address}/openapi.json", timeout=START)
    written = {path.relative_to(data) for path in data.rglob("*") if path.is_file()}
    assert written <= {Path(f"queue.sqlite{end}") for end in ("", "-wal", "-shm")} | {
        Path("server.lock")
    }


schema = schemathesis.pytest.from_fixture("described")


@schema.parametrize()
@hypothesis.settings(
    max_examples=25,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(hypothesis.HealthCheck),
)
def test_every_request_is_answered(case):
    case.call_and_validate(
        checks=[not_a_server_error, status_code_conformance, content_type_conformance],
        timeout=START,
    )

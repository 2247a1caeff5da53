"""The server against its own description: schemathesis sends what it allows, and what it does not.

No job is queued (`waiting=0`), so that requests end where a worker would begin. schemathesis takes
seconds to import, which nothing else needs.
"""

import pytest
from serving import START, in_thread

from unicond.studio.settings import Limits, Served, Settings

EXAMPLES = 25
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    import schemathesis

    data = tmp_path_factory.mktemp("schema") / "data"
    served = Settings(
        data=data,
        models={"tiny": Served(base="nothing")},
        devices=(),
        limits=Limits(waiting=0, rate=1e9, burst=10**9),
    )
    with in_thread(served) as (address, app):
        yield address, schemathesis.openapi.from_dict(app.openapi())
    written = {path.relative_to(data).name for path in data.rglob("*") if path.is_file()}
    assert written <= {"queue.sqlite", "queue.sqlite-wal", "queue.sqlite-shm", "server.lock"}


@pytest.mark.parametrize("mode", ["positive", "negative"])
def test_every_request_is_answered(served, mode):
    from hypothesis import HealthCheck, given, settings
    from schemathesis.checks import not_a_server_error
    from schemathesis.generation import GenerationMode
    from schemathesis.specs.openapi.checks import content_type_conformance, status_code_conformance

    checks = [not_a_server_error, status_code_conformance, content_type_conformance]
    (address, schema), mode = served, GenerationMode(mode)
    for found in schema.get_all_operations():
        operation = found.ok()
        if mode is GenerationMode.NEGATIVE and not takes_anything(operation):
            continue

        @settings(
            max_examples=EXAMPLES,
            derandomize=True,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def answered(case):
            case.call_and_validate(base_url=address, checks=checks, timeout=START)

        answered()


def takes_anything(operation):
    """Whether a request can be wrong at all: every text is a path's part."""
    return bool(operation.body) or bool(operation.query)

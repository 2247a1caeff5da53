"""The benchmark's own parts: bars that fail, a crowd of clients, what is a documented refusal."""

import dataclasses
import math

import httpx2
import pytest
from benchmarks.serve import Bar, Crowd, crowd, failed, undocumented
from serving import in_thread

from unicond.studio.keys import add_key, read_keys
from unicond.studio.settings import Limits


def test_a_bar_that_fails_is_told_and_ends_it(capsys):
    good, bad = Bar("growth", 0.05, most=0.05), Bar("times", 1.59, least=1.6)
    assert failed([good]) == 0
    assert failed([good, bad]) == 1
    assert failed([Bar("times", math.nan, least=1.6)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "pass  growth: 0.05 (at most 0.05)"
    assert lines[2] == "FAIL  times: 1.59 (at least 1.6)"


@pytest.mark.parametrize(
    ("status", "code", "after", "fine"),
    [
        (429, "queue_full", "10", True),
        (429, "queue_full", "0", False),
        (429, "queue_full", None, False),
        (429, "rate", "10", False),
        (503, "busy", "2", False),
    ],
)
def test_only_a_full_queue_is_a_documented_refusal(status, code, after, fine):
    headers = {} if after is None else {"Retry-After": after}
    answer = httpx2.Response(status, json={"error": {"code": code}}, headers=headers)
    assert (undocumented(answer) == "") == fine


def test_a_crowd_is_many_clients(settings, tmp_path):
    """Each with its own key and rate; what one may not is an error, a full queue is none."""
    keys = [add_key(tmp_path / "keys", f"c{number}") for number in range(6)]
    kept = read_keys(tmp_path / "keys")
    limits = Limits(waiting=8, waiting_each=2, burst=20)
    asked = dataclasses.replace(settings, keys=kept, limits=limits)
    with in_thread(asked) as (address, _):
        told = crowd(address, keys, 3.0)
        assert len(told.accepted) == 8
        assert len({key for key, _ in told.accepted}) >= 4, "two of each at most"
        assert told.refused >= 6
        assert told.errors == []
        stranger = crowd(address, ["unicond-wrong"], 1.0)
        assert not stranger.accepted
        assert all(error.startswith("401") for error in stranger.errors)
        assert stranger.errors
        for key, identity in told.accepted:
            headers = {"Authorization": f"Bearer {key}"}
            httpx2.delete(f"{address}/v1/jobs/{identity}", headers=headers, timeout=60)
        assert Crowd(told.accepted, 0, []).drain(address) == 8, "cancelled is not done"

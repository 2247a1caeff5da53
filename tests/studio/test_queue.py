"""The queue alone: turns, company, bounds, ends that were not asked for, expiry."""

import sqlite3
import threading
import time

import pytest

from unicond.studio import queue
from unicond.studio.database import Database
from unicond.studio.queue import Job, Result


@pytest.fixture
def database(tmp_path):
    made = Database(tmp_path / "queue.sqlite")
    yield made
    made.close()


def job(identity, user="ann", kin=None, rows=1):
    told = {"task": "generate", "base": "mini", "form": "{}", "created": time.time()}
    return Job(id=identity, user=user, kin=kin, rows=rows, **told)


def fill(database, *jobs):
    for one in jobs:
        queue.add(database, one, 1000, 1000)


def ids(jobs):
    return [one.id for one in jobs]


def status(database, identity):
    return queue.find(database, identity).status


def test_clients_take_turns(database):
    """Whoever has waited longest for a turn is next, however many jobs another has queued."""
    fill(database, *(job(f"a{n}") for n in range(4)), job("b0", "bob"), job("c0", "cy"))
    fill(database, job("b1", "bob"))
    order = [ids(queue.claim(database, "w", 1))[0] for _ in range(7)]
    assert order == ["a0", "b0", "c0", "a1", "b1", "a2", "a3"]
    assert queue.claim(database, "w", 1) == []


def test_company_is_of_one_kin_and_by_turns(database):
    fill(database, *(job(f"a{n}", kin="k") for n in range(5)), job("other", kin="l"))
    fill(database, job("b0", "bob", kin="k"), job("b1", "bob", kin="k"), job("lone"))
    first = queue.claim(database, "w", 4)
    assert ids(first) == ["a0", "b0", "a1", "b1"]
    assert all(status(database, one.id) == "running" for one in first)


def test_company_has_no_more_rows_than_fit(database):
    fill(database, job("a", kin="k", rows=2), job("b", kin="k", rows=3), job("c", kin="k", rows=2))
    assert ids(queue.claim(database, "w", 4)) == ["a", "c"]
    fill(database, job("d", kin="k", rows=9), job("e", kin="k"))
    assert ids(queue.claim(database, "w", 4)) == ["b", "e"]
    assert ids(queue.claim(database, "w", 4)) == ["d"]


def test_bounded(database):
    queue.add(database, job("a"), 3, 1)
    with pytest.raises(queue.Full, match="1 jobs of yours wait"):
        queue.add(database, job("b"), 3, 1)
    queue.add(database, job("c", "bob"), 3, 1)
    queue.add(database, job("d", "cy"), 3, 1)
    with pytest.raises(queue.Full, match="3 jobs wait"):
        queue.add(database, job("e", "dan"), 3, 1)
    queue.claim(database, "w", 1)
    queue.add(database, job("f", "dan"), 3, 1)


def test_what_ran_is_queued_again_once_and_alone(database):
    """One of three ends its worker each time: the other two are made."""
    fill(database, *(job(one, kin="k") for one in ("a", "poison", "b")))
    assert len(queue.claim(database, "w1", 8)) == 3
    assert queue.recover(database, "w1") == []
    ended, worker = [], 1
    while taken := queue.claim(database, f"w{(worker := worker + 1)}", 8):
        assert len(taken) == 1, "what was there when a worker ended runs alone"
        if taken[0].id == "poison":
            assert queue.recover(database, f"w{worker}") == ["poison"]
        else:
            assert queue.finish(database, f"w{worker}", taken[0].id, [], None)
        ended.append(taken[0].id)
    assert sorted(ended) == ["a", "b", "poison"]
    assert status(database, "a") == status(database, "b") == "done"
    assert status(database, "poison") == "failed"
    assert "ended 2 times" in queue.find(database, "poison").error


def test_an_end_that_was_asked_for_is_no_try(database):
    fill(database, job("a"))
    for n in range(5):
        assert ids(queue.claim(database, f"w{n}", 1)) == ["a"]
        assert queue.recover(database, f"w{n}", crashed=False) == []
    assert queue.find(database, "a").tries == 0


def test_only_who_has_a_job_ends_it(database):
    fill(database, job("a"), job("b"))
    queue.claim(database, "w1", 1)
    queue.recover(database)
    assert not queue.finish(database, "w1", "a", [Result("x.png", 3)], None)
    assert status(database, "a") == "queued"
    queue.claim(database, "w2", 1)
    assert queue.cancel(database, "a")
    assert not queue.finish(database, "w2", "a", [], None)
    assert status(database, "a") == "cancelled"
    assert not queue.cancel(database, "a")


def test_no_job_is_taken_twice(tmp_path):
    """Four workers with connections of their own, 60 jobs."""
    shared = Database(tmp_path / "queue.sqlite")
    fill(shared, *(job(f"{n}", user=f"u{n % 5}") for n in range(60)))
    taken: list[str] = []

    def work(name):
        mine = Database(tmp_path / "queue.sqlite")
        while found := queue.claim(mine, name, 1):
            taken.append(found[0].id)
        mine.close()

    threads = [threading.Thread(target=work, args=(f"w{n}",)) for n in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    shared.close()
    assert sorted(taken, key=int) == [str(n) for n in range(60)]


def test_expiry_by_age_and_by_size(database):
    fill(database, *(job(f"{n}") for n in range(5)))
    for n in range(4):
        queue.claim(database, "w", 1)
        queue.finish(database, "w", f"{n}", [Result("x.png", 10)], None)
    assert queue.expired(database, 60, 1000) == []
    assert sorted(queue.expired(database, 60, 25)) == ["0", "1"]
    assert sorted(queue.expired(database, -1, 1000)) == ["0", "1", "2", "3"]
    queue.remove(database, ["0", "4"])
    assert queue.find(database, "0") is None
    assert status(database, "4") == "queued"


def test_what_was_given_counts_for_the_size(database):
    """Beside what was made, and of a job that made nothing."""
    for name in ("cancelled", "done", "plain"):
        queue.add(database, job(name), 10, 10, given=0 if name == "plain" else 100)
    queue.cancel(database, "cancelled")
    for name in ("done", "plain"):
        queue.claim(database, "w", 1)
        queue.finish(database, "w", name, [Result("x.png", 10)], None)
    assert queue.expired(database, 60, 220) == []
    assert queue.expired(database, 60, 219) == ["cancelled"]
    assert sorted(queue.expired(database, 60, 119)) == ["cancelled", "done"]


def test_a_transaction_is_whole(database):
    fill(database, job("a"))

    def broken():
        with database.writing() as connection:
            connection.execute("DELETE FROM jobs")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        broken()
    assert status(database, "a") == "queued"


def test_a_locked_database_is_waited_for_and_then_told(tmp_path):
    patient = Database(tmp_path / "queue.sqlite", patience=5.0)
    hasty = Database(tmp_path / "queue.sqlite", patience=0.05)
    other = sqlite3.connect(
        tmp_path / "queue.sqlite", isolation_level=None, check_same_thread=False
    )
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        queue.add(hasty, job("a"), 10, 10)
    threading.Timer(0.2, other.execute, ["COMMIT"]).start()
    queue.add(patient, job("b"), 10, 10)
    assert status(hasty, "b") == "queued"
    for one in (patient, hasty):
        one.close()


def test_a_queue_of_another_version_is_refused(tmp_path):
    with sqlite3.connect(tmp_path / "queue.sqlite") as made:
        made.execute("PRAGMA user_version = 7")
    with pytest.raises(ValueError, match="version 7, this one reads 1"):
        Database(tmp_path / "queue.sqlite")

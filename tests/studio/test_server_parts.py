"""Parts of the server alone: rates, previews, reasons, the board."""

import asyncio
import base64
import io
import json
import logging
import time

import pytest
import torch
from noise_pictures import picture
from PIL import Image

from unicond.studio import queue
from unicond.studio.board import Board
from unicond.studio.database import Database
from unicond.studio.limits import Rates
from unicond.studio.making import Gone, Models, TooLong, previewed, reason
from unicond.studio.order import Order
from unicond.studio.queue import Job
from unicond.studio.settings import Served, Settings
from unicond.studio.worker import Worker
from unicond.tasks.forms import Generate


def test_rates_fill_again():
    """A burst of 3, then one every 2 s: the wait that is told is exactly the one that is needed."""
    now = [0.0]
    rates = Rates(30, 3, lambda: now[0])
    assert [rates.take("ann") for _ in range(3)] == [0, 0, 0]
    assert rates.take("ann") == pytest.approx(2.0)
    assert rates.take("bob") == 0
    now[0] = 1.5
    wait = rates.take("ann")
    assert wait == pytest.approx(0.5)
    now[0] += wait
    assert rates.take("ann") == 0
    now[0] = 1e6
    assert [rates.take("ann") > 0 for _ in range(4)] == [False, False, False, True]


@pytest.mark.parametrize("total", [1, 2, 5, 20, 50])
def test_previews_are_spread_and_none_is_of_the_end(total):
    for asked in range(21):
        found = previewed(Generate(previews=asked), total)
        assert len(found) == min(asked, total - 1)
        assert all(1 <= move < total for move in found)
    if total > 3:
        moves = sorted(previewed(Generate(previews=3), total))
        gaps = [b - a for a, b in zip([0, *moves], [*moves, total], strict=True)]
        assert max(gaps) - min(gaps) <= 1


class Told:
    """A channel that keeps what it is told."""

    def __init__(self):
        self.events = []

    def tell(self, event):
        self.events.append(event)

    def is_stopped(self, job):
        return False


@pytest.mark.parametrize(
    ("given", "branches"), [("{}", 2), ('{"image": 0}', 1), ('{"depth": 0}', 1)]
)
def test_previews_show_what_is_being_made(tiny, tmp_path, monkeypatch, given, branches):
    """Both of what is made of text, depth alone of an image, the image alone under depth."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "jobs/a/given").mkdir(parents=True)
    (tmp_path / "jobs/a/given/0.png").write_bytes(picture(mode="L"))
    pictures = {name: {"upload": "0.png"} for name in json.loads(given)}
    form = Generate(prompt="a dog", steps=4, previews=1, **pictures)
    job = Job(
        id="a",
        user="ann",
        task="generate",
        base="tiny",
        form=form.model_dump_json(exclude_none=True),
        kin=None,
        rows=1,
        created=0.0,
    )
    told = Told()
    models = {"tiny": tiny.only("depth")}
    served = Settings(data=tmp_path, models={"tiny": Served(base="tiny")})
    order = Order(name="a", device="cpu", settings=served)
    Models(order, models, told).make([job])
    (shown,) = [one.picture for one in told.events if one.kind == "preview"]
    with Image.open(io.BytesIO(base64.b64decode(shown))) as preview:
        assert preview.size == (64 * branches, 64)


@pytest.mark.parametrize("loud", [False, True])
def test_the_log_has_prompts_only_if_asked(caplog, loud):
    with caplog.at_level(logging.INFO):
        told = reason(KeyError("a secret prompt"), 60, loud)
    assert "secret" not in told
    assert ("secret" in caplog.text) == loud
    assert "KeyError" in caplog.text


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValueError("steps are few"), "steps are few"),
        (TooLong(), "longer than 60 s"),
        (MemoryError(), "not enough memory"),
        (RuntimeError("CUDA out of memory. Tried"), "not enough memory"),
        (RuntimeError("a mat1 of a secret"), "failed within"),
    ],
)
def test_reasons_are_for_people(error, message):
    assert message in reason(error, 60, False)
    assert "secret" not in reason(error, 60, False)


class Fails:
    """Who is told of moves, and raises what a device raises in the middle of a job."""

    def __init__(self, error):
        self.error = error

    def tell(self, _):
        raise self.error

    def is_stopped(self, _):
        return False


class Silent:
    """A channel that no one hears."""

    def tell(self, _):
        pass

    def is_stopped(self, _):
        return False

    def forget(self, _):
        pass


@pytest.mark.parametrize(
    ("error", "ends"),
    [
        (torch.AcceleratorError("CUDA error: device-side assert triggered"), True),
        (torch.AcceleratorError("CUDA error: an illegal memory access was encountered"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED"), True),
        (torch.AcceleratorError("CUDA error: out of memory"), False),
        (torch.OutOfMemoryError("CUDA out of memory. Tried"), False),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("steps are few"), False),
    ],
)
def test_a_device_that_fails_for_good_ends_its_worker(
    tiny, settings, tmp_path, monkeypatch, error, ends
):
    """Any later job would fail by it: this one is queued again, for a process that is new."""
    monkeypatch.chdir(tmp_path)
    database = Database(tmp_path / "queue.sqlite")
    told = {"task": "generate", "base": "tiny", "kin": None, "rows": 1, "created": 0.0}
    form = Generate(only=("image",), size=32).model_dump_json(exclude_none=True)
    queue.add(database, Job(id="a", user="ann", form=form, **told), 9, 9)
    order = Order(name="w", device="cpu", settings=settings)
    worker = Worker(order, Models(order, {"tiny": tiny}, Fails(error)), database, Silent())
    jobs = queue.claim(database, "w", 1)
    if ends:
        with pytest.raises(Gone, match="its device has failed"):
            worker.make(jobs)
        assert queue.find(database, "a").status == "running", "the supervisor queues it again"
    else:
        worker.make(jobs)
        assert queue.find(database, "a").status == "failed"
    database.close()


@pytest.mark.parametrize(("coming", "waits"), [(2, 2), (5, 2), (0, 1)])
def test_clients_of_a_batch_have_time_to_ask_again(settings, tmp_path, coming, waits):
    """Until as many wait as are expected, and no longer than is allowed."""
    database, told = Database(tmp_path / "queue.sqlite"), []

    class Asked(Silent):
        def wait(self, seconds):
            told.append(seconds)
            if len(told) > coming:
                time.sleep(seconds)
                return
            job = {"task": "generate", "base": "tiny", "kin": None, "rows": 1, "created": 0.0}
            queue.add(database, Job(id=str(len(told)), user="ann", form="{}", **job), 9, 9)

    allowed = 0.05 if coming == 0 else 60.0
    Worker(Order(name="w", device="cpu", settings=settings), None, database, Asked()).rest(
        2, allowed
    )
    assert len(told) == waits
    assert 0 < max(told) <= allowed
    database.close()


def test_who_waited_beside_a_batch_is_expected_in_the_next(tiny, settings, tmp_path, monkeypatch):
    """Of three clients two are served: all three are there when the third one's turn comes."""
    monkeypatch.chdir(tmp_path)
    database = Database(tmp_path / "queue.sqlite")
    told = {"task": "generate", "base": "tiny", "kin": "k", "rows": 1, "created": 0.0}
    form = Generate(only=("image",), size=32, steps=1).model_dump_json(exclude_none=True)
    for name in "abc":
        queue.add(database, Job(id=name, user=name, form=form, **told), 9, 9)
    order = Order(name="w", device="cpu", settings=settings)
    worker = Worker(order, Models(order, {"tiny": tiny}, Silent()), database, Silent())
    jobs = queue.claim(database, "w", 2)
    assert len(jobs) == 2
    assert worker.make(jobs) == 1
    assert [queue.find(database, job.id).status for job in jobs] == ["done", "done"]
    database.close()


def test_who_watches_is_told():
    async def watched():
        board = Board()
        with board.watching("a") as first, board.watching("a") as second:
            board.moved("b", 1, 2)
            assert not first.is_set()
            board.moved("a", 1, 2)
            assert first.is_set()
            assert second.is_set()
            board.previewed("a", "x")
            board.previewed("a", "y")
        found = board.of("a")
        assert (found.done, found.total, found.previews, found.picture) == (1, 2, 2, "y")
        board.changed("a")
        assert not board.of("a").told
        assert board.of("b").told

    asyncio.run(watched())

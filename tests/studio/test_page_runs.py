"""The page's events against a server with a worker on the tiny base, through Gradio's client."""

import json
import re
from pathlib import Path

import pytest
from gradio_client import Client, handle_file
from noise_pictures import picture
from serving import in_thread, until

from unicond.calls.output import read_record
from unicond.studio.page.slots import EACH
from unicond.studio.settings import Served, Settings
from unicond.tasks.forms import FORMS

PAINT = ["is made anew", False, ""]
MADE = [None, "make", 0.0, *PAINT]
DEPTH = Path(__file__).parents[1] / "golden" / "unicon" / "weights" / "depth"


def connected(address, folder):
    """Gradio's client; in plain HTTP, where certificates of TLS would be read for each picture."""
    return Client(address, verbose=False, download_files=str(folder), ssl_verify=False)


class Page:
    """The page in the hand of someone who knows its labels."""

    def __init__(self, address, folder):
        self.client = connected(address, folder)
        config = self.client.config
        self.ids = {one["id"]: one for one in config["components"]}
        self.events = {one["api_name"]: one for one in config["dependencies"]}
        self.client.predict("tiny", api_name="/ready")

    def inputs(self, task):
        asked = [self.ids[one] for one in self.events[task]["inputs"]]
        return [one for one in asked if one["type"] != "state"]

    def values(self, task, first=None, **labelled):
        """What stands in a tab: the usual, but for the first components and those of a label."""
        names = [one["props"].get("label") for one in self.inputs(task)]
        found = [one["props"].get("value") for one in self.inputs(task)]
        found[1 : 1 + len(first or ())] = first or ()
        for label, value in labelled.items():
            found[names.index(label.replace("_", " "))] = value
        return found

    def submit(self, task, first=None, **labelled):
        return self.client.submit(*self.values(task, first, **labelled), api_name=f"/{task}")

    def run(self, task, first=None, **labelled):
        return self.submit(task, first, **labelled).result()

    def filled(self, event, values):
        """The tab that an event fills, and (label, value) of what it puts there."""
        put = [self.ids[one] for one in self.events[event]["outputs"]]
        put = [one for one in put if not one["skip_api"]]
        shown = [
            (one, value)
            for one, value in zip(put, values, strict=True)
            if not (isinstance(value, dict) and value.keys() == {"__type__"})
        ][1:]
        tasks = [task for task in FORMS if shown[0][0]["id"] in self.events[task]["inputs"]]
        return tasks[0], [(one["props"].get("label"), value) for one, value in shown]


@pytest.fixture(scope="module")
def served(tiny_base, tmp_path_factory):
    settings = Settings(
        data=tmp_path_factory.mktemp("served"),
        models={"tiny": Served(base=str(tiny_base), adapters=(f"depth={DEPTH}",))},
        devices=("cpu",),
    )
    with in_thread(settings) as (address, app):
        yield address, app


@pytest.fixture(scope="module")
def page(served, tmp_path_factory):
    return Page(served[0], tmp_path_factory.mktemp("downloads"))


@pytest.fixture
def grey(tmp_path):
    path = tmp_path / "depth.png"
    path.write_bytes(picture(mode="L"))
    return path


def slot_of(path, role="give", noise=0.0):
    shown = handle_file(path)
    edited = {"background": shown, "layers": [], "composite": shown, "id": None}
    return [edited, role, noise, *PAINT]


def test_all_branches_are_made_and_keep_their_settings(page):
    live, pictures, pair, files, settings, wrong = page.run("generate", ["a dog"], Seed=5, Count=2)
    assert wrong == ""
    assert "made in" in live
    captions = [one["caption"] for one in pictures["value"]]
    assert captions == ["image, seed 5", "depth, seed 5", "image, seed 6", "depth, seed 6"]
    assert pictures["columns"] == 2
    assert len(pair) == 2
    images = [one for one in files if one.endswith("_image.png")]
    assert read_record(images[0]).prompts == ("a dog", "a dog")
    assert json.loads(settings)["seed"] == 5


def test_what_happens_is_shown_on_the_way(page):
    told = [one[0] for one in page.submit("generate", ["a dog"], Steps=60, Previews=3)]
    moves = {found[1] for one in told if (found := re.search(r"move (\d+) of 60", one))}
    assert moves
    assert any("data:image/jpeg;base64," in one for one in told)
    assert "made in" in told[-1]


def test_a_given_depth_is_followed_and_comes_back_with_the_png(page, grey):
    given = ["a dog", *MADE, *slot_of(grey, noise=0.5)]
    files = page.run("generate", given, Seed=3, Steps=2, Solver="euler")[3]
    image = next(one for one in files if one.endswith("3_image.png"))
    record = read_record(image)
    assert (record.given["depth"].noise, record.solver) == (0.5, "euler")
    values = page.client.predict(handle_file(image), api_name="/dropped")
    tab, shown = page.filled("dropped", values)
    assert tab == "generate"
    labels = [label for label, _ in shown]
    told = dict(shown)
    assert (told["Prompt"], told["Seed"], told["Steps"]) == ("a dog", 3, "2")
    assert told["Solver"] == "euler"
    first = labels.index("Prompt") + 1
    depth = [value for _, value in shown[first + EACH : first + 2 * EACH]]
    assert depth[0]["background"] is not None
    assert depth[1:3] == ["give", 0.5]


def test_a_running_job_is_cancelled(page, served):
    job = page.submit("generate", ["a dog"], Steps=190, Count=8)
    until(lambda: any("move" in one[0] for one in job.outputs()))
    page.client.predict(api_name="/cancel")
    assert "cancelled" in job.result()[0]
    assert "made in" in page.run("generate", ["a dog"])[0]


def test_what_is_wrong_is_told_below_the_button(page):
    missing = ["a dog", *MADE, None, "give", 0.0, *PAINT]
    assert "depth is to be given" in page.run("generate", missing)[-1]
    assert "steps is 9000" in page.run("generate", ["a dog"], Steps=9000)[-1]
    assert "Picture: Field required" in page.run("edit", ["a dog"])[-1]


def test_a_page_that_is_loaded_shows_what_is_not_ended(page, served, tmp_path):
    """In another browser of the same client, until it ends; and where nothing is open, nothing."""
    job = page.submit("generate", ["a dog"], Steps=190, Count=8)
    until(lambda: any("move" in one[0] for one in job.outputs()))
    other = connected(served[0], tmp_path)
    seen = other.submit(api_name="/attached")
    until(lambda: any("move" in str(one[0]) for one in seen.outputs()))
    other.predict(api_name="/cancel")
    assert "cancelled" in seen.result()[0]
    assert "cancelled" in job.result()[0]
    assert isinstance(other.predict(api_name="/attached")[0], dict)


def test_a_condition_is_read_from_the_image(page, grey):
    editor, role, live, wrong = page.client.predict("tiny", *slot_of(grey), api_name="/read_1")
    assert "made in" in live
    assert (role, wrong) == ("give", "")
    assert editor["background"] is not None
    nothing = page.client.predict("tiny", *MADE, api_name="/read_1")
    assert "no image to read from" in nothing[-1]


def test_boxes_are_laid_out_and_the_history_has_them(page):
    table = {"headers": [], "data": [["red", "ball", 0.1, 0.1, 0.5, 0.9]], "metadata": None}
    live, *_ = page.run("layout", ["a red ball in the rain", table], Seed=1)
    assert "made in" in live, live
    found = page.client.predict("RAIN ball", api_name="/history")
    assert [one["caption"] for one in found] == ["layout: a red ball in the rain"]
    assert page.client.predict("rain cat", api_name="/history") == []
    tab, shown = page.filled("again", page.client.predict(api_name="/again"))
    assert tab == "layout"
    assert dict(shown)["Prompt"] == "a red ball in the rain"
    boxes = next(value for _, value in shown if isinstance(value, dict) and "data" in value)
    assert boxes["data"] == [["red", "ball", 0.1, 0.1, 0.5, 0.9]]


def test_other_tasks_are_made(page, grey):
    texts = {"headers": [], "data": [["a cat", None], ["a dog", -2.0]], "metadata": None}
    assert "made in" in page.run("compose", ["grass", texts])[0]
    color = grey.with_name("color.png")
    color.write_bytes(picture())
    edited = page.run("edit", ["a cat", handle_file(color)], What_it_shows_now="a dog")
    assert "made in" in edited[0], edited[0]
    assert "before, seed 0" in [one["caption"] for one in edited[1]["value"]]
    restored = page.run("restore", ["", handle_file(color)], Operator="blur", Steps=2)
    assert "made in" in restored[0], restored[0]
    member = ["depth", handle_file(grey), 0.5, "", "", "text", None, 0.5, "", ""]
    joined = page.run("aggregate", ["a dog", *member], Steps=8)
    assert "made in" in joined[0], joined[0]


def test_the_plan_is_drawn_as_the_sliders_say(page):
    values = ["make", 0.0, *PAINT, "give", 0.4, *PAINT, *4 * ["make", 0.0, *PAINT], 10, ""]
    assert "depth from 0.40" in page.client.predict(*values, api_name="/plan")
    values[-1] = "sideways"
    assert "plan 'sideways' is not known" in page.client.predict(*values, api_name="/plan")


def test_examples_fill_their_tabs(page):
    tab, shown = page.filled("example", page.client.predict(1, api_name="/example"))
    assert tab == "generate"
    assert "ball" in dict(shown)["Prompt"]

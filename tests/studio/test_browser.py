"""The page in a browser, against `unicond serve` with the embedded model."""

import io
import json
import re

import numpy as np
import pytest
from browsing import Studio, chromium, contrast_of
from PIL import Image
from playwright.sync_api import expect
from serving import Process, until

from unicond.calls.output import read_record
from unicond.pictures.examples import example_depths
from unicond.studio import queue
from unicond.studio.database import Database
from unicond.studio.page.placed import PALETTE

pytestmark = pytest.mark.browser
STEPS = "3"
BLUE = list(PALETTE).index("blue")
READ = 3.0
"""Least contrast of text, which the WCAG asks of large text and of controls."""
PROMPT = "a red ball left of a blue box on grass"
DEPTH = next(one for one in example_depths() if one.path.stem == "ball_and_box").path


@pytest.fixture(scope="module")
def browser():
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tmp_path_factory.mktemp("browsed")


@pytest.fixture(scope="module")
def server(data):
    found = Process("mini", data)
    yield found
    found.end()


@pytest.fixture
def studio(browser, server):
    found = Studio(browser, server.address)
    yield found
    found.leave()


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    Image.radial_gradient("L").resize((128, 128)).convert("RGB").save(path)
    return path


def asked(data):
    """The form that the server was sent last."""
    return json.loads(queue.search(Database(data / "queue.sqlite"), "127.0.0.1", "", 1)[0].form)


def test_an_untouched_page_asks_for_what_is_usual(studio, data):
    """Enter in the prompt is all; a number that was written and deleted is not said again."""
    studio.fill(Prompt=PROMPT, Steps="5")
    studio.field("Steps").fill("")
    studio.field("Prompt").press("Enter")
    expect(studio.live).to_contain_text("made in")
    expect(studio.made).to_have_count(2)
    form = asked(data)
    assert form["prompt"] == PROMPT
    assert not {"steps", "guidance", "condition_guidance", "size"} & form.keys()


def test_a_given_depth_is_followed_and_compared(studio, data):
    studio.fill(Prompt=PROMPT, Steps=STEPS)
    slot = studio.page.locator("#slot-1")
    studio.give("depth", DEPTH, slot)
    expect(slot.get_by_label("give")).to_be_checked()
    expect(studio.page.locator("#plan title").first).to_contain_text("depth from 0.00")
    studio.run("Generate")
    expect(studio.page.locator("#made")).to_contain_text("given")
    expect(studio.made).to_have_count(2)
    assert list(asked(data)["give"]) == ["depth"]
    studio.page.get_by_role("button", name="Files and settings").click()
    expect(studio.page.locator(".cm-content")).to_contain_text('"task": "generate"')
    expect(studio.page.get_by_role("link", name=re.compile(r"\d KB")).first).to_be_visible()
    studio.page.get_by_role("button", name="Before and after").click()
    expect(studio.page.get_by_test_id("slider")).to_be_visible()


def test_a_mask_is_painted_with_the_mouse(studio, data):
    """What is painted is to be made anew: the mask that is sent is black where it was drawn."""
    studio.fill(Prompt=PROMPT, Steps=STEPS)
    slot = studio.page.locator("#slot-1")
    studio.give("depth", DEPTH, slot)
    expect(slot.get_by_label("give")).to_be_checked()
    studio.paint(slot, (0.5, 0.3), (0.5, 0.7))
    studio.run("Generate")
    form = asked(data)
    assert list(form["mask"]) == ["depth"]
    given = max(data.glob("jobs/*/given"), key=lambda path: path.stat().st_mtime)
    with Image.open(given / form["mask"]["depth"]["upload"]) as mask:
        free = mask.convert("L").point(lambda value: 255 - value).getbbox()
        width, height = mask.size
    middle = (free[0] + free[2]) / 2 / width
    assert free[3] - free[1] > height / 4
    assert middle == pytest.approx(0.5, abs=0.1)


def test_an_empty_canvas_is_in_the_middle_of_its_frame(browser, server):
    """Of a row above the tools, which is white where the canvas is and dark beside it."""
    studio = Studio(browser, server.address, color_scheme="dark")
    for number in range(2):
        canvas = studio.page.locator(f"#slot-{number} canvas").first
        with Image.open(io.BytesIO(canvas.screenshot())) as shot:
            row = np.asarray(shot.convert("L"))[shot.height // 5]
        white = np.flatnonzero(row > 200)
        assert (white[0] + white[-1]) / 2 == pytest.approx(len(row) / 2, abs=0.03 * len(row))
    studio.leave()


def test_a_picture_is_edited(studio, photo):
    studio.tab("edit")
    studio.fill(Prompt="a red ball on grass", Steps=STEPS, What_it_shows_now="a blue ball on grass")
    studio.give("Picture", photo)
    studio.run("Edit")
    expect(studio.page.locator("#made")).to_contain_text("before, seed 0")


def test_a_picture_is_restored(studio, data, photo):
    studio.tab("restore")
    studio.fill(Steps=STEPS)
    studio.give("Measurement", photo)
    studio.panel.get_by_label("The picture is clean").check()
    studio.run("Restore")
    assert asked(data)["operator"] == "sr4"


def test_what_is_drawn_on_an_empty_canvas_is_given(studio, data):
    studio.fill(Prompt=PROMPT, Steps=STEPS)
    slot = studio.page.locator("#slot-1")
    studio.paint(slot, (0.3, 0.5), (0.7, 0.5))
    expect(slot.get_by_label("give")).to_be_checked()
    studio.run("Generate")
    form = asked(data)
    assert list(form["give"]) == ["depth"]
    assert form["mask"] == {}
    given = max(data.glob("jobs/*/given"), key=lambda path: path.stat().st_mtime)
    with Image.open(given / form["give"]["depth"]["upload"]) as drawn:
        assert drawn.convert("L").getextrema() == (0x88, 0xFF)


def test_a_condition_is_read_from_the_image(studio, photo):
    studio.give("image", photo, studio.page.locator("#slot-0"))
    slot = studio.page.locator("#slot-1")
    slot.get_by_role("button", name="Read from the image").click()
    expect(studio.live).to_contain_text("made in")
    expect(slot.get_by_label("give")).to_be_checked()


def test_boxes_are_painted_with_the_mouse(studio, data):
    """Two things of one colour are two boxes, beside those that were written."""
    studio.tab("layout")
    studio.fill(Prompt="a red ball on grass", Steps=STEPS)
    studio.paint(studio.panel, (0.2, 0.4), (0.3, 0.6))
    expect(studio.panel.locator("svg title", has_text="1 boxes")).to_be_attached()
    studio.write(0, "red", "box")
    studio.paint(studio.panel, (0.45, 0.4), (0.55, 0.6))
    expect(studio.panel.locator("svg title", has_text="2 boxes")).to_be_attached()
    studio.panel.get_by_role("button", name="Color").click()
    studio.panel.locator("menu.swatch button").nth(BLUE).click()
    studio.paint(studio.panel, (0.7, 0.4), (0.8, 0.6))
    expect(studio.panel.locator("svg title", has_text="3 boxes")).to_be_attached()
    studio.run("Lay out")
    first, second, blue = asked(data)["box"]
    assert [first["phrase"], blue["phrase"]] == ["red box", "blue ball"]
    assert second["phrase"] in ("red box", "red ball")
    assert 0 < first["box"][0] < first["box"][2] < second["box"][0] < blue["box"][0] < 1
    assert 0 < first["box"][1] < first["box"][3] < 1


def test_texts_are_composed(studio, data):
    studio.tab("compose")
    studio.fill(Prompt="grass", Steps=STEPS)
    studio.write(0, "a red ball", "3")
    studio.write(1, "a blue box", "-2")
    studio.run("Compose")
    form = asked(data)
    assert (form["with"], form["without"]) == ({"a red ball": 3.0}, {"a blue box": 2.0})


def test_models_are_aggregated(studio, data):
    studio.tab("aggregate")
    studio.fill(Prompt=PROMPT, Steps="8")
    studio.choose("Model 1", "depth")
    studio.give("Its condition", DEPTH)
    studio.run("Aggregate")
    assert [one["name"] for one in asked(data)["model"]] == ["depth", "text"]


def test_a_run_is_cancelled_and_the_next_one_made(studio):
    studio.fill(Prompt=PROMPT, Steps="190", Count="8")
    studio.panel.get_by_role("button", name="Generate").click()
    expect(studio.live).to_contain_text(re.compile("move [1-9]"))
    expect(studio.live.locator("progress")).to_have_attribute("max", "1")
    studio.page.get_by_role("button", name="Cancel").click()
    expect(studio.live).to_contain_text("cancelled")
    studio.fill(Steps=STEPS, Count="1")
    studio.run("Generate")


def test_a_run_goes_on_when_the_page_is_loaded_anew(studio, data):
    studio.fill(Prompt="a green cone beside a wall", Steps="40")
    studio.panel.get_by_role("button", name="Generate").click()
    expect(studio.live).to_contain_text("move")
    studio.open()
    expect(studio.live).to_contain_text(re.compile("move [1-9]|made in"))
    expect(studio.live).to_contain_text("made in")
    expect(studio.made).to_have_count(2)
    studio.tab("history")
    past = studio.page.locator("#past .grid-container img")
    words = studio.field("Search by prompt")

    def searched():
        words.fill("green wall")
        words.press("Enter")
        studio.page.wait_for_timeout(500)
        return past.count() == 1

    until(searched)
    past.click()
    expect(studio.live).to_contain_text("made in")
    assert asked(data)["steps"] == 40
    expect(studio.field("Prompt")).to_have_value("a green cone beside a wall")


def test_a_png_brings_its_settings_back(studio, data):
    studio.fill(Prompt="a yellow box on sand", Steps="4", Size="64")
    studio.page.get_by_role("spinbutton", name="Seed").fill("7")
    studio.run("Generate")
    made = max(data.glob("jobs/**/7_image.png"), key=lambda path: path.stat().st_mtime)
    assert read_record(made).num_inference_steps == 4
    studio.open()
    studio.tab("edit")
    studio.drop(made)
    expect(studio.field("Prompt")).to_have_value("a yellow box on sand")
    expect(studio.field("Steps")).to_have_value("4")
    expect(studio.field("Size")).to_have_value("64x64")
    expect(studio.page.get_by_role("spinbutton", name="Seed")).to_have_value("7")
    studio.tab("layout")
    expect(studio.field("Scale")).to_have_value("")


def test_a_png_is_dropped_anywhere(studio, data):
    """Beside all fields its settings come back, twice as well; in a slot it is the picture."""
    studio.fill(Prompt="a black pill on sand", Steps=STEPS)
    studio.run("Generate")
    made = max(data.glob("jobs/**/0_image.png"), key=lambda path: path.stat().st_mtime)
    for place in ("#plan", "#live"):
        studio.fill(Prompt="something else")
        studio.drop_on(studio.page.locator(place), made)
        expect(studio.field("Prompt")).to_have_value("a black pill on sand")
    studio.fill(Prompt="something else")
    slot = studio.page.locator("#slot-0")
    studio.drop_on(slot.get_by_label("Click to upload or drop files"), made)
    expect(slot.get_by_label("give")).to_be_checked()
    expect(studio.field("Prompt")).to_have_value("something else")


def test_an_example_fills_a_tab_that_was_not_open(studio, data):
    studio.page.get_by_role("tab", name="examples").click()
    studio.page.get_by_text("things in boxes").click()
    expect(studio.panel.locator("svg title", has_text="2 boxes")).to_be_attached()
    studio.fill(Steps=STEPS)
    studio.run("Lay out")
    assert "scale" not in asked(data)
    studio.fill(Prompt="something else")
    studio.page.get_by_role("button", name="Again with these").click()
    expect(studio.field("Prompt")).to_have_value("a red ball and a blue box on grass")


def test_what_is_wrong_is_told_and_the_page_goes_on(studio, photo):
    studio.fill(Prompt=PROMPT, Size="wide")
    go = studio.panel.get_by_role("button", name="Generate")
    go.click()
    expect(studio.told()).to_contain_text("size 'wide' is none")
    studio.fill(Size="", Steps="many")
    go.click()
    expect(studio.told()).to_contain_text("Steps 'many' is no whole number")
    expect(studio.page.locator("#plan")).to_contain_text("Steps 'many' is no whole number")
    studio.drop(photo)
    dropped = studio.page.get_by_role("alert").last
    expect(dropped).to_contain_text(re.compile(r"(?<!/)photo\.png holds no settings"))
    studio.tab("edit")
    studio.panel.get_by_role("button", name="Edit").click()
    expect(studio.told()).to_contain_text("Picture: Field required")
    studio.tab("layout")
    studio.panel.get_by_role("button", name="Lay out").click()
    expect(studio.told()).to_contain_text("a layout says what is where")
    studio.tab("compose")
    studio.panel.get_by_role("button", name="Compose").click()
    expect(studio.told()).to_contain_text("needs texts")
    studio.tab("generate")
    studio.fill(Steps=STEPS)
    studio.run("Generate")
    expect(studio.told()).to_have_count(0)


def test_the_keyboard_reaches_what_is_needed(studio):
    reached = list[str]()
    for _ in range(100):
        studio.page.keyboard.press("Tab")
        reached.append(studio.focused().partition("\n")[0])
    wanted = ["generate", "history", "Prompt", "Generate", "Brush", "give", "Seed", "Steps"]
    wanted += ["Size", "Count", "Sampling", "Cancel", "Again with these"]
    assert [one for one in wanted if one not in reached] == []
    assert sorted(wanted, key=reached.index) == wanted


def test_a_narrow_screen_needs_no_scrolling_to_the_side(browser, server):
    """What is made comes into view, below all fields as it is."""
    studio = Studio(browser, server.address, viewport={"width": 390, "height": 844})
    for name in ("edit", "restore", "layout", "compose", "aggregate", "history", "generate"):
        studio.tab(name)
        width = studio.page.evaluate("document.documentElement.scrollWidth")
        assert width <= 390, f"{name} is {width} px wide"
    studio.fill(Prompt=PROMPT, Steps=STEPS)
    studio.page.evaluate("window.scrollTo(0, 0)")
    expect(studio.live).not_to_be_in_viewport()
    studio.run("Generate")
    expect(studio.live).to_be_in_viewport(ratio=1)
    expect(studio.made.first).to_be_in_viewport(ratio=1)
    studio.leave()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_read_in_light_and_dark(browser, server, scheme):
    studio = Studio(browser, server.address, color_scheme=scheme)
    ground = studio.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", ground)[:3])) > 384) == (scheme == "light")
    for where in ("#live p", "#plan text", "button", "label span", "[data-testid=block-info]"):
        for text in (
            studio.page.locator(where).filter(visible=True, has_text=re.compile(r"\w")).all()
        ):
            contrast = contrast_of(text)
            assert contrast >= READ, f"{text.text_content()!r} has a contrast of {contrast:.2f}"
    studio.leave()


def test_the_history_outlives_the_server(studio, browser, server, data, capfd):
    """The last test here: it ends the server. A page that is still open then is no fault."""
    studio.fill(Prompt="a purple pill in the snow", Steps=STEPS)
    studio.run("Generate")
    studio.page.close()
    server.end()
    after = Process("mini", data)
    later = Studio(browser, after.address)
    later.tab("history")
    later.field("Search by prompt").fill("SNOW pill")
    later.field("Search by prompt").press("Enter")
    past = later.page.locator("#past")
    expect(past.locator(".grid-container img")).to_have_count(1)
    expect(past).to_contain_text("generate: a purple pill")
    shown = past.locator(".grid-container img").bounding_box()
    assert shown["width"] < 300
    after.end()
    later.leave()
    assert "Traceback" not in capfd.readouterr().err

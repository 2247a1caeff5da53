"""The page in the hands of someone with a browser: Debian's Chromium, driven by Playwright."""

import base64
import os
import re
import shutil
from contextlib import contextmanager

from playwright.sync_api import expect, sync_playwright

WAIT = 120_000  # ms: what takes a second takes long on a busy machine
NAMED = "UNICOND_CHROMIUM"
MISSING = (
    "tests of the page need Chromium: `apt-get install chromium`, or name the program of one that "
    f"is there by the environment variable {NAMED}"
)
DROP = """([name, content]) => {
    const bytes = Uint8Array.from(atob(content), (one) => one.charCodeAt(0));
    const found = new DataTransfer();
    found.items.add(new File([bytes], name, {type: "image/png"}));
    return found;
}"""
FOCUSED = """() => {
    const one = document.activeElement;
    return one.getAttribute("aria-label") || one.labels?.[0]?.innerText || one.innerText;
}"""
COLOURS = """(text) => {
    const style = getComputedStyle(text);
    const grounds = [];
    for (let one = text; one; one = one.parentElement) {
        grounds.push(getComputedStyle(one).backgroundColor);
    }
    return [text.tagName == "text" ? style.fill : style.color, ...grounds];
}"""


@contextmanager
def chromium():
    """A browser without a window."""
    program = os.environ.get(NAMED) or shutil.which("chromium")
    assert program is not None, MISSING
    expect.set_options(timeout=WAIT)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program)
        yield browser
        browser.close()


class Studio:
    """The page in a browser; nothing of it may fail, or be fetched from elsewhere."""

    def __init__(self, browser, address, **seen):
        self.address = address
        self.faults = []
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}} | seen)
        self.context.set_default_timeout(WAIT)
        self.context.route("**/*", self._fetched)
        self.page = self.context.new_page()
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("response", self._answered)
        self.open()

    def _fetched(self, route):
        if route.request.url.startswith((f"{self.address}/", "data:", "blob:")):
            route.continue_()
        else:
            self.faults.append(f"fetched from elsewhere: {route.request.url}")
            route.abort()

    def _answered(self, response):
        if response.status >= 400:
            self.faults.append(f"{response.status}: {response.url}")

    def open(self):
        """Load the page anew, until the model's branches are there."""
        self.page.goto(self.address)
        expect(self.page.locator("#slot-1")).to_contain_text("depth")
        expect(self.page.locator("#plan svg")).to_be_visible()

    @property
    def panel(self):
        """The tab that is open."""
        return self.page.get_by_role("tabpanel").filter(visible=True)

    @property
    def live(self):
        return self.page.locator("#live")

    @property
    def made(self):
        """The pictures that are shown as made."""
        return self.page.locator("#made .grid-container img")

    def tab(self, name):
        """Open a tab; on a narrow screen some are in a menu."""
        tab = self.page.get_by_role("tab", name=name, exact=True)
        if not tab.is_visible():
            self.page.get_by_role("button", name="More tabs").click()
            tab = self.page.locator(".overflow-dropdown").get_by_role("button", name=name)
        tab.click()
        expect(self.panel.locator("input").first).to_be_visible()

    def field(self, label):
        words = self.panel.get_by_role("textbox", name=label)
        return words.or_(self.panel.get_by_role("spinbutton", name=label)).first

    def fill(self, **labelled):
        for label, value in labelled.items():
            self.field(label.replace("_", " ")).fill(value)

    def choose(self, label, value):
        """Take one of a list."""
        box = self.panel.get_by_role("combobox", name=label)
        box.click()
        self.page.get_by_role("option", name=value, exact=True).click()

    def give(self, label, path, within=None):
        """Load a picture where something of that label stands."""
        block = (
            (within or self.panel)
            .locator(".block")
            .filter(has=self.page.get_by_test_id("block-label").get_by_text(label))
        )
        with self.page.expect_response(lambda answer: "/upload" in answer.url):
            block.first.locator("input[type=file]").first.set_input_files(path)

    def write(self, row, *values):
        """Write into the open tab's first table."""
        for column, value in enumerate(values):
            cell = self.panel.get_by_test_id(f"cell-{row}-{column}").first
            cell.dblclick()
            cell.locator("textarea").fill(value)
            self.page.keyboard.press("Enter")
            expect(cell).to_have_text(re.compile(rf"^\s*{re.escape(value)}\W*$"))  # beside its menu

    def paint(self, within, start, end):
        """Draw a line on a canvas; places are shares of its width and height."""
        within.get_by_role("button", name="Brush", exact=True).click()
        box = within.locator("canvas").first.bounding_box()
        places = [
            (box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in (start, end)
        ]
        self.page.mouse.move(*places[0])
        self.page.mouse.down()
        self.page.mouse.move(*places[1], steps=8)
        self.page.mouse.up()

    def run(self, button):
        """Start, and wait until it is made."""
        self.panel.get_by_role("button", name=button, exact=True).click()
        expect(self.live).to_contain_text("made in")

    def focused(self):
        """The name of what the keyboard is at."""
        return self.page.evaluate(FOCUSED).strip()

    def drop(self, path):
        """Drop a file of this machine where PNGs are dropped."""
        self.drop_on(self.page.get_by_label("Click to upload or drop files").last, path)

    def drop_on(self, place, path):
        """Drop a file of this machine on something, as what is dropped bubbles from there."""
        content = base64.b64encode(path.read_bytes()).decode()
        moved = self.page.evaluate_handle(DROP, [path.name, content])
        place.dispatch_event("drop", {"dataTransfer": moved})

    def told(self):
        """What is wrong, as the open tab tells it."""
        return self.panel.get_by_role("alert")

    def leave(self):
        self.context.close()
        assert self.faults == []


def contrast_of(text):
    """The WCAG's contrast of an element's text and what is behind it."""
    ink, *grounds = (
        [float(part) for part in re.findall(r"[\d.]+", colour)] for colour in text.evaluate(COLOURS)
    )
    ground = next(one for one in grounds if len(one) == 3 or one[3] == 1)
    dark, light = sorted(luminance(colour) + 0.05 for colour in (ink, ground))
    return light / dark


def luminance(colour):
    linear = [
        one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4
        for one in (part / 255 for part in colour[:3])
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

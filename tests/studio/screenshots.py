"""Take the pictures of the page under docs/screenshots: python tests/studio/screenshots.py."""

import tempfile
from pathlib import Path

from browsing import Studio, chromium
from playwright.sync_api import expect
from serving import Process

from unicond.pictures.examples import example_depths
from unicond.studio.page.placed import PALETTE

FOLDER = Path(__file__).parents[2] / "docs" / "screenshots"
LOADED = "[...document.images].every((one) => one.complete && one.naturalWidth)"
PROMPT = "a red ball left of a blue box on grass"
DEPTH = next(one for one in example_depths() if one.path.stem == "ball_and_box")


def saved(studio, name):
    studio.page.mouse.move(0, 0)
    studio.page.wait_for_function(LOADED)
    studio.page.wait_for_timeout(500)  # pictures fade in
    studio.page.screenshot(path=FOLDER / f"{name}.png")


def generate(browser, address, scheme):
    studio = Studio(browser, address, color_scheme=scheme)
    studio.fill(Prompt=DEPTH.prompt)
    studio.give("depth", DEPTH.path, studio.page.locator("#slot-1"))
    expect(studio.page.locator("#plan title").first).to_contain_text("depth from 0.00")
    studio.run("Generate")
    saved(studio, f"generate-{scheme}")
    studio.leave()


def layout(browser, address):
    studio = Studio(browser, address)
    studio.tab("layout")
    studio.fill(Prompt="a red ball and a blue box on grass")
    studio.paint(studio.panel, (0.25, 0.5), (0.4, 0.65))
    studio.panel.get_by_role("button", name="Color").click()
    studio.panel.locator("menu.swatch button").nth(list(PALETTE).index("blue")).click()
    studio.paint(studio.panel, (0.6, 0.5), (0.75, 0.65))
    expect(studio.panel.locator("svg title", has_text="2 boxes")).to_be_attached()
    studio.write(1, "blue", "box")
    studio.run("Lay out")
    saved(studio, "layout")
    studio.leave()


def narrow(browser, address):
    seen = {"width": 390, "height": 844}
    studio = Studio(browser, address, viewport=seen, device_scale_factor=1)
    studio.fill(Prompt=PROMPT)
    studio.run("Generate")
    saved(studio, "narrow")
    studio.leave()


def main():
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as data, chromium() as browser:
        server = Process("mini", data)
        try:
            for scheme in ("light", "dark"):
                generate(browser, server.address, scheme)
            layout(browser, server.address)
            narrow(browser, server.address)
        finally:
            server.end()


if __name__ == "__main__":
    main()

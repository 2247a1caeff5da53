"""All of the page: its tabs, the panel beside them, and what happens where."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypedDict

import gradio as gr
from gradio.events import Dependency

from unicond.studio.desk import Desk
from unicond.studio.page import fields, results, slots, tabs
from unicond.studio.page.examples import EXAMPLES
from unicond.studio.page.handlers import Handlers, branches_of
from unicond.studio.page.slots_part import named
from unicond.studio.page.watching import Watching
from unicond.studio.settings import Settings
from unicond.tasks.together import TEXT

LOOK = 1.0
"""Seconds between two looks whether the models are loaded."""
KEPT = (3600, 24 * 3600)
"""Every how many seconds copies of pictures are removed, and after how many."""
SHOW = """() => {
    const live = document.getElementById("live");
    if (live.getBoundingClientRect().bottom > innerHeight) live.scrollIntoView();
}"""
"""On narrow screens the panel is far below the button."""
DROP = """() => {
    const files = (event) => event.dataTransfer?.types.includes("Files");
    document.addEventListener("dragover", (event) => files(event) && event.preventDefault());
    document.addEventListener("drop", (event) => {
        if (event.defaultPrevented || !files(event)) return;
        event.preventDefault();
        const input = document.querySelector("#settings input[type=file]");
        input.files = event.dataTransfer.files;
        input.dispatchEvent(new Event("change", { bubbles: true }));
    });
}"""
"""A file that no field takes goes to where settings are read."""
WATCHED = 1000
"""Events at the same time; each job that is watched is one."""
USUAL_STEPS = 20
"""Of the drawing, where none are asked for."""


class _Quiet(TypedDict):
    """How events are bound that neither show that they work nor are told to programs."""

    show_progress: Literal["hidden"]
    api_visibility: Literal["undocumented"]


_QUIET: _Quiet = {"show_progress": "hidden", "api_visibility": "undocumented"}


@dataclass(frozen=True, eq=False)
class Room:
    """What is on the page beside the tabs' own fields.

    Args:
        tabs: of Gradio.
        names: holds the model's branches.
        base: the model.
        drawing: of the plan.
        panel: of what is made.
        png: where a PNG is dropped, or whatever is dropped beside all fields.
        wrong: why its settings do not come back.
        past: the tab of what was made before.
        words: to search it by.
        gallery: of its pictures.
        found: the ids of their jobs.
        shelf: of examples.
    """

    tabs: gr.Tabs
    names: gr.State
    base: gr.Dropdown
    drawing: gr.HTML
    panel: results.Panel
    png: gr.File
    wrong: gr.HTML
    past: gr.Tab
    words: gr.Textbox
    gallery: gr.Gallery
    found: gr.State
    shelf: gr.Dataset


def build(settings: Settings, desk: Callable[[], Desk]) -> gr.Blocks:
    """Build the page.

    Args:
        settings: of the server.
        desk: gives its desk once it runs.

    Returns:
        The page, to be mounted.
    """
    with gr.Blocks(
        title="unicond", analytics_enabled=False, fill_width=True, delete_cache=KEPT
    ) as blocks:
        made = dict[str, tabs.Tab]()
        room = _room(settings, made)
        handlers, watching = Handlers(desk, made), Watching(desk)
        attached = blocks.load(
            watching.attached,
            None,
            room.panel.shown,
            api_name="attached",
            concurrency_limit=None,
            **_QUIET,
        )
        blocks.load(None, js=DROP, **_QUIET)
        _happens(room, handlers, attached)
        _watches(room, made["generate"], watching, attached)
        _follows(room, made, desk, blocks)
    blocks.queue(default_concurrency_limit=None)
    blocks._queue.max_thread_count = WATCHED  # else 40, whatever the limits are
    return blocks


def _room(settings: Settings, made: dict[str, tabs.Tab]) -> Room:
    """Everything on the page; the tabs are put into `made`."""
    models = list(settings.models)
    names = gr.State([])
    base = gr.Dropdown(models, value=models[0], label="Model", visible=len(models) > 1)
    with gr.Row():
        with gr.Column(scale=3, min_width=320), gr.Tabs() as all_tabs:
            with gr.Tab("generate", id="generate"):
                made["generate"] = tabs.generate(names)
                drawing = gr.HTML(elem_id="plan")
            for task, build_tab in tabs.BUILT.items():
                with gr.Tab(task, id=task):
                    made[task] = build_tab()
            with gr.Tab("history", id="history") as past:
                words = gr.Textbox(label="Search by prompt", max_lines=1)
                gallery = gr.Gallery(label="Made before", allow_preview=False, elem_id="past")
                found = gr.State([])
            with gr.Tab("examples", id="examples"):
                shelf = gr.Dataset(
                    components=[gr.Textbox(visible=False)],
                    samples=[[name] for name in EXAMPLES],
                    type="index",
                    label="For the embedded model",
                )
        with gr.Column(scale=2, min_width=320):
            panel = results.panel()
            label = "Drop a PNG of unicond, here or beside all fields: its settings come back"
            png = gr.File(label=label, file_types=[".png"], height=140, elem_id="settings")
            wrong = gr.HTML(padding=False)
    return Room(
        all_tabs, names, base, drawing, panel, png, wrong, past, words, gallery, found, shelf
    )


def _happens(room: Room, handlers: Handlers, attached: Dependency) -> None:
    """What buttons and drops do."""
    panel = room.panel
    every = [one for tab in handlers.tabs.values() for one in (tab.kept, *tab.components)]
    page = [room.tabs, room.base, *every]
    shown = [*page, *panel.shown]
    chosen = room.gallery.select(
        handlers.chosen, room.found, shown, api_name="chosen", concurrency_limit=None, **_QUIET
    )
    for task, tab in handlers.tabs.items():
        begins = [tab.go.button.click, tab.components[0].submit]  # pyright: ignore
        gr.on(begins, None, js=SHOW, **_QUIET)
        gr.on(
            begins,
            handlers.run(task),
            [room.base, tab.kept, *tab.components],
            [*panel.shown, tab.go.wrong],
            api_name=task,
            cancels=[attached, chosen],
            concurrency_limit=None,
            **_QUIET,
        )
    panel.again.click(handlers.again, panel.job, page, api_name="again", **_QUIET)
    settled = [*page, room.png, room.wrong]
    room.png.upload(handlers.dropped, room.png, settled, api_name="dropped", **_QUIET)
    room.shelf.click(handlers.example, room.shelf, page, api_name="example", **_QUIET)


def _watches(room: Room, tab: tabs.Tab, watching: Watching, attached: Dependency) -> None:
    """What happens without the fields: cancelling, the history, the buttons of slots."""
    panel, found = room.panel, [room.gallery, room.found]
    panel.cancel.click(watching.cancel, panel.job, api_name="cancel", **_QUIET)
    gr.on(
        [room.past.select, room.words.submit],
        watching.searched,
        room.words,
        found,
        api_name="history",
        trigger_mode="always_last",  # words that come while the whole history loads
        **_QUIET,
    )
    assert tab.slots is not None
    for number, button in enumerate(tab.slots.read, start=1):
        editor, role, *_ = tab.slots.of(number)
        button.click(
            watching.read(number),
            [room.base, room.names, *tab.slots.of(0)],
            [editor, role, room.panel.live, room.panel.job, tab.go.wrong],
            api_name=f"read_{number}",
            cancels=[attached],
            concurrency_limit=None,
            **_QUIET,
        )


def _follows(
    room: Room, made: dict[str, tabs.Tab], desk: Callable[[], Desk], blocks: gr.Blocks
) -> None:
    """What follows the model, and the sliders."""
    branched = made["generate"].slots
    assert branched is not None
    chosen = [(task, one) for task, tab in made.items() for one in tab.branches]
    clock = gr.Timer(LOOK)

    def ready(base: str) -> list[object]:
        known = branches_of(desk(), base)
        conditions = [name for name in known or () if name != "image"]
        others = [name for name in desk().settings.models if name != base]
        usual = gr.update(choices=conditions)
        members = gr.update(choices=["", TEXT, *conditions, *others])
        return [
            list(known or ())[: slots.MOST],
            *named(known or ()),
            *(members if task == "aggregate" else usual for task, _ in chosen),
            gr.Timer(active=known is None),
        ]

    def drawn(names: list[str], *values: object) -> str:
        *said, steps, plan = values
        said, painted = said[: -slots.MOST], said[-slots.MOST :]
        slotted = slots.slots_of(names, slots.without_pictures(said))
        try:
            moves = fields.number_of(str(steps or ""), "Steps", whole=True)
        except ValueError as error:
            return str(error)
        count = USUAL_STEPS if moves is None else int(moves)
        return slots.plan_of(slotted, painted, str(plan or "") or None, count)

    follows = [room.names, *branched.shown, *(one for _, one in chosen), clock]
    gr.on(
        [blocks.load, room.base.change, clock.tick],
        ready,
        room.base,
        follows,
        api_name="ready",
        **_QUIET,
    )
    labelled = {one.label: one for one in made["generate"].components}  # pyright: ignore
    plain = [one for one in branched.part.components if not isinstance(one, gr.ImageEditor)]
    watched = [*plain, *branched.painted, labelled["Steps"], labelled["Plan"]]
    gr.on(
        [one.change for one in watched],  # pyright: ignore[reportAttributeAccessIssue]
        drawn,
        watched,
        room.drawing,
        trigger_mode="always_last",
        api_name="plan",
        **_QUIET,
    )

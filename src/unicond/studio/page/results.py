"""The panel that shows what a job makes: the same beside every tab."""

from dataclasses import dataclass
from pathlib import Path

import gradio as gr
from gradio.components import Component

from unicond.studio.desk import Desk
from unicond.studio.page import running
from unicond.studio.page.drawing import live_html
from unicond.studio.queue import Job

SHOWN = 6
"""Values of `Panel.shown`."""


@dataclass(frozen=True, eq=False)
class Panel:
    """The components of the panel.

    Args:
        live: where the job is.
        pictures: all branches side by side, a row a sample.
        pair: before and after.
        files: to be downloaded, with the settings inside.
        settings: that were asked for.
        job: id of the job that is shown.
        cancel: ends it.
        again: puts its settings on the page.
    """

    live: gr.HTML
    pictures: gr.Gallery
    pair: gr.ImageSlider
    files: gr.File
    settings: gr.Code
    job: gr.State
    cancel: gr.Button
    again: gr.Button

    @property
    def shown(self) -> list[Component]:
        """What `of_job` fills."""
        return [self.live, self.pictures, self.pair, self.files, self.settings, self.job]


def panel() -> Panel:
    """Put the panel on the page."""
    live = gr.HTML(live_html("nothing is made yet", 0.0, ""), elem_id="live")
    with gr.Row():
        cancel = gr.Button("Cancel", variant="stop", size="sm")
        again = gr.Button("Again with these", size="sm")
    pictures = gr.Gallery(
        label="Made",
        format="png",
        object_fit="contain",
        buttons=["download", "fullscreen"],
        elem_id="made",
    )
    with gr.Accordion("Before and after", open=False):
        pair = gr.ImageSlider(label="Before and after", format="png", type="filepath")
    with gr.Accordion("Files and settings", open=False):
        files = gr.File(label="PNGs have their settings inside", file_count="multiple")
        settings = gr.Code(label="Settings", language="json")
    return Panel(live, pictures, pair, files, settings, gr.State(""), cancel, again)


def of_job(desk: Desk, seen: running.Seen) -> list[object]:
    """What the panel shows of a job.

    Args:
        desk: of the server.
        seen: of the job.

    Returns:
        A value for each of `Panel.shown`.
    """
    job = seen.job
    if job.status != "done":
        settings = running.settings_text(job)
        return [seen.live, gr.update(), gr.update(), gr.update(), settings, job.id]
    paths = running.files_of(desk, job)
    given = running.given_of(desk, job)
    pair = running.pair_of(paths, given)
    return [
        seen.live,
        gr.update(value=_captioned(paths, given, job), columns=_columns(paths, given, job)),
        pair,
        [str(path) for path in running.all_files_of(desk, job)],
        running.settings_text(job),
        job.id,
    ]


def _captioned(paths: list[Path], given: list[Path], job: Job) -> list[tuple[str, str]]:
    """What was made, a row a sample; beside a single one what was given, too."""
    made = [(str(path), running.captioned(path)) for path in paths]
    beside = given if job.rows == 1 else []
    return made + [(str(path), "given") for path in beside]


def _columns(paths: list[Path], given: list[Path], job: Job) -> int:
    if job.rows == 1:
        return max(1, min(4, len(paths) + len(given)))
    return max(1, len(paths) // job.rows)

"""What happens between the page's fields and jobs: what is sent, and what comes back."""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import gradio as gr
from anyio import to_thread
from PIL import Image

from unicond.studio import folder, queue
from unicond.studio.desk import Desk
from unicond.studio.errors import RequestRefused
from unicond.studio.page import fields, kept, results, running
from unicond.studio.page.examples import example
from unicond.studio.page.kept import Kept
from unicond.studio.page.recorded import told_of_png
from unicond.studio.page.tabs import Tab
from unicond.studio.page.told import Told
from unicond.studio.page.watching import Run, shown, user_of
from unicond.studio.page.wrong import named, wrong_html

_STILL = [gr.skip()] * results.SHOWN


@dataclass(frozen=True, eq=False)
class Handlers:
    """What happens between fields and jobs.

    Args:
        desk: gives the server's desk.
        tabs: {task: its tab}.
    """

    desk: Callable[[], Desk]
    tabs: Mapping[str, Tab]

    def run(self, task: str) -> Run:
        """What the button of a tab does: queue a job, and show it until it has ended."""

        async def run(
            request: gr.Request, base: str, before: Told | None, *values: object
        ) -> AsyncGenerator[list[object]]:
            desk, user = self.desk(), user_of(request)
            parts = self.tabs[task].parts

            def said() -> dict[str, object]:
                known = before if before is not None and before["base"] == base else None
                shown = None if known is None else kept.pictured(known, _opening(desk, user))
                told = kept.said(parts, values, shown, branches_of(desk, base) or ())
                return {**told, "task": task, "base": base}

            try:
                job = await running.asked(desk, user, said)
                async for seen in running.watched(desk, user, job.id):
                    yield [*await to_thread.run_sync(results.of_job, desk, seen), ""]
            except RequestRefused as error:
                yield [*_STILL, wrong_html(named(str(error), task, parts))]

        return run

    async def again(self, request: gr.Request, identity: str) -> list[object]:
        """Put the settings of the job that is shown on the page."""
        desk = self.desk()
        try:
            job = await desk.job(user_of(request), identity)
        except RequestRefused as error:
            raise gr.Error(str(error), print_exception=False) from None
        told = await to_thread.run_sync(running.told_of_job, desk, job)
        return await self._filled(request, told)

    async def dropped(self, request: gr.Request, path: str) -> list[object]:
        """Put the settings inside a PNG on the page; no file is left, and what is wrong is told."""
        desk, user = self.desk(), user_of(request)
        bases = {name: one.base for name, one in desk.settings.models.items()}

        def find(picture: Kept) -> bool:
            return _is_there(desk, user, picture)

        try:
            found = await to_thread.run_sync(told_of_png, path, find, bases)
        except ValueError as error:
            told = wrong_html(str(error).replace(path, Path(path).name))
            return [gr.skip(), gr.skip(), *self._nothing(), None, told]
        return [*await self._filled(request, found.told, found.lost), None, ""]

    async def example(self, request: gr.Request, number: int) -> list[object]:
        """Put an example on the page."""
        return await self._filled(request, await to_thread.run_sync(example, number))

    async def chosen(
        self, request: gr.Request, ids: list[str], event: gr.SelectData
    ) -> AsyncGenerator[list[object]]:
        """Show a job of the history until it has ended, and put its settings on the page."""
        desk, user = self.desk(), user_of(request)
        try:
            job = await desk.job(user, ids[int(event.index)])  # pyright: ignore[reportArgumentType]
        except RequestRefused as error:
            raise gr.Error(str(error), print_exception=False) from None
        told = await to_thread.run_sync(running.told_of_job, desk, job)
        page = await self._filled(request, told)
        async for values in shown(desk, user, job.id):
            yield [*page, *values]
            page = [gr.skip(), gr.skip(), *self._nothing()]

    async def _filled(
        self, request: gr.Request, told: Told, lost: Sequence[str] = ()
    ) -> list[object]:
        """The tab to be opened, the model, and what each tab keeps and shows."""
        desk, user = self.desk(), user_of(request)
        usual = next(iter(desk.settings.models))
        found, gone = kept.there({"base": usual, **told})
        lost = [*lost, *(f"the picture of {name} is not here any more" for name in gone)]
        if found["base"] not in desk.settings.models:
            lost = [*lost, f"{found['base']} is not served any more"]
            found["base"] = usual
        for one in lost:
            gr.Warning(f"Not all settings came back: {one}")
        known = branches_of(desk, str(found["base"])) or ()
        shown = await to_thread.run_sync(kept.pictured, found, _opening(desk, user))
        return [
            gr.update(selected=found["task"]),
            found["base"],
            *(
                value
                for task, tab in self.tabs.items()
                for value in (
                    [found, *fields.filled(tab.parts, shown, known)]
                    if task == found["task"]
                    else [gr.skip()] * (1 + len(tab.components))
                )
            ),
        ]

    def _nothing(self) -> list[object]:
        """What leaves all tabs as they are."""
        return [gr.skip() for tab in self.tabs.values() for _ in (tab.kept, *tab.components)]


def branches_of(desk: Desk, base: str) -> Sequence[str] | None:
    """The branches of a model; None until a worker has loaded it."""
    for hand in desk.supervisor.hands:
        if hand.branches is not None and base in hand.branches:
            return hand.branches[base]
    return None


def _is_there(desk: Desk, user: str, picture: Kept) -> bool:
    """Whether a picture is of the client's own job, and there."""
    job = queue.find(desk.database, picture.job)
    path = desk.settings.data / folder.given(picture.job) / picture.name
    return job is not None and job.user == user and path.is_file()


def _opening(desk: Desk, user: str) -> kept.Open:
    """What opens pictures of the client's own jobs."""

    def open_one(picture: Kept) -> Image.Image | None:
        if not _is_there(desk, user, picture):
            return None
        return running.opened(desk.settings.data / folder.given(picture.job) / picture.name)

    return open_one

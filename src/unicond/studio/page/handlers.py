"""What happens on the page: each event asks the desk, and says what is shown then."""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import gradio as gr
from anyio import to_thread
from PIL import Image

from unicond.studio import folder, queue
from unicond.studio.desk import Desk
from unicond.studio.errors import RequestRefused
from unicond.studio.page import fields, history, kept, results, running
from unicond.studio.page.examples import example
from unicond.studio.page.kept import Kept
from unicond.studio.page.recorded import told_of_png
from unicond.studio.page.slots import ROLES, slots_of
from unicond.studio.page.tabs import Tab
from unicond.studio.page.told import Told
from unicond.studio.page.wrong import named, wrong_html

Run = Callable[..., AsyncGenerator[list[object]]]
LATEST = 200
"""Jobs among which one that has not ended is looked for."""
_STILL = [gr.skip()] * results.SHOWN


@dataclass(frozen=True, eq=False)
class Handlers:
    """What happens on the page.

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
                job = await running.asked(desk, user, await to_thread.run_sync(said))
                async for seen in running.watched(desk, user, job.id):
                    yield [*await to_thread.run_sync(results.of_job, desk, seen), ""]
            except (ValueError, RequestRefused) as error:
                yield [*_STILL, wrong_html(named(str(error), task, parts))]

        return run

    def read(self, number: int) -> Run:
        """What the button of a slot does: a job in which the model reads it from the image."""

        async def read(
            request: gr.Request, base: str, names: list[str], *image: object
        ) -> AsyncGenerator[list[object]]:
            desk, user = self.desk(), user_of(request)
            try:
                job = await running.asked(desk, user, _reading(base, names, number, image))
                async for seen in running.watched(desk, user, job.id):
                    found = await to_thread.run_sync(running.files_of, desk, seen.job)
                    picture = running.opened(found[0]) if found else None
                    slot = [gr.skip()] * 2 if picture is None else [picture, ROLES[0]]
                    yield [*slot, seen.live, job.id, ""]
            except (ValueError, RequestRefused) as error:
                yield [*[gr.skip()] * 4, wrong_html(str(error))]

        return read

    async def cancel(self, request: gr.Request, identity: str) -> None:
        """Cancel the job that is shown; one that has ended stays."""
        desk, user = self.desk(), user_of(request)
        try:
            if identity and (await desk.job(user, identity)).ended is None:
                await desk.cancel(user, identity)
        except RequestRefused as error:
            raise gr.Error(str(error), print_exception=False) from None

    async def attached(self, request: gr.Request) -> AsyncGenerator[list[object]]:
        """Show the client's newest job that has not ended, if there is one: the page is new."""
        desk, user = self.desk(), user_of(request)
        jobs = await to_thread.run_sync(queue.mine, desk.database, user, LATEST)
        waiting = [job.id for job in jobs if job.status in queue.OPEN]
        yield [*_STILL]
        if waiting:
            async for shown in _shown(desk, user, waiting[0]):
                yield shown

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

    async def searched(self, request: gr.Request, words: str) -> list[object]:
        """Pictures of the client's jobs whose prompt has some words, and the jobs' ids."""
        return list(await to_thread.run_sync(history.found, self.desk(), user_of(request), words))

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
        async for shown in _shown(desk, user, job.id):
            yield [*page, *shown]
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


def user_of(request: gr.Request) -> str:
    """Who asks, as the API calls them: a client by its key, else by its address."""
    if request.username:
        return request.username
    return request.client.host if request.client is not None else "local"


def branches_of(desk: Desk, base: str) -> Sequence[str] | None:
    """The branches of a model; None until a worker has loaded it."""
    for hand in desk.supervisor.hands:
        if hand.branches is not None and base in hand.branches:
            return hand.branches[base]
    return None


async def _shown(desk: Desk, user: str, identity: str) -> AsyncGenerator[list[object]]:
    """The panel's values of a job until it has ended; one that is gone by then is let go."""
    try:
        async for seen in running.watched(desk, user, identity):
            yield await to_thread.run_sync(results.of_job, desk, seen)
    except RequestRefused as error:
        raise gr.Error(str(error), print_exception=False) from None


def _reading(base: str, names: list[str], number: int, image: Sequence[object]) -> Told:
    """What reads a condition from the image, as a form."""
    given = slots_of(names[:1], image)[names[0]].shown if names else None
    if given is None:
        raise ValueError("there is no image to read from: load, paste or draw it in its slot")
    return {"task": "generate", "base": base, "image": given, "only": [names[number]]}


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

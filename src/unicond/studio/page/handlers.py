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
from unicond.studio.page import fields, history, results, running
from unicond.studio.page.examples import examples
from unicond.studio.page.recorded import told_of_png
from unicond.studio.page.tabs import Tab
from unicond.studio.page.told import Told

Run = Callable[..., AsyncGenerator[object]]


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

        async def run(request: gr.Request, base: str, *values: object) -> AsyncGenerator[object]:
            desk, user = self.desk(), user_of(request)
            try:
                told = fields.told(self.tabs[task].parts, values)
                job = await running.asked(desk, user, {**told, "task": task, "base": base})
                async for seen in running.watched(desk, user, job.id):
                    yield await to_thread.run_sync(results.of_job, desk, seen)
            except (ValueError, RequestRefused) as error:
                raise gr.Error(str(error), print_exception=False) from None

        return run

    async def cancel(self, request: gr.Request, identity: str) -> None:
        """Cancel the job that is shown; one that has ended stays."""
        desk, user = self.desk(), user_of(request)
        try:
            if identity and (await desk.job(user, identity)).ended is None:
                await desk.cancel(user, identity)
        except RequestRefused as error:
            raise gr.Error(str(error), print_exception=False) from None

    async def again(self, request: gr.Request, identity: str) -> list[object]:
        """Put the settings of the job that is shown on the page."""
        desk = self.desk()
        try:
            job = await desk.job(user_of(request), identity)
        except RequestRefused as error:
            raise gr.Error(str(error), print_exception=False) from None
        return self._filled(await to_thread.run_sync(running.told_of_job, desk, job))

    async def dropped(self, request: gr.Request, path: str) -> list[object]:
        """Put the settings inside a PNG on the page."""
        desk, user = self.desk(), user_of(request)

        def find(identity: str, name: str) -> Image.Image | None:
            job = queue.find(desk.database, identity)
            if job is None or job.user != user:
                return None
            return running.opened(desk.settings.data / folder.given(identity) / name)

        try:
            return self._filled(await to_thread.run_sync(told_of_png, path, find))
        except ValueError as error:
            told = str(error).replace(path, Path(path).name)
            raise gr.Error(told, print_exception=False) from None

    async def example(self, number: int) -> list[object]:
        """Put an example on the page."""
        return self._filled(list(examples().values())[number])

    async def searched(self, request: gr.Request, words: str) -> list[object]:
        """Pictures of the client's jobs whose prompt has some words, and the jobs' ids."""
        return list(await to_thread.run_sync(history.found, self.desk(), user_of(request), words))

    async def chosen(
        self, request: gr.Request, ids: list[str], event: gr.SelectData
    ) -> list[object]:
        """Show a job of the history, and put its settings on the page."""
        desk, user = self.desk(), user_of(request)
        try:
            job = await desk.job(user, ids[int(event.index)])  # pyright: ignore[reportArgumentType]
        except RequestRefused as error:
            raise gr.Error(str(error), print_exception=False) from None
        page = self._filled(await to_thread.run_sync(running.told_of_job, desk, job))
        return [*page, *results.of_job(desk, running.seen_of(desk, job))]

    def _filled(self, told: Told) -> list[object]:
        """The tab to be opened, the model, and a value for each component of all tabs."""
        base = next(iter(self.desk().settings.models))
        asked = str(told.get("base", base))
        known = branches_of(self.desk(), asked)
        values: list[object] = [gr.update(selected=told["task"]), asked]
        for task, tab in self.tabs.items():
            if task == told["task"]:
                values += fields.filled(tab.parts, told, known or ())
            else:
                values += [gr.update()] * len(tab.components)
        return values


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

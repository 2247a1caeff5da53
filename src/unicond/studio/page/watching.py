"""What is watched on the page without its fields: jobs that go on, and those of before."""

from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass

import gradio as gr
from anyio import to_thread

from unicond.studio import queue
from unicond.studio.desk import Desk
from unicond.studio.errors import RequestRefused
from unicond.studio.page import history, results, running
from unicond.studio.page.slots import ROLES, slots_of
from unicond.studio.page.told import Told
from unicond.studio.page.wrong import wrong_html

Run = Callable[..., AsyncGenerator[list[object]]]
LATEST = 200
"""Jobs among which one that has not ended is looked for."""


@dataclass(frozen=True, eq=False)
class Watching:
    """What happens on the page without its fields.

    Args:
        desk: gives the server's desk.
    """

    desk: Callable[[], Desk]

    def read(self, number: int) -> Run:
        """What the button of a slot does: a job in which the model reads it from the image."""

        async def read(
            request: gr.Request, base: str, names: list[str], *image: object
        ) -> AsyncGenerator[list[object]]:
            desk, user = self.desk(), user_of(request)

            def said() -> Told:
                return _reading(base, names, number, image)

            try:
                job = await running.asked(desk, user, said)
                async for seen in running.watched(desk, user, job.id):
                    found = await to_thread.run_sync(running.files_of, desk, seen.job)
                    picture = await to_thread.run_sync(running.opened, found[0]) if found else None
                    slot = [gr.skip()] * 2 if picture is None else [picture, ROLES[0]]
                    yield [*slot, seen.live, job.id, ""]
            except RequestRefused as error:
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
        yield [gr.skip()] * results.SHOWN
        if waiting:
            async for values in shown(desk, user, waiting[0]):
                yield values

    async def searched(self, request: gr.Request, words: str) -> list[object]:
        """Pictures of the client's jobs whose prompt has some words, and the jobs' ids."""
        return list(await to_thread.run_sync(history.found, self.desk(), user_of(request), words))


def user_of(request: gr.Request) -> str:
    """Who asks, as the API calls them: a client by its key, else by its address."""
    if request.username:
        return request.username
    return request.client.host if request.client is not None else "local"


async def shown(desk: Desk, user: str, identity: str) -> AsyncGenerator[list[object]]:
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

"""`unicond serve`: the page and the HTTP API."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from unicond.studio.settings import Served

NEEDED = (
    "fastapi",
    "fastapi_offline",
    "gradio",
    "platformdirs",
    "prometheus_client",
    "python_multipart",
    "scipy",
    "uvicorn",
)
"""Packages of the extra `studio`."""


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 7860,
    base: Annotated[str, typer.Option(help="'mini', a folder, a hub id, or FILE@CONFIG.")] = "mini",
    adapter: Annotated[
        list[str] | None,
        typer.Option(help="As of generate; repeat."),
    ] = None,
    more: Annotated[
        list[str] | None,
        typer.Option(help="NAME=BASE, a further model that may be asked for by NAME; repeat."),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Folder of the queue and the pictures; default the user's.")
    ] = None,
    device: Annotated[
        list[str] | None, typer.Option(help="One worker for each: cpu, cuda:0, ...; repeat.")
    ] = None,
    engine: Annotated[
        Literal["local", "ray"], typer.Option(help="Workers: processes, or Ray Serve's replicas.")
    ] = "local",
    workers: Annotated[int | None, typer.Option(min=1, help="Of --engine ray; default 1.")] = None,
    dtype: Annotated[str, typer.Option(help="float32, bfloat16, float16, or auto.")] = "auto",
    rows: Annotated[int, typer.Option(min=1, help="Samples that a worker makes at once.")] = 8,
    api_key_file: Annotated[
        Path | None, typer.Option(help="Clients and their keys' hashes; none lets all in.")
    ] = None,
    new_key: Annotated[
        str | None, typer.Option(help="Add a client of this NAME to the file, show its key, end.")
    ] = None,
    open_to_all: Annotated[
        bool, typer.Option("--open-to-all", help="Listen beyond this machine without keys.")
    ] = False,
    keep_days: Annotated[
        float, typer.Option(min=0, help="After which a job is removed with its pictures.")
    ] = 7.0,
    keep_gigabytes: Annotated[
        float, typer.Option(min=0, help="Of pictures; the oldest are removed.")
    ] = 10.0,
    limit: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME=NUMBER, what a client may ask for: steps, rate, body, waiting, ...; repeat."
        ),
    ] = None,
    no_page: Annotated[bool, typer.Option("--no-page", help="Serve the HTTP API alone.")] = False,
    log_prompts: Annotated[
        bool, typer.Option("--log-prompts", help="Errors in the log may repeat prompts.")
    ] = False,
) -> None:
    """Serve every task on a page (/) and over HTTP (/docs): a queue, progress, previews."""
    _check_installed()
    from unicond.cli.generate import pairs
    from unicond.studio.keys import add_key, read_keys
    from unicond.studio.serving import data_folder, run
    from unicond.studio.settings import LOOPBACK, Keeping, Settings, limits_of

    if new_key is not None:
        if api_key_file is None:
            raise ValueError("--new-key adds a line to a file: name it by --api-key-file")
        typer.echo(add_key(api_key_file, new_key))
        return
    if host not in LOOPBACK and api_key_file is None and not open_to_all:
        raise ValueError(
            f"--host {host} is reached from other machines, and no keys are asked for: give "
            "--api-key-file (and add keys by --new-key), or --open-to-all"
        )
    settings = Settings(
        data=data_folder(data),
        models=_models(base, adapter, more or [], dtype),
        devices=_devices(device or [], engine, workers),
        engine=engine,
        rows=rows,
        keys={} if api_key_file is None else read_keys(api_key_file),
        hosts=LOOPBACK if host in LOOPBACK else (),
        limits=limits_of(pairs(limit or [], "--limit")),
        keeping=Keeping(seconds=keep_days * 86_400, bytes=round(keep_gigabytes * 2**30)),
        log_prompts=log_prompts,
        page=not no_page,
    )
    run(settings, host, port)


def _check_installed() -> None:
    from importlib.util import find_spec

    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise ValueError(
            f"serving needs {', '.join(missing)}: pip install 'unicond[studio]' brings all of it"
        )


def _devices(devices: list[str], engine: str, workers: int | None) -> tuple[str | None, ...]:
    """The device of each worker."""
    from unicond.cluster import check_installed

    if engine == "ray":
        check_installed("serve")
        if len(devices) > 1:
            raise ValueError("--device: Ray has its own; give one kind of device, or none")
        return (devices[0] if devices else None,) * (workers or 1)
    if workers is not None:
        raise ValueError("--workers is of --engine ray; here there is one for each --device")
    return tuple(devices) or (None,)


def _models(
    base: str, adapter: list[str] | None, more: list[str], dtype: str
) -> "dict[str, Served]":
    """{name: model} of the options."""
    from unicond.cli.generate import check_one_of
    from unicond.cli.running import DTYPES, adapters_of, pairs
    from unicond.studio.settings import Served

    check_one_of(dtype, DTYPES, "--dtype")
    kind = None if dtype == "auto" else dtype
    asked = adapters_of(base, adapter)
    adapters = [f"{b}={w}" for b, w in asked.items()] if isinstance(asked, dict) else asked
    found = {Path(base).name: Served(base=base, adapters=tuple(adapters), dtype=kind)}
    for name, where in pairs(more, "--more"):
        if name in found:
            raise ValueError(f"--more {name}={where}: there is a model of that name already")
        found[name] = Served(base=where, dtype=kind)
    return found

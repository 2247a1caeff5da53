"""A server on a free port, with real workers: in a thread, or as a process that can be killed."""

import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx2
import uvicorn

from unicond.studio.app import create_app

START = 300.0  # seconds: a worker imports torch, which takes long on a busy machine
ASKED = 0.05
PLAIN = {"timeout": 60, "verify": False}
"""How plain HTTP is asked: to read the certificates of TLS takes 50 ms of the CPU each time."""


def until(true, seconds=START):
    """Ask again and again until something holds."""
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(ASKED)
    return found


def processes(title, parent=None):
    """The processes with some words in their command lines, of one parent or of any."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):  # it has ended
                line = (folder / "cmdline").read_bytes().decode(errors="replace")
                above = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                if title in line and parent in (None, above):
                    found.append(int(folder.name))
    return found


def free_port():
    """A port that is free, and that no connection which is made meanwhile is given."""
    while True:
        port = 10_000 + secrets.randbelow(20_000)
        with socket.socket() as one, suppress(OSError):
            one.bind(("127.0.0.1", port))
            return port


def is_ready(address, states=("ok",)):
    try:
        return httpx2.get(f"{address}/health", **PLAIN).json()["status"] in states
    except httpx2.TransportError:
        return False


@contextmanager
def in_thread(settings):
    """Serve from this process; yields the address and the app."""
    app = create_app(settings)
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    how = {"log_config": None, "ws": "none", "loop": "asyncio", "timeout_graceful_shutdown": 2}
    config = uvicorn.Config(app, **how)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    address = f"http://127.0.0.1:{listening.getsockname()[1]}"
    try:
        states = ("ok",) if settings.devices else ("loading",)
        until(lambda: not thread.is_alive() or is_ready(address, states))
        assert thread.is_alive(), "the server has ended: see above"
        yield address, app
    finally:
        server.should_exit = True
        thread.join()


class Process:
    """`unicond serve` as a process of its own."""

    def __init__(self, base, data, *options, before=()):
        port = free_port()
        self.address = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", "unicond", "serve", "--port", str(port), "--device", "cpu"]
        command += ["--base", str(base), "--data", str(data), *options]
        self.process = subprocess.Popen([*before, *command], start_new_session=True)
        until(lambda: self.process.poll() is not None or is_ready(self.address))
        assert self.process.poll() is None

    def kill(self):
        """As the kernel does where memory ends: nothing is tidied."""
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def end(self):
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait()

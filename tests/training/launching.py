"""Trainings in processes of their own, forked from one that has the imports behind it."""

import multiprocessing
import os
import socket

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["unicond.training.own.run"])


def start(*jobs):
    """One process for each job; several are a group, as `accelerate launch` makes one."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    group = {"WORLD_SIZE": len(jobs), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    found = []
    for rank, job in enumerate(jobs):
        place = {**group, "RANK": rank, "LOCAL_RANK": rank} if len(jobs) > 1 else {}
        found.append(CONTEXT.Process(target=_train, args=(job, place)))
        found[-1].start()
    return found


def finish(started):
    """Wait until all have ended well."""
    for process in started:
        process.join()
    assert [process.exitcode for process in started] == [0] * len(started)


def _train(job, place):
    os.environ |= {name: str(value) for name, value in place.items()}
    import torch

    from unicond.training.own.run import train_pictures

    torch.set_num_threads(1)
    train_pictures(job, lambda *_: None)

"""Trainings in processes of their own, forked from one that has the imports behind it."""

import multiprocessing
import os
import socket

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["unicond.training.own.run"])


def start(*jobs):
    """One process for each job; several are a group, as `accelerate launch` makes one."""
    return _group(_train, [(job,) for job in jobs])


def commands(asked, count, folder):
    """The command lines of what was asked, as a group of so many processes tells them."""
    files = [folder / f"command-{rank}" for rank in range(count)]
    finish(_group(_tell, [(asked, file) for file in files]))
    return [file.read_text() for file in files]


def failures(folder, count):
    """What ends each process of a group whose last one cannot compute its part of step 4."""
    files = [folder / f"failure-{rank}" for rank in range(count)]
    finish(_group(_fail, [(folder / "run", file) for file in files]))
    return [file.read_text() for file in files]


def finish(started):
    """Wait until all have ended well."""
    for process in started:
        process.join()
    assert [process.exitcode for process in started] == [0] * len(started)


def _group(work, arguments):
    """A process for each row of arguments, all of one group."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    group = {"WORLD_SIZE": len(arguments), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    found = []
    for rank, row in enumerate(arguments):
        place = {**group, "RANK": rank, "LOCAL_RANK": rank} if len(arguments) > 1 else {}
        found.append(CONTEXT.Process(target=_placed, args=(place, work, row)))
        found[-1].start()
    return found


def _placed(place, work, row):
    os.environ |= {name: str(value) for name, value in place.items()}
    import torch

    torch.set_num_threads(1)
    work(*row)


def _train(job):
    from unicond.training.own.run import train_pictures

    train_pictures(job, lambda *_: None)


def _tell(asked, file):
    from unicond.cli.own_pictures import job_of

    file.write_text(job_of(asked).command)


def _fail(folder, file):
    import torch

    from unicond.training.budget import Budget
    from unicond.training.loop import LoopConfig, fit

    class Damaged:
        net = torch.nn.Linear(1, 1)

        def trained(self):
            return self.net

        def losses(self, part, generator):
            if part.number == 3 and part.process == part.processes - 1:
                raise ValueError("7.png is damaged")
            return self.net(part.of(torch.randn(part.count, 1, generator=generator)))[:, 0]

    config = LoopConfig(batch_size=4, lr=0.01, budget=Budget(steps=9), precision="no")
    try:
        fit(Damaged(), config, folder)
    except ValueError as error:
        file.write_text(str(error))

"""Several processes train as one; a killed run goes on as if nothing had happened."""

import random
import time

import launching
import own_data
import pytest
import torch
from safetensors.torch import load_file

from unicond.cli.own_pictures import Asked, job_of
from unicond.training import checkpoints
from unicond.training.budget import Budget


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return own_data.pairs(tmp_path_factory.mktemp("own") / "photos")


def weights(job):
    return load_file(job.out / "adapter_model.safetensors")


def test_two_processes_give_the_losses_of_one_with_twice_the_batch(tmp_path, tiny_base, data):
    recipe = {"loop": own_data.loop(lr=0.02, budget=Budget(steps=5))}
    one, two = (
        own_data.job(tiny_base, data, tmp_path / name, recipe, {"accumulate": 2})
        for name in ("one", "two")
    )
    launching.finish([*launching.start(one), *launching.start(two, two)])
    alone, together = own_data.losses(one.folder), own_data.losses(two.folder)
    assert together.keys() == alone.keys() == {*range(1, 6)}
    for step, loss in alone.items():
        assert together[step] == pytest.approx(loss, rel=1e-4), step
    assert max(alone.values()) > 1.2 * min(alone.values())
    theirs = weights(two)
    apart = torch.cat(
        [(theirs[name].float() - v.float()).abs().flatten() for name, v in weights(one).items()]
    )
    # AdamW makes a whole step, 0.02, of a gradient that is nothing but its last bits: very few are
    assert apart.max() < 0.02
    assert (apart > 2e-3).float().mean() < 1e-3


def test_the_command_of_a_card_starts_as_many_processes(tmp_path):
    asked = Asked(condition="depth", runs=tmp_path, data="x")
    assert job_of(asked).command.startswith("unicond train joint ")
    told = launching.commands(asked, 2, tmp_path)
    start = "torchrun --nproc-per-node" if not torch.cuda.is_available() else "accelerate launch"
    assert all(one.startswith(start) for one in told)
    assert all(" 2 --module unicond train joint --condition depth " in one for one in told)


def test_an_error_in_one_process_ends_all_with_a_checkpoint(tmp_path):
    told = launching.failures(tmp_path, 2)
    assert told == ["another of the processes could not go on: it says why", "7.png is damaged"]
    assert checkpoints.position(tmp_path / "run" / "checkpoint").step == 3


def test_a_run_that_is_killed_goes_on_bit_for_bit(tmp_path, tiny_base, data):
    recipe = {"loop": own_data.loop(budget=Budget(steps=12))}
    whole, parts = (
        own_data.job(tiny_base, data, tmp_path / name, recipe, {"pause_steps": 4})
        for name in ("whole", "parts")
    )
    uninterrupted = launching.start(whole)
    kills = sorted(random.Random().sample(range(5, 12), 2))
    for step in kills:
        (process,) = launching.start(parts)
        while process.is_alive() and _reached(parts.folder) < step:
            time.sleep(0.002)
        time.sleep(random.Random().uniform(0, 0.05))
        process.kill()
        process.join()
        assert process.exitcode == -9, f"it ended before step {step}"
        assert not (parts.out / "adapter_config.json").exists()
    launching.finish([*launching.start(parts), *uninterrupted])
    for name, value in weights(whole).items():
        assert torch.equal(weights(parts)[name], value), f"{name}, killed at {kills}"
    assert own_data.losses(parts.folder) == own_data.losses(whole.folder)
    left = [path.name for path in parts.folder.iterdir() if path.name.startswith(".")]
    assert not left
    assert checkpoints.position(parts.checkpoint).step == 12


def _reached(run):
    """The last step that a run has told of."""
    try:
        return max(own_data.losses(run), default=0)
    except (OSError, ValueError):
        return 0

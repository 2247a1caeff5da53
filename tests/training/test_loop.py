"""The training loop: budgets, resuming, Ctrl-C, averages, checkpoints."""

import json
import os
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from unicond.pictures import PictureError
from unicond.training import checkpoints, journal
from unicond.training.budget import Budget
from unicond.training.checkpoints import Average, Position
from unicond.training.health import Diverged, is_lost
from unicond.training.loop import LoopConfig, Setup, fit, seeded, stream


class Line:
    """Fit y = 3 x - 1 from noisy draws: a whole task in ten lines."""

    def __init__(self):
        with seeded(3):
            self.net = nn.Sequential(
                nn.Linear(1, 8), nn.BatchNorm1d(8), nn.Linear(8, 8), nn.Linear(8, 1)
            )
        self.steps = 0
        self.interrupt_at = None
        self.shown = 0

    def trained(self):
        return self.net

    def losses(self, part, generator):
        self.steps += 1
        if self.steps == self.interrupt_at:
            os.kill(os.getpid(), signal.SIGINT)
        x = part.of(torch.randn(part.count, 1, generator=generator))
        return (self.net(x) - (3 * x - 1)).square().mean(1)

    def scores(self):
        return {"bias": float(self.net[-1].bias.detach())}

    def show(self, folder):
        self.shown += 1
        (folder / "seen.txt").write_text("seen")


def config(steps=12, lr=0.05, **changes):
    return LoopConfig(
        batch_size=8, lr=lr, budget=Budget(steps=steps), precision="no", report_steps=5, **changes
    )


def lines(run, name):
    """What a run's numbers say under a name."""
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line[name] for line in found if name in line]


def state(task):
    return {name: value.clone() for name, value in task.net.state_dict().items()}


@pytest.mark.parametrize("matrix_lr", [None, 0.01])
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(tmp_path, matrix_lr):
    whole = Line()
    fit(whole, config(matrix_lr=matrix_lr), tmp_path / "whole")
    first = Line()
    first.interrupt_at = 5
    with pytest.raises(KeyboardInterrupt):
        fit(first, config(matrix_lr=matrix_lr), tmp_path / "parts")
    second = Line()
    with torch.no_grad():
        for part in second.net.parameters():
            part.zero_()  # whatever it starts from, the checkpoint counts
    fit(second, config(matrix_lr=matrix_lr), tmp_path / "parts")
    for name, value in state(whole).items():
        assert torch.equal(value, state(second)[name]), name


def test_ctrl_c_finishes_the_step_and_leaves_a_whole_checkpoint(tmp_path):
    task = Line()
    task.interrupt_at = 4
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        fit(task, config(), tmp_path)
    assert checkpoints.position(tmp_path / "checkpoint").step == 4
    assert signal.getsignal(signal.SIGINT) is before
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    assert "run the same command" in (tmp_path / "log.txt").read_text()


def test_a_finished_run_trains_no_more_and_fresh_starts_anew(tmp_path):
    fit(Line(), config(), tmp_path)
    again, fresh = Line(), Line()
    fit(again, config(), tmp_path)
    assert again.steps == 0
    fit(fresh, config(), tmp_path, resume=False)
    assert fresh.steps == 12


@pytest.mark.parametrize("turns", [1, 2])
def test_an_error_of_the_data_loses_no_step(tmp_path, turns):
    class Damaged(Line):
        spoilt = True

        def losses(self, part, generator):
            if self.spoilt and part.number == 6 * turns + turns - 1:  # the last turn of step 7
                raise PictureError("7.png is damaged")
            return super().losses(part, generator)

    whole, first, second = (Damaged() for _ in range(3))
    for task in (whole, first, second):  # a turn that is not whole moves no statistics
        task.net[1].eval().requires_grad_(False)
        task.net.train = lambda *_: None
    whole.spoilt = second.spoilt = False
    setup, told = Setup(accumulate=turns), []
    fit(whole, config(), tmp_path / "whole", setup=setup)
    with pytest.raises(PictureError, match="is damaged"):
        fit(first, config(), tmp_path / "parts", setup=setup, report=lambda _, x: told.append(x))
    assert checkpoints.position(tmp_path / "parts" / "checkpoint").step == 6
    assert told[-1] == "stopped at step 6 by an error; the same command goes on there"
    fit(second, config(), tmp_path / "parts", setup=setup)
    assert second.steps == 6 * turns
    for name, value in state(whole).items():
        assert torch.equal(value, state(second)[name]), name


def test_an_error_at_once_writes_no_checkpoint_and_one_that_cannot_be_saved_is_told(
    tmp_path, full_disk
):
    class Damaged(Line):
        def losses(self, part, generator):
            if part.number == self.spoilt:
                raise PictureError("7.png is damaged")
            return super().losses(part, generator)

    task = Damaged()
    task.spoilt = 0
    with pytest.raises(PictureError):
        fit(task, config(), tmp_path)
    assert not (tmp_path / "checkpoint").exists()
    task.spoilt = 3
    with full_disk(100), pytest.raises(PictureError, match="damaged") as caught:
        fit(task, config(), tmp_path, resume=False)
    assert "cannot write the checkpoint" in caught.value.__notes__[0]


def test_a_diverged_run_keeps_its_last_checkpoint(tmp_path):
    """The rate of 1e6 is reached when it is warm; a line is told after every fifth step."""
    good = Setup(pause_steps=2)
    fit(Line(), config(steps=4), tmp_path, setup=good)
    before = (tmp_path / "checkpoint" / checkpoints.STATE).read_bytes()
    words = (
        r"diverged: at step 10 the loss is (nan|inf) \(learning rate .*the checkpoint of step 4 is "
        r"there still.*learning rate, say 1e\+05"
    )
    fast = replace(config(lr=1e6, steps=400), weight_decay=0.1)
    with pytest.raises(Diverged, match=words):
        fit(Line(), fast, tmp_path)
    assert (tmp_path / "checkpoint" / checkpoints.STATE).read_bytes() == before
    assert max(lines(tmp_path, "step")) == 5


@pytest.mark.parametrize("where", ["pause", "stop", "end"])
def test_weights_that_are_not_finite_are_never_saved(tmp_path, where):
    class Broken(Line):
        def losses(self, part, generator):
            losses = super().losses(part, generator)
            if part.number == 5:
                losses.register_hook(lambda gradient: gradient * torch.nan)  # the loss is fine
            return losses

    task = Broken()
    task.interrupt_at = 6 if where == "stop" else None
    setup = Setup(pause_steps=3 if where == "pause" else 4)
    with pytest.raises(
        Diverged, match=r"at step 6 weights are not finite .* of step [34] is there"
    ):
        fit(task, replace(config(steps=6 if where == "end" else 12), report_steps=50), tmp_path,
            setup=setup)  # fmt: skip
    stored = checkpoints.load_file(tmp_path / "checkpoint" / checkpoints.TENSORS)
    assert all(bool(value.isfinite().all()) for value in stored.values())


def test_a_loss_beyond_float16_is_lost_only_if_smaller_scales_do_not_help():
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    assert not is_lost(float("nan"), scaler)
    assert is_lost(float("nan"), torch.amp.GradScaler("cpu", init_scale=0.5))
    assert is_lost(float("inf"), torch.amp.GradScaler("cpu", enabled=False))
    assert not is_lost(1.0, torch.amp.GradScaler("cpu", enabled=False))


class Rows(Line):
    """The same line from eight fixed rows: a batch takes those after the last one's."""

    ROWS = torch.linspace(-1, 1, 8)[torch.tensor([3, 0, 6, 1, 5, 2, 7, 4]), None]

    def __init__(self):
        super().__init__()
        with seeded(3):
            self.net = nn.Sequential(nn.Linear(1, 1))

    def losses(self, part, generator):
        self.steps += 1
        first = part.number * part.count % 8
        x = part.of(self.ROWS[first : first + part.count])
        return (self.net(x) - (3 * x - 1)).square().mean(1)


def test_turns_add_up_to_the_step_of_a_larger_batch(tmp_path):
    tasks = [Rows(), Rows(), Rows()]
    for turns, task in zip((1, 2, 4), tasks, strict=True):
        fit(task, config(), tmp_path / str(turns), setup=Setup(accumulate=turns))
        assert task.steps == 12 * turns
    losses = [lines(tmp_path / str(turns), "training/loss") for turns in (1, 2, 4)]
    for some in losses[1:]:
        assert some == pytest.approx(losses[0], rel=1e-5)
    for name, value in state(tasks[0]).items():
        for task in tasks[1:]:
            assert torch.allclose(state(task)[name], value, atol=1e-6), name


def test_a_batch_that_cannot_be_divided_is_refused(tmp_path):
    with pytest.raises(ValueError, match="batch of 8 cannot be divided into 3 turns of 1"):
        fit(Line(), config(), tmp_path, setup=Setup(accumulate=3))
    with pytest.raises(ValueError, match="must be positive"):
        Setup(accumulate=0)
    with pytest.raises(ValueError, match="must be positive"):
        Setup(pause_steps=0)


def test_float16_scales_the_loss_and_goes_on_bit_for_bit(tmp_path):
    half = config(steps=30, lr=0.01)
    half = replace(half, precision="fp16")
    whole, first, second = Line(), Line(), Line()
    fit(whole, half, tmp_path / "whole")
    first.interrupt_at = 20
    with pytest.raises(KeyboardInterrupt):
        fit(first, half, tmp_path / "parts")
    scaler = json.loads((tmp_path / "parts" / "checkpoint" / checkpoints.STATE).read_text())
    assert 0 < scaler["scaler"]["scale"] < 65536.0  # it overflowed, and was lowered
    assert scaler["scaler"]["_growth_tracker"] > 0  # and then it fitted
    fit(second, half, tmp_path / "parts")
    for name, value in state(whole).items():
        assert torch.equal(value, state(second)[name]), name
    assert not torch.equal(state(whole)["0.weight"], state(Line())["0.weight"])


def test_pauses_come_after_so_many_steps_and_numbers_are_kept_for_programs(tmp_path):
    task = Line()
    fit(task, config(), tmp_path, setup=Setup(pause_steps=4))
    assert task.shown == 3  # the end is one
    assert lines(tmp_path, "step") == [4, 5, 8, 10, 12]
    task = Line()
    task.interrupt_at = 11  # a step after numbers that the next run forgets
    with pytest.raises(KeyboardInterrupt):
        fit(task, config(), tmp_path, resume=False)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 15, "training/loss": 1.0}\n{"step": 1')
    fit(Line(), config(), tmp_path)
    assert lines(tmp_path, "step") == [5, 10, 12]


def test_curves_and_pictures_go_to_tensorboard(tmp_path):
    class Drawn(Line):
        def show(self, folder):
            Image.new("RGB", (6, 4), "red").save(folder / "samples.png")

    fit(Drawn(), config(), tmp_path, setup=Setup(pause_steps=8, track=True))
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("training/loss")] == [5, 10]
    assert [event.step for event in events.Scalars("held_out/bias")] == [8, 12]
    found = events.Images("samples")
    assert [event.step for event in found] == [8, 12]
    assert (found[0].width, found[0].height) == (6, 4)


def test_without_tensorboard_it_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setattr(journal, "is_tensorboard_available", lambda: False)
    told = []
    fit(Line(), config(), tmp_path, setup=Setup(track=True), report=lambda _, x: told.append(x))
    assert "pip install 'unicond[train]'" in told[0]
    assert not (tmp_path / "tensorboard").exists()


class Grainy(Line):
    """Its two pictures take 3 kB each, so that the curves outgrow every other file."""

    def show(self, folder):
        for name in ("samples.png", "more.png"):
            noise = np.random.default_rng(self.steps).integers(0, 255, (32, 32, 3), np.uint8)
            Image.fromarray(noise).save(folder / name)


def test_curves_that_cannot_be_written_stop_no_training(tmp_path, full_disk, capfd):
    setup, told = Setup(pause_steps=2, track=True), []
    whole, full = Grainy(), Grainy()
    fit(whole, config(), tmp_path / "whole", setup=replace(setup, track=False))
    with full_disk(8000):  # a checkpoint has 5.5 kB
        fit(full, config(), tmp_path / "full", setup=setup, report=lambda _, x: told.append(x))
    curves = [line for line in told if "tensorboard" in line]
    assert curves == ["tensorboard gets no more (File too large); curves go to metrics.jsonl alone"]
    assert told[-1].startswith("done: step 12")
    assert curves[0] in (tmp_path / "full" / "log.txt").read_text()
    assert lines(tmp_path / "full", "step") == lines(tmp_path / "whole", "step")
    for name, value in state(whole).items():
        assert torch.equal(value, state(full)[name]), name
    assert "Traceback" not in capfd.readouterr().err  # of the thread that writes them


def test_curves_that_cannot_be_written_hide_no_stop(tmp_path, full_disk):
    """The last picture does not fit, which is only found when the files are closed."""
    task, told = Grainy(), []
    task.interrupt_at = 6
    setup = Setup(pause_steps=4, track=True)
    quiet = replace(config(), report_steps=50)
    with full_disk(5600), pytest.raises(KeyboardInterrupt, match="asked to stop"):
        fit(task, quiet, tmp_path, setup=setup, report=lambda _, line: told.append(line))
    assert checkpoints.position(tmp_path / "checkpoint").step == 6
    assert sum("tensorboard gets no more" in line for line in told) == 1


def test_a_folder_for_curves_that_cannot_be_made_stops_no_training(tmp_path):
    told = []
    (tmp_path / "tensorboard").write_text("in the way")
    setup = Setup(track=True)
    fit(Line(), config(), tmp_path, setup=setup, report=lambda _, line: told.append(line))
    assert "tensorboard gets no more (" in told[0]
    assert told[-1].startswith("done: step 12")


@pytest.mark.parametrize(("track", "room"), [(False, 2000), (True, 100)])
def test_a_full_disk_loses_nothing(tmp_path, full_disk, track, room):
    class Wide(Line):
        limit = None

        def __init__(self):
            super().__init__()
            with seeded(3):
                self.net = nn.Sequential(nn.Linear(1, 99), nn.Linear(99, 1))

        def losses(self, part, generator):
            if self.steps == 5 and self.limit is not None:
                self.limit.__enter__()
            return super().losses(part, generator)

    whole, full = Wide(), Wide()
    often, told = Setup(pause_steps=4, track=track), replace(config(), report_steps=1)
    fit(whole, told, tmp_path / "whole", setup=often)
    full.limit = full_disk(room)
    with pytest.raises(checkpoints.SaveError, match="the checkpoint of step 4 is there still"):
        fit(full, told, tmp_path / "full", setup=often)
    full.limit.__exit__(None, None, None)
    assert checkpoints.position(tmp_path / "full" / "checkpoint").step == 4
    assert not [path for path in (tmp_path / "full").iterdir() if path.name.startswith(".")]
    again = Wide()
    fit(again, told, tmp_path / "full", setup=often)
    for name, value in state(whole).items():
        assert torch.equal(value, state(again)[name]), name


def test_a_run_that_was_killed_while_it_replaced_its_checkpoint_has_the_old_one(tmp_path):
    fit(Line(), config(steps=6), tmp_path)
    place = tmp_path / "checkpoint"
    place.rename(tmp_path / ".checkpoint.123.old")
    (tmp_path / ".checkpoint.123.part").mkdir()
    (tmp_path / ".checkpoint.77.part").mkdir()
    again = Line()
    fit(again, config(steps=6), tmp_path)
    assert again.steps == 0
    assert sorted(path.name for path in tmp_path.iterdir() if "checkpoint" in path.name) == [
        "checkpoint"
    ]


def test_what_is_told_of_a_run_is_kept_with_its_checkpoint(tmp_path):
    assert checkpoints.about(tmp_path / "checkpoint") == {}
    fit(Line(), config(), tmp_path, about={"data": "8-abc", "settings": {"rank": 4}})
    assert checkpoints.about(tmp_path / "checkpoint") == {"data": "8-abc", "settings": {"rank": 4}}


def test_the_loop_learns_reports_and_leaves_the_average(tmp_path):
    lines = []
    task = Line()
    fit(
        task,
        config(steps=400, average=0.9),
        tmp_path,
        report=lambda share, line: lines.append((share, line)),
    )
    x = torch.linspace(-1, 1, 9)[:, None]
    with torch.no_grad():
        gap = (task.net.eval()(x) - (3 * x - 1)).abs().max()
    assert float(gap) < 1.0  # it starts near 4
    assert lines[-1][0] == 1.0
    assert "done: step 400" in lines[-1][1]
    assert any("/s" in line for _, line in lines)
    average = {n: v for n, v in task.net.state_dict().items()}
    stored = checkpoints.load_file(tmp_path / "checkpoint" / checkpoints.TENSORS)
    assert torch.equal(average["0.weight"], stored["average.0.weight"])
    assert not torch.equal(average["0.weight"], stored["model.0.weight"])
    assert task.shown == 1


def test_a_checkpoint_of_something_else_is_refused(tmp_path):
    fit(Line(), config(), tmp_path)
    other = Line()
    other.net = nn.Linear(2, 2)
    with pytest.raises(ValueError, match=r"does not fit this run.*remove it"):
        fit(other, config(), tmp_path)


def test_a_damaged_checkpoint_is_named(tmp_path):
    fit(Line(), config(), tmp_path)
    (tmp_path / "checkpoint" / checkpoints.TENSORS).write_bytes(b"x" * 40)
    with pytest.raises(ValueError, match="checkpoint"):
        fit(Line(), config(), tmp_path)


def test_an_unwritable_folder_is_found_before_the_first_step(tmp_path):
    (tmp_path / "file").write_text("")
    task = Line()
    with pytest.raises(ValueError, match=r"cannot write to .*choose another folder"):
        fit(task, config(), tmp_path / "file" / "run")
    assert task.steps == 0


def test_every_field_of_the_loop_matters(tmp_path):
    def trained(**changes):
        values = {
            "batch_size": 8,
            "lr": 0.05,
            "budget": Budget(steps=6),
            "precision": "no",
            "report_steps": 5,
        }
        task = Line()
        lines = []
        fit(
            task,
            LoopConfig(**{**values, **changes}),
            tmp_path / str(len(list(tmp_path.iterdir()))),
            report=lambda _, line: lines.append(line),
        )
        return state(task)["0.weight"], len(lines), task.shown

    plain = trained()
    for changes in (
        {"batch_size": 4},
        {"lr": 0.01},
        {"budget": Budget(steps=7)},
        {"weight_decay": 0.5},
        {"beta2": 0.5},
        {"max_grad_norm": 1e-3},
        {"average": 0.05},
        {"precision": "bf16"},
        {"seed": 1},
    ):
        assert not torch.equal(trained(**changes)[0], plain[0]), changes
    assert trained(report_steps=1)[1] > plain[1]
    assert trained(pause_minutes=1e-9)[2] > plain[2]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"batch_size": 0}, "must be positive"),
        ({"average": 1.0}, "average must be in"),
        ({"pause_minutes": 0.0}, "pause_minutes"),
    ],
)
def test_bad_loops_are_refused(changes, words):
    values = {"batch_size": 8, "lr": 0.1, "budget": Budget(steps=1)}
    with pytest.raises(ValueError, match=words):
        LoopConfig(**{**values, **changes})


def test_the_rate_follows_the_share_of_the_budget():
    steps, minutes = Budget(steps=100, warmup=0.1, flat=0.5), Budget(minutes=1, warmup=0, flat=0)
    assert steps.rate(5, 1e9) == 0.5
    assert steps.rate(30, 0) == 1.0
    assert abs(steps.rate(75, 0) - 0.505) < 1e-9
    assert steps.rate(100, 0) == pytest.approx(0.01)
    assert minutes.rate(10**9, 30) == pytest.approx(0.505)
    headed = Budget(steps=100, warmup=0.1, flat=0.5, head=0.2, rest=0.25)
    assert [headed.rate(step, 0) for step in (5, 20, 21)] == [0.5, 1.0, 0.25]
    assert headed.rate(75, 0) == pytest.approx(0.505 / 4)
    with pytest.raises(ValueError, match="rest in"):
        Budget(steps=1, head=0.1, rest=0.0)
    with pytest.raises(ValueError, match="either minutes or steps"):
        Budget(minutes=1, steps=1)
    with pytest.raises(ValueError, match="positive"):
        Budget(steps=0)
    with pytest.raises(ValueError, match="ordered"):
        Budget(steps=1, warmup=0.6, flat=0.5)


def test_the_average_forgets_its_start_and_counts_integers():
    net = nn.BatchNorm1d(1)
    average = Average(net, 0.9)
    net.weight.data.fill_(5.0)
    net.num_batches_tracked.fill_(7)
    for step in range(200):
        average.update(net, step)
    assert float(average.values["weight"]) == pytest.approx(5.0)
    assert int(average.values["num_batches_tracked"]) == 7
    own = net.weight.detach().clone()
    average.values["weight"].fill_(1.0)
    with average.applied(net):
        assert net.weight.item() == 1.0
    assert torch.equal(net.weight, own)


def test_checkpoints_are_whole_or_not_there(tmp_path, monkeypatch):
    net = nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(net.parameters())
    checkpoints.save(tmp_path / "c", net, {}, [optimizer], Position(1, 2.0))
    before = (tmp_path / "c" / checkpoints.STATE).read_bytes()

    def broken(*args):
        raise OSError("disk full")

    monkeypatch.setattr(checkpoints, "save_file", broken)
    with pytest.raises(checkpoints.SaveError, match=r"\(disk full\); the checkpoint of step 1 is"):
        checkpoints.save(tmp_path / "c", net, {}, [optimizer], Position(2, 3.0))
    assert (tmp_path / "c" / checkpoints.STATE).read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["c"]
    assert json.loads(before)["step"] == 1


def test_streams_differ_by_seed_and_step():
    draws = {
        float(torch.rand(1, generator=stream(s, n, "cpu"))) for s in range(3) for n in range(3)
    }
    assert len(draws) == 9

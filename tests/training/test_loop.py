"""The training loop: budgets, resuming, Ctrl-C, averages, checkpoints."""

import json
import os
import signal

import pytest
import torch
from torch import nn

from unicond.training import checkpoints
from unicond.training.budget import Budget
from unicond.training.checkpoints import Average, Position
from unicond.training.loop import LoopConfig, fit, seeded, stream


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

    def losses(self, count, generator):
        self.steps += 1
        if self.steps == self.interrupt_at:
            os.kill(os.getpid(), signal.SIGINT)
        x = torch.randn(count, 1, generator=generator)
        return (self.net(x) - (3 * x - 1)).square().mean(1)

    def scores(self):
        return {"bias": float(self.net[-1].bias.detach())}

    def show(self, folder):
        self.shown += 1
        (folder / "seen.txt").write_text("seen")


def config(steps=12, **changes):
    return LoopConfig(
        batch_size=8, lr=0.05, budget=Budget(steps=steps), precision="no", report_steps=5, **changes
    )


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

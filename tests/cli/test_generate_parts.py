"""Parts, guides and plans on the command line; an interrupted run leaves nothing behind."""

import json
import os
import shutil
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from unicond.cli import app, main
from unicond.cli.plan import _COLORS, SHOWN
from unicond.sampling import loop
from unicond.sampling.named_plans import NAMES

RUNNER = CliRunner()
GOLDEN = Path(__file__).parents[1] / "golden" / "unicon"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a depth map, a soft mask, and a thing in a box."""
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.tile(np.arange(64, dtype=np.uint8) * 4, (64, 1))).save("depth.png")
    with Image.open("depth.png") as grey:
        grey.convert("RGB").save("normals.png")
    Image.fromarray(np.tile(np.arange(64, dtype=np.uint8) * 4, (64, 1)).T.copy()).save("mask.png")
    thing = {"phrase": "a red ball", "box": [0.1, 0.4, 0.5, 0.9]}
    (tmp_path / "boxes.json").write_text(json.dumps({"boxes": [thing]}))
    return tmp_path


@pytest.fixture
def model(tiny_base):
    """The options of the tiny base with its depth adapter."""
    depth = str(tiny_base.parent / "depth")
    shutil.copytree(GOLDEN / "weights" / "depth", depth, dirs_exist_ok=True)
    return ["--base", str(tiny_base), "--adapter", depth]


def invoke(*arguments):
    return RUNNER.invoke(app, [str(argument) for argument in arguments])


def pictures(folder):
    return {path.name: np.asarray(Image.open(path)) for path in folder.glob("*.png")}


def test_guidance_by_options_is_recorded_and_repeated(folder, model):
    parts = ["--depth", "depth.png", "--mask", "depth=mask.png", "--mask-threshold", 0.5]
    guidance = ["--reconstruction-weight", "depth=0.5", "--reconstruction-window", "1:0.3"]
    optimizer = ["--reconstruction-iterations", 2, "--reconstruction-lr", 0.01]
    plan = ["--plan", "curve(0.3)", "--steps", 4]
    made = invoke("generate", *model, *parts, *guidance, *optimizer, *plan)
    assert made.exit_code == 0, made.output
    record = json.loads(invoke("inspect", "out/0_image.png").stdout)["record"]
    assert record["plan"] == "curve(0.3)"
    assert record["given"]["depth"]["threshold"] == 0.5
    assert record["reconstruction_weight"] == {"depth": 0.5}
    assert record["reconstruction_optimizer"]["iterations"] == 2
    assert record["reconstruction_window"] == {"from_t": 1.0, "to_t": 0.3, "by": "time"}
    again = invoke("rerun", "out/0_image.png", "--out", "again")
    assert again.exit_code == 0, again.output
    for name, picture in pictures(folder / "out").items():
        assert np.array_equal(picture, pictures(folder / "again")[name])
    plain = invoke("generate", *model, *parts, *plan, "--out", "plain")
    assert plain.exit_code == 0, plain.output
    name = "0_image.png"
    assert not np.array_equal(pictures(folder / "out")[name], pictures(folder / "plain")[name])


def test_a_guide_is_made(folder, model):
    made = invoke(
        "generate", *model, "--depth", "depth.png", "--guide", "depth", "--reconstruction-weight", 1
    )
    assert made.exit_code == 0, made.output
    assert {"0_image.png", "0_depth.png"} <= pictures(folder / "out").keys()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--guide", "depth"], "guide names 'depth', of which no picture is given: give it, too"),
        (["--mask-threshold", "0.5"], "mask_threshold: no mask is given"),
        (["--mask-invert"], "mask_invert: no mask is given"),
        (["--ip-scale", "0.5"], "ip_scale: no picture is given"),
        (["--depth-kind", "metric"], "depth_kind: no picture is given"),
        (["--fit", "pad"], "fit: no picture is given"),
        (
            ["--condition-guidance", "0", "--condition-guidance-against", "0.5"],
            "condition_guidance_against: condition guidance is off",
        ),
        (["--condition-guidance-against", "0.5"], "but condition guidance is off"),
        (["--sampling", "released", "--solver", "heun"], "published solvers ddim, euler, "),
        (["--reconstruction-weight", "much"], "--reconstruction-weight: 'much' is not a number"),
        (["--reconstruction-weight", "1"], "nothing is known in part"),
        (["--reconstruction-lr", "0.1"], "give reconstruction_iterations too"),
        (["--reconstruction-window", "0:1"], "falls from its first time to its second"),
        (["--reconstruction-window", "2:1"], "--reconstruction-window: 2.0 should be less than or"),
        (["--reconstruction-window", "1"], "is not FROM:TO with 1 >= FROM > TO >= 0"),
        (["--plan", "sideways"], "plan 'sideways' is not known"),
        (["--plan", "coarse(0.3)"], "it is not given: give a picture"),
    ],
)
def test_options_that_do_not_fit(folder, model, arguments, message):
    refused = invoke("generate", *model, *arguments)
    assert isinstance(refused.exception, ValueError)
    assert message in str(refused.exception)


def test_plan_prints_its_moves_and_draws_them(folder):
    shown = invoke("plan", "image-first", "--steps", 4, "--show", "--out", "drawn/way.png")
    assert shown.exit_code == 0, shown.output
    assert shown.stdout.split().count("->") == 8
    assert "0.500 -> 0.000" in shown.stdout
    assert Image.open("drawn/way.png").size == (600, 600)
    assert [path.name for path in Path("drawn").iterdir()] == ["way.png"]
    printed = invoke("plan", "1,0.4;0,0", "--steps", 2)
    assert "0.400 -> 0.200" in printed.stdout
    assert not Path("out").exists()
    every = invoke("plan", "--steps", 4, "--show", "--out", "drawn/all.png")
    assert every.exit_code == 0, every.output
    assert [f"{name}, 4 moves" in every.stdout for name in SHOWN] == [True] * len(SHOWN)
    assert {name.split("(")[0] for name in NAMES} - {"X,Y;X,Y;..."} == {
        name.split("(")[0] for name in SHOWN
    }
    picture = np.asarray(Image.open("drawn/all.png").convert("RGB"))
    for color in _COLORS:  # every way is there in its own
        there = (picture == list(bytes.fromhex(color.removeprefix("#")))).all(-1)
        assert there.sum() > 50
    refused = invoke("plan", "image")
    assert "plan 'image' is not known; there are joint" in str(refused.exception)


def in_the_loop(thread):
    """Whether a thread is between two moves, or inside of one."""
    frame = sys._current_frames().get(thread)
    while frame is not None:
        if frame.f_code.co_filename == loop.__file__:
            return True
        frame = frame.f_back
    return False


def test_ctrl_c_while_sampling_leaves_nothing_half_written(folder, model, monkeypatch, capsys):
    """A real interrupt, sent once the loop runs: no traceback, no picture, no temporary file."""
    options = ["--prompt", "a dog", "--count", "2", "--steps", "1000", "--out", "out"]
    monkeypatch.setattr(sys, "argv", ["unicond", "generate", *model, *options])
    me, ended = threading.get_ident(), threading.Event()
    # a shell that starts the tests in the background has them ignore interrupts
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def interrupt():
        while not ended.wait(0.01):
            if in_the_loop(me):
                time.sleep(0.1)  # some moves on
                os.kill(os.getpid(), signal.SIGINT)
                ended.wait(2.0)  # python drops one that comes while it runs a destructor: again

    sender = threading.Thread(target=interrupt)
    sender.start()
    try:
        with pytest.raises(SystemExit) as stopped:
            main()
    finally:
        ended.set()
        sender.join()
        signal.signal(signal.SIGINT, before)
    assert stopped.value.code != 0
    assert "Traceback" not in capsys.readouterr().err
    assert not (folder / "out").exists()
    again = invoke("generate", *model, "--steps", 2)
    assert again.exit_code == 0, again.output
    assert "0_image.png" in pictures(folder / "out")


@pytest.mark.parametrize(
    ("arguments", "made"),
    [
        (["--give", "normals=normals.png"], {"image"}),
        (["--only", "normals", "--prompt", "a red ball"], {"normals"}),
        (["--give", "normals=normals.png", "--depth", "depth.png"], {"image"}),
        (["--prompt", "a red ball"], {"image", "depth"}),
        (["--prompt", "a red ball", "--image-prompt", "depth.png"], {"image"}),
        (["--prompt", "a red ball", "--boxes", "boxes.json"], {"image"}),
        (["--boxes", "boxes.json", "--depth", "depth.png"], {"image"}),
    ],
)
def test_the_adapters_of_what_is_said_come_along(folder, arguments, made):
    done = invoke("generate", *arguments, "--steps", 1)
    assert done.exit_code == 0, done.output
    found = {path.stem.partition("_")[2] for path in Path("out").glob("0_*.png")}
    assert {name for name in found if not name.startswith("before")} - {"depth_16bit"} == made


def test_a_branch_of_no_adapter_that_ships_is_refused_by_its_name(folder):
    refused = invoke("generate", "--give", "scribble=depth.png")
    assert refused.exit_code != 0
    assert "scribble" in str(refused.exception)

"""The commands on the tiny base: what they write, what they print, and how they refuse."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from unicond.cli import app, main
from unicond.pictures.metadata import read_settings, write_png

RUNNER = CliRunner()
GOLDEN = Path(__file__).parents[1] / "golden" / "unicon"


@pytest.fixture
def depth_file(tmp_path):
    path = tmp_path / "depth.png"
    Image.fromarray(np.tile(np.arange(64, dtype=np.uint8) * 4, (64, 1))).save(path)
    return path


@pytest.fixture
def run(tiny_base, tmp_path, monkeypatch):
    """Run a command in an empty folder; the base and its adapter are added where it takes them."""
    monkeypatch.chdir(tmp_path)
    depth = str(tiny_base.parent / "depth")
    shutil.copytree(GOLDEN / "weights" / "depth", depth, dirs_exist_ok=True)

    def call(*arguments, model=True):
        extra = ["--base", str(tiny_base), "--adapter", depth] if model else []
        return RUNNER.invoke(app, [*map(str, arguments), *extra])

    return call


def test_ctrl_c_while_sampling_leaves_nothing(run, tmp_path, monkeypatch):
    """As if pressed after the second move."""

    def pressed(lines, done, total=None, what=""):
        if done == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr("unicond.progress._Lines.tell", pressed)
    stopped = run("generate", "--prompt", "a dog", "--steps", "3", "--out", "made")
    assert stopped.exit_code == 130
    assert "Stopped before the pictures were done: nothing was written." in stopped.output
    assert not list((tmp_path / "made").glob("**/*.png"))


def test_generate_inspect_rerun(run, depth_file, tmp_path):
    made = run(
        "generate", "--prompt", "a dog", "--depth", depth_file, "--seed", "7-8", "--only", "image"
    )
    assert made.exit_code == 0, made.output
    paths = [tmp_path / line for line in made.stdout.split()]
    made_files, given = ["7_image.png", "8_image.png"], ["7_before_depth.png", "8_before_depth.png"]
    assert [path.name for path in paths] == made_files + given
    assert read_settings(paths[3])["seed"] == 8
    before = np.asarray(Image.open(paths[2]).convert("L")).astype(int)
    assert before[0, 0] + 100 < before[0, -1]  # nearer to the right, as in the file
    shown = run("inspect", paths[1], model=False)
    settings = json.loads(shown.stdout)
    assert settings["seed"] == 8
    assert settings["record"]["given"]["depth"]["files"][0]["path"] == str(depth_file)
    again = run("rerun", paths[1], "--out", "again", model=False)
    assert again.exit_code == 0, again.output
    for name in ("7_image.png", "8_image.png"):
        one, two = Image.open(tmp_path / "out" / name), Image.open(tmp_path / "again" / name)
        assert np.array_equal(np.asarray(one), np.asarray(two))


def test_a_rerun_runs_where_the_picture_was_made(run, depth_file, tmp_path, monkeypatch):
    """A record of a device that is not here is taken to another one, and it is said."""
    made = run("generate", "--prompt", "a dog", "--only", "image", "--device", "cpu")
    assert made.exit_code == 0, made.output
    path = tmp_path / "out" / "0_image.png"
    settings = read_settings(path)
    assert settings["record"]["device"] == "cpu"
    asked = []

    def load(base, adapters, device, *rest):
        asked.append(device)
        raise ValueError("enough")

    monkeypatch.setattr("unicond.cli.running.load_model", load)
    run("rerun", path, "--out", "again", model=False)
    settings["record"]["device"] = "nowhere"
    write_png(Image.open(path), path, settings)
    told = run("rerun", path, "--out", "again", model=False)
    assert "It was made on nowhere, which is not here" in told.output
    run("rerun", path, "--out", "again", "--device", "meta", model=False)
    assert asked == ["cpu", None, "meta"]


def test_what_cannot_be_made_again_is_told_before_anything_loads(run, depth_file, tmp_path):
    made = run("generate", "--prompt", "a dog", "--depth", depth_file, "--only", "image")
    assert made.exit_code == 0, made.output
    path = tmp_path / "out" / "0_image.png"
    settings = read_settings(path)
    settings["record"]["base"] = "./nofolder"
    with Image.open(path) as shown:
        write_png(shown.copy(), path, settings)
        settings["record"]["mechanisms"] = ["Mine"]
        write_png(shown.copy(), tmp_path / "own.png", settings)
    told = run("rerun", tmp_path / "own.png", "--out", "again", model=False)
    assert "was made with Mine, of which a record holds the name alone" in str(told.exception)
    depth_file.write_bytes(b"another")
    told = run("rerun", path, "--out", "again", model=False)
    assert "has changed since this was made" in str(told.exception)
    assert not (tmp_path / "again").exists()


def test_a_branch_of_another_name_is_made_again(tiny_base, depth_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    depth = str(GOLDEN / "weights" / "depth")
    options = ["--base", str(tiny_base), "--adapter", f"sketch={depth}", "--only", "image"]
    more = ["--give", f"sketch={depth_file}", "--joint-scale", "0.7", "--noise", "sketch=0.4"]
    more += ["--hold", "sketch", "--conditioning-scale", "sketch=0.9:0.5", "--held", "two_way"]
    more += ["--guidance-window", "1:0.3", "--spacing", "linspace", "--condition-guidance", "1.5"]
    more += ["--condition-guidance-against", "sketch=0.2:0.1"]
    made = RUNNER.invoke(app, ["generate", "--prompt", "a dog", *options, *more])
    assert made.exit_code == 0, made.output
    record = read_settings(tmp_path / "out" / "0_image.png")["record"]
    assert record["condition_guidance_against"] == {"sketch": [0.2, 0.1]}
    again = RUNNER.invoke(app, ["rerun", "out/0_image.png", "--out", "again"])
    assert again.exit_code == 0, again.output
    one, two = (Image.open(tmp_path / name / "0_image.png") for name in ("out", "again"))
    assert np.array_equal(np.asarray(one), np.asarray(two))


def test_estimation_writes_depth_for_other_programs(run, depth_file, tmp_path):
    image = tmp_path / "image.png"
    Image.open(depth_file).convert("RGB").save(image)
    made = run("generate", "--image", image)
    assert made.exit_code == 0, made.output
    names = {line.split("/")[-1] for line in made.stdout.split()}
    drawn = {"0_depth.png", "0_depth_16bit.png", "0_depth_16bit.npy"}
    assert names == drawn | {"0_before_image.png"}


def test_noise_mask_and_size(run, depth_file, tmp_path):
    mask = np.zeros((64, 64), np.uint8)
    mask[:, :32] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    arguments = ["--depth", depth_file, "--noise", "depth=0.4", "--mask", "depth=mask.png"]
    made = run("generate", *arguments, "--size", "64x96", "--count", 2, "--steps", 2)
    assert made.exit_code == 0, made.output
    for name in ("1_image.png", "1_before_depth.png"):
        assert Image.open(tmp_path / "out" / name).size == (96, 64)


def test_info_prints_shares(run):
    shown = run("info")
    assert shown.exit_code == 0, shown.output
    assert "792,964" in shown.stdout
    assert "adapter depth" in shown.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--depth-kind", "colourful"], "--depth-kind: 'colourful' should be 'near-white'"),
        (["--noise", "depth=much"], "--noise: 'much' is not a number"),
        (["--noise", "depth"], "--noise 'depth' is not of the form NAME=VALUE"),
        (["--noise", "depth=0.5"], "noise names 'depth', of which no picture is given"),
        (["--size", "wide"], "--size 'wide' is not SIDE or HEIGHTxWIDTH"),
        (["--seed", "9-2"], "9-2"),
        (["--dtype", "int8"], "--dtype 'int8' is not one of float32, bfloat16, float16"),
        (["--device", "cuda:7"], "--device 'cuda:7' cannot be used"),
        (
            ["--lora", "style.safetensors"],
            "--lora 'style.safetensors' is not of the form NAME:VALUE",
        ),
        (["--depth", "nowhere.png"], "nowhere.png"),
        (["--give", "sketch=depth.png"], "no branch 'sketch' in this model"),
        (
            ["--give", "depth=a.png", "--give", "depth=b.png"],
            "--give gives 'depth' twice, as 'a.png' and as 'b.png': give it once",
        ),
        (["--depth", "a.png", "--give", "depth=b.png"], "depth is given twice, by depth and in"),
        (["--mask", "depth=a.png", "--mask", "depth=b.png"], "--mask gives 'depth' twice"),
        (["--noise", "depth=0.1", "--noise", "depth=0.2"], "--noise gives 'depth' twice"),
        (["--lora", "a.safetensors:1", "--lora", "a.safetensors:2"], "--lora gives 'a.safe"),
        (["--out", "/proc/none"], "/proc/none"),
    ],
)
def test_bad_options_are_one_line(run, depth_file, arguments, message):
    assert depth_file.is_file()
    refused = run("generate", *arguments)
    assert isinstance(refused.exception, ValueError)
    assert message in str(refused.exception)


def test_the_program_ends_without_a_traceback(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["unicond", "inspect", "nowhere.png"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("Error: ")
    assert "Traceback" not in error


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (RuntimeError("[x] DefaultCPUAllocator: can't allocate memory: 9 bytes"), 2, True),
        (RuntimeError("CUDA out of memory. Tried to allocate"), 2, True),
        (MemoryError(), 2, True),
        (RuntimeError("a fault of ours"), None, False),
    ],
)
def test_too_little_memory_is_said(monkeypatch, capsys, error, code, said):
    def fail():
        raise error

    monkeypatch.setattr("unicond.cli.app", fail)
    with pytest.raises(SystemExit if code else RuntimeError) as ended:
        main()
    assert getattr(ended.value, "code", None) == code
    told = capsys.readouterr().err
    assert ("not enough memory" in told and "take a smaller --size" in told) is said


def test_help_is_quick_and_needs_no_torch():
    """The commands load their heavy parts only when they run."""
    code = "import sys, unicond.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

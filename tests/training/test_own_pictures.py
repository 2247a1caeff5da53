"""`unicond train joint --data`: pairs in a folder become an adapter that loads, for each family."""

import json
import re
import shlex
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import own_data
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from typer.testing import CliRunner

import unicond
from unicond.backbones import loading as bases
from unicond.cli import app, own_pictures
from unicond.cli.own_pictures import Asked, job_of
from unicond.data.augment import AugmentConfig
from unicond.data.batches import BatchConfig
from unicond.data.folders import fingerprint
from unicond.data.opening import Place
from unicond.data.sources import Pairs, open_pairs
from unicond.training.budget import Budget
from unicond.training.checkpoints import SaveError
from unicond.training.own import checks, reading, sheet
from unicond.training.own.job import condition_of
from unicond.training.own.pairs import MIDDLE, Encoder, FreshPairs, KeptPairs, keep, split
from unicond.training.own.run import train_pictures
from unicond.training.processes import Part
from unicond.training.roles import draw

sys.path.append(str(Path(__file__).parents[1] / "backbones"))
import tiny_bases

GOLDEN = Path(__file__).parents[1] / "golden" / "unicon"
QUIET = {"loop": own_data.loop(budget=Budget(steps=2), report_steps=50)}


def silent(share, line):
    del share, line


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return own_data.pairs(tmp_path_factory.mktemp("own") / "photos")


@pytest.fixture
def photos(data, tmp_path):
    """The pairs once more, to be spoilt."""
    shutil.copytree(data, tmp_path / "photos")
    return tmp_path / "photos"


def spoilt(folder, number, **changes):
    lines = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]
    lines[number] |= changes
    own_data.write(folder, lines)


# ---- from pairs to an adapter


def test_the_command_makes_an_adapter_that_loads_with_its_card_and_curves(
    tiny_base, data, tmp_path, monkeypatch
):
    monkeypatch.setattr(sheet, "SHOWN", 1)
    monkeypatch.setattr(own_pictures, "REPORT", 2)
    folders = ["--out", str(tmp_path / "mine"), "--runs", str(tmp_path / "runs")]
    asked = ["--base", str(tiny_base), "--data", str(data), "--condition", "depth", "--rank", "2"]
    asked += ["--batch-size", "2", "--accumulate", "2", "--steps", "3", "--validate-every", "2"]
    done = CliRunner().invoke(app, ["train", "joint", *asked, *folders, "--precision", "no"])
    assert done.exit_code == 0, done.output
    model = unicond.load(tiny_base, adapters=[tmp_path / "mine"])
    config = model.adapters["depth"].adapter.config
    assert (config.rank, config.y_rank, config.trigger) == (2, 2, "depth_map, ")
    assert config.base == f"{tiny_base}@{fingerprint(tiny_base)}"
    card = (tmp_path / "mine" / "README.md").read_text()
    assert f'adapters=["{tmp_path / "mine"}"]' in card
    use = f'unicond generate --base "{tiny_base}" --adapter "{tmp_path / "mine"}" --give dep'
    assert use in card
    assert f"unicond train joint --condition depth --runs {tmp_path / 'runs'}" in card
    assert "--validate-every 2" in card
    assert "eps_error_image" in card
    run = tmp_path / "runs" / "joint-mine"
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    assert {"training/loss", "training/lr", "held_out/eps_error_image"} <= {
        *events.Tags()["scalars"]
    }
    assert [event.step for event in events.Scalars("held_out/eps_error_image")] == [2, 3]
    assert [event.step for event in events.Scalars("training/loss")] == [2]
    assert events.Tags()["images"] == ["samples"]
    with Image.open(run / "samples.png") as shown:
        assert shown.height > 6 * 64  # image, depth, each from the other, both together


def test_the_printed_command_uses_the_adapter(tiny_base, data, tmp_path):
    lines = []
    job = own_data.job(tiny_base, data, tmp_path / "mine", QUIET)
    train_pictures(job, lambda _, line: lines.append(line))
    words = lines[-1].split("is ready: ")[1].split()
    given = {"depth=FILE": f"depth={data / '0_other.png'}", "TEXT": "a red ball"}
    words = [given.get(word, word) for word in words[1:]]
    small = ["--out", str(tmp_path / "drawn"), "--steps", "1", "--dtype", "float32"]
    done = CliRunner().invoke(app, [*words, *small, "--size", "64"])
    assert done.exit_code == 0, done.output
    assert list((tmp_path / "drawn").glob("*_image.png"))


@pytest.mark.parametrize("kind", tiny_bases.FAMILIES)
def test_every_family_learns_by_its_own_schedule_and_words(kind, data, tmp_path):
    base = tiny_bases.save(kind, tmp_path / "base")
    told = {"v": kind == "two", "eps": kind != "two"}
    recompute = kind == "xl"
    precision = "bf16" if kind == "two" else "no"
    recipe = {"loop": own_data.loop(budget=Budget(steps=3), precision=precision)}
    job = own_data.job(base, data, tmp_path / "mine", recipe, recompute=recompute)
    scores = {}

    def report(share, line):
        scores["last"] = line if line.startswith("done") else scores.get("last")

    train_pictures(job, report)
    assert all((f"{name}_error_image" in scores["last"]) == wanted for name, wanted in told.items())
    model = unicond.load(base, adapters=[job.out])
    multiple = model.backbone.multiple
    odd = replace(job, recipe=replace(job.recipe, side=3 * multiple + 1))
    with pytest.raises(ValueError, match=f"that is a multiple of {multiple}$"):
        checks.check_base(odd, condition_of("depth"))
    adapter = model.adapters["depth"].adapter
    moved = [v for n, v in adapter.state_dict().items() if n.endswith(".B") and bool(v.any())]
    assert len(moved) > 10
    assert all(bool(value.isfinite().all()) for value in adapter.state_dict().values())


def test_a_condition_of_ones_own_and_an_adapter_to_start_from(tiny_base, tmp_path):
    folder = own_data.pairs(tmp_path / "photos", condition="line_art")
    first = own_data.job(tiny_base, folder, tmp_path / "first", QUIET, condition="line-art",
                         column="line_art", trigger="my drawing")  # fmt: skip
    train_pictures(first, silent)
    model = unicond.load(tiny_base, adapters=[first.out])
    config = model.adapters["line_art"].adapter.config
    assert (config.trigger, config.post_joint) == ("my drawing, ", "conv_fuse")
    still = {"loop": own_data.loop(budget=Budget(steps=1), lr=1e-9)}
    second = replace(first, out=tmp_path / "second", init=first.out)
    train_pictures(replace(second, recipe=replace(second.recipe, **still)), silent)
    found = unicond.load(tiny_base, adapters=[second.out]).adapters["line_art"].adapter
    for name, value in model.adapters["line_art"].adapter.state_dict().items():
        assert torch.allclose(found.state_dict()[name], value, atol=1e-3), name
    other = replace(second, out=tmp_path / "third", recipe=replace(second.recipe, rank=3))
    with pytest.raises(ValueError, match="does not fit: it has rank 2, y-rank 2, conv_fuse on"):
        train_pictures(other, silent)


@pytest.mark.parametrize(
    ("name", "trigger", "found"),
    [
        ("depth", None, ("depth", "depth", True, "depth_map, ")),
        ("softedge", "", ("softedge", "softedge", True, "")),
        ("identity", None, ("identity", "identity", False, "")),
        ("depth-metric", "metres,", ("depth_metric", "metric_depth", True, "metres, ")),
        ("scribble", None, ("scribble", "scribble", True, "scribble_map, ")),
    ],
)
def test_what_an_adapter_says_of_its_condition(name, trigger, found):
    condition = condition_of(name, trigger)
    assert (condition.branch, condition.shows, condition.aligned, condition.trigger) == found


@pytest.mark.parametrize("name", ["two words", "seed", "prompt", "1st"])
def test_a_condition_that_no_call_could_name_is_refused(name):
    with pytest.raises(ValueError, match="cannot be a branch"):
        condition_of(name)


# ---- pairs


def test_prompts_are_the_bases_own_with_trigger_words_and_dropped_ones_empty(tmp_path):
    base = bases.load(tiny_bases.save("xl", tmp_path / "xl"))
    encoder = Encoder(base, "depth_map, ")
    no, yes = torch.tensor([False, False]), torch.tensor([False, True])
    found = encoder.prompts(["a ball", "a box"], no, yes, (64, 96))
    plain = base.encode_prompts(["a ball", "a box", "depth_map, a ball"], (64, 96))
    empty = base.encode_negative("", (64, 96))
    for mine, theirs, nothing in (
        (found.tokens, plain.tokens, empty.tokens),
        (found.pooled, plain.pooled, empty.pooled),
    ):
        assert torch.allclose(mine[:3], theirs, atol=1e-5)
        assert torch.allclose(mine[3], nothing[0], atol=1e-5)
    assert torch.equal(found.time_ids[:3], plain.time_ids)


def test_kept_latents_are_those_of_pairs_cut_in_the_middle(tiny_base, data, tmp_path):
    base = bases.load(tiny_base)
    encoder, (train, _) = Encoder(base, "x, "), split(open_pairs(data, "depth"), 2)
    config = BatchConfig(batch_size=4, area=64 * 64, multiple=16, augment=MIDDLE, seed=3)
    order, told = config.order(train), []
    folder = keep(encoder, train, order, tmp_path, report=lambda *step: told.append(step))
    files = {path: path.stat().st_mtime_ns for path in folder.rglob("*.safetensors")}
    assert len(files) == 6
    assert told[-1] == (6, 6)
    assert keep(encoder, train, order, tmp_path) == folder
    assert {path: path.stat().st_mtime_ns for path in files} == files
    fresh, kept = FreshPairs(encoder, train, config), KeptPairs(encoder, folder, train, order)
    for number, processes in ((0, 1), (5, 2), (6, 2), (40, 1)):
        generator = torch.Generator().manual_seed(number)
        drawn = draw(own_data.RECIPE, 4, 1000, generator)
        part = Part(number, 4, processes - 1, processes)
        with torch.autocast("cpu", torch.bfloat16):  # as in the loop
            one, other = (pairs.batch(part, drawn, generator) for pairs in (fresh, kept))
        assert one.x0.shape == (8 // processes, 4, *one.x0.shape[2:])
        assert torch.allclose(one.x0, other.x0, rtol=2e-3, atol=2e-3)  # kept in half precision
        assert torch.equal(one.prompt.tokens, other.prompt.tokens)
    with torch.no_grad():
        next(base.vae.parameters()).add_(0.1)
    assert keep(encoder, train, order, tmp_path) != folder


def test_a_split_is_spread_evenly_and_leaves_pairs_to_train_on(data):
    source = open_pairs(data, "depth")
    train, held = split(source, 2)
    assert held.rows == (2, 6)
    assert train.rows == (0, 1, 3, 4, 5, 7)
    assert train.size(2) == source.size(3)
    assert split(source, 0)[1].rows == tuple(range(8))
    with pytest.raises(ValueError, match="of 8 pairs 7 would be held out, which leaves 1"):
        split(source, 7)


# ---- bad input: before any long work (the base could not even be loaded)


def refused(tmp_path, folder, words, setup=None, recipe=None, **changes):
    out, base = changes.pop("out", tmp_path / "mine"), changes.pop("base", tmp_path / "bare")
    if not base.exists():
        without = shutil.ignore_patterns("*.safetensors")
        shutil.copytree(GOLDEN / "base", tmp_path / "bare", ignore=without)
    job = own_data.job(base, folder, out, recipe, setup, **changes)
    with pytest.raises(ValueError, match=words):
        train_pictures(job, silent)
    assert not (tmp_path / "runs").exists() or not any((tmp_path / "runs").rglob("*.safetensors"))


def test_a_dataset_of_one_picture(tmp_path):
    folder = own_data.pairs(tmp_path / "photos", count=1)
    refused(tmp_path, folder, "has 1 pairs, which cannot be trained on")


def test_pairs_of_different_sizes_and_conditions_that_are_not_rgb(photos, tmp_path):
    with Image.open(photos / "3_other.png") as image:
        image.resize((48, 32)).save(photos / "3_other.png")
    refused(tmp_path, photos, r"1 of 8 pairs.* 3.png: the picture is 96 x 64, its depth 48 x 32")
    with Image.open(photos / "5_other.png") as image:
        image.convert("L").save(photos / "5_other.png")
    refused(tmp_path, photos, r"2 of 8 pairs .*5_other.png is of mode L, not RGB.*lists all")
    (photos / "0.png").unlink()
    refused(tmp_path, photos, r"3 of 8 pairs .*0.png does not exist")


def test_a_pair_is_of_one_size_to_the_pixel_as_it_is_read(photos, tmp_path):
    """Of 101 lines a JPEG that is halved while it is decoded has 51."""
    Image.new("RGB", (4100, 101)).save(photos / "1.jpg")
    Image.new("RGB", (2048, 51)).save(photos / "1_other.png")
    spoilt(photos, 1, file_name="1.jpg")
    source = open_pairs(photos, "depth")
    reading.check_pairs(own_data.job("/no/base", photos, tmp_path / "mine"), source, silent)
    assert source.pair(1).size == (51, 2048)
    Image.new("RGB", (2048, 50)).save(photos / "1_other.png")
    with Image.open(photos / "3_other.png") as image:
        image.resize((95, 64)).save(photos / "3_other.png")
    refused(tmp_path, photos, r"2 of 8 pairs.*is 2048 x 51, .* 2048 x 50; .* 96 x 64, .* 95 x 64")


def test_folders_that_cannot_be_written_or_hold_something_else(photos, tmp_path):
    (tmp_path / "file").write_text("")
    refused(tmp_path, photos, "cannot write to the output folder", out=tmp_path / "file" / "mine")
    refused(tmp_path, photos, "is not empty, and no adapter's folder", out=photos)
    assert (photos / "metadata.jsonl").exists()


def test_an_adapter_to_start_from_is_found_by_name_and_looked_at_first(data, tmp_path):
    shape = r"it has rank 16, y-rank 12, conv_fuse on mini@\w{12}; asked for are "
    refused(tmp_path, data, f"depth does not fit: {shape}rank 2, y-rank 2, ", init=Path("depth"))
    fits = {"rank": 16, "y_rank": 12}
    told = {"init": Path("depth"), "recipe": fits}
    refused(tmp_path, data, "cannot be read as a base model", **told)  # only its weights lack
    loose = {"condition": "identity", "column": "inverse_depth"}
    refused(tmp_path, data, f"{shape}.*, conv on .*bare", **told, **loose)
    refused(tmp_path, data, "--init deep: .*or one of those that ship: .*depth,", init=Path("deep"))


def test_what_the_machine_cannot_do(photos, tmp_path, monkeypatch):
    half = {"loop": own_data.loop(precision="fp16")}
    refused(tmp_path, photos, "float16 is not for the CPU", recipe=half)
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)  # as where it is not installed
    refused(tmp_path, photos, r"pip install 'unicond\[eight-bit\]'", setup={"eight_bit": True})


def test_a_dataset_or_settings_that_changed_between_start_and_resume(tiny_base, photos, tmp_path):
    job = own_data.job(tiny_base, photos, tmp_path / "mine", QUIET)
    train_pictures(job, silent)
    before = (job.checkpoint / "state.json").read_bytes()
    faster = replace(job, recipe=replace(job.recipe, loop=replace(job.recipe.loop, lr=0.5)))
    with pytest.raises(ValueError, match=r"begun with lr 0\.003, and this one has 0\.5.*no-resume"):
        train_pictures(faster, silent)
    spoilt(photos, 2, text="another caption")
    words = "the dataset has changed since this run began.*--accept-changed-data goes on"
    with pytest.raises(ValueError, match=words):
        train_pictures(job, silent)
    assert (job.checkpoint / "state.json").read_bytes() == before
    train_pictures(replace(faster, resume=False), silent)
    longer = replace(faster.recipe.loop, budget=Budget(steps=4))
    lines = []
    more = replace(faster, recipe=replace(faster.recipe, loop=longer))
    train_pictures(more, lambda _, line: lines.append(line))
    assert any(line.startswith("done: step 4") for line in lines)


def test_augmentations_of_the_options():
    asked = Asked(condition="depth", runs=Path("runs"), data="x", zoom=1.5, flip=0.25, color=0.1)
    job = job_of(asked)
    assert job.recipe.augment == AugmentConfig(zoom=1.5, flip=0.25, color=0.1)
    assert "--zoom 1.5 --flip 0.25 --color 0.1" in job.command
    columns = {"column": "a", "image_column": "b", "caption_column": "c"}
    place = {"split": "test", "subset": "small", **columns}
    job = job_of(replace(asked, **place, accept_changed_data=True))
    assert job.data == Place("x", **place)
    assert job.accept_changed
    assert job.data.options() == ["--split", "test", "--subset", "small", "--column", "a",
                                  "--image-column", "b", "--caption-column", "c"]  # fmt: skip
    assert job_of(replace(asked, zoom=None)).recipe.augment.zoom == 1


def test_options_that_do_not_go_together(data, monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)  # as where it is not installed
    for words, message in (
        (["--rank", "4"], "--rank is for pictures of your own: give --data, too"),
        (["--data", str(data), "--scenes", "8"], "not with --data"),
        (["--data", str(data), "--eight-bit"], "pip install 'unicond[eight-bit]'"),
        (["--data", str(data), "--steps", "3", "--minutes", "1"], "not both"),
        (["--data", str(data), "--cache-latents", "--flip", "0.5"], "leave out --zoom, --flip and"),
        (["--data", str(data), "--cache-latents", "--zoom", "1.5"], "leave out --zoom, --flip and"),
        (["--data", str(data), "--zoom", "0.5"], "zoom must be at least 1"),
    ):
        done = CliRunner().invoke(app, ["train", "joint", *words])
        assert done.exit_code == 2
        assert message in " ".join(done.output.split())


def test_a_disk_that_fills_up_at_the_very_end_loses_nothing(tiny_base, data, tmp_path, full_disk):
    job = own_data.job(tiny_base, data, tmp_path / "mine", QUIET | {"rank": 32, "y_rank": 32})
    train_pictures(job, silent)
    before = (job.out / "adapter_model.safetensors").read_bytes()
    words = r"cannot write the adapter .* its training is done and kept in .*checkpoint: make room"
    with full_disk(len(before) - 1), pytest.raises(SaveError, match=words):
        train_pictures(job, silent)
    assert (job.out / "adapter_model.safetensors").read_bytes() == before
    assert not [path for path in job.out.iterdir() if path.name.startswith(".")]


def test_a_run_goes_on_with_a_dataset_that_changed_where_that_is_accepted(
    tiny_base, photos, tmp_path
):
    def job(steps, accept=False):
        loop = own_data.loop(budget=Budget(steps=steps), report_steps=50)
        recipe = {"loop": loop, "held_out": 1}
        return own_data.job(tiny_base, photos, tmp_path / "mine", recipe, accept_changed=accept)

    def changed(accept):
        source, condition = open_pairs(photos, "depth"), condition_of("depth")
        about = checks.about(job(3), condition, source.fingerprint())
        return checks.check_same(job(3, accept), source, about)["changed"]

    train_pictures(job(1), silent)
    spoilt(photos, 2, text="another caption")
    train_pictures(job(2, accept=True), silent)
    card = (tmp_path / "mine" / "README.md").read_text()
    assert "The dataset changed on the way, after step 1 (--accept-changed-data)." in card
    assert changed(accept=False) == changed(accept=True) == [1]  # it is the run's own by now
    spoilt(photos, 3, text="another one")
    assert changed(accept=True) == [1, 2]


def test_a_damaged_picture_is_found_before_the_base_is_loaded(photos, tmp_path):
    """Its header is whole; what is told lists it, with the words that the dataset needs."""
    whole = (photos / "3.png").read_bytes()
    (photos / "3.png").write_bytes(whole[: len(whole) // 2])
    words = r"1 of 8 pairs .*3\.png is damaged or cut off .* \(`(unicond .*)` lists all\)"
    told = {"condition": "identity", "column": "inverse_depth"}
    with pytest.raises(ValueError, match=words) as caught:
        train_pictures(own_data.job(GOLDEN / "base", photos, tmp_path / "mine", **told), silent)
    command = shlex.split(re.search(words, str(caught.value))[1])
    where = [str(photos), "--condition", "identity", "--column", "inverse_depth"]
    assert command == ["unicond", "data", "check", *where]
    done = CliRunner().invoke(app, command[1:])
    assert done.exit_code == 1
    assert "1 unreadable" in done.output


def test_pairs_that_were_read_are_not_read_again_until_they_change(photos, tmp_path, monkeypatch):
    read, pair = [], Pairs.pair
    monkeypatch.setattr(Pairs, "pair", lambda self, n: (read.append(n), pair(self, n))[1])
    told = []
    for name, count in (("mine", 8), ("mine", 8), ("other", 8)):
        job = own_data.job("/no/base", photos, tmp_path / name)
        reading.check_pairs(job, open_pairs(photos, "depth"), lambda _, x: told.append(x))
        assert len(read) == count
    spoilt(photos, 2, text="")
    for _ in range(2):
        reading.check_pairs(job, open_pairs(photos, "depth"), lambda _, x: told.append(x))
    assert sorted(read[8:]) == list(range(8))
    assert told == ["1 of 8 pairs have no caption: they get the empty prompt"] * 2


def test_pairs_without_any_captions(photos, tmp_path):
    for number in range(8):
        spoilt(photos, number, text="", words="a ball")
    told = []

    def check(**columns):
        job = own_data.job("/no/base", photos, tmp_path / "mine", **columns)
        source = open_pairs(job.data, "depth")
        reading.check_pairs(job, source, lambda _, line: told.append(line))
        return source

    assert check(caption_column="words").pair(3).caption == "a ball"
    assert told == []
    check()
    assert "no pair has a column captions, text, caption, prompt, txt: all get the empty" in told[0]
    refused(tmp_path, photos, "no pair in .* has a text in text: name another --caption-column",
            caption_column="text")  # fmt: skip


def test_what_a_bases_configurations_tell_is_checked_before_it_is_loaded(
    photos, tmp_path, monkeypatch
):
    (photos / "3.png").write_bytes(b"damaged")  # which is found later
    (photos / "4.png").unlink()
    refused(tmp_path, photos, "there is no folder '/no/base'", base=Path("/no/base"))
    refused(tmp_path, photos, "of 72 pixels do not fit .*bare: give a --size that is a multiple of "
            "16", recipe={"side": 72})  # fmt: skip
    refused(tmp_path, photos, "of 8 pairs 7 would be held out", recipe={"held_out": 7})
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(checks.shutil, "disk_usage", lambda _: usage._replace(free=1e5))
    refused(tmp_path, photos, r"checkpoints .* take .* MB, but only 0\.1 MB are free")


@pytest.mark.parametrize(
    "left",
    [
        {"adapter_model.safetensors": ".tmpAb1_9Z"},
        {"adapter_model.safetensors": ".adapter_model.safetensors.7", "README.md": ".README.md.7"},
        {"adapter_config.json": ".adapter_config.json.7", "README.md": ".README.md.7"},
    ],
    ids=["the weights", "the card", "the renames"],
)
def test_a_kill_while_the_adapter_is_written_loses_nothing(left, tiny_base, data, tmp_path):
    """As it leaves a folder: what is not there yet is there under a temporary name."""
    job = own_data.job(tiny_base, data, tmp_path / "mine", QUIET)
    train_pictures(job, silent)
    whole = {path.name: path.read_bytes() for path in job.out.iterdir()}
    for name, aside in left.items():
        (job.out / name).rename(job.out / aside)
    if "adapter_config.json" in left:
        (job.out / "notes.txt").write_text("mine")
        whole["notes.txt"] = b"mine"
    else:
        for name in whole.keys() - left.keys():
            (job.out / name).unlink()
    train_pictures(job, silent)
    assert {path.name: path.read_bytes() for path in job.out.iterdir()} == whole

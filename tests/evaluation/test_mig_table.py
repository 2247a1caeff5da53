"""COCO-MIG's table: its numbers, its intervals, and going on after an interruption."""

import json
import math
from dataclasses import replace

import pytest
import torch
from drawn_mig import BENCH, LEFT, LEVELS, RIGHT, Exact, asked, paint, save_bench, sure

import unicond
from unicond.calls.output import read_record
from unicond.evaluation.condition_table import Run
from unicond.evaluation.intervals import student_t
from unicond.evaluation.mig.bench import read_bench
from unicond.evaluation.mig.layouters import METHODS, FromText, layouter
from unicond.evaluation.mig.pictures import file_name, found_pictures
from unicond.evaluation.mig.table import Trial, evaluate_images, evaluate_model, mig_row
from unicond.evaluation.runner import Samples
from unicond.evaluation.subject import Sampling
from unicond.pictures.reading import read_picture, to_pil


@pytest.fixture
def trial(tmp_path):
    bench = read_bench(save_bench(tmp_path / "bench.json"))
    run = Run(len(bench), 3, 2, tmp_path / "runs", "unicond evaluate mig", {"base": "b"}, True)
    return Trial(bench, Exact({"cat": sure(LEFT, RIGHT)}), run)


def samples(counts, successes, ious=None, whole=None):
    """One picture an entry."""
    zeros = [0.0] * len(counts)
    values = {"instances": counts, "successes": successes, "ious": ious or zeros}
    return Samples({**values, "whole": whole or zeros, "pictures": [1.0] * len(counts)})


def test_the_mean_is_over_instances():
    row = mig_row("r", samples([2, 6], [2, 0], [1.5, 0.5], [1, 0]), [2, 6], seconds=3.0)
    assert row.metrics == {
        **{"success": 0.25, "miou": 0.25, "image_success": 0.5, "seconds": 1.5},
        **{"success_l2": 1.0, "success_l6": 0.0, "miou_l2": 0.75, "miou_l6": 0.5 / 6},
    }
    assert "seconds" not in row.intervals


def test_published_counts_give_published_numbers():
    """InteractDiffusion's successes in AMDM's table 1, which truncates its percentages."""
    successes = {2: 102, 3: 128, 4: 153, 5: 187, 6: 229}
    levels = [level for level in successes for _ in range(160)]
    made = [successes[level] / 160 for level in levels]
    row = mig_row("r", samples(levels, made), levels)
    shown = {metric: math.floor(1e4 * value) / 100 for metric, value in row.metrics.items()}
    assert shown["success"] == 24.96
    assert [shown[f"success_l{n}"] for n in successes] == [31.87, 26.66, 23.90, 23.37, 23.85]


def test_a_level_has_the_interval_of_its_own_entries():
    """Entries of one level in groups of one: the textbook's interval of a mean."""
    shares = torch.rand(40, generator=torch.Generator().manual_seed(0)).double()
    levels = [2 + n % 2 for n in range(40)]  # as in the published file, levels take turns
    made = [share * level for share, level in zip(shares.tolist(), levels, strict=True)]
    row = mig_row("r", samples(levels, made), levels)
    own = shares[::2]
    half = student_t(19) * own.std().item() / 20**0.5
    low, high = row.intervals["success_l2"]
    assert (low + high) / 2 == pytest.approx(own.mean().item(), abs=1e-12)
    assert (high - low) / 2 == pytest.approx(half, abs=1e-12)


def test_levels_are_in_every_group():
    """How levels differ is no uncertainty: where all entries of each are alike, there is none."""
    levels = [2 + n % 5 for n in range(250)]
    row = mig_row("r", samples(levels, [float(level == 2) for level in levels]), levels)
    low, high = row.intervals["success"]
    assert high - low < 1e-12


def test_pictures_that_are_there_are_scored(trial, tmp_path):
    folder = tmp_path / "given"
    folder.mkdir()
    good = paint([(LEFT, LEVELS["black"]), (RIGHT, LEVELS["white"])])
    half = paint([(LEFT, LEVELS["black"]), (RIGHT, LEVELS["red"])])
    pairs = ((good, ("0", 0)), (half, ("0", 1)), (paint([]), ("1", 0)), (paint([]), ("2", 0)))
    for picture, (key, sample) in pairs:
        to_pil(picture).save(folder / file_name(key, trial.bench[key], sample))
    trial = replace(trial, run=replace(trial.run, batch=1))
    pictures = found_pictures(folder, trial.bench, quiet=True)
    table, place = evaluate_images(pictures, trial)
    row = table.row("images")
    # seven instances of two cats, twice, and two and three others; the cat of entry 2 is grey
    assert row.metrics["success"] == pytest.approx(3 / 9)
    assert row.metrics["miou"] == pytest.approx(3 / 9)
    assert row.metrics["image_success"] == 0.25
    assert row.metrics["success_l2"] == 0.5
    assert row.metrics["success_l3"] == 0.0
    assert (table.settings["pictures"], table.settings["instances"]) == ("4", "9")
    data = json.loads((place / "table.json").read_text())
    assert data["rows"][0]["intervals"]["success"] == list(row.intervals["success"])
    looked = len(trial.detector.looked)
    assert evaluate_images(pictures, trial) == (table, place)
    assert len(trial.detector.looked) == looked
    to_pil(good).save(folder / file_name("1", trial.bench["1"]))
    other = found_pictures(folder, trial.bench, quiet=True)
    assert evaluate_images(other, trial)[1] != place


@pytest.fixture(scope="module")
def grounded(tiny_base, grounders):
    return unicond.load(tiny_base, grounders)


@pytest.mark.parametrize("method", METHODS)
def test_entries_that_cannot_be_drawn_are_told_before_any_is(trial, grounded, tmp_path, method):
    many = (LEFT, "a red cat")
    bench = {
        **BENCH,
        "3": asked(*[many] * 31),
        "4": asked(*[many] * 29),
        "5": asked((LEFT, f"a red {'very ' * 40}cat")),
    }
    trial = replace(trial, bench=read_bench(save_bench(tmp_path / "more.json", bench)))
    way = layouter(method, grounded, Sampling(steps=4))
    if method == "text":
        for entry in trial.bench.values():
            way.check(entry)
        return
    with pytest.raises(ValueError, match="entries cannot be drawn by ") as refused:
        evaluate_model(way, trial)
    few = "migc" in method
    assert f"{2 + few} of 6 entries cannot be drawn by {method}: 3: 31 boxes" in str(refused.value)
    assert (
        "4: there are 29 things in a sample, but this migc adapter takes at most 28"
        in str(refused.value)
    ) == few
    assert "5: the phrase 'a red very very" in str(refused.value)
    assert not trial.run.out.exists()


@pytest.fixture(scope="module")
def from_text(tiny_base):
    return FromText(unicond.load(tiny_base, []), Sampling(steps=1))


def test_pictures_are_made_once_and_named_officially(trial, from_text):
    """The detector stops the first run; the second goes on with the pictures of the first."""

    class Stops(Exact):
        def detections(self, picture, thing):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate_model(from_text, replace(trial, detector=Stops({})), 2)
    (place,) = trial.run.out.iterdir()
    made = {path.name: path.read_bytes() for path in (place / "images").iterdir()}
    assert sorted(made) == sorted(
        f"{image}{further}_{key}.png"
        for key, image in (("0", "500084"), ("1", "074711"), ("2", "000009"))
        for further in ("", "-1")
    )
    table, again = evaluate_model(from_text, trial, 2)
    assert again == place
    assert made == {path.name: path.read_bytes() for path in (place / "images").iterdir()}
    assert table.row("text").metrics["seconds"] > 0
    assert table.settings["generation"] == "text steps=1 solver=ddim"
    record = read_record(place / "images" / "074711-1_1.png")
    assert record.prompts == (BENCH["1"]["caption"],) * 2
    assert record.seeds == (3_000_001, 3_010_001)
    (place / "images" / "000009_2.png").unlink()
    (place / "images" / "000009-1_2.png").unlink()
    with pytest.raises(ValueError, match=r"1 of 3 entries have no picture: 000009_2.png"):
        evaluate_model(from_text, trial, 2)


def test_a_picture_does_not_depend_on_what_else_is_made(trial, from_text):
    first = replace(trial, bench=dict(list(trial.bench.items())[:1]))
    places = [evaluate_model(from_text, *asked)[1] for asked in ((first, 1), (trial, 2))]
    one, other = (read_picture(place / "images" / "500084_0.png") for place in places)
    # of 256 levels, one: a batch of two adds up in another order
    torch.testing.assert_close(one, other, rtol=0, atol=2 / 255 + 1e-6)
    drawn = read_picture(places[1] / "images" / "500084-1_0.png")
    assert not torch.allclose(one, drawn, atol=0.1)


def test_too_many_pictures_are_refused(trial, from_text):
    for each in (0, 101):
        with pytest.raises(ValueError, match=f"{each} pictures of 3 entries: give 1 to 100"):
            evaluate_model(from_text, trial, each)

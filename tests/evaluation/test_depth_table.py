"""The depth table end to end: a tiny model, real scenes, and a judge that reads exactly what it
says."""

import json
from dataclasses import dataclass, replace

import pytest
import torch

from unicond.evaluation import depth_measures
from unicond.evaluation.cases import (
    SETTINGS_WORLD,
    TABLE_WORLD,
    HeldOut,
    clearly_visible,
    mean_picture,
)
from unicond.evaluation.depth import ROWS, Run, evaluate_depth
from unicond.evaluation.depth_measures import DepthChunk, grey
from unicond.evaluation.judge import Reading, load_judge
from unicond.evaluation.probes import Probe, ProbeConfig
from unicond.evaluation.settings import Grid, best_row, sweep_settings
from unicond.evaluation.subject import Sampling, Subject
from unicond.evaluation.tables import Row
from unicond.world.generate import World
from unicond.world.render import render

SIZE = 64


@dataclass(frozen=True)
class Brightness:
    """A judge for which bright is near, and everything is a red ball."""

    def __call__(self, pictures):
        near = grey(pictures)
        ones = torch.ones_like(near[:, 0], dtype=torch.int64)
        features = pictures.flatten(2).mean(2)
        heat = near.expand(-1, 18, -1, -1)
        return Reading(near, 2 * ones, ones, heat, features)


class Truth(Brightness):
    """A judge that is told the exact maps of the cases it will be shown."""

    def __init__(self, cases, drawn):
        self.cases, self.drawn = cases, drawn

    def __call__(self, pictures):
        reading = super().__call__(pictures)
        classes, colors = self.drawn.classes.long(), self.drawn.colors.long()
        return replace(
            reading, inverse_depth=grey(self.cases.condition), classes=classes, colors=colors
        )


@pytest.fixture(scope="module")
def held_out(tmp_path_factory):
    return HeldOut(TABLE_WORLD, 3, SIZE, tmp_path_factory.mktemp("held_out"))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return Run(4, 3, 2, tmp_path_factory.mktemp("runs"), "unicond ...", {"base": "tiny"}, True)


def test_cases_are_fixed_clear_and_described(held_out):
    cases = held_out.cases(range(2, 5))
    again = HeldOut(TABLE_WORLD, 3, SIZE, held_out.folder / "other").cases(range(0, 5))
    assert cases.numbers == (2, 3, 4)
    assert torch.equal(cases.images, again.images[2:])
    assert cases.captions == again.captions[2:] == held_out.captions(range(2, 5))
    assert len(set(again.seeds)) == 5
    assert [len(n) + p > 0 for n, p in zip(again.named, again.people, strict=True)] == [True] * 5
    other = HeldOut(SETTINGS_WORLD, 3, SIZE, held_out.folder / "settings").cases(range(0, 5))
    assert not set(other.captions) & set(again.captions)
    with pytest.raises(ValueError, match="give 0 to 9999"):
        replace(held_out, seed=10_000)


def test_every_entity_of_a_case_is_visible(held_out):
    world = World(TABLE_WORLD + 3, style="photo")
    scenes = [world[n] for n in held_out.indices(8)]
    drawn = render(scenes, SIZE, smooth=False)
    assert all(clearly_visible(scenes, drawn))
    hidden = replace(drawn, instances=torch.where(drawn.instances == 1, 0, drawn.instances))
    assert not any(clearly_visible(scenes, hidden))


def test_mean_picture_is_near_at_the_bottom():
    picture = mean_picture(SIZE, 8)
    assert picture.shape == (1, 1, SIZE, SIZE)
    assert 0 <= picture.min() < picture[0, 0, 2].mean() + 0.1 < picture[0, 0, -2].mean() <= 1


def test_a_judge_that_knows_finds_everything(held_out, tiny, tmp_path):
    cases = held_out.cases(range(0, 8))
    world = World(TABLE_WORLD + 3, style="photo")
    drawn = render([world[n] for n in held_out.indices(8)], SIZE)
    chunk = DepthChunk(cases, Subject(tiny), Truth(cases, drawn), tmp_path)
    samples = depth_measures.probe_real(chunk)
    assert samples.mean("abs_rel") < 1e-5
    assert samples.mean("delta1") == 1
    named = [n for n in samples.values["named"] if n is not None]
    found = [n for n in samples.values["found"] if n is not None]
    assert 0 < len(named) == len(found) < 8 or len(named) == 8
    assert sum(found) >= 0.9 * sum(named)  # small objects may fall below the least area at 64 px
    # a judge that errs is its own reference: what repeats its error is perfect
    lamp = DepthChunk(cases, Subject(tiny), Brightness(), tmp_path)
    same = lamp.against_real(0.5 * lamp.real.inverse_depth + 0.1)
    assert same.abs_rel.max() < 1e-5
    assert depth_measures.mean_depth(chunk).mean("abs_rel") > 0.05


def test_the_whole_table_and_its_files(tiny, run):
    table, folder = evaluate_depth(Subject(tiny), Brightness(), run)
    assert [row.name for row in table.rows] == [name for name, _, _ in ROWS]
    files = {"table.json", "table.csv", "plot.png", "sheet.png", "sheet_text.png"}
    assert files < {path.name for path in folder.iterdir()}
    data = json.loads((folder / "table.json").read_text())
    assert data["rows"][0]["metrics"].keys() >= {"abs_rel", "delta1", "fid", "range_covered"}
    assert data["settings"]["base"] == "tiny"
    assert "NaN" not in (folder / "table.json").read_text()
    again, same_folder = evaluate_depth(Subject(tiny), Brightness(), run)
    assert (again.rows, same_folder) == (table.rows, folder)
    changed = Subject(tiny, generation=Sampling(steps=1))
    one, other_folder = evaluate_depth(changed, Brightness(), replace(run, scenes=1))
    assert other_folder != folder
    assert "fid" not in one.metrics()  # one picture has no covariance


def test_settings_are_swept_in_stages(tiny, run):
    grid = Grid(
        guidance=(1.0, 2.0),
        condition_guidance=(0.0, 1.0),
        steps=(1, 2),
        solvers=("ddim",),
        estimation_steps=(1,),
        noise=(0.0, 0.5),
    )
    table, _ = sweep_settings(Subject(tiny), Brightness(), replace(run, scenes=2), grid)
    assert len(table.rows) == 2 + 4 + 2 + 2
    names = [row.name for row in table.rows]
    assert f"image {table.settings['best generation']}" in names
    assert f"estimate {table.settings['best estimation']}" in names
    first = table.row("estimate steps=1 solver=ddim noise=0.0").metrics["abs_rel"]
    assert first != table.row("estimate steps=1 solver=ddim noise=0.5").metrics["abs_rel"]
    with pytest.raises(ValueError, match="nothing to try for guidance, noise"):
        Grid(guidance=(), noise=())


def test_depth_is_not_bought_with_the_caption():
    rows = [
        Row("a", {"abs_rel": 0.1, "found": 0.5}),
        Row("b", {"abs_rel": 0.2, "found": 0.8}),
        Row("c", {"abs_rel": 0.3, "found": 0.9}),
    ]
    assert best_row(rows, 0.75) == 1
    assert best_row(rows, 0.95) == 0
    assert best_row([Row("d", {"abs_rel": 0.3}), Row("e", {"abs_rel": 0.2})], 0.9) == 1


def test_the_probe_is_a_judge(held_out, tmp_path):
    torch.manual_seed(0)
    Probe(ProbeConfig(widths=(4, 4, 8))).save_pretrained(tmp_path)
    judge = load_judge(tmp_path, "cpu")
    images = held_out.cases(range(2)).images
    reading = judge(images)
    assert reading.inverse_depth.shape == (2, 1, SIZE, SIZE)
    assert reading.classes.shape == reading.colors.shape == (2, SIZE, SIZE)
    assert 0 <= reading.keypoints.min() <= reading.keypoints.max() <= 1
    assert torch.allclose(reading.features[1], judge(images[1:]).features[0], atol=1e-5)
    assert len(judge.fingerprint) == 12
    with pytest.raises(ValueError, match="holds no probe"):
        load_judge(tmp_path / "nothing", "cpu")

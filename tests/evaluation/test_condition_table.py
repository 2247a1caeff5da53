"""The tables end to end: a tiny model, real scenes, and a judge that reads exactly what it says."""

import json
import math
from dataclasses import replace

import pytest
import torch
from truth import Brightness, Truth

import unicond
from unicond.adapters.config import JointConfig
from unicond.adapters.joint import JointAdapter
from unicond.conditions import CONDITIONS, named
from unicond.evaluation.cases import (
    SETTINGS_WORLD,
    TABLE_WORLD,
    HeldOut,
    clearly_visible,
    mean_picture,
)
from unicond.evaluation.chunk import Chunk
from unicond.evaluation.condition_table import SETTINGS, Run, evaluate, row_plans
from unicond.evaluation.depth_measures import mean_depth
from unicond.evaluation.fidelity_depth import DepthFidelity
from unicond.evaluation.judge import load_judge
from unicond.evaluation.measures import own_way, ways
from unicond.evaluation.probes import Probe, ProbeConfig
from unicond.evaluation.settings import Grid, best_row, sweep_settings
from unicond.evaluation.subject import WAYS, Sampling, Subject, fingerprints
from unicond.evaluation.tables import Row
from unicond.model import Loaded, Model
from unicond.world.generate import World
from unicond.world.render import render

SIZE = 64
DEPTH = named("depth")


def config_of(condition):
    """As the trainers make it, at rank 2."""
    return JointConfig(
        y=condition.branch,
        kind=condition.shows,
        rank=2,
        y_rank=2 if condition.aligned else 0,
        post_joint="conv_fuse" if condition.aligned else "conv",
        roles=("two_way", "condition_held", "image_held"),
        attention=("global", "aligned") if condition.aligned else ("global",),
        trigger=condition.trigger,
    )


@pytest.fixture(scope="module")
def subject_of(tiny_base):
    """A subject with random weights for a condition."""
    base = unicond.load(tiny_base, device="cpu").backbone

    def make(condition):
        adapter = JointAdapter.for_network(base.network, config_of(condition))
        for value in adapter.parameters():
            torch.nn.init.normal_(value, std=0.1)
        model = Model(base, {condition.branch: Loaded("here", adapter.requires_grad_(False))})
        return Subject(model, condition.branch)

    return make


@pytest.fixture(scope="module")
def held_out(tmp_path_factory):
    return HeldOut(TABLE_WORLD, 3, SIZE, tmp_path_factory.mktemp("held_out"))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return Run(4, 3, 2, tmp_path_factory.mktemp("runs"), "unicond ...", {"base": "tiny"}, True)


@pytest.fixture(scope="module")
def table_of(subject_of, run):
    """The whole table of a condition and its folder, made once."""
    made = {}

    def make(condition):
        if condition.name not in made:
            asked = run if condition == DEPTH else replace(run, scenes=2)
            subject = subject_of(condition)
            made[condition.name] = evaluate(subject, Brightness(), asked, condition)
        return made[condition.name]

    return make


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


def test_a_judge_that_knows_finds_everything(held_out, tmp_path):
    cases = held_out.cases(range(0, 8))
    chunk = Chunk(cases, None, Truth(cases), tmp_path)
    found = chunk.seen(chunk.real)
    named_, hits = ([n for n in found[key] if n is not None] for key in ("named", "found"))
    assert 0 < len(named_) == len(hits) <= 8
    assert sum(hits) >= 0.9 * sum(named_)  # small objects may fall below the least area at 64 px
    # a judge that errs is its own reference: what repeats its error is perfect
    lamp = Chunk(cases, None, Brightness(), tmp_path)
    again = replace(lamp.real, inverse_depth=0.5 * lamp.real.inverse_depth + 0.1)
    assert max(DepthFidelity().of_images(lamp, again)["abs_rel"]) < 1e-5
    assert mean_depth(chunk).mean("abs_rel") > 0.05


@pytest.mark.parametrize("condition", CONDITIONS, ids=lambda condition: condition.name)
def test_the_whole_table_and_its_files(condition, table_of):
    table, folder = table_of(condition)
    plans = row_plans(condition, config_of(condition))
    assert [row.name for row in table.rows] == [plan.name for plan in plans]
    names = {row.name for row in table.rows}
    first = ("depth_to_image", "image_to_depth") if condition == DEPTH else ()
    for name in first or ("condition_to_image", "image_to_condition"):
        assert {name, f"{name}_one_way", f"{name}_two_way"} < names
        assert (f"{name}_aligned" in names) == condition.aligned
    assert {"joint", "text_only", "probe_reconstruction"} < names
    files = {"table.json", "table.csv", "plot.png", "sheet.png", "sheet_text.png"}
    assert files < {path.name for path in folder.iterdir()}
    data = json.loads((folder / "table.json").read_text())
    assert data["settings"]["base"] == "tiny"
    told = data["settings"].get("alignment", "")
    assert bool(told) == (condition.source in ("depth", "metric_depth"))
    assert ("reads no absolute scale" in told) == (condition.source == "metric_depth")
    assert told in str(table.to_rich().caption)
    fitted = {row.name for row in table.rows if "abs_rel_fitted" in row.metrics}
    drawn = {name for name in names if name.startswith("image_to_c")} | {"drawing_reconstruction"}
    assert fitted == (drawn if condition.source == "metric_depth" else set())
    assert "NaN" not in (folder / "table.json").read_text()


def test_an_interrupted_table_goes_on(subject_of, table_of, run):
    table, folder = table_of(DEPTH)
    again, same_folder = evaluate(subject_of(DEPTH), None, run, DEPTH)  # nothing is judged anew
    assert (again.rows, same_folder) == (table.rows, folder)


def test_ways_differ_and_are_compared(table_of):
    table, folder = table_of(DEPTH)
    rows = {row.name: row for row in table.rows}
    own = rows["depth_to_image"]
    assert own.metrics["fid"] == rows["depth_to_image_aligned"].metrics["fid"]
    values = [rows[f"depth_to_image_{way}"].metrics["fid"] for way in WAYS if way]
    assert len(set(values)) == 3
    one, two = (rows[f"image_to_depth_{way}"] for way in ("one_way", "two_way"))
    ratio = one.metrics["ratio_to_two_way"]
    assert ratio == pytest.approx(one.metrics["abs_rel"] / two.metrics["abs_rel"])
    low, high = one.intervals["ratio_to_two_way"]
    assert low <= ratio <= high
    assert "ratio_to_two_way" not in two.metrics
    pair = rows["probe_real"].metrics["abs_rel"], rows["drawing_reconstruction"].metrics["abs_rel"]
    assert one.metrics["error_ratio"] == pytest.approx(one.metrics["abs_rel"] / sum(pair))
    joint = rows["joint"].metrics
    assert joint["agreement"] == pytest.approx(joint["abs_rel_shuffled"] / joint["abs_rel"])
    pictures = {path.name for path in (folder / "pictures").iterdir()}
    assert {"to_image_aligned", "to_condition_one_way", "joint_condition"} < pictures


def test_settings_are_part_of_the_run(subject_of, table_of, run):
    subject = subject_of(DEPTH).with_settings(generation=Sampling(steps=1))
    one, folder = evaluate(subject, Brightness(), replace(run, scenes=1), DEPTH)
    assert one.settings["generation"] == "steps=1"
    assert folder != table_of(DEPTH)[1]
    assert "fid" not in one.metrics()  # one picture has no covariance
    paper = SETTINGS["paper"]
    assert paper.generation.label() == (
        "steps=50 solver=ddim guidance=7.5 condition_guidance=0.0 perturbed_guidance=0.0 eta=1.0 "
        "joint_plan=joint"
    )
    assert (paper.estimation.solver, paper.estimation.noise) == ("euler_ancestral", 0.1)


def test_eta_reaches_the_sampler(subject_of, held_out):
    cases = held_out.cases(range(2))
    pictures = [
        subject_of(DEPTH)
        .with_settings(generation=Sampling(steps=2, solver="ddim", eta=eta))
        .to_image(cases.captions, cases.seeds, cases.condition)
        for eta in (0.0, 1.0)
    ]
    assert not torch.equal(*pictures)


def test_a_plan_of_what_is_drawn_from_text_alone(subject_of, held_out):
    """It is not asked of a condition that is held, which could not follow it."""
    cases = held_out.cases(range(2))
    told = (cases.captions, cases.seeds)
    subject = subject_of(DEPTH)
    ahead = subject.with_settings(Sampling(steps=2, joint_plan="condition-first"))
    branches = ["image", subject.branch]
    wanted = subject.model(
        list(cases.captions),
        seed=list(cases.seeds),
        branches=branches,
        num_inference_steps=2,
        plan="condition-first",
    )
    for found, branch in zip(ahead.joint(*told), branches, strict=True):
        assert torch.equal(found, wanted.pictures[branch].float())
    plainly = subject.with_settings(Sampling(steps=2))
    assert not torch.equal(ahead.joint(*told)[0], plainly.joint(*told)[0])
    held = [each.to_image(*told, cases.condition) for each in (ahead, plainly)]
    assert torch.equal(*held)


def test_the_models_own_way_follows_what_it_was_trained_for():
    config = config_of(DEPTH)
    assert own_way(config, "condition_held") == "aligned"
    assert own_way(replace(config, attention=("aligned", "global")), "image_held") == "one_way"
    assert own_way(replace(config, roles=("two_way",)), "image_held") == "two_way"
    assert ways(DEPTH, config) == ("two_way", "one_way", "aligned")
    assert ways(DEPTH, replace(config, attention=("global",))) == ("two_way", "one_way")
    assert ways(named("identity"), config_of(named("identity"))) == ("two_way", "one_way")


def test_loose_pictures_are_measured(table_of):
    table, _ = table_of(named("identity"))
    assert math.isfinite(table.row("image_to_condition").metrics["attributes"])


def test_settings_are_swept_in_stages(tiny, run):
    grid = Grid(
        guidance=(1.0, 2.0),
        condition_guidance=(0.0, 1.0),
        perturbed_guidance=(0.0, 2.0),
        steps=(1, 2),
        solvers=("ddim",),
        estimation_steps=(1,),
        noise=(0.0, 0.5),
        ensembles=(1,),
    )
    table, _ = sweep_settings(
        Subject(tiny), Brightness(), replace(run, scenes=2), named("depth"), grid
    )
    assert len(table.rows) == 2 + 4 + 2 + 2 + 2
    names = [row.name for row in table.rows]
    assert f"image {table.settings['best generation']}" in names
    assert f"estimate {table.settings['best estimation']}" in names
    first = table.row("estimate steps=1 solver=ddim noise=0.0 ensemble=1").metrics["abs_rel"]
    assert (
        first != table.row("estimate steps=1 solver=ddim noise=0.5 ensemble=1").metrics["abs_rel"]
    )
    with pytest.raises(ValueError, match="nothing to try for guidance, noise"):
        Grid(guidance=(), noise=())


def test_another_condition_chooses_what_suits_it(subject_of, run):
    softedge, identity = named("softedge"), named("identity")
    grid = Grid(
        guidance=(1.0, 2.0),
        condition_guidance=(0.0, 1.0),
        perturbed_guidance=(0.0,),
        steps=(1,),
        solvers=(None,),
        estimation_steps=(1,),
        noise=(0.0, 0.5),
        ensembles=(1,),
    )
    few = replace(run, scenes=2)
    table, _ = sweep_settings(subject_of(softedge), Brightness(), few, softedge, grid)
    assert len(table.rows) == 2 + 4 + 2
    assert "emse" in table.row(f"estimate {table.settings['best estimation']}").metrics
    loose, _ = sweep_settings(subject_of(identity), Brightness(), few, identity, grid)
    assert len(loose.rows) == 2 + 4
    assert "best estimation" not in loose.settings


def test_the_best_share_is_the_greatest():
    rows = [Row("a", {"pck": 0.5, "found": 0.9}), Row("b", {"pck": 0.8, "found": 0.9})]
    assert best_row(rows, 0.75, "pck") == 1


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


def test_an_adapters_configuration_is_part_of_what_was_measured(subject_of):
    """Weights alone do not tell: a run of other settings must not be gone on with."""
    subject = subject_of(DEPTH)
    adapter = subject.model.adapters["depth"].adapter
    before = fingerprints(subject.model)
    adapter.config = replace(adapter.config, condition_guidance=2.0)
    after = fingerprints(subject.model)
    assert {name for name in after if before[name] != after[name]} == {"config of depth"}

"""The tables that vary settings: a tiny model, real scenes, and a judge that sees brightness."""

import json
import math

import pytest
import torch
from PIL import Image
from truth import Brightness

import unicond
from unicond.adapters.config import JointConfig
from unicond.adapters.joint import JointAdapter
from unicond.conditions import named
from unicond.evaluation.condition_table import Run
from unicond.evaluation.curves import Bars, Panel, save_curves
from unicond.evaluation.estimates import Estimates
from unicond.evaluation.runner import Samples
from unicond.evaluation.studies import STUDIES
from unicond.evaluation.study import Bench, Other, counted, picked, tabulate, varied
from unicond.evaluation.study_company import company_conditions, shared, teller
from unicond.evaluation.study_parts import TASKS
from unicond.evaluation.subject import Sampling, Subject
from unicond.evaluation.tables import Row
from unicond.model import Loaded, Model

BY_NAME = {study.name: study for study in STUDIES}
ALL = ("depth", "softedge", "pose", "identity", "appearance")


@pytest.fixture(scope="module")
def base(tiny_base):
    return unicond.load(tiny_base, device="cpu").backbone


@pytest.fixture(scope="module")
def model_of(base):
    """A model with random adapters for conditions."""

    def make(*names, roles=("two_way", "condition_held", "image_held")):
        loaded = {}
        for number, name in enumerate(names):
            condition = named(name)
            config = JointConfig(
                y=condition.branch,
                kind=condition.shows,
                rank=2,
                y_rank=2 if condition.aligned else 0,
                post_joint="conv_fuse" if condition.aligned else "conv",
                roles=roles,
                attention=("global", "aligned") if condition.aligned else ("global",),
            )
            adapter = JointAdapter.for_network(base.network, config)
            generator = torch.Generator().manual_seed(number)
            for value in adapter.parameters():
                torch.nn.init.normal_(value, std=0.1, generator=generator)
            loaded[condition.branch] = Loaded("here", adapter.requires_grad_(False))
        return Model(base, loaded)

    return make


@pytest.fixture(scope="module")
def bench_of(tmp_path_factory):
    """A bench of two scenes at two steps."""

    def make(model, other=None):
        out = tmp_path_factory.mktemp("tables")
        run = Run(2, 3, 2, out, "unicond table ...", {"base": "tiny"}, True)
        return Bench(model, Brightness(), run, Sampling(steps=2), other, out)

    return make


def made(name, bench):
    table, folder = tabulate(BY_NAME[name], bench)
    assert (folder / "plot.png").read_bytes()[:4] == b"\x89PNG"
    assert "NaN" not in (folder / "table.json").read_text()
    assert json.loads((folder / "table.json").read_text())["scenes"] == 2
    assert (folder / "table.csv").is_file()
    return {row.name: row for row in table.rows}


def test_parts_are_put_back_and_guided(model_of, bench_of):
    bench = bench_of(model_of("depth", "softedge"))
    rows = made("parts", bench)
    ways = ("replacement", "guided_0.5", "guided_1", "adamw")
    assert list(rows) == [f"{task.name}/{way}" for task in TASKS for way in ways]
    for task in TASKS:
        found = [rows[f"{task.name}/{way}"].metrics["boundary_error"] for way in ways]
        assert len(set(found)) == 4, task.name
        ratio = rows[f"{task.name}/adamw"].metrics["ratio_to_replacement"]
        assert ratio == pytest.approx(found[3] / found[0])
        assert ("free_error" in rows[f"{task.name}/adamw"].metrics) == task.determined
    assert "abs_rel" in rows["completion/replacement"].metrics
    # a rerun reads what is there: without a judge nothing can be measured anew
    before = bench.seconds
    bench.judge = None
    table, _ = tabulate(BY_NAME["parts"], bench)
    assert table.rows == tuple(rows.values())
    assert bench.seconds == before


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_masks_of_parts_have_an_edge_at_any_size(task):
    for side in (8, 16, 64):
        mask = task.mask(side, 4)
        assert mask.shape == (1, 1, 4 * side, 4 * side)
        assert 0 < mask.mean() < 1
        known = [known(side) for known in (task.image, task.drawing) if known is not None]
        assert all(((part == 0) | (part == 1)).all() for part in known)


def test_depth_guides(model_of, bench_of):
    rows = made("guide", bench_of(model_of("depth")))
    weights = [name for name in rows if name.startswith("weight_")]
    assert [rows[name].metrics["weight"] for name in weights] == [0.3, 1, 3, 10]
    assert {"text_only", "adamw", "depth_to_image", "probe_reconstruction"} < rows.keys()
    assert rows["text_only"].metrics["range_covered"] == 0
    assert rows["probe_reconstruction"].metrics["range_covered"] == 1
    drawn = [rows[name].metrics["abs_rel_drawn"] for name in weights]
    assert len(set(drawn)) == 4


def test_companies(model_of, bench_of):
    bench = bench_of(model_of(*ALL))
    rows = made("company", bench)
    assert [name for name in rows if name.startswith("pose+depth")] == [
        "pose+depth/pose",
        "pose+depth/depth",
        "pose+depth",
    ]
    four = "identity+appearance+depth+pose"
    assert {f"{four}/{name}" for name in four.split("+")} < rows.keys()
    row = rows[f"{four}/depth"].metrics
    assert row["abs_rel"] != row["abs_rel_alone"]
    assert row["kept"] == pytest.approx(row["covered"] / row["covered_alone"])


def test_a_company_shares_scenes_and_prompts(model_of, bench_of):
    bench = bench_of(model_of(*ALL))
    names = ("identity", "depth")
    conditions = company_conditions(names)
    assert {condition.scenes for condition in conditions} == {"portraits"}
    chunks = shared(bench, "x", conditions)(range(2)).chunks
    one, other = (chunks[name].cases for name in names)
    assert torch.equal(one.images, other.images)
    assert one.captions == other.captions
    assert not torch.equal(one.condition, other.condition)
    assert not any("shirt" in caption for caption in one.captions)
    with_frame = company_conditions(("identity", "appearance", "depth"))
    assert teller(with_frame).name == "appearance"
    cases = shared(bench, "y", with_frame)(range(1)).chunks["depth"].cases
    assert (cases.captions, cases.named, cases.people) == (("",), ((),), (0,))


def test_scales_are_swept(model_of, bench_of):
    rows = made("scales", bench_of(model_of("identity")))
    for setting in ("condition_guidance", "joint_scale"):
        swept = [row for row in rows.values() if setting in row.metrics]
        assert len(swept) == 5
        assert len({row.metrics["fid"] for row in swept}) == 5
    # joint attention off is text alone: the same noise, no condition
    off, text = rows["identity/joint_scale_0"], rows["identity/text_only"]
    assert off.metrics["attributes"] == text.metrics["attributes"]


def test_schedules_have_equal_calls(model_of, bench_of):
    rows = made("schedules", bench_of(model_of("depth")))
    assert {row.metrics["calls"] for row in rows.values()} == {2}
    plans = [row for row in rows.values() if "agreement" in row.metrics]
    assert len({row.metrics["network_rows"] for row in plans}) == 1
    assert len({row.metrics["abs_rel"] for row in plans}) > 3
    clean = rows["depth/clean_condition"].metrics
    assert clean["network_rows"] < plans[0].metrics["network_rows"]  # the held rows run once


def test_held_branches_are_compared(model_of, bench_of):
    rows = made("held", bench_of(model_of("depth", "identity")))
    assert {"depth/to_image_aligned", "identity/to_condition_one_way"} < rows.keys()
    assert "identity/to_image_aligned" not in rows
    assert not any("refresh" in name for name in rows)
    one, two = (rows[f"depth/to_image_{way}"] for way in ("one_way", "two_way"))
    assert one.metrics["network_rows"] < two.metrics["network_rows"]
    ratio = one.metrics["ratio_to_two_way"]
    assert ratio == pytest.approx(one.metrics["abs_rel"] / two.metrics["abs_rel"])
    assert one.metrics["ratio_upper"] == one.intervals["ratio_to_two_way"][1] >= ratio
    assert "network_rows" not in one.intervals


def test_weights_trained_two_way_only_are_refreshed(model_of, bench_of):
    model = model_of("depth", roles=("two_way",))
    bench = bench_of(model)
    bench.generation = Sampling(steps=4)
    rows = made("held", bench)
    cost = {k: rows[f"depth/to_image_refresh_{k}"].metrics["network_rows"] for k in (1, 2, 4, 8)}
    assert cost[1] > cost[2] > cost[4] == cost[8]  # four moves: nothing is left after the first
    two = rows["depth/to_image_two_way"].metrics
    assert cost[1] == two["network_rows"]
    assert rows["depth/to_image_refresh_1"].metrics["ratio_to_two_way"] == pytest.approx(1, 1e-4)
    deaf = rows["depth/to_image_receives_nothing"].metrics
    assert deaf["network_rows"] == cost[8]
    assert rows["depth/to_condition_receives_nothing"].metrics["ratio_to_two_way"] != 1


def test_steps_of_estimation(model_of, bench_of):
    rows = made("steps", bench_of(model_of("depth", "identity")))
    tried = [*(f"steps_{n}" for n in (1, 2, 4, 20)), *(f"ensemble_{n}" for n in (1, 2, 4, 8))]
    assert list(rows) == [*(f"depth/{name}" for name in tried), "depth/probe_real"]
    alone = rows["depth/ensemble_1"].metrics["abs_rel"]
    assert alone == rows["depth/steps_2"].metrics["abs_rel"]  # the tiny base's own steps
    assert alone != rows["depth/ensemble_4"].metrics["abs_rel"]
    assert rows["depth/steps_20"].metrics["ratio_to_20"] == 1
    few, many = (rows[f"depth/steps_{n}"].metrics for n in (1, 20))
    assert few["ratio_to_20"] == pytest.approx(few["abs_rel"] / many["abs_rel"])
    with pytest.raises(ValueError, match="no adapter here is aligned"):
        tabulate(BY_NAME["steps"], bench_of(model_of("identity")))


def test_styles_have_floors_and_ceilings_of_their_own(model_of, bench_of):
    model = model_of("depth")
    other = Other(model, "toon")  # the same base on other pictures
    rows = made("styles", bench_of(model, other))
    own, there = (rows[f"depth/{place}"].metrics for place in ("own", "other"))
    assert there["kept"] == pytest.approx(there["range_covered"] / own["range_covered"])
    floors = [rows[f"depth/{place}/text_only"].metrics["abs_rel"] for place in ("own", "other")]
    assert floors[0] != floors[1]
    with pytest.raises(ValueError, match="--other-base"):
        tabulate(BY_NAME["styles"], bench_of(model))
    with pytest.raises(ValueError, match="lacks the adapters depth"):
        tabulate(BY_NAME["styles"], bench_of(model, Other(model_of("identity"))))


def test_a_study_says_which_adapters_it_lacks(model_of, bench_of):
    with pytest.raises(ValueError, match=r"no softedge: train it .* --condition softedge"):
        tabulate(BY_NAME["parts"], bench_of(model_of("depth")))
    with pytest.raises(ValueError, match="needs an adapter: train it"):
        tabulate(BY_NAME["held"], bench_of(model_of()))
    with pytest.raises(ValueError, match="no condition has the branch 'sketch'"):
        BY_NAME["held"].check(["sketch"])


def test_varied_measures_differ_only_in_what_is_named(model_of, bench_of):
    bench, depth = bench_of(model_of("depth")), named("depth")
    subject = Subject(bench.model, "depth", Sampling(steps=2, guidance=3.0))
    [measure] = picked(subject, depth, ("text_only",))
    chunk = bench.chunks("depth", depth, subject)(range(1))
    same = varied(measure, "same", generation=Sampling(steps=2)).run(chunk)
    assert same.values == measure.run(chunk).values
    other = varied(measure, "other", generation=Sampling(guidance=1.0)).run(chunk)
    assert other.vectors != same.vectors
    rows = counted(measure).run(chunk).values["network_rows"]
    assert rows == [4.0]  # two steps, each with and without the prompt
    assert not bench.model.backbone.network._forward_pre_hooks


def test_ratios_are_of_errors():
    found = {
        "a": Samples({"pck": [0.5, 0.7], "abs_rel": [1.0, 3.0]}),
        "b": Samples({"pck": [0.8, 0.8], "abs_rel": [4.0, 4.0]}),
    }
    assert Estimates(found, "pck").ratio("a", "b")(range(2)) == pytest.approx(0.4 / 0.2)
    assert Estimates(found, "abs_rel").ratio("a", "b")([1]) == 0.75
    assert math.isnan(
        Estimates({**found, "b": Samples({"pck": [1.0]})}, "pck").ratio("a", "b")([0])
    )


def test_curves_are_a_picture(tmp_path):
    rows = [Row(f"r{n}", {"x": n, "fid": n * n}, {"fid": (n, 2.0 * n)}) for n in (1, 2)]
    level = Row("floor", {"fid": 3.0})
    panels = [Panel("x", "fid", {"line": rows, "none": [level]}, {"floor": level}, log=True)] * 4
    path = save_curves(panels, tmp_path / "new" / "c.png", "title")
    assert path.read_bytes()[:4] == b"\x89PNG"
    with Image.open(path) as lines:
        size = lines.size
    bars = Bars(
        "fid", {str(n): rows[n % 2] for n in range(20)} | {"none": Row("n", {})}, {}, "kind"
    )
    save_curves([*panels[:3], bars], path, "title")
    with Image.open(path) as taller:  # as many bars need more height
        assert taller.width == size[0]
        assert taller.height > size[1] + 300
    with pytest.raises(ValueError, match="at least one panel"):
        save_curves([], path, "title")

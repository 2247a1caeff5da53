"""Layouts against their boxes: what is asked, what counts as placed, and a tiny table."""

import json
from dataclasses import replace

import pytest
import torch
from truth import Brightness, Truth, reading_of

import unicond
from unicond.adapters.joint import JointAdapter
from unicond.evaluation.condition_table import Run
from unicond.evaluation.metrics_objects import Spot
from unicond.evaluation.mig.probed import look
from unicond.evaluation.runner import Samples
from unicond.evaluation.study import Bench, tabulate
from unicond.evaluation.subject import Sampling
from unicond.evaluation.tables import Table
from unicond.evaluation.tasks import layout
from unicond.evaluation.tasks.group import Cost, costs
from unicond.evaluation.tasks.layout import LAYOUT, MOST_SOLIDS, asked, methods, prepared, solids_of
from unicond.evaluation.tasks.page import write_page
from unicond.evaluation.tasks.placed import clear_scene
from unicond.tasks.layout import DRAWN, GROUNDED, METHODS
from unicond.world.render import render
from unicond.world.vocabulary import CLASSES, COLOR_NAMES

STEPS = 2


class Exact(Truth):
    """A judge that knows the maps of some scenes by their pictures."""

    def __init__(self, scenes, drawn):
        self.known = [(scenes, drawn)]


@pytest.fixture(scope="module")
def bench(tiny_base, tmp_path_factory):
    out = tmp_path_factory.mktemp("tasks")
    run = Run(2, 3, 2, out, "unicond table tasks", {"base": "tiny"}, True)
    model = unicond.load(tiny_base, device="cpu")
    return Bench(model, Brightness(), run, Sampling(steps=STEPS, guidance=3.0), folder=out)


def test_scenes_have_what_is_asked_for(bench):
    cases = prepared(bench, range(MOST_SOLIDS + 1))
    assert [len(one.spots) for one in cases.things] == [1, 2, 3, 4, 5, 1]
    for things in cases.things:
        assert len({(spot.cls, spot.color) for spot in things.spots}) == len(things.spots)
        assert all(phrase in things.caption for phrase in things.phrases)
        assert things.caption.endswith(things.ground)
        for _, left, top, right, bottom in things.boxes:
            assert 0 <= left < right <= 1
            assert 0 <= top < bottom <= 1
    assert clear_scene(10_003, 5, 1) == cases.things[5].scene != cases.things[0].scene
    with pytest.raises(RuntimeError, match="scene 0 of world 3 was not found"):
        clear_scene(3, 0, 1, lambda _: False)


def test_the_scene_itself_is_in_its_boxes_and_its_mirror_is_not(bench):
    """The instances that the boxes were taken from; solids are found again by class and colour."""
    cases = prepared(bench, range(3))
    scenes = [one.scene for one in cases.things]
    drawn = render(scenes, bench.model.backbone.sample_size)
    knows = replace(cases, bench=replace(bench, judge=Exact(scenes, drawn)))
    costs = [Cost()] * 3
    found = knows.scores("x", drawn.image, costs).values
    assert found["instances"] == [1, 1, 1]
    assert min(found["miou"]) > 0.8  # a solid that another cuts in two is two areas

    class Mirror(Exact):
        def __call__(self, pictures):
            read = reading_of(scenes, drawn, pictures.flatten(2).mean(2))
            return replace(read, classes=read.classes.flip(2), colors=read.colors.flip(2))

    mirrored = replace(cases, bench=replace(bench, judge=Mirror(scenes, drawn)))
    wrong = mirrored.scores("y", drawn.image, costs).values
    assert sum(wrong["miou"]) < sum(found["miou"]) - 0.5
    none = cases.scores("z", drawn.image, costs).values  # a red ball everywhere
    assert max(none["instances"]) == 0


def test_a_box_counts_as_any_other(bench, monkeypatch):
    """Scenes of one and two boxes: one of one, one of two."""
    shares = {name: [1.0, 0.5] for name in layout.METRICS}
    found = {"x": Samples({**shares, **costs([Cost()] * 2)})}
    monkeypatch.setattr(Bench, "measure", lambda *_: found)
    rows = {row.name: row.metrics for row in layout.make(bench)}
    assert rows["layout/all/x"]["instances"] == pytest.approx(2 / 3)
    assert rows["layout/2_boxes/x"]["miou"] == 0.5


@pytest.fixture(scope="module")
def made(bench):
    table, folder = tabulate(LAYOUT.study, bench)
    return table, folder, LAYOUT.show(bench)


def test_rows_and_page(made, tmp_path):
    table, folder, pictures = made
    names = (
        *("truth", "regions", "noise_collage", "layout", "paint_with_words", "self_guidance"),
        "text",
    )
    cases = ("all", "1_box", "2_boxes")
    assert [r.name for r in table.rows] == [f"layout/{c}/{n}" for c in cases for n in names]
    for row in table.rows:
        assert {"instances", "miou", "seconds", "calls", "seed"} == row.metrics.keys()
        assert (row.metrics["calls"] == 0) == row.name.endswith("truth")
    assert table.row("layout/1_box/text").metrics["calls"] == STEPS
    assert "instances" in table.row("layout/all/regions").intervals
    text = write_page(LAYOUT, table, folder, pictures, tmp_path / "layout").read_text()
    assert "<h2>2 boxes: pictures</h2>" in text
    assert '<tr class="bound"><td>text</td>' in text


def test_what_is_asked_of_the_task(bench):
    (things,) = prepared(bench, range(1, 2)).things
    task = asked(things, "regions", 1, bench)
    assert (task.prompt, task.boxes, task.seed) == (things.caption, things.boxes, 3_000_001)
    assert (task.num_inference_steps, task.guidance_scale) == (STEPS, 3.0)


def test_segmentation_has_a_row_where_its_adapter_is(tiny, tiny_base, bench, tmp_path):
    folder = tmp_path / "segmentation"
    JointAdapter.from_pretrained(tiny.adapters["depth"].source).save_pretrained(folder)
    (path,) = folder.glob("*.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "kind": "segmentation"}))
    able = replace(bench, model=unicond.load(tiny_base, {"segmentation": folder}, device="cpu"))
    assert set(METHODS) - set(methods(able)) == {"readout", *GROUNDED}
    assert set(METHODS) - set(methods(bench)) == {"readout", *DRAWN, *GROUNDED}
    assert set(layout.missing(able)) == {*GROUNDED}
    left = LAYOUT.noted(Table("c", 3, 1.0, 2, ()), bench).settings["rows left out"]
    assert "segmentation: no adapter of it is loaded (--adapter segmentation)" in left
    cases = prepared(able, range(1))
    for method in DRAWN:
        samples = layout.results(method, cases)
        assert 0 <= samples.values["miou"][0] <= 1
        assert samples.values["calls"][0] >= STEPS


def test_grounding_adapters_have_rows_where_they_are(tiny_base, grounders, bench):
    able = replace(bench, model=unicond.load(tiny_base, {"migc": grounders["migc"]}, device="cpu"))
    assert set(methods(able)) - set(methods(bench)) == {"migc"}


BALL = Spot(CLASSES.index("ball"), COLOR_NAMES.index("red"), (0.0, 0.0, 0.5, 0.5))


def maps(red, blue=()):
    """Class and colour maps (1, 20, 20) with balls in boxes of pixels."""
    classes, colors = torch.zeros(2, 1, 20, 20, dtype=torch.int64)
    for name, boxes in (("red", red), ("blue", blue)):
        for left, top, right, bottom in boxes:
            classes[0, top:bottom, left:right] = BALL.cls
            colors[0, top:bottom, left:right] = COLOR_NAMES.index(name)
    return classes, colors


@pytest.mark.parametrize(
    ("red", "blue", "success", "iou"),
    [
        ([(0, 0, 10, 10)], [], True, 1.0),
        ([(0, 0, 10, 6)], [], True, 0.6),
        ([(0, 0, 10, 4)], [], False, 0.4),
        ([], [(0, 0, 10, 4)], False, 0.4),  # the colour is not looked at below 0.5
        ([], [(0, 0, 10, 10)], False, 0.0),
        ([(0, 0, 10, 2)], [(0, 2, 10, 10)], True, 1.0),  # a fifth has the colour
        ([(0, 0, 10, 1)], [(0, 1, 10, 10)], False, 0.0),
        ([], [], False, 0.0),
    ],
)
def test_the_rule_of_success(red, blue, success, iou):
    ((seen,),) = look([[BALL]], *maps(red, blue))
    assert (seen.verdict.success, seen.verdict.iou) == (success, pytest.approx(iou))


def test_turns():
    assert [solids_of(number) for number in range(6)] == [1, 2, 3, 4, 5, 1]

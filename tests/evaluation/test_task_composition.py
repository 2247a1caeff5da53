"""Two solids side by side: what counts as there and in place, and a tiny table."""

import json
from dataclasses import replace

import pytest
import torch
from truth import Brightness, reading_of

import unicond
from unicond.adapters.joint import JointAdapter
from unicond.evaluation.condition_table import Run
from unicond.evaluation.metrics_boxes import both_there, left_alone, right_sides
from unicond.evaluation.metrics_objects import Spot
from unicond.evaluation.study import Bench, Other, network_calls, tabulate
from unicond.evaluation.subject import Sampling
from unicond.evaluation.tasks.composed import METHODS, SHAPED, Asked, halved
from unicond.evaluation.tasks.composition import (
    COMPOSITION,
    METRICS,
    methods,
    missing,
    prepared,
    results,
)
from unicond.evaluation.tasks.group import Cost
from unicond.evaluation.tasks.page import write_page
from unicond.world.palette import CLASS_RGB
from unicond.world.render import render
from unicond.world.vocabulary import CLASSES

STEPS = 2
LEFT, RIGHT = Spot(2, 1, (0.1, 0.4, 0.4, 0.8), 100), Spot(3, 5, (0.6, 0.4, 0.9, 0.8), 100)


@pytest.fixture(scope="module")
def bench(tiny_base, tmp_path_factory):
    out = tmp_path_factory.mktemp("tasks")
    run = Run(2, 3, 2, out, "unicond table tasks", {"base": "tiny"}, True)
    model = unicond.load(tiny_base, device="cpu")
    return Bench(model, Brightness(), run, Sampling(steps=STEPS, guidance=3.0), folder=out)


def test_both_are_there_at_a_quarter_of_their_size():
    both = LEFT, RIGHT
    assert both_there(both, [LEFT, RIGHT])
    assert both_there(both, [replace(LEFT, pixels=25), RIGHT])
    assert not both_there(both, [replace(LEFT, pixels=24), RIGHT])
    assert not both_there(both, [LEFT, replace(RIGHT, color=2)])
    assert not both_there(both, [])


def test_one_is_left_alone_where_the_other_is_not_there():
    both = LEFT, RIGHT
    assert left_alone(both, [LEFT])
    assert left_alone(both, [LEFT, replace(RIGHT, pixels=24)])
    assert not left_alone(both, [LEFT, RIGHT])
    assert not left_alone(both, [RIGHT])


def test_sides_are_those_of_the_largest_areas():
    both = LEFT, RIGHT
    swapped = [replace(LEFT, box=RIGHT.box), replace(RIGHT, box=LEFT.box)]
    assert right_sides(both, [LEFT, RIGHT])
    assert both_there(both, swapped)
    assert not right_sides(both, swapped)
    assert not right_sides(both, [LEFT])
    assert not right_sides(both, [replace(LEFT, pixels=24), RIGHT])  # not there
    assert right_sides(both, [*(replace(s, pixels=50) for s in swapped), LEFT, RIGHT])


def test_the_scene_itself_is_right_and_its_mirror_on_the_wrong_sides(bench):
    cases = prepared(bench, range(4))
    scenes = [pair.things.scene for pair in cases.pairs]
    drawn = render(scenes, bench.model.backbone.sample_size)
    read = reading_of(scenes, drawn, torch.zeros(4, 1))
    flipped = replace(read, classes=read.classes.flip(2), colors=read.colors.flip(2))
    found = {}
    for name, seen in (("scene", read), ("mirror", flipped)):
        knows = replace(cases, bench=replace(bench, judge=lambda _, seen=seen: seen))
        found[name] = knows.scores(name, drawn.image, [Cost()] * 4).values
    for metric in ("both_there", "right_sides", "right_place"):
        assert found["scene"][metric] == [1, 1, 1, 1]
    assert found["mirror"]["both_there"] == [1, 1, 1, 1]
    assert found["mirror"]["right_sides"] == found["mirror"]["right_place"] == [0, 0, 0, 0]


def test_words_boxes_and_the_empty_ground_are_of_the_scene(bench):
    cases = prepared(bench, range(2))
    for pair, truth, empty in zip(cases.pairs, cases.truth, cases.empty, strict=True):
        left, right = pair.spots
        assert left.middle[0] < right.middle[0]
        assert pair.caption == f"{pair.phrases[0]} left of {pair.phrases[1]} {pair.things.ground}"
        assert pair.alone[1] == f"{pair.phrases[1]} {pair.things.ground}"
        differs = ((truth - empty).abs().amax(0) > 1e-3).float().mean()
        assert 0.01 < differs < 0.9


@pytest.fixture(scope="module")
def made(bench):
    table, folder = tabulate(COMPOSITION.study, bench)
    return table, folder, COMPOSITION.show(bench)


def test_rows_and_page(made, tmp_path):
    table, folder, pictures = made
    names = ("truth", *(name for name in METHODS if name not in ("magic_fusion", *SHAPED)))
    assert [r.name for r in table.rows] == [f"composition/all/{m}" for m in names]
    for row in table.rows:
        wanted = {*METRICS, "seconds", "calls", "seed"}
        assert wanted == row.metrics.keys()
    assert table.row("composition/all/text").metrics["calls"] == STEPS
    assert table.row("composition/all/magic_fusion_1").metrics["calls"] == 2 * STEPS
    text = write_page(COMPOSITION, table, folder, pictures, tmp_path / "composition").read_text()
    assert "<h2>two solids: pictures</h2>" in text


def test_every_method_draws_something_else(bench):
    cases = prepared(bench, range(1))
    asked = Asked(cases.pairs[0], cases.empty[0], 7, bench)
    made = {name: METHODS[name](asked) for name in methods(bench)}
    wide = made.pop("panorama")
    assert wide.shape == (3, 64, 128)
    for name, picture in made.items():
        assert picture.shape == cases.empty[0].shape
        others = [other for key, other in made.items() if key != name]
        assert all((picture - other).abs().max() > 1e-3 for other in others)


def test_the_two_models_are_told_of_one_solid_each(bench):
    """With the same words both models say the same, whichever is asked."""
    cases = prepared(bench, range(1))
    pair = cases.pairs[0]
    asked = Asked(pair, cases.empty[0], 7, bench)
    left, right = pair.alone
    fused = METHODS["magic_fusion_1"](asked)
    assert min((fused - asked.told(text)).abs().max() for text in (left, right)) > 1e-3
    same = replace(pair.things.scene, solids=(pair.things.scene.solids[pair.left],) * 2)
    twin = Asked(replace(pair, things=replace(pair.things, scene=same)), asked.empty, 7, bench)
    with network_calls(bench.model) as rows:
        alike = METHODS["magic_fusion_1"](twin)
    assert len(rows) == 2 * STEPS
    assert torch.allclose(alike, asked.told(left), atol=1e-4)


def test_a_second_base_draws_the_right_one(bench, tiny_base):
    """Another network's noise: the row of one model gives way, and says something else."""
    other = unicond.load(tiny_base, device="cpu")
    with torch.no_grad():
        for value in other.backbone.network.parameters():
            value.mul_(0.9)
    two = replace(bench, other=Other(other))
    assert "magic_fusion" in methods(two)
    assert "magic_fusion_1" not in methods(two)
    assert set(missing(bench)) == {"magic_fusion", *SHAPED}
    cases = prepared(bench, range(1))
    asked = Asked(cases.pairs[0], cases.empty[0], 7, bench)
    both = METHODS["magic_fusion"](replace(asked, bench=two))
    assert (both - METHODS["magic_fusion_1"](asked)).abs().max() > 1e-3
    spent = {name: results(name, replace(cases, bench=two)) for name in ("magic_fusion", "text")}
    calls = {name: samples.values["calls"] for name, samples in spent.items()}
    assert calls == {"magic_fusion": [2 * STEPS], "text": [STEPS]}


def test_a_panorama_has_each_solid_in_its_half(bench):
    cases = prepared(bench, range(2))
    left, right = halved((LEFT, RIGHT))
    assert left.box == pytest.approx((0.05, 0.4, 0.2, 0.8))
    assert right.box == pytest.approx((0.8, 0.4, 0.95, 0.8))
    scenes = [pair.things.scene for pair in cases.pairs]
    drawn = render(scenes, bench.model.backbone.sample_size)
    read = reading_of(scenes, drawn, torch.zeros(2, 1))

    def half(maps, keep):
        """A scene's maps with one solid alone."""
        found = torch.where(drawn.instances == 0, maps, 0)
        for row, number in enumerate(keep):
            here = drawn.instances[row] == number + 1
            found[row][here] = maps[row][here]
        return found

    ends = [pair.left for pair in cases.pairs], [pair.right for pair in cases.pairs]
    wide = replace(
        read,
        classes=torch.cat([half(read.classes, side) for side in ends], 2),
        colors=torch.cat([half(read.colors, side) for side in ends], 2),
    )
    knows = replace(cases, bench=replace(bench, judge=lambda _: wide))
    pictures = torch.cat([drawn.image, drawn.image], 3)
    found = knows.scores("panorama", pictures, [Cost()] * 2).values
    for metric in ("both_there", "right_sides", "right_place"):
        assert found[metric] == [1, 1]


def test_boxes_are_the_segmentation_of_a_model_that_takes_one(tiny, tiny_base, bench, tmp_path):
    folder = tmp_path / "classes"
    JointAdapter.from_pretrained(tiny.adapters["depth"].source).save_pretrained(folder)
    of_depth = unicond.load(tiny_base, {"segmentation": folder}, device="cpu")
    assert {*SHAPED} < {*missing(replace(bench, model=of_depth))}  # a name is no kind
    (path,) = folder.glob("*.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "kind": "segmentation"}))
    shaped = replace(bench, model=unicond.load(tiny_base, {"classes": folder}, device="cpu"))
    assert {*SHAPED} < {*methods(shaped)}
    assert set(missing(shaped)) == {"magic_fusion"}
    cases = prepared(shaped, range(1))
    asked = Asked(cases.pairs[0], cases.empty[0], 7, shaped)
    ((branch, drawn),) = asked.drawn.items()
    assert branch == "classes"
    pixels = ((drawn.flatten(1).T + 1) / 2).unique(dim=0)
    classes = {CLASSES[spot.cls] for spot in cases.pairs[0].spots} | {"sky", "ground"}
    wanted = torch.tensor([CLASS_RGB[name] for name in classes])
    assert len(pixels) == len(classes)
    assert torch.cdist(pixels, wanted).amin(1).max() < 1 / 255  # bytes of a picture
    for name, plain in SHAPED.items():
        assert (METHODS[name](asked) - METHODS[plain](asked)).abs().max() > 1e-3

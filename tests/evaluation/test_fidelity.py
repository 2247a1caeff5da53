"""A judge without fault finds every condition kept by the true image, and lost by another's."""

from dataclasses import replace

import pytest
import torch
from truth import Brightness, Truth, shuffled

from unicond.conditions import CONDITIONS, named
from unicond.evaluation.cases import TABLE_WORLD, HeldOut
from unicond.evaluation.chunk import Chunk
from unicond.evaluation.fidelity_appearance import kept
from unicond.evaluation.measures import FIDELITIES
from unicond.evaluation.tables import SHARES, more_is_better
from unicond.world.vocabulary import CLASSES

COUNT = 4
LOOKS = ("shirt", "trousers", "hair", "skin")
COPIED = {"layout_iou", "same_pose", "same_ground"}
"""What is to differ from a loose reference."""
BEST = {"abs_rel": 0.0, "delta1": 1.0, "emse": 0.0, "pck": 1.0, "miou": 1.0, "angle": 0.0}


@pytest.fixture(scope="module", params=[condition.name for condition in CONDITIONS])
def chunk(request, tmp_path_factory):
    """Scenes of a condition with a judge that knows them; the model is not asked."""
    folder = tmp_path_factory.mktemp(request.param)
    cases = HeldOut(TABLE_WORLD, 3, 128, folder, named(request.param)).cases(range(COUNT))
    return request.param, Chunk(cases, None, Truth(cases), folder)


def mean(values):
    known = [value for value in values if value is not None]
    return sum(known) / len(known)


def test_the_true_image_keeps_everything(chunk):
    name, cases = chunk
    fidelity = FIDELITIES[name]
    scores = fidelity.of_judge(cases)
    assert tuple(scores) == fidelity.metrics
    assert all(len(values) == COUNT for values in scores.values())
    same = fidelity.of_images(cases, cases.real)
    other = fidelity.of_images(cases, shuffled(cases.real))
    main = fidelity.metrics[0]
    if name in ("identity", "appearance"):
        assert mean(scores[main]) >= 0.9  # a frame may hide what the other shows
        assert mean(same[main]) == mean(scores[main])
    else:
        assert mean(scores[main]) == pytest.approx(BEST[main], abs=0.02)
        assert mean(same[main]) == pytest.approx(BEST[main], abs=1e-5)
    gap = mean(same[main]) - mean(other[main])
    assert (gap if main in SHARES else -gap) > 0.02
    for metric in set(fidelity.metrics) - COPIED:
        gap = mean(same[metric]) - mean(other[metric])
        assert (gap if more_is_better(metric) else -gap) > 0


def test_exact_drawings_are_read_back(chunk):
    name, cases = chunk
    fidelity, main = FIDELITIES[name], FIDELITIES[name].metrics[0]
    drawn = cases.cases.condition
    right = fidelity.of_drawings(cases, drawn)
    wrong = fidelity.of_drawings(cases, drawn.roll(1, 0))
    if named(name).aligned:
        # skeletons hide joints behind each other; metric depth ends at 40 m
        assert mean(right[main]) == pytest.approx(BEST[main], abs=0.12 if name == "pose" else 0.01)
    gap = mean(right[main]) - mean(wrong[main])
    assert (gap if main in SHARES else -gap) > 0.02


def test_pairs_agree_and_shuffled_pairs_do_not(chunk):
    name, cases = chunk
    fidelity, main = FIDELITIES[name], FIDELITIES[name].metrics[0]
    drawn = cases.cases.condition
    right = fidelity.of_pairs(cases, cases.real, drawn)
    wrong = fidelity.of_pairs(cases, cases.real, drawn.roll(1, 0))
    assert set(right) == set(fidelity.metrics)
    gap = mean(right[main]) - mean(wrong[main])
    assert (gap if main in SHARES else -gap) > 0.02
    assert more_is_better(main) == (main in SHARES)


@pytest.mark.parametrize("chunk", ["depth", "depth-metric"], indirect=True)
def test_a_picture_of_nothing_but_sky_counts_as_a_failure(chunk):
    name, cases = chunk
    sky = torch.full_like(cases.real.classes, CLASSES.index("sky"))
    reading = replace(cases.real, classes=sky)
    scores = FIDELITIES[name].of_pairs(cases, reading, cases.cases.condition)
    assert set(scores["abs_rel"]) == {1.0}
    assert set(scores["delta1"]) == {0.0}


def test_a_copy_of_a_loose_reference_is_found_out(chunk):
    """Not only the metric that counts: what must differ is measured as well."""
    name, cases = chunk
    if named(name).aligned:
        return
    fidelity = FIDELITIES[name]
    copy = fidelity.of_images(cases, cases.judge(cases.cases.condition))
    real = fidelity.of_images(cases, cases.real)
    for metric in COPIED & set(fidelity.metrics):
        assert not more_is_better(metric)
        assert mean(copy[metric]) > 0.95
        assert mean(real[metric]) < 0.5


def test_prompts_do_not_give_away_what_is_measured(chunk):
    name, cases = chunk
    texts = cases.cases.captions
    if name == "appearance":
        assert set(texts) == {""}
    elif name == "identity":
        assert not any(word in text for word in LOOKS for text in texts)
        assert all("person" in text for text in texts)
    else:
        assert all(texts)
    if name == "pose":
        assert all(scene.people for scene in cases.cases.scenes)


def test_metric_depth_is_scored_without_a_fit(tmp_path):
    held_out = HeldOut(TABLE_WORLD, 3, 64, tmp_path, named("depth-metric"))
    cases = held_out.cases(range(3))
    chunk = Chunk(cases, None, Brightness(), tmp_path)
    fidelity = FIDELITIES["depth-metric"]
    # one grey step of size a multiplies all metres by 40 ** -(a / 2)
    off = fidelity.of_drawings(chunk, (cases.condition - 0.1).clamp(-1, 1))
    assert mean(off["abs_rel"]) == pytest.approx(40**0.05 - 1, rel=0.01)
    assert mean(off["abs_rel_fitted"]) < 1e-3  # a fit finds the factor
    loose = FIDELITIES["depth"].of_drawings(chunk, 1 / (cases.depth.clamp_min(1) + 0.0))
    assert mean(loose["abs_rel"]) < 1e-5


def test_what_is_kept_is_counted_with_repetition():
    assert kept(["red", "red", "blue"], ["red", "red", "green"]) == pytest.approx(2 / 3)
    assert kept(["red"], ["red", "red"]) == 0.5
    assert kept(["red"], []) is None
    assert kept([], ["red"]) == 0


def test_nothing_to_score_is_said(tmp_path):
    cases = HeldOut(TABLE_WORLD, 3, 64, tmp_path).cases(range(2))
    chunk = Chunk(cases, None, Brightness(), tmp_path)
    black = torch.full_like(cases.images, -1.0)
    reading = Brightness()(black)
    assert FIDELITIES["softedge"].score(reading.edges, reading.edges)["emse"] == [None, None]
    pose = FIDELITIES["pose"].of_pairs(chunk, reading, black)
    assert pose["pck"] == [None, None]

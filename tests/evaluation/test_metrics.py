"""Every metric against a value worked out by hand or in closed form."""

import math

import numpy as np
import pytest
import scipy.linalg
import torch

from unicond.evaluation.metrics_depth import (
    align_depth,
    nominal_depth,
    score_depth,
    valid_pixels,
)
from unicond.evaluation.metrics_objects import (
    connected_areas,
    found_objects,
    seen_spots,
)
from unicond.evaluation.metrics_people import keypoints_seen, pck
from unicond.evaluation.metrics_pictures import (
    edge_error,
    fid,
    frechet_distance,
    gaussian_fit,
    psnr,
)


@pytest.fixture
def depth():
    """(3, 1, 8, 8) metres in 2..15, and a mask with holes."""
    noise = torch.Generator().manual_seed(0)
    metres = 2 + 13 * torch.rand((3, 1, 8, 8), generator=noise)
    return metres, torch.rand((3, 1, 8, 8), generator=noise) < 0.7


# ── depth ────────────────────────────────────────────────────────────────────────────────────


def test_affine_disparity_is_perfect(depth):
    metres, valid = depth
    picture = 0.7 / metres - 0.2
    picture[~valid] = 100.0  # what is not valid must not matter
    scores = score_depth(picture, metres, valid)
    assert scores.abs_rel.shape == (3,)
    assert scores.abs_rel.max() < 1e-6  # float32 input
    assert torch.equal(scores.delta1, torch.ones(3, dtype=torch.float64))


def test_alignment_is_numpys_least_squares(depth):
    metres, valid = depth
    picture = torch.rand((3, 1, 8, 8), generator=torch.Generator().manual_seed(1))
    scores = score_depth(picture, metres, valid)
    for row in range(3):
        keep = valid[row].numpy()
        p, d = picture[row].numpy()[keep].astype(float), metres[row].numpy()[keep].astype(float)
        (a, b), *_ = np.linalg.lstsq(np.stack([p, np.ones_like(p)], 1), 1 / d, rcond=None)
        with np.errstate(divide="ignore"):
            z = np.maximum(1 / (a * p + b), 1e-6)
        assert scores.abs_rel[row].item() == pytest.approx(np.mean(np.abs(z - d) / d), rel=1e-6)
        near = np.maximum(z / d, d / z) < 1.25
        assert scores.delta1[row].item() == pytest.approx(near.mean())


def test_negative_disparity_is_wrong_not_right():
    """Fitted by hand: d* = (1, 1, 10, 10), p = (1, 1, 0, 0.2): the last but one falls below 0."""
    metres = torch.tensor([1.0, 1.0, 100.0, 100.0]).reshape(1, 1, 2, 2)
    picture = torch.tensor([1.0, 0.9, 0.0, 0.1]).reshape(1, 1, 2, 2)
    aligned = align_depth(picture, metres, torch.ones_like(metres, dtype=torch.bool))
    assert aligned.flatten()[2] == 1e-6
    scores = score_depth(picture, metres, torch.ones_like(metres, dtype=torch.bool))
    assert scores.delta1.item() <= 0.75


def test_a_constant_picture_gets_the_mean_disparity():
    metres = torch.tensor([2.0, 4.0]).reshape(1, 1, 1, 2)
    valid = torch.ones_like(metres, dtype=torch.bool)
    flat = torch.full_like(metres, 0.3)
    assert align_depth(flat, metres, valid).flatten().tolist() == pytest.approx([1 / 0.375] * 2)
    # 8/3 against 2 and 4: errors 1/3 and 1/3
    assert score_depth(flat, metres, valid).abs_rel.item() == pytest.approx(1 / 3)
    assert score_depth(flat, metres, valid).delta1.item() == 0


def test_scores_do_not_depend_on_the_batch(depth):
    metres, valid = depth
    picture = torch.rand((3, 1, 8, 8), generator=torch.Generator().manual_seed(2))
    whole = score_depth(picture, metres, valid)
    alone = score_depth(picture[1:2], metres[1:2], valid[1:2])
    assert whole.abs_rel[1] == alone.abs_rel[0]


def test_valid_pixels_need_a_hit_and_the_range():
    metres = torch.tensor([0.0, 0.5, 1.0, 20.0, 20.1, 5.0]).reshape(1, 1, 1, 6)
    hit = torch.tensor([False, True, True, True, True, False]).reshape(1, 1, 1, 6)
    assert valid_pixels(metres, hit).flatten().tolist() == [False, False, True, True, False, False]
    assert valid_pixels(metres).flatten().tolist() == [False, False, True, True, False, True]


def test_nominal_depth_spans_the_given_disparities():
    ends = torch.tensor([0.0, 1.0]).reshape(1, 1, 1, 2)
    assert nominal_depth(ends, (0.025, 0.5)).flatten().tolist() == pytest.approx([40, 2])
    with pytest.raises(ValueError, match="0 < low < high"):
        nominal_depth(ends, (0.5, 0.1))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda p, d, v: (p[:, :, :4], d, v), "one shape"),
        (lambda p, d, v: (p * math.nan, d, v), "not finite"),
        (lambda p, d, v: (p, d, v & False), r"pictures \[0, 1, 2\] have fewer than two"),
        (lambda p, d, v: (p, d * 0, v), "0 or less"),
    ],
)
def test_degenerate_depth_is_refused(depth, spoil, message):
    metres, valid = depth
    with pytest.raises(ValueError, match=message):
        score_depth(*spoil(1 / metres, metres, valid))


# ── whole pictures ───────────────────────────────────────────────────────────────────────────


def test_frechet_distance_of_diagonal_gaussians():
    """|m|^2 + sum (sqrt(a) - sqrt(b))^2 where the covariances commute."""
    a, b = torch.tensor([1.0, 4.0]), torch.tensor([9.0, 0.0])
    distance = frechet_distance(torch.zeros(2), a.diag(), torch.tensor([3.0, 4.0]), b.diag())
    assert distance == pytest.approx(25 + 4 + 4, abs=1e-9)


def test_frechet_distance_against_scipys_root():
    noise = np.random.default_rng(0)
    a, b = (m @ m.T for m in noise.standard_normal((2, 6, 6)))
    mean = noise.standard_normal(6)
    root = scipy.linalg.sqrtm(a @ b).real
    expected = mean @ mean + np.trace(a + b - 2 * root)
    tensors = (torch.zeros(6), torch.tensor(a), torch.tensor(mean), torch.tensor(b))
    assert frechet_distance(*tensors) == pytest.approx(expected, rel=1e-8)


def test_fid_of_equal_and_shifted_samples():
    rows = torch.randn((50, 4), generator=torch.Generator().manual_seed(0))
    assert fid(rows, rows.flip(0)) == pytest.approx(0, abs=1e-9)
    assert fid(rows, rows + 2) == pytest.approx(16, rel=1e-5)  # float32 features
    few = rows[:3]  # singular covariances
    assert fid(few, few + 1) == pytest.approx(4, rel=1e-5)


def test_gaussian_fit_is_unbiased():
    mean, covariance = gaussian_fit(torch.tensor([[0.0, 0.0], [2.0, 4.0]]))
    assert mean.tolist() == [1, 2]
    assert covariance.tolist() == [[2, 4], [4, 8]]


def test_degenerate_features_are_refused():
    with pytest.raises(ValueError, match="two samples"):
        fid(torch.zeros(1, 4), torch.zeros(5, 4))
    with pytest.raises(ValueError, match="not finite"):
        fid(torch.full((3, 4), math.inf), torch.zeros(5, 4))
    with pytest.raises(ValueError, match=r"\(D,\), \(D, D\)"):
        fid(torch.zeros(3, 4), torch.zeros(3, 5))


def test_psnr_by_hand():
    zero = torch.zeros(2, 3, 4, 4)
    # mse 0.04 on a span of 2: 10 log10(4 / 0.04) = 20 dB
    assert psnr(zero + torch.tensor([0.2, 0.0])[:, None, None, None], zero).tolist() == [
        pytest.approx(20, rel=1e-6),
        math.inf,
    ]
    with pytest.raises(ValueError, match="one shape"):
        psnr(zero, zero[:1])


def test_edge_error_counts_real_edges_only():
    real = torch.tensor([0.0, 0.5, 1.0, 0.0]).reshape(1, 1, 2, 2)
    drawn = torch.tensor([1.0, 0.5, 0.6, 1.0]).reshape(1, 1, 2, 2)
    assert edge_error(drawn, real).item() == pytest.approx(0.08)  # (0 + 0.16) / 2
    with pytest.raises(ValueError, match=r"references \[0\] have no edge"):
        edge_error(drawn, real * 0)
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\]"):
        edge_error(drawn * 2, real)


# ── people ───────────────────────────────────────────────────────────────────────────────────


def test_greedy_pck_by_hand():
    """Two references 100 px tall, three predictions; the best pair is taken first."""
    references = torch.zeros(2, 4, 2)
    references[1] += 200
    visible = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 1]], dtype=torch.bool)
    sides = torch.tensor([100.0, 100.0])
    predicted = torch.zeros(3, 4, 2)
    predicted[0, :2] += 50  # half of person 0
    predicted[1, 0, 0] += 10.0  # all of person 0, one on the bound
    predicted[2] += 200
    predicted[2, 0] += 11  # two thirds of person 1; the hidden one does not count
    match = pck(predicted, references, visible, sides)
    assert match.pairs == ((1, 0), (2, 1))
    assert match.pck == pytest.approx((4 + 2) / (4 + 3))
    found = torch.ones(3, 4, dtype=torch.bool)
    found[1, 3] = False
    assert pck(predicted, references, visible, sides, found).pck == pytest.approx(5 / 7)


def test_pck_matches_whole_people_not_points():
    """One prediction, two people: only the better one is matched."""
    references = torch.stack([torch.zeros(3, 2), torch.full((3, 2), 5.0)])
    references[0, 0] += 90
    visible = torch.ones(2, 3, dtype=torch.bool)
    match = pck(torch.full((1, 3, 2), 5.0), references, visible, torch.tensor([50.0, 50.0]))
    assert (match.pairs, match.pck) == (((0, 1),), 1.0)


def test_nobody_is_matched_twice():
    """Both references are nearest to the first prediction; the second gets what is left."""
    references = torch.zeros(2, 2, 2)
    predicted = torch.stack([torch.zeros(2, 2), torch.tensor([[0.0, 0.0], [50.0, 50.0]])])
    visible = torch.ones(2, 2, dtype=torch.bool)
    match = pck(predicted, references, visible, torch.tensor([100.0, 100.0]))
    assert {match.pairs[0][0], match.pairs[1][0]} == {0, 1}
    assert {match.pairs[0][1], match.pairs[1][1]} == {0, 1}
    assert match.pck == 0.75


def test_degenerate_people():
    one, visible = torch.zeros(1, 3, 2), torch.ones(1, 3, dtype=torch.bool)
    side = torch.ones(1)
    assert pck(torch.zeros(0, 3, 2), one, visible, side).pck == 0
    with pytest.raises(ValueError, match="nobody"):
        pck(one, torch.zeros(0, 3, 2), torch.zeros(0, 3, dtype=torch.bool), torch.zeros(0))
    with pytest.raises(ValueError, match="visible keypoint"):
        pck(one, one, ~visible, side)
    with pytest.raises(ValueError, match=r"\(P, 3, 2\)"):
        pck(torch.zeros(1, 4, 2), one, visible, side)


def test_keypoints_seen_counts_peaks():
    heat = torch.zeros(2, 18, 4, 4)
    heat[0, :12, 1, 2] = 0.3
    heat[1, 0] = 0.29
    assert keypoints_seen(heat).tolist() == [12, 0]
    with pytest.raises(ValueError, match="threshold"):
        keypoints_seen(heat, 0.0)


# ── objects ──────────────────────────────────────────────────────────────────────────────────

CLASSES = ("sky", "ball", "box")
COLORS = ("none", "red", "blue")


def draw(*areas, size=12):
    """Class and colour maps (1, size, size) with rectangles (class, colour, top, left, h, w)."""
    classes, colors = torch.zeros(2, 1, size, size, dtype=torch.uint8)
    for cls, color, top, left, height, width in areas:
        classes[0, top : top + height, left : left + width] = cls
        colors[0, top : top + height, left : left + width] = color
    return classes, colors


def test_connected_areas_of_a_spiral_and_a_batch():
    spiral = torch.tensor(
        [[1, 1, 1, 1, 1], [0, 0, 0, 0, 1], [1, 1, 1, 0, 1], [1, 0, 0, 0, 1], [1, 1, 1, 1, 1]]
    )
    labels = connected_areas(torch.stack([spiral, spiral, torch.full_like(spiral, 1)]))
    assert labels[0][spiral == 1].unique().tolist() == [0]
    assert labels[0][spiral == 0].unique().tolist() == [5]
    assert labels[2].unique().tolist() == [50]
    diagonal = connected_areas(torch.eye(3, dtype=torch.int64)[None])
    assert len(diagonal.unique()) == 5  # three single pixels, two corners: not joined across


def test_connected_areas_against_a_flood_fill():
    keys = torch.randint(0, 2, (2, 20, 20), generator=torch.Generator().manual_seed(3))
    labels = connected_areas(keys).reshape(-1).tolist()
    flat, seen = keys.reshape(-1).tolist(), {}
    for start in range(len(flat)):
        if start in seen:
            continue
        todo = [start]
        while todo:
            at = todo.pop()
            if at in seen:
                continue
            seen[at] = start
            row, column = divmod(at % 400, 20)
            steps = [(-20, row > 0), (20, row < 19), (-1, column > 0), (1, column < 19)]
            todo += [at + d for d, ok in steps if ok and flat[at + d] == flat[start]]
    assert labels == [seen[at] for at in range(len(flat))]


def test_seen_objects_are_large_enough_and_of_one_colour():
    classes, colors = draw((1, 1, 0, 0, 4, 4), (1, 2, 0, 4, 4, 5), (2, 1, 8, 8, 2, 2))
    (areas,) = seen_spots(classes, colors, min_pixels=16)
    seen = [(area.cls, area.color, area.pixels) for area in areas]
    assert seen == [(0, 0, 144 - 16 - 20 - 4), (1, 2, 20), (1, 1, 16)]


@pytest.mark.parametrize(("side", "least"), [(128, 24), (64, 6), (256, 96)])
def test_the_least_area_grows_with_the_picture(side, least):
    classes = torch.zeros(1, side, side, dtype=torch.int64)
    classes.view(1, -1)[:, :least] = 1
    classes[0, -1, : least - 1] = 2
    (areas,) = seen_spots(classes, torch.zeros_like(classes))
    assert [area.cls for area in areas] == [0, 1]


def test_found_objects_respect_how_many_are_named():
    areas = seen_spots(*draw((1, 1, 0, 0, 4, 4), (1, 1, 6, 6, 4, 4), (2, 2, 0, 6, 4, 4)), 8)[0]
    red, blue = ("red", "ball"), ("blue", "box")

    def found(*named):
        return found_objects(named, areas, CLASSES, COLORS)

    assert found(red, red, blue) == 3
    assert found(red, red, red) == 2
    assert found(red) == 1  # a second red ball is no fault, and no credit
    assert found(("blue", "ball"), ("red", "box")) == 0
    assert found() == 0


def test_degenerate_objects_are_refused():
    classes, colors = draw()
    with pytest.raises(ValueError, match="one shape"):
        seen_spots(classes, colors[:, :4])
    with pytest.raises(ValueError, match="min_pixels"):
        seen_spots(classes, colors, 0)
    with pytest.raises(ValueError, match="pink ball is not what the maps can show"):
        found_objects([("pink", "ball")], [], CLASSES, COLORS)

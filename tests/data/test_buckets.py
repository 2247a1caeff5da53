"""Buckets and the order of batches: sizes, equal shares, and batches that are functions of n."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest

from unicond.data.buckets import BatchOrder, bucket_sizes, nearest_bucket

AREAS = [(512 * 512, 64, 2.0), (1024 * 1024, 64, 4.0), (128 * 128, 8, 2.0), (64 * 64, 64, 1.0)]


def sizes(count, seed=0):
    rng = np.random.default_rng(seed)
    return [tuple(int(side) for side in rng.integers(200, 900, 2)) for _ in range(count)]


@pytest.mark.parametrize(("area", "multiple", "ratio"), AREAS)
def test_buckets_are_multiples_near_the_area(area, multiple, ratio):
    found = bucket_sizes(area, multiple, ratio)
    assert len(set(found)) == len(found)
    for height, width in found:
        assert height % multiple == width % multiple == 0
        assert max(height, width) <= ratio * min(height, width)
        # no other multiple of this side would be nearer, or it is within an eighth
        near = abs(height * width - area) <= multiple * min(height, width, area // multiple) / 2
        assert near or abs(height * width / area - 1) <= 1 / 8 or width == multiple
        assert (width, height) in found
    ratios = [width / height for height, width in found]
    assert ratios == sorted(ratios)
    if math.isqrt(area) % multiple == 0:
        assert (math.isqrt(area), math.isqrt(area)) in found


def test_common_photographs_are_hardly_cut():
    """The share of a picture that its bucket keeps."""
    found = bucket_sizes(512 * 512)
    for width, height in ((3, 2), (4, 3), (16, 9), (1, 1), (5, 4), (2, 3), (9, 16)):
        rows, columns = found[nearest_bucket((height * 100, width * 100), found)]
        scale = max(rows / height, columns / width)
        kept = rows * columns / (scale * height * scale * width)
        assert kept > 0.93


def test_the_nearest_bucket_is_the_one_of_least_log_ratio():
    found = bucket_sizes(512 * 512)
    for height, width in sizes(200):
        chosen = nearest_bucket((height, width), found)
        gaps = [abs(math.log(w * height / (h * width))) for h, w in found]
        assert gaps[chosen] == min(gaps)
        mirrored = found[nearest_bucket((width, height), found)]
        assert (
            math.isclose(mirrored[1] * found[chosen][1], mirrored[0] * found[chosen][0])
            or gaps.count(min(gaps)) > 1
        )


@pytest.mark.parametrize(
    ("area", "multiple", "ratio"), [(100, 64, 2.0), (64 * 64, 64, 0.5), (64 * 128, 64, 1.0)]
)
def test_impossible_buckets_are_refused(area, multiple, ratio):
    with pytest.raises(ValueError, match=r"give at least one multiple|no multiples of 64"):
        bucket_sizes(area, multiple, ratio)


@pytest.mark.parametrize("batch_size", [1, 4, 7])
def test_every_batch_is_of_one_bucket_and_full(batch_size):
    pictures, buckets = sizes(37), bucket_sizes(512 * 512)
    order = BatchOrder(pictures, batch_size, buckets, seed=3)
    for number in range(100):
        size, places = order.batch(number)
        assert len(places) == batch_size
        for place in places:
            assert buckets[nearest_bucket(pictures[place.row], buckets)] == size


def test_every_picture_is_seen_equally_often():
    """After N batches of B, each exactly B times; on the way, never two turns apart in a bucket.

    Two rounds, so that the second goes on where the first ended.
    """
    pictures, count, batch_size = sizes(23), 23, 5
    order = BatchOrder(pictures, batch_size, bucket_sizes(512 * 512), seed=1)
    seen = Counter()
    for number in range(2 * count):
        for place in order.batch(number)[1]:
            assert place.turn == seen[place.row]
            seen[place.row] += 1
        for members in order.members:
            turns = [seen[row] for row in members]
            assert not turns or max(turns) - min(turns) <= 1
    assert set(seen.values()) == {2 * batch_size}
    assert len(seen) == count


def test_buckets_take_even_turns():
    """After n batches, bucket b has had n n_b / N of them, give or take one and a phase."""
    pictures = sizes(200)
    order = BatchOrder(pictures, 2, bucket_sizes(512 * 512), seed=5)
    share = {
        order.buckets[n]: len(members) / len(pictures) for n, members in enumerate(order.members)
    }
    had = Counter()
    for number in range(400):
        had[order.batch(number)[0]] += 1
        for size, part in share.items():
            assert abs(had[size] - (number + 1) * part) <= 1 + part * len(share)


def test_batches_are_functions_of_their_number():
    pictures, buckets = sizes(30), bucket_sizes(512 * 512)
    first = BatchOrder(pictures, 4, buckets, seed=9)
    whole = [first.batch(number) for number in range(120)]
    later = BatchOrder(list(pictures), 4, buckets, seed=9)
    assert [later.batch(number) for number in (119, 3, 60)] == [whole[n] for n in (119, 3, 60)]
    assert later.batch(10**9)[0] in buckets
    other = BatchOrder(pictures, 4, buckets, seed=10)
    assert [other.batch(number) for number in range(120)] != whole


def test_turns_are_shuffled_anew():
    order = BatchOrder([(64, 64)] * 12, 12, [(64, 64)], seed=0)
    turns = [[place.row for place in order.batch(number)[1]] for number in range(5)]
    assert all(sorted(turn) == list(range(12)) for turn in turns)
    assert all(one != other for one, other in itertools.combinations(turns, 2))


def test_a_batch_larger_than_its_bucket_repeats_pictures():
    order = BatchOrder([(64, 64), (64, 128)], 5, [(64, 64), (64, 128)])
    size, places = order.batch(0)
    assert [place.turn for place in places] == [0, 1, 2, 3, 4]
    assert len({place.row for place in places}) == 1
    assert {size, order.batch(1)[0]} == {(64, 64), (64, 128)}


@pytest.mark.parametrize("count", [0, 1])
def test_datasets_of_one_picture_are_refused(count):
    with pytest.raises(ValueError, match=f"a dataset of {count} pictures"):
        BatchOrder([(64, 64)] * count, 1, [(64, 64)])
    with pytest.raises(ValueError, match="batch_size 0"):
        BatchOrder([(64, 64)] * 2, 0, [(64, 64)])

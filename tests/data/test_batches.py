"""Batches: one iterator, the same whoever asks, wherever it begins."""

import itertools
from dataclasses import dataclass, replace

import pytest
import torch

from unicond.data.augment import AugmentConfig
from unicond.data.batches import BatchConfig, batches
from unicond.data.conditions import kind_of
from unicond.data.sources import Pair
from unicond.pictures import PictureError


@dataclass
class Made:
    """Pairs that are made of their number: picture and condition are equal."""

    shapes: list
    broken: int | None = None

    kind = kind_of("scribble")

    def __len__(self):
        return len(self.shapes)

    def size(self, number):
        return self.shapes[number]

    def pair(self, number):
        if number == self.broken:
            raise PictureError(f"pair {number} is broken")
        generator = torch.Generator().manual_seed(number)
        values = torch.rand(3, *self.shapes[number], generator=generator) * 2 - 1
        captions = tuple(f"picture {number}, wording {n}" for n in range(number % 3))
        return Pair(str(number), values, values.clone(), captions)

    def fingerprint(self):
        return str(len(self))


SOURCE = Made([(40, 60)] * 5 + [(60, 40)] * 3 + [(50, 50)] * 4)
CONFIG = BatchConfig(
    batch_size=4,
    area=32 * 32,
    multiple=8,
    augment=AugmentConfig(zoom=1.2, flip=0.5),
    seed=6,
)


def taken(count, config=CONFIG, source=SOURCE, **options):
    return list(itertools.islice(batches(source, config, **options), count))


def equal(one, other):
    return (
        all(torch.equal(a, b) for a, b in zip(one[:2], other[:2], strict=True))
        and one[2] == other[2]
    )


def test_batches_are_pictures_conditions_and_captions():
    shapes = set()
    for image, condition, captions in taken(12):
        assert image.shape == condition.shape
        assert image.shape[:2] == (4, 3)
        assert image.shape[2] % 8 == image.shape[3] % 8 == 0
        assert image.dtype == torch.float32
        assert torch.equal(image, condition)
        assert len(captions) == 4
        assert all(isinstance(caption, str) for caption in captions)
        shapes.add(tuple(image.shape[2:]))
    assert len(shapes) == 3


def test_a_run_that_goes_on_sees_what_it_would_have_seen():
    whole = taken(20)
    later = taken(6, start=14)
    assert all(equal(one, other) for one, other in zip(whole[14:], later, strict=True))


@pytest.mark.parametrize("processes", [2, 4])
def test_processes_share_a_batch(processes):
    whole = taken(5)
    parts = [taken(5, process=n, processes=processes) for n in range(processes)]
    for number in range(5):
        images, conditions, captions = zip(*(part[number] for part in parts), strict=True)
        joined = torch.cat(images), torch.cat(conditions), list(itertools.chain(*captions))
        assert equal(joined, whole[number])


@pytest.mark.parametrize("changed", [{"workers": 5}, {"ahead": 0}, {"workers": 1, "ahead": 7}])
def test_reading_ahead_changes_nothing(changed):
    other = taken(8, replace(CONFIG, **changed))
    assert all(equal(one, two) for one, two in zip(taken(8), other, strict=True))


@pytest.mark.parametrize(
    "changed",
    [
        {"seed": 7},
        {"area": 48 * 48},
        {"multiple": 16},
        {"augment": AugmentConfig()},
        {"ratio": 1.0},
    ],
)
def test_every_setting_matters(changed):
    assert not all(
        one[0].shape == two[0].shape and equal(one, two)
        for one, two in zip(taken(4), taken(4, replace(CONFIG, **changed)), strict=True)
    )


def test_one_picture_twice_in_a_batch_is_cut_twice():
    config = replace(CONFIG, batch_size=4, augment=AugmentConfig(zoom=2.0))
    image, condition, _ = taken(1, config, Made([(40, 40), (40, 40)]))[0]
    assert torch.equal(image, condition)
    assert len({float(one.sum()) for one in image}) == 4


def test_wordings_take_turns():
    source = Made([(32, 32)] * 3)
    config = replace(CONFIG, batch_size=3, augment=AugmentConfig())
    said = [sorted(captions) for _, _, captions in taken(4, config, source)]
    assert said[0] == ["", "picture 1, wording 0", "picture 2, wording 0"]
    assert said[1] == ["", "picture 1, wording 0", "picture 2, wording 1"]
    assert said[2] == said[0]


def test_a_broken_pair_ends_it_with_its_name():
    with pytest.raises(PictureError, match="pair 2 is broken"):
        taken(20, source=Made(SOURCE.shapes, broken=2))


@pytest.mark.parametrize(
    "options", [{"process": 1, "processes": 3}, {"process": 2, "processes": 2}, {"start": -1}]
)
def test_uneven_shares_are_refused_at_once(options):
    with pytest.raises(ValueError, match="let the processes divide the batch"):
        batches(SOURCE, CONFIG, **options)


def test_a_dataset_of_one_picture_is_refused_at_once():
    with pytest.raises(ValueError, match="a dataset of 1 pictures"):
        batches(Made([(32, 32)]), CONFIG)
    with pytest.raises(ValueError, match="workers must be 1 or more"):
        replace(CONFIG, workers=0)

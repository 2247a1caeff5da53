"""Jobs that are made together are what they are alone."""

import io

import numpy as np
import pytest
from noise_pictures import picture
from PIL import Image

from unicond.studio.batching import kin, run
from unicond.studio.settings import Limits
from unicond.studio.uploads import named, received
from unicond.tasks.filled import Filled
from unicond.tasks.forms import Edit, Generate
from unicond.tasks.forms import Picture as Named


def stored(form, **sent):
    return received(form, sent, Limits())


def filled(form, folder, **sent):
    plain, pictures = stored(form, **sent)
    for number, one in enumerate(pictures):
        (folder / f"{number}.png").write_bytes(one.png)
    return Filled(plain, lambda named: str(folder / str(named.upload)), {})


def depth(seed, size=(64, 64)):
    image = Image.open(io.BytesIO(picture(size, "L", seed)))
    buffer = io.BytesIO()
    image.resize(size).save(buffer, "PNG")
    return buffer.getvalue()


def with_depth(**change):
    return Generate(**{"prompt": "a dog", "only": ("image",), "depth": Named(upload="d"), **change})


def test_a_batch_is_its_jobs(tiny, tmp_path):
    """At most one level on 0.1 % of values, and the record of each is as of a run of its own."""
    changes = (
        {"seed": 3, "prompt": "a dog"},
        {"seed": (9, 4), "prompt": "the cat"},
        {"seed": 5, "prompt": "", "count": 2},
    )
    jobs = []
    for number, change in enumerate(changes):
        folder = tmp_path / str(number)
        folder.mkdir()
        jobs.append(filled(with_depth(**change), folder, d=depth(number)))
    together = run(tiny, jobs, lambda _: True)
    for job, out in zip(jobs, together, strict=True):
        alone = job.run(tiny)
        assert out.record == alone.record
        assert len(out) == len(alone)
        for one, other in zip(out.image, alone.image, strict=True):
            levels = np.abs(np.asarray(one, int) - np.asarray(other, int))
            assert levels.max() <= 1
            assert (levels > 0).mean() <= 1e-3
    first, second = (np.asarray(out.image[0], int) for out in together[:2])
    assert np.abs(first - second).mean() > 1, "their own prompts, seeds and pictures count"


def test_who_may_be_made_together():
    base = kin(*_of(with_depth(), d=depth(1)))
    alike = (
        _of(with_depth(prompt="a cat", seed=7), d=depth(2)),
        _of(with_depth(count=3), d=depth(1)),
    )
    assert {kin(*one) for one in alike} == {base}
    others = [
        _of(with_depth(steps=4), d=depth(1)),
        _of(with_depth(negative_prompt="blue"), d=depth(1)),
        _of(with_depth(guidance=2.0), d=depth(1)),
        _of(with_depth(only=None), d=depth(1)),
        _of(with_depth(noise={"depth": 0.4}), d=depth(1)),
        _of(with_depth(), d=depth(1, (64, 32))),
        _of(with_depth(depth=None)),
        _of(with_depth(depth=None, image=Named(upload="d")), d=depth(1)),
        _of(with_depth(mask={"depth": Named(upload="m")}), d=depth(1), m=depth(2)),
        _of(with_depth(mask={"depth": Named(upload="m")}), d=depth(1), m=depth(3)),
    ]
    kins = [base, *(kin(*one) for one in others)]
    assert len({*kins}) == len(kins)
    edit = Edit(picture=Named(upload="d"), prompt="a", method="sdedit")
    assert kin(*_of(edit, d=depth(1))) is None
    assert kin(*_of(with_depth(method="readout"), d=depth(1))) is None


def _of(form, **sent):
    plain, pictures = stored(form, **sent)
    return plain, "tiny", named(pictures)


def test_masks_that_are_equal_go_together(tiny, tmp_path):
    jobs = []
    for seed in (1, 2):
        folder = tmp_path / str(seed)
        folder.mkdir()
        form = with_depth(seed=seed, mask={"depth": Named(upload="m")}, only=None)
        mask = Image.new("L", (64, 64))
        mask.paste(255, (0, 0, 32, 64))
        buffer = io.BytesIO()
        mask.save(buffer, "PNG")
        jobs.append(filled(form, folder, d=depth(seed), m=buffer.getvalue()))
    for job, out in zip(jobs, run(tiny, jobs, lambda _: True), strict=True):
        alone = job.run(tiny)
        error = (out.latents["image"] - alone.latents["image"]).abs().max()
        assert error < 1e-4 * alone.latents["image"].std()


@pytest.mark.parametrize("count", [1, 3])
def test_a_callback_ends_all(tiny, tmp_path, count):
    from unicond.calls.prepared import Cancelled

    jobs = [filled(Generate(only=("image",), seed=n), tmp_path) for n in range(count)]
    with pytest.raises(Cancelled):
        run(tiny, jobs, lambda _: False)

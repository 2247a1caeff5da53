"""A manifest is read whole or refused with its lines; alike rows are made in one call."""

import json

import numpy as np
import pytest
from PIL import Image

from unicond.batch.manifest import groups, read_manifest

FORM = {"task": "generate", "prompt": "a dog", "only": ["image"]}


@pytest.fixture
def read(tmp_path):
    """Writes lines into a manifest beside two pictures and reads it."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    (tmp_path / "maps").mkdir()
    Image.fromarray(noise).save(tmp_path / "maps" / "d.png")
    Image.fromarray(noise[:32]).save(tmp_path / "maps" / "flat.png")
    np.save(tmp_path / "metres.npy", noise.astype(np.float32))

    def call(*lines, base="some/tiny", **model):
        texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
        (tmp_path / "jobs.jsonl").write_text("\n".join(texts) + "\n")
        return read_manifest(tmp_path / "jobs.jsonl", base, model)

    return call


def test_rows_have_their_line_name_and_form(read):
    first, second = read({**FORM, "depth": "maps/d.png", "id": "dog"}, "", {**FORM, "count": 3})
    assert (first.line, first.id, first.samples) == (1, "dog", 1)
    assert first.form.depth.upload == "maps/d.png"
    assert (second.line, second.id, second.samples) == (3, "000003", 3)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"task": "generate"', "no JSON: Expecting ',' delimiter"),
        ("[1]", "a line is an object"),
        ({"prompt": "a dog"}, "Unable to extract tag using discriminator 'task'"),
        ({**FORM, "stepz": 3}, "generate.stepz: Extra inputs are not permitted"),
        ({**FORM, "depth": "maps/none.png"}, "maps/none.png does not exist"),
        ({**FORM, "depth": "jobs.jsonl"}, "jobs.jsonl is not a picture"),
        ({**FORM, "depth": {"base64": "AAAA"}}, "a picture is a file"),
        ({**FORM, "mask": {"depth": "maps/d.png"}}, "of which no picture is given"),
        ({**FORM, "solver": "magic"}, "magic"),
        ({**FORM, "seed": [1, 2], "count": 3}, "count"),
        ({**FORM, "base": "other"}, "there is no model 'other' here: it is 'tiny'"),
        ({**FORM, "id": "../up"}, "id is up to 100 letters"),
        ({**FORM, "id": "one"}, "id 'one' is that of line 1, too"),
    ],
)
def test_a_bad_line_is_told_with_its_number(read, line, message):
    with pytest.raises(ValueError, match=r"cannot be made, and nothing was") as refused:
        read({**FORM, "id": "one"}, line, {**FORM, "noise": {"depth": 0.5}})
    told = str(refused.value).splitlines()[1:]
    assert [one.split(":")[0] for one in told] == ["line 2", "line 3"]
    assert message in told[0]


def test_many_bad_lines_are_told_in_part_and_none_at_all(read):
    with pytest.raises(ValueError, match=r"line 20.*\nand 5 more lines"):
        read(*(["no"] * 25))
    with pytest.raises(ValueError, match="has no lines"):
        read("")


def test_a_digest_is_of_all_that_a_row_follows_from(read, tmp_path):
    """The form, the bytes of its pictures and the model; not its line or its name."""
    row = {**FORM, "depth": "maps/d.png"}
    (before,) = read(row)
    assert read("", {**row, "id": "moved", "base": "tiny"})[0].digest == before.digest
    others = [
        read({**row, "seed": 1})[0],
        read(row, base="other/tiny")[0],
        read(row, dtype="float16")[0],
        read({**FORM, "give": {"depth": "maps/flat.png"}})[0],
    ]
    Image.new("L", (64, 64)).save(tmp_path / "maps" / "d.png")
    digests = [before.digest, read(row)[0].digest, *(one.digest for one in others)]
    assert len({*digests}) == len(digests)


def test_rows_of_a_kin_go_together_up_to_the_most(read):
    pictured = {**FORM, "depth": "maps/d.png"}
    rows = read(
        {**FORM, "id": "a"},
        {**pictured, "id": "b"},
        {**FORM, "id": "c", "count": 2},
        {**pictured, "id": "d", "depth": "maps/flat.png"},
        {**FORM, "id": "e", "count": 2},
        {**pictured, "id": "f", "seed": 4},
        {"task": "edit", "picture": "maps/d.png", "prompt": "a cat", "method": "sdedit", "id": "g"},
        {"task": "edit", "picture": "maps/d.png", "prompt": "a cat", "method": "sdedit", "id": "h"},
        {**pictured, "depth": "metres.npy", "depth_kind": "metric", "id": "i"},
        {**FORM, "id": "j", "count": 9},
    )
    found = ["".join(row.id for row in group) for group in groups(rows, 4)]
    assert found == ["ac", "bf", "d", "e", "g", "h", "i", "j"]

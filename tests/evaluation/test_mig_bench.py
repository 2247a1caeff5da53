"""The bench's file, and the pictures beside it."""

import re

import pytest
from drawn_mig import BENCH, LEFT, asked, paint, save_bench

from unicond.evaluation.mig.bench import read_bench
from unicond.evaluation.mig.pictures import content_hash, file_name, found_pictures
from unicond.pictures.reading import to_pil


def test_entries_are_read_in_order(tmp_path):
    bench = read_bench(save_bench(tmp_path / "bench.json"))
    assert list(bench) == ["0", "1", "2"]
    assert [entry.level for entry in bench.values()] == [2, 2, 3]
    glass = bench["1"].segment[0]
    assert (glass.color, glass.thing, glass.bbox) == ("red", "wine glass", LEFT)
    assert list(read_bench(tmp_path / "bench.json", 2)) == ["0", "1"]
    numbered = {"7": asked((LEFT, "a red cat"), image_id=9)}
    assert read_bench(save_bench(tmp_path / "n.json", numbered))["7"].image_id == "9"


@pytest.mark.parametrize(
    ("bench", "message"),
    [
        ([], "all of it: Input should be an object"),
        ({}, "has no entries"),
        ({"a_1": asked((LEFT, "a red cat"))}, "a_1/[key]: String should match"),
        ({"0": asked()}, "0/segment: Tuple should have at least 1 item"),
        ({"0": asked((LEFT, "a purple cat"))}, "'a purple cat' is not 'a <colour> <thing>' with"),
        ({"0": asked((LEFT, "red cat"))}, "0/segment/0/label: "),
        ({"0": asked((LEFT, "a red"))}, "a colour of red, blue, yellow, green, black, white, brow"),
        ({"0": asked(((0.5, 0, 0.5, 1), "a red cat"))}, "give 0 <= left < right <= 1"),
        ({"0": asked(((0, 0, 1, 512), "a red cat"))}, "0/segment/0/bbox: "),
        ({"0": asked((LEFT, "a red cat"), image_id="../x")}, "0/image_id: String should match"),
        ({str(n): {} for n in range(9)}, "and 22 more"),
    ],
)
def test_faults_are_told_with_their_place(tmp_path, bench, message):
    path = save_bench(tmp_path / "bench.json", bench)
    with pytest.raises(ValueError, match=re.escape(message)) as told:
        read_bench(path)
    assert str(path) in str(told.value)


def test_files_that_are_none_and_entries_that_are_not_there(tmp_path):
    with pytest.raises(ValueError, match=r"none.json cannot be read: No such file .*mig_bench.jso"):
        read_bench(tmp_path / "none.json")
    (tmp_path / "text.json").write_text("a photo")
    with pytest.raises(ValueError, match=r"no file of COCO-MIG: all of it: Invalid JSON"):
        read_bench(tmp_path / "text.json")
    with pytest.raises(ValueError, match=r"has 3 entries; 4 are asked for \(--entries\)"):
        read_bench(save_bench(tmp_path / "bench.json"), 4)


@pytest.fixture
def bench(tmp_path):
    return read_bench(save_bench(tmp_path / "bench.json"))


def test_pictures_are_found_by_the_end_of_their_names(bench, tmp_path):
    image, folder = to_pil(paint([])), tmp_path / "images"
    folder.mkdir()
    for name in ("500084_0.png", "any_thing_1.png", file_name("1", bench["1"], 3), "2.png"):
        image.save(folder / name)
    image.save(folder / "sheet_all.png")
    found = found_pictures(folder, bench, quiet=True)
    names = {key: [path.name for path in paths] for key, paths in found.items()}
    assert names == {
        "0": ["500084_0.png"],
        "1": ["074711-3_1.png", "any_thing_1.png"],
        "2": ["2.png"],
    }
    before = content_hash(found)
    assert before == content_hash(found_pictures(folder, bench, quiet=True))
    to_pil(paint([(LEFT, (1, 2, 3))])).save(folder / "2.png")
    assert before != content_hash(found_pictures(folder, bench, quiet=True))


def test_missing_and_broken_pictures_are_told_together(bench, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    to_pil(paint([])).save(folder / "500084_0.png")
    whole = (folder / "500084_0.png").read_bytes()
    (folder / "074711_1.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="does not hold every picture") as told:
        found_pictures(folder, bench, quiet=True)
    assert "1 of 3 entries have no picture: 000009_2.png" in str(told.value)
    assert "1 of 2 pictures cannot be read: " in str(told.value)
    assert "074711_1.png" in str(told.value)
    with pytest.raises(ValueError, match="is no folder"):
        found_pictures(tmp_path / "none", bench)


def test_many_faults_are_counted(tmp_path):
    many = {str(n): BENCH["0"] for n in range(30)}
    (tmp_path / "images").mkdir()
    with pytest.raises(ValueError, match=r"30 of 30 entries .* 500084_9.png; and 20 more"):
        found_pictures(
            tmp_path / "images", read_bench(save_bench(tmp_path / "b", many)), quiet=True
        )

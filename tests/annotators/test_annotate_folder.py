"""Folders: what is written, what is kept after a stop, and what is skipped."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from unicond.annotators import folder as folders
from unicond.annotators.edges import SoftEdges
from unicond.annotators.folder import annotate_folder
from unicond.annotators.ledger import JOURNAL, target
from unicond.annotators.origins import RECORD
from unicond.data.conditions import KINDS
from unicond.data.sources import open_pairs
from unicond.pictures import PictureError, read_picture

GOOD = ["cat.png", "coffee.jpg", "face.png", "more/camera.png", "rocket.jpg"]
BROKEN = {"cut.png", "empty.jpg"}


def lines_of(folder):
    return [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]


def files_of(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


class Counting:
    """The filter, and how many pictures it was shown."""

    def __init__(self, stop_after=None):
        self.seen, self.stop_after = [], stop_after
        self.name, self.kind = "softedge:filter", "softedge"

    def __call__(self, pictures):
        if self.stop_after is not None and len(self.seen) >= self.stop_after:
            raise KeyboardInterrupt
        self.seen.append(len(pictures))
        return SoftEdges()(pictures)


@pytest.fixture
def counting(monkeypatch):
    """The filter in place of every annotator that is loaded."""

    def use(annotator):
        monkeypatch.setattr(folders, "load_annotator", lambda *_: annotator)
        return annotator

    return use


def test_pictures_get_conditions_and_rows(folder):
    told = []
    before = files_of(folder)
    outcome = annotate_folder(
        folder, ["softedge"], batch_size=2, report=lambda *numbers: told.append(numbers)
    )
    assert (outcome.made, outcome.there) == (5, 0)
    assert set(outcome.skipped) == BROKEN
    assert "empty" in outcome.skipped["empty.jpg"]
    assert told[0] == (0, 7)
    assert told[-1] == (7, 7)
    assert lines_of(folder) == [
        {"file_name": name, "edges_file_name": target("softedge", name)} for name in GOOD
    ]
    for line in lines_of(folder):
        picture = read_picture(folder / line["file_name"])
        with Image.open(folder / line["edges_file_name"]) as drawn:
            assert drawn.mode == "RGB"
        edges = read_picture(folder / line["edges_file_name"])
        # 8 bits hold the five levels to half a step, 1 / 255
        assert float((edges - SoftEdges()(picture[None])[0]).abs().max()) < 1.01 / 255
    after = files_of(folder)
    assert {name: after[name] for name in before} == before, "pictures stay as they are"
    assert not any(".part" in name or name.startswith(".") for name in after)


def test_batches_are_of_one_size_and_full(folder, counting):
    annotator = counting(Counting())
    annotate_folder(folder, ["softedge"], batch_size=3)
    assert sorted(annotator.seen) == [1, 1, 3]


def test_a_rerun_does_what_is_missing(folder, counting):
    annotate_folder(folder, ["softedge"])
    whole = files_of(folder)
    annotator = counting(Counting())
    outcome = annotate_folder(folder, ["softedge"])
    assert (outcome.made, outcome.there) == (0, 5)
    assert annotator.seen == []
    (folder / "edges/cat.png").unlink()
    outcome = annotate_folder(folder, ["softedge"])
    assert (outcome.made, outcome.there) == (1, 4)
    assert annotator.seen == [1]
    assert files_of(folder) == whole


def replace(folder, name, seed=0):
    """Put another picture of the same name and size in its place."""
    with Image.open(folder / name) as image:
        size = (image.height, image.width, 3)
    noise = np.random.default_rng(seed).integers(0, 255, size, np.uint8)
    Image.fromarray(noise).save(folder / name)


def is_of_what_is_there(folder, name):
    edges = read_picture(folder / target("softedge", name))
    made = SoftEdges()(read_picture(folder / name)[None])[0]
    return float((edges - made).abs().max()) < 1.01 / 255  # as above


@pytest.mark.parametrize("earlier", [False, True], ids=["recorded", "of an earlier form"])
def test_a_picture_that_was_replaced_is_annotated_anew(folder, counting, earlier):
    annotate_folder(folder, ["softedge"])
    if earlier:  # nothing says what the annotations are of: they are kept
        (folder / RECORD).unlink()
        before = files_of(folder)
        outcome = annotate_folder(folder, ["softedge"])
        assert (outcome.made, outcome.there, outcome.changed) == (0, 5, [])
        after = files_of(folder)
        assert {name: after[name] for name in before} == before
    before = files_of(folder)
    replace(folder, "cat.png")
    annotator = counting(Counting())
    outcome = annotate_folder(folder, ["softedge"])
    assert (outcome.made, outcome.there, outcome.changed) == (1, 4, ["cat.png"])
    assert annotator.seen == [1]
    assert is_of_what_is_there(folder, "cat.png")
    after = files_of(folder)
    differ = {name for name in before if before[name] != after[name]}
    assert differ == {"cat.png", "edges/cat.png", RECORD}
    again = annotate_folder(folder, ["softedge"])
    assert (again.made, again.there, again.changed) == (0, 5, [])


def test_a_picture_that_was_replaced_while_a_run_was_stopped(folder, counting):
    counting(Counting(stop_after=1))
    with pytest.raises(KeyboardInterrupt):
        annotate_folder(folder, ["softedge"], batch_size=2)
    [name, _] = [path.name for path in (folder / "edges").rglob("*.png")]
    name = name.replace(".jpg.png", ".jpg")
    replace(folder, name)
    with (folder / RECORD).open("a") as file:
        file.write('\n{"file_name": "face.p')  # the machine stopped here
    counting(Counting())
    outcome = annotate_folder(folder, ["softedge"], batch_size=2)
    assert (outcome.made, outcome.there, outcome.changed) == (4, 1, [name])
    assert is_of_what_is_there(folder, name)


@pytest.mark.parametrize("earlier", [False, True], ids=["recorded", "of an earlier form"])
def test_a_picture_that_is_gone_has_no_line(folder, counting, earlier):
    annotate_folder(folder, ["softedge"])
    if earlier:
        (folder / RECORD).unlink()
    rocket = (folder / "rocket.jpg").read_bytes()
    (folder / "rocket.jpg").unlink()
    outcome = annotate_folder(folder, ["softedge"])
    assert (outcome.made, outcome.there, outcome.gone) == (0, 4, ["rocket.jpg"])
    assert [line["file_name"] for line in lines_of(folder)] == GOOD[:-1]
    assert annotate_folder(folder, ["softedge"]).gone == []
    (folder / "rocket.jpg").write_bytes(rocket)
    replace(folder, "rocket.jpg")  # another picture of the name is not taken for it
    outcome = annotate_folder(folder, ["softedge"])
    assert (outcome.made, outcome.there, outcome.changed) == (1, 4, ["rocket.jpg"])
    assert [line["file_name"] for line in lines_of(folder)] == GOOD
    assert is_of_what_is_there(folder, "rocket.jpg")


def test_what_is_not_asked_for_is_left_out_where_its_picture_changed(folder, counting):
    counting(Counting())
    annotate_folder(folder, ["softedge", "depth"])
    whole = lines_of(folder)
    replace(folder, "cat.png")
    outcome = annotate_folder(folder, ["softedge"])
    assert (outcome.changed, outcome.left_out) == (["cat.png"], {"depth": 1})
    assert lines_of(folder)[0] == {"file_name": "cat.png", "edges_file_name": "edges/cat.png"}
    assert lines_of(folder)[1:] == whole[1:]
    outcome = annotate_folder(folder, ["depth"])
    assert (outcome.made, outcome.there, outcome.changed) == (1, 4, ["cat.png"])
    assert lines_of(folder) == whole


def test_captions_of_pictures_that_were_replaced(folder, monkeypatch):
    """Those that were made are made anew; one's own are kept."""
    mine = {"file_name": "rocket.jpg", "text": "a rocket"}
    (folder / "metadata.jsonl").write_text(json.dumps(mine) + "\n")
    said = iter(range(100))
    monkeypatch.setattr(
        folders, "load_annotator", lambda *_: lambda p: [f"{next(said)}" for _ in p]
    )
    asked = {"kinds": ["caption"], "models": {"caption": "x"}}
    annotate_folder(folder, **asked)
    before = {line["file_name"]: line["text"] for line in lines_of(folder)}
    lines = [line | ({"text": "mine"} if line["file_name"] == "face.png" else {})
             for line in lines_of(folder)]  # fmt: skip
    (folder / "metadata.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    for name in ("rocket.jpg", "face.png", "cat.png"):
        replace(folder, name)
    outcome = annotate_folder(folder, **asked)
    assert (outcome.made, outcome.there, outcome.changed) == (1, 4, ["cat.png"])
    after = {line["file_name"]: line["text"] for line in lines_of(folder)}
    assert after == before | {"face.png": "mine", "cat.png": "4"}


def test_a_stopped_run_goes_on(folder, counting, tmp_path):
    counting(Counting(stop_after=1))
    with pytest.raises(KeyboardInterrupt):
        annotate_folder(folder, ["softedge"], batch_size=2)
    assert not (folder / "metadata.jsonl").exists()
    assert len(list((folder / "edges").rglob("*.png"))) == 2
    annotator = counting(Counting())
    outcome = annotate_folder(folder, ["softedge"], batch_size=2)
    assert (outcome.made, outcome.there) == (3, 2)
    assert sum(annotator.seen) == 3
    assert [line["file_name"] for line in lines_of(folder)] == GOOD


def test_several_kinds_with_models(folder, models):
    chosen = {kind: models[kind] for kind in ("depth", "caption")}
    outcome = annotate_folder(folder, ["depth", "softedge", "caption"], chosen, "cpu")
    assert outcome.made == 5
    for line in lines_of(folder):
        assert set(line) == {"file_name", "inverse_depth_file_name", "edges_file_name", "text"}
        assert line["text"]
    claims = json.loads((folder / "annotations.json").read_text())
    assert claims["depth"] == f"depth:{models['depth']}"
    pairs = open_pairs(folder, "depth")
    assert len(pairs) == 5
    pair = pairs.pair(GOOD.index("face.png"))
    assert pair.size == (64, 96)
    assert pair.caption == lines_of(folder)[2]["text"]
    assert (float(pair.condition.min()), float(pair.condition.max())) == (-1, 1)


def test_captions_of_a_stopped_run_are_kept(folder, monkeypatch):
    said = []

    def talking(pictures):
        if len(said) == 2:
            said.append("stopped")
            raise KeyboardInterrupt
        said.append("said")
        return [f"call {len(said)}"] * len(pictures)

    monkeypatch.setattr(folders, "load_annotator", lambda *_: talking)
    with pytest.raises(KeyboardInterrupt):
        annotate_folder(folder, ["caption"], {"caption": "x"}, batch_size=1)
    with (folder / JOURNAL).open("a") as file:
        file.write('\n{"file_name": "face.p')  # the machine stopped here
    outcome = annotate_folder(folder, ["caption"], {"caption": "x"}, batch_size=8)
    assert (outcome.made, outcome.there) == (3, 2)
    assert not (folder / JOURNAL).exists()
    texts = [line["text"] for line in lines_of(folder)]
    assert len(texts) == 5
    assert {"call 1", "call 2"} < set(texts)


def test_a_disk_that_fills_up_keeps_the_captions(folder, monkeypatch, full_disk):
    """One that is cut off is not taken for one, nor is the next one lost with it."""
    said = []

    def talking(pictures):
        said.append("said")
        if len(said) == 6:
            raise KeyboardInterrupt
        return [f"call {len(said)}"] * len(pictures)

    monkeypatch.setattr(folders, "load_annotator", lambda *_: talking)
    asked = {"kinds": ["caption"], "models": {"caption": "x"}, "batch_size": 1}
    full = r"cannot write .*captions.jsonl: .*captions in it are kept: make room"
    with full_disk(120), pytest.raises(PictureError, match=full):  # in the third of about 50 bytes
        annotate_folder(folder, **asked)
    assert len(said) == 3
    assert not (folder / "metadata.jsonl").exists()
    with pytest.raises(KeyboardInterrupt):
        annotate_folder(folder, **asked)
    outcome = annotate_folder(folder, **asked)
    assert (outcome.made, outcome.there) == (1, 4)
    assert {line["text"] for line in lines_of(folder)} == {f"call {n}" for n in (1, 2, 4, 5, 7)}


def test_what_the_user_wrote_is_kept(folder, counting):
    mine = {"file_name": "rocket.jpg", "text": "a rocket", "licence": "mine"}
    (folder / "metadata.jsonl").write_text(json.dumps(mine) + "\n")
    counting(Counting())
    annotate_folder(folder, ["softedge"])
    first, *others = lines_of(folder)
    assert first == mine | {"edges_file_name": "edges/rocket.jpg.png"}
    assert [line["file_name"] for line in others] == GOOD[:-1]


def test_other_models_are_refused_unless_overwritten(folder, models, counting):
    chosen = {"softedge": models["softedge"]}
    annotate_folder(folder, ["softedge"])
    before = files_of(folder)
    with pytest.raises(ValueError, match=r"annotations by softedge:filter, and softedge:/"):
        annotate_folder(folder, ["softedge"], chosen, "cpu")
    assert files_of(folder) == before
    outcome = annotate_folder(folder, ["softedge"], chosen, "cpu", overwrite=True)
    assert outcome.made == 5
    assert files_of(folder)["edges/cat.png"] != before["edges/cat.png"]


def test_an_overwriting_run_that_is_stopped_mixes_nothing(folder, models, counting):
    annotate_folder(folder, ["softedge"])
    counting(Counting(stop_after=1))
    with pytest.raises(KeyboardInterrupt):
        annotate_folder(folder, ["softedge"], {"softedge": "x"}, batch_size=1, overwrite=True)
    assert len(list((folder / "edges").rglob("*.png"))) == 1
    assert all("edges_file_name" not in line for line in lines_of(folder))
    annotator = counting(Counting())
    outcome = annotate_folder(folder, ["softedge"], {"softedge": "x"})
    assert (outcome.made, outcome.there) == (4, 1)
    assert sum(annotator.seen) == 4


def test_one_hopeless_picture_does_not_stop_its_batch(folder, counting):
    class Picky(Counting):
        def __call__(self, pictures):
            if any(float(picture.mean()) < -0.7 for picture in pictures):
                raise PictureError("too dark")
            return super().__call__(pictures)

    Image.fromarray(np.zeros((96, 128, 3), np.uint8)).save(folder / "night.png")
    counting(Picky())
    outcome = annotate_folder(folder, ["softedge"], batch_size=4)
    assert outcome.skipped["night.png"] == "softedge: too dark"
    assert outcome.made == 5
    assert [line["file_name"] for line in lines_of(folder)] == GOOD


def test_a_full_disk_is_no_broken_picture(folder, counting, full_disk):
    counting(Counting())
    with full_disk(500), pytest.raises(PictureError, match=r"cannot write .*edges/"):
        annotate_folder(folder, ["softedge"], batch_size=8)
    assert not (folder / "metadata.jsonl").exists()
    assert not [path for path in folder.rglob("edges/*") if path.is_file()]
    assert annotate_folder(folder, ["softedge"]).made == 5


def test_a_model_that_cannot_be_loaded_leaves_the_folder_free(folder, counting):
    with pytest.raises(ValueError, match="no model for soft edges"):
        annotate_folder(folder, ["softedge"], {"softedge": "/nowhere/at/all"})
    assert not (folder / "annotations.json").exists()
    assert annotate_folder(folder, ["softedge"]).made == 5
    before = files_of(folder)
    with pytest.raises(ValueError, match="no model for soft edges"):
        annotate_folder(folder, ["softedge"], {"softedge": "/nowhere/at/all"}, overwrite=True)
    assert files_of(folder) == before


def in_the_way(folder):
    (folder / "edges").mkdir()
    Image.new("RGB", (8, 8)).save(folder / "edges" / "mine.png")


@pytest.mark.parametrize(
    ("prepare", "kinds", "message"),
    [
        (lambda _: None, ["colour"], "'colour' cannot be made"),
        (lambda _: None, [], "nothing to make"),
        (in_the_way, ["softedge"], "edges is in the way"),
        (
            lambda folder: (folder / "cat.png.png").write_bytes(b"x"),
            ["softedge"],
            None,
        ),
        (
            lambda folder: (folder / "coffee.jpg.png").write_bytes(b"x"),
            ["softedge"],
            "coffee.jpg and coffee.jpg.png need other names",
        ),
        (
            lambda folder: (folder / "metadata.jsonl").write_text('{"name": "cat.png"}'),
            ["softedge"],
            "line 1 has no 'file_name'",
        ),
    ],
)
def test_bad_folders_say_what_to_do(folder, counting, prepare, kinds, message):
    counting(Counting())
    prepare(folder)
    if message is None:
        annotate_folder(folder, kinds)
        return
    with pytest.raises(ValueError, match=message):
        annotate_folder(folder, kinds)


def test_empty_and_missing_folders_are_refused(tmp_path):
    with pytest.raises(ValueError, match="is no folder"):
        annotate_folder(tmp_path / "none", ["softedge"])
    with pytest.raises(ValueError, match="holds no pictures"):
        annotate_folder(tmp_path, ["softedge"])


def test_huggingface_reads_it(folder, counting, tmp_path):
    import datasets

    counting(Counting())
    annotate_folder(folder, ["softedge"])
    rows = datasets.load_dataset(
        "imagefolder", data_dir=str(folder), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert len(rows) == 5
    assert {row["image"].size for row in rows} == {row["edges"].size for row in rows}


def test_columns_are_those_of_the_worlds_export():
    from unicond.world.export import PICTURES

    made = {kind.column for kind in KINDS.values() if kind.annotated}
    assert made <= set(PICTURES)


def test_pictures_turned_by_their_camera_match(tmp_path, counting):
    """EXIF says that the camera was held upright: the condition has the turned size."""
    counting(Counting())
    for name in ("a.jpg", "b.jpg"):
        image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 64, 3), np.uint8))
        exif = Image.Exif()
        exif[0x0112] = 6
        image.save(tmp_path / name, exif=exif)
    annotate_folder(tmp_path, ["softedge"])
    pairs = open_pairs(tmp_path, "softedge")
    assert pairs.size(0) == (64, 40)
    assert pairs.pair(0).size == (64, 40)
    assert torch.equal(pairs.pair(0).image, read_picture(tmp_path / "a.jpg"))

"""Pictures with boxes: cut to squares, boxes with them; read from every kind of dataset."""

import io
import json
import tarfile

import pytest
import torch
from PIL import Image

from unicond.data.boxes import BoxedPictures, in_square, open_boxes, scene_of
from unicond.data.opening import Place
from unicond.data.rows import ImageFolder
from unicond.grounding import grounding_of

SAID = {
    "boxes": [
        {"phrase": "a person", "box": [0.0, 0.0, 0.2, 1.0]},
        {"phrase": "a ball", "box": [0.25, 0.5, 0.5, 0.75]},
        {"phrase": "a box", "box": [0.6, 0.0, 0.9, 0.5]},
    ],
    "interactions": [
        {"subject": 0, "action": "holding", "object": 1},
        {"subject": "a box", "action": "behind", "object": "a ball"},
    ],
}


def marked(folder, size, box, name="0.png"):
    """A black picture (width, height) with a white box, in pixels."""
    folder.mkdir(exist_ok=True)
    image = Image.new("RGB", size)
    image.paste((255, 255, 255), box)
    image.save(folder / name)


@pytest.mark.parametrize("size", [(200, 100), (100, 200), (100, 100), (151, 100), (100, 151)])
def test_a_box_is_where_the_cut_picture_has_it(size, tmp_path):
    """At the picture's own scale to the pixel, at another one to its rounding."""
    width, height = size
    box = (width // 2 - 20, height // 2 - 10, width // 2 + 15, height // 2 + 30)
    marked(tmp_path / "photos", size, box)
    share = [at / side for at, side in zip(box, size * 2, strict=True)]
    line = {"file_name": "0.png", "boxes": {"boxes": [{"phrase": "a box", "box": share}]}}
    (tmp_path / "photos" / "metadata.jsonl").write_text(json.dumps(line))
    source = open_boxes(Place(str(tmp_path / "photos")))
    for side in (100, 400):
        white = source.picture(0, side)[0] > 0
        assert white.shape == (side, side)
        rows, columns = white.any(1).nonzero()[:, 0], white.any(0).nonzero()[:, 0]
        seen = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
        told = [at * side for at in source.scene(0).boxes[0]]
        assert [int(at) for at in seen] == pytest.approx(told, abs=1e-6 if side == 100 else 1)


def test_boxes_are_cut_off_and_left_out_in_closed_form():
    """Of 300 x 100 pixels the square is 100 to 200."""
    size = (100, 300)
    for box, wanted in (
        ((1 / 3, 0.25, 0.5, 0.75), (0.0, 0.25, 0.5, 0.75)),
        ((0.3, 0.0, 0.6, 1.0), (0.0, 0.0, 0.8, 1.0)),  # 90 of it 80
        ((0.0, 0.0, 1.0, 1.0), None),  # a third
        ((0.6, 0.5, 0.7, 1.0), (0.8, 0.5, 1.0, 1.0)),  # 180 to 210: two thirds
        ((0.65, 0.5, 0.75, 1.0), None),  # 195 to 225: a sixth
        ((0.0, 0.0, 0.1, 1.0), None),
    ):
        found = in_square(box, size)
        assert found == (None if wanted is None else pytest.approx(wanted, abs=1e-9)), box
    turned = in_square((0.0, 0.6, 0.5, 0.7), (300, 100))
    assert turned == pytest.approx((0.0, 0.8, 0.5, 1.0), abs=1e-9)
    assert in_square((0.1, 0.2, 0.3, 0.4), (64, 64)) == (0.1, 0.2, 0.3, 0.4)


def test_interactions_follow_their_things():
    whole = scene_of(grounding_of(SAID), (64, 64), "x", ("a scene",))
    assert whole.phrases == ("a person", "a ball", "a box")
    assert whole.interactions == ((0, "holding", 1), (2, "behind", 1))
    assert (whole.alone, whole.lost, whole.captions) == ([], (), ("a scene",))
    cut = scene_of(grounding_of(SAID), (100, 200), "x")
    assert (cut.phrases, cut.lost) == (("a ball", "a box"), ("a person",))
    assert cut.boxes[0] == pytest.approx((0.0, 0.5, 0.5, 0.75))
    assert cut.boxes[1] == pytest.approx((0.7, 0.0, 1.0, 0.5))  # 120 to 180 of 50 to 150: half
    assert cut.interactions == ((1, "behind", 0),)
    assert cut.alone == []


def test_shards_and_hub_datasets_say_the_same(tmp_path):
    import datasets

    buffer = io.BytesIO()
    Image.new("RGB", (100, 100), (9, 9, 9)).save(buffer, "PNG")
    lines = {"a.json": {"boxes": SAID, "text": "one"}, "b.boxes.json": SAID}
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for name, content in (
            *((f"{key}.png", buffer.getvalue()) for key in "ab"),
            *((name, json.dumps(line).encode()) for name, line in lines.items()),
        ):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    shards = open_boxes(Place(str(tmp_path / "x.tar")))
    rows = {"image": [{"bytes": buffer.getvalue()}] * 2, "text": ["one", "two"]}
    few = {"boxes": [*SAID["boxes"]]}  # a struct has the interactions of the other, as None
    plain = SAID | {"interactions": [SAID["interactions"][0]]}
    made = datasets.Dataset.from_dict(rows | {"boxes": [plain, few]})
    made.cast_column("image", datasets.Image()).save_to_disk(tmp_path / "saved")
    saved = open_boxes(Place(str(tmp_path / "saved")))
    wanted = scene_of(grounding_of(SAID), (100, 100), "", ())
    for scene in (shards.scene(0), shards.scene(1)):
        assert (scene.boxes, scene.interactions) == (wanted.boxes, wanted.interactions)
    assert [saved.scene(n).boxes for n in (0, 1)] == [wanted.boxes] * 2
    assert [saved.scene(n).interactions for n in (0, 1)] == [wanted.interactions[:1], ()]
    assert torch.equal(shards.picture(1, 50), saved.picture(0, 50))


def test_a_change_of_boxes_alone_is_another_dataset(tmp_path):
    marked(tmp_path, (64, 64), (0, 0, 9, 9))
    prints = []
    for said in (SAID, SAID | {"interactions": []}, "b.json", "b.json"):
        line = {"file_name": "0.png", "boxes": said}
        (tmp_path / "metadata.jsonl").write_text(json.dumps(line))
        (tmp_path / "b.json").write_text(json.dumps(SAID | {"cut": len(prints) == 3}))
        prints.append(BoxedPictures(ImageFolder(tmp_path)).fingerprint())
    assert len({*prints}) == 4

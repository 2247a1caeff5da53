"""Pairs from imagefolders, tar shards and datasets: one interface, one content."""

import json
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin

from unicond.data.blobs import FileBlob, MemoryBlob, header, picture
from unicond.data.opening import Place, open_rows
from unicond.data.sources import _told, check_unchanged, open_pairs
from unicond.pictures import PictureError, read_picture
from unicond.world import World, describe, render
from unicond.world.annotate import soft_edges
from unicond.world.export import ExportConfig, export

CONFIG = ExportConfig(World(7), count=5, size=(32, 48), shard_size=2, captions=2)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """The same five scenes as an imagefolder and as shards."""
    from dataclasses import replace

    place = tmp_path_factory.mktemp("world")
    export(CONFIG, place / "folder", lambda _: None)
    export(replace(CONFIG, format="webdataset"), place / "shards", lambda _: None)
    return place


@pytest.fixture
def own(tmp_path):
    """A folder as a user may have it: two pairs, a column of one's own."""
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.png", "a_scribble.png", "b_scribble.png"):
        Image.fromarray(rng.integers(0, 255, (40, 64, 3), np.uint8)).save(tmp_path / name)
    write(
        tmp_path,
        [
            {"file_name": f"{name}.png", "scribble_file_name": f"{name}_scribble.png", "text": name}
            for name in ("a", "b")
        ],
    )
    return tmp_path


def write(folder, lines):
    (folder / "metadata.jsonl").write_text("\n".join(json.dumps(line) for line in lines))


def rewritten(folder, number, **changes):
    lines = [json.loads(text) for text in (folder / "metadata.jsonl").read_text().splitlines()]
    lines[number] |= changes
    write(folder, lines)


@pytest.mark.parametrize("condition", ["depth", "softedge", "pose", "segmentation", "normals"])
def test_all_sources_give_the_same_pairs(exported, condition):
    folder = open_pairs(exported / "folder", condition)
    shards = open_pairs(exported / "shards", condition)
    assert len(folder) == len(shards) == 5
    for number in range(5):
        one, other = folder.pair(number), shards.pair(number)
        assert torch.equal(one.image, other.image)
        assert torch.equal(one.condition, other.condition)
        assert one.captions == other.captions
        assert folder.size(number) == shards.size(number) == one.size == (32, 48)


def test_pairs_are_the_scenes(exported):
    pairs = open_pairs(exported / "folder", "softedge")
    scene = CONFIG.world[3]
    drawn, pair = render(scene, (32, 48)), pairs.pair(3)
    # half a step of 8 bits
    assert float((pair.image - drawn.image[0]).abs().max()) < 0.51 / 127
    assert float((pair.condition - soft_edges(drawn)[0]).abs().max()) < 0.51 / 127
    assert pair.captions == tuple(describe(scene, variant).text for variant in range(2))
    assert pair.caption == describe(scene).text


def test_depth_is_the_inverse_depth_and_not_the_millimetres(exported):
    """Exports have both; `depth` is 16 bit and no picture to train on."""
    rows = open_rows(exported / "folder")
    assert {"depth", "inverse_depth"} <= set(rows.columns)
    assert open_pairs(exported / "folder", "depth").column == "inverse_depth"
    with pytest.raises(PictureError, match="is of mode I;16, not RGB"):
        open_pairs(Place(str(exported / "folder"), column="depth"), "depth").pair(0)


def test_a_dataset_of_the_hub(exported, tmp_path):
    """Parquet files in the hub's layout, with the pictures inside."""
    import datasets

    folder = open_pairs(exported / "folder", "softedge")
    rows = {
        "picture": [str(exported / f"folder/image/{n:09d}.png") for n in range(5)],
        "edges": [str(exported / f"folder/edges/{n:09d}.png") for n in range(5)],
        "prompt": [folder.pair(n).caption for n in range(5)],
    }
    features = datasets.Features(
        {"picture": datasets.Image(), "edges": datasets.Image(), "prompt": datasets.Value("string")}
    )
    made = datasets.Dataset.from_dict(rows, features)
    (tmp_path / "repo" / "data").mkdir(parents=True)
    embedded = made.with_format("arrow").map(
        datasets.table.embed_table_storage, batched=True, keep_in_memory=True
    )
    embedded.to_parquet(tmp_path / "repo" / "data" / "train-00000-of-00001.parquet")
    made.save_to_disk(tmp_path / "saved")
    for where in (tmp_path / "repo", tmp_path / "saved"):
        pairs = open_pairs(where, "softedge")
        assert pairs.rows.columns == ("edges", "image"), "the first column of pictures is the image"
        assert torch.equal(pairs.pair(2).image, folder.pair(2).image)


def test_pictures_of_hub_datasets_are_read_as_they_are(exported, tmp_path):
    import datasets

    folder = open_pairs(exported / "folder", "softedge")
    rows = {
        name: [str(exported / f"folder/{name}/{n:09d}.png") for n in range(5)]
        for name in ("image", "edges")
    } | {"text": [folder.pair(n).caption for n in range(5)]}
    features = {"image": datasets.Image(), "edges": datasets.Image()}
    made = datasets.Dataset.from_dict(
        rows, datasets.Features(features | {"text": datasets.Value("string")})
    )
    made.save_to_disk(tmp_path / "saved")
    pairs = open_pairs(tmp_path / "saved", "softedge")
    for number in range(5):
        one, other = folder.pair(number), pairs.pair(number)
        assert torch.equal(one.image, other.image)
        assert torch.equal(one.condition, other.condition)
        assert one.caption == other.caption
        assert pairs.size(number) == (32, 48)


def test_without_datasets_the_hub_says_what_to_install(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ValueError, match=r"pip install 'unicond\[data\]'"):
        open_pairs("owner/name", "depth")


@pytest.mark.parametrize("where", ["repo", "saved"])
def test_splits_that_are_not_there(tmp_path, where):
    import datasets

    made = datasets.Dataset.from_dict({"text": ["a", "b"]})
    (tmp_path / "repo").mkdir()
    made.to_parquet(tmp_path / "repo" / "train.parquet")
    datasets.DatasetDict({"train": made}).save_to_disk(tmp_path / "saved")
    with pytest.raises(ValueError, match="cannot load its split 'test'"):
        open_rows(Place(str(tmp_path / where), split="test"))


def test_columns_that_are_named(own, tmp_path_factory):
    """The same of a folder, of shards and of a dataset on the hub."""
    import datasets

    place = tmp_path_factory.mktemp("others")
    rewritten(own, 0, words="one", target_file_name="a_scribble.png")
    rewritten(own, 1, words="two", target_file_name="b_scribble.png")
    with tarfile.open(place / "x.tar", "w") as tar:
        for number, name in enumerate("ab"):
            tar.add(own / f"{name}.png", f"{number}.png")
            tar.add(own / f"{name}_scribble.png", f"{number}.target.png")
            (place / "text").write_text(("one", "two")[number])
            tar.add(place / "text", f"{number}.words.txt")
    rows = {
        "image": [str(own / f"{name}.png") for name in "ab"],
        "target": [str(own / f"{name}_scribble.png") for name in "ab"],
        "words": ["one", "two"],
    }
    kinds = {"image": datasets.Image(), "target": datasets.Image()}
    features = datasets.Features(kinds | {"words": datasets.Value("string")})
    datasets.Dataset.from_dict(rows, features).save_to_disk(place / "saved")
    told = {"image_column": "target", "caption_column": "words"}
    drawn = [read_picture(own / name) for name in ("b_scribble.png", "b.png")]
    for where in (own, place / "x.tar", place / "saved"):
        pair = open_pairs(Place(str(where), column="image", **told), "identity").pair(1)
        assert torch.equal(pair.image, drawn[0])
        assert torch.equal(pair.condition, drawn[1])
        assert pair.captions == ("two",)
        pair = open_pairs(Place(str(where), column="target"), "identity").pair(1)
        assert torch.equal(pair.image, drawn[1])
        with pytest.raises(
            ValueError, match=r"no pictures in a column words; it has image, .*targ"
        ):
            open_rows(Place(str(where), image_column="words"))
    for where in (own, place / "saved"):
        with pytest.raises(ValueError, match=r"no column prompt; it has .*words: give one of them"):
            open_rows(Place(str(where), caption_column="prompt"))


def test_subsets_are_the_hubs(own, monkeypatch):
    import datasets

    asked, made = [], datasets.Dataset.from_dict({"txt": ["a", "b"]})
    told = lambda *where, **split: (asked.append((where, split)), made)[1]  # noqa: E731
    monkeypatch.setattr(datasets, "load_dataset", told)
    rows = open_rows(Place("owner/name", "test", "small"))
    assert asked == [(("owner/name", "small"), {"split": "test"})]
    assert rows.row(1).captions == ("b",)
    with pytest.raises(ValueError, match="has no subsets: leave out --subset small"):
        open_rows(Place(str(own), subset="small"))


def test_shards_by_folder_file_and_braces(exported):
    place = exported / "shards"
    assert len(open_rows(place)) == 5
    assert len(open_rows(place / "world-000001.tar")) == 2
    assert len(open_rows(place / "world-{000000..000001}.tar")) == 4
    with pytest.raises(ValueError, match=r"2 of 5 shards are missing, first .*world-000003"):
        open_rows(place / "world-{000000..000004}.tar")


def test_shards_of_others(tmp_path):
    """A picture's extension alone is the image; texts lie beside it; folders belong to keys."""
    picture = np.zeros((8, 8, 3), np.uint8)
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for name in ("one/0001.jpg", "one/0001.scribble.png", "two/0001.jpg"):
            path = tmp_path / name.replace("/", "-")
            Image.fromarray(picture).save(path)
            tar.add(path, name)
        (tmp_path / "text").write_text("a cat\non a mat\n")
        tar.add(tmp_path / "text", "one/0001.txt")
    rows = open_rows(tmp_path / "x.tar")
    assert rows.columns == ("image", "scribble")
    assert [rows.row(n).key for n in range(2)] == ["one/0001", "two/0001"]
    assert rows.row(0).captions == ("a cat on a mat",)
    pairs = open_pairs(tmp_path / "x.tar", "scribble")
    assert pairs.pair(0).size == (8, 8)
    with pytest.raises(PictureError, match="two/0001 has no scribble"):
        pairs.pair(1)


def test_compressed_shards_are_refused(exported, tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w:gz") as tar:
        tar.add(exported / "folder" / "metadata.jsonl")
    with pytest.raises(ValueError, match="is no plain tar"):
        open_rows(tmp_path)


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("nowhere", "does not exist: give a folder, tars, or a hub id"),
        (".", "holds no dataset: neither metadata.jsonl"),
    ],
)
def test_nothing_there(tmp_path, monkeypatch, where, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        open_pairs(where, "depth")


def test_a_folder_of_splits_is_pointed_at(own):
    with pytest.raises(ValueError, match="give that folder"):
        open_pairs(own.parent, "scribble")


def test_missing_columns_name_what_there_is(own):
    assert len(open_pairs(own, "scribble")) == 2
    with pytest.raises(ValueError, match="has no pictures of depth; it has scribble"):
        open_pairs(own, "depth")
    assert open_pairs(Place(str(own), column="scribble"), "depth").kind.name == "depth"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"file_name": "a.png"}\n{"file_name": "a.png"}', "line 2 names a.png again, as line 1"),
        ('{"file_name": "a.png"', "line 1 is no JSON"),
        ('["a.png"]', "line 1 is no JSON object"),
        ('{"text": "a"}', "line 1 has no 'file_name'"),
    ],
)
def test_damaged_metadata_is_named_by_line(own, text, message):
    (own / "metadata.jsonl").write_text(text)
    with pytest.raises(ValueError, match=message):
        open_rows(own)


def test_texts_with_line_breaks_of_unicode(own):
    texts = ["a\u2028b", "a\u2029b\u0085c"]
    lines = [json.loads(line) for line in (own / "metadata.jsonl").read_text().split("\n")]
    lines = [line | {"text": text} for line, text in zip(lines, texts, strict=True)]
    told = "\r\n".join(json.dumps(line, ensure_ascii=False) for line in lines)
    (own / "metadata.jsonl").write_bytes(told.encode())
    rows = open_rows(own)
    assert [rows.row(number).captions for number in range(2)] == [("a b",), ("a b c",)]


def test_no_captions_hide_no_text(own):
    rewritten(own, 0, captions=[])
    rewritten(own, 1, captions=["one", "two"])
    rows = open_rows(own)
    assert [rows.row(number).captions for number in range(2)] == [("a",), ("one", "two")]


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1", "I;16"])
def test_conditions_of_other_modes_are_refused(own, mode):
    path = own / ("a_scribble.tif" if mode == "CMYK" else "a_scribble.png")
    if mode == "I;16":
        Image.fromarray(np.zeros((40, 64), np.uint16)).save(path)
    else:
        Image.new("RGB", (64, 40)).convert(mode).save(path)
    rewritten(own, 0, scribble_file_name=path.name)
    with pytest.raises(PictureError, match=f"is of mode {mode}, not RGB"):
        open_pairs(own, "scribble").pair(0)
    assert open_pairs(own, "scribble").pair(1).size == (40, 64)


def test_pairs_of_two_sizes_are_refused_unless_they_are_loose(own):
    Image.new("RGB", (63, 40)).save(own / "a_scribble.png")
    with pytest.raises(PictureError, match=r"a\.png: the picture is 64 x 40, its scribble 63 x 40"):
        open_pairs(own, "scribble").pair(0)
    loose = open_pairs(Place(str(own), column="scribble"), "identity")
    assert loose.pair(0).condition.shape == (3, 40, 63)


def test_fingerprints_follow_every_change(own):
    pairs = open_pairs(own, "scribble")
    first = pairs.fingerprint()
    assert open_pairs(own, "scribble").fingerprint() == first
    check_unchanged(open_pairs(own, "scribble"), first)
    seen = {first}

    def changed():
        now = open_pairs(own, "scribble").fingerprint()
        assert now not in seen
        seen.add(now)

    rewritten(own, 0, text="another caption")
    changed()
    Image.new("RGB", (64, 40)).save(own / "b_scribble.png")
    changed()
    pixels = np.asarray(Image.open(own / "a.png")).copy()
    pixels[20, 30] ^= 1  # one pixel, one bit
    Image.fromarray(pixels).save(own / "a.png")
    changed()
    lines = (own / "metadata.jsonl").read_text().splitlines()
    (own / "metadata.jsonl").write_text("\n".join(reversed(lines)))
    changed()
    (own / "a.png").unlink()
    changed()
    with pytest.raises(
        ValueError, match="it still has 2 pairs, but files, captions or their order"
    ):
        check_unchanged(open_pairs(own, "scribble"), first)
    (own / "metadata.jsonl").write_text(lines[0])
    with pytest.raises(ValueError, match="it had 2 pairs and has 1"):
        check_unchanged(open_pairs(own, "scribble"), first)


def test_fingerprints_do_not_follow_the_place(own, tmp_path_factory):
    import shutil

    moved = tmp_path_factory.mktemp("moved") / "data"
    shutil.copytree(own, moved)
    one, other = (open_pairs(place, "scribble").fingerprint() for place in (own, moved))
    assert one == other
    assert open_pairs(Place(str(own), column="scribble"), "depth").fingerprint() != one


def test_large_files_count_by_their_length_and_told(tmp_path):
    data = bytearray(np.random.default_rng(0).bytes(300_000))
    first = _told(MemoryBlob("x", bytes(data)))
    assert len(first) < 140_000
    for place in (0, 65_535, 300_000 - 65_536, 299_999):
        changed = bytearray(data)
        changed[place] ^= 1
        assert _told(MemoryBlob("x", bytes(changed))) != first
    assert _told(MemoryBlob("x", bytes(data[:1000]))) == b"1000" + bytes(data[:1000])


@pytest.mark.parametrize("suffix", [".bmp", ".ppm", ".tif"])
def test_of_files_that_are_not_compressed_everything_counts(tmp_path, suffix):
    pixels = np.random.default_rng(0).integers(0, 255, (256, 256, 3), np.uint8)
    told = []
    for value in (0, 1):
        pixels[128, 30] = value
        Image.fromarray(pixels).save(tmp_path / f"x{suffix}")
        told.append(_told(FileBlob(tmp_path / f"x{suffix}")))
    assert told[0] != told[1]
    assert len(told[0]) == 32


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_headers_tell_the_size_that_is_read(tmp_path, turned, suffix):
    exif = Image.Exif()
    if turned:
        exif[0x0112] = 8
    path = tmp_path / f"x{suffix}"
    Image.new("RGB", (100, 60), (1, 2, 3)).save(path, exif=exif)
    size = (100, 60) if turned else (60, 100)
    for blob in (FileBlob(path), MemoryBlob("x", path.read_bytes())):
        found = header(blob)
        assert (found.height, found.width) == size
        assert tuple(picture(blob).shape[1:]) == size
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        tar.add(path, f"a{suffix}")
    blob = open_rows(tmp_path / "x.tar").row(0).pictures["image"]
    assert torch.equal(picture(blob), read_picture(path))


def test_pictures_that_are_refused_are_refused_by_their_headers(tmp_path):
    """As they are where they are decoded; a warning of Pillow's is none of ours."""
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    (tmp_path / "large.ppm").write_bytes(b"P6 16000 10000 255 ")
    (tmp_path / "fair.ppm").write_bytes(b"P6 10000 9500 255 ")
    for name, words in (("moving.gif", "has 2 frames"), ("large.ppm", "has 160 million pixels")):
        path = tmp_path / name
        for blob in (FileBlob(path), MemoryBlob(name, path.read_bytes())):
            with pytest.raises(PictureError, match=words):
                header(blob)
    assert header(FileBlob(tmp_path / "fair.ppm")).width == 2048


@pytest.mark.parametrize("suffix", [".webp", ".tif", ".png", ".jpg"])
def test_headers_of_members_that_are_larger_than_what_is_read_of_them_first(tmp_path, suffix):
    noise = np.random.default_rng(0).integers(0, 255, (420, 400, 3), np.uint8)
    path = tmp_path / f"x{suffix}"
    Image.fromarray(noise).save(
        path, lossless=True, quality=100 if suffix == ".jpg" else 0, method=0, subsampling=0
    )
    assert path.stat().st_size > 2**18
    found = header(FileBlob(path, 0, path.stat().st_size, "x"))
    assert (found.height, found.width, found.mode) == (420, 400, "RGB")


def test_headers_of_pictures_that_are_reduced(tmp_path):
    Image.new("RGB", (3000, 500)).save(tmp_path / "x.png")
    blob = FileBlob(tmp_path / "x.png")
    assert (header(blob).height, header(blob).width) == (341, 2048)
    assert tuple(picture(blob).shape[1:]) == (341, 2048)


@pytest.mark.parametrize("turned", [False, True])
def test_headers_tell_the_size_of_reduced_pictures_to_the_pixel(tmp_path, turned):
    """A JPEG in a file is halved while it is decoded, 101 to 51; one in memory is not."""
    exif = Image.Exif()
    if turned:
        exif[0x0112] = 6
    path = tmp_path / "x.jpg"
    Image.new("RGB", (4100, 101)).save(path, exif=exif)
    for blob, short in ((FileBlob(path), 51), (MemoryBlob("x", path.read_bytes()), 50)):
        size = (2048, short) if turned else (short, 2048)
        assert (header(blob).height, header(blob).width) == size
        assert tuple(picture(blob).shape[1:]) == size


def test_headers_of_pngs_that_xmp_turns(tmp_path):
    told = PngImagePlugin.PngInfo()
    told.add_itxt("XML:com.adobe.xmp", '<x:xmpmeta tiff:Orientation="6"/>')
    Image.new("RGB", (100, 60)).save(tmp_path / "x.png", pnginfo=told)
    blob = FileBlob(tmp_path / "x.png")
    assert (header(blob).height, header(blob).width) == (100, 60)
    assert tuple(picture(blob).shape[1:]) == (100, 60)


def test_damaged_pictures_are_named(tmp_path):
    (tmp_path / "x.png").write_bytes(b"no picture")
    for blob in (FileBlob(tmp_path / "x.png"), MemoryBlob("member x", b"no picture")):
        with pytest.raises(PictureError, match="is not a picture"):
            header(blob)
    noise = np.random.default_rng(0).integers(0, 255, (60, 100, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "y.png")
    data = (tmp_path / "y.png").read_bytes()[:5000]
    with pytest.raises(PictureError, match="member y is damaged"):
        picture(MemoryBlob("member y", data))
    with pytest.raises(PictureError, match="does not exist"):
        header(FileBlob(tmp_path / "none.png"))
    told = PngImagePlugin.PngInfo()
    told.add_text("Raw profile type exif", "\nexif\n 2\nno digits")
    Image.fromarray(noise).save(tmp_path / "z.png", pnginfo=told)
    for look in (header, picture):
        with pytest.raises(PictureError, match=r"z\.png is damaged"):
            look(FileBlob(tmp_path / "z.png"))

"""PNGs carry their settings, readable by people, by web user interfaces and by `rerun`."""

import json
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin

from unicond.pictures import PictureError, parameters_text, read_picture, read_settings, write_png

SETTINGS = {
    "prompt": "a red ball — 球, “left” of\na blue box",
    "negative_prompt": "blurry",
    "seed": 7,
    "num_inference_steps": 20,
    "solver": "ddim",
    "guidance_scale": 3.0,
    "model": "mini, base",
    "branches": ["image", "depth"],
    "inputs": {"depth": {"path": "d.png", "sha256": "00"}},
    "eta": 0.1,
    "held": None,
}


@pytest.fixture
def made(tmp_path):
    picture = torch.linspace(-1, 1, 3 * 8 * 16).reshape(3, 8, 16)
    return write_png(picture, tmp_path / "new" / "a.png", SETTINGS)


def test_settings_come_back_as_they_were(made):
    assert read_settings(made) == SETTINGS
    assert [path.name for path in made.parent.iterdir()] == ["a.png"]
    expected = torch.linspace(-1, 1, 3 * 8 * 16).reshape(3, 8, 16)
    assert (read_picture(made) - expected).abs().max() <= 1 / 255 + 1e-6


def test_the_readable_text_is_as_web_interfaces_write_it(made):
    text = Image.open(made).info["parameters"]
    assert text.splitlines() == [
        "a red ball — 球, “left” of",
        "a blue box",
        "Negative prompt: blurry",
        "Steps: 20, Solver: ddim, CFG scale: 3.0, Seed: 7, Size: 16x8, "
        'Model: "mini, base", Eta: 0.1',
    ]
    assert parameters_text({}, (4, 2)) == "\nSize: 4x2"


def test_the_json_is_utf_8_in_an_international_chunk(made):
    chunks = dict(png_chunks(made.read_bytes()))
    keyword, text = chunks[b"iTXt:unicond"]
    assert keyword == b"unicond"
    content = json.loads(text.decode("utf-8"))
    assert content["format"] == 1
    assert "球".encode() in text


def png_chunks(data):
    at = 8
    while at < len(data):
        (length,), name = struct.unpack(">I", data[at : at + 4]), data[at + 4 : at + 8]
        body = data[at + 8 : at + 8 + length]
        if name == b"iTXt":
            keyword, rest = body.split(b"\0", 1)
            yield name + b":" + keyword, (keyword, rest[2:].split(b"\0", 2)[2])
        at += 12 + length


def test_pictures_without_settings_say_so(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "plain.png")
    Image.new("RGB", (4, 4)).save(tmp_path / "photo.jpg")
    Image.new("RGB", (4, 4)).save(tmp_path / "renamed.png", "JPEG")
    for name, message in {
        "plain.png": "holds no settings: `unicond inspect` and `rerun` need a PNG made by unicond",
        "photo.jpg": r"ends in .jpg, which is not read as a picture; convert it to one of .png",
        "renamed.png": "renamed.png is not a PNG, and only those hold settings",
        "gone.png": "does not exist",
    }.items():
        with pytest.raises(PictureError, match=message):
            read_settings(tmp_path / name)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "the settings in .*a.png are damaged: Expecting"),
        ("[1]", "damaged: they are no record of settings"),
        ('{"format": 1}', "damaged: they are no record of settings"),
        ('{"format": 2, "settings": {}}', "of format 2, this version reads 1; update unicond"),
    ],
)
def test_damaged_settings_are_refused(tmp_path, text, message):
    info = PngImagePlugin.PngInfo()
    info.add_itxt("unicond", text)
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png", pnginfo=info)
    with pytest.raises(PictureError, match=message):
        read_settings(tmp_path / "a.png")


def test_settings_behind_the_picture_are_found(made):
    data = made.read_bytes()
    at = data.index(b"iTXtunicond") - 4
    length = struct.unpack(">I", data[at : at + 4])[0] + 12
    end = len(data) - 12
    made.write_bytes(data[:at] + data[at + length : end] + data[at : at + length] + data[end:])
    assert read_settings(made) == SETTINGS


def test_truncated_pngs_and_wrong_settings_are_refused(made, tmp_path):
    cut = tmp_path / "cut.png"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    write_png(Image.fromarray(noise), cut, SETTINGS)
    cut.write_bytes(cut.read_bytes()[:6000])
    with pytest.raises(PictureError, match=r"cut.png is damaged or cut off"):
        read_settings(cut)
    for settings, kind in (({"a": torch.zeros(1)}, TypeError), ({"a": float("nan")}, ValueError)):
        with pytest.raises(kind):
            write_png(torch.zeros(3, 4, 4), tmp_path / "none.png", settings)
    assert not (tmp_path / "none.png").exists()
    assert zlib.crc32(made.read_bytes())  # the first file was left alone

"""Pictures from clients: 200 broken ones, and what is kept of good ones."""

import base64
import io
import time

import numpy as np
import pytest
from broken_pictures import BROKEN, DISGUISED, encoded
from PIL import Image, PngImagePlugin

from unicond.pictures.files import PictureError
from unicond.studio.settings import Limits
from unicond.studio.uploads import received, reencoded
from unicond.tasks.forms import Edit, Generate, Picture

LIMITS = Limits(pixels=256 * 256, side=1024)


def test_there_are_two_hundred():
    assert len(BROKEN) >= 200
    assert len({name for name, _ in BROKEN}) == len(BROKEN)


def test_broken_pictures_are_refused_with_a_reason():
    began = time.monotonic()
    for name, content in BROKEN:
        with pytest.raises(PictureError, match=r"^it "):
            pytest.fail(f"{name} was taken: {reencoded(content, 'it', LIMITS).size}")
    assert time.monotonic() - began < 60, "no picture takes long"


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_good_pictures_are_taken(kind, mode):
    found = reencoded(encoded(kind, mode), "it", LIMITS)
    assert found.size == (16, 24)
    with (
        Image.open(io.BytesIO(encoded(kind, mode))) as image,
        Image.open(io.BytesIO(found.png)) as kept,
    ):
        assert np.array_equal(np.asarray(image), np.asarray(kept))


def test_sixteen_bits_are_kept():
    values = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) * 16
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "PNG")
    with Image.open(io.BytesIO(reencoded(buffer.getvalue(), "it", LIMITS).png)) as kept:
        assert np.array_equal(np.asarray(kept), values)


def test_nothing_else_comes_along():
    """Text, profiles, EXIF and what stands behind the picture are left; EXIF has turned it."""
    text = PngImagePlugin.PngInfo()
    text.add_text("secret", "whisper")
    turned = Image.Exif()
    turned[0x0112] = 6
    turned[0x010E] = "whisper"
    content = encoded("PNG", pnginfo=text, exif=turned, icc_profile=b"whisper" * 9)
    found = reencoded(content + b"<script>whisper</script>", "it", LIMITS)
    assert found.size == (24, 16)
    assert b"whisper" not in found.png
    with Image.open(io.BytesIO(found.png)) as kept:
        assert not kept.info


def test_what_is_more_than_a_picture_is_only_that():
    for name, content in DISGUISED:
        assert b"whisper" in content
        found = reencoded(content, "it", LIMITS)
        assert found.size == (16, 24), name
        assert b"whisper" not in found.png, name


def test_pictures_of_a_form_are_numbered_in_its_order():
    one, two = encoded("PNG"), encoded("JPEG", size=(40, 40))
    text = base64.b64encode(two).decode()
    form = Generate(
        image=Picture(upload="../../etc/passwd"),
        mask={"image": Picture(base64=f"data:image/jpeg;base64,{text}")},
    )
    plain, stored = received(form, {"../../etc/passwd": one}, LIMITS)
    assert plain.image == Picture(upload="0.png")
    assert plain.mask == {"image": Picture(upload="1.png")}
    assert [picture.size for picture in stored] == [(16, 24), (40, 40)]


@pytest.mark.parametrize(
    ("picture", "sent", "message"),
    [
        (Picture(base64="?"), {}, "is not in base64"),
        (Picture(base64="aGVsbG8"), {}, "is not in base64"),
        (Picture(base64="aGVsbG8="), {}, "is not a picture"),
        (Picture(base64="ä"), {}, "is not in base64"),
        (Picture(upload="photo"), {}, "no such part was sent"),
        (Picture(upload="photo"), {"photo": b"", "more": b""}, "'more' is sent, but no picture"),
    ],
)
def test_pictures_that_are_not_there(picture, sent, message):
    with pytest.raises(PictureError, match=message):
        received(Edit(picture=picture, prompt="a dog"), sent, LIMITS)


def test_no_more_pictures_than_allowed():
    give = {f"b{n}": Picture(upload="one") for n in range(17)}
    with pytest.raises(PictureError, match="17 pictures are given, at most 16"):
        received(Generate(give=give), {"one": encoded("PNG")}, LIMITS)

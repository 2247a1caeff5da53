"""Pictures from clients: 200 broken ones, and what is kept of good ones."""

import base64
import io
import struct
import time
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from unicond.pictures.files import PictureError
from unicond.studio.settings import Limits
from unicond.studio.uploads import received, reencoded
from unicond.tasks.forms import Edit, Generate, Picture

LIMITS = Limits(pixels=256 * 256, side=1024)


def encoded(kind, mode="RGB", size=(24, 16), **options):
    values = np.random.default_rng(1).integers(0, 256, (size[1], size[0], 4), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(values).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(name, content):
    body = name + content
    return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))


def png(width, height, *chunks, depth=8, color=2):
    head = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + b"".join(chunks) + chunk(b"IEND", b"")


def truncated():
    for kind in ("PNG", "JPEG", "WEBP"):
        whole = encoded(kind)
        for part in range(15):
            yield f"{kind}-cut-{part}", whole[: len(whole) * part // 16]


def flipped():
    """Bytes changed where a PNG notices: in what its checksums cover."""
    whole = encoded("PNG")
    for n in range(30):
        place = 16 + (len(whole) - 30) * n // 30
        changed = bytearray(whole)
        changed[place] ^= 0xFF
        yield f"flipped-{place}", bytes(changed)


def bombs():
    for side in (1025, 5000, 20_000, 65_535, 2**31 - 1):
        content = zlib.compress(bytes(1000))
        yield f"wide-{side}", png(side, 1, chunk(b"IDAT", content))
        yield f"high-{side}", png(1, side, chunk(b"IDAT", content))
        yield f"square-{side}", png(side, side, chunk(b"IDAT", content))
    for width, height in ((300, 300), (1024, 70), (66, 1024), (1, 17), (17, 1)):
        yield f"large-{width}-{height}", encoded("PNG", size=(width, height))
    squeezed = zlib.compress(bytes(2**24), 9)
    yield "bomb-text", png(8, 8, chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2**27), 9)))
    yield "bomb-grey", png(60_000, 60_000, chunk(b"IDAT", squeezed), color=0)


def wrong():
    texts = [
        "",
        " ",
        "hello",
        "<svg xmlns='http://www.w3.org/2000/svg'><script>1</script></svg>",
        "<?xml version='1.0'?><!DOCTYPE a [<!ENTITY b SYSTEM 'file:///etc/passwd'>]><svg>&b;</svg>",
        "<html><img src=x></html>",
        "%PDF-1.7",
        "%!PS-Adobe-3.0 EPSF-3.0\n(/etc/passwd) (r) file",
        "push graphic-context\nimage over 0,0 0,0 'https://127.0.0.1/'",
        "../../../../etc/passwd",
        "P6 8 8 255 ",
        "#define x_width 8",
        "\x00" * 100,
        "RIFF\x10\x00\x00\x00WEBP",
        "\x89PNG\r\n\x1a\n",
        "GIF89a" + "\x00" * 40,
        "BM" + "\xff" * 60,
        "II*\x00\x08\x00\x00\x00",
        "#!/bin/sh\nid",
        "\x7fELF",
        "PK\x03\x04",
    ]
    yield from ((f"text-{n}", text.encode("latin-1")) for n, text in enumerate(texts))
    for kind in ("GIF", "BMP", "TIFF", "PPM", "ICO", "PCX", "TGA", "SGI", "PDF", "EPS", "JPEG2000"):
        yield f"kind-{kind}", encoded(kind)
    frames = [Image.new("RGB", (8, 8), (n, 0, 0)) for n in (0, 90)]
    for kind in ("PNG", "WEBP"):
        buffer = io.BytesIO()
        frames[0].save(buffer, kind, save_all=True, append_images=frames[1:])
        yield f"animated-{kind}", buffer.getvalue()


def chunks():
    good = zlib.compress(bytes(8 * 25))
    for depth in (0, 3, 5, 17, 32, 255):
        yield f"depth-{depth}", png(8, 8, chunk(b"IDAT", good), depth=depth)
    for color in (1, 5, 7, 255):
        yield f"color-{color}", png(8, 8, chunk(b"IDAT", good), color=color)
    yield "no-pixels", png(8, 8)
    yield "no-width", png(0, 8, chunk(b"IDAT", good))
    yield "no-height", png(8, 0, chunk(b"IDAT", good))
    yield "no-zlib", png(8, 8, chunk(b"IDAT", b"hello"))
    yield "few-pixels", png(8, 8, chunk(b"IDAT", zlib.compress(bytes(30))))
    for size in (2**31 - 1, 2**31, 2**32 - 1, 10**6):
        head = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", size) + b"IHDR"
        yield f"length-{size}", head + bytes(40)


def noise():
    source = np.random.default_rng(2)
    starts = [b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"RIFF\x40\x00\x00\x00WEBPVP8 ", b""]
    for n in range(56):
        yield f"noise-{n}", starts[n % 4] + source.bytes(20 + 30 * n)


BROKEN = [*truncated(), *flipped(), *bombs(), *wrong(), *chunks(), *noise()]


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

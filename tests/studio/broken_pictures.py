"""Pictures as no one should send them, each with a name: more than 200 that are none, and some that
are more than one.
"""

import io
import struct
import zipfile
import zlib

import numpy as np
from PIL import Image


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


def polyglots():
    """Files that another program reads as something else, and that begin as no picture does."""
    whole = encoded("PNG")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("a.png", whole)
    yield "zip-of-png", packed.getvalue()
    yield "gif-script", b"GIF89a/*" + bytes(40) + b"*/=1;alert(1)//" + whole
    yield "bmp-script", b"BM/*" + bytes(40) + b"*/=1;alert(1)//" + whole
    yield "html-png", b"<html><!--" + whole + b"--><script>alert(1)</script></html>"
    yield "pdf-png", b"%PDF-1.7\n1 0 obj<</Length 9>>stream\n" + whole + b"\nendstream endobj"
    yield "shell-png", b"#!/bin/sh\nid\nexit\n" + whole
    yield "svg-png", b"<svg xmlns='http://www.w3.org/2000/svg'><!--" + whole + b"--></svg>"
    yield "png-tail-first", whole[8:] + whole[:8]
    yield "jpeg-in-png", whole[:8] + encoded("JPEG")
    yield "png-in-jpeg", b"\xff\xd8\xff\xe0" + whole


def disguised():
    """Good pictures with something else in them or behind them, as `whisper`."""
    script = b"<script>whisper</script>"
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("whisper", script)
    for kind in ("PNG", "JPEG", "WEBP"):
        yield f"{kind}-script", encoded(kind) + script
        yield f"{kind}-zip", encoded(kind) + packed.getvalue()
        yield f"{kind}-pdf", encoded(kind) + b"%PDF-1.7\n" + script
    yield "JPEG-comment", encoded("JPEG", comment=script)
    whole = encoded("PNG")
    yield "PNG-text", whole[:33] + chunk(b"tEXt", b"a\0" + script) + whole[33:]
    yield "PNG-own", whole[:33] + chunk(b"whIs", script) + whole[33:]


BROKEN = [*truncated(), *flipped(), *bombs(), *wrong(), *chunks(), *noise(), *polyglots()]
DISGUISED = [*disguised()]

"""Every kind of picture comes in as (3, H, W) in [-1, 1], or with a message that helps."""

import io
import tracemalloc

import numpy as np
import pytest
import torch
from PIL import Image

from unicond.pictures import PictureError, decoding, read_picture, to_pil

LEVEL = 2 / 255


def photo(width=24, height=16):
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 9, y * 12, (x + y) * 5], -1).astype(np.uint8)


def as_picture(array):
    return torch.from_numpy(array.astype(np.float32)).permute(2, 0, 1) / 127.5 - 1


def encoded(image, format, **options):
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "tolerance"),
    [("a.png", 0), ("a.bmp", 0), ("a.tiff", 0), ("a.ppm", 0), ("a.jpg", 0.3), ("a.webp", 0.3)],
)
def test_a_file_is_read(tmp_path, name, tolerance):
    Image.fromarray(photo()).save(tmp_path / name)
    picture = read_picture(tmp_path / name)
    assert (picture.shape, picture.dtype) == ((3, 16, 24), torch.float32)
    torch.testing.assert_close(picture, as_picture(photo()), atol=tolerance + 1e-6, rtol=0)


def test_path_pil_array_and_tensor_agree(tmp_path):
    image = Image.fromarray(photo())
    image.save(tmp_path / "a.png")
    expected = as_picture(photo())
    sources = [str(tmp_path / "a.png"), image, photo(), photo() / 255.0, expected, expected[None]]
    sources.append(torch.from_numpy(photo()).permute(2, 0, 1))
    for source in sources:
        torch.testing.assert_close(read_picture(source), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "LAB", "HSV", "P", "RGBA", "RGBX"])
def test_colour_modes_become_rgb(mode):
    plain = Image.new("RGB", (8, 8), (200, 60, 40))
    if mode == "LAB":
        image = Image.new("LAB", (8, 8), (130, 180, 170))
        expected = torch.tensor(image.convert("RGB").getpixel((0, 0)))
    else:
        image = plain.convert(mode, palette=Image.Palette.ADAPTIVE)
        expected = torch.tensor([200, 60, 40])
    levels = (read_picture(image)[:, 4, 4] + 1) * 127.5
    assert (levels - expected).abs().max() <= 6  # HSV and YCbCr round


def test_grey_of_every_depth():
    ramp = np.linspace(0, 1, 24)[None].repeat(8, 0)
    sixteen = (ramp * 65535).round().astype(np.uint16)
    expected = torch.from_numpy(ramp * 2 - 1).float().expand(3, -1, -1)
    for image in [
        Image.fromarray(sixteen),
        Image.fromarray(sixteen.astype(np.int32)),
        Image.fromarray(ramp.astype(np.float32)),
    ]:
        again = Image.open(io.BytesIO(encoded(image, "TIFF")))
        assert again.mode == image.mode
        torch.testing.assert_close(read_picture(again), expected, atol=1e-4, rtol=0)
    assert read_picture(Image.fromarray(sixteen)).unique().numel() == 24
    bits = Image.fromarray(ramp > 0.5)
    assert bits.mode == "1"
    assert torch.equal(read_picture(bits), torch.where(expected > 0, 1.0, -1.0))


def test_transparency_shows_the_background():
    rgba = np.zeros((4, 6, 4), np.uint8)
    rgba[:, 2:, 0] = 255
    rgba[:, 2:4, 3], rgba[:, 4:, 3] = 128, 255
    picture = read_picture(Image.fromarray(rgba))
    assert torch.equal(picture[:, :, :2], torch.ones(3, 4, 2))
    assert picture[1, 0, 2].item() == pytest.approx(-1 + 2 * 127 / 255, abs=LEVEL / 2)
    assert torch.equal(picture[:, 0, 5], torch.tensor([1.0, -1.0, -1.0]))
    assert read_picture(rgba, background=(0, 0, 1))[:, 0, 0].tolist() == [-1, -1, 1]
    palette = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
    palette.putpalette([0, 0, 0, 10, 20, 30])
    hole = Image.open(io.BytesIO(encoded(palette, "PNG", transparency=0)))
    assert torch.equal(read_picture(hole)[:, 0, 0], torch.ones(3))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, orientation):
    upright = np.full((32, 48, 3), 255, np.uint8)
    upright[:16, :16] = 0  # black in the upper left corner
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # Image.Transpose that the camera did
    image = Image.fromarray(upright)
    stored = image.transpose(Image.Transpose(undo[orientation])) if orientation > 1 else image
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "a.jpg", exif=exif, quality=95)
    picture = read_picture(tmp_path / "a.jpg")
    assert picture.shape == (3, 32, 48)
    torch.testing.assert_close(picture, as_picture(upright), atol=0.2, rtol=0)


def test_a_photo_with_previews_is_its_first_frame(tmp_path):
    first, preview = Image.fromarray(photo()), Image.new("RGB", (24, 16))
    first.save(tmp_path / "a.mpo", save_all=True, append_images=[preview], quality=95)
    assert (read_picture(tmp_path / "a.mpo") - as_picture(photo())).abs().mean() < 0.05


def test_a_photo_of_30_megapixels_is_reduced_and_memory_is_not_exhausted(tmp_path):
    large = Image.fromarray(photo()).resize((6400, 4800), Image.Resampling.NEAREST)
    for name in ("a.jpg", "a.png"):
        large.save(tmp_path / name, quality=75, compress_level=1)
        tracemalloc.start()  # sees numpy's arrays; as floats, 30 million pixels are 370 MB
        assert read_picture(tmp_path / name).shape == (3, 1536, 2048)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 150e6
    assert read_picture(tmp_path / "a.jpg", max_side=100).shape == (3, 75, 100)


def test_reducing_averages(tmp_path):
    checker = (np.indices((512, 512)).sum(0) % 2 * 255).astype(np.uint8)
    Image.fromarray(checker).save(tmp_path / "a.png")
    assert read_picture(tmp_path / "a.png", max_side=64).abs().max() < 0.02


def test_what_is_no_picture_is_refused(tmp_path):
    Image.fromarray(photo()).save(tmp_path / "lighthouse.png")
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "empty.png").touch()
    (tmp_path / "drawing.svg").write_text("<svg/>")
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"
    (tmp_path / "program.png").write_bytes(postscript)
    for name, message in {
        "lighthose.png": "does not exist; did you mean lighthouse.png",
        "zzzzzz": "nothing in .* has a name like it",
        "there/a.png": "does not exist; neither does its folder .*there",
        "text.png": "text.png is not a picture: its content is none of PNG, JPEG",
        "program.png": "is not a picture",
        "empty.png": "is empty \\(0 bytes\\)",
        "drawing.svg": r"ends in .svg, .* convert it to one of .png .jpg",
        "": r"is a folder; give one picture file \(4 are inside, for example empty.png\)",
        "a" * 5000: r"does not exist",
    }.items():
        with pytest.raises(PictureError, match=message):
            read_picture(tmp_path / name)
    with pytest.raises(PictureError, match="is not a plain file"):
        read_picture("/dev/null")
    with pytest.raises(TypeError, match="a path, a PIL image, a numpy array or a tensor, not int"):
        read_picture(7)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF"])
@pytest.mark.parametrize("share", [0.3, 0.6])
def test_truncated_files_are_refused(tmp_path, format, share):
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8))
    whole = encoded(noise, format)
    path = tmp_path / f"a.{format.lower()}"
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(PictureError, match=r"damaged or cut off|is not a picture"):
        read_picture(path)
    if format in ("PNG", "JPEG"):  # the others fail when PIL opens them
        with Image.open(path) as image, pytest.raises(PictureError, match="the PIL image is dam"):
            read_picture(image)


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG", "TIFF"])
def test_animations_are_refused(tmp_path, format):
    frames = [Image.fromarray(np.roll(photo(), n, 0)) for n in range(5)]
    path = tmp_path / f"a.{format.lower()}"
    frames[0].save(path, format, save_all=True, append_images=frames[1:])
    with pytest.raises(PictureError, match=r"has 5 frames .* export the one you mean, of 0 to 4"):
        read_picture(path)
    with pytest.raises(PictureError, match="has 5 frames"), Image.open(path) as image:
        read_picture(image)


def test_sizes_out_of_range_are_refused(tmp_path, monkeypatch):
    with pytest.raises(PictureError, match=r"the PIL image has no pixels \(height 5, width 0\)"):
        read_picture(Image.new("RGB", (0, 5)))
    for source in (np.zeros((0, 5, 3), np.uint8), torch.zeros(3, 0, 5)):
        with pytest.raises(PictureError, match=r"has shape \(.*0, 5.*\): it has no pixels"):
            read_picture(source)
    Image.new("1", (20_000, 10_000)).save(tmp_path / "bomb.png")  # 200 million in 25 kB
    with pytest.raises(PictureError, match=r"bomb.png is too large: .*200000000 pixels"):
        read_picture(tmp_path / "bomb.png")
    monkeypatch.setattr(decoding, "MAX_PIXELS", 1_000_000)
    Image.new("1", (2000, 1000)).save(tmp_path / "big.png")
    with pytest.raises(PictureError, match="has 2 million pixels; at most 1 million are read"):
        read_picture(tmp_path / "big.png")


def test_a_hundred_million_pixels_are_read_without_a_warning(tmp_path, recwarn):
    Image.new("1", (12_500, 8_000)).save(tmp_path / "wide.png")
    assert read_picture(tmp_path / "wide.png", max_side=64).shape == (3, 41, 64)
    assert not recwarn.list


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (np.zeros((4, 4, 2), np.uint8), r"shape \(4, 4, 2\); a picture is"),
        (np.zeros((3, 4, 9), np.uint8), "channels last"),
        (np.zeros((4, 4), np.int64), "of int64; give uint8"),
        (np.full((4, 4), 300.0), r"lie in \[300, 300\]; they must lie in \[0, 1\]"),
        (np.full((4, 4), np.nan), "not finite"),
        (np.array([[0.0, np.inf]]), "not finite"),
        (torch.zeros(2, 3, 4, 4), r"shape \(2, 3, 4, 4\); one picture is"),
        (torch.full((3, 4, 4), 200.0), r"they must lie in \[-1, 1\]"),
        (torch.full((3, 4, 4), torch.nan), "not finite"),
        (torch.zeros(3, 4, 4, dtype=torch.int64), "of torch.int64; give floats"),
        (Image.fromarray(np.full((4, 4), 900, np.float32)), r"must lie in \[0, 1\]"),
    ],
)
def test_bad_values_are_refused(source, message):
    with pytest.raises(PictureError, match=message):
        read_picture(source)


def test_to_pil_and_back_is_exact():
    levels = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    assert np.array_equal(np.asarray(to_pil(read_picture(levels))), levels)
    beyond = torch.full((3, 2, 2), 1.4)
    assert to_pil(beyond).getpixel((0, 0)) == (255, 255, 255)
    with pytest.raises(PictureError, match="not finite; it is not saved"):
        to_pil(torch.full((3, 2, 2), torch.nan))
    with pytest.raises(PictureError, match=r"shape \(1, 3, 2, 2\); give \(3, H, W\)"):
        to_pil(beyond[None])

"""What a call makes of what it is given, before anything runs: masks in latents, sizes, colours."""

import json
import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

import unicond
from unicond.adapters.joint import JointAdapter
from unicond.calls.inputs import read_inputs
from unicond.pictures import PictureError, read_depth, read_picture

SIDE, LATENTS = 64, 8


@pytest.fixture
def picture():
    return torch.rand(3, SIDE, SIDE, generator=torch.Generator().manual_seed(1)) * 2 - 1


def enlarged(latents, factor=8):
    return latents.repeat_interleave(factor, -2).repeat_interleave(factor, -1)


def on_latents(tiny, picture, mask, **options):
    """The mask that a run takes, (h, w); any warning is an error."""
    given = {"image": unicond.given(picture, mask=mask, **options)}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return read_inputs(given, {}, None, tiny.backbone).masks["image"][0, 0]


@pytest.mark.parametrize("levels", [2, 11])
def test_masks_of_whole_blocks_are_themselves(tiny, picture, levels):
    """Binary or grey, also drawn over a picture that is larger than the run."""
    generator = torch.Generator().manual_seed(levels)
    latents = torch.randint(levels, (LATENTS, LATENTS), generator=generator) / (levels - 1)
    assert torch.equal(on_latents(tiny, picture, enlarged(latents)), latents)
    large = functional.interpolate(picture[None], scale_factor=4)[0]
    assert torch.equal(on_latents(tiny, large, enlarged(latents, 32)), latents)
    assert torch.equal(on_latents(tiny, large, enlarged(latents)), latents)
    turned = on_latents(tiny, picture, enlarged(latents), invert=True)
    torch.testing.assert_close(turned, 1 - latents)


def test_a_latent_is_known_where_at_least_half_of_its_pixels_are(tiny, picture):
    """Wherever in it they are; of more than two values it takes the middle one."""
    generator = torch.Generator().manual_seed(3)
    mask = enlarged(torch.eye(LATENTS))
    for column, count in enumerate((31, 32)):
        block = torch.zeros(64)
        block[torch.randperm(64, generator=generator)[:count]] = 1.0
        mask[:8, 8 * column : 8 * column + 8] = block.reshape(8, 8)
    mask[-8:, :8] = 0.25
    mask[-8:, 2:4] = 0.0
    seen = on_latents(tiny, picture, mask)
    assert seen[0, :2].tolist() == [0, 1]
    assert seen[-1, 0] == 0.25
    assert torch.equal(seen[1:-1], torch.eye(LATENTS)[1:-1])


def test_a_slope_of_grey_stays_one(tiny, picture):
    slope = torch.arange(SIDE) / (SIDE - 1)
    seen = on_latents(tiny, picture, slope.expand(SIDE, SIDE))
    torch.testing.assert_close(seen[0], slope[4::8])
    assert torch.equal(seen, seen[:1].expand(LATENTS, LATENTS))
    binary = on_latents(tiny, picture, slope.expand(SIDE, SIDE), threshold=0.5)
    assert binary[0].tolist() == [0] * 4 + [1] * 4


def told(tiny, picture, mask, **options):
    """The one warning of a call, and what it is of."""
    with pytest.warns(UserWarning, match="the mask of 'image': ") as found:
        tiny(image=unicond.given(picture, mask=mask, **options), branches=["image"])
    assert [one.filename for one in found] == [__file__]
    return str(found[0].message)


def test_points_that_no_latent_can_hold_are_told(tiny, picture):
    """At a part that is known well, far from it; in the picture's own pixels where it is larger."""
    mask = torch.zeros(SIDE, SIDE)
    mask[:, :16] = 1
    mask[20, 40] = mask[45, 57] = 1
    said = told(tiny, picture, mask)
    assert "2 of its 1026 known pixels lie in latents of which less than half is known" in said
    assert "free pixels" not in said
    assert "(of 64 x 64 pixels): a latent is 8 pixels wide; draw points and lines" in said
    large = functional.interpolate(picture[None], scale_factor=4)[0]
    points = torch.zeros(256, 256)
    points[:, :64] = 1
    points[10::16, 170::16] = 1  # every 4th of 64 pixels: none of them is where `nearest` looks
    said = told(tiny, large, points)
    assert "96 of its 16480 known pixels" in said
    assert "(of 256 x 256 pixels): a latent is 32 pixels wide" in said


def test_a_thin_hole_that_no_latent_can_hold_is_told(tiny, picture):
    """A scratch, beside a hole that is made; also in an inpainting file of another tool's."""
    mask = torch.ones(SIDE, SIDE)
    mask[:24, :24] = 0
    mask[50:53, 30:] = 0
    for options in ({"mask": mask}, {"mask": 1 - mask, "invert": True}):
        said = told(tiny, picture, **options)
        assert "102 of its 678 free pixels lie in latents of which half or more is known" in said
        assert "known pixels" not in said


def test_scattered_pixels_are_told(tiny, picture):
    mask = torch.rand(SIDE, SIDE, generator=torch.Generator().manual_seed(2)).round()
    said = told(tiny, picture, mask)
    assert "known pixels lie" in said
    assert "free pixels lie" in said


def test_a_mask_of_points_alone_is_refused(tiny, picture):
    """The same for a hole of one pixel: nothing would be made."""
    point = torch.zeros(SIDE, SIDE)
    point[4, 4] = 1  # where `nearest` looks
    known = read_refusal(tiny, picture, point)
    assert "knows nothing: a latent is 8 pixels wide; draw what is known larger" in known
    free = read_refusal(tiny, picture, 1 - point)
    assert "knows everything: a latent is 8 pixels wide; draw what is free larger" in free


def read_refusal(tiny, picture, mask):
    with pytest.raises(PictureError, match="at the latents' size, ") as found:
        on_latents(tiny, picture, mask)
    return str(found.value)


def test_edges_that_latents_round_are_not_told(tiny, picture):
    y, x = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    disc = ((y - 30) ** 2 + (x - 35) ** 2 < 15**2).float()
    for mask in (disc, 1 - disc, (y > x).float()):
        seen = on_latents(tiny, picture, mask)
        assert set(seen.unique().tolist()) == {0, 1}


def sized(height, width):
    return torch.rand(3, height, width, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_one_view_in_other_proportions_is_refused(tiny):
    """Each would be cropped by itself; another picture of the same things is no such view."""
    wide, square = sized(64, 96), sized(64, 64)
    left = torch.zeros(64, 96)
    left[:, :48] = 1
    part = unicond.given(wide, mask=left)
    said = "'image' has height 64, width 96, but 'depth' 64, 64: they show one view, .*crop them"
    for size in (None, 64):
        with pytest.raises(ValueError, match=said):
            tiny.prepare(depth=square, image=part, size=size)
    lists = {"image": [square, wide], "depth": [square, sized(32, 32)]}
    with pytest.raises(ValueError, match="'image' has height 64, width 96, but 'depth' 32, 32"):
        tiny.prepare(**lists)
    both = unicond.given(wide, fit="pad")
    with pytest.raises(ValueError, match="they show one view"):
        tiny.prepare(image=both, depth=square)
    assert tiny.prepare(image=wide, id=square).inputs.size == (48, 80)
    assert tiny.prepare(image=wide, depth=sized(65, 96)).inputs.size == (48, 80)
    assert tiny.prepare(image=wide, depth=sized(128, 192)).inputs.size == (48, 80)


def test_pictures_of_other_proportions_do_not_share_a_mask(tiny):
    """It would be cropped as the first one is."""
    wide, tall, left = sized(64, 96), sized(96, 64), torch.zeros(64, 96)
    left[:, :48] = 1
    said = "'image' has one mask for 2 pictures, but the first has height 64, width 96, and number"
    for fit in ("crop", "pad"):
        part = unicond.given([wide, tall], mask=left, fit=fit)
        with pytest.raises(PictureError, match=f"{said} 2 96, 64: .*crop them alike first"):
            tiny.prepare(image=part, branches=["image"])
    for pictures, fit in (([wide, sized(128, 192)], "crop"), ([wide, tall], "stretch")):
        part = unicond.given(pictures, mask=left, fit=fit)
        assert len(tiny.prepare(image=part, branches=["image"]).record.seeds) == 2


def test_maps_of_one_view_are_compared_without_an_image(tiny):
    given = {"depth": unicond.given(sized(64, 64)), "pose": unicond.given(sized(96, 64))}
    with pytest.raises(PictureError, match="'depth' has height 64, width 64, but 'pose' 96, 64"):
        read_inputs(given, {}, None, tiny.backbone, ["depth", "pose"])
    read_inputs(given, {}, None, tiny.backbone, ["depth"])


@pytest.mark.parametrize("fit", ["stretch", "keep"])
def test_a_picture_that_is_not_cropped_may_have_been_made_for_the_run(tiny, fit):
    """Stretched it shows the whole view; at the run's own size it is used as it is."""
    depth = unicond.given(sized(64, 64), fit=fit)
    call = tiny.prepare(image=sized(64, 96), depth=depth, size=64)
    assert torch.equal(call.inputs.pictures["depth"][0], sized(64, 64))


def test_the_size_does_not_depend_on_the_order_of_what_is_given(tiny):
    """It is the image's, or else that of the first branch in the model's order."""
    image, depth, other = sized(64, 96), sized(64, 96), sized(128, 64)
    for given in ({"id": other, "image": image}, {"image": image, "id": other}):
        assert tiny.prepare(**given).inputs.size == (48, 80)
    for given in ({"id": other, "depth": depth}, {"depth": depth, "id": other}):
        assert tiny.prepare(**given).inputs.size == (48, 80)
    assert tiny.prepare(id=other).inputs.size == (96, 48)


def picture_file(folder, mode):
    """A picture of colours, as a file of a mode."""
    path = folder / f"given_{mode.replace(';', '_')}.png"
    levels = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    if mode == "I;16":
        Image.fromarray(levels[..., 0].astype(np.uint16) * 257).save(path)
    else:
        Image.fromarray(levels).convert(mode).save(path)
    with Image.open(path) as image:
        assert image.mode == mode
    return path


def read(tiny, source, kind):
    return read_inputs({"map": unicond.given(source)}, {"map": kind}, None, tiny.backbone)


@pytest.mark.parametrize("kind", ["pose", "segmentation", "normals"])
@pytest.mark.parametrize("mode", ["L", "LA", "P", "1", "I;16"])
def test_kinds_that_speak_in_colours_take_no_grey_picture(tiny, tmp_path, kind, mode):
    """With the words of a dataset's check, for files and PIL images, also one of several."""
    path = picture_file(tmp_path, mode)
    with pytest.raises(PictureError, match=f"given_.*png is of mode {mode}, not RGB: what its"):
        read(tiny, str(path), kind)
    fine = picture_file(tmp_path, "RGB")
    with Image.open(path) as image, pytest.raises(PictureError, match=f"image of {kind} is of mod"):
        read(tiny, [fine, image], kind)


@pytest.mark.parametrize(
    ("kind", "modes"),
    [
        ("pose", ["RGB", "RGBA"]),
        ("depth", ["L", "I;16", "RGB"]),
        ("softedge", ["L", "P", "RGB"]),
        ("appearance", ["L", "P"]),
        ("a kind of one's own", ["L", "P", "RGBA"]),
    ],
)
def test_other_kinds_and_pictures_of_colours_are_read_as_they_were(tiny, tmp_path, kind, modes):
    for mode in modes:
        path = picture_file(tmp_path, mode)
        if kind == "depth" and mode == "RGB":
            Image.fromarray(np.tile(np.arange(64, dtype=np.uint8), (64, 1))).convert(mode).save(
                path
            )
        seen = read(tiny, path, kind).pictures["map"][0]
        expected = read_depth(path) if kind == "depth" else read_picture(path)
        assert torch.equal(seen, expected)


def test_the_image_may_be_grey_and_arrays_are_what_they_are(tiny, tmp_path):
    path = picture_file(tmp_path, "L")
    grey = read_inputs({"image": unicond.given(path)}, {}, None, tiny.backbone).pictures["image"]
    assert torch.equal(grey[0, 0], grey[0, 2])
    assert read(tiny, np.asarray(Image.open(picture_file(tmp_path, "RGB"))), "pose").size == (
        64,
        64,
    )


def test_what_a_branch_shows_counts_whatever_it_is_called(tiny, tmp_path):
    """Through the public call, and a task."""
    folder = tmp_path / "classes"
    JointAdapter.from_pretrained(tiny.adapters["depth"].source).save_pretrained(folder)
    (config,) = folder.glob("*.json")
    config.write_text(json.dumps({**json.loads(config.read_text()), "kind": "segmentation"}))
    model = unicond.load(tiny.backbone.name, {"classes": folder})
    with pytest.raises(ValueError, match="is of mode P, not RGB"):
        model("a dog", classes=str(picture_file(tmp_path, "P")))
    conditions = {"classes": str(picture_file(tmp_path, "L"))}
    with pytest.raises(ValueError, match="is of mode L, not RGB"):
        unicond.generate(model, "a dog", conditions=conditions)

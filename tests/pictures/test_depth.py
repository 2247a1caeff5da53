"""Depth maps of every kind become the same picture: near is white, what has no depth is black."""

import os

import numpy as np
import pytest
import torch
from PIL import Image

from unicond.pictures import PictureError, read_depth, read_depth_map, write_depth


def scene(height=12, width=20):
    """Metres (H, W): a ground from 2 m below to 10 m at the horizon, 0 above it."""
    near = np.linspace(-0.2, 0.5, height)[:, None].repeat(width, 1)
    return np.where(near > 0.1, 1 / np.maximum(near, 0.1), 0).astype(np.float32)


def drawn(metres):
    near = np.where(metres > 0, 1 / np.where(metres > 0, metres, 1), np.inf)
    low, high = near.min(), near[np.isfinite(near)].max()
    share = np.where(np.isfinite(near), (near - low) / (high - low), 0)
    return torch.from_numpy(share * 2 - 1).float().expand(3, -1, -1)


def levels(picture, full, dtype):
    return ((picture[0].numpy() + 1) / 2 * full).round().astype(dtype)


def test_all_kinds_of_files_agree(tmp_path):
    metres = scene()
    expected = drawn(metres)
    eight, sixteen = levels(expected, 255, np.uint8), levels(expected, 65535, np.uint16)
    Image.fromarray(eight).save(tmp_path / "eight.png")
    Image.fromarray(sixteen).save(tmp_path / "sixteen.png")
    Image.fromarray(255 - eight).convert("P").save(tmp_path / "turned.png")
    Image.fromarray(np.where(metres > 0, metres * 1000, 0).astype(np.uint16)).save(
        tmp_path / "millimetres.png"
    )
    Image.fromarray(metres).save(tmp_path / "metres.tiff")
    np.save(tmp_path / "metres.npy", np.where(metres > 0, metres, np.nan)[None])
    np.savez(tmp_path / "two.npz", depth=np.where(metres > 0, metres, np.inf), other=metres)
    np.savez(tmp_path / "one.npz", metres.astype(np.float64))
    for name, kind, tolerance in [
        ("eight.png", "near-white", 2 / 255),
        ("sixteen.png", "near-white", 1e-4),
        ("turned.png", "near-black", 2 / 255),
        ("millimetres.png", "metric", 2e-3),
        ("metres.tiff", "metric", 1e-5),
        ("metres.npy", "metric", 1e-5),
        ("two.npz", "metric", 1e-5),
        ("one.npz", "metric", 1e-5),
    ]:
        picture = read_depth(tmp_path / name, kind)
        assert picture.dtype == torch.float32
        torch.testing.assert_close(picture, expected, atol=tolerance, rtol=0, msg=name)


def test_arrays_and_tensors_are_depths():
    metres = scene()
    for source in (metres, torch.from_numpy(metres)[None], metres[..., None].astype(np.float16)):
        torch.testing.assert_close(read_depth(source, "metric"), drawn(metres), atol=5e-3, rtol=0)
    signed = np.array([[-3.0, 0.0, 5.0]])  # estimators' disparity has no fixed scale
    torch.testing.assert_close(read_depth(signed)[0], torch.tensor([[-1.0, -0.25, 1.0]]))


def test_transparent_pixels_have_no_depth():
    grey = np.full((6, 6), 90, np.uint8)
    grey[3:], grey[5:] = 150, 210
    alpha = np.where(np.arange(6)[:, None] < 2, 0, 255).repeat(6, 1).astype(np.uint8)
    depth = read_depth_map(Image.fromarray(np.dstack([grey, grey, grey, alpha])))
    assert depth.valid[:, 0].tolist() == [False] * 2 + [True] * 4
    torch.testing.assert_close(
        depth.picture[0, :, 0], torch.tensor([-1.0, -1.0, -1.0, 0.0, 0.0, 1.0])
    )


def test_a_flat_shape_before_nothing_is_near():
    shape = np.zeros((4, 4), np.float32)
    shape[1:, 1:3] = 3.0
    expected = torch.from_numpy(np.where(shape > 0, 1.0, -1.0)).float().expand(3, -1, -1)
    assert torch.equal(read_depth(shape, "metric"), expected)
    assert torch.equal(read_depth(Image.fromarray(shape > 0)), expected)


def test_a_border_is_kept_and_reported():
    inside = levels(drawn(scene()), 255, np.uint8)
    framed = np.pad(inside, 5, constant_values=77)
    depth = read_depth_map(Image.fromarray(framed))
    assert depth.border == 5
    assert depth.picture.shape == (3, 22, 30)
    assert depth.picture[0, 0].unique().tolist() == pytest.approx([77 / 255 * 2 - 1], abs=1e-6)
    assert read_depth_map(Image.fromarray(inside)).border == 0


def test_a_large_map_is_reduced_without_new_depths(tmp_path):
    metres = np.where(np.arange(3000)[None] % 7 < 3, 0, 4000 + np.arange(100)[:, None])
    Image.fromarray(metres.astype(np.uint16)).save(tmp_path / "a.png")
    depth = read_depth_map(tmp_path / "a.png", "metric", max_side=600)
    assert depth.picture.shape == (3, 20, 600)
    assert 0.5 < depth.valid.float().mean() < 0.65
    assert depth.picture[0][depth.valid].unique().numel() == 20


def test_coloured_pictures_are_refused():
    grey = levels(drawn(scene(64, 64)), 255, np.uint8)
    ramp = np.dstack([grey, 255 - grey, np.full_like(grey, 128)])
    with pytest.raises(PictureError, match=r"\d+% of the depth map's pixels are coloured.*as grey"):
        read_depth(ramp)
    warm = np.dstack([np.clip(grey.astype(int) + shift, 0, 255) for shift in (9, 0, -9)])
    assert read_depth(warm.astype(np.uint8)).shape == (3, 64, 64)  # as scanned or compressed


class Trap:
    """What a malicious file holds: code that runs when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_pickles_are_refused_and_not_run(tmp_path):
    trap = np.array([Trap(tmp_path / "sprung")], dtype=object)
    np.save(tmp_path / "a.npy", trap, allow_pickle=True)
    np.savez(tmp_path / "a.npz", depth=trap)
    for name in ("a.npy", "a.npz"):
        with pytest.raises(
            PictureError, match=r"holds Python objects \(a pickle, which could run code\)"
        ):
            read_depth(tmp_path / name)
    assert not (tmp_path / "sprung").exists()
    whole = tmp_path / "b.npy"
    np.save(whole, scene())
    (tmp_path / "cut.npy").write_bytes(whole.read_bytes()[:300])
    (tmp_path / "text.npy").write_text("no array")
    for name in ("cut.npy", "text.npy"):
        with pytest.raises(PictureError, match=rf"{name} is damaged, or|no array at all"):
            read_depth(tmp_path / name)


def test_bad_maps_are_refused(tmp_path):
    metres = scene()
    np.savez(tmp_path / "a.npz", left=metres, right=metres)
    for source, kind, message in [
        (np.full((4, 4), 7, np.uint8), "near-white", "constant: it says nothing"),
        (np.full((4, 4), 2.0), "metric", "constant"),
        (np.zeros((4, 4)), "metric", "no pixel with a depth"),
        (np.full((4, 4), np.nan), "near-white", "no pixel with a depth"),
        (np.zeros((4, 4, 4), np.uint8), "near-white", "no pixel with a depth"),
        (metres - 9, "metric", "negative distances .*mark pixels without depth by 0 or NaN"),
        (np.zeros((5, 4, 4)), "metric", r"shape \(5, 4, 4\) of float64; give numbers \(H, W\)"),
        (np.zeros((4, 4), complex), "metric", "complex128"),
        (np.zeros((0, 4)), "metric", r"shape \(0, 4\)"),
        (tmp_path / "a.npz", "metric", "holds the arrays left, right; name one of them depth"),
        (tmp_path / "b.npz", "metric", "does not exist; did you mean a.npz"),
    ]:
        with pytest.raises(PictureError, match=message):
            read_depth(source, kind)
    with pytest.raises(ValueError, match="depth kind 'far' is not known; choose one of"):
        read_depth(metres, "far")


def test_written_depth_is_read_back(tmp_path):
    depth = torch.rand(9, 13, generator=torch.Generator().manual_seed(0))
    depth[0, 0], depth[0, 1] = 0, 1
    png, npy = write_depth(depth, tmp_path / "out" / "depth.png")
    assert Image.open(png).mode == "I;16"
    assert np.array_equal(np.load(npy, allow_pickle=False), depth.numpy())
    torch.testing.assert_close(read_depth(png)[0], depth * 2 - 1, atol=2e-5, rtol=0)
    assert torch.equal(read_depth(npy)[0], depth * 2 - 1)
    assert sorted(p.name for p in png.parent.iterdir()) == ["depth.npy", "depth.png"]
    with pytest.raises(PictureError, match=r"not finite; .*bad.png is not written"):
        write_depth(depth / 0, tmp_path / "bad.png")
    with pytest.raises(ValueError, match=r"\(1, 9, 13\), file .*: give \(H, W\)"):
        write_depth(depth[None], tmp_path / "bad.png")

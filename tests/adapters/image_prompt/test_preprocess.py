"""Pictures for an image encoder: known values, and transformers' own processor."""

import json

import pytest
import torch
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from unicond.adapters.image_prompt.preprocess import FILE, Preprocess


def picture(height, width, seed=0):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randint(256, (3, height, width), generator=generator, dtype=torch.uint8)
    return values, values / 127.5 - 1


def test_known_values():
    """A picture of the right size is only normalised; of 255, 0 and 127 in a channel each."""
    bytes_ = torch.tensor([255, 0, 127])
    flat = (bytes_ / 127.5 - 1).view(3, 1, 1).expand(3, 224, 224)
    found = Preprocess()(flat)
    wanted = torch.tensor(
        [
            (1 - 0.48145466) / 0.26862954,
            -0.4578275 / 0.26130258,
            (127 / 255 - 0.40821073) / 0.27577711,
        ]
    )
    torch.testing.assert_close(found, wanted.view(3, 1, 1).expand(3, 224, 224))


def test_the_middle_is_seen():
    """A wide picture of columns 0, 1, 2, ..., 9: of 4 x 10 the middle 4 columns."""
    columns = torch.arange(10.0).expand(3, 4, 10) / 127.5 - 1
    plain = {"mean": (0.0,) * 3, "std": (1.0,) * 3}
    found = Preprocess(size=4, crop=4, **plain)(columns)
    torch.testing.assert_close(found, torch.arange(3.0, 7.0).expand(3, 4, 4) / 255)
    found = Preprocess(size=4, crop=2, **plain)(columns)
    torch.testing.assert_close(found, torch.arange(4.0, 6.0).expand(3, 2, 2) / 255)


@pytest.mark.parametrize("size", [(224, 224), (300, 417), (61, 40), (224, 999)])
@pytest.mark.parametrize("shape", [(224, 224), (64, 56)])
def test_numbers_are_transformers(size, shape):
    values, given = picture(*size)
    short, crop = shape
    theirs = CLIPImageProcessorPil(
        size={"shortest_edge": short}, crop_size={"height": crop, "width": crop}
    )
    image = values.permute(1, 2, 0).numpy()
    wanted = theirs(image, return_tensors="pt", input_data_format="channels_last").pixel_values[0]
    found = Preprocess(size=short, crop=crop)(given)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)  # float32, other order


def test_settings_are_read_as_they_are_written(tmp_path):
    made = Preprocess(size=20, crop=16, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6), resample=2)
    (tmp_path / FILE).write_text(made.to_json())
    assert Preprocess.read(tmp_path, 16) == made
    theirs = CLIPImageProcessorPil.from_pretrained(tmp_path)
    assert (theirs.size["shortest_edge"], theirs.crop_size["width"]) == (20, 16)
    theirs.save_pretrained(tmp_path)
    assert Preprocess.read(tmp_path, 16) == made


def test_settings_of_published_encoders(tmp_path):
    assert Preprocess.read(tmp_path, 336) == Preprocess(size=336, crop=336)  # they have none
    (tmp_path / FILE).write_text(json.dumps({"size": 224, "crop_size": 224, "resample": 3}))
    assert Preprocess.read(tmp_path, 224) == Preprocess()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"do_resize": False}, "do_resize is False; CLIP's preparation is read"),
        ({"rescale_factor": 1.0}, "rescale_factor is 1.0"),
        ({"size": {"height": 16, "width": 16}}, "or shortest_edge, of squares"),
        ({"crop_size": {"height": 16, "width": 12}}, "or height, of squares"),
        ({"size": "16"}, "a size is '16'; it must be an integer"),
        ({"size": 8}, "size is 8 and crop 16; give 1 <= crop <= size"),
        ({"image_std": [0, 1, 1]}, "must be three each, std > 0"),
        ({"image_mean": 0.5}, "not iterable"),
        ({"resample": 9}, "resample is 9; Pillow knows 0 to 5"),
        ({"crop_size": 12}, "makes 12 pixels a side, but the encoder takes 16"),
    ],
)
def test_wrong_settings_are_named(change, message, tmp_path):
    said = json.loads(Preprocess(size=16, crop=16).to_json())
    (tmp_path / FILE).write_text(json.dumps({**said, **change}))
    with pytest.raises(ValueError, match=message):
        Preprocess.read(tmp_path, 16)


def test_wrong_pictures_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"shape \(3, H, W\), not \(1, 3, 8, 8\)"):
        Preprocess()(torch.zeros(1, 3, 8, 8))
    (tmp_path / FILE).write_text("{")
    with pytest.raises(ValueError, match="is not JSON"):
        Preprocess.read(tmp_path, 16)

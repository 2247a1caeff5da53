"""Grounding DINO and SAM from folders in the hub's layout, tiny and random."""

import pytest
import torch
from drawn_mig import LEFT, LEVELS, RIGHT, TOP, paint
from transformers import SamModel

from unicond.evaluation.mig.grounded import load_grounded
from unicond.pictures.reading import to_pil


@pytest.fixture(scope="module")
def grounded(grounding):
    return load_grounded(grounding / "detector", grounding / "segmenter", "cpu")


@pytest.fixture(scope="module")
def picture():
    return paint([(LEFT, LEVELS["red"]), (TOP, LEVELS["blue"])], (96, 144))


def test_detections_are_those_of_the_processor(grounded, picture):
    """Parity: transformers' own post-processing, in pixels of the picture."""
    found = grounded.detections(picture, "Wine glass")
    least = sorted(one.score for one in found)[2] + 1e-4
    inputs = grounded.reader(images=to_pil(picture), text="wine glass.", return_tensors="pt")
    with torch.no_grad():
        out = grounded.detector(**inputs)
    expected = grounded.reader.post_process_grounded_object_detection(
        out, inputs.input_ids, threshold=least, target_sizes=[(96, 144)]
    )[0]
    certain = [one for one in found if one.score > least]
    assert (len(certain), len(found)) == (3, 6)
    boxes = torch.tensor([one.box for one in certain]) * torch.tensor([144, 96, 144, 96])
    # float32 against float64
    torch.testing.assert_close(boxes, expected["boxes"], rtol=0, atol=1e-3)
    scores = torch.tensor([one.score for one in certain])
    torch.testing.assert_close(scores, expected["scores"], rtol=0, atol=1e-6)


def test_the_thing_and_the_picture_matter(grounded, picture):
    def told(shown, thing):
        return [one.score for one in grounded.detections(shown, thing)]

    assert told(picture, "cat") == told(picture, "cat") != told(picture, "dog")
    assert told(picture, "cat") != told(paint([]), "cat")


def test_masks_are_the_most_trusted_of_each_box(grounded, grounding, picture):
    boxes = [LEFT, RIGHT, TOP]
    masks = grounded.masks(picture, boxes)
    assert masks.shape == (3, 96, 144)
    assert masks.dtype == torch.bool
    segmenter = SamModel.from_pretrained(grounding / "segmenter").eval()
    for mask, (left, top, right, bottom) in zip(masks, boxes, strict=True):
        corners = [left * 144, top * 96, right * 144, bottom * 96]
        inputs = grounded.preparer(
            images=to_pil(picture), input_boxes=[[corners]], return_tensors="pt"
        )
        sizes = inputs["original_sizes"], inputs["reshaped_input_sizes"]
        with torch.no_grad():
            out = segmenter(inputs["pixel_values"], input_boxes=inputs["input_boxes"].float())
        every = grounded.preparer.post_process_masks(out.pred_masks, *sizes)[0][0]
        scores = out.iou_scores[0, 0].tolist()
        assert not torch.equal(*every[[scores.index(min(scores)), scores.index(max(scores))]])
        # one box at a time adds up in another order: single pixels on the border may differ
        assert (mask == every[scores.index(max(scores))]).float().mean() > 0.999
    assert 0 < masks[0].float().mean() < 1
    assert not torch.equal(masks[0], masks[1])


def test_fingerprints_are_of_the_weights(grounded, grounding):
    told = grounded.fingerprints()
    assert told == load_grounded(grounding / "detector", grounding / "segmenter").fingerprints()
    with torch.no_grad():
        next(grounded.segmenter.parameters()).add_(0.0)
        assert grounded.fingerprints() == told
        bias = grounded.detector.model.level_embed
        bias.add_(1.0)
        changed = grounded.fingerprints()
        bias.sub_(1.0)
    assert changed["segmenter"] == told["segmenter"]
    assert changed["detector"] != told["detector"]


def test_other_models_are_refused(grounding, tmp_path):
    detector, segmenter = grounding / "detector", grounding / "segmenter"
    with pytest.raises(ValueError, match="is a model 'sam'; for finding things give one of gr"):
        load_grounded(segmenter, segmenter)
    with pytest.raises(ValueError, match="is a model 'grounding-dino'; for masks give one of sam"):
        load_grounded(detector, detector)
    with pytest.raises(ValueError, match=r"no model for finding things can be loaded from .*none"):
        load_grounded(tmp_path / "none", segmenter)

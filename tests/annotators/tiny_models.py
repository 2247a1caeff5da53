"""Tiny random models in the hub's own layout; the pose detectors' answers are known."""

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from transformers import (
    BertTokenizer,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipImageProcessorPil,
    BlipProcessor,
    DepthAnythingConfig,
    DepthAnythingForDepthEstimation,
    Dinov2Config,
    DPTImageProcessorPil,
    SegformerConfig,
    SegformerForSemanticSegmentation,
    SegformerImageProcessorPil,
)

from unicond.annotators.pose import DETECTOR, KEYPOINT_DETECTOR

WORDS = ["[PAD]", "[UNK]", "[SEP]", "[CLS]", "a", "red", "cat", "dog", "on", "the", "mat", "sky"]
PERSON = (8, 4, 40, 60)
"""Where the tiny detector sees somebody in every blue picture: left, upper, right, lower."""


def _louder(model):
    """Random weights as large as trained ones, so that pictures make a difference."""
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    return model


def save_depth(place, kind):
    backbone = Dinov2Config(
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        image_size=28,
        patch_size=14,
        out_indices=[1, 2, 3, 4],
        reshape_hidden_states=False,
    )
    config = DepthAnythingConfig(
        backbone_config=backbone,
        reassemble_hidden_size=16,
        neck_hidden_sizes=[4, 8, 8, 8],
        fusion_hidden_size=8,
        head_hidden_size=4,
        patch_size=14,
        depth_estimation_type=kind,
        max_depth=20,
    )
    _louder(DepthAnythingForDepthEstimation(config)).save_pretrained(place)
    processor = DPTImageProcessorPil(
        size={"height": 56, "width": 56}, keep_aspect_ratio=True, ensure_multiple_of=14
    )
    processor.save_pretrained(place)


def save_segmentation(place):
    config = SegformerConfig(
        hidden_sizes=[8, 8, 8, 8],
        num_attention_heads=[1, 1, 2, 2],
        depths=[1, 1, 1, 1],
        decoder_hidden_size=8,
        num_labels=5,
    )
    _louder(SegformerForSemanticSegmentation(config)).save_pretrained(place)
    SegformerImageProcessorPil(size={"height": 64, "width": 64}).save_pretrained(place)


def save_captions(place):
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2}
    tokens = {"bos_token_id": 3, "eos_token_id": 2, "sep_token_id": 2, "pad_token_id": 0}
    config = BlipConfig(
        text_config={
            "vocab_size": len(WORDS),
            "num_hidden_layers": 1,
            "encoder_hidden_size": 16,
            **sizes,
            **tokens,
        },
        vision_config={"image_size": 32, "patch_size": 16, "num_hidden_layers": 1, **sizes},
        projection_dim=16,
    )
    _louder(BlipForConditionalGeneration(config)).save_pretrained(place)
    (place / "vocab.txt").write_text("\n".join(WORDS))
    processor = BlipImageProcessorPil(size={"height": 32, "width": 32})
    BlipProcessor(processor, BertTokenizer(str(place / "vocab.txt"))).save_pretrained(place)


def save_edges(place):
    """Five blocks, as ControlNet's annotators store them, 4 channels wide."""
    place.mkdir()
    weights, inputs = {"norm": torch.full((1, 3, 1, 1), 120.0)}, 3
    for number, layers in enumerate((2, 2, 3, 3, 3), 1):
        for layer in range(layers):
            name = f"block{number}.convs.{layer}"
            weights[f"{name}.weight"] = torch.randn(4, inputs, 3, 3) / (9 * inputs) ** 0.5
            weights[f"{name}.bias"], inputs = torch.zeros(4), 4
        weights[f"block{number}.projection.weight"] = torch.randn(1, 4, 1, 1) / 15
        weights[f"block{number}.projection.bias"] = torch.zeros(1)
    torch.save(weights, place / "ControlNetHED.pth")


def save_poses(place):
    """A detector that sees `PERSON` in blue pictures, and keypoints along a diagonal."""
    place.mkdir()
    left, upper, right, lower = PERSON
    # (1, 1, 5) is corners and score; the score is how bright the first channel is, which is blue
    box = numpy_helper.from_array(np.float32([[[left, upper, right, lower]]]), "box")
    shape = numpy_helper.from_array(np.int64([1, 1, 1]), "shape")
    scale = numpy_helper.from_array(np.float32([1 / 255]), "scale")
    first = numpy_helper.from_array(np.int64([0]), "first")
    nodes = [
        helper.make_node("Gather", ["input", "first"], ["blue"], axis=1),
        helper.make_node("ReduceMean", ["blue"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "scale"], ["share"]),
        helper.make_node("Reshape", ["share", "shape"], ["score"]),
        helper.make_node("Concat", ["box", "score"], ["dets"], axis=2),
    ]
    _save(place / DETECTOR, nodes, [box, shape, scale, first], (64, 64), {"dets": [1, 1, 5]})
    # 17 keypoints at even steps from the upper left to the lower right of the box; ears uncertain
    rows, columns, split = 64, 48, 2
    values = {}
    for name, side in (("simcc_x", columns), ("simcc_y", rows)):
        values[name] = np.zeros((1, 17, side * split), np.float32)
        for number in range(17):
            sure = 0.1 if number in (3, 4) else 0.9
            values[name][0, number, (number + 1) * side * split // 18] = sure
    constants = [numpy_helper.from_array(array, f"{name}0") for name, array in values.items()]
    zero = numpy_helper.from_array(np.float32([0]), "zero")
    nodes = [
        helper.make_node("ReduceMean", ["input"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
        helper.make_node("Add", ["simcc_x0", "nothing"], ["simcc_x"]),
        helper.make_node("Add", ["simcc_y0", "nothing"], ["simcc_y"]),
    ]
    shapes = {name: list(array.shape) for name, array in values.items()}
    _save(place / KEYPOINT_DETECTOR, nodes, [*constants, zero], (rows, columns), shapes)


def _save(path, nodes, constants, size, outputs):
    picture = helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, *size])
    made = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in outputs.items()
    ]
    graph = helper.make_graph(nodes, path.stem, [picture], made, constants)
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), path)

"""Pictures, depth maps and masks in and out, and the checks of what people type."""

from unicond.pictures.checks import check_prompt, check_seed, parse_seeds
from unicond.pictures.decoding import MAX_PIXELS, MAX_SIDE, Source
from unicond.pictures.depth import DepthKind, DepthMap, read_depth, read_depth_map, write_depth
from unicond.pictures.examples import ExampleDepth, example_depths
from unicond.pictures.files import (
    PictureError,
    check_fingerprint,
    check_output_folder,
    fingerprint,
    make_output_folder,
    whole_file,
)
from unicond.pictures.fitting import Policy, allowed_size, check_size, fit, resized
from unicond.pictures.masks import read_mask
from unicond.pictures.metadata import parameters_text, read_settings, write_png
from unicond.pictures.reading import read_picture, to_pil
from unicond.pictures.sheet import Line, sheet

__all__ = [
    "MAX_PIXELS",
    "MAX_SIDE",
    "DepthKind",
    "DepthMap",
    "ExampleDepth",
    "Line",
    "PictureError",
    "Policy",
    "Source",
    "allowed_size",
    "check_fingerprint",
    "check_output_folder",
    "check_prompt",
    "check_seed",
    "check_size",
    "example_depths",
    "fingerprint",
    "fit",
    "make_output_folder",
    "parameters_text",
    "parse_seeds",
    "read_depth",
    "read_depth_map",
    "read_mask",
    "read_picture",
    "read_settings",
    "resized",
    "sheet",
    "to_pil",
    "whole_file",
    "write_depth",
    "write_png",
]

"""Pictures of noise, as clients send them."""

import io

import numpy as np
from PIL import Image


def picture(size=(64, 64), mode="RGB", seed=1):
    """A PNG of width and height, as bytes."""
    values = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 4), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(values).convert(mode).save(buffer, "PNG")
    return buffer.getvalue()

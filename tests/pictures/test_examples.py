"""The depth maps that ship with the package."""

import runpy
from pathlib import Path

from PIL import Image

from unicond.pictures import example_depths, read_depth_map

DRAW = Path(__file__).parents[2] / "examples" / "depth" / "draw.py"


def test_six_maps_of_every_kind_are_read():
    examples = example_depths()
    modes = [Image.open(example.path).mode for example in examples]
    assert modes == ["L", "I;16", "RGBA", "L", "P", "I;16"]
    assert {example.kind for example in examples} == {"near-white", "near-black", "metric"}
    assert len({Image.open(example.path).size for example in examples}) == 6
    borders = []
    for example in examples:
        assert example.path.stat().st_size < 60_000
        depth = read_depth_map(example.path, example.kind)
        borders.append(depth.border)
        middle = depth.picture[0, :, depth.picture.shape[2] // 2]
        assert depth.picture.min() == -1
        assert depth.picture.max() == 1
        assert middle[len(middle) // 10] < -0.7  # the sky is far
        assert middle[-len(middle) // 10] > 0.4  # the ground at our feet is near
    assert borders == [0, 0, 0, 16, 0, 0]


def test_the_script_draws_what_ships(tmp_path):
    runpy.run_path(str(DRAW))["main"](tmp_path)
    for example in example_depths():
        drawn, shipped = Image.open(tmp_path / example.path.name), Image.open(example.path)
        assert drawn.mode == shipped.mode
        assert drawn.tobytes() == shipped.tobytes()
    listed = (tmp_path / "list.json").read_bytes()
    assert listed == (example_depths()[0].path.parent / "list.json").read_bytes()

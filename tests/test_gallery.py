"""Pages of pictures: every part of them on tiny random adapters, and the sketches on their own."""

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import unicond
from unicond.adapters.config import JointConfig
from unicond.adapters.joint import JointAdapter
from unicond.cli import app
from unicond.conditions import CONDITIONS, named
from unicond.evaluation.fidelity_maps import SegmentationFidelity
from unicond.evaluation.skeletons import read_skeletons
from unicond.pictures.metric_depth import read_metric_depth
from unicond.sketches import rough, spelled
from unicond.world.vocabulary import CLASSES


@pytest.fixture(scope="module")
def adapters(tiny_base, tmp_path_factory):
    """A folder of random adapters for soft edges and identity."""
    folder = tmp_path_factory.mktemp("adapters")
    network = unicond.load(tiny_base, device="cpu").backbone.network
    for name in ("softedge", "identity"):
        condition = named(name)
        config = JointConfig(
            y=condition.branch,
            kind=condition.shows,
            rank=2,
            y_rank=2 if condition.aligned else 0,
            post_joint="conv_fuse" if condition.aligned else "conv",
            trigger=condition.trigger,
        )
        adapter = JointAdapter.for_network(network, config)
        for value in adapter.parameters():
            torch.nn.init.normal_(value, std=0.1)
        adapter.save_pretrained(folder / name)
    return folder


def test_pages_and_their_index(adapters, tiny_base, tmp_path):
    line = ["gallery", "--base", str(tiny_base), "--adapters", str(adapters), "--device", "cpu"]
    done = CliRunner().invoke(app, [*line, "--scenes", "2", "--out", str(tmp_path / "g")])
    assert done.exit_code == 0, done.output
    assert [path.rsplit("/", 1)[-1] for path in done.stdout.split()] == [
        "softedge.png",
        "identity.png",
        "index.html",
    ]
    index = (tmp_path / "g" / "index.html").read_text()
    for name in ("softedge", "identity"):
        assert f'src="{name}.png"' in index
        assert named(name).note in index
    edges, person = (Image.open(tmp_path / "g" / f"{n}.png") for n in ("softedge", "identity"))
    assert edges.height > 14 * 64  # fifteen lines of pictures, those of figure 5 among them
    assert person.height > 9 * 64
    assert sorted(path.name for path in (tmp_path / "g").iterdir()) == [
        "identity.png",
        "index.html",
        "softedge.png",
    ]


def test_missing_adapters_name_their_command(adapters, tiny_base, tmp_path):
    line = [
        "gallery",
        "--base",
        str(tiny_base),
        "--adapters",
        str(adapters),
        "--out",
        str(tmp_path),
    ]
    missing = CliRunner().invoke(app, [*line, "--condition", "pose"])
    assert isinstance(missing.exception, ValueError)
    assert "unicond train joint --condition pose" in str(missing.exception)
    unknown = CliRunner().invoke(app, [*line, "--condition", "smell"])
    assert "condition 'smell' is not known" in str(unknown.exception)


@pytest.mark.parametrize("condition", [c for c in CONDITIONS if c.aligned], ids=lambda c: c.name)
def test_sketches_are_pictures_of_their_kind(condition):
    drawn, prompt = rough(condition.source, 64)
    assert drawn.shape == (3, 64, 64)
    assert -1 <= float(drawn.min()) < -0.5 < 0.2 < float(drawn.max()) <= 1
    assert prompt


def test_sketches_show_what_their_prompts_say():
    people = read_skeletons(rough("skeleton", 128)[0][None])[0]
    assert len(people) == 1
    assert int(people.found.sum()) == 18
    classes = SegmentationFidelity().drawn(rough("segmentation", 64)[0][None])[0]
    assert {CLASSES[n] for n in classes.unique().tolist()} == {"sky", "ground", "ball", "box"}
    assert classes[40, 20] == CLASSES.index("ball")
    metres = read_metric_depth(rough("metric_depth", 64)[0][None])[0, 0]
    assert float(metres[40, 20]) == pytest.approx(4.0, rel=1e-3)
    assert float(metres[0, 0]) == pytest.approx(40.0)
    near = rough("depth", 64)[0][0]
    assert float(near[40, 20]) > float(near[40, 45]) > float(near[0, 0]) == -1.0
    assert rough("normals", 64)[0][:, 39, 20].tolist() == pytest.approx([0, 0, 1], abs=0.1)
    with pytest.raises(ValueError, match="no map"):
        rough("same_person", 64)


def test_a_word_is_written_across_the_edges():
    blank = torch.full((3, 64, 64), -1.0)
    blank[:, 0] = 1.0
    written = spelled(blank, "UNI")
    assert torch.equal(written[:, 0], blank[:, 0])
    assert set(written.unique().tolist()) <= {-1.0, -0.5, 0.0, 0.5, 1.0}
    middle = (written[0, 16:48] > 0).float()
    assert 0.05 < float(middle.mean()) < 0.6
    assert not torch.equal(written, spelled(blank, "RED"))

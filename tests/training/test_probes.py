"""The probe and its training: what it reads, its labels, its losses."""

from dataclasses import fields, replace

import pytest
import torch
from torch.nn.functional import one_hot

from unicond.data.renders import as_bytes, as_picture
from unicond.evaluation import probes
from unicond.evaluation.probes import Probe, ProbeConfig, ProbeMaps
from unicond.training.labels import NOT_SAID, Labels, middle_offsets
from unicond.training.loop import seeded
from unicond.training.probes import (
    PERSON,
    SKY,
    Annotated,
    ProbeTask,
    ProbeTrainingConfig,
    labels_read,
    maps_read,
    sum_losses,
)
from unicond.training.processes import Part
from unicond.world import World, render
from unicond.world.annotate import soft_edges
from unicond.world.vocabulary import SKINS, STYLES

SIZE = 32
SMALL = ProbeTrainingConfig(
    probe=ProbeConfig(widths=(4, 8)), scenes=12, reconstructed_scenes=6, reconstructed_share=0.5
)


@pytest.fixture(scope="module")
def scenes():
    return World(seed=3, people=True).scenes(0, 12)


@pytest.fixture(scope="module")
def data(scenes):
    drawn = render(scenes, SIZE, smooth=False)
    maps = {
        "image": as_bytes(drawn.image),
        "depth": as_bytes(drawn.inverse_depth[:, :1]),
        "normals": as_bytes(drawn.normals),
        "edges": as_bytes(soft_edges(drawn)[:, :1]),
        "classes": drawn.classes,
        "colors": drawn.colors,
        "parts": drawn.parts,
        "instances": (drawn.instances + 1).to(torch.uint8),
    }
    maps = {name: value.clone() for name, value in maps.items()}
    return Annotated(maps, Labels.of(scenes, SIZE, "cpu"), maps["image"][:6].flip(3))


def test_it_reads_maps_of_the_pictures_size():
    read = Probe(SMALL.probe).eval()(torch.zeros(2, 3, 16, 24))
    for name, channels in probes.DENSE.items():
        assert getattr(read, name).shape == (2, channels, 16, 24)
    for name, channels in probes.POINTS.items():
        assert getattr(read, name).shape == (2, channels, 8, 12)
    for name, channels in probes.WHOLE.items():
        assert getattr(read, name).shape == (2, channels)
    assert read.features.shape == (2, 12)
    with pytest.raises(ValueError, match="multiples of 4"):
        Probe(SMALL.probe)(torch.zeros(1, 3, 16, 18))


def test_the_shipped_size_fits_into_six_megabytes():
    probe = Probe(ProbeTrainingConfig().probe)
    assert 2 * sum(value.numel() for value in probe.state_dict().values()) <= 6e6


def test_it_comes_back_from_disk(tmp_path):
    probe = Probe(SMALL.probe)
    probe(torch.randn(4, 3, 16, 16))  # moves the running statistics
    probe.save_pretrained(tmp_path, torch.float32)
    again = Probe.from_pretrained(tmp_path)
    pictures = torch.randn(2, 3, 16, 16)
    one, other = probe.eval()(pictures), again(pictures)
    for part in fields(ProbeMaps):
        assert torch.equal(getattr(one, part.name), getattr(other, part.name)), part.name
    with pytest.raises(ValueError, match=r"holds no probe.*unicond train probes"):
        Probe.from_pretrained(tmp_path / "nowhere")
    (tmp_path / probes.WEIGHTS).write_bytes(b"x" * 100)
    with pytest.raises(ValueError, match="damaged"):
        Probe.from_pretrained(tmp_path)


def test_labels_are_the_scenes_own(scenes, data):
    labels = data.labels
    scene = scenes[4]
    assert STYLES[int(labels.whole[4, 0])] == scene.style
    person = 2 + len(scene.solids)
    assert SKINS[int(labels.skins[4, person])] == scene.people[0].identity.skin
    assert int(labels.skins[4, 0]) == NOT_SAID
    heat = labels.heat(torch.tensor([4, 7]), 16, 1.0)
    assert heat.shape == (2, 18, 16, 16)
    row = next(row for row in labels.points[4] if row[0] < 18)
    place = (row[1:] * 16).long().clamp_max(15)
    blob = heat[0, int(row[0])]
    assert float(blob[place[1], place[0]]) > 0.6
    assert float(labels.heat(torch.tensor([7]), 16, 1.0).sub(heat[1]).abs().max()) == 0.0


def test_offsets_lead_to_the_middle():
    instances = torch.zeros(1, 8, 8, dtype=torch.int64)
    instances[0, 2:4, 4:8] = 3
    people = instances == 3
    offsets, kept = middle_offsets(instances, people)
    assert torch.equal(kept, people)
    # the middle is at (6, 3) of 8; pixel (4, 2) has its centre at (4.5, 2.5)
    assert offsets[0, :, 2, 4].tolist() == pytest.approx([1.5 / 8, 0.5 / 8])


def test_a_perfect_reading_costs_almost_nothing(data):
    rows = torch.arange(4)
    maps, labels = {n: v[rows] for n, v in data.maps.items()}, data.labels

    def sure(truth, count):
        return 50.0 * torch.nn.functional.one_hot(truth.long(), count).movedim(-1, 1).float()

    def picture(name):
        return maps[name].float() / 127.5 - 1

    heat = labels.heat(rows, SIZE // 2, SMALL.sigma)
    skins = labels.skins[rows].gather(1, maps["instances"].long().flatten(1))
    read = ProbeMaps(
        depth=picture("depth"),
        normals=picture("normals"),
        edges=picture("edges"),
        classes=sure(maps["classes"], 8),
        colors=sure(maps["colors"], 11),
        parts=sure(maps["parts"], 8),
        skins=sure(skins.clamp_min(0).view_as(maps["classes"]), 4),
        keypoints=torch.logit(heat, eps=1e-6),
        offsets=middle_offsets(
            maps["instances"].long()[:, ::2, ::2], maps["classes"][:, ::2, ::2] == 7
        )[0],
        style=sure(labels.whole[rows, 0], 6),
        ground=sure(labels.whole[rows, 1], 6),
        sky=sure(labels.whole[rows, 2], 4),
        features=torch.zeros(4, 1),
    )
    free = replace(SMALL, points_weight=0.0)  # soft heat has entropy of its own
    assert float(sum_losses(read, data, rows, free).max()) < 1e-4
    for name in ("depth", "normals", "edges", "classes", "colors", "parts", "skins", "style"):
        worse = replace(read, **{name: torch.zeros_like(getattr(read, name)) - 0.3})
        assert float(sum_losses(worse, data, rows, free).min()) > 1e-4, name


def test_parts_of_a_batch_are_the_batch(data):
    with seeded(0):
        task = ProbeTask(SMALL, data, data)
    task.probe.eval()  # in training each process normalises by the means of its own part
    whole, *parts = [
        task.losses(part, torch.Generator().manual_seed(0)).detach()
        for part in (Part(0, 8), Part(0, 8, 0, 2), Part(0, 8, 1, 2))
    ]
    assert torch.allclose(torch.cat(parts), whole, atol=1e-5)  # sums of other batch sizes


def test_every_field_is_used(data):
    def losses(config):
        with seeded(0):
            task = ProbeTask(config, data, data)
        return task.losses(Part(0, 8), torch.Generator().manual_seed(0)).detach()

    plain = losses(SMALL)
    for name, value in {
        "probe": ProbeConfig(widths=(4, 12)),
        "reconstructed_share": 0.0,
        "blur_share": 1.0,
        "grain": 0.5,
        "points_weight": 0.0,
        "sigma": 3.0,
    }.items():
        assert not torch.equal(losses(replace(SMALL, **{name: value})), plain), name
    assert not torch.equal(
        losses(replace(SMALL, probe=ProbeConfig(widths=(4, 8), blocks=2))), plain
    )


def test_scores_and_sheets(data, tmp_path):
    task = ProbeTask(SMALL, data, data)
    task.probe.eval()
    scores = task.scores()
    assert set(scores) == {
        "class_pixels",
        "class_color_on_things",
        "color_on_people",
        "part_on_people",
        "inverse_depth_error",
        "normals_degrees",
        "edges_emse",
        "style_ground_sky",
        "keypoints",
    }
    assert 0 <= scores.pop("normals_degrees") <= 180
    assert all(0 <= value <= 1 for value in scores.values())
    task.show(tmp_path)
    assert (tmp_path / "samples.png").stat().st_size > 1000


def test_errors_of_maps_are_what_they_say(data):
    """Exact maps but for a known change: every normal turned, edges and depth off by a constant."""
    exact = {name: values[:4] for name, values in data.maps.items()}
    read = ProbeTask(SMALL, data, data).read(as_picture(exact["image"]))
    normals = as_picture(exact["normals"])
    turned = torch.stack([normals[:, 1], -normals[:, 0], torch.zeros_like(normals[:, 2])], 1)
    flat = torch.stack([normals[:, 0], normals[:, 1], torch.zeros_like(normals[:, 2])], 1)
    there = (exact["classes"].long() != SKY) & (flat.norm(dim=1) > 0.1)
    only = exact | {
        "classes": torch.where(there, exact["classes"], SKY),
        "normals": as_bytes(flat),
    }
    wrong = replace(
        read,
        depth=as_picture(only["depth"]) + 0.2,
        normals=turned,
        edges=as_picture(only["edges"]) - 0.1,
    )
    scores = maps_read(wrong, only)
    assert abs(scores["inverse_depth_error"] - 0.1) < 1e-5
    assert abs(scores["normals_degrees"] - 90) < 2  # normals are 8-bit
    assert abs(scores["edges_emse"] - 0.05**2) < 1e-6


def test_labels_are_counted_where_they_are_asked(data):
    exact = {name: values[:4] for name, values in data.maps.items()}
    read = ProbeTask(SMALL, data, data).read(as_picture(exact["image"]))
    right = replace(
        read,
        **{
            name: one_hot(exact[name].long(), getattr(read, name).shape[1]).permute(0, 3, 1, 2)
            for name in ("classes", "colors", "parts")
        },
    )
    assert set(labels_read(right, exact).values()) == {1.0}
    people = exact["classes"].long() == PERSON
    colors = right.colors.clone()
    colors[:, :, :] = torch.where(people[:, None], colors.roll(1, 1), colors)
    scores = labels_read(replace(right, colors=colors), exact)
    assert scores["color_on_people"] == 0.0
    assert scores["class_color_on_things"] == 1.0


def test_bad_recipes_are_refused():
    for changes, words in (
        ({"grain": -1.0}, "grain"),
        ({"scenes": 4, "reconstructed_scenes": 5}, "reconstructed_scenes"),
        ({"sigma": 0.0}, "sigma"),
    ):
        with pytest.raises(ValueError, match=words):
            ProbeTrainingConfig(**changes)
    with pytest.raises(ValueError, match="widths"):
        ProbeConfig(widths=(2,))

"""Exports are read by the libraries that they are written for."""

from dataclasses import replace

import datasets
import webdataset

from unicond.world import World
from unicond.world.export import ExportConfig, export

CONFIG = ExportConfig(World(7), count=5, size=(32, 48), shard_size=2)


def test_datasets_reads_the_imagefolder(tmp_path):
    export(CONFIG, tmp_path / "world", lambda _: None)
    loaded = datasets.load_dataset(
        "imagefolder", data_dir=str(tmp_path / "world"), split="train", cache_dir=str(tmp_path)
    )
    assert len(loaded) == 5
    assert loaded[0]["image"].size == (48, 32)
    assert isinstance(loaded[0]["text"], str)


def test_webdataset_reads_the_shards(tmp_path):
    export(replace(CONFIG, format="webdataset"), tmp_path, lambda _: None)
    shards = sorted(str(path) for path in tmp_path.rglob("*.tar"))
    samples = list(webdataset.WebDataset(shards, shardshuffle=False).decode("pil"))
    assert len(shards) == 3
    assert len(samples) == 5
    assert all({"image.png", "depth.png", "txt", "json"} <= set(sample) for sample in samples)

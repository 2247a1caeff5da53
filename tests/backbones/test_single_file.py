"""A single file is the folder that it was made from; nothing in a pickle is executed."""

import os
import shutil

import pytest
import torch
from original_names import single_file
from safetensors.torch import load_file, save_file
from tiny_bases import FAMILIES

import unicond


@pytest.fixture(scope="module")
def files(models, tmp_path_factory):
    """{family: its single file}."""
    root = tmp_path_factory.mktemp("files")
    for kind, model in models.items():
        save_file(single_file(model.backbone), root / f"{kind}.safetensors")
    return {kind: root / f"{kind}.safetensors" for kind in models}


def latents(model):
    told = {"prompt": "a red ball", "num_inference_steps": 2, "guidance_scale": 3.0}
    return model(**told).latents["image"]


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_file_is_the_folder(kind, files, bases, models):
    model = unicond.load(files[kind], config=bases[kind])
    assert model.backbone.family == FAMILIES[kind]
    want = models[kind].backbone
    for part in ("network", "vae", "text_encoders"):
        for mine, its in zip(_modules(model.backbone, part), _modules(want, part), strict=True):
            mine, its = mine.state_dict(), its.state_dict()
            assert mine.keys() == its.keys()
            assert all(torch.equal(mine[name], its[name]) for name in its)
    # mapped weights lie where the file has them, and sums are taken in another order by alignment
    assert torch.allclose(latents(model), latents(models[kind]), atol=1e-4)


def _modules(backbone, part):
    found = getattr(backbone, part)
    return found if isinstance(found, tuple) else (found,)


def test_its_name_loads_it_again(files, bases):
    """What records keep of a base is all that a rerun needs."""
    first = unicond.load(files["one"], config=bases["one"])
    again = unicond.load(first.backbone.name)
    assert again.backbone.name == f"{files['one']}@{bases['one']}"
    assert torch.equal(latents(first), latents(again))


def test_configurations_are_found_beside_the_file(files, bases, tmp_path):
    file = tmp_path / "model.safetensors"
    shutil.copy(files["two"], file)
    shutil.copytree(
        bases["two"], tmp_path / "model", ignore=shutil.ignore_patterns("*.safetensors")
    )
    assert unicond.load(str(file)).backbone.schedule.prediction_type == "v"


def test_without_configurations_it_says_what_to_give(files, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ValueError, match=r"stable-diffusion-v1-5 cannot be reached.*config=folder"):
        unicond.load(files["one"])


def test_configurations_of_another_family_are_refused(files, bases):
    for file, config in (("one", "two"), ("two", "one"), ("xl", "one"), ("one", "xl")):
        with pytest.raises(ValueError, match=r"weights do not fit \w+ as configured in"):
            unicond.load(files[file], config=bases[config])


def test_a_file_that_lacks_a_weight_is_refused(files, bases, tmp_path):
    tensors = load_file(files["xl"])
    lacking = tmp_path / "lacking.safetensors"
    for name in (
        "model.diffusion_model.middle_block.1.norm.weight",
        "first_stage_model.decoder.conv_in.weight",
        "conditioner.embedders.0.transformer.text_model.final_layer_norm.bias",
        "conditioner.embedders.1.model.text_projection",
    ):
        save_file({key: value for key, value in tensors.items() if key != name}, lacking)
        with pytest.raises(ValueError, match="weights do not fit"):
            unicond.load(lacking, config=bases["xl"])


@pytest.mark.parametrize("zipped", [True, False])
def test_a_ckpt_of_tensors_alone_is_read(zipped, files, bases, models, tmp_path):
    path = tmp_path / "model.ckpt"
    content = {"state_dict": load_file(files["one"]), "global_step": 3}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    assert torch.equal(latents(unicond.load(path, config=bases["one"])), latents(models["one"]))


class Trap:
    """What a malicious file holds: unpickled, it makes a folder."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_a_ckpt_that_holds_code_is_refused_and_not_run(bases, tmp_path):
    path, sprung = tmp_path / "model.ckpt", tmp_path / "sprung"
    torch.save({"state_dict": {}, "callbacks": Trap(sprung)}, path)
    with pytest.raises(ValueError, match="was refused, and nothing in it was executed"):
        unicond.load(path, config=bases["one"])
    assert not sprung.exists()


def test_files_that_are_none(bases, tmp_path):
    path = tmp_path / "model.safetensors"
    with pytest.raises(ValueError, match=r"there is no file .*model.safetensors"):
        unicond.load(path)
    path.write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"model.safetensors is damaged"):
        unicond.load(path, config=bases["one"])
    (tmp_path / "model.ckpt").write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"model.ckpt was refused"):
        unicond.load(tmp_path / "model.ckpt", config=bases["one"])
    (tmp_path / "model.bin").write_bytes(b"anything")
    with pytest.raises(ValueError, match=r"must end in .safetensors or .ckpt"):
        unicond.load(tmp_path / "model.bin")
    with pytest.raises(ValueError, match="is for single files"):
        unicond.load(bases["one"], config=bases["one"])

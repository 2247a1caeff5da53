"""Folders, the Hub's variants, number formats, offloading, and what is refused."""

import fnmatch
import shutil

import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from original_names import single_file
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_bases import FAMILIES, change
from typer.testing import CliRunner

import unicond
from unicond.backbones import loading, precision
from unicond.backbones.offload import offload
from unicond.cli import app, running

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def test_the_format_suits_the_device(monkeypatch):
    large = precision.SMALL + 1
    for fast, on_cpu in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(precision, "cpu_prefers_bfloat16", lambda fast=fast: fast)
        assert precision.dtype_for(CPU, large) == on_cpu
        assert precision.dtype_for(CPU, precision.SMALL) == torch.float32
    assert precision.dtype_for(CUDA, large) == torch.float16
    assert precision.dtype_for(CUDA, precision.SMALL) == torch.float32


def test_parameters_are_counted_once(bases):
    loading._counted.cache_clear()
    for _ in range(2):
        unicond.load(bases["one"])
    assert loading._counted.cache_info().misses == 1


@pytest.mark.parametrize(
    ("speed", "preferred", "slow"), [(0.04, False, True), (1.2, False, False), (3.0, True, False)]
)
def test_what_the_speed_says(monkeypatch, speed, preferred, slow):
    monkeypatch.setattr(precision, "bfloat16_speed", lambda: speed)
    assert precision.cpu_prefers_bfloat16() is preferred
    assert precision.slow_in_bfloat16(CPU) is slow
    assert not precision.slow_in_bfloat16(CUDA)


def test_the_cpu_is_timed():
    assert precision.bfloat16_speed() > 0


def test_large_networks_take_the_devices_format(bases, monkeypatch):
    monkeypatch.setattr(precision, "SMALL", 1000)
    monkeypatch.setattr(precision, "cpu_prefers_bfloat16", lambda: True)
    model = unicond.load(bases["xl"])
    assert model.backbone.network.dtype == torch.bfloat16
    assert {encoder.dtype for encoder in model.backbone.text_encoders} == {torch.float32}
    out = model(prompt="a dog", num_inference_steps=2)
    assert out.latents["image"].dtype == torch.float32
    assert out.record.dtype == "bfloat16"


@pytest.mark.parametrize(
    ("dtype", "speed", "told"), [("bfloat16", 0.04, 1), ("bfloat16", 1.2, 0), ("float32", 0.04, 0)]
)
def test_a_command_says_once_that_a_format_is_slow(bases, monkeypatch, capsys, dtype, speed, told):
    monkeypatch.setattr(precision, "bfloat16_speed", lambda: speed)
    running._tell_of_slowness.cache_clear()
    for _ in range(2):
        running.load_model(bases["one"], ["none"], "cpu", dtype)
    assert capsys.readouterr().err.count("bfloat16 is slower than float32") == told


def test_float16_on_the_cpu_is_refused(bases):
    with pytest.raises(ValueError, match="float16 is not for the CPU"):
        unicond.load(bases["one"], dtype=torch.float16)


@pytest.mark.parametrize("dtype", ["bfloat16", torch.int8])
def test_a_format_that_is_none_is_refused(bases, dtype):
    with pytest.raises(ValueError, match=f"dtype is {dtype!r}; it is torch.float32"):
        unicond.load(bases["one"], dtype=dtype)


@pytest.mark.parametrize("overflows", [True, False])
def test_an_autoencoder_that_overflows_stays_in_float32(overflows, bases, tmp_path):
    folder = tmp_path / "base"
    shutil.copytree(bases["xl"], folder)
    change(folder, "vae/config.json", force_upcast=overflows)
    backbone = unicond.load(folder, dtype=torch.bfloat16).backbone
    assert backbone.vae.dtype == (torch.float32 if overflows else torch.bfloat16)
    assert backbone.decode(torch.zeros(1, 4, 8, 8)).dtype == torch.float32
    assert backbone.encode(torch.zeros(1, 3, 64, 64)).dtype == torch.float32


@pytest.mark.parametrize("kind", FAMILIES)
def test_offloaded_parts_take_turns(kind, bases, models):
    """On a CPU nothing moves, but the hooks run: the numbers stay, and each knows who was last."""
    model = unicond.load(bases[kind])
    backbone, told = model.backbone, {"prompt": "a dog", "num_inference_steps": 2}
    parts = [*backbone.text_encoders, backbone.network, backbone.vae]
    offload(parts, CPU)
    for part, before in zip(parts, [parts[-1], *parts[:-1]], strict=True):
        assert part._hf_hook.prev_module_hook.model is before
    want = models[kind](**told)
    assert torch.equal(model(**told).pictures["image"], want.pictures["image"])


def test_offloading_from_a_cpu_is_refused(bases):
    with pytest.raises(ValueError, match="offload moves parts between the CPU and an accelerator"):
        unicond.load(bases["one"], device="cpu", offload=True)


@pytest.mark.gpu
@pytest.mark.parametrize("kind", FAMILIES)
def test_offloading_on_a_gpu(kind, bases):
    told = {"prompt": "a dog", "num_inference_steps": 2}
    model = unicond.load(bases[kind], device="cuda", offload=True)
    found = model(**told).latents["image"].cpu()
    assert model.backbone.network.device.type == "cpu"  # the autoencoder was last
    want = unicond.load(bases[kind], device="cuda")(**told).latents["image"].cpu()
    assert torch.allclose(found, want, atol=1e-4)


@pytest.mark.gpu
@pytest.mark.parametrize("kind", FAMILIES)
def test_float16_on_a_gpu_is_close(kind, bases, models):
    told = {"prompt": "a dog", "num_inference_steps": 2}
    model = unicond.load(bases[kind], device="cuda", dtype=torch.float16)
    found, want = model(**told).latents["image"].cpu(), models[kind](**told).latents["image"]
    assert (found - want).std() < 0.02 * want.std()  # 11 bits; two steps of a random network


@pytest.mark.parametrize(
    ("kind", "file", "values", "message"),
    [
        ("one", "unet/config.json", {"in_channels": 9}, "takes 9 channels.*give a mask"),
        (
            "one",
            "unet/config.json",
            {"addition_embed_type": "image"},
            "addition_embed_type 'image'",
        ),
        ("two", "unet/config.json", {"class_embed_type": "projection"}, "class_embed_type"),
        ("xl", "unet/config.json", {"projection_class_embeddings_input_dim": 64}, "a refiner"),
    ],
)
def test_networks_of_no_known_family_are_refused(kind, file, values, message, bases, tmp_path):
    folder = tmp_path / "base"
    shutil.copytree(bases[kind], folder)
    change(folder, file, **values)
    if kind == "xl":  # weights that fit, as a refiner's do
        path = folder / "unet" / "diffusion_pytorch_model.safetensors"
        tensors = load_file(path)
        name = "add_embedding.linear_1.weight"
        save_file(tensors | {name: tensors[name][:, :64].contiguous()}, path)
    with pytest.raises(ValueError, match=f"cannot be read as a base model: .*{message}"):
        unicond.load(folder)


@pytest.mark.parametrize("part", ["text_encoder_2", "tokenizer_2"])
def test_xl_without_its_second_encoder_is_refused(part, bases, tmp_path):
    folder = tmp_path / "base"
    shutil.copytree(bases["xl"], folder)
    shutil.rmtree(folder / part)
    with pytest.raises(ValueError, match=f"it has no {part}"):
        unicond.load(folder)


def halved(folder, suffix=".fp16"):
    """Add every weight in float16, named as the Hub's variants are."""
    for path in [*folder.glob("*/*.safetensors")]:
        half = {name: value.half() for name, value in load_file(path).items()}
        save_file(half, path.with_name(f"{path.stem}{suffix}.safetensors"))


def test_a_folder_of_float16_files_only(bases, tmp_path):
    folder = tmp_path / "base"
    shutil.copytree(bases["xl"], folder)
    plain = [*folder.glob("*/*.safetensors")]
    halved(folder)
    for path in plain:
        path.unlink()
    backbone = unicond.load(folder).backbone
    assert backbone.network.dtype == torch.float32
    weight = load_file(folder / "unet/diffusion_pytorch_model.fp16.safetensors")["conv_in.weight"]
    assert torch.equal(backbone.network.conv_in.weight, weight.float())


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A Hub that is a folder: it copies the files of a repository that the patterns name."""
    server, cache, asked = tmp_path / "server", tmp_path / "cache", []

    def snapshot_download(repo, allow_patterns):
        if not (server / repo).is_dir():
            raise LocalEntryNotFoundError(f"{repo} cannot be reached")
        for path in (server / repo).rglob("*"):
            name = str(path.relative_to(server / repo))
            if path.is_file() and any(fnmatch.fnmatch(name, one) for one in allow_patterns):
                target = cache / repo / name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, target)
                asked.append(name)
        return str(cache / repo)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return server, asked


@pytest.mark.parametrize(
    ("dtype", "offered", "fetched"),
    [
        (torch.float32, ("", ".fp16"), ""),
        (torch.bfloat16, ("", ".fp16"), ".fp16"),
        (torch.bfloat16, ("",), ""),
        (torch.float32, (".fp16",), ".fp16"),
    ],
)
def test_one_variant_is_downloaded(dtype, offered, fetched, bases, hub):
    server, asked = hub
    repo = server / "owner" / "name"
    shutil.copytree(bases["xl"], repo)
    halved(repo)
    for path in repo.glob("*/*.safetensors"):
        if (".fp16" if ".fp16." in path.name else "") not in offered:
            path.unlink()
    (repo / "safety_checker").mkdir()
    for name in ("safety_checker/model.safetensors", "unet/diffusion_pytorch_model.bin", "a.ckpt"):
        (repo / name).write_bytes(b"not wanted")
    backbone = unicond.load("owner/name", dtype=dtype).backbone
    assert backbone.network.dtype == dtype
    weights = {name for name in asked if not name.endswith((".json", ".txt"))}
    assert weights == {
        f"{part}/{stem}{fetched}.safetensors"
        for part, stem in (
            ("unet", "diffusion_pytorch_model"),
            ("vae", "diffusion_pytorch_model"),
            ("text_encoder", "model"),
            ("text_encoder_2", "model"),
        )
    }


def test_info_tells_the_family(bases):
    for kind, family in FAMILIES.items():
        shown = CliRunner().invoke(app, ["info", "--base", str(bases[kind])])
        assert shown.exit_code == 0, shown.output
        assert family in " ".join(shown.output.split())
        assert shown.output.count("text encoder") == (2 if kind == "xl" else 1)


def test_a_single_file_and_offloading_from_the_command_line(bases, models, tmp_path):
    """`FILE@CONFIG` is a base wherever a base is named, also in the record that a rerun reads."""
    file = tmp_path / "one.safetensors"
    save_file(single_file(models["one"].backbone), file)
    base, out = f"{file}@{bases['one']}", tmp_path / "out"
    arguments = ["generate", "--prompt", "a dog", "--steps", "2", "--base", base, "--out", str(out)]
    made = CliRunner().invoke(app, arguments)
    assert made.exit_code == 0, made.output
    picture = out / "0_image.png"
    again = CliRunner().invoke(app, ["rerun", str(picture), "--out", str(tmp_path / "again")])
    assert again.exit_code == 0, again.output
    pixels = [Image.open(folder / "0_image.png").tobytes() for folder in (out, tmp_path / "again")]
    assert pixels[0] == pixels[1]
    refused = CliRunner().invoke(app, [*arguments, "--device", "cpu", "--offload"])
    assert "leave it out" in str(refused.exception)

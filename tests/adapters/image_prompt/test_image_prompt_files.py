"""Image prompt adapters and encoders as files: ours, the published ones, and what can be wrong."""

import json
import shutil

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file, save_file
from tiny_prompts import EMBEDDING, WORDS, adapter_of, embeds_of, encoder, network, same

from unicond.adapters import hub
from unicond.adapters.image_prompt.adapter import ImagePromptAdapter, cross_layers
from unicond.adapters.image_prompt.attach import Attachment
from unicond.adapters.image_prompt.config import ImagePromptConfig
from unicond.adapters.image_prompt.encoder import FOLDER, ImageEncoder
from unicond.adapters.image_prompt.preprocess import FILE
from unicond.adapters.image_prompt.prompter import Prompter
from unicond.adapters.joint import JointAdapter
from unicond.training.image_encoder import ImageEncoderConfig
from unicond.training.loop import seeded

LOAD = ImagePromptAdapter.from_pretrained


@pytest.fixture(scope="module")
def unet():
    return network()


@pytest.fixture
def adapter(unet):
    return adapter_of(unet)


def nested(adapter):
    """A published file's two dictionaries."""
    parts = {"image_proj": {}, "ip_adapter": {}}
    for name, value in adapter.state_dict().items():
        part, _, rest = name.partition(".")
        parts[part][rest] = value
    return parts


# ---- our layout


def test_round_trip(adapter, tmp_path):
    card = hub.Card("the world", "unicond train image-prompt", {"error": 0.5}, "apache-2.0")
    Prompter(adapter, encoder()).save_pretrained(tmp_path, card)
    found = LOAD(tmp_path)
    same(found, adapter)
    assert found.config == adapter.config
    assert not any(value.requires_grad for value in found.parameters())
    text = (tmp_path / "README.md").read_text()
    for word in ("the world", "| error | 0.5 |", "license: apache-2.0", "image-prompt", "4 tokens"):
        assert word in text
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        hub.CARD_FILE,
        hub.CONFIG_FILE,
        hub.MODEL_FILE,
        FOLDER,
    ]
    with pytest.raises(ValueError, match="something else, not a joint adapter"):
        JointAdapter.from_pretrained(tmp_path)


def test_half_precision_files(adapter, tmp_path):
    Prompter(adapter, encoder()).save_pretrained(tmp_path, dtype=torch.float16)
    for path in (tmp_path / hub.MODEL_FILE, tmp_path / FOLDER / "model.safetensors"):
        assert {value.dtype for value in load_file(path).values()} == {torch.float16}
    same(LOAD(tmp_path), adapter.half().float())
    assert {v.dtype for v in LOAD(tmp_path, dtype=torch.bfloat16).parameters()} == {torch.bfloat16}


def test_what_we_write_diffusers_reads(unet, adapter, tmp_path):
    from diffusers.loaders import IPAdapterMixin

    adapter.save_pretrained(tmp_path)

    class Pipeline(IPAdapterMixin):
        def __init__(self):
            self.unet = network()
            self.image_encoder = self.feature_extractor = None

        def register_modules(self, **parts):
            pass

        def _offload(self, *_):
            pass

    theirs = Pipeline()
    theirs.load_ip_adapter(
        str(tmp_path), subfolder="", weight_name=hub.MODEL_FILE, image_encoder_folder=None
    )
    sample, words = torch.randn(1, 4, 8, 8), torch.randn(1, 7, WORDS)
    given = {"image_embeds": [embeds_of()]}
    with torch.no_grad():
        wanted = theirs.unet(sample, 500, words, added_cond_kwargs=given).sample
        with Attachment(unet, adapter, embeds_of()).active():
            found = unet(sample, 500, words).sample
    assert float((found - wanted).abs().max()) < 1e-5  # float32, other order of sums


@pytest.mark.parametrize("side", [24, 37])
def test_diffusers_sees_a_picture_as_we_do(tiny_base, side, tmp_path):
    """It reads no `preprocessor_config.json`: an encoder as trained must need none."""
    from diffusers import StableDiffusionPipeline
    from PIL import Image

    pipe = StableDiffusionPipeline.from_pretrained(tiny_base)
    shape = ImageEncoderConfig(size=24, patch=8, width=16, layers=1, head_width=8, embedding=12)
    with seeded(4):
        made = shape.contrast(WORDS).encoder()
    adapter = ImagePromptAdapter.for_network(pipe.unet, made.width)
    Prompter(adapter, made).save_pretrained(tmp_path)
    pipe.load_ip_adapter(
        str(tmp_path), subfolder="", weight_name=hub.MODEL_FILE, image_encoder_folder=FOLDER
    )
    generator = torch.Generator().manual_seed(0)
    values = torch.randint(256, (3, side, side + 5), generator=generator, dtype=torch.uint8)
    image = Image.fromarray(values.permute(1, 2, 0).numpy())
    with torch.no_grad():
        [wanted] = pipe.prepare_ip_adapter_image_embeds(image, None, "cpu", 1, False)
    found = Prompter.from_pretrained(tmp_path).embeds([values / 127.5 - 1])
    assert wanted.abs().mean() > 0.1
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)  # float32, other order


# ---- published files


@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_published_files(adapter, suffix, tmp_path):
    path = tmp_path / "models" / f"ip-adapter_sd15.{suffix}"
    path.parent.mkdir()
    if suffix == "bin":
        torch.save(nested(adapter), path)
    else:
        save_file(adapter.state_dict(), path)
    for found in (LOAD(path), LOAD(tmp_path, f"models/{path.name}")):
        same(found, adapter)
        assert found.config == ImagePromptConfig(embedding=EMBEDDING, width=WORDS, tokens=4)
    encoder().save_pretrained(path.parent / FOLDER)
    for one in (ImageEncoder.beside(path), ImageEncoder.beside(tmp_path, f"models/{path.name}")):
        same(one.model, encoder().model)


def test_names_are_those_of_stable_diffusion():
    """Numbers 1 to 31: six on the way down, nine on the way up, the middle one last."""
    widths = (320, 640, 1280, 1280)
    with torch.device("meta"):
        unet = UNet2DConditionModel(
            block_out_channels=widths, cross_attention_dim=768, attention_head_dim=8
        )
        names = list(unet.attn_processors)
        made = ImagePromptAdapter(
            ImagePromptConfig(), [320] * 2 + [640] * 2 + [1280] * 5 + [640] * 3 + [320] * 3 + [1280]
        )
    cross = [name for name in names if name.endswith("attn2.processor")]
    assert [f"{name}.processor" for name in cross_layers(unet)] == cross
    assert [names.index(name) for name in cross] == [int(number) for number in made.ip_adapter]
    assert len(made.state_dict()) == 4 + 2 * 16
    assert made.image_proj.proj.weight.shape == (4 * 768, 1024)
    with Attachment(unet, made, torch.empty(1, 1, 1024, device="meta")).active():
        pass
    config = ImagePromptConfig(width=2048)
    assert config.embedding == 1024


def test_networks_are_told_by_width(tmp_path):
    for width, base in ((768, "v1-5"), (2048, "xl-base-1.0"), (16, "unknown")):
        config = ImagePromptConfig(embedding=2, width=width, tokens=1)
        save_file(ImagePromptAdapter(config, [4]).state_dict(), tmp_path / "a.safetensors")
        assert LOAD(tmp_path / "a.safetensors").config.base.endswith(base)


class Evil:
    def __reduce__(self):
        return (print, ("executed",))


OTHER_KINDS = {
    "Plus, which": "latents",
    "Full Face": "proj.3.weight",
    "FaceID Plus": "perceiver_resampler.proj_in.weight",
    "FaceID, which": "proj.0.weight",
}


@pytest.mark.parametrize("kind", OTHER_KINDS)
def test_other_kinds_are_named(adapter, kind, tmp_path):
    parts = nested(adapter)
    parts["image_proj"] = {OTHER_KINDS[kind]: torch.zeros(2, 2), "norm.weight": torch.ones(2)}
    torch.save(parts, tmp_path / "a.bin")
    with pytest.raises(ValueError, match=f"is IP-Adapter {kind}.*the plain kind is read"):
        LOAD(tmp_path / "a.bin")


def test_pickles_run_nothing(adapter, tmp_path, capsys):
    path = tmp_path / "a.bin"
    torch.save({**nested(adapter), "more": Evil()}, path)
    with pytest.raises(ValueError, match="was refused, and nothing in it was executed"):
        LOAD(path)
    assert "executed" not in capsys.readouterr().out
    torch.save({"image_proj": {}, "unet": {}}, path)
    with pytest.raises(ValueError, match=r"holds \['image_proj', 'unet'\], not"):
        LOAD(path)
    torch.save({"image_proj": {"proj.weight": 3}, "ip_adapter": {}}, path)
    with pytest.raises(ValueError, match=r"'image_proj.proj.weight' is not a tensor"):
        LOAD(path)


LAYER = "ip_adapter.3"
WRONG = {
    r"tensors 1 missing \(first: ip_adapter.3.to_v_ip": lambda v: v.pop(f"{LAYER}.to_v_ip.weight"),
    r"are \[1, 5, 7\]; they must be 1, 3, 5": lambda v: v.pop(f"{LAYER}.to_k_ip.weight"),
    r"are \[1, 3, 5, 7, 8\]": lambda v: v.update({"ip_adapter.8.to_k_ip.weight": torch.ones(2, 2)}),
    "1 not expected .first: more": lambda v: v.update({"more": torch.ones(1)}),
    r"to_v_ip.weight has shape \(16, 3\)": lambda v: v.update(
        {f"{LAYER}.to_v_ip.weight": torch.ones(16, 3)}
    ),
    "proj.weight or image_proj.norm.weight is missing": lambda v: v.pop("image_proj.proj.weight"),
    "makes 64 numbers .* no tokens of width 15": lambda v: v.update(
        {"image_proj.norm.weight": torch.ones(15)}
    ),
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_tensors_are_named(adapter, message, tmp_path):
    values = adapter.state_dict()
    WRONG[message](values)
    save_file(values, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match=message):
        LOAD(tmp_path / "a.safetensors")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokens": 0}, "tokens is 0; it must be an integer of at least 1"),
        ({"width": True}, "width is True; it must be an integer"),
        ({"base": ""}, "base is ''; it must be a text"),
        ({"embedding": 13}, "proj.weight has shape .*, but its configuration and layers need"),
        ({"format": 2}, "has format 2; this is 1"),
        ({"type": "unicond.joint"}, "something else, not an image prompt adapter"),
    ],
)
def test_wrong_configs_are_named(adapter, change, message, tmp_path):
    adapter.save_pretrained(tmp_path)
    path = tmp_path / hub.CONFIG_FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ValueError, match=message):
        LOAD(tmp_path)


def test_what_is_not_there_is_named(adapter, tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "ip-adapter_sd15.bin").write_bytes(b"no")
    with pytest.raises(FileNotFoundError, match=r"no adapter_config.json, but \['ip-adapter_sd15"):
        LOAD(tmp_path / "models")
    with pytest.raises(ValueError, match="was refused, and nothing in it was executed"):
        LOAD(tmp_path / "models" / "ip-adapter_sd15.bin")
    with pytest.raises(FileNotFoundError, match="is missing"):
        LOAD(tmp_path / "other.bin")
    with pytest.raises(FileNotFoundError, match=r"has no file 'models/x\.bin'"):
        LOAD(tmp_path, "models/x.bin")
    with pytest.raises(FileNotFoundError, match="has no image encoder beside it"):
        ImageEncoder.beside(tmp_path, "models/ip-adapter_sd15.bin")


# ---- fresh ones


def test_fresh_ones_begin_at_the_words_projections(unet):
    first, again = (
        ImagePromptAdapter.for_network(unet, 5, tokens=3, base="b", generator=generator)
        for generator in (None, torch.Generator().manual_seed(0))
    )
    same(first, again)
    assert first.config == ImagePromptConfig(embedding=5, width=WORDS, tokens=3, base="b")
    for mine, layer in zip(first.layers(), cross_layers(unet).values(), strict=True):
        assert torch.equal(mine.to_k_ip.weight, layer.to_k.weight)
        assert torch.equal(mine.to_v_ip.weight, layer.to_v.weight)
        assert mine.to_k_ip.weight.data_ptr() != layer.to_k.weight.data_ptr()
    assert first.tokens(torch.zeros(2, 4, 5)).shape == (3, 12, WORDS)
    with pytest.raises(ValueError, match="Linear has no cross-attention"):
        ImagePromptAdapter.for_network(torch.nn.Linear(1, 1), 5)


# ---- the encoder


def test_the_encoder_round_trip(tmp_path):
    made = encoder()
    made.save_pretrained(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "config.json",
        "model.safetensors",
        FILE,
    ]
    found = ImageEncoder.from_pretrained(tmp_path)
    same(found.model, made.model)
    assert found.preprocess == made.preprocess
    assert not any(value.requires_grad for value in found.model.parameters())
    pictures = [torch.rand(3, 40, 30) * 2 - 1, torch.rand(3, 25, 50) * 2 - 1]
    embeds = found.embed(pictures)
    assert embeds.shape == (2, EMBEDDING)
    assert found.width == EMBEDDING
    values = torch.stack([made.preprocess(one) for one in pictures])
    wanted = made.model(pixel_values=values).image_embeds
    torch.testing.assert_close(embeds, wanted)
    torch.testing.assert_close(found.embed(pictures[1:])[0], embeds[1], rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="no picture to embed"):
        found.embed([])


def test_transformers_reads_it(tmp_path):
    from transformers import CLIPVisionModelWithProjection

    encoder().save_pretrained(tmp_path)
    same(CLIPVisionModelWithProjection.from_pretrained(tmp_path), encoder().model)


def test_wrong_encoders_are_named(adapter, tmp_path):
    encoder().save_pretrained(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    path = tmp_path / "b" / "config.json"
    said = json.loads(path.read_text())
    for change, message in (
        ({"num_hidden_layers": 3}, "tensors missing: 16, first vision_model.encoder.layers.2"),
        ({"projection_dim": 13}, "of another size: 1, first visual_projection.weight"),
        ({"hidden_size": 17}, "cannot be read"),
    ):
        path.write_text(json.dumps({**said, **change}))
        with pytest.raises(ValueError, match=message):
            ImageEncoder.from_pretrained(tmp_path / "b")
    (tmp_path / "b" / "model.safetensors").write_bytes(b"no")
    with pytest.raises(ValueError, match=r"cannot be read .*get it from its source again"):
        ImageEncoder.from_pretrained(tmp_path / "b")
    (tmp_path / "b" / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"it has no model\.safetensors"):
        ImageEncoder.from_pretrained(tmp_path / "b")
    other = ImagePromptAdapter(ImagePromptConfig(embedding=13, width=WORDS), adapter.inner)
    with pytest.raises(ValueError, match="embeddings have width 12, but this adapter takes 13"):
        Prompter(other, encoder())

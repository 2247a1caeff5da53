"""Pictures as prompts: what callers give, and what a model with such an adapter makes of it."""

import pytest
import torch
from typer.testing import CliRunner

import unicond
from unicond import ImagePrompt, Window
from unicond.adapters.during import Attached
from unicond.adapters.image_prompt.attach import Attachment
from unicond.adapters.image_prompt.prompter import Prompter
from unicond.calls.output import read_record
from unicond.calls.rerun import repeat
from unicond.cli import app
from unicond.pictures.metadata import write_png
from unicond.tasks.together import Together

pytestmark = pytest.mark.filterwarnings("ignore:the model has")  # what is idle is compared with
ROUNDING = 1e-4  # across batch sizes, in float32
USUAL = {"num_inference_steps": 3, "seed": 3}


@pytest.fixture(scope="module")
def model(tiny_base, prompter):
    return unicond.load(tiny_base, [prompter])


@pytest.fixture
def files(tmp_path):
    """Two pictures of other sizes than the run's."""
    generator = torch.Generator().manual_seed(1)
    sizes = ((40, 30), (20, 50))
    pictures = [torch.rand(3, *size, generator=generator) * 2 - 1 for size in sizes]
    return [write_png(p, tmp_path / f"{n}.png", {}) for n, p in enumerate(pictures)]


def made(model, picture=None, **asked):
    return model("a dog", image_prompt=picture, **{**USUAL, **asked}).latents["image"]


def test_a_picture_changes_what_is_drawn(tiny_base, model, files):
    plain, first, both = made(model), made(model, files[0]), made(model, files)
    assert torch.equal(plain, made(unicond.load(tiny_base)))
    assert (plain - first).abs().max() > 1e-3
    assert (first - both).abs().max() > 1e-3
    assert torch.equal(made(model, ImagePrompt(files[0], scale=0.0)), plain)
    assert torch.equal(made(model, ImagePrompt(files[0], window=Window.steps(0, 0))), plain)


def test_it_is_what_the_attachment_does(model, files, prompter):
    loaded = Prompter.from_pretrained(prompter)
    network = model.backbone.network
    pictures = [unicond.pictures.reading.read_picture(one) for one in files]
    attachment = Attachment(network, loaded.adapter, loaded.embeds(pictures), scale=0.6)
    wanted = made(model, mechanisms=[Attached(attachment)])
    assert torch.equal(made(model, ImagePrompt(files, scale=0.6)), wanted)


def test_a_sample_does_not_depend_on_its_batch(model, files):
    whole = made(model, files[0], seed=[3, 4])
    for row, seed in enumerate((3, 4)):
        alone = made(model, files[0], seed=seed)
        torch.testing.assert_close(whole[row : row + 1], alone, rtol=0, atol=ROUNDING)


def test_a_picture_can_be_made_again(model, files, tmp_path, prompter):
    said = ImagePrompt(files, scale=0.7, window=Window.share(0, 0.8))
    out = model("a dog", image_prompt=said, **USUAL)
    record = read_record(out.save(tmp_path / "out")[0])
    assert record.adapters == {"image-prompt": str(prompter)}
    assert torch.equal(repeat(model, record).latents["image"], out.latents["image"])
    assert "image-prompt" not in model("a dog", **USUAL).record.adapters
    memory = model("a dog", image_prompt=torch.zeros(3, 8, 8), **USUAL).record
    with pytest.raises(ValueError, match="image prompt of this run was given from memory"):
        repeat(model, memory)


def test_beside_a_grounding_and_aggregated(tiny_base, prompter, grounders, files):
    model = unicond.load(tiny_base, [prompter, grounders["interact"]])
    said = unicond.Grounding.of([("a dog", 0.1, 0.2, 0.5, 0.9)])
    alone = made(model, grounding=said)
    assert (made(model, files[0], grounding=said) - alone).abs().max() > 1e-3
    pictures = {"2": str(files[0])}
    task = {"grounding": said, "pictures": pictures, "num_inference_steps": 4, "seed": 3}
    first = Together("a dog", ("interact", "style"), weights=[1.0], **task).run(model)
    assert torch.equal(first.latents["image"], made(model, grounding=said, num_inference_steps=4))
    both = Together("a dog", ("interact", "style"), **task).run(model)
    strong = Together("a dog", ("interact", "style"), ip_scale=1.5, **task).run(model)
    assert (both.latents["image"] - first.latents["image"]).abs().max() > 1e-3
    assert (both.latents["image"] - strong.latents["image"]).abs().max() > 1e-4


def test_on_the_command_line(tiny_base, prompter, files, tmp_path):
    common = ["--base", str(tiny_base), "--adapter", f"image-prompt={prompter}", "--steps", "2"]
    out = tmp_path / "one"
    asked = ["--image-prompt", str(files[0]), "--ip-scale", "0.5", "--out", str(out)]
    found = CliRunner().invoke(app, ["generate", "--prompt", "a dog", *asked, *common])
    assert found.exit_code == 0, found.output
    shown = read_record(out / "0_image.png").image_prompt
    assert (shown.files[0]["path"], shown.scale) == (str(files[0]), 0.5)
    out = tmp_path / "two"
    models = ["--model", "text", "--model", f"style={files[1]}:0.45", "--out", str(out)]
    found = CliRunner().invoke(app, ["aggregate", "a dog", *models, *common])
    assert found.exit_code == 0, found.output
    assert read_record(out / "0_image.png").task["weights"] == [0.45]


def test_the_command_line_refuses_an_idle_adapter(tiny_base, prompter, tmp_path):
    options = ["--base", str(tiny_base), "--adapter", f"image-prompt={prompter}"]
    refused = CliRunner().invoke(app, ["generate", *options, "--out", str(tmp_path / "out")])
    message = "the adapter image-prompt looks at a picture: give --image-prompt FILE"
    assert message in str(refused.exception)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"picture": []}, "an empty list of pictures"),
        ({"picture": "no.png"}, "cannot read no.png"),
    ],
)
def test_pictures_that_are_none(model, asked, message):
    with pytest.raises(ValueError, match=message):
        made(model, **asked)


def test_a_scale_that_is_none():
    with pytest.raises(ValueError, match="scale of an image prompt is nan"):
        ImagePrompt("x.png", scale=float("nan"))


def test_a_model_without_an_adapter_for_it_says_so(tiny, files):
    with pytest.raises(ValueError, match="no adapter of this model looks at pictures"):
        tiny("a dog", image_prompt=files[0])
    with pytest.raises(ValueError, match="'style': give its picture"):
        Together("a dog", ("text", "style")).run(tiny)

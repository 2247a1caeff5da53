"""Joint adapters and ordinary LoRAs on a base of each family: made for it, saved, loaded, run."""

import pytest
import torch
from safetensors.torch import save_file
from tiny_bases import FAMILIES

import unicond
from unicond.adapters.config import JointConfig
from unicond.adapters.joint import JointAdapter

PICTURE = torch.linspace(-1, 1, 64).expand(3, 64, 64)
TOLD = {"prompt": "a red ball", "num_inference_steps": 2, "guidance_scale": 3.0}


@pytest.fixture(scope="module")
def made(models, tmp_path_factory):
    """{family: {"depth", "pose": folder}} of random adapters, trained in every role."""
    root = tmp_path_factory.mktemp("adapters")
    folders = {}
    for kind, model in models.items():
        for number, (name, post) in enumerate((("depth", "conv_fuse"), ("pose", "conv"))):
            config = JointConfig(
                y=name,
                kind=name,
                rank=2,
                y_rank=2,
                post_joint=post,
                trigger=f"{name} map, ",
                roles=("two_way", "condition_held", "image_held"),
                base=FAMILIES[kind],
            )
            adapter = JointAdapter.for_network(model.backbone.network, config)
            generator = torch.Generator().manual_seed(number)
            for parameter in adapter.parameters():
                parameter.data = torch.randn(parameter.shape, generator=generator) * 0.2
            adapter.save_pretrained(root / kind / name)
            folders.setdefault(kind, {})[name] = root / kind / name
    return folders


@pytest.fixture(scope="module")
def adapted(bases, made):
    return {kind: unicond.load(folder, made[kind]) for kind, folder in bases.items()}


@pytest.mark.parametrize("kind", FAMILIES)
def test_several_adapters_in_every_direction(kind, adapted, models):
    model, plain = adapted[kind], models[kind](**TOLD)
    joint = model(**TOLD)
    assert set(joint.pictures) == {"image", "depth", "pose"}
    assert not torch.allclose(joint.latents["image"], plain.latents["image"], atol=1e-2)
    follow = model(depth=PICTURE, branches=["image"], **TOLD)
    assert torch.equal(follow.pictures["depth"][0], PICTURE)
    other = model(depth=-PICTURE, branches=["image"], **TOLD)
    assert not torch.allclose(follow.latents["image"], other.latents["image"], atol=1e-3)
    both = model(depth=PICTURE, pose=PICTURE, branches=["image"], **TOLD)
    assert not torch.allclose(both.latents["image"], follow.latents["image"], atol=1e-3)
    estimated = model(image=PICTURE)
    assert estimated.record.generated == ("depth", "pose")


@pytest.mark.parametrize("kind", FAMILIES)
def test_an_adapter_that_is_off_is_absent(kind, adapted, models):
    off = dict.fromkeys(("depth", "pose"), 0.0)
    found = adapted[kind](conditioning_scale=off, **TOLD).latents["image"]
    assert (found - models[kind](**TOLD).latents["image"]).abs().max() < 1e-4
    alone = adapted[kind](branches=["image"], **TOLD).latents["image"]
    assert torch.equal(alone, models[kind](**TOLD).latents["image"])


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_fresh_adapter_changes_nothing(kind, bases, models, tmp_path):
    config = JointConfig(y="depth", rank=2, y_rank=0)
    network = models[kind].backbone.network
    JointAdapter.for_network(network, config).save_pretrained(tmp_path / "fresh")
    found = unicond.load(bases[kind], {"depth": tmp_path / "fresh"})(**TOLD)
    assert (found.latents["image"] - models[kind](**TOLD).latents["image"]).abs().max() < 1e-4


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_batch_with_a_held_branch_is_each_alone(kind, adapted):
    """Every row has its own prompt, its trigger words, and its own added conditions."""
    told = TOLD | {"depth": PICTURE, "branches": ["image", "pose"], "negative_prompt": "fog"}
    prompts = ["a red ball", "grey fog in the night"]
    both = adapted[kind](**(told | {"prompt": prompts}), seed=[3, 4])
    for row, (prompt, seed) in enumerate(zip(prompts, (3, 4), strict=True)):
        alone = adapted[kind](**(told | {"prompt": prompt}), seed=seed)
        for branch in ("image", "pose"):
            difference = both.latents[branch][row] - alone.latents[branch][0]
            assert difference.abs().max() < 1e-4


@pytest.mark.parametrize("kind", FAMILIES)
def test_held_branches_run_once(kind, adapted):
    """Kept or run again, the numbers are the same; only the first call has rows of the held."""
    model, rows = adapted[kind], []
    hook = model.backbone.network.register_forward_pre_hook(
        lambda _, arguments: rows.append(len(arguments[0]))
    )
    told = TOLD | {"depth": PICTURE, "pose": PICTURE, "branches": ["image"]}
    try:
        kept = model(**told, cache=True)
        again = model(**told, cache=False)
    finally:
        hook.remove()
    assert rows == [6, 2, 6, 6]
    assert (kept.latents["image"] - again.latents["image"]).abs().max() < 1e-4


def test_an_adapter_of_another_family_is_refused(bases, made):
    with pytest.raises(ValueError, match=r"made for another network \(Stable Diffusion XL\)"):
        unicond.load(bases["two"], {"depth": made["xl"]["depth"]})


def test_an_xl_lora_under_the_names_of_old(bases, models, tmp_path):
    """Trainers for XL name the blocks as single files do, which only the network's shape tells."""
    width = models["xl"].backbone.network.down_blocks[1].attentions[0].proj_in.in_features
    name = "lora_unet_input_blocks_3_1_transformer_blocks_0_attn1_to_q"
    state = {
        f"{name}.lora_down.weight": torch.ones(2, width) * 0.3,
        f"{name}.lora_up.weight": torch.ones(width, 2) * 0.3,
        f"{name}.alpha": torch.tensor(2.0),
    }
    path = tmp_path / "style.safetensors"
    save_file(state, path)
    styled = unicond.load(bases["xl"], loras={str(path): 1.0})
    query = styled.backbone.network.down_blocks[1].attentions[0].transformer_blocks[0].attn1.to_q
    plain = models["xl"].backbone.network.down_blocks[1].attentions[0].transformer_blocks[0]
    x = torch.randn(1, 5, width, generator=torch.Generator().manual_seed(0))
    want = plain.attn1.to_q(x) + x.sum(-1, keepdim=True) * 2 * 0.3**2
    assert torch.allclose(query(x), want, atol=1e-4)
    with pytest.raises(ValueError, match=r"does not fit this network \(Stable Diffusion 1.x\)"):
        unicond.load(bases["one"], loras={str(path): 1.0})

"""MIGC against the published module's numbers, inside and in a network."""

import pytest
import torch
from golden_grounding import (
    CA_SCALE,
    EA_SCALE,
    SAC_SCALE,
    TIMESTEP,
    close,
    instances,
    meta,
    migc,
    move,
    network,
    part,
    places,
    rows,
    tensors,
)

from unicond.adapters.grounding.attach import Attachment, until_step
from unicond.adapters.grounding.balance import CBAM
from unicond.adapters.grounding.boxes import Regions, waves
from unicond.adapters.grounding.instances import InstanceProcessor, averaged
from unicond.adapters.grounding.migc import Wanted
from unicond.sampling.window import ALWAYS

IO = "migc/io.safetensors"


@pytest.fixture(scope="module")
def unet():
    return network("migc")


@pytest.fixture(scope="module")
def adapter():
    return migc()


@pytest.fixture(scope="module")
def module(adapter):
    return dict(adapter.parts())[places()["mid"]]


@pytest.fixture(autouse=True)
def no_grad():
    with torch.no_grad():
        yield


def boxes():
    return torch.tensor(meta("migc")["bboxes_xyxy"])[None]


def regions():
    return Regions.of(boxes(), torch.ones(1, 3), (128, 128), (16, 16))


def wanted(**scales):
    phrases = tensors(IO)["mod/pooler"][1:, 0][None]
    return Wanted(phrases, boxes(), torch.ones(1, 3), regions().at((8, 8)), **scales)


def order(case):
    return torch.tensor(meta("migc")["perm"][case])


def test_regions():
    found = regions()
    close(found.instances, IO, "mod/guidance_mask_16")
    close(found.background, IO, "mod/supplement_mask_16")
    close(found.at((8, 8)).instances, IO, "mod/guidance_mask_8")
    close(found.at((8, 8)).background, IO, "mod/supplement_mask_8")


def test_box_tokens(module):
    crossed = boxes()[..., [0, 2, 1, 3]]
    close(crossed, IO, "mod/box_xxyy")
    close(waves(crossed)[0, :, None], IO, "mod/box_fourier")
    close(module.pos_net(boxes())[0, :, None], IO, "mod/box_token")


def test_what_it_hears(module):
    close(module.enhanced(tensors(IO)["mod/image_token"][0], wanted()), IO, "mod/seed0/ea_out")
    picture = tensors(IO)["mod/image_token"][0]
    close(module.layout(picture, regions().at((8, 8))), IO, "mod/seed0/la_out")


def test_how_much_of_phrase_and_box_it_hears(module):
    """By the queries and keys of the enhancement, through diffusers' own scores."""
    asked = []
    layers = (module.ea.to_q, module.ea.to_k)
    hooks = [one.register_forward_hook(lambda *told: asked.append(told[-1])) for one in layers]
    module.enhanced(tensors(IO)["mod/image_token"][0], wanted())
    for hook in hooks:
        hook.remove()
    query, key = (module.ea.head_to_batch_dim(one.expand(3, -1, -1)) for one in asked)
    found = module.ea.get_attention_scores(query, key).unflatten(0, (3, -1))
    close(found, IO, "mod/seed0/ea_attn")


def test_gates(module):
    gate = CBAM(64, 4)
    gate.load_state_dict(part(tensors("migc/migc_w_fp16.safetensors"), "mid.sac.cbam1."))
    x = tensors(IO)["cbam/x"]
    close(gate.ChannelGate(x), IO, "cbam/channel_gate")
    close(gate(x), IO, "cbam/out")
    for number in (1, 2):
        found = getattr(module.sac, f"cbam{number}")(tensors(IO)[f"mod/seed0/cbam{number}_in"])
        close(found, IO, f"mod/seed0/cbam{number}_out")


SCALES = {
    name: torch.tensor([value])
    for name, value in (("ca_scale", CA_SCALE), ("ea_scale", EA_SCALE), ("sac_scale", SAC_SCALE))
}


@pytest.mark.parametrize(
    ("case", "scales"), [("seed0", {}), ("seed1", {}), ("seed0_scales", SCALES)]
)
def test_module(case, scales, module):
    io, seen = tensors(IO), {}

    def remember(sac, inputs, output):
        phases, guidance, *_ = inputs
        seen["phases"] = phases.flatten(2).mT[None]
        seen["softmax"] = output[:, [0, 1, 2, 3, -1]].softmax(1)
        seen["features"] = sac.features(
            torch.cat([phases, torch.zeros_like(phases[:1])]),
            torch.cat([guidance, torch.zeros_like(guidance[:1])]),
        )

    hook = module.sac.register_forward_hook(remember)
    given = order(f"mod/{case}")
    prompt, phrases = io["mod/ca_x"][:, 0], io["mod/ca_x"][0, 1:]
    found = module(prompt, phrases, io["mod/image_token"][0], wanted(**scales), given)
    hook.remove()
    close(found[None], IO, f"mod/{case}/out")
    close(seen["softmax"], IO, f"mod/{case}/sac_softmax")
    if case == "seed0":
        close(seen["phases"], IO, "mod/seed0/sac_in_x")
        close(seen["features"], IO, "mod/seed0/cbam1_in")


def test_naive_average():
    of_all = tensors(IO)["mod/ca_x"]
    close(averaged(of_all[:, 0], of_all[0, 1:], wanted()), IO, "mod/naive_fuser_out")


def run(unet):
    io = tensors(IO)
    return unet(io["unet/sample"], TIMESTEP, io["unet/encoder_hidden_states"][:2]).sample


@pytest.mark.parametrize(
    ("case", "step", "last", "naive"),
    [
        ("migc_ith0", 0, 25, -1),
        ("vanilla_ith26", 26, 25, -1),
        ("naive_everywhere_ith5", 5, 25, 25),
        ("no_instances", 0, 25, 25),
    ],
)
def test_network(case, step, last, naive, unet, adapter):
    inputs = instances(f"unet/{case}")
    if case == "no_instances":
        inputs = type(inputs)(**{**vars(inputs), "masks": torch.zeros(1, 3)})
    windows = {"window": until_step(last), "naive": until_step(naive)}
    with (
        Attachment(unet, adapter, inputs, **windows).active(),
        rows().active(),
        move(step).active(),
    ):
        close(run(unet), IO, f"unet/{case}/out")


def test_layers(unet, adapter):
    outputs = {}

    def keep(name):
        def hook(layer, inputs, output):
            outputs[name] = output[1:][None]

        return hook

    hooks = [
        unet.get_submodule(f"{block}.attn2").register_forward_hook(keep(name))
        for name, block in places().items()
    ]
    with Attachment(unet, adapter, instances()).active(), rows().active():
        run(unet)
    for hook in hooks:
        hook.remove()
    for name in places():
        close(outputs[name], IO, f"unet/migc_ith0/migc_out/{name}")
    assert len(outputs) == 3


def test_after_migc_its_layers_average_too(unet, adapter):
    """Every cross-attention layer is naive at a step that only the naive window holds."""
    seen = []
    with Attachment(unet, adapter, instances(), window=until_step(5), naive=until_step(6)).active():
        processors = {
            name: layer for name, layer in unet.attn_processors.items() if "attn2" in name
        }
        assert all(type(one) is InstanceProcessor for one in processors.values())
        with rows().active(), move(6).active():
            seen.append(run(unet))
    never = until_step(-1)
    with (
        Attachment(unet, adapter, instances(), window=never, naive=ALWAYS).active(),
        rows().active(),
        move(6).active(),
    ):
        seen.append(run(unet))
    assert torch.equal(*seen)


def test_the_negative_row_keeps_its_bits(unet, adapter):
    plain = run(unet)
    with Attachment(unet, adapter, instances()).active(), rows().active():
        found = run(unet)
    assert torch.equal(found[0], plain[0])
    assert float((found[1] - plain[1]).abs().max()) > 0.1


def test_the_order_matters_and_is_a_seeds(unet, adapter):
    from unicond.adapters.grounding.inputs import Seeded

    def of(shuffle):
        inputs = type(instances())(**{**vars(instances()), "shuffle": shuffle})
        with Attachment(unet, adapter, inputs).active(), rows().active():
            return run(unet)

    before = torch.get_rng_state()
    first, again, other = of(Seeded((3,))), of(Seeded((3,))), of(Seeded((4,)))
    assert torch.equal(first, again)
    assert float((first - other).abs().max()) > 1e-3
    assert torch.equal(torch.get_rng_state(), before)
    drawn = Seeded((3, 4))
    assert torch.equal(drawn(1, 2, 0, 28), Seeded((4,))(0, 2, 0, 28))
    assert sorted(drawn(0, 2, 0, 28).tolist()) == list(range(28))
    assert not torch.equal(drawn(0, 2, 0, 28), drawn(0, 3, 0, 28))


def test_pictures_that_are_not_square(adapter):
    wide = network("migc")
    io = tensors(IO)
    inputs = type(instances())(**{**vars(instances()), "size": (64, 128), "latents": (8, 16)})
    sample = io["unet/sample"][:, :, :8]
    with Attachment(wide, adapter, inputs).active(), rows().active():
        found = wide(sample, TIMESTEP, io["unet/encoder_hidden_states"][:2]).sample
    assert found.shape == sample.shape
    assert found.isfinite().all()
    wrong = type(inputs)(**{**vars(inputs), "latents": (8, 8)})
    message = r"latents of \(8, 8\), but a layer has .* tokens"
    words = io["unet/encoder_hidden_states"][:2]
    with (
        Attachment(wide, adapter, wrong).active(),
        rows().active(),
        pytest.raises(ValueError, match=message),
    ):
        wide(sample, TIMESTEP, words)

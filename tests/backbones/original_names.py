"""A base's weights under the names of the first releases: the contents of a single file.

The inverse of what loaders do, written down from the published files' names.
"""

import re

import torch

RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
OUTER = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "mid_block.resnets.0": "middle_block.0",
    "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2",
}


def single_file(backbone):
    """{name of old: weight} of everything in a base."""
    found = {f"model.diffusion_model.{k}": v for k, v in network(backbone.network).items()}
    found |= {f"first_stage_model.{k}": v for k, v in autoencoder(backbone.vae).items()}
    first = backbone.text_encoders[0]
    if len(backbone.text_encoders) == 2:
        found |= clip(first, "conditioner.embedders.0.transformer.")
        found |= open_clip(backbone.text_encoders[1], "conditioner.embedders.1.model.")
    elif first.config.hidden_act == "gelu":
        found |= open_clip(first, "cond_stage_model.model.")
    else:
        found |= clip(first, "cond_stage_model.transformer.")
    return {name: value.contiguous().clone() for name, value in found.items()}


def network(unet):
    blocks = unet.config["layers_per_block"] + 1
    return {_network_name(name, blocks, unet): v for name, v in unet.state_dict().items()}


def _network_name(name, blocks, unet):
    place = re.match(r"(down|up)_blocks\.(\d+)\.(\w+)\.(\d+)\.(.*)", name)
    if place is None:
        start = next(start for start in OUTER if name.startswith(f"{start}."))
        rest = name.removeprefix(f"{start}.")
        return f"{OUTER[start]}.{_resnet(rest) if 'resnets' in start else rest}"
    way, block, kind, number = place[1], int(place[2]), place[3], int(place[4])
    if kind == "downsamplers":
        return f"input_blocks.{(block + 1) * blocks}.0.op.{place[5].removeprefix('conv.')}"
    if kind == "upsamplers":
        attends = "CrossAttn" in unet.config["up_block_types"][block]
        return f"output_blocks.{(block + 1) * blocks - 1}.{1 + attends}.{place[5]}"
    first = f"input_blocks.{1 + block * blocks + number}"
    row = first if way == "down" else f"output_blocks.{block * blocks + number}"
    return f"{row}.1.{place[5]}" if kind == "attentions" else f"{row}.0.{_resnet(place[5])}"


def _resnet(rest):
    layer, _, end = rest.partition(".")
    return f"{RESNET[layer]}.{end}"


def autoencoder(vae):
    found = {}
    last = len(vae.config["block_out_channels"]) - 1
    for name, value in vae.state_dict().items():
        old = re.sub(r"down_blocks\.(\d+)", r"down.\1", name)
        old = re.sub(r"up_blocks\.(\d+)", lambda m: f"up.{last - int(m[1])}", old)
        old = re.sub(r"(down|up)\.(\d+)\.resnets\.(\d+)", r"\1.\2.block.\3", old)
        old = re.sub(r"(down|up)samplers\.0", r"\1sample", old)
        old = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", old)
        old = old.replace("mid_block.attentions.0", "mid.attn_1")
        old = old.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
        if "attn_1" in old:
            old = old.replace("group_norm", "norm").replace("to_out.0", "proj_out")
            old = re.sub(r"to_([qkv])", r"\1", old)
            value = value[..., None, None] if value.ndim == 2 else value
        found[old] = value
    return found


def clip(encoder, prefix):
    return {
        f"{prefix}text_model.{name.removeprefix('text_model.')}": value
        for name, value in encoder.state_dict().items()
    }


def open_clip(encoder, prefix):
    state = {k.removeprefix("text_model."): v for k, v in encoder.state_dict().items()}
    width = encoder.config.hidden_size
    found = {
        "token_embedding.weight": state["embeddings.token_embedding.weight"],
        "positional_embedding": state["embeddings.position_embedding.weight"],
        "ln_final.weight": state["final_layer_norm.weight"],
        "ln_final.bias": state["final_layer_norm.bias"],
        "text_projection": state.get("text_projection.weight", torch.eye(width)).T,
    }
    names = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "self_attn.out_proj": "attn.out_proj"}
    names |= {"mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"}
    for number in range(encoder.config.num_hidden_layers):
        old, new = f"transformer.resblocks.{number}", f"encoder.layers.{number}"
        for kind in ("weight", "bias"):
            for mine, theirs in names.items():
                found[f"{old}.{theirs}.{kind}"] = state[f"{new}.{mine}.{kind}"]
            qkv = [state[f"{new}.self_attn.{p}_proj.{kind}"] for p in "qkv"]
            found[f"{old}.attn.in_proj_{kind}"] = torch.cat(qkv)
    return {f"{prefix}{name}": value for name, value in found.items()}

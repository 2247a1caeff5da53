"""Joint attention written as its formula, pair by pair and head by head: an independent judge.

Full weights W + B A are built for every layer; nothing of `unicond.adapters.processor` is used.
"""

from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from golden_unicon import PairRow
from torch import Tensor, nn

from unicond.adapters.joint import JointAdapter


def softmax_attention(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """(N, d), (M, d), (M, d) -> (N, d)."""
    width = q.shape[-1] // heads
    outputs = []
    for head in range(heads):
        part = slice(head * width, (head + 1) * width)
        scores = q[:, part] @ k[:, part].T / width**0.5
        weights = torch.exp(scores - scores.max())
        outputs.append(weights / weights.sum(1, keepdim=True) @ v[:, part])
    return torch.cat(outputs, 1)


NAMES = ("to_q", "to_k", "to_v", "to_out")


def matrices(attn: nn.Module, *loras: nn.Module) -> dict[str, partial]:
    """The four projections of a layer with some LoRA added to their weights."""
    plain = (attn.to_q, attn.to_k, attn.to_v, attn.to_out[0])
    projections = {}
    for name, linear in zip(NAMES, plain, strict=True):
        weight = linear.weight
        for lora in loras:
            part = getattr(lora, name)
            weight = weight + part.B @ part.A
        projections[name] = partial(torch.nn.functional.linear, weight=weight, bias=linear.bias)
    return projections


def attend(
    attn: nn.Module,
    mine: dict[str, partial],
    h: Tensor,
    theirs: dict[str, partial],
    context: Tensor,
) -> Tensor:
    """One row's attention to a context, with one side's projections each."""
    q, k, v = mine["to_q"](h), theirs["to_k"](context), theirs["to_v"](context)
    return mine["to_out"](softmax_attention(q, k, v, attn.heads))


@dataclass
class SlowProcessor:
    name: str
    adapters: dict[str, JointAdapter]
    pairs: dict[str, list[PairRow]]
    joint_scale: float

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None):
        h = hidden_states
        context = h if encoder_hidden_states is None else encoder_hidden_states
        out = torch.stack([self.own(attn, row, h[row], context[row]) for row in range(len(h))])
        if self.name.endswith("attn1"):
            for adapter, pairs in self.pairs.items():
                for pair in pairs:
                    self.add_joint(attn, adapter, pair, h, out)
        return out

    def own(self, attn, row, h, context):
        """Self- or cross-attention; with every y-LoRA whose adapter has this row as a condition."""
        parts = [
            self.adapters[name].get_submodule(self.name)
            for name, pairs in self.pairs.items()
            if self.name in self.adapters[name].shapes and any(pair[1] == row for pair in pairs)
        ]
        changed = matrices(attn, *(part.y for part in parts if part.y is not None))
        return attend(attn, changed, h, changed, context)

    def alone(self, attn, mine, h):
        return torch.cat([attend(attn, mine, token, mine, token) for token in h.split(1)])

    def add_joint(self, attn, name, pair, h, out):
        x, y, w_x, w_y, hears_x, hears_y = pair
        parts = self.adapters[name].get_submodule(self.name).joint
        xy, yx = matrices(attn, parts.xy), matrices(attn, parts.yx)
        # a row that hears nothing looks at each token alone
        o_x = attend(attn, xy, h[x], yx, h[y]) if hears_x else self.alone(attn, xy, h[x])
        o_y = attend(attn, yx, h[y], xy, h[x]) if hears_y else self.alone(attn, yx, h[y])
        p = parts.proj_out.weight
        if self.adapters[name].config.post_joint == "conv":
            p_x, p_y = o_x @ p.T, o_y @ p.T
        else:
            p_x, p_y = (torch.cat([o_x, o_y], 1) @ p.T).split(h.shape[-1], 1)
        if hears_x:
            out[x] += self.joint_scale * w_x * p_x
        if hears_y:
            out[y] += self.joint_scale * w_y * p_y


@contextmanager
def slowly_attached(network, adapters, pairs, joint_scale):
    originals = network.attn_processors
    network.set_attn_processor(
        {
            f"{name}.processor": SlowProcessor(name, adapters, pairs, joint_scale)
            for name in (key.removesuffix(".processor") for key in originals)
        }
    )
    yield
    network.set_attn_processor(originals)

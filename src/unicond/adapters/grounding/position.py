"""Position nets: from boxes and phrases to the tokens that a fuser lets the picture look at.

GLIGEN's is diffusers' own. InteractDiffusion's makes three tokens an interaction:

    h_role = MLP_role([text_role; waves(box_role)]) + embed(slot) + embed(role)

for subject, action (in the box between subject and object) and object; what is masked gets learned
nothings for its text and for its place. Sources: Li et al. 2023, arXiv:2301.07093; Hoe et al. 2023,
arXiv:2312.05849.
"""

from typing import cast

import torch
from diffusers.models.embeddings import GLIGENTextBoundingboxProjection
from torch import Tensor, nn

from unicond.adapters.grounding.boxes import POSITION, WAVES, between, waves
from unicond.adapters.grounding.config import GroundingConfig
from unicond.adapters.grounding.inputs import Boxes, Interactions


def mlp(sizes: tuple[int, int, int]) -> nn.Sequential:
    """Three linear layers with SiLU between them: in, hidden and out features."""
    first, hidden, last = sizes
    return nn.Sequential(
        nn.Linear(first, hidden),
        nn.SiLU(),
        nn.Linear(hidden, hidden),
        nn.SiLU(),
        nn.Linear(hidden, last),
    )


class BoxNet(GLIGENTextBoundingboxProjection):
    """GLIGEN's position net, of phrases in boxes.

    Args:
        config: widths.
    """

    def __init__(self, config: GroundingConfig) -> None:
        super().__init__(config.text, config.tokens, "text-only", WAVES)

    def tokens(self, inputs: Boxes) -> Tensor:
        """(B, N, tokens) of N boxes."""
        weight = cast(Tensor, self.null_positive_feature)
        return self(
            boxes=inputs.boxes.to(weight),
            masks=inputs.masks.to(weight),
            positive_embeddings=inputs.phrases.to(weight),
        )


class Embedded(nn.Module):
    """A learned vector for each of some numbers.

    Args:
        count: of the numbers.
        width: of a vector.
    """

    def __init__(self, count: int, width: int) -> None:
        super().__init__()
        self.emb = nn.Embedding(count, width)


class InteractionNet(nn.Module):
    """InteractDiffusion's position net, of subjects, actions and objects.

    Args:
        config: widths and slots.
    """

    def __init__(self, config: GroundingConfig) -> None:
        super().__init__()
        sizes = (config.text + POSITION, config.hidden, config.tokens)
        self.linears = mlp(sizes)
        self.linear_action = mlp(sizes)
        self.null_positive_feature = nn.Parameter(torch.zeros(config.text))
        self.null_action_feature = nn.Parameter(torch.zeros(config.text))
        self.null_position_feature = nn.Parameter(torch.zeros(POSITION))
        self.interaction_embedding = Embedded(config.slots, config.tokens)
        self.position_embedding = Embedded(3, config.tokens)

    def tokens(self, inputs: Interactions) -> Tensor:
        """The tokens of N = slots interactions.

        Args:
            inputs: filled up to the number of slots.

        Returns:
            (B, 3 N, tokens): all subjects, all actions, all objects.
        """
        weight = self.null_positive_feature
        mask = inputs.masks.to(weight)[..., None]
        middle = between(inputs.subject_boxes, inputs.object_boxes)
        roles = (
            (inputs.subjects, inputs.subject_boxes, self.linears, weight),
            (inputs.objects, inputs.object_boxes, self.linears, weight),
            (inputs.actions, middle, self.linear_action, self.null_action_feature),
        )
        slots, kinds = self.interaction_embedding.emb.weight, self.position_embedding.emb.weight
        found = list[Tensor]()
        for role, (text, box, net, null) in enumerate(roles):
            words = text.to(weight) * mask + (1 - mask) * null
            place = waves(box).to(weight) * mask + (1 - mask) * self.null_position_feature
            found.append(net(torch.cat([words, place], -1)) + slots + kinds[role])
        subject, object_, action = found
        # roles are numbered in one order and stand in another: so do the published weights
        return torch.cat([subject, action, object_], 1)


def tokens_of(net: nn.Module, inputs: Boxes | Interactions) -> Tensor:
    """What a position net makes of its inputs (see `BoxNet` and `InteractionNet`)."""
    if isinstance(inputs, Boxes):
        assert isinstance(net, BoxNet)
        return net.tokens(inputs)
    assert isinstance(net, InteractionNet)
    return net.tokens(inputs)

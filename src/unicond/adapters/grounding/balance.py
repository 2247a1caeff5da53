"""How MIGC weighs its phases against each other, place by place.

Every phase gets a map: a convolution, a gate of channels and one of places (CBAM, Woo et al. 2018,
arXiv:1807.06521), another convolution. A second gate sees the maps of all phases at once; there the
instances stand in shuffled slots, so that none is learned by its slot. Source: Zhou et al. 2024,
arXiv:2402.05408. Parity: the names of the weights are the published file's.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

_NARROW = 16
"""The first gate's hidden layer is so many times narrower than its channels."""


class ChannelGate(nn.Module):
    """`x * sigmoid(MLP(mean x) + MLP(max x))`, a weight for every channel.

    Args:
        channels: of x.
        hidden: channels inside.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Flatten(), nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels)
        )

    @override
    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same."""
        weight = self.mlp(x.mean((2, 3))) + self.mlp(x.amax((2, 3)))
        return x * weight.sigmoid()[:, :, None, None]


class PlaceConv(nn.Module):
    """The convolution of the gate of places, under the published name."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 7, padding=3, bias=False)


class SpatialGate(nn.Module):
    """`x * sigmoid(conv([max x; mean x]))`, over the channels: a weight for every place."""

    def __init__(self) -> None:
        super().__init__()
        self.spatial = PlaceConv()

    @override
    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same."""
        seen = torch.cat([x.amax(1, keepdim=True), x.mean(1, keepdim=True)], 1)
        return x * self.spatial.conv(seen).sigmoid()


class CBAM(nn.Module):
    """Both gates, channels first.

    Args:
        channels: of the input.
        hidden: channels inside of the first gate.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.ChannelGate = ChannelGate(channels, hidden)
        self.SpatialGate = SpatialGate()

    @override
    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same."""
        return self.SpatialGate(self.ChannelGate(x))


class SAC(nn.Module):
    """The map of every phase.

    Args:
        width: C, channels of the picture's tokens.
        slots: places for instances in the second gate.
    """

    def __init__(self, width: int, slots: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width + 1, width, 1)
        self.cbam1 = CBAM(width, max(width // _NARROW, 1))
        self.conv2 = nn.Conv2d(width, 1, 1)
        self.cbam2 = CBAM(slots + 2, slots + 2)

    def features(self, phases: Tensor, guidance: Tensor) -> Tensor:
        """What the first gate is handed.

        Args:
            phases: (M, C, H, W).
            guidance: (M, H, W), where each phase is.

        Returns:
            (M, C, H, W).
        """
        return self.conv1(torch.cat([phases, guidance[:, None]], 1))

    def maps(self, phases: Tensor, guidance: Tensor) -> Tensor:
        """One map a phase, each phase for itself: (M, H, W), from the same."""
        return self.conv2(self.cbam1(self.features(phases, guidance)))[:, 0]

    @override
    def forward(
        self,
        phases: Tensor,
        guidance: Tensor,
        there: tuple[Tensor, Tensor],
        order: Tensor,
        scale: Tensor | None,
    ) -> Tensor:
        """Weigh the phases of B samples against each other.

        Args:
            phases: (B + P + B, C, H, W): the global ones, all instances, the layouts'.
            guidance: (B + P + B, H, W).
            there: (P,) and (P,), sample and number of each instance.
            order: (B, slots), a permutation each: slot i gets instance `order[i]`.
            scale: (B, N), weights of the instances' maps.

        Returns:
            (B, slots + 2, H, W), before the softmax; nothing that is to be shown of instances
            that are not there.
        """
        samples, slots = order.shape
        alone = self.maps(*(F.pad(x, (0, 0) * (x.ndim - 1) + (0, 1)) for x in (phases, guidance)))
        prompt, things, layout, null = alone.split([samples, len(there[0]), samples, 1])
        things = null.expand(samples, slots, -1, -1).index_put(there, things)
        at = order[:, :, None, None].expand_as(things)
        gated = self.cbam2(torch.cat([prompt[:, None], things.gather(1, at), layout[:, None]], 1))
        things = torch.empty_like(things).scatter(1, at, gated[:, 1:-1])
        if scale is not None:
            weights = F.pad(scale, (0, slots - scale.shape[1]), value=1.0)
            things = things * weights[:, :, None, None]
        return torch.cat([gated[:, :1], things, gated[:, -1:]], 1)

"""Networks in float32 on a CPU that compute by the quicker of two libraries.

torch multiplies float32 matrices on a CPU by MKL, which on processors of other makers than its own
reaches less than half of what oneDNN does there, by which torch convolves. A convolution of 1 x 1
is the same product:

    y = W x + b,   x as a picture of one column, (1, width, rows, 1)

Nothing changes where there is a gradient, in other number formats, or on other devices.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class _QuickLinear(nn.Linear):
    """What `quicken` turns an `nn.Linear` into."""

    def forward(self, input: Tensor) -> Tensor:
        plain = input.dtype != torch.float32 or self.weight.dtype != torch.float32
        if plain or input.device.type != "cpu" or torch.is_grad_enabled():
            return super().forward(input)
        if torch.is_autocast_enabled("cpu"):
            return super().forward(input)
        column = input.reshape(1, -1, 1, self.in_features).permute(0, 3, 1, 2)
        out = F.conv2d(column, self.weight[:, :, None, None], self.bias)
        return out.permute(0, 2, 3, 1).reshape(*input.shape[:-1], self.out_features)


def quicken(network: nn.Module) -> None:
    """Let a network compute as above.

    Args:
        network: changed in place; its parameters and what they are called stay.
    """
    for part in network.modules():
        if type(part) is nn.Linear:
            part.__class__ = _QuickLinear

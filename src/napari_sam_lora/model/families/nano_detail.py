"""Fine detail of sam_nano, packed into channels of the embedding grid and carried along with the tokens."""

from __future__ import annotations

import torch
import torch.nn.functional as functional
from segment_anything.modeling.image_encoder import Block
from torch import Tensor, nn

DETAIL_CHANNELS = 8
PACKED_DETAIL = 16 * DETAIL_CHANNELS


class DetailHead(nn.Sequential):
    """Convolutions from the first activation of the stem (b, c, h / 2, w / 2) to the channels of detail.

    Parameters
    ----------
    channels : int
        Number of input channels.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(nn.Conv2d(channels, 24, 3, padding=1), nn.GELU(), nn.Conv2d(24, DETAIL_CHANNELS, 3, padding=1))


class CarryingBlock(Block):
    """SAM's encoder block on the first channels of the tokens (b, h, w, d); further channels are passed through."""

    def forward(self, x: Tensor) -> Tensor:
        """Run the block on as many channels as its width."""
        width = self.norm1.normalized_shape[0]
        return torch.cat([super().forward(x[..., :width]), x[..., width:]], -1)


class CarryingNeck(nn.Sequential):
    """SAM's neck on the first channels of (b, d, h, w); further channels are passed through."""

    def forward(self, x: Tensor) -> Tensor:
        """Run the neck on as many channels as its first layer has inputs."""
        width = self[0].in_channels
        return torch.cat([super().forward(x[:, :width]), x[:, width:]], 1)


def pack(x: Tensor) -> Tensor:
    """Move 4 x 4 pixels into channels: (b, c, 4 h, 4 w) to (b, 16 c, h, w); `half_unpack` reverts half of it."""
    return functional.pixel_unshuffle(functional.pixel_unshuffle(x, 2), 2)


def half_unpack(x: Tensor) -> Tensor:
    """Unpack (b, 16 c, h, w) to (b, 4 c, 2 h, 2 w): the original tensor with 2 x 2 pixels in channels."""
    return functional.pixel_shuffle(x, 2)

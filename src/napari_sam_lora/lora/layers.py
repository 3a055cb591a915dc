"""Low-rank layers.

A frozen linear map W gains a low-rank addition (LoRA, arXiv 2106.09685, section 4.1):

    y = W x + b + (alpha / r) B A x,    A: r x d_in,  B: d_out x r

A starts with random values and B with zeros, so a new layer changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

QKV = ("q", "k", "v")


class LowRank(nn.Module):
    """Low-rank addition alone: (alpha / r) B A x.

    Parameters
    ----------
    inputs, outputs : int
        Channels.
    rank : int
        r, at least 1.
    alpha : float
        Scale; the addition is multiplied by alpha / rank.
    dropout : float
        Probability with which an input is dropped while the module is in training mode.
    """

    def __init__(self, inputs: int, outputs: int, rank: int, alpha: float, dropout: float = 0.0) -> None:
        super().__init__()
        if rank < 1:
            raise ValueError(f"The rank must be at least 1, not {rank}.")
        self.scale = alpha / rank
        self.dropout = nn.Dropout(dropout)
        self.a = nn.Parameter(torch.empty(rank, inputs))
        self.b = nn.Parameter(torch.zeros(outputs, rank))
        nn.init.kaiming_uniform_(self.a, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., inputs) to (..., outputs)."""
        return (self.dropout(x) @ self.a.T) @ self.b.T * self.scale

    def delta(self) -> Tensor:
        """Return the addition to the weight, (outputs, inputs)."""
        return self.scale * (self.b @ self.a)


class LoRALinear(nn.Module):
    """A linear layer with a low-rank addition.

    Parameters
    ----------
    base_layer : nn.Linear
        Kept as it is.
    rank, alpha, dropout : int, float, float
        See `LowRank`.
    """

    def __init__(self, base_layer: nn.Linear, rank: int, alpha: float, dropout: float = 0.0) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.lora = LowRank(base_layer.in_features, base_layer.out_features, rank, alpha, dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in_features) to (..., out_features)."""
        return self.base_layer(x) + self.lora(x)

    def merged_weight(self) -> Tensor:
        """Return the weight of one linear layer that computes the same."""
        return self.base_layer.weight + self.lora.delta()


class LoRAConv2d(nn.Module):
    """A convolution with a low-rank addition: r filters, and a mixture of their responses for each channel.

    Parameters
    ----------
    base_layer : nn.Conv2d
        Without groups; kept as it is.
    rank, alpha, dropout : int, float, float
        See `LowRank`; each of its inputs is the neighbourhood that a filter covers.
    """

    def __init__(self, base_layer: nn.Conv2d, rank: int, alpha: float, dropout: float = 0.0) -> None:
        super().__init__()
        self.base_layer = base_layer
        covered = base_layer.weight[0].numel()
        self.lora = LowRank(covered, base_layer.out_channels, rank, alpha, dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, c, h, w) to the output of the convolution."""
        base, low = self.base_layer, self.lora
        filters = low.a.view(-1, *base.weight.shape[1:])
        responses = functional.conv2d(low.dropout(x), filters, None, base.stride, base.padding, base.dilation)
        return base(x) + functional.conv2d(responses, low.b[..., None, None] * low.scale)

    def merged_weight(self) -> Tensor:
        """Return the weight of one convolution that computes the same."""
        return self.base_layer.weight + self.lora.delta().view_as(self.base_layer.weight)


class LoRAQKV(nn.Module):
    """A fused query-key-value projection with low-rank additions to some of the three.

    Parameters
    ----------
    base_layer : nn.Linear
        d to 3 d channels, q first, then k, then v; kept as it is.
    rank, alpha, dropout : int, float, float
        See `LowRank`.
    targets : sequence of str
        Among "q", "k", "v".
    groups : int
        The channels are q, k and v of a group of heads, then those of the next; TinyViT has a group for each head.
    """

    def __init__(
        self,
        base_layer: nn.Linear,
        rank: int,
        alpha: float,
        targets: Sequence[str] = ("q", "v"),
        dropout: float = 0.0,
        groups: int = 1,
    ) -> None:
        super().__init__()
        self.groups = groups
        if not targets or not set(targets) <= set(QKV):
            raise ValueError(f"Targets are some of {QKV}, not {tuple(targets)}.")
        self.base_layer = base_layer
        width = base_layer.in_features
        self.lora = nn.ModuleDict(
            {name: LowRank(width, width, rank, alpha, dropout) for name in QKV if name in targets}
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., d) to (..., 3 d)."""
        grouped = self.base_layer(x).unflatten(-1, (self.groups, 3, -1))
        projections = list(grouped.unbind(-2))
        for index, name in enumerate(QKV):
            if name in self.lora:
                projections[index] = projections[index] + self.lora[name](x).unflatten(-1, (self.groups, -1))
        return torch.stack(projections, dim=-2).flatten(-3)

    def merged_weight(self) -> Tensor:
        """Return the weight (3 d, d) of one linear layer that computes the same."""
        weights = list(self.base_layer.weight.unflatten(0, (self.groups, 3, -1)).unbind(1))
        for index, name in enumerate(QKV):
            if name in self.lora:
                low_rank: LowRank = self.lora[name]  # type: ignore[assignment]
                weights[index] = weights[index] + low_rank.delta().unflatten(0, (self.groups, -1))
        return torch.stack(weights, dim=1).flatten(0, 2)


Adapted: TypeAlias = LoRALinear | LoRAQKV | LoRAConv2d

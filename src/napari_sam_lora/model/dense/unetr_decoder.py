"""The decoder beside micro-sam's published models: maps of foreground and two distances, from an embedding alone.

A U-Net without an encoder of its own (Archit et al., Nature Methods 2025; ``torch_em/model/unetr.py`` with
``use_skip_connection=False``): one path enlarges the embedding step by step, the other one does the same and is joined
with the first at each size. Parameters have the names of the published files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from napari_sam_lora.errors import CheckpointError
from napari_sam_lora.model.dense import head

OUTPUTS = (*head.OUTPUTS, "centre")
CENTRE = len(head.OUTPUTS)
# Channels of the published files: foreground, distance to the centre, inverted distance to the boundary.
_PUBLISHED_OUTPUTS = 3
_MOST_CHANNELS = 1024


@dataclass(frozen=True)
class UnetrConfig:
    """Widths of a decoder, and how it enlarges maps.

    Attributes
    ----------
    tokens : int
        Channels of the embedding.
    width : int
        Channels of the largest maps, of sixteen times the embedding's size; half as large ones have twice as many.
    is_transposed : bool
        Maps are enlarged by transposed convolutions; otherwise by bilinear interpolation and a convolution of 1 x 1.
    """

    tokens: int = 256
    width: int = 64
    is_transposed: bool = False

    @property
    def features(self) -> tuple[int, ...]:
        """Channels from the smallest maps, of twice the embedding's size, to the largest."""
        return tuple(factor * self.width for factor in (8, 4, 2, 1))

    @classmethod
    def of_state(cls, state: Mapping[str, Tensor]) -> UnetrConfig:
        """Recognise the decoder to which a state dict belongs.

        Raises
        ------
        CheckpointError
            If it belongs to none.
        """
        try:
            width = int(state["deconv4.block.1.block.weight"].shape[0])
            tokens = int(state["base.block.1.weight"].shape[1])
        except (KeyError, IndexError) as error:
            raise CheckpointError(
                f"This is not a decoder of micro-sam: {error} is missing.", code="bad-decoder"
            ) from error
        if not (1 <= width <= _MOST_CHANNELS and 1 <= tokens <= _MOST_CHANNELS):
            raise CheckpointError(
                f"This is not a decoder of micro-sam: its widths are {tokens} and {width}.", code="bad-decoder"
            )
        return cls(tokens, width, "decoder.samplers.0.block.weight" in state)


class _Upsample(nn.Module):
    """Enlarge twice by interpolation and map channels.

    The convolution of 1 x 1 comes first, which gives the same (bilinear weights sum to one) for a quarter of the work.
    """

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(before, after, 1)

    def forward(self, x: Tensor) -> Tensor:
        return functional.interpolate(self.conv(x), scale_factor=2, mode="bilinear", align_corners=False)


class _Wrapped(nn.Module):
    """A module under the name ``block``, as in the published files."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x)


class _ImageNorm(nn.BatchNorm2d):
    """Batch normalisation with the statistics of each image.

    micro-sam never puts the decoder in evaluation mode (``instance_segmentation.get_decoder``) and shows it one image,
    so that its running averages, which the files hold, are not used; all its published results are made that way.
    """

    def forward(self, x: Tensor) -> Tensor:
        return functional.instance_norm(x, weight=self.weight, bias=self.bias, eps=self.eps)


def _enlarge(before: int, after: int, is_transposed: bool) -> nn.Module:
    return _Wrapped(nn.ConvTranspose2d(before, after, 2, stride=2)) if is_transposed else _Upsample(before, after)


def _step(before: int, after: int, is_transposed: bool) -> nn.Module:
    """Enlarge, convolve, normalise, ReLU."""
    convolution = _Wrapped(nn.Conv2d(after, after, 3, padding=1))
    return _Wrapped(
        nn.Sequential(_enlarge(before, after, is_transposed), convolution, _ImageNorm(after), nn.ReLU(inplace=True))
    )


def _block(before: int, after: int) -> nn.Module:
    """Twice: normalise each channel of each image, convolve, ReLU."""
    layers: list[nn.Module] = []
    for channels in (before, after):
        layers += [nn.InstanceNorm2d(channels), nn.Conv2d(channels, after, 3, padding=1), nn.ReLU(inplace=True)]
    return _Wrapped(nn.Sequential(*layers))


class _UpPath(nn.Module):
    """Enlarge maps three times, each time joined with the middle half of the channels of a map of that size.

    torch-em crops the map beside to the shape of the enlarged one, and that includes the channels.
    """

    def __init__(self, features: tuple[int, ...], is_transposed: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(_block(before, after) for before, after in pairwise(features))
        self.samplers = nn.ModuleList(_enlarge(before, after, is_transposed) for before, after in pairwise(features))

    def forward(self, x: Tensor, beside: list[Tensor]) -> Tensor:
        for block, sampler, other in zip(self.blocks, self.samplers, beside, strict=True):
            x = sampler(x)
            x = block(torch.cat([x, other.narrow(1, x.shape[1] // 2, x.shape[1])], 1))
        return x


class UnetrDecoder(nn.Module):
    """Predict logits of dense maps from the embedding of an image encoder with stride 16.

    Every channel is normalised over its whole map, so that a map depends on all that its tile shows.

    Parameters
    ----------
    config : UnetrConfig, optional

    Attributes
    ----------
    config : UnetrConfig
    outputs : tuple of str
        Names of the maps that `forward` gives.
    """

    outputs = OUTPUTS

    def __init__(self, config: UnetrConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or UnetrConfig()
        one, two, three, four = config.features
        transposed = config.is_transposed
        self.deconv1 = _step(config.tokens, one, transposed)
        self.deconv2 = _step(one, two, transposed)
        self.deconv3 = _step(two, three, transposed)
        self.deconv4 = _step(three, four, transposed)
        self.base = _block(config.tokens, one)
        self.decoder = _UpPath(config.features, transposed)
        self.deconv_out = _enlarge(four, four, transposed)
        self.decoder_head = _block(2 * four, four)
        self.out_conv = nn.Conv2d(four, _PUBLISHED_OUTPUTS, 1)

    def published_logits(self, embedding: Tensor) -> Tensor:
        """Predict maps as micro-sam defines them.

        Parameters
        ----------
        embedding : Tensor
            (b, c, h, w), as the neck of the image encoder gives it.

        Returns
        -------
        Tensor
            Logits (b, 3, 16 h, 16 w) of foreground, of the distance to the object's centre and of the inverted
            distance to its boundary, both as a share of the largest.
        """
        beside = [self.deconv1(embedding)]
        for step in (self.deconv2, self.deconv3):
            beside.append(step(beside[-1]))
        x = self.decoder(self.base(embedding), beside)
        # The largest maps take hundreds of megabytes each: none is made before it is needed.
        joined = torch.cat([self.deconv_out(x), self.deconv4(beside.pop())], 1)
        return self.out_conv(self.decoder_head(joined))

    def forward(self, embedding: Tensor, pixels: Tensor | None = None) -> Tensor:
        """Predict maps that mean the same as those of the dense head.

        Parameters
        ----------
        embedding : Tensor
            (b, c, h, w).
        pixels : Tensor, optional
            Not used.

        Returns
        -------
        Tensor
            Logits (b, 3, 16 h, 16 w) of `OUTPUTS`: foreground, distance to the outline (1 is the deepest point) and
            nearness to the centre (1 is the centre).
        """
        foreground, centre, boundary = self.published_logits(embedding).split(1, 1)
        return torch.cat([foreground, -boundary, -centre], 1)  # sigmoid(-x) = 1 - sigmoid(x)


def load_unetr_decoder(state: Mapping[str, Tensor]) -> UnetrDecoder:
    """Make a decoder in evaluation mode from the tensors of a published file.

    Raises
    ------
    CheckpointError
        If names or shapes differ, or a value is not finite.
    """
    decoder = UnetrDecoder(UnetrConfig.of_state(state))
    for name, value in state.items():
        if not torch.isfinite(value).all():
            raise CheckpointError(f"The decoder is damaged: {name} is not finite.", code="not-finite")
    try:
        decoder.load_state_dict(dict(state), strict=True)
    except RuntimeError as error:
        raise CheckpointError(f"This is not a decoder of micro-sam: {error}", code="bad-decoder") from error
    return decoder.requires_grad_(False).eval()

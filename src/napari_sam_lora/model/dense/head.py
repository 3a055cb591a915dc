"""A dense head: maps of foreground, of distance to the outline and of classes, from an embedding and its pixels.

A small U-Net whose deepest level is the embedding (as in micro-sam's automatic instance segmentation, Archit et al.,
Nature Methods 2025, whose decoder reads the embedding alone): what objects are comes from the encoder, where exactly
they end from the pixels. Every layer sees a fixed neighbourhood and normalises each pixel for itself, so that a map
does not depend on what else its tile shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
import torch.nn.functional as functional
from monai.networks.blocks import Convolution
from segment_anything.modeling import Sam
from torch import Tensor, nn

from napari_sam_lora.errors import CheckpointError
from napari_sam_lora.model.families.nano_detail import DETAIL_CHANNELS, PACKED_DETAIL, half_unpack
from napari_sam_lora.model.families.nano_refine import ChannelNorm, RefiningMaskDecoder
from napari_sam_lora.model.input_size import stride

# Channels at the resolution of the head, at a half, a quarter and an eighth of it.
CHANNELS = (12, 24, 48, 96)
OUTPUTS = ("foreground", "distance")
FOREGROUND, DISTANCE = range(len(OUTPUTS))
_DEEPEST = 8  # head pixels to one pixel of the deepest level, where the embedding joins
MOST_CLASSES = 255


@dataclass(frozen=True)
class DenseHeadConfig:
    """Input and resolution of a head.

    Attributes
    ----------
    tokens : int
        Channels of the embedding that are image tokens.
    detail : int
        Channels behind them that hold packed detail at half the resolution of the input (sam_nano); 0 for none.
    reduction : int
        Input pixels to one pixel of the maps along each side: 1 or 2.
    classes : int
        Classes whose logits are predicted beside the maps; 0 for none.

    Raises
    ------
    CheckpointError
        If a number makes no sense.
    """

    tokens: int
    detail: int = 0
    reduction: int = 1
    classes: int = 0

    def __post_init__(self) -> None:
        values = (self.tokens, self.detail, self.reduction, self.classes)
        whole = all(isinstance(value, int) for value in values)
        if not (
            whole
            and 1 <= self.tokens <= 4096
            and self.detail in (0, PACKED_DETAIL)
            and self.reduction in (1, 2)
            and 0 <= self.classes <= MOST_CLASSES
        ):
            raise CheckpointError(f"This is not the description of a dense head: {self}.", code="bad-dense-head")

    @classmethod
    def for_sam(cls, sam: Sam, classes: int = 0) -> DenseHeadConfig:
        """Describe the head for a model: its maps have the resolution of the input at stride 8, half of it at 16."""
        detail = PACKED_DETAIL if isinstance(sam.mask_decoder, RefiningMaskDecoder) else 0
        return cls(int(sam.mask_decoder.transformer_dim), detail, max(1, stride(sam) // _DEEPEST), classes)

    def as_dict(self) -> dict[str, int]:
        """Return plain values for a file."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> DenseHeadConfig:
        """Make the description from the values of `as_dict`.

        Raises
        ------
        CheckpointError
            If a name is unknown or a number makes no sense.
        """
        try:
            return cls(**values)
        except TypeError as error:
            raise CheckpointError(
                f"This is not the description of a dense head: {error}.", code="bad-dense-head"
            ) from error


def _convolution(before: int, after: int, stride: int = 1) -> Convolution:
    return Convolution(2, before, after, strides=stride, kernel_size=3, act=None, norm=None, bias=False)


class DenseUnit(nn.Module):
    """Convolution of 3 x 3, normalisation of each pixel's channels, ReLU; with a skip where channels stay the same."""

    def __init__(self, before: int, after: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = _convolution(before, after, stride)
        self.norm = ChannelNorm(after)
        self.is_residual = before == after and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        """(b, c, h, w) to (b, d, h / stride, w / stride)."""
        y = self.norm(self.conv(x))
        return functional.relu(x + y if self.is_residual else y)


class DenseHead(nn.Module):
    """Predict logits of dense maps from an embedding and the model input that it was made of.

    Parameters
    ----------
    config : DenseHeadConfig

    Attributes
    ----------
    config : DenseHeadConfig
    outputs : tuple of str
        Names of the maps that `forward` gives first.
    """

    outputs = OUTPUTS

    def __init__(self, config: DenseHeadConfig) -> None:
        super().__init__()
        self.config = config
        one, two, four, eight = CHANNELS
        detail = DETAIL_CHANNELS if config.detail else 0
        self.pixels1 = DenseUnit(3, one)
        self.pixels2 = nn.Sequential(DenseUnit(one, two, stride=2), DenseUnit(two, two))
        self.pixels4 = nn.Sequential(DenseUnit(two, four, stride=2), DenseUnit(four, four))
        self.pixels8 = DenseUnit(four, four, stride=2)
        self.embedding = DenseUnit(config.tokens, eight)
        self.deep = nn.Sequential(DenseUnit(eight + four, eight), DenseUnit(eight, eight))
        self.up4 = DenseUnit(eight + four + 4 * detail, four)
        self.up2 = DenseUnit(four + two + detail, two)
        self.up1 = DenseUnit(two + one, one)
        self.maps = nn.Conv2d(one, len(OUTPUTS), 1)
        self.classes = nn.Conv2d(one, config.classes, 1) if config.classes else None

    def forward(self, embedding: Tensor, pixels: Tensor) -> Tensor:
        """Predict maps.

        Parameters
        ----------
        embedding : Tensor
            (b, c, h, w), as the image encoder gives it.
        pixels : Tensor
            Model input (b, 3, s, t), normalised and padded; s and t are h and w times the stride of the encoder.

        Returns
        -------
        Tensor
            Logits (b, 2 + classes, s / reduction, t / reduction): those of `OUTPUTS` first.
        """
        tokens, detail = embedding[:, : self.config.tokens], embedding[:, self.config.tokens :]
        if self.config.reduction > 1:
            pixels = functional.avg_pool2d(pixels, self.config.reduction)
        one = self.pixels1(pixels)
        two = self.pixels2(one)
        four = self.pixels4(two)
        deep = self.deep(torch.cat([self.embedding(tokens), self.pixels8(four)], 1))
        half, whole = (half_unpack(detail), half_unpack(half_unpack(detail))) if self.config.detail else (None, None)
        x = self.up4(_joined(deep, four, half))
        x = self.up2(_joined(x, two, whole))
        x = self.up1(_joined(x, one))
        maps = self.maps(x)
        return maps if self.classes is None else torch.cat([maps, self.classes(x)], 1)


def new_dense_head(sam: Sam, seed: int = 0, classes: int = 0) -> DenseHead:
    """Make a head for a model with new weights, the same for the same seed; torch's generator is not changed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return DenseHead(DenseHeadConfig.for_sam(sam, classes)).to(sam.device)


def with_classes(head: DenseHead, count: int, seed: int = 0) -> DenseHead:
    """Return a copy of a head with so many classes; their layer is new unless the head has as many already.

    Torch's generator is not changed.
    """
    if head.config.classes == count:
        return deepcopy(head)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        changed = DenseHead(replace(head.config, classes=count))
    kept = {name: value for name, value in head.state_dict().items() if not name.startswith("classes.")}
    changed.load_state_dict(kept, strict=False)
    return changed


def probabilities(logits: Tensor, maps: int = len(OUTPUTS)) -> Tensor:
    """Turn logits (b, c, h, w) into numbers from 0 to 1: the first maps each for itself, the others as classes."""
    if logits.shape[1] == maps:
        return logits.sigmoid()
    return torch.cat([logits[:, :maps].sigmoid(), logits[:, maps:].softmax(1)], 1)


def load_dense_head(config: DenseHeadConfig, state: Mapping[str, Tensor]) -> DenseHead:
    """Make a head in evaluation mode from its description and its tensors, which may be float16.

    Raises
    ------
    CheckpointError
        If names or shapes differ, or a value is not finite.
    """
    head = DenseHead(config)
    for name, value in state.items():
        if not torch.isfinite(value).all():
            raise CheckpointError(f"The dense head is damaged: {name} is not finite.", code="not-finite")
    try:
        head.load_state_dict({name: value.float() for name, value in state.items()}, strict=True)
    except RuntimeError as error:
        raise CheckpointError(f"The dense head does not fit its description: {error}", code="bad-dense-head") from error
    return head.requires_grad_(False).eval()


def _joined(deeper: Tensor, *beside: Tensor | None) -> Tensor:
    """Enlarge a map to twice its size, and append the channels of others."""
    enlarged = functional.interpolate(deeper, scale_factor=2, mode="bilinear", align_corners=False)
    return torch.cat([enlarged, *(x for x in beside if x is not None)], 1)

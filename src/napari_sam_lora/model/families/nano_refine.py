"""The mask decoder of sam_nano: SAM's, followed by a small hourglass of convolutions that refines its masks."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as functional
from segment_anything.modeling import MaskDecoder
from torch import Tensor, nn

from napari_sam_lora.model.families.nano_detail import PACKED_DETAIL, half_unpack

# Channels at a quarter, an eighth and a sixteenth of the resolution of the model input.
CHANNELS = (48, 64, 96)
HIDDEN = 128
# Objects refined at once without gradients, to limit memory at large input sizes.
_OBJECTS_AT_ONCE = 8
_LARGEST_LOGIT = 8.0
_MASKS = 4
# Scalar inputs of the head for the predicted IoU, for each mask: see `_scalars`.
_SCALARS = 3 + _MASKS


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation of the channels of each pixel, (b, c, h, w)."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise each pixel."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Unit(nn.Module):
    """A residual convolution of 3 x 3 with normalisation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = ChannelNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, c, h, w) to the same shape."""
        return functional.relu(x + self.norm(self.conv(x)))


class Down(nn.Module):
    """A strided convolution that halves the resolution."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False)
        self.norm = ChannelNorm(after)

    def forward(self, x: Tensor, skip: Tensor | None = None) -> Tensor:
        """Map (b, c, h, w) to half the size; ``skip`` is added before the normalisation."""
        x = self.conv(x)
        return functional.relu(self.norm(x if skip is None else x + skip))


class Refiner(nn.Module):
    """Predicts residuals of the masks of each object, and of their predicted IoU.

    Works on a quarter of the resolution of the model input, with 2 x 2 pixels of the low-resolution mask in channels.
    The last layers are initialised with zeros: an untrained refiner changes nothing.

    Parameters
    ----------
    width : int
        Channels of the decoder's features and of its mask tokens.
    drawn : int
        Packed channels of the drawn prompts.
    """

    def __init__(self, width: int, drawn: int) -> None:
        super().__init__()
        four, eight, sixteen = CHANNELS
        self.from_detail = nn.Conv2d(PACKED_DETAIL // 4, four, 3, padding=1, bias=False)
        self.from_prompt = nn.Conv2d(drawn // 4 + 4 * _MASKS, four, 3, padding=1, bias=False)
        self.norm = ChannelNorm(four)
        self.from_features = nn.Conv2d(width, eight, 1, bias=False)
        self.down8, self.down16 = Down(four, eight), Down(eight, sixteen)
        self.inner8 = Unit(eight)
        self.inner16 = nn.Sequential(Unit(sixteen), Unit(sixteen), Unit(sixteen))
        self.up8, self.up4 = nn.Conv2d(sixteen, eight, 1), nn.Conv2d(eight, four, 1)
        self.outer8, self.outer4 = Unit(eight), Unit(four)
        self.mask = nn.Conv2d(four, 4 * _MASKS, 3, padding=1)
        last = nn.Linear(HIDDEN, 1)
        self.quality = nn.Sequential(
            nn.Linear(3 * four + width + _SCALARS, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN), nn.ReLU(), last
        )
        for layer in (self.mask, last):
            for value in layer.parameters():
                nn.init.zeros_(value)

    def forward(
        self, detail: Tensor, drawn: Tensor, coarse: Tensor, features: Tensor, tokens: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Refine the masks of n objects.

        Parameters
        ----------
        detail : Tensor
            Packed detail of the image of each object, (n, 128, h, w), or of the one image of all, (1, 128, h, w).
        drawn : Tensor
            Packed drawn prompts (n, d, h, w).
        coarse : Tensor
            Logits (n, 4, 4 h, 4 w).
        features : Tensor
            The decoder's (n, c, h, w).
        tokens : Tensor
            The decoder's mask tokens (n, 4, c).

        Returns
        -------
        logits : Tensor
            (n, 4, 4 h, 4 w).
        quality : Tensor
            Residual of the predicted IoU, (n, 4).
        """
        scaled = coarse.clamp(-_LARGEST_LOGIT, _LARGEST_LOGIT) / (_LARGEST_LOGIT / 2)
        prompt = torch.cat([half_unpack(drawn), functional.pixel_unshuffle(scaled, 2)], 1)
        prompt = self.from_prompt(prompt.contiguous(memory_format=torch.channels_last))
        four = functional.relu(self.norm(self.from_detail(half_unpack(detail)) + prompt))
        eight = self.inner8(self.down8(four, self.from_features(features)))
        sixteen = self.inner16(self.down16(eight))
        eight = self.outer8(eight + _enlarged(self.up8(sixteen), eight))
        four = self.outer4(four + _enlarged(self.up4(eight), four))
        logits = coarse + functional.pixel_shuffle(self.mask(four), 2)
        return logits, self._quality(four, logits.detach(), tokens)

    def _quality(self, features: Tensor, logits: Tensor, tokens: Tensor) -> Tensor:
        """Predict IoU from features inside each mask, along its outline and everywhere, its token, and `_scalars`."""
        inside = functional.avg_pool2d(logits.sigmoid(), 2).flatten(2)
        outline = inside * (1 - inside) + 1e-6
        flat = features.flatten(2).transpose(1, 2)
        pooled = [(weights / (weights.sum(2, keepdim=True) + 1)) @ flat for weights in (inside, outline)]
        pooled.append(flat.mean(1, keepdim=True).expand(-1, _MASKS, -1))
        return self.quality(torch.cat([*pooled, tokens, _scalars(logits, inside)], 2))[..., 0]


def _scalars(logits: Tensor, inside: Tensor) -> Tensor:
    """Return area, stability against the threshold, certainty, and IoU with each of the masks: (n, 4, 7)."""
    area = inside.sum(2)
    stability = (logits > 1).flatten(2).sum(2) / (logits > -1).flatten(2).sum(2).clamp(min=1)
    certainty = (inside * inside).sum(2) / (area + 1)
    shared = inside @ inside.transpose(1, 2)
    squares = shared.diagonal(dim1=1, dim2=2)
    overlap = shared / (squares[:, :, None] + squares[:, None] - shared + 1e-6)
    return torch.cat([torch.stack([(area + 1).log() / 4, stability, certainty], 2), overlap], 2)


def _enlarged(x: Tensor, like: Tensor) -> Tensor:
    return functional.interpolate(x, size=like.shape[-2:], mode="nearest")


class RefiningMaskDecoder(MaskDecoder):
    """SAM's mask decoder, followed by a refiner.

    The first ``transformer_dim`` channels of embeddings and dense prompts go to SAM's decoder, the rest to the refiner.

    Parameters
    ----------
    drawn : int
        Channels of the drawn prompts that are packed behind the dense prompt embedding.
    **settings
        Arguments of `MaskDecoder`.
    """

    def __init__(self, *, drawn: int, **settings: Any) -> None:
        super().__init__(**settings)
        self.refiner = Refiner(self.transformer_dim, drawn)

    def predict_masks(
        self,
        image_embeddings: Tensor,
        image_pe: Tensor,
        sparse_prompt_embeddings: Tensor,
        dense_prompt_embeddings: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Predict the masks of n objects.

        Parameters
        ----------
        image_embeddings : Tensor
            Embedding of the image of all objects, (1, c, h, w), or of the image of each, (n, c, h, w).
        image_pe : Tensor
            (1, d, h, w).
        sparse_prompt_embeddings : Tensor
            (n, tokens, d).
        dense_prompt_embeddings : Tensor
            (n, d + drawn, h, w).

        Returns
        -------
        logits : Tensor
            (n, 4, 4 h, 4 w): the single mask first, then the three candidates.
        iou : Tensor
            Predicted IoU (n, 4).
        """
        dim = self.transformer_dim
        objects = len(sparse_prompt_embeddings)
        own = torch.cat([self.iou_token.weight, self.mask_tokens.weight])[None].expand(objects, -1, -1)
        source = image_embeddings[:, :dim] + dense_prompt_embeddings[:, :dim]
        positions = image_pe.expand(objects, -1, -1, -1)
        outputs, flat = self.transformer(source, positions, torch.cat([own, sparse_prompt_embeddings], 1))
        tokens = outputs[:, 1 : 1 + self.num_mask_tokens]
        features = flat.transpose(1, 2).view(source.shape)
        fine = self.output_upscaling(features)
        weights = torch.stack(
            [head(tokens[:, index]) for index, head in enumerate(self.output_hypernetworks_mlps)], dim=1
        )
        coarse = (weights @ fine.flatten(2)).unflatten(2, fine.shape[-2:])
        refined = self._refine(image_embeddings[:, dim:], dense_prompt_embeddings[:, dim:], coarse, features, tokens)
        return refined[0], self.iou_prediction_head(outputs[:, 0]) + refined[1]

    def _refine(self, detail: Tensor, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        if torch.is_grad_enabled():
            return self.refiner(detail, *inputs)
        rows = [slice(first, first + _OBJECTS_AT_ONCE) for first in range(0, len(inputs[0]), _OBJECTS_AT_ONCE)]
        chunks = [
            self.refiner(detail if len(detail) == 1 else detail[row], *(value[row] for value in inputs)) for row in rows
        ]
        return torch.cat([logits for logits, _ in chunks]), torch.cat([quality for _, quality in chunks])

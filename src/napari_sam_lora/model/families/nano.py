"""sam_nano: a small SAM, assembled from segment-anything's own classes.

It differs from SAM in four places; the interfaces are the same:

* the patch embedding is a convolutional stem of stride 8 (so 256 x 256 pixels give 32 x 32 tokens);
* the dense part of the prompt encoder draws points, boxes and masks as channels at the resolution of the
  low-resolution mask; SAM's draws masks only;
* the positional frequencies of prompts span several scales;
* detail of the image and the drawn prompts, at half the resolution of the model input, are packed into channels behind
  the tokens and behind the dense prompt embedding, for an hourglass of convolutions that refines the decoder's masks
  (`nano_refine`). So an embedding has 256 channels, of which 128 are tokens.
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise

import torch
from segment_anything.modeling import (
    ImageEncoderViT,
    PromptEncoder,
    Sam,
    TwoWayTransformer,
)
from segment_anything.modeling.transformer import Attention
from torch import Tensor, nn

from napari_sam_lora.model.families.nano_detail import CarryingBlock, CarryingNeck, DetailHead, pack
from napari_sam_lora.model.families.nano_refine import RefiningMaskDecoder

INPUT_SIZE = 256
STRIDE = 8
WIDTH = 128
DEPTH = 6
HEADS = 4
WINDOW = 8
GLOBAL_BLOCKS = (2, 5)
PIXEL_MEAN = (123.675, 116.28, 103.53)
PIXEL_STD = (58.395, 57.12, 57.375)
_FIRST_LAYERS = 3  # layers of the stem up to its first activation
_WIDE_BLOB = 24.0  # mask pixels over which the wide drawing of a click falls to a third


class ConvStem(nn.Module):
    """Convolutional patch embedding of stride 8, with detail of stride 2 packed behind its channels.

    Parameters
    ----------
    width : int
        Number of channels of the tokens.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        channels = (3, width // 4, width // 2, width)
        layers: list[nn.Module] = []
        for before, after in pairwise(channels):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.BatchNorm2d(after), nn.GELU()]
        self.net = nn.Sequential(*layers, nn.Conv2d(width, width, 1))
        self.detail = DetailHead(width // 4)

    def forward(self, x: Tensor) -> Tensor:
        """Embed pixels (b, 3, h, w) as tokens and packed detail (b, h / 8, w / 8, width + 128)."""
        first = self.net[:_FIRST_LAYERS](x)
        return torch.cat([self.net[_FIRST_LAYERS:](first), pack(self.detail(first))], 1).permute(0, 2, 3, 1)


class DensePromptEncoder(PromptEncoder):
    """SAM's prompt encoder with a dense embedding of points and boxes as well as masks.

    Five channels are drawn at the resolution of the low-resolution mask and reduced to the embedding grid:
    positive clicks, negative clicks, the box, the ellipse inscribed in the box, and the mask logits. They and two wide
    drawings of the clicks are also packed behind the dense embedding, for `RefiningMaskDecoder`.
    """

    PACKED = 16 * 7

    def __init__(
        self,
        *,
        embed_dim: int,
        image_embedding_size: tuple[int, int],
        input_image_size: tuple[int, int],
        mask_in_chans: int,
    ) -> None:
        super().__init__(embed_dim, image_embedding_size, input_image_size, mask_in_chans)
        del self.mask_downscaling, self.no_mask_embed
        self.raster = nn.Sequential(
            nn.Conv2d(5, 24, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(24, 48, 2, stride=2),
            nn.GELU(),
            nn.Conv2d(48, 64, 2, stride=2),
            nn.GELU(),
            nn.Conv2d(64, embed_dim, 1),
        )

    def forward(
        self,
        points: tuple[Tensor, Tensor] | None,
        boxes: Tensor | None,
        masks: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """Encode prompts of n objects, in SAM's (x, y) order and in pixels of the model input.

        Parameters
        ----------
        points : tuple of Tensor, optional
            Coordinates (n, k, 2) and labels (n, k): 1 positive, 0 negative, -1 padding.
        boxes : Tensor, optional
            Corners (n, 4) as x0, y0, x1, y1.
        masks : Tensor, optional
            Logits (n, 1, 4 h, 4 w) of an earlier mask.

        Returns
        -------
        sparse : Tensor
            (n, tokens, d).
        dense : Tensor
            (n, d + 112, h, w).
        """
        batch = self._get_batch_size(points, boxes, masks)
        sparse = torch.empty((batch, 0, self.embed_dim), device=self._get_device())
        if points is not None:
            sparse = torch.cat([sparse, self._embed_points(*points, pad=boxes is None)], dim=1)
        if boxes is not None:
            sparse = torch.cat([sparse, self._embed_boxes(boxes)], dim=1)
        drawn = self.draw(points, boxes, masks)
        return sparse, torch.cat([self.raster(drawn), pack(torch.cat([drawn, self.draw_wide(points, drawn)], 1))], 1)

    def draw(
        self,
        points: tuple[Tensor, Tensor] | None,
        boxes: Tensor | None,
        masks: Tensor | None,
    ) -> Tensor:
        """Draw the prompts of n objects as channels (n, 5, 4 h, 4 w)."""
        batch, device = self._get_batch_size(points, boxes, masks), self._get_device()
        y, x, scale = self._grid(device)
        drawn = torch.zeros(batch, 5, *self.mask_input_size, device=device)
        if points is not None:
            drawn[:, :2] = _signed(torch.exp(-self._squared_distances(points[0]) / 8), points[1])
        if boxes is not None:
            corners = boxes.reshape(-1, 2, 2) * scale
            (x0, y0), (x1, y1) = (corner[..., None, None].unbind(1) for corner in corners.unbind(1))
            drawn[:, 2] = _overlap(x, x0, x1) * _overlap(y, y0, y1)
            across = ((x - (x0 + x1) / 2) / ((x1 - x0).clamp(min=1) / 2)) ** 2
            down = ((y - (y0 + y1) / 2) / ((y1 - y0).clamp(min=1) / 2)) ** 2
            drawn[:, 3] = (1 - torch.sqrt(across + down)).clamp(-1, 1)
        if masks is not None:
            drawn[:, 4] = masks[:, 0].clamp(-6, 6) / 6
        return drawn

    def draw_wide(self, points: tuple[Tensor, Tensor] | None, like: Tensor) -> Tensor:
        """Draw the positive and the negative clicks of n objects as wide blobs, (n, 2, 4 h, 4 w)."""
        if points is None:
            return torch.zeros_like(like[:, :2])
        blobs = torch.exp(-self._squared_distances(points[0]).sqrt() / _WIDE_BLOB)
        return _signed(blobs, points[1]).to(like)  # everything mode gives points as float64

    def _grid(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """Return centres of the mask pixels, (h, 1) and (1, w), and mask pixels per input pixel in x and y, (2,)."""
        rows, columns = self.mask_input_size
        y = torch.arange(rows, device=device, dtype=torch.float32)[:, None] + 0.5
        x = torch.arange(columns, device=device, dtype=torch.float32)[None, :] + 0.5
        return y, x, torch.tensor([columns / self.input_image_size[1], rows / self.input_image_size[0]], device=device)

    def _squared_distances(self, points: Tensor) -> Tensor:
        """Return squared distances of mask pixels from points (n, k, 2), in mask pixels: (n, k, h, w)."""
        y, x, scale = self._grid(points.device)
        centre = (points + 0.5) * scale  # SAM's shift to the centre of a pixel
        return (y - centre[..., 1, None, None]) ** 2 + (x - centre[..., 0, None, None]) ** 2


def _signed(blobs: Tensor, labels: Tensor) -> Tensor:
    """Merge blobs (n, k, h, w) of points with labels (n, k) to a positive and a negative channel, (n, 2, h, w)."""
    return torch.stack([(blobs * (labels == label)[..., None, None]).amax(1) for label in (1, 0)], 1)


def _overlap(centre: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Return the share of the unit interval around each centre that lies between low and high."""
    return (centre - low + 0.5).clamp(0, 1) * (high - centre + 0.5).clamp(0, 1)


def build_sam_nano(input_size: int = INPUT_SIZE, *, seed: int = 0) -> Sam:
    """Build sam_nano with fresh weights.

    Parameters
    ----------
    input_size : int
        Side of the square model input in pixels, a multiple of 8.
    seed : int
        Seeds the initial weights and the positional frequencies.

    Returns
    -------
    Sam
        The model in training mode.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _build(input_size)


def _build(input_size: int) -> Sam:
    grid = (input_size // STRIDE, input_size // STRIDE)
    encoder = ImageEncoderViT(
        img_size=input_size, patch_size=STRIDE, embed_dim=WIDTH, depth=0, out_chans=WIDTH, use_abs_pos=False
    )
    encoder.patch_embed = ConvStem(WIDTH)
    encoder.blocks = nn.ModuleList(
        CarryingBlock(
            WIDTH,
            HEADS,
            mlp_ratio=3.0,
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
            use_rel_pos=True,
            window_size=0 if index in GLOBAL_BLOCKS else WINDOW,
            input_size=grid,
        )
        for index in range(DEPTH)
    )
    encoder.neck = CarryingNeck(*encoder.neck)
    prompt_encoder = DensePromptEncoder(
        embed_dim=WIDTH,
        image_embedding_size=grid,
        input_image_size=(input_size, input_size),
        mask_in_chans=16,
    )
    decoder = RefiningMaskDecoder(
        drawn=DensePromptEncoder.PACKED,
        transformer_dim=WIDTH,
        transformer=TwoWayTransformer(depth=2, embedding_dim=WIDTH, mlp_dim=4 * WIDTH, num_heads=HEADS),
        num_multimask_outputs=3,
        iou_head_depth=3,
        iou_head_hidden_dim=WIDTH,
    )
    # With one Gaussian of scale 1 an untrained decoder could not distinguish near positions.
    frequencies = prompt_encoder.pe_layer.positional_encoding_gaussian_matrix
    spread = torch.exp(torch.empty(WIDTH // 2).uniform_(-0.3, 1.7))
    frequencies.copy_(torch.randn(2, WIDTH // 2) * spread)
    for module in decoder.transformer.modules():
        if isinstance(module, Attention):  # attention starts as similarity of query and key
            nn.init.orthogonal_(module.q_proj.weight, gain=1.4)
            module.k_proj.weight.data.copy_(module.q_proj.weight.data)
            nn.init.zeros_(module.q_proj.bias)
            nn.init.zeros_(module.k_proj.bias)
    return Sam(encoder, prompt_encoder, decoder, list(PIXEL_MEAN), list(PIXEL_STD))

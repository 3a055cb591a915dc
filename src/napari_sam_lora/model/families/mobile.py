"""MobileSAM: SAM with TinyViT-5M as image encoder.

MobileSAM is arXiv 2306.14289, TinyViT arXiv 2207.10666. Names of parameters are those of
github.com/ChaoningZhang/MobileSAM, so that its checkpoints load. There are three differences: tokens are (b, h, w, d)
between blocks, the size of the grid is that of the tokens, and batch normalisation always uses the stored statistics,
since a batch of a few images gives none of its own.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as functional
from segment_anything.modeling import MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
from segment_anything.modeling.common import LayerNorm2d
from torch import Tensor, nn

INPUT_SIZE = 1024
STRIDE = 16
WIDTHS = (64, 128, 160, 320)
DEPTHS = (2, 2, 6, 2)
HEADS = (2, 4, 5, 10)
WINDOWS = (7, 7, 14, 7)
EXPANSION = 4  # of MBConv and of the MLPs
EMBEDDING = 256
PIXEL_MEAN = (123.675, 116.28, 103.53)
PIXEL_STD = (58.395, 57.12, 57.375)


class ConvNorm(nn.Module):
    """A convolution without bias, and batch normalisation with stored statistics."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.c = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(outputs)

    def train(self, mode: bool = True) -> ConvNorm:
        """Set the training mode; the statistics are never updated."""
        super().train(mode)
        self.bn.train(False)
        return self

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, inputs, h, w) to (b, outputs, h / stride, w / stride)."""
        return self.bn(self.c(x))


class PatchEmbed(nn.Module):
    """Convolutional patch embedding to a quarter of the resolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.seq = nn.Sequential(ConvNorm(3, width // 2, 3, 2), nn.GELU(), ConvNorm(width // 2, width, 3, 2))

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, 3, h, w) to (b, width, h / 4, w / 4)."""
        return self.seq(x)


class MBConv(nn.Module):
    """Inverted bottleneck of convolutions (MBConv)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        hidden = EXPANSION * width
        self.conv1 = ConvNorm(width, hidden)
        self.conv2 = ConvNorm(hidden, hidden, 3, groups=hidden)
        self.conv3 = ConvNorm(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, width, h, w) to the same shape."""
        inner = functional.gelu(self.conv2(functional.gelu(self.conv1(x))))
        return functional.gelu(x + self.conv3(inner))


class PatchMerging(nn.Module):
    """Convolutions between two stages, which change width and resolution."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(inputs, outputs)
        self.conv2 = ConvNorm(outputs, outputs, 3, stride, groups=outputs)
        self.conv3 = ConvNorm(outputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, inputs, h, w) to (b, outputs, h / stride, w / stride)."""
        return self.conv3(functional.gelu(self.conv2(functional.gelu(self.conv1(x)))))


class WindowAttention(nn.Module):
    """Attention among the tokens of a window, with a bias for each distance.

    The columns of ``qkv`` are grouped by head: q, k and v of the first head, then those of the second, and so on.
    """

    offsets: Tensor

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.num_heads = heads
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.attention_biases = nn.Parameter(torch.zeros(heads, window * window))
        rows, columns = (grid.flatten() for grid in torch.meshgrid(*2 * [torch.arange(window)], indexing="ij"))
        down, across = (abs(positions[:, None] - positions[None]) for positions in (rows, columns))
        self.register_buffer("offsets", down * window + across, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Attend among the tokens (b, n, d) of each window."""
        qkv = self.qkv(self.norm(x)).unflatten(-1, (self.num_heads, 3, -1))
        q, k, v = qkv.permute(3, 0, 2, 1, 4).unbind(0)
        bias = self.attention_biases[:, self.offsets]
        out = functional.scaled_dot_product_attention(q, k, v, attn_mask=bias[None].to(q.dtype))
        return self.proj(out.transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    """Two linear layers after a norm."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, EXPANSION * width)
        self.fc2 = nn.Linear(EXPANSION * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., width) to the same shape."""
        return self.fc2(functional.gelu(self.fc1(self.norm(x))))


class TinyViTBlock(nn.Module):
    """Attention in windows, a depthwise convolution, and an MLP."""

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.attn = WindowAttention(width, heads, window)
        self.local_conv = ConvNorm(width, width, 3, groups=width)
        self.mlp = Mlp(width)

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens (b, h, w, d) to the same shape."""
        x = x + self._attend(x)
        x = self.local_conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return x + self.mlp(x)

    def _attend(self, x: Tensor) -> Tensor:
        """Attend in windows; the last ones are padded with zeros, which take part in the attention."""
        batch, height, width, _ = x.shape
        side = self.window
        padded = functional.pad(x, (0, 0, 0, -width % side, 0, -height % side))
        rows, columns = padded.shape[1] // side, padded.shape[2] // side
        windows = padded.unflatten(2, (columns, side)).unflatten(1, (rows, side)).transpose(2, 3)
        attended = self.attn(windows.reshape(batch * rows * columns, side * side, -1))
        back = attended.reshape(batch, rows, columns, side, side, -1).transpose(2, 3)
        return back.reshape(batch, rows * side, columns * side, -1)[:, :height, :width]


class Stage(nn.Module):
    """Blocks at one resolution, and the downsampling to the next."""

    def __init__(self, blocks: list[nn.Module], downsample: PatchMerging | None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.downsample = downsample


class TinyViT(nn.Module):
    """The image encoder of MobileSAM; `napari_sam_lora.model.encoder` runs it step by step.

    Attributes
    ----------
    img_size : int
        Side of the square input in pixels, a multiple of 16.
    pos_embed : None
        There are no absolute positions.
    """

    pos_embed = None

    def __init__(self) -> None:
        super().__init__()
        self.img_size = INPUT_SIZE
        self.patch_embed = PatchEmbed(WIDTHS[0])
        self.layers = nn.ModuleList([Stage([MBConv(WIDTHS[0]) for _ in range(DEPTHS[0])], _merging(0))])
        for stage in range(1, len(WIDTHS)):
            blocks: list[nn.Module] = [
                TinyViTBlock(WIDTHS[stage], HEADS[stage], WINDOWS[stage]) for _ in range(DEPTHS[stage])
            ]
            self.layers.append(Stage(blocks, _merging(stage)))
        self.norm_head = nn.LayerNorm(WIDTHS[-1])  # unused, but part of the checkpoints
        self.head = nn.Linear(WIDTHS[-1], 1000)
        self.neck = nn.Sequential(
            nn.Conv2d(WIDTHS[-1], EMBEDDING, 1, bias=False),
            LayerNorm2d(EMBEDDING),
            nn.Conv2d(EMBEDDING, EMBEDDING, 3, padding=1, bias=False),
            LayerNorm2d(EMBEDDING),
        )

    @property
    def blocks(self) -> list[TinyViTBlock]:
        """Blocks with attention, of all stages."""
        return [cast(TinyViTBlock, block) for stage in list(self.layers)[1:] for block in cast(Stage, stage).blocks]

    def stem(self, x: Tensor) -> Tensor:
        """Map pixels (b, 3, s, s) to the tokens (b, h, w, d) of the first block with attention."""
        first = cast(Stage, self.layers[0])
        x = self.patch_embed(x)
        for block in first.blocks:
            x = block(x)
        return _downsampled(first, x).permute(0, 2, 3, 1)

    def step(self, index: int, x: Tensor) -> Tensor:
        """Run one of `blocks`, and after the last one of a stage its downsampling; tokens (b, h, w, d)."""
        x = self.blocks[index](x)
        ends = 0
        for stage in list(self.layers)[1:]:
            ends += len(cast(Stage, stage).blocks)
            if index + 1 == ends:
                return _downsampled(cast(Stage, stage), x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return x

    def forward(self, x: Tensor) -> Tensor:
        """Embed pixels (b, 3, s, s) as (b, 256, s / 16, s / 16)."""
        x = self.stem(x)
        for index in range(len(self.blocks)):
            x = self.step(index, x)
        return self.neck(x.permute(0, 3, 1, 2))


def _merging(stage: int) -> PatchMerging | None:
    """Build the downsampling after a stage; unlike TinyViT's the last one keeps the 64 x 64 tokens of SAM's decoder."""
    if stage + 1 == len(WIDTHS):
        return None
    return PatchMerging(WIDTHS[stage], WIDTHS[stage + 1], 1 if stage + 2 == len(WIDTHS) else 2)


def _downsampled(stage: Stage, x: Tensor) -> Tensor:
    return x if stage.downsample is None else stage.downsample(x)


def build_mobile_sam() -> Sam:
    """Build MobileSAM with fresh weights, in training mode."""
    grid = (INPUT_SIZE // STRIDE, INPUT_SIZE // STRIDE)
    return Sam(
        TinyViT(),  # anything with img_size can be the encoder
        PromptEncoder(
            embed_dim=EMBEDDING,
            image_embedding_size=grid,
            input_image_size=(INPUT_SIZE, INPUT_SIZE),
            mask_in_chans=16,
        ),
        MaskDecoder(
            transformer_dim=EMBEDDING,
            transformer=TwoWayTransformer(depth=2, embedding_dim=EMBEDDING, mlp_dim=2048, num_heads=8),
            num_multimask_outputs=3,
            iou_head_depth=3,
            iou_head_hidden_dim=256,
        ),
        list(PIXEL_MEAN),
        list(PIXEL_STD),
    )

"""Models with random weights: ViT-B with segment-anything's attention and with the fused one, and a tiny SAM."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from segment_anything import sam_model_registry
from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer

from napari_sam_lora.images import Preprocessing
from napari_sam_lora.model.embeddings import EmbeddingCache
from napari_sam_lora.model.encoder import fuse_attention
from napari_sam_lora.model.input_size import set_input_size
from napari_sam_lora.model.predictor import Predictor
from napari_sam_lora.model.sharing import share

VIT_B_INPUT = 256


@dataclass(frozen=True)
class Twins:
    """Two SAMs over the same weights.

    Attributes
    ----------
    reference : Sam
        With segment-anything's own attention.
    fused : Sam
    """

    reference: Sam
    fused: Sam


def randomise_positions(sam: Sam) -> None:
    """Make position embeddings matter; segment-anything starts them at zero."""
    for name, parameter in sam.image_encoder.named_parameters():
        if "rel_pos" in name or "pos_embed" in name:
            torch.nn.init.normal_(parameter, std=0.1)


@pytest.fixture(scope="session")
def vit_b_full() -> Sam:
    """ViT-B at its own input size, with random weights; do not run its encoder, which is slow."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        sam = sam_model_registry["vit_b"]()
        randomise_positions(sam)
    return sam.requires_grad_(False).eval()


@pytest.fixture(scope="session")
def vit_b(vit_b_full: Sam) -> Twins:
    """ViT-B at a small input size."""
    reference = share(vit_b_full)
    set_input_size(reference, VIT_B_INPUT)
    fused = share(reference)
    fuse_attention(fused.image_encoder)
    return Twins(reference, fused)


@pytest.fixture(scope="session")
def vit_b_predictor(vit_b: Twins) -> Predictor:
    """Our predictor of ViT-B."""
    return Predictor(vit_b.fused, "vit_b", Preprocessing(), EmbeddingCache())


@pytest.fixture(scope="session")
def vit_b_checkpoint(vit_b_full: Sam, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """ViT-B's state dict in half precision, in the layout of the official .pth."""
    path = tmp_path_factory.mktemp("vit_b") / "sam_vit_b.pth"
    torch.save({key: value.half() for key, value in vit_b_full.state_dict().items()}, path)
    yield path
    path.unlink()  # it is large, and pytest keeps folders of earlier runs


@pytest.fixture
def tiny_sam() -> Sam:
    """Build a SAM of two narrow blocks with absolute positions, at 128 pixels and stride 16."""
    encoder = ImageEncoderViT(
        img_size=128,
        embed_dim=32,
        depth=2,
        num_heads=2,
        out_chans=32,
        use_rel_pos=True,
        window_size=3,
        global_attn_indexes=(1,),
    )
    prompt_encoder = PromptEncoder(32, (8, 8), (128, 128), mask_in_chans=16)
    transformer = TwoWayTransformer(depth=1, embedding_dim=32, num_heads=2, mlp_dim=32)
    sam = Sam(encoder, prompt_encoder, MaskDecoder(transformer_dim=32, transformer=transformer))
    randomise_positions(sam)
    return sam.requires_grad_(False).eval()

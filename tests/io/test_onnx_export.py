"""ONNX files compute what the adapted model computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from error_codes import raises
from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer

from napari_sam_lora import Model
from napari_sam_lora.errors import InputError
from napari_sam_lora.io.adapters import onnx_export
from napari_sam_lora.io.adapters.onnx_export import export_onnx
from napari_sam_lora.lora.adapter import Adapter, AdapterInfo
from napari_sam_lora.lora.inject import LoRAConfig, adapter_parameters, attach
from napari_sam_lora.model.checkpoints import LoadedModel
from napari_sam_lora.model.encoder import fuse_attention
from napari_sam_lora.model.families.mobile import build_mobile_sam
from napari_sam_lora.model.input_size import at_input_size

onnxruntime = pytest.importorskip("onnxruntime", reason="ONNX files are checked with the extra onnx")
pytest.importorskip("onnx", reason="ONNX files are written with the extra onnx")


@pytest.fixture(scope="module")
def small() -> LoadedModel:
    """Build a SAM of two narrow blocks at 128 pixels, with SAM's own kinds of layers."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        encoder = ImageEncoderViT(
            img_size=128, embed_dim=32, depth=2, num_heads=2, out_chans=32, use_rel_pos=True, window_size=3,
            global_attn_indexes=(1,),
        )  # fmt: skip
        transformer = TwoWayTransformer(depth=1, embedding_dim=32, num_heads=2, mlp_dim=32)
        sam = Sam(
            encoder, PromptEncoder(32, (8, 8), (128, 128), 16), MaskDecoder(transformer_dim=32, transformer=transformer)
        )
        for name, value in sam.named_parameters():
            if "pos" in name:
                torch.nn.init.normal_(value, std=0.1)
    fuse_attention(sam.image_encoder)
    return LoadedModel(sam.requires_grad_(False).eval(), "small.pth", "vit_b", "hash")


@pytest.fixture(scope="module")
def adapter(small: LoadedModel) -> Adapter:
    config = LoRAConfig((0, 1), 2, 2.0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        tensors = {n: 0.2 * torch.randn_like(v) for n, v in adapter_parameters(attach(small.sam, config)).items()}
    return Adapter(tensors, AdapterInfo(small.name, "hash", config, "full", 128))


def _run(path: Path, **inputs: Any) -> list[Any]:
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, inputs)


def test_encoder_and_decoder_of_an_adapted_model_are_checked_against_torch(
    small: LoadedModel, adapter: Adapter, tmp_path: Path
) -> None:
    before = {key: value.clone() for key, value in small.sam.state_dict().items()}
    encoder, decoder = export_onnx(tmp_path / "out", small, adapter, name="cells")
    assert [encoder.path.name, decoder.path.name] == ["cells_encoder.onnx", "cells_decoder.onnx"]
    for one in (encoder, decoder):
        assert one.difference is not None
        assert one.difference < 1e-4
    assert all(torch.equal(before[key], value) for key, value in small.sam.state_dict().items())
    pixels = torch.randn(1, 3, 128, 128)
    (found,) = _run(encoder.path, image=pixels.numpy())
    tree = adapter.apply(small.sam, "small", "hash")
    with torch.no_grad():
        wanted = tree.image_encoder(pixels).numpy()
        base = small.sam.image_encoder(pixels).numpy()
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    assert np.abs(wanted - base).max() > 1e-2


def test_the_decoder_takes_any_number_of_points_and_any_image_size(small: LoadedModel, tmp_path: Path) -> None:
    (decoder,) = export_onnx(tmp_path, small, components=["decoder"])
    for points, size in ((1, (96, 128)), (7, (50, 20))):
        masks, scores, low = _run(
            decoder.path,
            image_embeddings=np.zeros((1, 32, 8, 8), np.float32),
            point_coords=np.full((1, points, 2), 9, np.float32),
            point_labels=np.ones((1, points), np.float32),
            mask_input=np.zeros((1, 1, 32, 32), np.float32),
            has_mask_input=np.zeros(1, np.float32),
            orig_im_size=np.array(size, np.float32),
        )
        assert masks.shape == (1, 4, *size)
        assert scores.shape == (1, 4)
        assert low.shape == (1, 4, 32, 32)


def test_the_encoders_of_the_bundled_model_and_of_mobile_sam_are_exported(nano: Model, tmp_path: Path) -> None:
    (encoder,) = export_onnx(tmp_path, nano.loaded, components=["encoder"])
    assert encoder.path.name == "sam_nano_encoder.onnx"
    mobile = at_input_size(build_mobile_sam().requires_grad_(False).eval(), 128)
    (encoder,) = export_onnx(tmp_path, LoadedModel(mobile, "vit_t", "vit_t", "x"), components=["encoder"])
    assert encoder.difference is not None


def test_what_cannot_be_exported_is_said_before_anything_is_written(
    nano: Model, small: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with raises(InputError, "decoder-not-exportable", match="sam_nano"):
        export_onnx(tmp_path, nano.loaded)
    monkeypatch.setattr(onnx_export, "_LARGEST_BYTES", 10)
    with raises(InputError, "encoder-too-large", match="2 GiB"):
        export_onnx(tmp_path, small)
    with raises(InputError, "unknown-component", match="head"):
        export_onnx(tmp_path, small, components=["head"])  # type: ignore[list-item]
    (tmp_path / "small_decoder.onnx").write_bytes(b"mine")
    with raises(InputError, "file-exists", match=r"small_decoder\.onnx"):
        export_onnx(tmp_path, small, components=["decoder"])
    assert [path.name for path in tmp_path.iterdir()] == ["small_decoder.onnx"]


def test_a_file_that_computes_something_else_is_not_kept(
    small: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_export, "_compare", lambda *_: 0.5)
    with raises(InputError, "onnx-differs", match="decoder .*5\\.0e-01"):
        export_onnx(tmp_path, small, components=["decoder"])
    assert list(tmp_path.iterdir()) == []

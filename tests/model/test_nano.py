"""The bundled architecture."""

from __future__ import annotations

from importlib.resources import files

import numpy as np
import pytest
import torch
from error_codes import raises
from segment_anything.modeling import PromptEncoder
from torch import Tensor

from napari_sam_lora import Model, Prompts, load_model
from napari_sam_lora.errors import InputError
from napari_sam_lora.model.families.nano import DensePromptEncoder, build_sam_nano

POSITIVE, NEGATIVE, BOX, ELLIPSE, MASK = range(5)


@pytest.fixture(scope="module")
def encoder() -> DensePromptEncoder:
    """For 256 input pixels: a 128 x 128 low-resolution mask, two input pixels a mask pixel."""
    torch.manual_seed(0)
    return DensePromptEncoder(
        embed_dim=32, image_embedding_size=(32, 32), input_image_size=(256, 256), mask_in_chans=16
    ).requires_grad_(False)


def _points(*rows: tuple[float, float, int]) -> tuple[Tensor, Tensor]:
    """One object with points of x, y and label."""
    return torch.tensor([[row[:2] for row in rows]]), torch.tensor([[float(row[2]) for row in rows]])


def test_the_same_seed_gives_the_same_weights_and_leaves_the_generator_alone() -> None:
    before = torch.get_rng_state()
    one = build_sam_nano(seed=5).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    again, other = build_sam_nano(seed=5).state_dict(), build_sam_nano(seed=6).state_dict()
    assert one.keys() == again.keys() == other.keys()
    assert all(torch.equal(one[key], again[key]) for key in one)
    assert not torch.equal(one["mask_decoder.iou_token.weight"], other["mask_decoder.iou_token.weight"])


def test_the_asset_holds_this_architecture_and_is_small(nano: Model) -> None:
    built, loaded = build_sam_nano().state_dict(), nano.loaded.sam.state_dict()
    assert {key: value.shape for key, value in built.items()} == {key: value.shape for key, value in loaded.items()}
    assert sum(value.numel() for value in loaded.values()) < 3e6
    asset = files("napari_sam_lora") / "assets" / "sam_nano.safetensors"
    assert 0 < len(asset.read_bytes()) < 12e6


@torch.no_grad()
def test_it_takes_256_pixels_to_32_x_32_tokens_and_128_x_128_logits(nano: Model) -> None:
    sam = build_sam_nano().eval()
    assert sam.image_encoder.img_size == nano.predictor.input_size == 256
    assert sam.image_encoder(torch.zeros(1, 3, 256, 256)).shape == (1, 256, 32, 32)
    assert tuple(sam.prompt_encoder.mask_input_size) == (128, 128)
    assert build_sam_nano(128).eval().image_encoder(torch.zeros(1, 3, 128, 128)).shape == (1, 256, 16, 16)


@pytest.mark.parametrize("size", [8, 72, 264])
def test_it_runs_at_any_multiple_of_eight_pixels(size: int) -> None:
    model = load_model("sam_nano", device="cpu", input_size=size)
    plane = np.random.default_rng(0).integers(0, 256, (90, 120), np.uint8)
    result = model.segment(model.encode(plane), Prompts(boxes=[[20, 30, 60, 70]], points=[[[40, 50]]]))
    assert result.masks.shape == (1, 90, 120)
    assert np.isfinite(result.scores).all()


def test_another_input_size_is_refused() -> None:
    with raises(InputError, "invalid-input-size", match="8, not 260"):
        load_model("sam_nano", device="cpu", input_size=260)


@pytest.mark.parametrize(("label", "channel"), [(1, POSITIVE), (0, NEGATIVE)])
def test_a_click_is_drawn_where_it_is(encoder: DensePromptEncoder, label: int, channel: int) -> None:
    drawn = encoder.draw(_points((101.0, 41.0, label)), None, None)
    assert drawn.shape == (1, 5, 128, 128)
    # The middle of the pixel is at (101.5, 41.5) / 2 = (50.75, 20.75); that of mask pixel 50 is at 50.5.
    expected = torch.exp(torch.tensor(-(0.25**2 + 0.25**2) / 8))
    torch.testing.assert_close(drawn[0, channel].max(), expected)
    assert divmod(int(drawn[0, channel].argmax()), 128) == (20, 50)
    assert drawn[0, channel, 20, 54] > drawn[0, channel, 20, 56] > 0.01  # it fades over a few pixels
    assert drawn[0, channel, 20, 80] < 1e-6
    drawn[0, channel] = 0
    assert not drawn.any()


def test_clicks_of_both_labels_are_drawn_apart_and_padding_not_at_all(encoder: DensePromptEncoder) -> None:
    drawn = encoder.draw(_points((20.0, 30.0, 1), (220.0, 30.0, 1), (20.0, 200.0, 0), (128.0, 128.0, -1)), None, None)[
        0
    ]
    seen = {(y, x): drawn[:, y, x] > 0.5 for y, x in ((15, 10), (15, 110), (100, 10), (64, 64))}
    assert [channels.tolist()[:2] for channels in seen.values()] == [
        [True, False],
        [True, False],
        [False, True],
        [False, False],
    ]
    assert not drawn[2:].any()


def test_clicks_are_drawn_wide_too_and_apart(encoder: DensePromptEncoder) -> None:
    points = _points((21.0, 31.0, 1), (221.0, 31.0, 0), (128.0, 128.0, -1))
    like = torch.zeros(1, 5, 128, 128)
    wide = encoder.draw_wide(points, like)[0]
    # The middle of a pixel at 21 is at 21.5 / 2 = 10.75 of the mask, and that of mask pixel (15, 10) at (15.5, 10.5).
    torch.testing.assert_close(
        wide[:, 15, 10 + 24], torch.exp(-torch.tensor([23.75, 76.25]).hypot(torch.tensor(0.25)) / 24)
    )
    assert not encoder.draw_wide(None, like).any()
    assert encoder.draw_wide(_points((128.0, 128.0, -1)), like).shape == (1, 2, 128, 128)
    assert not encoder.draw_wide(_points((128.0, 128.0, -1)), like).any()


def test_a_box_is_drawn_filled_and_half_pixels_count_half(encoder: DensePromptEncoder) -> None:
    # x from 20 to 61, y from 40 to 120: in mask pixels 10 to 30.5 and 20 to 60.
    drawn = encoder.draw(None, torch.tensor([[20.0, 40.0, 61.0, 120.0]]), None)[0]
    expected = torch.zeros(128, 128)
    expected[20:60, 10:30] = 1
    expected[20:60, 30] = 0.5
    torch.testing.assert_close(drawn[BOX], expected)
    assert not drawn[[POSITIVE, NEGATIVE, MASK]].any()


def test_the_ellipse_is_inscribed_in_the_box(encoder: DensePromptEncoder) -> None:
    drawn = encoder.draw(None, torch.tensor([[20.0, 40.0, 60.0, 120.0]]), None)[0, ELLIPSE]
    y, x = torch.meshgrid(torch.arange(128) + 0.5, torch.arange(128) + 0.5, indexing="ij")
    radius = (((x - 20) / 10) ** 2 + ((y - 40) / 20) ** 2).sqrt()  # 1 on the ellipse
    assert torch.equal(drawn > 0, radius < 1)
    torch.testing.assert_close(drawn[40, 20], torch.tensor(1 - (0.05**2 + 0.025**2) ** 0.5))
    torch.testing.assert_close(drawn[40, 25], torch.tensor(1 - (0.55**2 + 0.025**2) ** 0.5))
    assert drawn[127, 127] == drawn.min() == -1


def test_a_mask_is_drawn_between_minus_one_and_one(encoder: DensePromptEncoder) -> None:
    logits = torch.zeros(1, 1, 128, 128)
    logits[0, 0, 3, 4:8] = torch.tensor([3.0, -3.0, 60.0, -60.0])
    drawn = encoder.draw(None, None, logits)[0]
    assert drawn[MASK, 3, 4:8].tolist() == [0.5, -0.5, 1.0, -1.0]
    assert drawn.abs().sum() == 3


def test_objects_are_drawn_apart(encoder: DensePromptEncoder) -> None:
    boxes = torch.tensor([[20.0, 40.0, 60.0, 120.0], [100.0, 8.0, 240.0, 31.0]])
    points = (torch.tensor([[[40.0, 80.0]], [[150.0, 20.0]]]), torch.tensor([[1.0], [0.0]]))
    together = encoder.draw(points, boxes, None)
    for row in range(2):
        alone = encoder.draw((points[0][[row]], points[1][[row]]), boxes[[row]], None)
        torch.testing.assert_close(together[[row]], alone)


@pytest.mark.parametrize("points", [0, 1, 3])
@pytest.mark.parametrize("boxes", [False, True])
@pytest.mark.parametrize("masks", [False, True])
def test_embeddings_have_the_shapes_of_sams_prompt_encoder(
    encoder: DensePromptEncoder, points: int, boxes: bool, masks: bool
) -> None:
    theirs = PromptEncoder(32, (32, 32), (256, 256), 16).requires_grad_(False)
    theirs.load_state_dict(encoder.state_dict(), strict=False)  # the same positions and labels
    prompt = (
        (torch.rand(2, points, 2) * 256, torch.randint(0, 2, (2, points))) if points else None,
        torch.tensor([[5.0, 6.0, 90.0, 100.0], [50.0, 60.0, 190.0, 200.0]]) if boxes else None,
        torch.randn(2, 1, 128, 128) if masks else None,
    )
    ours, expected = encoder(*prompt), theirs(*prompt)
    assert ours[0].shape == expected[0].shape
    assert ours[1].shape == (len(expected[1]), 32 + DensePromptEncoder.PACKED, 32, 32)
    torch.testing.assert_close(ours[0], expected[0])  # the tokens are SAM's own


def test_dense_embeddings_see_clicks_boxes_and_masks(encoder: DensePromptEncoder) -> None:
    prompts = [
        (_points((40.0, 80.0, 1)), None, None),
        (_points((40.0, 80.0, 0)), None, None),
        (None, torch.tensor([[20.0, 40.0, 60.0, 120.0]]), None),
        (None, None, torch.full((1, 1, 128, 128), 6.0)),
    ]
    dense = [encoder(*prompt)[1] for prompt in prompts]
    dense = [part[:, :32] for part in dense]  # what SAM's decoder sees
    for place, one in enumerate(dense):
        for other in dense[:place]:
            assert not torch.allclose(one, other, atol=1e-3)

"""Detail beside the tokens of sam_nano, and the refining of its masks."""

from __future__ import annotations

import pytest
import torch
from segment_anything.modeling import ImageEncoderViT, MaskDecoder, Sam
from segment_anything.modeling.image_encoder import Block
from torch import Tensor, nn

from napari_sam_lora.model.encoder import prefix, suffix
from napari_sam_lora.model.families.nano import WIDTH, build_sam_nano
from napari_sam_lora.model.families.nano_detail import half_unpack, pack

BOXES = torch.tensor([[20.0, 30.0, 70.0, 90.0], [10.0, 5.0, 120.0, 60.0]])
POINTS = (torch.tensor([[[40.0, 50.0]], [[90.0, 30.0]]]), torch.ones(2, 1))


@pytest.fixture
def fresh() -> Sam:
    """At 128 pixels: 16 x 16 tokens, 64 x 64 mask pixels. Its refiner changes nothing yet."""
    return build_sam_nano(128, seed=3).eval().requires_grad_(False)


@pytest.fixture
def refining(fresh: Sam) -> Sam:
    """Build the same with a refiner whose last layers are not zero."""
    torch.manual_seed(1)
    refiner = fresh.mask_decoder.refiner
    for layer in (refiner.mask, refiner.quality[-1]):
        nn.init.normal_(layer.weight, std=0.1)
    return fresh


@pytest.fixture(scope="module")
def image() -> Tensor:
    return torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(2))


def _decode(sam: Sam, embedding: Tensor, **prompts: object) -> tuple[Tensor, Tensor]:
    sparse, dense = sam.prompt_encoder(**{"points": None, "boxes": None, "masks": None} | prompts)
    return sam.mask_decoder.predict_masks(
        image_embeddings=embedding,
        image_pe=sam.prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
    )


def _sams_own(sam: Sam, embedding: Tensor, **prompts: object) -> tuple[Tensor, Tensor]:
    """SAM's decoder on the channels that are its."""
    sparse, dense = sam.prompt_encoder(**{"points": None, "boxes": None, "masks": None} | prompts)
    return MaskDecoder.predict_masks(
        sam.mask_decoder, embedding[:, :WIDTH], sam.prompt_encoder.get_dense_pe(), sparse, dense[:, :WIDTH]
    )


@pytest.mark.parametrize("prompts", [{"boxes": BOXES}, {"points": POINTS}], ids=["box", "click"])
def test_a_new_refiner_leaves_masks_and_iou_as_sams_decoder_makes_them(
    fresh: Sam, image: Tensor, prompts: dict[str, object]
) -> None:
    embedding = fresh.image_encoder(image)
    for ours, theirs in zip(_decode(fresh, embedding, **prompts), _sams_own(fresh, embedding, **prompts), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_trained_refiner_changes_masks_and_iou(refining: Sam, image: Tensor) -> None:
    embedding = refining.image_encoder(image)
    ours, theirs = _decode(refining, embedding, boxes=BOXES), _sams_own(refining, embedding, boxes=BOXES)
    assert all((one - two).abs().max() > 1e-3 for one, two in zip(ours, theirs, strict=True))


def test_fine_detail_of_the_image_reaches_the_masks_unblurred(refining: Sam, image: Tensor) -> None:
    embedding = refining.image_encoder(image)
    other = embedding.clone()
    other[:, WIDTH:, 8, 8] += 1  # all detail of one token: mask pixels 32 to 35
    change = (_decode(refining, other, boxes=BOXES)[0] - _decode(refining, embedding, boxes=BOXES)[0]).abs().sum(1)
    at = divmod(int(change[0].argmax()), 64)
    assert all(26 <= place <= 41 for place in at)


def test_the_tokens_pass_the_encoder_as_in_sam_and_the_detail_untouched(fresh: Sam, image: Tensor) -> None:
    encoder: ImageEncoderViT = fresh.image_encoder
    before = encoder.patch_embed(image)
    embedding = encoder(image)
    assert torch.equal(embedding[:, WIDTH:], before[..., WIDTH:].permute(0, 3, 1, 2))
    tokens = before[..., :WIDTH]
    for block in encoder.blocks:
        tokens = Block.forward(block, tokens)
    torch.testing.assert_close(
        embedding[:, :WIDTH], nn.Sequential(*encoder.neck)(tokens.permute(0, 3, 1, 2)), rtol=1e-4, atol=1e-5
    )
    assert embedding[:, WIDTH:].std() > 0


@pytest.mark.parametrize("split", [0, 3, 7])
def test_the_halves_of_the_encoder_carry_the_detail(fresh: Sam, image: Tensor, split: int) -> None:
    encoder = fresh.image_encoder
    torch.testing.assert_close(suffix(encoder, prefix(encoder, image, split), split), encoder(image))


def test_one_image_of_all_objects_and_an_image_of_each_are_the_same(refining: Sam, image: Tensor) -> None:
    embedding = refining.image_encoder(image)
    together = _decode(refining, embedding, boxes=BOXES)
    each = _decode(refining, embedding.expand(2, -1, -1, -1), boxes=BOXES)
    for one, two in zip(together, each, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-4)


def test_many_objects_at_once_are_as_each_alone(refining: Sam, image: Tensor) -> None:
    embedding = refining.image_encoder(image)
    boxes = BOXES.repeat(5, 1) + torch.arange(10.0)[:, None]
    together = _decode(refining, embedding, boxes=boxes)
    for row in (0, 7, 9):
        for one, two in zip(together, _decode(refining, embedding, boxes=boxes[[row]]), strict=True):
            torch.testing.assert_close(one[[row]], two, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [72, 192])
def test_other_input_sizes_have_masks_of_half_their_size(size: int) -> None:
    sam = build_sam_nano(size).eval().requires_grad_(False)
    logits, iou = _decode(sam, sam.image_encoder(torch.zeros(1, 3, size, size)), boxes=BOXES)
    assert logits.shape == (2, 4, size // 2, size // 2)
    assert iou.shape == (2, 4)


def test_gradients_reach_the_image_through_the_refiner_alone(refining: Sam, image: Tensor) -> None:
    embedding = refining.image_encoder(image).requires_grad_()
    logits, iou = _decode(refining, embedding, boxes=BOXES)
    (logits.mean() + iou.mean()).backward()
    assert embedding.grad is not None
    assert embedding.grad[:, WIDTH:].abs().sum() > 0
    assert embedding.grad[:, :WIDTH].abs().sum() > 0


def test_packing_keeps_places() -> None:
    x = torch.arange(2 * 8 * 12.0).reshape(1, 2, 8, 12)
    packed = pack(x)
    assert packed.shape == (1, 32, 2, 3)
    assert set(packed[0, :16, 1, 2].tolist()) == set(x[0, 0, 4:, 8:].flatten().tolist())
    assert torch.equal(nn.functional.pixel_shuffle(half_unpack(packed), 2), x)


def test_clicks_are_also_drawn_wide(fresh: Sam) -> None:
    drawn = fresh.prompt_encoder.draw_wide(POINTS, torch.zeros(2, 5, 64, 64))
    assert drawn.shape == (2, 2, 64, 64)
    assert divmod(int(drawn[0, 0].argmax()), 64) == (25, 20)
    assert drawn[0, 0, 25, 20 + 24] == pytest.approx(0.37, abs=0.02)
    assert not drawn[:, 1].any()
    assert not fresh.prompt_encoder.draw_wide(None, torch.zeros(2, 5, 64, 64)).any()

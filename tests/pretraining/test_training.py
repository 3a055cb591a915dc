"""Prompts and objective of the pre-training of sam_nano, and resuming a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from napari_sam_lora.model.families.nano import build_sam_nano
from pretraining import train
from pretraining.data import View
from pretraining.objective import mask_loss, outline_band, round_loss, true_iou
from pretraining.rounds import Prompted, batch_loss, corrective_clicks, decode, encode, validate


def _mask(y0: int, y1: int, x0: int, x1: int) -> Tensor:
    mask = torch.zeros(1, 1, 32, 32)
    mask[..., y0:y1, x0:x1] = 1
    return mask


def _logits(mask: Tensor) -> Tensor:
    return 8 * mask - 4


def _view(seed: int) -> View:
    rng = np.random.default_rng(seed)
    masks = np.zeros((4, 64, 64), bool)
    for number in range(4):
        masks[number, 10 * number : 10 * number + 20, 8:40] = True
    boxes = np.array([[8, 10 * n, 40, 10 * n + 20] for n in range(4)], np.float32)
    clicks = np.array([[24, 10 * n + 10] for n in range(4)], np.float32)
    return View(rng.uniform(0, 255, (64, 64)).astype(np.float32), masks, boxes, clicks)


def test_a_correction_is_the_middle_of_the_largest_wrong_region() -> None:
    target = _mask(4, 13, 4, 13)
    missed = _logits(torch.zeros_like(target))
    points, labels = corrective_clicks(missed, target, None)
    assert points.tolist() == [[[16.5, 16.5]]]  # mask pixel (8, 8), in input pixels
    assert labels.tolist() == [[1]]
    too_much = _logits(target + _mask(20, 29, 16, 31))  # larger than what is right
    points, labels = corrective_clicks(too_much, target, None)
    assert points[0, 0, 1] == 2 * 24 + 0.5
    assert labels.tolist() == [[0]]


def test_a_perfect_mask_is_confirmed_and_an_empty_object_is_no_error() -> None:
    target = _mask(4, 13, 4, 13)
    points, labels = corrective_clicks(_logits(target), target, None)
    assert (points.tolist(), labels.tolist()) == ([[[16.5, 16.5]]], [[1]])
    empty = torch.zeros_like(target)
    assert corrective_clicks(_logits(empty), empty, None)[1].tolist() == [[0]]


def test_random_corrections_lie_in_the_wrong_region() -> None:
    rng = np.random.default_rng(0)
    target = _mask(4, 13, 4, 13)
    clicks = [corrective_clicks(_logits(torch.zeros_like(target)), target, rng)[0][0, 0] / 2 for _ in range(30)]
    assert all(4 <= x < 13 and 4 <= y < 13 for x, y in clicks)
    assert len({tuple(click.tolist()) for click in clicks}) > 3


def test_clicks_and_the_shown_mask_add_up() -> None:
    target = _mask(4, 13, 4, 13)
    prompted = Prompted(torch.zeros(1, dtype=torch.long), target, boxes=torch.tensor([[8.0, 8.0, 26.0, 26.0]]))
    assert not prompted.lone_click
    for count in (1, 2):
        shown = _logits(torch.zeros_like(target))
        prompted.correct(shown, None)
        assert prompted.points is not None
        assert prompted.points.shape == (1, count, 2)
        assert prompted.previous is shown
    assert not prompted.lone_click


def test_the_better_mask_has_the_lower_loss_and_the_right_iou() -> None:
    target = _mask(4, 12, 4, 12)
    masks = torch.cat([target, _mask(4, 12, 4, 8), _mask(20, 28, 20, 28), torch.zeros_like(target)], 1)
    losses = mask_loss(_logits(masks), target)[0]
    assert losses[0] < losses[1] < losses[2]
    assert true_iou(_logits(masks), target)[0].tolist() == [1, 0.5, 0, 0]


def test_the_band_is_four_pixels_wide() -> None:
    band = outline_band(_mask(8, 24, 8, 24))[0, 0]
    assert band[16].nonzero().flatten().tolist() == [6, 7, 8, 9, 22, 23, 24, 25]


def test_choosing_the_worse_candidate_costs() -> None:
    target = _mask(4, 12, 4, 12)
    logits = _logits(torch.cat([target, target, _mask(4, 12, 4, 8), torch.zeros_like(target)], 1))
    right, wrong = torch.tensor([[1, 0.9, 0.6, 0]]), torch.tensor([[1, 0.6, 0.9, 0]])
    assert round_loss(logits, right, target, True) < round_loss(logits, wrong, target, True) - 0.4
    pull = wrong.clone().requires_grad_()
    round_loss(logits, pull, target, True).backward()
    assert pull.grad is not None
    assert pull.grad[0, 1] < 0 < pull.grad[0, 2]


def test_every_part_of_the_model_learns() -> None:
    sam = build_sam_nano(64)
    for layer in (sam.mask_decoder.refiner.mask, sam.mask_decoder.refiner.quality[-1]):
        torch.nn.init.normal_(layer.weight, std=0.1)
    for seed in range(3):  # points, boxes and earlier masks all come up
        batch_loss(sam, [_view(seed), _view(seed + 9)], np.random.default_rng(seed)).backward()
    pulls = {name: None if value.grad is None else value.grad.abs().sum() for name, value in sam.named_parameters()}
    assert {name: pull for name, pull in pulls.items() if pull is None or not 0 < pull < torch.inf} == {}


def test_objects_see_their_own_image() -> None:
    sam = build_sam_nano(64).eval().requires_grad_(False)
    views = [_view(0), _view(1)]
    embeddings = encode(sam, views)
    target = torch.zeros(2, 1, 32, 32)
    boxes = torch.tensor([[8.0, 0.0, 40.0, 20.0]] * 2)
    both, _ = decode(sam, embeddings, Prompted(torch.tensor([1, 0]), target, boxes=boxes))
    alone, _ = decode(sam, embeddings[1:], Prompted(torch.tensor([0]), target[:1], boxes=boxes[:1]))
    torch.testing.assert_close(both[:1], alone, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(both[0], both[1], atol=1e-3)


def test_validation_gives_the_same_figures_each_time() -> None:
    sam = build_sam_nano(64)
    figures = validate(sam, [_view(0)])
    assert set(figures) == set(train.COLUMNS)
    assert figures == validate(sam, [_view(0)])
    assert figures["click"] <= figures["best candidate"]


@pytest.fixture
def scenes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write ten scenes, and make steps small."""
    folder = tmp_path / "scenes"
    folder.mkdir()
    rng = np.random.default_rng(0)
    labels = np.zeros((10, 2, 256, 256), np.uint16)
    labels[:, 0, 40:200, 60:180] = 1
    np.save(folder / "images.npy", rng.integers(0, 255, (10, 256, 256), np.uint8))
    np.save(folder / "labels.npy", labels)
    monkeypatch.setattr(train, "HELD_OUT_SCENES", 2)
    monkeypatch.setattr(train, "VALIDATION", (1, 1))
    monkeypatch.setattr(train, "BATCHES", {128: (1, 2), 256: (1, 2)})
    return folder


def test_a_run_resumes_from_its_checkpoint(scenes: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    run = train.Run(scenes, folder, 8, small=1.0)
    run.step = 1
    run.train_step()
    run.save()
    again = train.Run(scenes, folder, 8, small=1.0)
    assert again.step == 2
    for ours, theirs in ((run.sam, again.sam), (run.average, again.average)):
        state = theirs.state_dict()
        assert all(torch.equal(value, state[name]) for name, value in ours.state_dict().items())
    moments = [[one["exp_avg"] for one in each.optimizer.state.values()] for each in (run, again)]
    assert any(moment.any() for moment in moments[0])
    for ours, theirs in zip(*moments, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_given_weights_learn_slowly_and_what_they_lack_fast(scenes: Path, tmp_path: Path) -> None:
    train.save_weights(build_sam_nano(seed=4), tmp_path / "start.safetensors")
    run = train.Run(scenes, tmp_path, 1000, tmp_path / "start.safetensors", small=1.0)
    before = {name: value.clone() for name, value in run.sam.state_dict().items()}
    run.step = 101
    run.train_step()
    moved = {name: float((value - before[name]).abs().max()) for name, value in run.sam.state_dict().items()}
    assert moved["mask_decoder.refiner.mask.bias"] == pytest.approx(train.RATE, rel=0.1)
    assert moved["mask_decoder.output_hypernetworks_mlps.0.layers.2.bias"] == pytest.approx(train.OLD_RATE, rel=0.1)
    assert moved["image_encoder.patch_embed.net.1.running_mean"] == 0


def test_the_rate_rises_stays_and_falls_to_zero() -> None:
    rates = [train.rate_factor(step, 3000) for step in (0, 99, 1999, 2500, 3000)]
    assert rates == pytest.approx([0.01, 1, 1, 0.5, 0])

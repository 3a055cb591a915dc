"""Gradients, seeds and the schedule of the optimisation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from error_codes import raises
from numpy.typing import NDArray
from torch import Tensor

from napari_sam_lora import Model, Preprocessing, Prompts, TrainConfig, load_model
from napari_sam_lora.errors import TrainingError
from napari_sam_lora.model.embeddings import EmbeddingCache
from napari_sam_lora.model.encoder import preprocess
from napari_sam_lora.model.predictor import Predictor
from napari_sam_lora.training.data.augmentation import View, show
from napari_sam_lora.training.data.background_clicks import BackgroundClicks
from napari_sam_lora.training.data.samples import Plane, mark_complete, snapshot
from napari_sam_lora.training.data.split import list_objects
from napari_sam_lora.training.loop import StepResult, Trainer, lora_config
from napari_sam_lora.training.losses import background_loss

from .squares import GRID, make_pair, make_planes

# One view and boxes without corrections: what a step sees differs by the jitter of the boxes alone.
PLAIN: dict[str, Any] = {"views": 1, "box_share": 1.0, "corrections": 0, "validation_share": 0.0}


@pytest.fixture(scope="module")
def small() -> Model:
    return load_model("sam_nano", device="cpu", input_size=128)


@pytest.fixture
def planes(nuclei: tuple[NDArray[np.uint8], NDArray[np.uint8]]) -> tuple[Plane, ...]:
    """Snapshot a quarter of the image of nuclei at full resolution."""
    image, labels = nuclei
    return snapshot([(image[:128, :128], labels[:128, :128])], 128, 2, Preprocessing())


def _trainer(model: Model, planes: tuple[Plane, ...], **settings: Any) -> Trainer:
    cache = settings.pop("cache", None)
    config = TrainConfig(**{"steps": 20, "half_cache": False} | settings)
    return Trainer(model.loaded.sam, planes, list_objects(planes), config, cache)


@torch.no_grad()
def _stir(trainer: Trainer) -> Trainer:
    """Random values in place of the zeros, so that every adapter tensor has a gradient."""
    generator = torch.Generator().manual_seed(1)
    for value in trainer.parameters.values():
        value.copy_(0.05 * torch.randn(value.shape, generator=generator))
    return trainer


def _gradients(trainer: Trainer, planes: tuple[Plane, ...], view: View) -> dict[str, Tensor]:
    prepared, labels = show(view, planes)
    masks = labels[None] == np.array([found.label for found in planes[0].objects[:6]])[:, None, None]
    trainer.backward(view, prepared, masks)
    return {name: value.grad.clone() for name, value in trainer.parameters.items() if value.grad is not None}


def _assert_close(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    assert first.keys() == second.keys()
    for name, value in first.items():
        torch.testing.assert_close(value, second[name], rtol=1e-3, atol=1e-5 * float(value.abs().max() + 1e-3))


@pytest.mark.parametrize(
    "settings", [{"mode": "decoder"}, {"mode": "late"}, {"mode": "full"}, {"blocks": (3,), "targets": ("k", "mlp")}]
)
def test_gradients_over_cached_prefixes_are_those_of_the_whole_encoder(
    small: Model, planes: tuple[Plane, ...], settings: dict[str, Any]
) -> None:
    view = View(0, turn=5, gamma=0.7)
    by_cache = _stir(_trainer(small, planes, corrections=0, chunk=6, **settings))
    by_cache.cache.get(view, show(view, planes)[0])
    gradients = _gradients(by_cache, planes, view)

    whole = _stir(_trainer(small, planes, corrections=0, chunk=6, **settings))
    prepared, labels = show(view, planes)
    masks = labels[None] == np.array([found.label for found in planes[0].objects[:6]])[:, None, None]
    embedding = whole.tree.image_encoder(preprocess(whole.tree, torch.from_numpy(prepared.pixels.copy())))
    loss, rounds = whole._chunk_loss(embedding, prepared, masks)  # the only way to the loss of given prompts
    (loss / (rounds * len(masks))).backward()
    expected = {name: value.grad for name, value in whole.parameters.items() if value.grad is not None}

    assert len(by_cache.cache) == 1
    assert gradients.keys() == by_cache.parameters.keys()
    # of the three candidates only the best is trained, so that the others' heads may have no gradient
    heads = tuple(f"mask_decoder.output_hypernetworks_mlps.{number}." for number in (1, 2, 3))
    assert all(value.any() for name, value in gradients.items() if not name.startswith(heads))
    _assert_close(expected, gradients)


class _OneByOne:
    """Random numbers that do not depend on how many are drawn at once: boxes are exact, clicks central."""

    def random(self, size: int | None = None) -> Any:
        return 0.0 if size is None else np.zeros(size)

    def normal(self, size: int) -> NDArray[np.float64]:
        return np.zeros(size)

    def uniform(self, low: float, high: float) -> float:
        return low

    def integers(self, high: int) -> int:
        return 0


@pytest.mark.parametrize("mode", ["decoder", "late"])
@pytest.mark.parametrize("chunk", [1, 4])
def test_gradients_of_small_chunks_are_those_of_a_large_one(
    small: Model, planes: tuple[Plane, ...], mode: str, chunk: int
) -> None:
    gradients = []
    for size in (chunk, 6):
        trainer: Any = _stir(_trainer(small, planes, mode=mode, chunk=size, **PLAIN))
        trainer.rng = _OneByOne()
        gradients.append(_gradients(trainer, planes, View(0)))
    _assert_close(*gradients)


def test_steps_lower_the_loss(small: Model, planes: tuple[Plane, ...]) -> None:
    trainer = _trainer(small, planes, **PLAIN | {"steps": 20, "objects": 100, "chunk": 100})
    losses = [trainer.step().loss for _ in range(15)]
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 0.01


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_one_seed_gives_one_adapter_to_the_bit(small: Model, planes: tuple[Plane, ...], dropout: float) -> None:
    runs = []
    for seed, outside in ((1, 5), (1, 6), (2, 5)):
        torch.manual_seed(outside)  # what the caller did with torch's generator does not matter
        trainer = _trainer(small, planes, seed=seed, dropout=dropout, objects=3)
        losses = [trainer.step().loss for _ in range(3)]
        runs.append((losses, trainer.tensors()))
    (losses, tensors), (losses_again, again), (_, other) = runs
    assert losses == losses_again
    assert all(torch.equal(tensors[name], value) for name, value in again.items())
    assert not all(torch.equal(tensors[name], value) for name, value in other.items())


def test_training_leaves_the_generator_of_torch_alone(small: Model, planes: tuple[Plane, ...]) -> None:
    before = torch.get_rng_state()
    _trainer(small, planes, dropout=0.5, objects=2).step()
    assert torch.equal(torch.get_rng_state(), before)


def test_dropout_differs_from_step_to_step(small: Model, planes: tuple[Plane, ...]) -> None:
    trainer = _stir(_trainer(small, planes, dropout=0.5, **PLAIN))
    assert any(module.training for module in trainer.tree.modules())
    changing: Any = trainer
    changing.rng = _OneByOne()
    prepared, labels = show(View(0), planes)
    masks = labels[None] == planes[0].objects[0].label
    losses = set()
    for done in (0, 1, 0):
        trainer.done = done
        with trainer._seeded_dropout():
            losses.add(trainer.backward(View(0), prepared, masks))
    assert len(losses) == 2


@pytest.mark.parametrize("tune_decoder", ["lora", "all"])
def test_training_changes_the_adapter_and_not_the_base(
    small: Model, planes: tuple[Plane, ...], tune_decoder: str
) -> None:
    base = {name: value.clone() for name, value in small.loaded.sam.state_dict().items()}
    trainer = _trainer(small, planes, tune_decoder=tune_decoder, objects=3)
    before = trainer.tensors()
    for _ in range(2):
        trainer.step()
    after = trainer.tensors()
    assert any(not torch.equal(before[name], value) for name, value in after.items())
    assert small.loaded.sam.state_dict().keys() == base.keys()
    assert all(torch.equal(base[name], value) for name, value in small.loaded.sam.state_dict().items())
    assert all(value.grad is None for value in small.loaded.sam.parameters())


def test_the_tensors_are_copies(small: Model, planes: tuple[Plane, ...]) -> None:
    trainer = _trainer(small, planes, objects=2)
    early = trainer.tensors()
    copied = {name: value.clone() for name, value in early.items()}
    trainer.step()
    assert all(torch.equal(copied[name], value) for name, value in early.items())


def _poison(trainer: Trainer) -> None:
    with torch.no_grad():
        trainer.parameters["mask_decoder.iou_prediction_head.layers.2.lora.b"][0, 0] = torch.nan


def test_a_loss_that_is_not_finite_sends_training_back_to_the_last_good_state(
    small: Model, planes: tuple[Plane, ...]
) -> None:
    trainer = _trainer(small, planes, objects=2, warmup=0.0, steps=1000)
    trainer.step()
    rate = trainer.step().learning_rate
    _poison(trainer)
    result = trainer.step()
    assert math.isfinite(result.loss)
    assert result.learning_rate == pytest.approx(0.3 * rate, rel=1e-3)
    assert all(torch.isfinite(value).all() for value in trainer.tensors().values())
    assert trainer.done == 3
    (warning,) = trainer.warnings
    assert warning.code == "loss-not-finite"
    assert "step 2;" in warning
    assert " 0.3 " in warning


def test_gradients_that_are_not_finite_do_no_harm_either(
    small: Model, planes: tuple[Plane, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = _trainer(small, planes, objects=2)
    before = trainer.tensors()
    backward = trainer.backward

    def broken(*arguments: Any) -> float:
        loss = backward(*arguments)
        next(iter(trainer.parameters.values())).grad = torch.full_like(
            next(iter(trainer.parameters.values())), torch.inf
        )
        return loss

    monkeypatch.setattr(trainer, "backward", broken)
    with raises(TrainingError, "loss-not-finite"):
        trainer.step()
    assert all(torch.equal(before[name], value) for name, value in trainer.tensors().items())


def test_an_absurd_learning_rate_ends_in_an_error_a_user_understands(small: Model, planes: tuple[Plane, ...]) -> None:
    trainer = _trainer(small, planes, learning_rate=1e30, objects=2)
    with raises(TrainingError, "loss-not-finite", match=r"1e\+30"):
        [trainer.step() for _ in range(10)]
    assert [warning.code for warning in trainer.warnings] == ["loss-not-finite"] * 3
    assert all(torch.isfinite(value).all() for value in trainer.tensors().values())


def test_the_learning_rate_warms_up_and_decays(small: Model, planes: tuple[Plane, ...]) -> None:
    trainer = _trainer(small, planes, mode="decoder", steps=10, warmup=0.2, learning_rate=0.004, objects=1)
    results = [trainer.step() for _ in range(10)]
    # two steps up, then half a cosine over the other eight
    expected = [0.002, 0.004] + [0.002 * (1 + math.cos(math.pi * passed / 8)) for passed in range(8)]
    assert [result.learning_rate for result in results] == pytest.approx(expected)
    assert all(isinstance(result, StepResult) and result.objects == 1 for result in results)


def test_a_step_sees_no_more_objects_than_there_are(small: Model, planes: tuple[Plane, ...]) -> None:
    assert _trainer(small, planes, objects=3).step().objects == 3
    assert _trainer(small, planes, objects=1000, mode="decoder").step().objects == len(planes[0].objects)


@pytest.mark.parametrize(
    ("settings", "blocks", "alpha"),
    [
        ({"mode": "decoder"}, (), 4.0),
        ({"mode": "late", "rank": 6}, (4, 5), 6.0),
        ({"mode": "late", "late_blocks": 3, "alpha": 2.0}, (3, 4, 5), 2.0),
        ({"mode": "full"}, (0, 1, 2, 3, 4, 5), 4.0),
        ({"mode": "late", "blocks": (1, 3)}, (1, 3), 4.0),
    ],
)
def test_settings_choose_the_layers(
    small: Model, settings: dict[str, Any], blocks: tuple[int, ...], alpha: float
) -> None:
    config = lora_config(small.loaded.sam, TrainConfig(**settings))
    assert config.blocks == blocks
    assert config.alpha == alpha


def test_batch_norms_stay_in_evaluation_mode(small: Model, planes: tuple[Plane, ...]) -> None:
    trainer = _trainer(small, planes, mode="full", dropout=0.2, objects=2)
    norms = [module for module in trainer.tree.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert len(norms) == 3
    before = [(module.running_mean, module.running_var, module.num_batches_tracked) for module in norms]
    copies = [[value.clone() for value in values if value is not None] for values in before]
    trainer.step()
    assert not any(module.training for module in norms)
    after = [(module.running_mean, module.running_var, module.num_batches_tracked) for module in norms]
    for old, new in zip(copies, after, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(old, new, strict=True) if b is not None)


def test_recomputed_activations_give_the_same_gradients(small: Model, planes: tuple[Plane, ...]) -> None:
    gradients = []
    for recompute in (False, True):
        trainer: Any = _stir(_trainer(small, planes, mode="full", recompute=recompute, **PLAIN))
        trainer.rng = _OneByOne()
        gradients.append(_gradients(trainer, planes, View(0)))
    _assert_close(*gradients)


def test_prompts_of_the_user_are_replayed(small: Model, nuclei: tuple[NDArray[np.uint8], NDArray[np.uint8]]) -> None:
    image, labels = (array[:128, :128] for array in nuclei)
    label = int(np.bincount(labels.ravel())[1:].argmax() + 1)
    one = np.where(labels == label, label, 0)
    y, x = np.argwhere(labels == label).mean(0)
    given = Prompts(points=[[[y, x], [3, 3], [100, 100]]], point_labels=[[1, 0, 0]])
    planes = snapshot([(image, one, {label: given, 99: given})], 128, 2, Preprocessing())
    trainer: Any = _trainer(small, planes, mode="decoder", views=4)
    seen: list[int] = []
    rounds = trainer._rounds_loss

    def spy(embedding: Tensor, prepared: Any, prompts: Prompts, *rest: Any) -> Tensor:
        seen.append(prompts.point_count(0))
        return rounds(embedding, prepared, prompts, *rest)

    trainer._rounds_loss = spy
    for _ in range(12):
        trainer.step()
    assert 2 <= seen.count(3) <= 10


def test_clicks_on_known_background_lower_their_predicted_iou(
    small: Model, nuclei: tuple[NDArray[np.uint8], NDArray[np.uint8]]
) -> None:
    image, labels = (array[:128, :128] for array in nuclei)
    scores = []
    for pair in ((image, labels), mark_complete((image, labels))):
        planes = snapshot([pair], 128, 2, Preprocessing())
        trainer = _trainer(small, planes, mode="decoder", dense=False, **PLAIN | {"objects": 1})
        for _ in range(8):
            trainer.step()
        places = BackgroundClicks(snapshot([mark_complete((image, labels))], 128, 2, Preprocessing())).places(0)[::100]
        predictor = Predictor(trainer.tree, "", Preprocessing(), EmbeddingCache())
        embedding = predictor.encode(image)
        found = predictor.segment(embedding, Prompts(points=[[point] for point in places]), multimask=True)
        scores.append(found.candidate_scores.mean(0))
    without, with_background = scores
    assert (with_background < without - 0.1).all(), "of each candidate"


def test_background_clicks_have_no_mask_loss(small: Model, planes: tuple[Plane, ...]) -> None:
    """Their loss trains the predicted IoU of all four masks, and no mask."""
    predicted = torch.rand(2, 4, requires_grad=True)
    loss = background_loss(predicted)
    loss.backward()
    assert loss.item() == pytest.approx(float((predicted.detach() ** 2).mean(1).sum()))
    assert predicted.grad is not None
    torch.testing.assert_close(predicted.grad, predicted.detach() / 2)


def test_objects_of_a_rare_size_are_drawn_as_often_as_the_usual_ones(small: Model) -> None:
    """Eleven small squares and a large one on a plane; middle and large ones on another."""
    image, labels = make_pair(0, GRID[:11], 8)
    labels[96:120, 96:120] = 12
    planes = make_planes((image, labels), make_pair(1, GRID, 16))
    trainer = _trainer(small, planes, mode="decoder", objects=1, views=1)
    drawn = [int(trainer._draw_labels(0)[0]) for _ in range(600)]
    assert drawn.count(12) == pytest.approx(300, abs=60)
    assert all(drawn.count(label) == pytest.approx(300 / 11, abs=25) for label in range(1, 12))

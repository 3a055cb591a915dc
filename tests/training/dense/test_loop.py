"""The dense head in the optimisation: what it learns from, what it shares, and when it is left out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from error_codes import raises
from torch import Tensor
from unetr_states import random_state

from napari_sam_lora import Adapter, Model, Preprocessing, Prompts, TrainConfig
from napari_sam_lora.errors import InputError
from napari_sam_lora.model.dense.dense_model import DenseModel
from napari_sam_lora.model.dense.head import new_dense_head
from napari_sam_lora.model.dense.published_decoders import published_head
from napari_sam_lora.model.embeddings import EmbeddingCache
from napari_sam_lora.model.predictor import Predictor
from napari_sam_lora.parameters.instances import InstanceConfig
from napari_sam_lora.training.data.augmentation import View, show
from napari_sam_lora.training.data.crops import cut_large
from napari_sam_lora.training.data.samples import Labelled, Plane, mark_complete, snapshot
from napari_sam_lora.training.data.split import list_objects
from napari_sam_lora.training.dense.views import DenseViews
from napari_sam_lora.training.evaluation.acceptance import decide
from napari_sam_lora.training.evaluation.found import (
    HeldOutMaps,
    choose_instances,
    compare_found,
    count_by_halves,
    count_found,
    match_known,
)
from napari_sam_lora.training.evaluation.metrics import ObjectScore
from napari_sam_lora.training.loop import Trainer
from napari_sam_lora.training.run import FineTuneRun

from ..runs import FAST, Pair, finish, only
from ..squares import GRID

FEW: dict[str, Any] = {"steps": 20, "views": 1, "corrections": 0, "objects": 2, "dense_crops": 2}


def _planes(pair: Labelled, size: int = 128) -> tuple[Plane, ...]:
    return snapshot([pair], size, 2, Preprocessing())


def _trainer(model: Model, planes: tuple[Plane, ...], **settings: Any) -> Trainer:
    return Trainer(model.loaded.sam, planes, list_objects(planes), TrainConfig(**FEW | settings))


def test_without_known_background_there_is_no_head(small: Model, quarters: list[Pair]) -> None:
    image, labels = quarters[0]
    assert _trainer(small, _planes((image, labels))).dense is None
    complete = _planes(mark_complete((image, labels)))
    assert _trainer(small, complete, dense=False).dense is None
    assert _trainer(small, complete).dense is not None
    nothing: Labelled = (image, labels, {}, None, np.zeros(labels.shape, bool))
    assert _trainer(small, _planes(nothing)).dense is None
    label = int(labels.max())
    outside = np.argwhere(labels == 0)[0]
    clicked = {label: Prompts(points=[[outside]], point_labels=[[0]])}
    assert _trainer(small, _planes((image, labels, clicked))).dense is not None


def test_head_and_encoder_learn_together_and_the_base_stays(small: Model, quarters: list[Pair]) -> None:
    before = {name: value.clone() for name, value in small.loaded.sam.state_dict().items()}
    trainer = _trainer(small, _planes(mark_complete(quarters[0])), mode="late")
    assert trainer.dense is not None
    first = trainer.dense_tensors()
    for _ in range(3):
        trainer.step()
    tensors, last = trainer.tensors(), trainer.dense_tensors()
    assert not any(name.startswith("dense_head") for name in tensors)
    assert any(
        value.any() for name, value in tensors.items() if name.startswith("image_encoder") and name.endswith(".b")
    )
    assert first is not None
    assert last is not None
    assert all(not torch.equal(first[name], value) for name, value in last.items() if value.ndim > 1)
    assert all(torch.equal(before[name], value) for name, value in small.loaded.sam.state_dict().items())


def test_the_dense_loss_reaches_the_adapter_through_shared_views_and_crops(small: Model, quarters: list[Pair]) -> None:
    trainer = _trainer(small, _planes(mark_complete(quarters[0])), mode="late", tune_decoder="none")
    dense = trainer.dense
    assert dense is not None
    dense.crops_backward()
    own = [value.grad for name, value in trainer.parameters.items() if name.endswith(".b")]
    assert own
    assert all(gradient is not None and gradient.abs().amax() > 0 for gradient in own)


def test_the_same_seed_gives_the_same_head(small: Model, quarters: list[Pair]) -> None:
    planes = _planes(mark_complete(quarters[0]))
    heads = []
    for seed in (0, 0, 1):
        trainer = _trainer(small, planes, seed=seed)
        trainer.step()
        heads.append(trainer.dense_tensors())
    assert all(heads)
    assert all(torch.equal(heads[1][name], value) for name, value in heads[0].items())  # type: ignore[index, union-attr]
    assert not all(torch.equal(heads[2][name], value) for name, value in heads[0].items())  # type: ignore[index, union-attr]


def test_an_object_outside_every_known_region_changes_nothing(small: Model, quarters: list[Pair]) -> None:
    """Two label images that differ only in an object that is not learned from, far from what is known."""
    image, _ = quarters[0]
    labels = np.zeros((128, 128), np.int64)
    labels[10:30, 10:30] = 1
    more = labels.copy()
    more[80:110, 80:110] = 2
    background = np.zeros(labels.shape, bool)
    background[40:50, :60] = True
    targets = []
    for one in (labels, more):
        planes = _planes((image, one, {}, None, background))
        views = DenseViews(planes, {0: [1]}, 64)
        shown = views.of_view(View(0), 128)
        targets.append(shown)
        assert shown[0, 2].sum() < 0.1 * 128**2
    known = targets[0][:, 2:]
    assert torch.equal(known, targets[1][:, 2:])
    assert torch.equal(targets[0][:, :2] * known, targets[1][:, :2] * known)


def test_what_is_not_known_has_no_gradient_in_views_and_crops(small: Model, quarters: list[Pair]) -> None:
    """One object is held out, and background is known in the left half alone."""
    image, labels = quarters[0]
    background = np.zeros(labels.shape, bool)
    background[:, :64] = True
    planes = _planes((image, labels, {}, None, background))
    trainer = Trainer(small.loaded.sam, planes, list_objects(planes)[1:], TrainConfig(**FEW))
    dense: Any = trainer.dense
    outputs: list[Tensor] = []
    targets: list[Tensor] = []

    def keep(_module: Any, _inputs: Any, output: Tensor) -> None:
        output.retain_grad()
        outputs.append(output)

    dense.head.register_forward_hook(keep)
    for name in ("of_view", "show"):
        original = getattr(dense.views, name)

        def spy(*arguments: Any, given: Any = original) -> Any:
            result = given(*arguments)
            targets.append(result[1] if isinstance(result, tuple) else result)
            return result

        setattr(dense.views, name, spy)
    prepared, _ = show(View(0), planes)
    embedding = small.predictor.encode_prepared(prepared).tensor
    dense.shared_loss(embedding, View(0), prepared).backward()
    dense.crops_backward()
    assert [len(output) for output in outputs] == [1, 2]
    for output, shown in zip(outputs, (targets[0], torch.cat(targets[1:])), strict=True):
        assert output.grad is not None
        is_known = (shown[:, 2:] > 0).expand(-1, 2, -1, -1)
        assert not is_known.all()
        assert (output.grad[:, :2][~is_known] == 0).all()
        assert (output.grad[:, :2][is_known] != 0).all()


def test_held_out_objects_are_neither_object_nor_background(quarters: list[Pair]) -> None:
    planes = _planes(mark_complete(quarters[0]))
    labels = planes[0].resized_labels
    ids = [found.label for found in planes[0].objects]
    views = DenseViews(planes, {0: ids[1:]}, 64)
    shown = views.whole(0)
    assert not shown[:, labels == ids[0]].any()
    assert shown[2].any()
    assert (shown[0][labels == ids[1]] == 1).all()


@pytest.mark.parametrize("turn", range(8))
def test_targets_turn_with_their_view(quarters: list[Pair], turn: int) -> None:
    planes = _planes(mark_complete(quarters[0]))
    views = DenseViews(planes, {0: [found.label for found in planes[0].objects]}, 64)
    whole = views.whole(0)[0]
    expected = np.rot90(whole[:, ::-1] if turn >= 4 else whole, turn % 4)
    assert np.array_equal(views.of_view(View(0, turn), 128)[0, 0].numpy(), expected)


def test_padding_is_not_known(quarters: list[Pair]) -> None:
    image, labels = quarters[0]
    planes = _planes(mark_complete((image[:60], labels[:60])))
    views = DenseViews(planes, {0: [found.label for found in planes[0].objects]}, 64)
    shown = views.of_view(View(0), 128)
    assert shown.shape == (1, 3, 128, 128)
    assert shown[0, 2, :60].all()
    assert not shown[0, 2, 60:].any()


def test_crops_show_pixels_and_targets_at_the_same_place(nuclei: Pair) -> None:
    """An image that is its own foreground."""
    labels = nuclei[1].astype(np.int64)
    image = np.where(labels > 0, 255, 0).astype(np.uint8)
    planes = _planes(mark_complete((image, labels)))
    assert planes[0].native is not None  # 256 pixels shown at 128: crops are finer than that
    views = DenseViews(planes, {0: [found.label for found in planes[0].objects]}, 64)
    rng = np.random.default_rng(0)
    sides = set()
    for _ in range(12):
        crop = views.draw(rng)
        sides.add(crop.side)
        prepared, targets = views.show(crop)
        assert prepared.pixels.shape == (64, 64, 3)
        assert targets.shape == (1, 3, 64, 64)
        known = targets[0, 2].numpy() > 0
        assert known.mean() > 0.5
        agreement = np.abs(prepared.pixels[..., 0] / 255 - targets[0, 0].numpy())[known]
        assert np.quantile(agreement, 0.9) < 0.2
    assert len(sides) > 5


def test_a_complete_plane_without_objects_is_all_background(small: Model, quarters: list[Pair]) -> None:
    image, labels = quarters[0]
    pairs = [mark_complete((image, labels)), mark_complete((image, np.zeros_like(labels)))]
    planes = snapshot(pairs, 128, 2, Preprocessing())
    views = DenseViews(planes, {0: [found.label for found in planes[0].objects]}, 64)
    assert views.planes == [0, 1]
    assert not views.whole(1)[:2].any()
    assert views.whole(1)[2].all()
    _trainer(small, planes).step()


@pytest.mark.parametrize("background", [3, np.zeros((5, 5), bool), np.zeros((128, 128))])
def test_a_background_of_another_kind_is_refused(quarters: list[Pair], background: Any) -> None:
    with raises(InputError, "bad-background"):
        _planes((*quarters[0], {}, None, background))


def test_objects_that_a_crop_of_a_large_plane_cuts_are_not_its_background() -> None:
    labels = np.zeros((400, 400), np.int64)
    for number, (y, x) in enumerate([(20, 20), (120, 120), (150, 20), (300, 300)], start=1):
        labels[y : y + 20, x : x + 20] = number
    image = np.zeros((400, 400), np.uint8)
    crops: list[Any] = [pair for pair, _ in cut_large(mark_complete((image, labels)), 128, Preprocessing())]
    assert len(crops) > 1
    for _, part, _, position, background, _ in crops:
        top, left = position.corner
        whole = labels[top : top + part.shape[0], left : left + part.shape[1]]
        assert np.array_equal(background, whole == 0)
    scribble = np.zeros(labels.shape, bool)
    crops = [pair for pair, _ in cut_large((image, labels, {}, None, scribble), 128, Preprocessing())]
    assert not any(pair[4].any() for pair in crops)
    crops = [pair for pair, _ in cut_large((image, labels), 128, Preprocessing())]
    assert all(pair[4] is None for pair in crops)


def test_a_run_returns_an_adapter_with_a_head(small: Model, quarters: list[Pair], tmp_path: Any) -> None:
    config = replace(FAST, complete=True, dense_crops=1)
    _, adapter, _ = finish(FineTuneRun(small.loaded, quarters[:2], config))
    assert adapter.dense is not None
    again = Adapter.load(adapter.save(tmp_path / "a.safetensors"))
    found = []
    for one in (adapter, again):
        fresh = Model(small.loaded)
        with fresh.adapted(one):
            found.append(fresh.maps(quarters[2][0]))
    assert np.array_equal(found[0], found[1])
    areas = np.unique(np.concatenate([pair[1].ravel() for pair in quarters[:2]]), return_counts=True)[1]
    assert 1 <= adapter.dense.instances.smallest <= np.median(areas)
    without = finish(FineTuneRun(small.loaded, quarters[:2], replace(config, dense=False)))[1]
    assert without.dense is None


def test_a_run_on_a_model_with_a_published_decoder_trains_a_head_of_its_own(small: Model, quarters: list[Pair]) -> None:
    """Matches of the decoder are the base's part of the verdict; without a new head the adapter keeps using it."""
    base = Model(replace(small.loaded, dense=published_head(random_state())))
    config = replace(FAST, complete=True, dense_crops=1)
    adapter, report = finish(FineTuneRun(base.loaded, quarters, config))[1:]
    assert adapter.dense is not None
    assert adapter.dense.trainable is not None
    assert adapter.dense.instances.centre_separation is None
    assert report.verdict
    with base.adapted(adapter):
        assert base.maps(quarters[2][0]).shape[0] == 2
    without = finish(FineTuneRun(base.loaded, quarters, replace(config, dense=False)))[1]
    assert without.dense is None
    with base.adapted(without):
        assert base.maps(quarters[2][0]).shape[0] == 3


def test_what_is_found_counts_only_where_it_is_known() -> None:
    labels = np.zeros((40, 40), np.int64)
    labels[2:12, 2:12], labels[2:12, 20:30], labels[25:35, 2:12] = 1, 2, 3
    background = np.zeros(labels.shape, bool)
    background[20:40, 20:40] = True
    found = np.zeros(labels.shape, np.int64)
    found[2:12, 2:11] = 1  # right
    found[2:12, 20:30] = 2  # an object that was learned from
    found[25:35, 25:35] = 3  # on known background
    found[14:18, 14:18] = 4  # where nothing is known
    wanted = (1, 3)
    # the mistake in the corner is nearer to neither: both are 25 rows or columns away, and the first one counts
    assert match_known(found, labels, wanted, background).tolist() == [[1, 0, 0], [0, 1, 1]]
    assert match_known(found, labels, wanted, None).tolist() == [[1, 0, 0], [0, 0, 1]]
    assert match_known(np.zeros_like(found), labels, wanted, background).tolist() == [[0, 0, 1], [0, 0, 1]]
    split = np.where(labels == 1, np.arange(40) // 3 + 1, 0)  # parts of an object are mistakes
    assert match_known(split, labels, wanted, None).tolist() == [[0, 4, 1], [0, 0, 1]]
    full = np.ones_like(found)  # one object everywhere, which is mostly unknown
    assert match_known(full, labels, wanted, None).tolist() == [[0, 0, 1], [0, 0, 1]]
    assert match_known(full, labels, wanted, labels == 0).sum(0).tolist() == [0, 1, 2]
    assert match_known(full, full, (1,), None).tolist() == [[1, 0, 0]]
    less = np.where(np.arange(40)[:, None] < 30, full, 0)  # an IoU of 0.75
    assert match_known(less, full, (1,), None, 0.7).tolist() == [[1, 0, 0]]
    assert match_known(less, full, (1,), None, 0.8).tolist() == [[0, 1, 1]]


def test_parameters_are_those_with_which_held_out_objects_are_found(quarters: list[Pair]) -> None:
    planes = _planes(mark_complete(quarters[0]))
    labels = planes[0].labels
    wanted = tuple(found.label for found in planes[0].objects)
    maps = np.stack([labels > 0, (labels > 0) * 0.38]).astype(np.float32)
    held = [HeldOutMaps(planes[0], maps, wanted)]
    given = InstanceConfig(smallest=1)
    chosen = choose_instances(held, given)
    assert chosen.sensitivity == 0.6
    assert count_found(held, chosen)[:, 0].sum() > count_found(held, given)[:, 0].sum() == 0
    assert choose_instances(held, chosen) == chosen
    assert choose_instances([], given) == given


def test_parameters_are_not_judged_by_the_objects_that_chose_them(small: Model) -> None:
    """Two objects that are found with a high sensitivity, two others beside which it finds mistakes."""
    labels = np.zeros((128, 128), np.int64)
    maps = np.zeros((2, 128, 128), np.float32)
    for number, (y, x) in enumerate([(5, 5), (5, 85), (85, 5), (85, 85)], start=1):
        labels[y : y + 16, x : x + 16] = number
        maps[1, y : y + 16, x : x + 16] = 0.9 if number % 2 else 0.35
        for more in (y + 20, y + 26) if number % 2 else ():
            maps[1, more : more + 4, x : x + 16] = 0.35
    maps[0] = maps[1] > 0
    planes = _planes(mark_complete((np.zeros((128, 128), np.uint8), labels)))
    held = [HeldOutMaps(planes[0], maps, (1, 2, 3, 4))]
    given = InstanceConfig(smallest=1, smoothing=0)
    high = InstanceConfig(sensitivity=0.6, smallest=1, smoothing=0)
    assert count_found(held, given).tolist() == [[1, 0, 0], [0, 0, 1]] * 2
    assert count_found(held, high).tolist() == [[1, 2, 0], [1, 0, 0]] * 2
    assert count_by_halves(small.predictor, held, given).tolist() == [[1, 2, 0], [0, 0, 1]] * 2


def _bright_squares(seed: int, moved: bool) -> Labelled:
    """Make a plane with a bright square in each of 4 x 4 cells; moved labels are beside them, where nothing is."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((128, 128), np.int64)
    for number, (y, x) in enumerate(GRID, start=1):
        top, left = np.add((y, x), rng.integers(0, 10, 2))
        labels[top : top + 14, left : left + 14] = number
    image = np.clip(rng.normal(80, 15, labels.shape) + 80 * (labels > 0), 0, 255).astype(np.uint8)
    return mark_complete((image, np.roll(labels, rng.permutation([0, 16]), (0, 1)) if moved else labels))


@pytest.mark.parametrize(("moved", "code"), [(False, "gain"), (True, "no-gain")])
def test_wrong_labels_are_no_gain_in_found_objects(small: Model, moved: bool, code: str) -> None:
    """A head that begins with random weights finds objects after a few steps, if the labels are of these images."""
    planes = snapshot([_bright_squares(seed, moved) for seed in range(4)], 128, 2, Preprocessing())
    objects = list_objects(planes)
    trained, held_out = ([ref for ref in objects if (ref.plane < 2) == first] for first in (True, False))
    base = DenseModel(new_dense_head(small.loaded.sam), InstanceConfig(smallest=1))
    trainer = Trainer(small.loaded.sam, planes, trained, TrainConfig(**FEW | {"objects": 1}), head=base.trainable)
    for _ in range(12):
        trainer.step()
    assert trainer.dense is not None
    learned = DenseModel(trainer.dense.head, InstanceConfig(smallest=1))
    before, after = (
        Predictor(tree, "", Preprocessing(), EmbeddingCache(), model)
        for tree, model in ((small.loaded.sam, base), (trainer.tree, learned))
    )
    scores = [ObjectScore(ref.plane, ref.label, 0.5, 0.5, 0.5, 0.5, 1) for ref in held_out]
    assert decide(scores, scores, compare_found(before, after, planes, held_out)).code == code


@pytest.mark.parametrize("end", ["stop", "discard"])
def test_the_end_of_a_run_leaves_the_base_and_its_dense_head_as_they_were(
    small: Model, quarters: list[Pair], end: str
) -> None:
    assert small.loaded.dense is not None
    head: Any = small.loaded.dense.head
    before = {name: value.clone() for part in (small.loaded.sam, head) for name, value in part.state_dict().items()}
    maps = Model(small.loaded).maps(quarters[0][0])
    run = FineTuneRun(small.loaded, quarters, replace(FAST, mode="full", complete=True, dense_crops=1))
    next(run)
    next(run)
    getattr(run, end)()
    assert list(run) == []
    after = {name: value for part in (small.loaded.sam, head) for name, value in part.state_dict().items()}
    assert after.keys() == before.keys()
    assert all(torch.equal(before[name], value) for name, value in after.items())
    assert not any(value.grad is not None for value in head.parameters())
    assert np.array_equal(Model(small.loaded).maps(quarters[0][0]), maps)


def test_empty_and_full_planes_are_trained_on_and_judged(small: Model, quarters: list[Pair]) -> None:
    image, labels = quarters[0]
    empty, full = (image[::-1], np.zeros_like(labels)), (image[:, ::-1], np.ones_like(labels))
    pairs = [only(quarters[0], 2), only(quarters[1], 2), empty, full]
    config = replace(FAST, steps=1, views=1, complete=True, dense_crops=1)
    _, adapter, report = finish(FineTuneRun(small.loaded, pairs, config))
    assert adapter.dense is not None
    assert report.found is not None
    assert report.verdict in ("better", "not better")
    assert report.base.count == report.train_count == 5
    assert report.found.adapted.true_positives + report.found.adapted.false_negatives == 5
    assert all(np.isfinite(loss) for loss in report.losses)

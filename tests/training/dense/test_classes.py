"""Classes: what is learned of them, what is predicted, and what an adapter file keeps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from error_codes import raises
from numpy.typing import NDArray

from napari_sam_lora import Adapter, Model, Preprocessing, TrainConfig, TrainingPair
from napari_sam_lora.errors import CheckpointError, InputError
from napari_sam_lora.model.dense.dense_model import DenseModel
from napari_sam_lora.model.dense.head import new_dense_head, with_classes
from napari_sam_lora.parameters.instances import InstanceConfig
from napari_sam_lora.training.data.augmentation import View
from napari_sam_lora.training.data.classes import classes_to_learn, too_many_classes
from napari_sam_lora.training.data.crops import cut_large
from napari_sam_lora.training.data.samples import Plane, snapshot
from napari_sam_lora.training.data.split import list_objects
from napari_sam_lora.training.dense.loss import class_loss
from napari_sam_lora.training.dense.targets import class_target
from napari_sam_lora.training.dense.views import DenseViews
from napari_sam_lora.training.loop import Trainer
from napari_sam_lora.training.run import FineTuneRun

from ..blobs import DISC, NAMES, SQUARE, complete_pair, semantic, two_kinds
from ..runs import finish

IDS = (SQUARE, DISC)
LEARNING = TrainConfig(
    mode="decoder", steps=40, objects=2, views=2, corrections=0, check_every=0, validation_share=0
)  # fmt: skip


def _planes(pair: TrainingPair) -> tuple[Plane, ...]:
    return snapshot([pair], 128, 2, Preprocessing())


@pytest.fixture(scope="module")
def learned(small: Model) -> Adapter:
    """An adapter that has seen two planes with squares and discs."""
    return finish(FineTuneRun(small.loaded, [complete_pair(0), complete_pair(1)], LEARNING, class_names=NAMES))[1]


@pytest.fixture
def sorting(small: Model, learned: Adapter) -> Model:
    """A model that tells squares from discs."""
    model = Model(small.loaded)
    model.activate(learned)
    return model


# What is learned


def test_all_classes_weigh_the_same_however_large_they_are() -> None:
    logits = torch.zeros(1, 3, 4, 4)
    numbers = torch.zeros(1, 4, 4)
    numbers[0, :3], numbers[0, 3, 0] = 1, 3
    logits[0, :, :3] = torch.tensor([1.0, 0, 0])[:, None, None]
    logits[0, :, 3, 0] = torch.tensor([0.0, 0, 2.0])
    first, third = (-torch.log_softmax(torch.tensor([high, 0.0, 0.0]), 0)[0] for high in (1.0, 2.0))
    torch.testing.assert_close(class_loss(logits, numbers), (first + third) / 2)


def test_pixels_without_a_class_have_no_gradient_and_change_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 8, 8, generator=generator, requires_grad=True)
    numbers = torch.randint(0, 4, (2, 8, 8), generator=generator).float()
    before = class_loss(logits, numbers)
    before.backward()
    assert logits.grad is not None
    without = (numbers == 0)[:, None].expand_as(logits)
    assert without.any()
    assert (logits.grad[without] == 0).all()
    assert (logits.grad[~without] != 0).all()
    moved = torch.where(without, 50.0, logits.detach())
    assert torch.equal(class_loss(moved, numbers), before)


def test_without_any_class_the_loss_is_zero() -> None:
    logits = torch.randn(1, 2, 4, 4, requires_grad=True)
    loss = class_loss(logits, torch.zeros(1, 4, 4))
    loss.backward()
    assert loss == 0
    assert logits.grad is not None
    assert (logits.grad == 0).all()


def test_the_target_is_the_number_of_the_class_of_an_object() -> None:
    labels = np.array([[0, 7, 7], [2, 0, 5]])
    assert class_target(labels, {7: 2, 2: 1}).tolist() == [[0, 2, 2], [1, 0, 0]]
    assert not class_target(np.zeros((2, 2), np.int64), {7: 2}).any()


def test_held_out_objects_and_those_without_a_class_are_not_learned_from() -> None:
    image, labels, classes = two_kinds()
    del classes[3]
    planes = _planes(TrainingPair(image, labels, background=True, classes=classes))
    views = DenseViews(planes, {0: [label for label in range(1, 17) if label != 5]}, 64, IDS)
    numbers = views.of_view(View(0), 128)[0, 3].numpy()
    expected = {label: 0 if label == 5 else 1 + IDS.index(class_id) for label, class_id in classes.items()}
    assert np.array_equal(numbers, semantic(labels, {**expected, 3: 0}))


@pytest.mark.parametrize("side", [40, 64, 100])
def test_crops_at_any_scale_have_whole_classes_in_their_place(side: int) -> None:
    image, labels, classes = two_kinds()
    planes = _planes(TrainingPair(image, labels, background=True, classes=classes))
    views = DenseViews(planes, {0: list(classes)}, side, IDS)
    rng = np.random.default_rng(0)
    for _ in range(6):
        _, targets = views.show(views.draw(rng))
        foreground, _, known, numbers = targets[0].numpy()
        assert known.any()
        assert set(np.unique(numbers)) <= {0, 1, 2}
        assert (numbers[foreground > 0.9] > 0).all()
        assert not numbers[foreground < 0.1].any()


@pytest.mark.parametrize("turn", [1, 6])
def test_crops_of_planes_without_classes_are_as_before(turn: int) -> None:
    planes = _planes(complete_pair())
    plain, with_ids = (DenseViews(planes, {0: list(range(1, 17))}, 50, ids) for ids in ((), IDS))
    crop = replace(plain.draw(np.random.default_rng(turn)), turn=turn)
    assert torch.equal(plain.show(crop)[1], with_ids.show(crop)[1][:, :3])
    assert plain.show(crop)[1].shape == (1, 3, 50, 50)


def test_only_pixels_of_objects_with_a_class_have_a_gradient(small: Model) -> None:
    image, labels, classes = two_kinds()
    planes = _planes(TrainingPair(image, labels, background=True, classes={1: classes[1], 2: classes[2]}))
    trainer = Trainer(small.loaded.sam, planes, list_objects(planes), LEARNING, classes=IDS)
    dense = trainer.dense
    assert dense is not None
    assert dense.head.config.classes == 2
    target = dense.views.of_view(View(0), 128)
    logits = torch.randn(1, 2, 128, 128, requires_grad=True)
    class_loss(logits, target[:, 3]).backward()
    assert logits.grad is not None
    moved = (logits.grad[0] != 0).any(0).numpy()
    assert np.array_equal(moved, np.isin(labels, [1, 2]))


def test_a_plane_without_objects_is_learned_from(small: Model) -> None:
    empty = TrainingPair(two_kinds()[0], np.zeros((128, 128), np.int64), background=True)
    planes = snapshot([complete_pair(), empty], 128, 2, Preprocessing())
    trainer = Trainer(small.loaded.sam, planes, list_objects(planes), replace(LEARNING, dense_crops=4), classes=IDS)
    assert trainer.dense is not None
    assert not trainer.dense.views.whole(1)[3].any()
    for _ in range(3):
        assert np.isfinite(trainer.step().loss)


# Which classes are learned


def test_two_classes_are_needed_of_instances_and_one_of_labels_that_are_classes() -> None:
    planes = _planes(complete_pair())
    objects = list_objects(planes)
    assert classes_to_learn(planes, objects, TrainConfig(), NAMES) == NAMES
    assert classes_to_learn(planes, objects, TrainConfig(), {}) == {SQUARE: "", DISC: ""}
    squares = [ref for ref in objects if planes[0].classes[ref.label] == SQUARE]
    assert classes_to_learn(planes, squares, TrainConfig(), NAMES) == {}
    assert classes_to_learn(planes, squares, TrainConfig(labels="classes"), NAMES) == {SQUARE: "square"}
    assert classes_to_learn(planes, objects, TrainConfig(dense=False), NAMES) == {}
    many = (replace(planes[0], classes={label: label for label in range(1, 400)}),)
    assert [one.code for one in too_many_classes(many, TrainConfig())] == ["too-many-classes"]
    assert too_many_classes(many, TrainConfig(dense=False)) == too_many_classes(planes, TrainConfig()) == []
    refs = [replace(objects[0], label=label) for label in range(1, 400)]
    assert classes_to_learn(many, refs, TrainConfig(labels="classes"), NAMES) == {}


@pytest.mark.parametrize("number", [-1, 1.5])
def test_a_class_is_a_whole_number(number: Any) -> None:
    image, labels, _ = two_kinds()
    with raises(InputError, "bad-class"):
        _planes(TrainingPair(image, labels, classes={1: number}))


def test_a_sixth_field_must_be_a_mapping() -> None:
    image, labels, _ = two_kinds()
    with raises(InputError, "not-a-training-pair"):
        _planes((image, labels, {}, None, True, [1, 2]))  # type: ignore[arg-type]


def test_objects_keep_their_classes_in_crops_of_large_planes() -> None:
    image, labels, classes = two_kinds(side=320)
    pair = TrainingPair(image, labels, background=True, classes=classes)
    crops = [crop for crop, _ in cut_large(pair, 128, Preprocessing())]
    assert len(crops) > 1
    planes = snapshot(crops, 128, 2, Preprocessing())
    assert all(plane.classes[one.label] == classes[one.label] for plane in planes for one in plane.objects)


def test_without_known_background_a_run_says_that_classes_are_not_learned(small: Model) -> None:
    pair = complete_pair()._replace(background=None)
    run = FineTuneRun(small.loaded, [pair], replace(LEARNING, steps=1))
    _, adapter, report = finish(run)
    assert adapter.dense is None
    assert [one.code for one in report.warnings if "lasses" in one] == ["classes-not-learned"]


# What is predicted


def test_a_short_training_tells_squares_from_discs(sorting: Model) -> None:
    image, labels, classes = two_kinds(seed=7)
    assert sorting.classes == NAMES
    assert sorting.classify(image, labels) == classes
    found = sorting.segment_everything(image)
    by_id = sorting.classify(image, found)
    assert list(by_id) == list(range(1, found.max() + 1))
    right = [
        classes[label] == by_id[int(found[labels == label].max())] for label in classes if found[labels == label].any()
    ]
    assert len(right) >= 14
    assert np.mean(right) > 0.9


def test_class_maps_are_probabilities_behind_the_others(sorting: Model) -> None:
    image, labels, classes = two_kinds(seed=7)
    maps = sorting.maps(image)
    assert maps.shape == (4, 128, 128)
    np.testing.assert_allclose(maps[2:].sum(0), 1, atol=1e-5)
    truth = semantic(labels, classes)
    assert maps[2][truth == SQUARE].mean() > 0.65
    assert maps[2][truth == DISC].mean() < 0.35
    large = np.tile(image, (2, 2))
    tiled = sorting.maps(large)
    assert tiled.shape == (4, 256, 256)
    np.testing.assert_allclose(tiled[2:].sum(0), 1, atol=1e-4)


def test_a_semantic_map_has_the_class_of_each_pixel_of_the_foreground(sorting: Model) -> None:
    image, labels, classes = two_kinds(seed=7)
    found, truth = sorting.segment_semantic(image), semantic(labels, classes)
    assert found.dtype == np.int32
    for class_id in IDS:
        here, wanted = found == class_id, truth == class_id
        assert 2 * np.count_nonzero(here & wanted) / (here.sum() + wanted.sum()) > 0.8
    maps = np.zeros((4, 128, 128), np.float32)
    maps[0, :2], maps[2, 0], maps[3, 1] = 0.6, 1, 1
    exact = InstanceConfig(sensitivity=0.5, foreground_smoothing=0)
    taken = sorting.segment_semantic(image, maps=maps, instances=exact)
    assert (taken[0] == SQUARE).all()
    assert (taken[1] == DISC).all()
    assert not taken[2:].any()
    assert not sorting.segment_semantic(image, maps=maps, instances=replace(exact, sensitivity=0.3)).any()


def test_an_object_has_the_class_with_the_largest_sum(sorting: Model) -> None:
    image, labels = np.zeros((4, 6), np.uint8), np.zeros((4, 6), np.int64)
    labels[0, :3], labels[2] = 10**9, 3
    maps = np.zeros((4, 4, 6), np.float32)
    maps[2, 0, :2], maps[3, 0, 2] = 0.6, 1.0  # 1.2 to 1.0, although the surest pixel says otherwise
    maps[3, 2] = 0.1
    assert sorting.classify(image, labels, maps=maps) == {3: DISC, 10**9: SQUARE}
    assert sorting.classify(image, np.zeros_like(labels), maps=maps) == {}
    with raises(InputError, "labels-do-not-fit"):
        sorting.classify(image, labels[:2], maps=maps)


def test_a_model_without_classes_says_so(small: Model) -> None:
    image, labels, _ = two_kinds()
    assert small.classes == {}
    with raises(InputError, "no-classes"):
        small.classify(image, labels)
    with raises(InputError, "no-classes"):
        small.segment_semantic(image)


def test_a_map_of_classes_is_not_one_of_centres(sorting: Model) -> None:
    with raises(InputError, "no-centre-map"):
        sorting.segment_everything(two_kinds()[0], instances=InstanceConfig(centre_separation=0.5))


# What a file keeps


def test_the_file_of_an_adapter_keeps_classes(small: Model, learned: Adapter, tmp_path: Path) -> None:
    again = Adapter.load(learned.save(tmp_path / "a.safetensors"))
    assert again.dense is not None
    assert dict(again.dense.classes) == NAMES
    assert again.key == learned.key
    maps: list[NDArray[np.float32]] = []
    for one in (learned, again):
        with Model(small.loaded).adapted(one) as model:
            maps.append(model.maps(two_kinds(seed=7)[0]))
    assert np.array_equal(maps[0], maps[1])
    assert learned.dense is not None
    plain = replace(learned, dense=replace(learned.dense, head=with_classes(learned.dense.head, 0), classes={}))  # type: ignore[arg-type]
    assert plain.key != learned.key
    extra = (tmp_path / "a.safetensors").stat().st_size - plain.save(tmp_path / "b.safetensors").stat().st_size
    assert 0 < extra < 2000  # bytes: two classes of 12 channels in half precision, and their names


def test_a_description_without_classes_is_that_of_an_older_file(small: Model) -> None:
    plain = DenseModel(new_dense_head(small.loaded.sam))
    assert "classes" not in plain.describe()
    assert dict(DenseModel.from_parts(plain.describe(), plain.tensors()).classes) == {}


@pytest.mark.parametrize(
    "classes", [None, [], 3, [{"id": 1, "name": "a"}], [{"id": 0, "name": "a"}, {"id": 2, "name": "b"}], [1, 2]]
)
def test_classes_that_do_not_fit_the_head_are_refused(small: Model, classes: Any) -> None:
    model = DenseModel(new_dense_head(small.loaded.sam, classes=2), classes={1: "a", 2: "b"})
    described = model.describe()
    with raises(CheckpointError, "bad-dense-head"):
        DenseModel.from_parts(described | {"classes": classes}, model.tensors())


def test_a_new_class_layer_leaves_the_rest_of_a_head(small: Model) -> None:
    head = new_dense_head(small.loaded.sam, seed=5)
    more = with_classes(head, 3)
    state = more.state_dict()
    assert state["classes.weight"].shape[0] == 3
    assert all(torch.equal(state[name], value) for name, value in head.state_dict().items())
    same = with_classes(more, 3, seed=9)
    assert torch.equal(same.state_dict()["classes.weight"], state["classes.weight"])
    assert same is not more


def test_training_goes_on_with_the_classes_of_an_adapter(small: Model, learned: Adapter) -> None:
    short = replace(LEARNING, steps=1, dense_learning_rate=1e-9)
    assert learned.dense is not None
    before = learned.dense.tensors()["classes.weight"].float()
    for names, kept in ((NAMES, True), ({SQUARE: "other", DISC: "disc"}, False)):
        run = FineTuneRun(small.loaded, [complete_pair(0)], short, start=learned, class_names=names)
        adapter = finish(run)[1]
        assert adapter.dense is not None
        assert dict(adapter.dense.classes) == names
        assert torch.allclose(adapter.dense.tensors()["classes.weight"].float(), before, atol=1e-3) == kept
    without = complete_pair(0)._replace(classes={})
    adapter = finish(FineTuneRun(small.loaded, [without], short, start=learned))[1]
    assert adapter.dense is not None
    assert dict(adapter.dense.classes) == {}
    assert "classes.weight" not in adapter.dense.tensors()


def test_connected_regions_of_labels_that_are_classes_are_objects_with_a_class(small: Model) -> None:
    image, labels, classes = two_kinds()
    pair = (image, semantic(labels, classes))
    config = replace(LEARNING, steps=1, labels="classes", complete=True)
    adapter = finish(FineTuneRun(small.loaded, [pair], config, class_names={SQUARE: "square"}))[1]
    assert adapter.dense is not None
    assert dict(adapter.dense.classes) == {SQUARE: "square", DISC: ""}

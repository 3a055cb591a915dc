"""Test the public Python API."""

from __future__ import annotations

import re
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from error_codes import raises
from numpy.typing import NDArray

from napari_sam_lora import (
    Adapter,
    EverythingConfig,
    Model,
    Preprocessing,
    Prompts,
    StepReport,
    TrainConfig,
    evaluate,
    evaluate_everything,
    fine_tune,
    iter_fine_tune,
    load_model,
)
from napari_sam_lora.errors import AdapterError, CheckpointError, InputError
from napari_sam_lora.io.samples import nuclei_pair
from napari_sam_lora.labels import LabelMeaning
from napari_sam_lora.training.evaluation.instance_matching import match_objects

Pair = tuple[NDArray[np.uint8], NDArray[np.uint8]]
BOX = Prompts(boxes=[[40, 60, 70, 95]])
FAST = TrainConfig(steps=2, objects=2, views=1, corrections=0)


@pytest.fixture(scope="module")
def model() -> Model:
    """Load a model of this file's own, to activate adapters on."""
    return load_model("sam_nano", device="cpu")


@pytest.fixture(scope="module")
def adapter(model: Model) -> Adapter:
    return fine_tune(model, [nuclei_pair(4)], replace(FAST, validation_share=0.0, learning_rate=0.02))[0]


def _logits(model: Model, image: NDArray[Any]) -> NDArray[np.float32]:
    return model.segment(model.encode(image), BOX).logits


@pytest.mark.parametrize("name", ["sam_pico", "folder/model.pth"])
def test_an_unknown_model_is_refused_with_the_names_there_are(name: str) -> None:
    with raises(CheckpointError, "model-not-found", match=re.escape(name) + ".*sam_nano.*vit_b"):
        load_model(name)


@pytest.mark.parametrize("device", ["gpu", "cuda:99", ""])
def test_a_device_that_is_not_there_is_refused(device: str) -> None:
    with raises(InputError, "device-not-available", match=repr(device)):
        load_model("sam_nano", device=device)


@pytest.mark.parametrize("size", [0, 100, -64])
def test_an_input_size_that_does_not_fit_is_refused(size: int) -> None:
    with raises(InputError, "invalid-input-size", match=f"8, not {size}"):
        load_model("sam_nano", device="cpu", input_size=size)


def test_a_model_says_what_it_is(model: Model) -> None:
    assert model.name == "sam_nano"
    assert model.device == torch.device("cpu")
    assert model.adapter is None
    assert model.encode(np.zeros((30, 40))).tensor.shape == (1, 256, 32, 32)


def test_an_adapter_is_active_until_it_is_not(model: Model, adapter: Adapter, nuclei: Pair) -> None:
    base = _logits(model, nuclei[0])
    model.activate(adapter)
    try:
        assert model.adapter is adapter
        adapted = _logits(model, nuclei[0])
    finally:
        model.deactivate()
    assert model.adapter is None
    assert not np.allclose(adapted, base, atol=0.1)
    assert np.array_equal(_logits(model, nuclei[0]), base)


def test_a_block_with_an_adapter_restores_what_was_active(model: Model, adapter: Adapter) -> None:
    other = adapter.with_metrics({})
    with model.adapted(adapter) as same:
        assert same is model
        with model.adapted(other):
            assert model.adapter is other
            with model.adapted(None):
                assert model.adapter is None
            assert model.adapter is other
        assert model.adapter is adapter
    assert model.adapter is None


@pytest.mark.parametrize("inner", [True, False])
def test_a_block_with_an_adapter_restores_after_an_error(model: Model, adapter: Adapter, inner: bool) -> None:
    with model.adapted(adapter):
        with pytest.raises(RuntimeError), model.adapted(adapter.with_metrics({}) if inner else None):
            raise RuntimeError
        assert model.adapter is adapter
    assert model.adapter is None


def test_an_adapter_of_another_base_leaves_the_active_one(model: Model, adapter: Adapter) -> None:
    foreign = Adapter(adapter.tensors, replace(adapter.info, base_name="vit_b", base_hash="0" * 32))
    with model.adapted(adapter):
        with raises(AdapterError, "other-base-model", match="vit_b"):
            model.activate(foreign)
        with raises(AdapterError, "other-base-model", match="vit_b"), model.adapted(foreign):
            pass
        assert model.adapter is adapter


def test_threads_segment_with_their_own_adapter_at_the_same_time(model: Model, adapter: Adapter, nuclei: Pair) -> None:
    """The blocks of two threads overlap: each enters while the other is in its own."""
    tensors = {name: 2 * tensor for name, tensor in adapter.tensors.items()}
    adapters = [adapter, Adapter(tensors, adapter.info), None]
    alone = [_in_block(model, one, nuclei[0]) for one in adapters]
    meeting = threading.Barrier(len(adapters), timeout=60)
    together: dict[int, NDArray[np.float32]] = {}

    def segment(number: int) -> None:
        with model.adapted(adapters[number]):
            meeting.wait()
            together[number] = _logits(model, nuclei[0])
            meeting.wait()

    threads = [threading.Thread(target=segment, args=(number,)) for number in range(len(adapters))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not np.array_equal(alone[0], alone[1])
    assert all(np.array_equal(together[number], alone[number]) for number in range(len(adapters)))
    assert model.adapter is None


def test_an_adapter_activated_within_a_block_ends_with_it(model: Model, adapter: Adapter) -> None:
    with model.adapted(None):
        model.activate(adapter)
        assert model.adapter is adapter
    assert model.adapter is None


def _in_block(model: Model, adapter: Adapter | None, image: NDArray[Any]) -> NDArray[np.float32]:
    with model.adapted(adapter):
        return _logits(model, image)


def test_fine_tuning_and_evaluating_go_through(model: Model, tmp_path: Path) -> None:
    pairs, unseen = [nuclei_pair(3), nuclei_pair(4)], [nuclei_pair(8)]
    adapter, report = fine_tune(model, pairs, TrainConfig(steps=20, objects=2, views=2))
    assert len(report.losses) == 20
    assert report.cross_validated, "few are held out, so all others are tested by adapters that did not learn them"
    assert report.base.count == report.adapted.count == 19
    assert report.counts.learned == report.train_count == 14
    assert report.counts.held_out == 5
    assert report.verdict in ("better", "not better")
    assert f"{report.base.count} " in report.reason
    assert model.adapter is None

    again = Adapter.load(adapter.save(tmp_path / "nuclei.safetensors"))
    base, adapted, loaded = evaluate(model, unseen, [None, adapter, again])
    assert (base.adapter, adapted.adapter, loaded.adapter) == (None, adapter, again)
    assert base.figures.count == adapted.figures.count == len(base.objects) == 9
    assert 0 < base.figures.box_iou < 1
    assert base.figures != adapted.figures
    assert adapted.objects == loaded.objects
    assert adapted.figures.box_iou == pytest.approx(np.mean([score.box_iou for score in adapted.objects]))


def test_step_by_step_is_the_same_as_at_once(model: Model) -> None:
    config = replace(FAST, validation_share=0.0)
    run = iter_fine_tune(model, (pair for pair in [nuclei_pair(4)]), config)
    reports = []
    for step in run:
        assert isinstance(step, StepReport)
        reports.append(step)
    adapter, report = run.result()
    at_once, _ = fine_tune(model, [nuclei_pair(4)], config)
    assert [step.step for step in reports] == [1, 2]
    assert report.losses == tuple(step.loss for step in reports)
    assert adapter.key == at_once.key


def test_an_image_is_trained_on_as_it_is_segmented(model: Model) -> None:
    """Channel 3 of a 16-bit image, windowed, is the gray image that it was made from."""
    image, labels = nuclei_pair(4)
    rgb = np.repeat(image[..., None], 3, axis=2)  # uint8 RGB passes unchanged
    many = np.random.default_rng(0).integers(0, 2**16, (*image.shape, 5), np.uint16)
    many[..., 3] = 100 + 10 * image.astype(np.uint16)
    preprocessing = Preprocessing(window=(100.0, 2650.0), channel=3)
    windowed = Model(model.loaded, preprocessing)
    config = replace(FAST, validation_share=0.0)

    plain, _ = fine_tune(model, [(rgb, labels)], config)
    adapter, _ = fine_tune(windowed, [(many, labels)], config)
    assert all(torch.equal(plain.tensors[name], value) for name, value in adapter.tensors.items())
    assert adapter.info.preprocessing == preprocessing

    with model.adapted(plain):
        expected = _logits(model, rgb)
    with model.adapted(adapter):  # a model without this preprocessing: the adapter brings it
        assert np.array_equal(_logits(model, many), expected)
    first, second = evaluate(windowed, [(many, labels)], [None, adapter])
    assert first.objects == evaluate(model, [(rgb, labels)])[0].objects
    assert second.objects == evaluate(model, [(rgb, labels)], [plain])[0].objects


def test_an_adapter_is_evaluated_at_its_own_input_size(model: Model, nuclei: Pair) -> None:
    small = load_model("sam_nano", device="cpu", input_size=128)
    adapter, _ = fine_tune(small, [nuclei_pair(4)], replace(FAST, validation_share=0.0))
    pair = nuclei[0][:128, :128], nuclei[1][:128, :128]
    (large,), (own,) = (evaluate(used, [pair], [adapter]) for used in (model, small))
    assert large.objects == own.objects
    with model.adapted(adapter):
        assert model.encode(pair[0]).tensor.shape == (1, 256, 16, 16)


def test_a_plane_encoded_at_another_size_is_refused(model: Model, nuclei: Pair) -> None:
    small = load_model("sam_nano", device="cpu", input_size=128)
    with raises(InputError, "embedding-of-another-input-size"):
        model.segment(small.encode(nuclei[0]), BOX)


@pytest.mark.parametrize("page", ["README.md", "docs/python.md"])
def test_the_first_python_example_of_the_documentation_runs(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (Path(__file__).parents[1] / page).read_text(encoding="utf-8")
    found = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert found is not None
    example = found[1]
    for written, shorter in (
        ("steps=200", "steps=3"),
        ("(1, 2, 3, 4)", "(3, 4)"),
        ("nuclei_pair(5)", "nuclei_pair(8)"),
    ):
        assert written in example
        example = example.replace(written, shorter)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(example, names)
    assert (tmp_path / "nuclei.safetensors").is_file()
    assert names["res"].masks.shape == (1, 256, 256)
    assert len(names["report"].losses) == 3
    if "everything" in names:
        assert names["everything"].shape == (256, 256)


def _pointers(model: Model) -> dict[str, int]:
    """Return the memory addresses of the tensors of the model in use, by their names in the base."""
    state = model.predictor.sam.state_dict()
    return {n.replace(".base_layer.", "."): v.data_ptr() for n, v in state.items() if ".lora." not in n}


def test_adapters_are_switched_on_one_base_without_copying_it(model: Model, adapter: Adapter, nuclei: Pair) -> None:
    other = Adapter({name: value * 2 for name, value in adapter.tensors.items()}, adapter.info)
    base = _pointers(model)
    bits = {name: value.clone() for name, value in model.loaded.sam.state_dict().items()}
    logits = []
    try:
        for chosen in (adapter, other, adapter):
            model.activate(chosen)
            assert _pointers(model) == base
            logits.append(_logits(model, nuclei[0]))
    finally:
        model.deactivate()
    assert _pointers(model) == base
    assert np.array_equal(logits[0], logits[2])
    assert not np.array_equal(logits[0], logits[1])
    assert all(torch.equal(bits[name], value) for name, value in model.loaded.sam.state_dict().items())


def test_everything_comes_as_labels_and_as_records(model: Model, adapter: Adapter, nuclei: Pair) -> None:
    config = EverythingConfig(points_per_side=6, pred_iou_thresh=0.1, stability_score_thresh=0.3)
    for used in (None, adapter):
        with model.adapted(used):
            records = model.segment_everything_records(nuclei[0], config)
            labels = model.segment_everything(nuclei[0], config)
        assert len(records) >= 3
        covered = np.any([record["segmentation"] for record in records if record["area"] <= 2**15], axis=0)
        assert np.array_equal(labels > 0, covered)


def test_everything_mode_still_finds_objects_after_training_by_boxes_alone(model: Model, nuclei: Pair) -> None:
    image, truth = nuclei
    config = TrainConfig(steps=20, box_share=1.0, corrections=0, views=1, validation_share=0.0, objects=4)
    adapter, _ = fine_tune(model, [nuclei_pair(4)], config)
    few = EverythingConfig(points_per_side=10, pred_iou_thresh=0.3, stability_score_thresh=0.5)
    with model.adapted(adapter):
        labels = model.segment_everything(image, few, smallest=20)
    best = [
        max(
            (_iou(labels == found, truth == number) for found in np.unique(labels[truth == number]) if found), default=0
        )
        for number in np.unique(truth)[1:]
    ]
    assert sum(value > 0.5 for value in best) >= 3


def test_everything_mode_is_measured_on_complete_planes(model: Model, adapter: Adapter, nuclei: Pair) -> None:
    image, truth = nuclei
    config = EverythingConfig(points_per_side=8, pred_iou_thresh=0.3, stability_score_thresh=0.5)
    base, adapted = evaluate_everything(model, [(image, truth), (image, truth)], [None, adapter], config)
    found = model.segment_everything(image, config)
    assert base == match_objects(found, truth) + match_objects(found, truth)
    assert 0 < base.average_precision < 1
    assert adapted.true_positives + adapted.false_negatives == 2 * (len(np.unique(truth)) - 1)
    (perfect,) = evaluate_everything(model, [(image, found)], config=config)
    assert perfect.average_precision == 1
    with raises(InputError, "labels-do-not-fit"):
        evaluate_everything(model, [(image[:, :100], truth[:, :100].T)], config=config)


def _iou(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    return float((a & b).sum() / (a | b).sum())


def test_prompts_of_the_user_change_what_is_learned(model: Model) -> None:
    image, labels = nuclei_pair(4)
    label = int(np.bincount(labels.ravel())[1:].argmax() + 1)
    one = np.where(labels == label, label, 0)
    y, x = np.argwhere(one).mean(0)
    given = {label: Prompts(points=[[[y, x], [5, 5]]], point_labels=[[1, 0]])}
    config = replace(FAST, steps=4, validation_share=0.0)
    plain, _ = fine_tune(model, [(image, one)], config)
    prompted, report = fine_tune(model, [(image, one, given)], config)
    assert report.train_count == 1
    assert plain.key != prompted.key


@pytest.mark.parametrize(("meaning", "count"), [("instances", 2), ("classes", 9), ("mask", 1)])
def test_figures_follow_the_meaning_of_labels(model: Model, meaning: LabelMeaning, count: int) -> None:
    image, labels = nuclei_pair(8)  # nine nuclei
    semantic = np.where(labels > 0, 1 + labels % 2, 0)
    (evaluation,) = evaluate(model, [(image, semantic)], labels=meaning)
    assert evaluation.figures.count == count
    classes = {score.class_id for score in evaluation.objects}
    assert classes == ({1, 2} if meaning == "classes" else {None})

"""Labelled images of a folder become stacks with everything that is known about their labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from napari_sam_lora.io.tables.classes import ObjectClasses
from napari_sam_lora.io.tiff.writing import write_labels
from napari_sam_lora.session import ArraySource, ArrayStore, CancelToken, LabelSet, PlaneKey, TrainingPlane
from napari_sam_lora.session.training_export import write_planes
from napari_sam_lora.session.training_import import LabelledStack, read_labelled_stacks

IMAGES = np.random.default_rng(0).integers(0, 900, (3, 12, 16), np.uint16)
LABELS = np.zeros((3, 12, 16), np.int64)
LABELS[:, 2:5, 2:5], LABELS[:, 7:10, 7:10] = 1, 2


def _plane(z: int, complete: bool = False, classes: ObjectClasses | None = None) -> TrainingPlane:
    classes = classes or ObjectClasses()
    return TrainingPlane(PlaneKey.of("em", 3, (z,)), ArraySource(IMAGES), LABELS[z], {}, complete, classes)


def _saved(folder: Path, planes: Sequence[TrainingPlane]) -> LabelledStack:
    """Write planes as a training set and read them again, which makes one stack."""
    write_planes(CancelToken(), folder, planes)
    (stack,) = read_labelled_stacks(CancelToken(), folder)
    return stack


def test_complete_planes_of_a_saved_training_set_stay_complete(tmp_path: Path) -> None:
    stack = _saved(tmp_path / "set", [_plane(0), _plane(1, complete=True), _plane(2)])
    np.testing.assert_array_equal(stack.images, IMAGES)
    np.testing.assert_array_equal(stack.labels, LABELS)
    assert stack.name == "set"
    assert stack.complete == (PlaneKey.of("", 3, (1,)),)


def test_a_single_complete_image_has_no_axis_for_planes(tmp_path: Path) -> None:
    stack = _saved(tmp_path / "set", [_plane(2, complete=True)])
    np.testing.assert_array_equal(stack.images, IMAGES[2])
    assert stack.labels.dtype == np.int32
    assert stack.complete == (PlaneKey.of("", 2),)


def test_planes_of_a_plain_folder_are_not_complete(tmp_path: Path) -> None:
    for z in range(2):
        (tmp_path / "images").mkdir(exist_ok=True)
        np.save(tmp_path / "images" / f"{z}.npy", IMAGES[z])
        write_labels(tmp_path / "labels" / f"{z}.tif", LABELS[z])
    (stack,) = read_labelled_stacks(CancelToken(), tmp_path)
    np.testing.assert_array_equal(stack.labels, LABELS[:2])
    assert stack.complete == ()
    assert stack.classes.by_object == {}


def test_the_labels_are_described_by_their_classes_and_complete_planes(tmp_path: Path) -> None:
    classes = ObjectClasses({1: 4, 2: 9}, {4: "nucleus", 9: "debris"})
    stack = _saved(tmp_path / "set", [_plane(z, z == 2, classes) for z in range(3)])
    label_set = LabelSet(ArrayStore(stack.labels))
    stack.describe(label_set)
    names = {one.id: one.name for one in label_set.classes}
    assert {one.id: names[one.class_id] for one in label_set.records()} == {1: "nucleus", 2: "debris"}
    assert label_set.complete_planes == {PlaneKey.of("", 3, (2,))}
    assert all(one.is_checked for one in label_set.records())


def test_objects_with_one_id_and_different_classes_are_told_apart(tmp_path: Path) -> None:
    names = {4: "nucleus", 9: "debris"}
    of_plane = (ObjectClasses({1: 4, 2: 9}, names), ObjectClasses({1: 9, 2: 9}, names), ObjectClasses({1: 4}, names))
    stack = _saved(tmp_path / "set", [_plane(z, classes=classes) for z, classes in enumerate(of_plane)])
    wanted = LABELS.copy()
    wanted[1][LABELS[1] == 1] = 3
    wanted[2][LABELS[2] == 2] = 4
    np.testing.assert_array_equal(stack.labels, wanted)
    assert stack.classes.by_object == {1: 4, 2: 9, 3: 9}
    assert stack.classes.names == names


def test_images_of_two_shapes_become_two_stacks(tmp_path: Path) -> None:
    small = replace(_plane(1, complete=True), source=ArraySource(IMAGES[:, :11]), labels=LABELS[1, :11])
    write_planes(CancelToken(), tmp_path / "set", [_plane(0), small])
    first, second = read_labelled_stacks(CancelToken(), tmp_path / "set")
    assert (first.labels.shape, first.complete) == ((12, 16), ())
    assert (second.labels.shape, second.complete) == ((11, 16), (PlaneKey.of("", 2),))

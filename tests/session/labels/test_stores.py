"""Labels in an array, with undo."""

from __future__ import annotations

import numpy as np
import pytest
from error_codes import raises
from numpy.typing import NDArray

from napari_sam_lora.errors import InputError
from napari_sam_lora.session import ArrayStore, PlaneKey

PLANE = PlaneKey.of("", 3, (1,))


@pytest.fixture
def store() -> ArrayStore:
    return ArrayStore(np.zeros((3, 4, 5), np.uint8))


def _rows(first: int, last: int) -> NDArray[np.bool_]:
    mask = np.zeros((4, 5), np.bool_)
    mask[first:last] = True
    return mask


def test_a_write_is_one_step(store: ArrayStore) -> None:
    store.write(PLANE, _rows(0, 2), 7)
    store.write(PLANE, _rows(1, 3), np.arange(10))
    assert store.data[1, 1:3].ravel().tolist() == list(range(10))
    assert store.undo()
    assert (store.data[1, :2] == 7).all()
    assert store.undo()
    assert not store.data.any()
    assert not store.undo()
    assert store.redo()
    assert (store.data[1, :2] == 7).all()
    assert store.max_label() == 7


def test_a_write_that_changes_nothing_is_no_step(store: ArrayStore) -> None:
    store.write(PLANE, _rows(0, 1), 0)
    assert not store.undo()


def test_a_new_step_forgets_what_was_taken_back(store: ArrayStore) -> None:
    store.write(PLANE, _rows(0, 1), 1)
    store.undo()
    store.write(PLANE, _rows(0, 1), 2)
    assert not store.redo()


def test_a_transaction_is_one_step_over_planes_and_views(store: ArrayStore) -> None:
    side = PlaneKey.of("", 3, (2,), (2, 0))  # x downwards, z to the right
    with store.transaction():
        store.write(PLANE, _rows(0, 3), 1)
        store.write(side, np.ones((5, 3), np.bool_), 2)
    assert (store.data[:, 2] == 2).all()
    assert (store.data[1, :2] == 1).all()
    store.undo()
    assert not store.data.any()
    store.redo()
    assert (store.data[:, 2] == 2).all()


def test_a_transaction_that_fails_leaves_nothing(store: ArrayStore) -> None:
    def write_and_fail() -> None:
        with store.transaction():
            store.write(PLANE, _rows(0, 3), 1)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_and_fail()
    assert not store.data.any()
    assert not store.undo()


def test_an_id_that_does_not_fit_is_refused_before_anything_is_written(store: ArrayStore) -> None:
    with raises(InputError, "id-out-of-range", match=r"255.*int32"):
        store.write(PLANE, _rows(0, 1), 256)
    assert not store.data.any()


def test_what_is_read_is_a_copy(store: ArrayStore) -> None:
    store.read(PLANE)[...] = 3
    assert not store.data.any()


def test_only_whole_numbers_are_labels() -> None:
    with raises(InputError, "labels-not-whole-numbers"):
        ArrayStore(np.zeros((3, 3)))


def test_the_oldest_steps_are_forgotten() -> None:
    store = ArrayStore(np.zeros((4, 5), int), steps=2)
    for label in (1, 2, 3):
        store.write(PlaneKey.of("", 2), _rows(0, 1), label)
    assert [store.undo(), store.undo(), store.undo()] == [True, True, False]
    assert store.data.max() == 1


@pytest.mark.parametrize(
    ("stored", "read"), [(np.uint8, np.uint8), (np.uint16, np.uint16), (np.int32, np.int32), (np.uint64, np.int64)]
)
def test_pixels_are_read_in_their_own_dtype_and_as_a_copy(stored: type, read: type) -> None:
    store = ArrayStore(np.full((2, 4, 5), 200, stored))
    pixels = store.read(PlaneKey.of("", 3, (1,)))
    assert pixels.dtype == read
    pixels[:] = 0
    assert (store.data == 200).all()

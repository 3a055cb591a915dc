"""Test planes of the learning benchmark do not resemble its training planes."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from benchmarks.splits import split_set


def _write(folder: Path, name: str, labels: np.ndarray) -> None:
    """Write an image whose intensity is the column, which shows where a plane was cut from."""
    image = np.broadcast_to(np.arange(labels.shape[-1]), labels.shape).astype(np.uint8)
    for kind, array in (("images", image), ("labels", labels.astype(np.uint8))):
        path = folder / kind / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".png":
            Image.fromarray(array).save(path)
        else:
            tifffile.imwrite(path, array)


def _squares(shape: tuple[int, ...]) -> np.ndarray:
    labels = np.zeros(shape, np.uint8)
    labels[..., 20:40, 20:40] = 1
    labels[..., 20:40, -40:-20] = 2
    return labels


def test_images_are_trained_on_or_tested_on_whatever_the_number_of_test_images(tmp_path: Path) -> None:
    for name in "abcdefghijklm":
        _write(tmp_path, f"{name}.png", _squares((200, 200)))
    few, many = split_set(tmp_path, 2), split_set(tmp_path, 8)
    assert [plane.source for plane in few.train] == [plane.source for plane in many.train]
    assert [plane.source for plane in few.test] == [plane.source for plane in many.test][:2]
    assert (len(many.train), len(many.test)) == (8, 5)
    assert not {plane.source for plane in many.train} & {plane.source for plane in many.test}


def test_stacks_are_on_one_side_as_a_whole(tmp_path: Path) -> None:
    for name in ("a.tif", "b.tif", "c.tif"):
        _write(tmp_path, name, _squares((30, 130, 130)))
    split = split_set(tmp_path, 8)
    assert {plane.stack for plane in split.train}.isdisjoint({plane.stack for plane in split.test})
    assert len({plane.stack for plane in split.train + split.test}) == 3


@pytest.mark.parametrize("numbered_files", [True, False])
def test_a_lone_stack_is_cut_across_x_with_a_gap(tmp_path: Path, numbered_files: bool) -> None:
    if numbered_files:
        for number in range(9, 21):
            _write(tmp_path, f"slice_{number:02}.png", _squares((160, 160)))
    else:
        _write(tmp_path, "stack.tif", _squares((20, 160, 160)))
    split = split_set(tmp_path, 8)
    last_trained_on = max(int(plane.image.max()) for plane in split.train)
    first_tested_on = min(int(plane.image.min()) for plane in split.test)
    assert first_tested_on - last_trained_on > 160 / 16 - 1


def test_a_lone_image_is_refused(tmp_path: Path) -> None:
    _write(tmp_path, "a.png", _squares((100, 100)))
    with pytest.raises(ValueError, match="lone image"):
        split_set(tmp_path, 8)

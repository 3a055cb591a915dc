"""The sample images that come with the package."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import tifffile

from napari_sam_lora.io.samples import (
    NUCLEI_COUNT,
    LayerData,
    nuclei,
    nuclei_pair,
    nuclei_stack,
    phase_contrast,
    samples_folder,
)


@pytest.mark.parametrize("number", range(1, NUCLEI_COUNT + 1))
def test_each_image_of_nuclei_has_labels_that_match_it(number: int) -> None:
    image, labels = nuclei_pair(number)
    assert image.shape == labels.shape == (256, 256)
    assert image.dtype == labels.dtype == np.uint8
    ids = np.unique(labels)
    assert len(ids) > 5
    assert ids.tolist() == list(range(len(ids)))
    # bright on dark: labels of another image, or turned, would not sit on the nuclei
    assert image[labels > 0].mean() > 3 * image[labels == 0].mean()


@pytest.mark.parametrize("number", [0, NUCLEI_COUNT + 1])
def test_other_numbers_of_nuclei_are_not_found(number: int) -> None:
    with pytest.raises(FileNotFoundError):
        nuclei_pair(number)


def test_the_images_of_nuclei_are_all_different() -> None:
    assert len({nuclei_pair(number)[0].tobytes() for number in range(1, NUCLEI_COUNT + 1)}) == NUCLEI_COUNT


def test_the_stack_for_the_menu_holds_the_pairs_in_their_order() -> None:
    ((stack, metadata, kind),) = nuclei()
    assert kind == "image"
    assert stack.dtype == np.uint8
    assert len(metadata["axis_labels"]) == stack.ndim
    for number, plane in enumerate(stack, start=1):
        np.testing.assert_array_equal(plane, nuclei_pair(number)[0])


@pytest.mark.parametrize(
    ("sample", "shape", "dtype"),
    [
        (nuclei, (10, 256, 256), np.uint8),
        (phase_contrast, (512, 512), np.uint16),
        (nuclei_stack, (31, 61, 57), np.uint16),
    ],
)
def test_each_sample_is_one_named_image_layer(
    sample: Callable[[], list[LayerData]], shape: tuple[int, ...], dtype: type
) -> None:
    ((data, metadata, kind),) = sample()
    assert data.shape == shape
    assert data.dtype == dtype
    assert data.min() < data.max()
    assert metadata["name"]
    assert kind == "image"


@pytest.mark.parametrize("name", ["phase_contrast", "nuclei_stack"])
def test_the_labels_of_a_tiff_sample_match_its_image(name: str) -> None:
    image = tifffile.imread(samples_folder() / f"{name}.tif")
    labels = tifffile.imread(samples_folder() / f"{name}_labels.tif")
    assert labels.shape == image.shape
    assert labels.dtype.kind in "iu"
    ids = np.unique(labels)
    assert len(ids) > 5
    assert ids.tolist() == list(range(len(ids)))


def test_nuclei_in_three_dimensions_are_brighter_than_what_is_around_them() -> None:
    image = nuclei_stack()[0][0]
    labels = tifffile.imread(samples_folder() / "nuclei_stack_labels.tif")
    assert image[labels > 0].mean() > image[labels == 0].mean() + image[labels == 0].std()


def test_the_licence_file_names_every_sample_set_with_a_licence() -> None:
    text = (samples_folder() / "LICENCES.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    named = {row[0].strip("`"): row[2] for row in rows[2:]}
    sets = {
        f"{path.name}/" if path.is_dir() else f"{path.stem.removesuffix('_labels')}*.tif"
        for path in samples_folder().iterdir()
        if path.name != "LICENCES.md"
    }
    assert set(named) == sets
    for licence in named.values():
        assert licence.startswith(("CC0", "MIT, Copyright", "BSD-3-Clause, Copyright"))


def test_the_licence_texts_that_must_travel_along_are_there() -> None:
    text = " ".join((samples_folder() / "LICENCES.md").read_text(encoding="utf-8").split())
    assert "Permission is hereby granted, free of charge" in text
    assert "Redistribution and use in source and binary forms" in text

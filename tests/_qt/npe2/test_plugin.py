"""The plugin inside a real napari viewer."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from npe2 import PluginManifest

from napari_sam_lora import Prompts
from napari_sam_lora.io.samples import nuclei_pair
from napari_sam_lora.labels import add_masks, find_objects

MANIFEST = Path(str(files("napari_sam_lora") / "napari.yaml"))


pytestmark = pytest.mark.usefixtures("registered")


def test_every_command_of_the_manifest_can_be_imported(manifest: PluginManifest) -> None:
    manifest.validate_imports()
    assert manifest.name == "napari-sam-lora"


def test_the_manifest_at_the_root_is_the_packages() -> None:
    root = Path(__file__).parents[3] / "napari.yaml"
    assert root.is_symlink()
    assert root.resolve() == MANIFEST.resolve()


@pytest.mark.parametrize(
    ("key", "shape", "dtype"),
    [
        ("nuclei", (10, 256, 256), np.uint8),
        ("phase_contrast", (512, 512), np.uint16),
        ("nuclei_stack", (31, 61, 57), np.uint16),
    ],
)
def test_sample_data_opens_from_the_file_menu(viewer: Any, key: str, shape: tuple[int, ...], dtype: type) -> None:
    (layer,) = viewer.open_sample("napari-sam-lora", key)
    assert layer.data.shape == shape
    assert layer.data.dtype == dtype


def test_an_image_layer_can_be_segmented_into_a_labels_layer(viewer: Any, nano: Any) -> None:
    viewer.open_sample("napari-sam-lora", "nuclei")
    truth = nuclei_pair(1)[1]
    largest = max(find_objects(truth), key=lambda found: found.area)
    plane = np.asarray(viewer.layers[0].data[0])
    result = nano.segment(nano.encode(plane), Prompts(boxes=[largest.box]))
    layer = viewer.add_labels(add_masks(np.zeros(plane.shape, int), result.masks))
    wanted = truth == largest.label
    found = layer.data == 1
    assert np.count_nonzero(found & wanted) / np.count_nonzero(found | wanted) > 0.7
    assert viewer.screenshot(canvas_only=False, flash=False).ndim == 3

"""Labels layers that napari saves through the plugin."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import tifffile
from npe2 import PluginManager, PluginManifest

from .test_plugin import MANIFEST

PLUGIN = "napari-sam-lora"


@pytest.fixture
def viewer(make_napari_viewer: Any) -> Any:
    viewer = make_napari_viewer(strict_qt=True)
    manager, manifest = PluginManager.instance(), PluginManifest.from_file(MANIFEST)
    if manifest.name not in manager:
        manager.register(manifest)
    return viewer


def _load(path: Path) -> Any:
    return nibabel.load(path)


def test_a_labels_layer_is_saved_in_every_format_with_its_pixel_size(viewer: Any, tmp_path: Path) -> None:
    labels = np.random.default_rng(0).integers(0, 9, (3, 6, 7))
    layer = viewer.add_labels(labels, name="cells", scale=(0.3, 0.2, 0.1), units=("um",) * 3)
    for name in ("a.tif", "b.ome.tif", "c.nii.gz", "d.json", "e.csv"):
        assert layer.save(str(tmp_path / name), plugin=PLUGIN) == [str(tmp_path / name)]
    assert len(layer.save(str(tmp_path / "f.png"), plugin=PLUGIN)) == 3
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert file.is_imagej
        assert file.imagej_metadata["spacing"] == pytest.approx(0.3)
    with tifffile.TiffFile(tmp_path / "b.ome.tif") as file:
        assert 'PhysicalSizeX="0.1"' in str(file.ome_metadata)
    np.testing.assert_allclose(_load(tmp_path / "c.nii.gz").header.get_zooms(), (0.1, 0.2, 0.3), rtol=1e-6)
    assert "µm³" in (tmp_path / "e.csv").read_text("utf-8")


def test_a_rotated_labels_layer_keeps_its_place_in_a_nifti(viewer: Any, tmp_path: Path) -> None:
    labels = np.random.default_rng(0).integers(0, 9, (3, 6, 7))
    layer = viewer.add_labels(labels, scale=(3, 2, 1), rotate=(10, 20, 30), shear=(0.1, 0, 0.2), translate=(5, 6, 7))
    layer.save(str(tmp_path / "a.nii"), plugin=PLUGIN)
    image = _load(tmp_path / "a.nii")
    z, y, x = layer.data_to_world((2, 4, 1))
    np.testing.assert_allclose((image.affine @ [1, 4, 2, 1])[:3], (-x, -y, z), rtol=1e-5)
    (again,) = viewer.open(tmp_path / "a.nii", plugin=PLUGIN)
    np.testing.assert_array_equal(np.sort(again.data, None), np.sort(labels, None))

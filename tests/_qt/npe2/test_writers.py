"""Labels layers that napari saves through the plugin."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import tifffile
from napari.layers._source import Source
from npe2 import PluginManifest
from qtpy.QtWidgets import QFileDialog

from napari_sam_lora._qt.npe2.writers import KINDS, NIFTI, TIFF, layer_to_coco, layer_to_table
from napari_sam_lora._qt.project.panel import ProjectBox
from napari_sam_lora._qt.viewer.controller import Controller

from ..helpers import add_box

PLUGIN = "napari-sam-lora"


pytestmark = pytest.mark.usefixtures("registered")


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


def test_what_the_session_knows_is_saved_too(
    controller: Controller, cell: Any, settle: Any, qtbot: Any, tmp_path: Path
) -> None:
    add_box(controller, cell.box)
    settle(controller)
    controller.commit()
    qtbot.waitUntil(
        lambda: controller.active_layers.target_layer is not None and controller.active_layers.target_layer.data.any(),
        timeout=20_000,
    )
    layer = controller.active_layers.target_layer
    assert layer is not None
    data, attributes, _ = layer.as_layer_data_tuple()
    layer_to_table(str(tmp_path / "a.csv"), data, attributes)
    assert "prompted" in (tmp_path / "a.csv").read_text("utf-8")
    layer_to_coco(str(tmp_path / "a.json"), data, attributes)
    assert '"score"' in (tmp_path / "a.json").read_text("utf-8")


def test_labels_are_exported_by_a_button(
    controller: Controller,
    cell: Any,
    settle: Any,
    qtbot: Any,
    put: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    box = put(ProjectBox(controller))
    assert not box.export.isEnabled()
    add_box(controller, cell.box)
    settle(controller)
    controller.commit()
    qtbot.waitUntil(
        lambda: controller.active_layers.target_layer is not None and controller.active_layers.target_layer.data.any(),
        timeout=20_000,
    )
    assert box.export.isEnabled()
    for number, kind in enumerate(KINDS):
        answer = (str(tmp_path / str(number)), kind)
        monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_, answer=answer: answer)
        box.export.click()
    names = ["0.tif", "1.ome.tif", "2.nii.gz", "3.png", "4.json", "5.csv", "6.prompts.csv"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names


@pytest.mark.parametrize("chosen", ["TIFF with pixel size, for Fiji", "NIfTI"])
@pytest.mark.parametrize("name", ["p1.nii.gz", "p1.tif", "p1.csv"])
def test_a_typed_ending_decides_over_the_kind_chosen_in_the_dialog_of_napari(
    viewer: Any, manifest: PluginManifest, tmp_path: Path, chosen: str, name: str
) -> None:
    layer = viewer.add_labels(np.eye(8, dtype=int), name="cells")
    (writer,) = (one for one in manifest.contributions.writers or () if one.display_name == chosen)
    assert viewer.layers.save(str(tmp_path / name), _writer=writer) == [str(tmp_path / name)]
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert layer in viewer.layers


@pytest.mark.parametrize(
    ("typed", "kind", "written"),
    [
        ("p1.nii.gz", TIFF, "p1.nii.gz"),
        ("p1.ome.tif", NIFTI, "p1.ome.tif"),
        ("p1.csv", TIFF, "p1.csv"),
        ("p1", NIFTI, "p1.nii"),
        ("p1", TIFF, "p1.tif"),
        ("p1.zip", TIFF, ""),
    ],
)
def test_the_ending_of_an_exported_file_is_typed_or_that_of_the_image(
    controller: Controller,
    put: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    typed: str,
    kind: str,
    written: str,
) -> None:
    asked: list[tuple[Any, ...]] = []

    def answer(*arguments: Any) -> tuple[str, str]:
        asked.append(arguments)
        return str(tmp_path / typed), kind

    monkeypatch.setattr(QFileDialog, "getSaveFileName", answer)
    viewer = controller.viewer
    image = controller.active_layers.image_layer
    assert viewer is not None
    assert image is not None
    image._set_source(Source(path=str(tmp_path / "ct.nii")))
    labels = viewer.add_labels(np.ones(image.data.shape[:2], np.uint8), name="ct.nii labels")
    viewer.layers.selection = [labels]
    said: list[str] = []
    controller.message.connect(said.append)
    put(ProjectBox(controller)).export.click()
    assert [".nii.gz" in one for one in said] == ([] if written else [True])
    assert [path.name for path in tmp_path.iterdir()] == ([written] if written else [])
    ((_, _, suggested, filters, chosen),) = asked
    assert suggested.endswith(".nii")
    assert chosen == NIFTI
    assert chosen in filters

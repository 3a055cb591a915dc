"""Files that are opened in or dropped on a real viewer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from napari_sam_lora import Model
from napari_sam_lora._qt.layers.coordinates import current_plane
from napari_sam_lora._qt.viewer.controller import Controller, controller_of
from napari_sam_lora.lora.adapter import Adapter, AdapterInfo
from napari_sam_lora.lora.inject import LoRAConfig, adapter_parameters, attach

PLUGIN = "napari-sam-lora"
WAIT_MS = 20_000


pytestmark = pytest.mark.usefixtures("registered")


def _volume(path: Path, angles: tuple[float, ...] = (0, 0, 0)) -> Path:
    """Save a NIfTI file (i, j, k) = (5, 6, 7) with voxels of 0.7 x 0.8 x 2.5 mm, the first axis towards the left."""
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() @ np.diag([-0.7, 0.8, 2.5])
    data = np.random.default_rng(0).integers(-1000, 1500, (5, 6, 7)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(data, matrix), path)
    return path


def _adapter(model: Model) -> Adapter:
    config = LoRAConfig((1,), 2, 2.0, tune_decoder="none")
    tensors = {
        name: value.detach().clone() for name, value in adapter_parameters(attach(model.loaded.sam, config)).items()
    }
    info = AdapterInfo(model.name, model.loaded.weights_hash, config, "late", model.predictor.input_size)
    return Adapter(tensors, info)


def test_a_volume_opens_with_its_spacing_place_and_unit(viewer: Any, tmp_path: Path) -> None:
    (layer,) = viewer.open(_volume(tmp_path / "head.nii.gz"), plugin=PLUGIN)
    np.testing.assert_allclose(layer.scale, [2.5, 0.8, 0.7], rtol=1e-6)
    assert [str(unit) for unit in layer.units] == ["millimeter"] * 3
    assert layer.axis_labels == ("z", "y", "x")
    assert viewer.dims.axis_labels == ("z", "y", "x")


@pytest.mark.filterwarnings("ignore:Non-orthogonal slicing")
@pytest.mark.parametrize("angles", [(0, 0, 0), (20, -12, 33)])
def test_planes_of_a_volume_can_be_segmented_of_an_oblique_one_too(
    viewer: Any, tmp_path: Path, angles: tuple[float, ...]
) -> None:
    (layer,) = viewer.open(_volume(tmp_path / "head.nii", angles), plugin=PLUGIN)
    assert layer.data.shape == (7, 6, 5)
    position = layer.data_to_world((2, 3, 2))
    viewer.dims.set_point(range(3), position)
    plane = current_plane(viewer, layer, "head")
    assert plane is not None
    assert plane.axes == (1, 2)
    assert plane.index == (2,)


def test_labels_made_for_a_volume_remember_where_its_file_has_its_voxels(
    viewer: Any, tmp_path: Path, make_controller: Any
) -> None:
    (layer,) = viewer.open(_volume(tmp_path / "head.nii"), plugin=PLUGIN)
    made = make_controller(viewer).active_layers.make_target()
    assert made.metadata["napari-sam-lora"]["placement"] == layer.metadata["napari-sam-lora"]["placement"]


def test_a_dropped_adapter_opens_the_panel_and_is_added_there(
    viewer: Any, tmp_path: Path, nano: Model, qtbot: Any, make_controller: Any
) -> None:
    controller: Controller = make_controller(viewer)
    assert controller_of(viewer) is controller
    path = _adapter(nano).save(tmp_path / "my nuclei.safetensors")
    assert viewer.open(path, plugin=PLUGIN) == []
    qtbot.waitUntil(lambda: bool(controller.session.models.adapters.entries()), timeout=WAIT_MS)
    assert [entry.name for entry in controller.session.models.adapters.entries()] == ["my nuclei"]
    viewer.open(path, plugin=PLUGIN)  # into the panel that is open
    qtbot.waitUntil(lambda: len(controller.session.models.adapters.entries()) == 2, timeout=WAIT_MS)
    assert len(viewer.layers) == 0
    assert len([dock for dock in viewer.window.dock_widgets if "Adapters" in dock]) == 1

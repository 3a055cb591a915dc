"""Save Labels layers with the classes, scores and prompts that their session knows, from napari or by a button."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qtpy.QtWidgets import QApplication

from napari_sam_lora._qt.viewer.controller import Controller
from napari_sam_lora.io.shared.existing_files import keep_previous
from napari_sam_lora.io.tables.objects import ObjectInfo
from napari_sam_lora.io.writers import write_layer
from napari_sam_lora.session.labels.export import export_prompts, object_infos

# File kinds as a dialog lists them, with their endings; the first one is added to a name without any.
KINDS = {
    "TIFF for Fiji (*.tif *.tiff)": (".tif", ".tiff"),
    "OME-TIFF (*.ome.tif)": (".ome.tif", ".ome.tiff"),
    "NIfTI (*.nii.gz *.nii)": (".nii.gz", ".nii"),
    "PNG planes (*.png)": (".png",),
    "COCO annotations (*.json)": (".json",),
    "Table of objects (*.csv)": (".csv",),
    "Prompts for the command line (*.prompts.csv)": (".prompts.csv",),
}


def layer_to_coco(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Write COCO annotations with the classes and scores that the session knows."""
    return write_layer(path, data, attributes, (".json",), _infos_of(data))


def layer_to_table(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Write the table of objects with all that the session knows."""
    return write_layer(path, data, attributes, (".csv",), _infos_of(data))


def save_layer(controller: Controller, layer: Any, path: Path, kind: str) -> list[str]:
    """Write a Labels layer in one of `KINDS` and return the paths; an existing file is renamed, not overwritten."""
    endings = KINDS[kind]
    labels = controller.session.labels[controller.layers.id_of(layer)]
    if endings[0] == ".prompts.csv":
        target = path if path.suffix.lower() == ".csv" else path.with_name(path.name + endings[0])
        image = controller.active_layers.image_of(layer)
        source = getattr(getattr(image, "source", None), "path", None)
        with keep_previous([target]):
            return [str(export_prompts(target, labels, Path(source).name if source else ""))]
    data, attributes, _ = layer.as_layer_data_tuple()
    return write_layer(str(path), data, attributes, endings, object_infos(labels))


def _infos_of(data: Any) -> dict[int, ObjectInfo]:
    """Return what is known of the objects of the layer with this array, in whichever viewer it is."""
    application = QApplication.instance()
    for child in [] if application is None else application.children():
        if isinstance(child, Controller) and child.viewer is not None:
            for layer in child.layers.labels():
                if layer.data is data:
                    child.layers.flush()
                    labels = child.session.labels.get(child.layers.id_of(layer))
                    return {} if labels is None else object_infos(labels)
    return {}

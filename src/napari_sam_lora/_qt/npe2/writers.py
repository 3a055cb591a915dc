"""Save Labels layers with the classes, scores and prompts that their session knows, from napari or by a button."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from qtpy.QtWidgets import QApplication

from napari_sam_lora._qt.viewer.controller import Controller
from napari_sam_lora.io.shared.endings import with_ending
from napari_sam_lora.io.shared.existing_files import keep_previous
from napari_sam_lora.io.tables.objects import ObjectInfo
from napari_sam_lora.io.writers import default_ending, write_layer
from napari_sam_lora.session.labels.export import export_prompts, object_infos

TIFF = "TIFF for Fiji (*.tif *.tiff)"
OME_TIFF = "OME-TIFF (*.ome.tif)"
NIFTI = "NIfTI (*.nii.gz *.nii)"
PNG = "PNG planes (*.png)"
COCO = "COCO annotations (*.json)"
TABLE = "Table of objects (*.csv)"
PROMPTS = "Prompts for the command line (*.prompts.csv)"
# File kinds as a dialog lists them, with their endings; the first one is added to a name without any.
KINDS = {
    TIFF: (".tif", ".tiff"),
    OME_TIFF: (".ome.tif", ".ome.tiff"),
    NIFTI: (".nii.gz", ".nii"),
    PNG: (".png",),
    COCO: (".json",),
    TABLE: (".csv",),
    PROMPTS: (".prompts.csv", ".csv"),
}


def file_of(image: Any | None) -> Path | None:
    """Return the file of an image layer; None if it has none."""
    path = getattr(getattr(image, "source", None), "path", None)
    return Path(path) if path else None


def kind_of(path: Path, chosen: str = TIFF) -> str:
    """Return which of `KINDS` a file name is; the chosen kind if its ending is of several, of another, or missing."""
    name = path.name.lower()
    lengths = {
        kind: max((len(ending) for ending in endings if name.endswith(ending)), default=0)
        for kind, endings in KINDS.items()
    }
    longest = max(lengths.values())
    return chosen if lengths[chosen] == longest else max(lengths, key=lengths.__getitem__)


def save_layer(controller: Controller, layer: Any, path: Path, chosen: str) -> list[str]:
    """Write a Labels layer in the format of the path's ending; an existing file is renamed, not overwritten.

    Parameters
    ----------
    controller : Controller
    layer : napari.layers.Labels
        A layer of the session.
    path : Path
    chosen : str
        The one of `KINDS` that the user chose, for a path without an ending.

    Returns
    -------
    list of str
        The files that were written.

    Raises
    ------
    InputError
        If the ending is that of none of `KINDS`, or the format cannot hold the labels.
    """
    labels = controller.session.labels[controller.layers.id_of(layer)]
    image = controller.active_layers.image_of(layer)
    kind, own = kind_of(path, chosen), default_ending(file_of(image))
    endings = tuple(dict.fromkeys(ending for endings in KINDS.values() for ending in endings))
    target = with_ending(path, endings, own if own in KINDS[kind] else KINDS[kind][0])
    if kind == PROMPTS:
        source = file_of(image)
        with keep_previous([target]):
            return [str(export_prompts(target, labels, source.name if source else ""))]
    data, attributes, _ = layer.as_layer_data_tuple()
    return write_layer(target, data, attributes, KINDS[kind][0], object_infos(labels))


def _napari_writer(kind: str) -> Callable[[str, Any, dict[str, Any]], list[str]]:
    """Return a writer as napari calls it, with the classes, scores and prompts that the session knows.

    napari passes the path as it was typed, and chooses the writer by the kind of file that is selected in its dialog.
    """

    def write(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
        return write_layer(path, data, attributes, KINDS[kind][0], _infos_of(data))

    return write


layer_to_tiff = _napari_writer(TIFF)
layer_to_ome_tiff = _napari_writer(OME_TIFF)
layer_to_nifti = _napari_writer(NIFTI)
layer_to_png = _napari_writer(PNG)
layer_to_coco = _napari_writer(COCO)
layer_to_table = _napari_writer(TABLE)


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

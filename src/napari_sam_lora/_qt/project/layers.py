"""Layers of a project: describe them for saving, and open them again in a viewer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from napari.utils.notifications import show_warning

from napari_sam_lora._qt.layers.napari_stores import METADATA_KEY
from napari_sam_lora._qt.viewer.controller import Controller
from napari_sam_lora.session.project.image_references import FoundImage
from napari_sam_lora.session.project.loader import Project, ProjectLabels, restore
from napari_sam_lora.session.project.snapshot import Extras

# Asks the user where an image is that was not found or has changed; None leaves the image out.
AskForImage = Callable[[FoundImage], Path | None]


def extras_of(controller: Controller, model_source: Callable[[], str]) -> Extras:
    """Return what a project keeps of a viewer beside its session.

    Parameters
    ----------
    controller : Controller
    model_source : callable
        Returns the name or path from which the model was loaded.
    """

    def image_path(name: str) -> Path | None:
        source = getattr(controller.layers.layer_of(name), "source", None)
        path = getattr(source, "path", None)
        return Path(path) if path else None

    def layer(name: str) -> dict[str, Any]:
        labels = controller.layers.layer_of(name)
        return {} if labels is None else _labels_to_plain(labels)

    def settings() -> dict[str, Any]:
        return {
            "images": {name: _origin(controller.layers.layer_of(name)) for name in controller.session.images},
            "options": asdict(controller.previews.options),
            "model_source": model_source(),
        }

    return Extras(image_path, layer, settings)


def open_in_viewer(project: Project, controller: Controller, ask: AskForImage) -> tuple[str, ...]:
    """Open the images and labels of a project in the viewer, and restore the session.

    Returns
    -------
    tuple of str
        One message for each thing that could not be restored.
    """
    problems: list[str] = []
    images: dict[str, str] = {}
    for found in project.images:
        layer = _open_image(found, project, controller, ask)
        if layer is None:
            problems.append(f"The image “{found.reference.name}” is missing: open it to edit its objects.")
        else:
            images[found.reference.id] = controller.layers.id_of(layer)
    labels = {one.id: controller.layers.id_of(_add_labels(one, controller)) for one in project.labels}
    problems += restore(project, controller.session, images, labels)
    options = project.manifest.get("settings", {}).get("options") or {}
    if options.get("window") is not None:
        options = options | {"window": tuple(options["window"])}
    controller.set_options(**options)
    target = controller.layers.layer_of(controller.session.labels.target)
    if target is not None:
        active = controller.active_layers
        active.choose_image(active.image_of(target))
        active.choose_target(target)
    return tuple(problems)


def _labels_to_plain(layer: Any) -> dict[str, Any]:
    """Return the plain values from which `_add_labels` makes a Labels layer again."""
    mark = layer.metadata.get(METADATA_KEY)
    placement = mark.get("placement") if isinstance(mark, dict) else None
    return {
        "name": str(layer.name),
        "scale": np.asarray(layer.scale, float).tolist(),
        "translate": np.asarray(layer.translate, float).tolist(),
        "rotate": np.asarray(layer.rotate, float).tolist(),
        "shear": np.asarray(layer.shear, float).tolist(),
        "affine": np.asarray(layer.affine.affine_matrix, float).tolist(),
        "units": [str(unit) for unit in layer.units],
        "axis_labels": [str(label) for label in layer.axis_labels],
        "opacity": float(layer.opacity),
        "visible": bool(layer.visible),
    } | ({"metadata": {METADATA_KEY: {"placement": placement}}} if placement else {})


def _origin(layer: Any) -> dict[str, Any]:
    """Return the reader or sample by which an image was opened."""
    source = getattr(layer, "source", None)
    return {
        "reader": getattr(source, "reader_plugin", None),
        "sample": list(getattr(source, "sample", None) or ()),
    }


def _open_image(found: FoundImage, project: Project, controller: Controller, ask: AskForImage) -> Any | None:
    """Return the layer of an image: one that is already open, or its file or sample opened again; None if neither."""
    wanted = found.reference
    for layer in controller.layers.images():
        if layer.name == wanted.name and _shape_of(controller, layer) == wanted.shape:
            return layer
    origin = project.manifest.get("settings", {}).get("images", {}).get(wanted.id, {})
    path = found.path
    if found.state in ("missing", "changed"):
        path = ask(found)
    sample = origin.get("sample", ())
    try:
        if path is not None:
            added = controller.viewer.open(str(path), plugin=origin.get("reader"))
        elif not wanted.path and len(sample) == 2:
            added = controller.viewer.open_sample(*sample)
        else:
            return None
    except Exception as error:  # readers of other plugins may raise anything
        show_warning(f"The image “{wanted.name}” cannot be opened: {error}")
        return None
    fitting = [layer for layer in added if _shape_of(controller, layer) == wanted.shape]
    return next((layer for layer in fitting if layer.name == wanted.name), fitting[0] if fitting else None)


def _shape_of(controller: Controller, layer: Any) -> tuple[int, ...]:
    source = controller.session.images.get(controller.layers.id_of(layer))
    return () if source is None else source.shape


def _add_labels(one: ProjectLabels, controller: Controller) -> Any:
    """Add a Labels layer under its former id, then give it its former name."""
    values = dict(one.layer)
    name = values.pop("name", one.id)
    values["units"] = tuple(values.get("units", ())) or None
    values["axis_labels"] = tuple(values.get("axis_labels", ())) or None
    layer = controller.viewer.add_labels(one.data, name=one.id, **values)  # the id is made from this name
    layer.name = name
    return layer

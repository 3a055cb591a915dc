"""What files bring along: dropped adapters go to their panel, labels remember the file of their image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from qtpy.QtCore import QTimer

from napari_sam_lora.errors import AdapterError
from napari_sam_lora.io.placement import METADATA

# What napari takes for "read, and there is nothing to show" (its null layer).
_NOTHING: list[tuple[None]] = [(None,)]
_PLUGIN, _PANEL = "napari-sam-lora", "Adapters"


def get_adapter_reader(path: str | list[str]) -> Callable[[Any], list[tuple[None]]] | None:
    """The reader of napari for adapter files, ours and those of other projects; None for what is none."""
    paths = [path] if isinstance(path, str) else list(path)
    return open_adapters if paths and all(_is_adapter(Path(one)) for one in paths) else None


def open_adapters(path: str | Sequence[str]) -> list[tuple[None]]:
    """Open the adapters panel of the current viewer and add the files there.

    Raises
    ------
    AdapterError
        If there is no viewer.
    """
    import napari  # noqa: PLC0415  a window is needed only now

    paths = [path] if isinstance(path, str) else list(path)
    viewer = napari.current_viewer()
    if viewer is None:
        raise AdapterError("Open a viewer first: adapters are added to the adapters panel of a viewer.")
    _, panel = viewer.window.add_plugin_dock_widget(_PLUGIN, _PANEL)
    for one in paths:
        # When the drop has ended: importing may ask or warn.
        QTimer.singleShot(0, partial(_import_when_loaded, panel, Path(one)))
    return _NOTHING


def placement_metadata(image: Any) -> dict[str, Any]:
    """The ``metadata`` of labels for an image layer: where the voxels of its file lie, if a reader has said it."""
    mark = image.metadata.get(METADATA)
    known = mark.get("placement") if isinstance(mark, dict) else None
    return {"metadata": {METADATA: {"placement": known}}} if known else {}


def _import_when_loaded(panel: Any, path: Path) -> None:
    """Import at once, or as soon as there is a model."""
    controller = panel.controller
    if controller.session.model is not None:
        panel.import_file(path)
        return

    def go_on() -> None:
        controller.model_changed.disconnect(go_on)
        panel.import_file(path)

    controller.model_changed.connect(go_on)
    controller.ensure_model()


def _is_adapter(path: Path) -> bool:
    """Whether a .safetensors file holds low-rank layers, by the names in it; its values are not read."""
    from safetensors import SafetensorError, safe_open  # noqa: PLC0415

    try:
        with safe_open(path, framework="np") as file:
            names = list(file.keys())
            ours = "adapter" in (file.metadata() or {})
    except (SafetensorError, OSError):
        return False
    return ours or any(name.startswith(("w_a_", "w_b_")) or "lora" in name.lower() for name in names)

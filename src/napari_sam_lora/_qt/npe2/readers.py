"""Reader of adapter files for napari: dropped files open the adapters panel and are added there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from qtpy.QtCore import QTimer

from napari_sam_lora.errors import AdapterError

# napari's null layer: the file was read and there is nothing to show.
_NULL_LAYER: list[tuple[None]] = [(None,)]
_PLUGIN, _PANEL = "napari-sam-lora", "Adapters"


def get_adapter_reader(path: str | list[str]) -> Callable[[Any], list[tuple[None]]] | None:
    """Return the reader for adapter files, ours and those of other projects; None if a file is no adapter."""
    paths = [path] if isinstance(path, str) else list(path)
    return open_adapters if paths and all(_is_adapter(Path(one)) for one in paths) else None


def open_adapters(path: str | Sequence[str]) -> list[tuple[None]]:
    """Open the adapters panel of the current viewer and add adapter files there.

    Raises
    ------
    AdapterError
        If there is no viewer.
    """
    import napari  # noqa: PLC0415 - a window is needed only here

    paths = [path] if isinstance(path, str) else list(path)
    viewer = napari.current_viewer()
    if viewer is None:
        raise AdapterError("Open a viewer first: adapter files are added in its adapters panel.", code="no-viewer")
    _, panel = viewer.window.add_plugin_dock_widget(_PLUGIN, _PANEL)
    for one in paths:
        # After the drop has ended, since importing may ask or warn.
        QTimer.singleShot(0, partial(panel.import_file, Path(one)))
    return _NULL_LAYER


def _is_adapter(path: Path) -> bool:
    """Return whether a .safetensors file holds low-rank layers, by the names of its tensors; no tensor is read."""
    from safetensors import SafetensorError, safe_open  # noqa: PLC0415

    try:
        with safe_open(path, framework="np") as file:
            names = list(file.keys())
            ours = "adapter" in (file.metadata() or {})
    except (SafetensorError, OSError):
        return False
    return ours or any(name.startswith(("w_a_", "w_b_")) or "lora" in name.lower() for name in names)

"""Fixtures of the tests with a real napari viewer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from npe2 import PluginManager, PluginManifest
from numpy.typing import NDArray
from qtpy.QtCore import QCoreApplication, QEvent
from qtpy.QtWidgets import QWidget

from napari_sam_lora import Model
from napari_sam_lora._qt.viewer.controller import Controller
from napari_sam_lora.labels import LabelledObject, find_objects
from napari_sam_lora.session import Session

WAIT_MS = 20_000
MakeController = Callable[[Any], Controller]


@pytest.fixture
def viewer(make_napari_viewer: Any) -> Any:
    """Open a real viewer; a leak of it fails the test."""
    return make_napari_viewer(strict_qt=True)


@pytest.fixture
def manifest() -> PluginManifest:
    """Read the plugin's own manifest again."""
    return PluginManifest.from_file(Path(str(files("napari_sam_lora") / "napari.yaml")))


@pytest.fixture
def registered(viewer: Any, manifest: PluginManifest) -> None:
    """Register the plugin in napari: its commands, readers, writers and samples."""
    manager = PluginManager.instance()
    if manifest.name not in manager:
        manager.register(manifest)


@pytest.fixture
def make_controller(nano: Model, qapp: Any) -> Iterator[MakeController]:
    """Make controllers whose model is already loaded."""
    made: list[Controller] = []

    def make(viewer: Any) -> Controller:
        made.append(Controller(viewer, qapp, Session(nano)))
        return made[-1]

    yield make
    for controller in made:
        controller.close()


@pytest.fixture
def controller(viewer: Any, nuclei: tuple[NDArray[Any], NDArray[Any]], make_controller: MakeController) -> Controller:
    """Make a controller of a viewer with one image of nuclei."""
    viewer.add_image(nuclei[0], name="nuclei")
    return make_controller(viewer)


@pytest.fixture
def cell(nuclei: tuple[NDArray[Any], NDArray[Any]]) -> LabelledObject:
    """Return the largest nucleus."""
    return max(find_objects(nuclei[1]), key=lambda found: found.area)


@pytest.fixture
def settle(qtbot: Any) -> Callable[[Controller], None]:
    """Wait until the preview is up to date with the prompts."""

    def wait(controller: Controller) -> None:
        qtbot.waitUntil(lambda: not controller.previews.is_waiting, timeout=WAIT_MS)

    return wait


@pytest.fixture
def put(viewer: Any) -> Iterator[Callable[[Any], Any]]:
    """Show widgets, and delete them before the viewer is closed."""
    made: list[QWidget] = []

    def show(widget: QWidget) -> QWidget:
        widget.show()
        made.append(widget)
        return widget

    yield show
    for widget in made:
        widget.close()
        widget.deleteLater()
        QCoreApplication.sendPostedEvents(widget, QEvent.Type.DeferredDelete)

"""What one viewer's panels share: the session, the layers it knows, the prompts being drawn, and their preview."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

from qtpy.QtCore import QObject, Signal
from qtpy.QtWidgets import QApplication, QWidget

from napari_sam_lora._qt.layers import unwrap
from napari_sam_lora.session import CommitPolicy, EditResult, LabelSet, MaskOptions, PlaneKey, Preview, Session

T = TypeVar("T")


def controller_of(viewer: Any) -> Controller:
    """The controller of a viewer, made when first asked for. It outlives panels and ends with the viewer's window.

    Call it on the GUI thread.
    """
    found = unwrap(viewer)
    application = QApplication.instance()
    for child in [] if application is None else application.children():
        if isinstance(child, Controller) and child.viewer is found:
            return child
    return Controller(found, application)


class Controller(QObject):
    """Ties one viewer to one `Session`. Panels connect to its signals and call its methods; they keep nothing.

    All signals come on the GUI thread, also those of work in other threads.

    Signals
    -------
    images_changed, labels_changed : ()
        The images or label layers that can be chosen, or their names.
    image_chosen : ()
        Another image layer is segmented, or none: see `image_layer`.
    target_chosen : ()
        Another Labels layer receives objects, or none: see `target_layer`.
    plane_changed : ()
        The viewer shows another plane of the image: see `plane`.
    draft_changed : ()
        The prompts of the plane.
    preview_changed : ()
        See `preview`.
    settings_changed : ()
        `options`, `policy`, batch, current object or polarity.
    objects_changed : (str)
        Objects of the Labels layer with this id: edited, painted, undone.
    message : (str)
        What the last edit did, in a sentence.
    adapters_changed, model_changed : ()
    active_changed : (str)
    busy_changed : (bool)
    progressed : (object, int, int)
        See `Session`.
    failed : (str)
        Already shown to the user as a notification.
    training_changed : (TrainingEvent)

    Attributes
    ----------
    viewer : napari.Viewer
    session : Session
    """

    images_changed = Signal()
    labels_changed = Signal()
    image_chosen = Signal()
    target_chosen = Signal()
    plane_changed = Signal()
    draft_changed = Signal()
    preview_changed = Signal()
    settings_changed = Signal()
    objects_changed = Signal(str)
    message = Signal(str)
    adapters_changed = Signal()
    model_changed = Signal()
    active_changed = Signal(str)
    busy_changed = Signal(bool)
    progressed = Signal(object, int, int)
    failed = Signal(str)
    training_changed = Signal(object)

    viewer: Any
    session: Session

    def __init__(self, viewer: Any, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.viewer = viewer

    # Layers

    @property
    def image_layer(self) -> Any | None:
        """The Image layer that is segmented; None if there is none."""
        raise NotImplementedError

    @property
    def image(self) -> str:
        """Id of `image_layer` in the session; empty for none."""
        raise NotImplementedError

    def choose_image(self, layer: Any | None) -> None:
        """Segment this Image layer."""
        raise NotImplementedError

    @property
    def target_layer(self) -> Any | None:
        """The Labels layer that receives objects; None if one will be made."""
        raise NotImplementedError

    @property
    def target(self) -> LabelSet | None:
        """The objects of `target_layer`."""
        raise NotImplementedError

    def choose_target(self, layer: Any | None) -> None:
        """Write objects into this Labels layer; None for a new one, made with the first object."""
        raise NotImplementedError

    def make_target(self) -> Any:
        """Add an empty Labels layer with the shape and transform of the image, and choose it; returns it."""
        raise NotImplementedError

    def image_layers(self) -> list[Any]:
        """Image layers that can be segmented, in the order of the layer list."""
        raise NotImplementedError

    def label_layers(self, fitting: bool = True) -> list[Any]:
        """Labels layers of the user's; by default those with the shape of the image."""
        raise NotImplementedError

    def id_of(self, layer: Any) -> str:
        """Id of an Image or Labels layer in the session; stays when it is renamed or moved. Empty if unknown."""
        raise NotImplementedError

    def layer_of(self, name: str) -> Any | None:
        """The layer with this id; None if it was removed."""
        raise NotImplementedError

    # Plane

    @property
    def plane(self) -> PlaneKey | None:
        """The plane of the image that is shown; None in 3-D, outside of the image, or without an image."""
        raise NotImplementedError

    def go_to(self, plane: PlaneKey, centre: tuple[float, ...] | None = None) -> None:
        """Show a plane of an image or label layer, with a position (data coordinates) in the middle if one is given."""
        raise NotImplementedError

    # Prompts and preview

    @property
    def options(self) -> MaskOptions:
        """How masks are made of what the model says."""
        raise NotImplementedError

    def set_options(self, **changes: Any) -> None:
        """Change fields of `options`; the preview follows."""
        raise NotImplementedError

    @property
    def policy(self) -> CommitPolicy:
        """What `commit` does."""
        raise NotImplementedError

    def set_policy(self, **changes: Any) -> None:
        """Change fields of `policy`."""
        raise NotImplementedError

    @property
    def preview(self) -> Preview | None:
        """Masks of the prompts of the plane; None if there are none, or not yet."""
        raise NotImplementedError

    def refresh_preview(self) -> None:
        """Compute the preview again, shortly; loads the default model if there is none."""
        raise NotImplementedError

    def commit(self) -> None:
        """Write the masks of the present prompts into the target, as soon as they are computed; see `message`."""
        raise NotImplementedError

    def next_object(self) -> None:
        """Let the next prompts belong to another object; what was drawn stays and is committed with it."""
        raise NotImplementedError

    def clear_prompts(self) -> None:
        """Remove the prompts of the plane."""
        raise NotImplementedError

    def bring_back(self, label: int) -> None:
        """Put the prompts of an object of the target back to be edited, and show their plane."""
        raise NotImplementedError

    # Edits

    def report(self, result: EditResult) -> None:
        """Tell panels what an edit of a `LabelSet` did, through `message`."""
        raise NotImplementedError

    def undo(self) -> None:
        """Take back the last edit of any label layer."""
        raise NotImplementedError

    def redo(self) -> None:
        """Do it again."""
        raise NotImplementedError

    # Work

    def ensure_model(self) -> None:
        """Load the default model in the background if none is loaded or being loaded."""
        raise NotImplementedError

    def load_model(self, name: str | Path, device: str = "auto", input_size: int | None = None) -> None:
        """Load a model in the background; `model_changed` or `failed` follows."""
        raise NotImplementedError

    def when_done(
        self, future: Future[T], done: Callable[[T], None], failed: Callable[[BaseException], None] | None = None
    ) -> None:
        """Call back on the GUI thread; not at all if the work was cancelled. The session reports errors anyway."""
        raise NotImplementedError

    def attach(self, panel: QWidget) -> None:
        """Call it when a panel is shown: the session is closed with the window that the panel is in."""
        raise NotImplementedError

    def close(self) -> None:
        """End all work and let go of the viewer; labels stay. Twice does no harm."""
        raise NotImplementedError

"""The parts of a controller and how they are connected."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from napari.utils.notifications import show_warning
from qtpy.QtCore import QObject, Signal
from qtpy.QtWidgets import QWidget

from napari_sam_lora._qt.choices import Choices
from napari_sam_lora._qt.drawing import Drawing
from napari_sam_lora._qt.layer_book import LayerBook
from napari_sam_lora._qt.previews import Previews
from napari_sam_lora._qt.settings import apply_preferences, preferences
from napari_sam_lora._qt.work import Work
from napari_sam_lora._qt.workers import Relay
from napari_sam_lora.errors import SamLoraError
from napari_sam_lora.model.download import cache_folder
from napari_sam_lora.session import CommitPolicy, LabelSet, PlaneKey, Session


class Hub(QObject):
    """Layers, plane and signals of a controller; the base of `Controller`, where its signals are described."""

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
    propagated = Signal(object)
    loading_changed = Signal(str)
    layers_changed = Signal()
    closed = Signal()
    tool_changed = Signal()
    preview_waits = Signal(bool)

    def __init__(self, viewer: Any, parent: QObject | None = None, session: Session | None = None) -> None:
        super().__init__(parent)
        self.viewer = viewer
        apply_preferences(preferences())
        self.session = session or Session(adapters_folder=cache_folder() / "adapters")
        self.policy = CommitPolicy()
        self.questions: list[Callable[[QWidget], bool]] = []
        self._relay = Relay(self)
        self._book = LayerBook(viewer, self.session, self)
        self._choices = Choices(viewer, self.session, self._book, self)
        self.drawing = Drawing(viewer, self.session, self._book, self._choices, self)
        self.previews = Previews(viewer, self.session, self._choices, self._relay, self)
        self.work = Work(self.session, self._relay, self)
        self._connect()

    def _connect(self) -> None:
        book, choices, drawing, previews, work = self._book, self._choices, self.drawing, self.previews, self.work
        for source, signal in (
            (book.images_changed, self.images_changed),
            (book.labels_changed, self.labels_changed),
            (book.objects_changed, self.objects_changed),
            (book.layers_changed, self.layers_changed),
            (drawing.tool_changed, self.tool_changed),
            (choices.image_chosen, self.image_chosen),
            (choices.target_chosen, self.target_chosen),
            (choices.plane_changed, self.plane_changed),
            (drawing.draft_changed, self.draft_changed),
            (drawing.settings_changed, self.settings_changed),
            (drawing.message, self.message),
            (previews.preview_changed, self.preview_changed),
            (previews.options_changed, self.settings_changed),
            (previews.waiting_changed, self.preview_waits),
            (work.adapters_changed, self.adapters_changed),
            (work.model_changed, self.model_changed),
            (work.active_changed, self.active_changed),
            (work.busy_changed, self.busy_changed),
            (work.progressed, self.progressed),
            (work.failed, self.failed),
            (work.training_changed, self.training_changed),
            (work.propagated, self.propagated),
            (work.loading_changed, self.loading_changed),
        ):
            source.connect(signal)
        drawing.draft_changed.connect(previews.follow_draft)
        previews.model_needed.connect(work.ensure_model)
        work.model_changed.connect(previews.follow_model)
        work.active_changed.connect(previews.follow_model)
        work.failed.connect(lambda _: previews.when_fresh(None))

    # Layers

    @property
    def image_layer(self) -> Any | None:
        """The Image layer that is segmented; None if there is none."""
        return self._choices.image_layer

    @property
    def image(self) -> str:
        """Id of `image_layer` in the session; empty for none."""
        return self._book.id_of(self.image_layer)

    def choose_image(self, layer: Any | None) -> None:
        """Segment this Image layer."""
        self._choices.choose_image(layer)

    @property
    def target_layer(self) -> Any | None:
        """The Labels layer that receives objects; None if one will be made."""
        return self._choices.target_layer

    @property
    def target(self) -> LabelSet | None:
        """The objects of `target_layer`."""
        return self.session.labels.get(self._book.id_of(self.target_layer))

    def choose_target(self, layer: Any | None) -> None:
        """Write objects into this Labels layer; None for a new one, made with the first object."""
        self._choices.choose_target(layer)

    def make_target(self) -> Any:
        """Add an empty Labels layer with the shape and transform of the image, and choose it; returns it."""
        return self._choices.make_target()

    def image_layers(self) -> list[Any]:
        """Image layers that can be segmented, in the order of the layer list."""
        return self._book.images()

    def label_layers(self, fitting: bool = True) -> list[Any]:
        """Labels layers of the user's; by default those with the shape of the image."""
        return self._choices.fitting() if fitting else self._book.labels()

    def id_of(self, layer: Any) -> str:
        """Id of an Image or Labels layer in the session; stays when it is renamed or moved. Empty if unknown."""
        return self._book.id_of(layer)

    def layer_of(self, name: str) -> Any | None:
        """The layer with this id; None if it was removed."""
        return self._book.layer_of(name)

    # Plane

    @property
    def plane(self) -> PlaneKey | None:
        """The plane of the image that is shown; None in 3-D, outside of the image, or without an image."""
        return self._choices.plane

    def go_to(self, plane: PlaneKey, centre: tuple[float, ...] | None = None) -> None:
        """Show a plane of an image or label layer, with a position (data coordinates) in the middle if one is given."""
        with self.told():
            self._choices.go_to(plane, centre)

    @contextmanager
    def told(self) -> Iterator[None]:
        """What goes wrong inside because of the user is shown to the user, in a notification and through `message`."""
        try:
            yield
        except SamLoraError as error:
            show_warning(str(error))
            self.message.emit(str(error))

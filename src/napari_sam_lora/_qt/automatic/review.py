"""Review the proposals of *Find everything*: step through planes, cut them again with sliders, drop some by clicks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any

import numpy as np
from qtpy.QtCore import QObject, QTimer, Signal

from napari_sam_lora._qt.automatic.image_focus import ImageFocus
from napari_sam_lora._qt.automatic.layer import ProposalLayer
from napari_sam_lora._qt.layers.coordinates import data_shape
from napari_sam_lora._qt.viewer.controller import Controller
from napari_sam_lora.session import PlaneKey, Proposal
from napari_sam_lora.session.everything.found_plane import FoundPlane, cut_again, propose
from napari_sam_lora.session.everything.run import EverythingRun

CUT_DELAY_MS = 10
CUT_OTHERS_DELAY_MS = 300
# Maps of larger planes are cut in the background only.
MOST_PIXELS_AT_ONCE = 2**21


class Review(QObject):
    """Found planes of one viewer, and the layer that shows those of the plane that the viewer shows.

    Signals
    -------
    changed : ()
        What was found, or what is dropped, has changed.

    Parameters
    ----------
    controller : Controller
    parent : QObject

    Attributes
    ----------
    findings : Findings
    layer : ProposalLayer
    is_open : bool
        Whether the user looks through what was found: clicks drop objects, and sliders cut them again.
    """

    changed = Signal()

    def __init__(self, controller: Controller, parent: QObject) -> None:
        super().__init__(parent)
        self._controller = controller
        self.findings = controller.session.everything.findings(self._propose)
        self.layer = ProposalLayer(controller.viewer, self.drop)
        self.is_open = False
        self._focus = ImageFocus(controller)
        self._values: dict[str, Any] = {}
        self._cut: EverythingRun | None = None
        self._when_cut: Callable[[bool], None] | None = None
        self._cut_timer = self._single_shot(CUT_DELAY_MS, self._cut_shown)
        self._others_timer = self._single_shot(CUT_OTHERS_DELAY_MS, self._cut_others)
        controller.events.found.connect(self._on_cut_plane)
        controller.active_layers.plane_changed.connect(self.show)
        controller.layers.labels_changed.connect(self._on_labels)
        controller.layers.objects_changed.connect(self._on_labels)

    # Collecting

    def begin(self, values: Mapping[str, Any]) -> None:
        """Start with nothing found, for a search with these fields of `InstanceConfig`."""
        self.end()
        self._values = dict(values)

    def put(self, found: FoundPlane) -> None:
        """Add a plane, or replace it by one that was cut again; errors are shown to the user."""
        with self._controller.report_errors():
            self.findings.put(found)
            if found.plane == self._controller.active_layers.plane:
                self.show()

    def open(self) -> None:
        """Let the user look through what was found, beginning with the plane that is shown if it has objects."""
        self.is_open = True
        if self._controller.active_layers.plane in self.findings.planes:
            self.show()
        else:
            self.step(1)
        self._others_timer.start()

    def end(self) -> None:
        """Forget everything, and show the layers as before."""
        self._cut_timer.stop()
        self._others_timer.stop()
        if self._cut is not None:
            self._controller.session.models.cancel("cut")
        self.is_open, self._cut, self._when_cut = False, None, None
        self.findings = self._controller.session.everything.findings(self._propose)
        if self._controller.viewer is not None:
            self.layer.remove()
            self._focus.restore()

    def restore_view(self) -> None:
        """Show and hide the images as before, while what was found stays."""
        self._focus.restore()

    def forget_image(self, image: str) -> None:
        """Forget the planes of an image that was removed."""
        self.findings.remove_image(image)
        self.show()

    # Looking through

    def step(self, by: int) -> None:
        """Show the next plane with proposals (1), or the one before (-1); after the last one comes the first."""
        planes, shown = self.findings.planes, self._controller.active_layers.plane
        if not planes:
            return
        if shown in planes:
            wanted = planes[(planes.index(shown) + by) % len(planes)]
        else:
            order = [*planes, shown] if shown is not None else planes
            images = list(dict.fromkeys(plane.image for plane in order))
            order = sorted(order, key=lambda plane: (images.index(plane.image), plane.index))
            place = order.index(shown) if shown is not None else -by
            wanted = order[(place + by) % len(order)]
        image = self._controller.layers.layer_of(wanted.image)
        if image is None:
            return
        if len(self.findings.images) > 1 or image is not self._controller.active_layers.image_layer:
            self._focus.show(image)
        self._controller.go_to(wanted)
        self.show()

    def show(self) -> None:
        """Show the proposals of the plane that the viewer shows."""
        active = self._controller.active_layers
        plane, image = active.plane, active.image_layer
        proposal = self.findings.proposal(plane)
        if plane is not None and image is not None and proposal is not None and proposal.changes:
            self.layer.show(image, plane, plane.shape(data_shape(image)), proposal, self.findings.dropped(plane))
            if self.is_open:
                self.layer.choose()
        else:
            self.layer.clear()
        found = self.findings.found(plane)
        if self.is_open and found is not None and not found.is_cut_with(self._values):
            self._cut_timer.start()
        self.changed.emit()

    def drop(self, plane: PlaneKey, pixel: tuple[int, int]) -> None:
        """Drop the object at a pixel (y, x) of a plane, or take it back in."""
        if self.is_open and self.findings.toggle(plane, pixel):
            self.show()

    # Cutting again

    @property
    def is_cutting(self) -> bool:
        """Return whether objects of other planes are being cut again, or will be soon."""
        return self._cut is not None or self._others_timer.isActive()

    def set_values(self, values: Mapping[str, Any]) -> None:
        """Cut the objects with other fields of `InstanceConfig`: in the plane that is shown at once, then in others."""
        self._values = dict(values)
        if self.is_open:
            self._cut_timer.start()
            self._others_timer.start()

    def when_cut(self, call: Callable[[bool], None]) -> None:
        """Call back once the objects of all planes are cut with the present values: with False if that failed."""
        self._when_cut = call
        self._cut_timer.stop()
        self._others_timer.stop()
        self._cut_others()

    def stop_waiting(self) -> None:
        """Do not call back."""
        self._when_cut = None

    def _cut_shown(self) -> None:
        found = self.findings.found(self._controller.active_layers.plane)
        if not self.is_open or found is None or found.maps is None or found.is_cut_with(self._values):
            return
        if found.maps[0].size <= MOST_PIXELS_AT_ONCE:
            with self._controller.report_errors():
                self.put(cut_again(found, self._values))

    def _cut_others(self) -> None:
        """Cut the objects of all planes that are not up to date, in the background; the shown one first."""
        stale = self.findings.stale(self._values) if self.is_open else []
        if self._cut is not None:
            self._cut.stop()
            self._controller.session.models.cancel("cut")
            self._cut = None
        if not stale:
            self._finish(True)
            return
        shown = self._controller.active_layers.plane
        stale.sort(key=lambda found: found.plane != shown)
        is_queued = False
        with self._controller.report_errors():
            run = self._cut = self._controller.session.everything.cut_again(stale, self._values)
            self._controller.events.when_ended(run.start(), lambda ended: self._on_cut(run, ended))
            is_queued = True
        if not is_queued:
            self._finish(False)

    def _on_cut_plane(self, run: EverythingRun, found: FoundPlane) -> None:
        if run is self._cut and self.findings.found(found.plane) is not None:
            self.put(found)
            self.changed.emit()

    def _on_cut(self, run: EverythingRun, future: Future[None]) -> None:
        if run is self._cut:
            self._cut = None
            self._finish(future.exception() is None and not run.is_unfinished)

    def _finish(self, is_complete: bool) -> None:
        call, self._when_cut = self._when_cut, None
        if call is not None:
            call(is_complete)
        self.changed.emit()

    # Labels

    def _propose(self, found: FoundPlane) -> Proposal:
        """Propose the objects of a plane that its image has no labels for."""
        controller = self._controller
        image = controller.layers.layer_of(found.plane.image)
        labels = "" if image is None else controller.layers.id_of(controller.active_layers.labels_of(image))
        if labels:
            return controller.session.everything.propose(found, labels)
        shape = (1, 1) if image is None else found.plane.shape(data_shape(image))
        return propose(found, np.zeros(shape, np.uint8))

    def _on_labels(self, *_: object) -> None:
        """Compare the plane that is shown with labels that have changed; the others are compared when accepted."""
        plane = self._controller.active_layers.plane
        if self.findings.found(plane) is not None:
            with self._controller.report_errors():
                self.findings.propose_again(plane)
                self.show()

    def _single_shot(self, milliseconds: int, call: Callable[[], None]) -> QTimer:
        timer = QTimer(self)
        timer.setSingleShot(True)
        timer.setInterval(milliseconds)
        timer.timeout.connect(call)
        return timer

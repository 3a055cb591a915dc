"""Controller of finding everything in one viewer: searches, lets the user look, and writes what is accepted."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any, Literal

from qtpy.QtCore import QObject, Signal

from napari_sam_lora._qt.automatic.image_focus import is_covered
from napari_sam_lora._qt.automatic.pace import SearchPace
from napari_sam_lora._qt.automatic.review import Review
from napari_sam_lora._qt.viewer.controller import Controller
from napari_sam_lora.session import PlaneKey
from napari_sam_lora.session.everything.found_plane import ClickSearch, FoundPlane, Search
from napari_sam_lora.session.everything.run import STEPS_PER_PLANE, EverythingRun
from napari_sam_lora.text import pluralize

State = Literal["idle", "loading", "running", "asking", "found", "accepting"]

# The user is asked before a search goes on for longer.
LONG_SECONDS = 10.0
# Planes that are searched to measure how long the others will take; one of them may have been encoded before.
MEASURED_PLANES = 2

CANCELLED = "Cancelled; nothing was changed."
CANCELLED_EARLY = "Cancelled before the last plane."
FAILED_EARLY = "An error ended the search before the last plane."
NOTHING_FOUND = "No new objects were found. Allow a lower score or stability, or use more clicks along a side."
NOTHING_IN_MAPS = "No new objects were found. Raise the sensitivity, or allow smaller objects."


def everything_controller_of(controller: Controller) -> EverythingController:
    """Return the controller of finding everything of a viewer's controller; made on first use."""
    found = controller.findChild(EverythingController)
    return found if isinstance(found, EverythingController) else EverythingController(controller)


class EverythingController(QObject):
    """Finds everything in some planes, one search at a time; the user looks through the result and accepts it.

    Signals
    -------
    changed : ()
        The state, the progress or what was found has changed.

    Parameters
    ----------
    controller : Controller

    Attributes
    ----------
    state : str
        "idle"; "loading" the model; "running"; "asking" whether to go on with a long search; "found": waiting to be
        accepted; "accepting", while objects of other planes are still being cut.
    message : str
        How the last search ended, for the user.
    review : Review
        What was found.
    pace : SearchPace
    done, total : int
        Progress of the search.
    """

    changed = Signal()

    def __init__(self, controller: Controller) -> None:
        super().__init__(controller)
        self._controller = controller
        self.state: State = "idle"
        self.message = ""
        self.review = Review(controller, self)
        self.review.changed.connect(self.changed)
        self.pace = SearchPace(controller)
        self.done = self.total = 0
        self._planes: Sequence[PlaneKey] = ()
        self._search: Search = ClickSearch()
        self._run: EverythingRun | None = None
        self._start: tuple[float, int] = 0.0, 0
        self._stop_waiting: Callable[[], None] = lambda: None
        controller.events.found.connect(self._on_found)
        controller.events.progressed.connect(self._on_progress)
        controller.layers.images_changed.connect(self._on_images)
        controller.closed.connect(self._on_closed)

    @property
    def is_busy(self) -> bool:
        """Return whether a search is going on, or what it found is neither accepted nor discarded."""
        return self.state != "idle"

    @property
    def seconds_left(self) -> float | None:
        """Estimated seconds left of the search, from the pace so far; None before the first plane is done."""
        started, done_before = self._start
        if self.done - done_before < STEPS_PER_PLANE:
            return None
        return (time.monotonic() - started) / (self.done - done_before) * (self.total - self.done)

    @property
    def planes_left(self) -> tuple[PlaneKey, ...]:
        """Planes that are not searched yet."""
        return () if self._run is None else tuple(self._planes[self._run.done :])

    def estimate_left(self) -> float:
        """Return the estimated seconds for the planes that are left, while "asking"."""
        return self.pace.estimate(self.planes_left, self._search) or 0.0

    # Searching

    def start(self, planes: Sequence[PlaneKey], choose: Callable[[], Search | None]) -> None:
        """Find everything in some planes, as soon as a model is loaded; ignored while `is_busy`.

        Parameters
        ----------
        planes : sequence of PlaneKey
        choose : callable
            Returns how to search with the loaded model; None for not at all.
        """
        if self.is_busy or not planes:
            return
        self.message = ""
        self._set("loading")
        stop = self._controller.with_model(partial(self._begin, planes, choose), self, lambda _: self._set("idle"))
        if self.state == "loading":
            self._stop_waiting = stop

    def cancel(self) -> None:
        """Stop the search; what was found until then can be accepted."""
        if self.state == "loading":
            self._stop_waiting()
            self.message = CANCELLED
            self._set("idle")
        elif self.state == "running" and self._run is not None:
            run, self._run = self._run, None
            run.stop()
            self._controller.session.models.cancel("everything")
            self._open_review(CANCELLED_EARLY, CANCELLED)
        elif self.state == "accepting":
            self.review.stop_waiting()
            self._set("found")

    def go_on(self) -> None:
        """Go on with a long search."""
        if self.state == "asking" and self._run is not None:
            self.pace.resume()
            self._follow(self._run, None)

    def take_these(self) -> None:
        """End a long search; what was found so far can be accepted."""
        if self.state == "asking":
            self._open_review("", self._explain_nothing_found())

    def _begin(self, planes: Sequence[PlaneKey], choose: Callable[[], Search | None]) -> None:
        controller, search = self._controller, choose()
        self._set("idle")
        if search is None:
            return
        controller.layers.flush()
        run = controller.session.everything.search(planes, search)
        self._planes, self._search = tuple(planes), search
        self.review.begin({} if isinstance(search, ClickSearch) else search.values)
        is_known = self.pace.estimate(planes, search) is not None
        self.pace.start(search)
        self._follow(run, None if is_known else MEASURED_PLANES)

    def _follow(self, run: EverythingRun, most: int | None) -> None:
        self._run = run
        self.done, self.total = run.done * STEPS_PER_PLANE, run.total * STEPS_PER_PLANE
        self._start = time.monotonic(), self.done
        self._set("running")
        self._controller.events.when_ended(run.start(most), lambda ended: self._on_ended(run, ended))

    def _on_found(self, run: EverythingRun, found: FoundPlane) -> None:
        if run is self._run and self._controller.layers.layer_of(found.plane.image) is not None:
            self.pace.note(found.plane)
            self.review.put(found)
            self.changed.emit()

    def _on_ended(self, run: EverythingRun, future: Future[None]) -> None:
        if run is not self._run or self.state != "running":
            return
        if future.exception() is not None:  # which the user has seen
            self._open_review(FAILED_EARLY, "")
            return
        self.pace.keep()
        if not run.is_unfinished:
            self._open_review("", self._explain_nothing_found())
        elif self.estimate_left() > LONG_SECONDS:
            self._set("asking")
        else:
            self._follow(run, None)

    def _open_review(self, message: str, nothing: str) -> None:
        """Let the user look through what was found, if anything was."""
        if self.review.findings.count():
            self.message = message
            self.state = "found"
            self.review.open()
            self._set("found")
        else:
            self.message = nothing
            self._end()

    def _explain_nothing_found(self) -> str:
        return NOTHING_FOUND if isinstance(self._search, ClickSearch) else NOTHING_IN_MAPS

    # Deciding

    def accept(self) -> None:
        """Write all objects that were not dropped, as one undo step in each label layer."""
        if self.state == "found":
            self._set("accepting")
            self.review.when_cut(self._on_all_cut)

    def discard(self) -> None:
        """Forget what was found."""
        if self.state in ("asking", "found"):
            self.message = ""
            self._end()

    def set_values(self, values: Mapping[str, Any]) -> None:
        """Cut the found objects with other fields of `InstanceConfig`."""
        if self.state == "found" and not isinstance(self._search, ClickSearch):
            self.review.set_values(values)

    def _on_all_cut(self, is_complete: bool) -> None:
        if self.state == "accepting":
            if is_complete and self._write():
                self._end()
                self._controller.message.emit(self.message)
            else:
                self._set("found")

    def _write(self) -> bool:
        """Write the objects into the labels of their images; return whether that worked."""
        controller, findings = self._controller, self.review.findings
        messages, objects, images = list[str](), 0, 0
        self.message = ""
        controller.layers.flush()
        self.review.restore_view()
        with controller.report_errors():
            findings.propose_again()
            for image in findings.images:
                layer, proposal = controller.layers.layer_of(image), findings.kept(image)
                if layer is not None and proposal.changes:
                    result = controller.session.labels[self._labels_for(layer)].apply(proposal)
                    messages.append(result.message)
                    objects, images = objects + len(result.ids), images + bool(result.ids)
            added = f"Added {pluralize(objects, 'object')} to the labels of {pluralize(images, 'image')}."
            self.message = added if len(messages) > 1 else "".join(messages)
            return True
        return False

    def _labels_for(self, image: Any) -> str:
        """Return the id of the labels of an image, which are made if there are none."""
        active = self._controller.active_layers
        labels = active.labels_of(image)
        if labels is None and image is active.image_layer:
            labels = active.make_target()
        elif labels is None:
            labels = active.make_labels(image)
            labels.visible = image.visible and not is_covered(self._controller, image)
        active.owners.pair(image, labels)
        return self._controller.layers.id_of(labels)

    def _end(self) -> None:
        self._run = None
        self.review.end()
        self._set("idle")

    # Events

    def _on_progress(self, key: Any, done: int, total: int) -> None:
        if self.state == "running" and key == ("everything",):
            self.done, self.total = done, total
            self.changed.emit()

    def _on_images(self) -> None:
        """Forget what was found in images that were removed."""
        if self.state in ("idle", "loading"):
            return
        layers, findings = self._controller.layers, self.review.findings
        gone = {plane.image for plane in findings.searched if layers.layer_of(plane.image) is None}
        for image in gone:
            self.review.forget_image(image)
        if gone and self.state in ("asking", "found") and not findings.count():
            self.message = ""
            self._end()

    def _on_closed(self) -> None:
        self._run = None
        self.review.end()
        self.state = "idle"

    def _set(self, state: State) -> None:
        self.state = state
        self.changed.emit()

"""Section of the prompt panel that propagates objects of a plane through a stack."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qtpy.compat import isalive
from qtpy.QtCore import QTimer
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import QCheckBox, QVBoxLayout, QWidget

from napari_sam_lora._qt.propagation.controller import PropagationRequest, propagation_controller_of
from napari_sam_lora._qt.propagation.doubtful_list import DoubtfulList
from napari_sam_lora._qt.propagation.parameters import propagation_form
from napari_sam_lora._qt.propagation.plane_range import PlaneRange
from napari_sam_lora._qt.propagation.progress_view import PropagationView
from napari_sam_lora._qt.viewer.controller import Controller
from napari_sam_lora._qt.viewer.preferences import RememberedSettings
from napari_sam_lora._qt.widgets.controls import Notice, button, combo_box
from napari_sam_lora._qt.widgets.layout import row
from napari_sam_lora.session import PlaneKey
from napari_sam_lora.text import pluralize

NO_IMAGE = "Open an image, or try File ▸ Open Sample ▸ SAM LoRA ▸ Nuclei in 3-D."
NO_PLANE = "Leave the 3-D view, or move to a plane of the image."
ONE_PLANE = "This image has only one plane. Open a stack of several planes (z or t) to propagate objects."
NO_OBJECTS = "There are no objects in this plane. Segment or paint one, or move to a plane with objects."
NONE_SELECTED = "Select objects in the table above, under “Objects”."
NOTHING_DRAWN = "Draw a prompt on an object first: a click, a box or a line."
ADDING_FIRST = "Adding what you are drawing first…"
DRAWN_TOO = "what you are drawing (added first)"
REVIEWED_FIRST = "You look at the result before it is added."
SCOPES = {"plane": "all of this plane", "selected": "selected ones", "drawn": "what I am drawing"}
REFRESH_AFTER_MS = 100


class PropagationBox(QWidget):
    """Form that starts a propagation; the viewer's `PropagationController` runs it.

    Parameters
    ----------
    controller : Controller
    selected : callable
        Returns the ids of the objects that are selected in the table.
    """

    def __init__(self, controller: Controller, selected: Callable[[], list[int]]) -> None:
        super().__init__()
        self._controller, self._selected = controller, selected
        self.propagation_controller = propagation_controller_of(controller)
        self._adding_on: PlaneKey | None = None  # plane whose drawn prompts are being added
        self._remembered = RememberedSettings("propagation")
        self.hint = Notice()
        self.scope = combo_box(SCOPES, "Which objects.")
        self.scope.setCurrentIndex(max(0, self.scope.findData(self._remembered.read().get("scope"))))
        self.form = propagation_form(self._remembered)
        self.form.rows.insertRow(0, "Objects", self.scope)
        self.range = PlaneRange(controller, self.form.rows, 1)
        self.redo = QCheckBox("Redo what was propagated before")
        self.redo.setToolTip(
            "On: propagate again through planes with earlier results, from everything you have drawn, painted or "
            "approved since. Off: keep the earlier results and start from them too."
        )
        self.redo.setChecked(self._remembered.read().get("redo") is not False)
        self.more = button("More settings", "Show when an object ends, and more", checkable=True)
        self.more.toggled.connect(self.form.advanced.setVisible)
        self.usual = button(
            "Usual values", "Set all values back to their defaults, and the range to the whole stack", self._reset
        )
        self.propagate = button(
            "Propagate",
            "Follow the objects from plane to plane; you look at the result before it is added",
            self._start,
        )
        self.propagate.setMinimumHeight(34)
        self.view = PropagationView(self.propagation_controller, whole_stack=False)
        self.doubtful = DoubtfulList(self.propagation_controller.doubtful)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(REFRESH_AFTER_MS)
        self._timer.timeout.connect(self.refresh)
        self._settings = QWidget()
        self._lay_out()
        self._connect()
        self.refresh()

    def _lay_out(self) -> None:
        inner = QVBoxLayout(self._settings)
        inner.setContentsMargins(0, 0, 0, 0)
        for widget in (
            self.form,
            row(self.more, self.usual),
            self.form.advanced,
            self.redo,
        ):
            inner.addWidget(widget)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for widget in (self.hint, self._settings, self.propagate, self.view, self.doubtful):
            layout.addWidget(widget)

    def _connect(self) -> None:
        controller = self._controller
        for signal in (
            controller.active_layers.image_chosen,
            controller.active_layers.target_chosen,
            controller.layers.objects_changed,
            controller.drawing.draft_changed,
            controller.previews.preview_changed,
            self.range.changed,
        ):
            signal.connect(self.refresh_soon)
        controller.active_layers.plane_changed.connect(self._on_plane)
        controller.events.failed.connect(self._on_failed)
        self.scope.activated.connect(self._on_scope)
        self.redo.toggled.connect(self._on_redo)
        self.form.edited.connect(self.refresh_soon)
        self.propagation_controller.changed.connect(self.refresh)

    def showEvent(self, event: QShowEvent | None) -> None:  # noqa: N802 - Qt's name
        """Refresh the section, which is not updated while it is folded."""
        super().showEvent(event)
        self.refresh()

    def refresh_soon(self, *_: object) -> None:
        """Refresh shortly, once for several changes in a row."""
        self._timer.start()

    # Display

    def refresh(self) -> None:
        """Show what would be propagated, or what is missing."""
        self.range.refresh()
        if not self._controller.previews.has_prompts():
            self._adding_on = None  # the prompts were cleared
        is_busy, is_adding = self.propagation_controller.is_busy, self._adding_on is not None
        is_stack = self.range.length > 1
        self._settings.setVisible(is_stack and not is_busy)
        self.propagate.setVisible(is_stack and not is_busy)
        if is_busy or not self.isVisible():  # a folded section need not read pixels
            self.hint.say("")
            return
        hint, is_ready = self._check_request()
        self.hint.say(ADDING_FIRST if is_adding else hint)
        self.propagate.setEnabled(is_ready and not is_adding)

    def _check_request(self) -> tuple[str, bool]:
        """Return a description of what would be propagated, or of what is missing, and whether it can start."""
        missing = self._missing_stack()
        ids = self._object_ids() if not missing else []
        has_drawn = self._controller.previews.has_prompts()
        missing = missing or self._missing_objects(bool(ids), has_drawn)
        scope = self.scope.currentData()
        self.redo.setVisible(not missing and scope != "drawn" and self._was_propagated(ids))
        if missing:
            return missing, False
        objects = pluralize(len(ids), "selected object" if scope == "selected" else "object") if ids else ""
        drawn = DRAWN_TOO if has_drawn and scope != "selected" else ""
        if scope == "drawn":
            objects = ""
        return self._describe_request(" and ".join(text for text in (objects, drawn) if text)), True

    def _missing_stack(self) -> str:
        if self._controller.active_layers.image_layer is None:
            return NO_IMAGE
        if self._controller.active_layers.plane is None:
            return NO_PLANE
        return ONE_PLANE if self.range.length < 2 else ""

    def _missing_objects(self, has_objects: bool, has_drawn: bool) -> str:
        scope = self.scope.currentData()
        if scope == "drawn":
            return "" if has_drawn else NOTHING_DRAWN
        if scope == "selected":
            return "" if has_objects else NONE_SELECTED
        return "" if has_objects or has_drawn else NO_OBJECTS

    def _describe_request(self, objects: str) -> str:
        first, last = self.range.bounds
        sentences = [f"Propagates {objects} through the planes {first} to {last}."]
        complete = self._count_complete(first, last)
        if complete:
            sentences.append(f"{pluralize(complete, 'plane')} marked as complete will not be changed.")
        return " ".join([*sentences, REVIEWED_FIRST])

    def _count_complete(self, first: int, last: int) -> int:
        target, plane = self._controller.target, self._controller.active_layers.plane
        if target is None or plane is None:
            return 0
        return sum(first <= index <= last for index in target.complete_along(plane, self.range.axis))

    def _object_ids(self) -> list[int]:
        """Return the ids of the objects in the plane, or of those that are selected."""
        target, plane = self._controller.target, self._controller.active_layers.plane
        if target is None or plane is None:
            return []
        return self._selected() if self.scope.currentData() == "selected" else target.ids_in(plane)

    def _was_propagated(self, ids: list[int]) -> bool:
        target = self._controller.target
        if target is None:
            return False
        wanted = set(ids)
        return any(record.id in wanted and record.propagated_planes for record in target.records())

    def _reset(self) -> None:
        self.form.reset()
        self.range.reset()
        self.redo.setChecked(True)
        self.refresh_soon()

    def _on_scope(self, *_: Any) -> None:
        self._remembered.update(scope=self.scope.currentData())
        self.refresh()

    def _on_redo(self, checked: bool) -> None:
        self._remembered.update(redo=checked)

    # Starting

    def _start(self) -> None:
        controller, scope = self._controller, self.scope.currentData()
        controller.layers.flush()
        if scope != "selected" and controller.previews.has_prompts():
            self._adding_on = controller.active_layers.plane
            controller.commit_then(self._on_added)
            self.refresh()
        elif self._check_request()[1]:
            self._propagate(tuple(self._selected()) if scope == "selected" else None)

    def _on_added(self, ids: tuple[int, ...]) -> None:
        if not isalive(self):
            return
        plane, self._adding_on = self._adding_on, None
        if ids and plane is not None and plane == self._controller.active_layers.plane:
            self._propagate(ids if self.scope.currentData() == "drawn" else None)
        self.refresh()

    def _propagate(self, ids: tuple[int, ...] | None) -> None:
        plane = self._controller.active_layers.plane
        if plane is not None:
            first, last = self.range.bounds
            values = self.form.values() | {"first": first, "last": last}
            request = PropagationRequest(plane, ids, self.range.axis, values, self.redo.isChecked())
            self.propagation_controller.start(request)

    def _on_plane(self) -> None:
        self._adding_on = None  # stop waiting for the prompts of another plane
        self.refresh_soon()

    def _on_failed(self, _: str) -> None:
        self._adding_on = None
        self.refresh_soon()

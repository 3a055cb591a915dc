"""Propagating objects of a plane through a stack."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qtpy.compat import isalive
from qtpy.QtCore import QTimer
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import QCheckBox, QVBoxLayout, QWidget

from napari_sam_lora._qt.propagation.controller import Request, propagation_controller_of
from napari_sam_lora._qt.propagation.parameters import PropagationForm
from napari_sam_lora._qt.propagation.plane_range import StackRange
from napari_sam_lora._qt.propagation.progress_view import PropagationView
from napari_sam_lora._qt.viewer.controller import Controller
from napari_sam_lora._qt.viewer.preferences import RememberedSettings
from napari_sam_lora._qt.widgets.controls import Notice, action, button, chooser, row
from napari_sam_lora.session import PlaneKey
from napari_sam_lora.text import pluralize

NO_IMAGE = "Open an image, or try File ▸ Open Sample ▸ SAM LoRA ▸ Nuclei in 3-D."
NO_PLANE = "Show a plane of the image: leave the 3-D view, or move to where the image is."
ONE_PLANE = "This image has one plane. Objects can be propagated through stacks of several planes (z or t)."
NO_OBJECTS = "No objects in this plane: prompt or paint one, or move to a plane that has some."
NONE_SELECTED = "Select objects in the table above, under “Objects”."
NOTHING_DRAWN = "Draw a prompt on an object first: a click, a box or a line."
SEEN_FIRST = "Nothing is added before you have seen it."
SCOPES = {"plane": "all of this plane", "selected": "selected ones", "drawn": "what I am drawing"}
LOOK_AFTER_MS = 100


class PropagationBox(QWidget):
    """What to propagate, and how; the propagation itself is that of the viewer's `PropagationController`.

    Parameters
    ----------
    controller : Controller
    selected : callable
        Ids of the objects that are selected in the table.
    """

    def __init__(self, controller: Controller, selected: Callable[[], list[int]]) -> None:
        super().__init__()
        self._controller, self._selected = controller, selected
        self.propagation = propagation_controller_of(controller)
        self._adding: PlaneKey | None = None
        self._remembered = RememberedSettings("propagation")
        self.hint = Notice()
        self.scope = chooser(SCOPES, "Which objects.")
        self.scope.setCurrentIndex(max(0, self.scope.findData(self._remembered.read().get("scope"))))
        self.form = PropagationForm(self._remembered)
        self.form.rows.insertRow(0, "Objects", self.scope)
        self.range = StackRange(controller, self.form.rows, 1)
        self.form.advanced.hide()
        self.redo = QCheckBox("Redo what was propagated before")
        self.redo.setToolTip(
            "Planes that were propagated before are done again, from all that you drew, painted or approved in "
            "between. Off: they are kept and used as they are."
        )
        self.redo.setChecked(self._remembered.read().get("redo") is not False)
        self.more = button("More settings", "Show what makes an object end, and more", checkable=True)
        self.more.toggled.connect(self.form.advanced.setVisible)
        self.usual = action("Usual values", "Set everything back, and take the whole stack", self._reset)
        self.propagate = action(
            "Propagate", "Take the objects from plane to plane; nothing is added before you have seen it", self._start
        )
        self.propagate.setMinimumHeight(34)
        self.view = PropagationView(self.propagation, whole_stack=False)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(LOOK_AFTER_MS)
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
        for widget in (self.hint, self._settings, self.propagate, self.view):
            layout.addWidget(widget)

    def _connect(self) -> None:
        controller = self._controller
        for signal in (
            controller.image_chosen,
            controller.target_chosen,
            controller.objects_changed,
            controller.draft_changed,
            controller.preview_changed,
            self.range.changed,
        ):
            signal.connect(self.look_soon)
        controller.plane_changed.connect(self._on_plane)
        controller.failed.connect(self._on_failed)
        self.scope.activated.connect(self._on_scope)
        self.redo.toggled.connect(self._on_redo)
        self.form.direction.activated.connect(self.look_soon)
        self.propagation.changed.connect(self.refresh)

    def showEvent(self, event: QShowEvent | None) -> None:  # noqa: N802 - Qt's name
        """Nothing was looked at while the section was folded."""
        super().showEvent(event)
        self.refresh()

    def look_soon(self, *_: object) -> None:
        """Look again at which objects there are, once several changes in a row have ended."""
        self._timer.start()

    # What is shown

    def refresh(self) -> None:
        """Show how things are."""
        self.range.refresh()
        if not self._controller.previews.has_prompts():
            self._adding = None  # they were reset
        busy, waiting = self.propagation.is_busy, self._adding is not None
        is_stack = self.range.length > 1
        self._settings.setVisible(is_stack and not busy)
        self.propagate.setVisible(is_stack and not busy)
        if busy or not self.isVisible():  # a folded section need not look at pixels
            self.hint.say("")
            return
        words, ready = self._words()
        self.hint.say("Adding what you are drawing first…" if waiting else words)
        self.propagate.setEnabled(ready and not waiting)

    def _words(self) -> tuple[str, bool]:
        """What would be done, or what is missing; and whether it can be done."""
        missing = self._missing_stack()
        there = self._there() if not missing else []
        drawn = self._controller.previews.has_prompts()
        missing = missing or self._missing_objects(bool(there), drawn)
        scope = self.scope.currentData()
        self.redo.setVisible(not missing and scope != "drawn" and self._was_propagated(there))
        if missing:
            return missing, False
        what = pluralize(len(there), "selected object" if scope == "selected" else "object") if there else ""
        added = "what you are drawing (added first)" if drawn and scope != "selected" else ""
        return self._ready(added if scope == "drawn" else " and ".join(one for one in (what, added) if one)), True

    def _missing_stack(self) -> str:
        if self._controller.image_layer is None:
            return NO_IMAGE
        if self._controller.plane is None:
            return NO_PLANE
        return ONE_PLANE if self.range.length < 2 else ""

    def _missing_objects(self, there: bool, drawn: bool) -> str:
        scope = self.scope.currentData()
        if scope == "drawn":
            return "" if drawn else NOTHING_DRAWN
        if scope == "selected":
            return "" if there else NONE_SELECTED
        return "" if there or drawn else NO_OBJECTS

    def _ready(self, what: str) -> str:
        first, last = self.range.bounds
        said = f"Propagates {what} through the planes {first} to {last}. "
        closed = self._complete(first, last)
        said += f"{pluralize(closed, 'plane')} marked as complete will not be changed. " if closed else ""
        return said + SEEN_FIRST

    def _complete(self, first: int, last: int) -> int:
        target, plane = self._controller.target, self._controller.plane
        if target is None or plane is None:
            return 0
        return sum(first <= index <= last for index in target.complete_along(plane, self.range.axis))

    def _there(self) -> list[int]:
        """The objects of the plane, or those that are selected."""
        target, plane = self._controller.target, self._controller.plane
        if target is None or plane is None:
            return []
        return self._selected() if self.scope.currentData() == "selected" else target.ids_in(plane)

    def _was_propagated(self, ids: list[int]) -> bool:
        target = self._controller.target
        if target is None:
            return False
        wanted = set(ids)
        return any(record.id in wanted and record.origins for record in target.records())

    def _reset(self) -> None:
        self.form.reset()
        self.range.reset()
        self.redo.setChecked(True)
        self.look_soon()

    def _on_scope(self, *_: Any) -> None:
        self._remembered.update(scope=self.scope.currentData())
        self.refresh()

    def _on_redo(self, checked: bool) -> None:
        self._remembered.update(redo=checked)

    # Doing it

    def _start(self) -> None:
        controller, scope = self._controller, self.scope.currentData()
        controller.flush()
        if scope != "selected" and controller.previews.has_prompts():
            self._adding = controller.plane
            controller.commit_then(self._on_added)
            self.refresh()
        elif self._words()[1]:
            self._go(tuple(self._selected()) if scope == "selected" else None)

    def _on_added(self, ids: tuple[int, ...]) -> None:
        if not isalive(self):
            return
        plane, self._adding = self._adding, None
        if ids and plane is not None and plane == self._controller.plane:
            self._go(ids if self.scope.currentData() == "drawn" else None)
        self.refresh()

    def _go(self, ids: tuple[int, ...] | None) -> None:
        plane = self._controller.plane
        if plane is not None:
            first, last = self.range.bounds
            values = self.form.values() | {"first": first, "last": last}
            self.propagation.start(Request(plane, ids, self.range.axis, values, self.redo.isChecked()))

    def _on_plane(self) -> None:
        self._adding = None  # the prompts of another plane are not waited for
        self.look_soon()

    def _on_failed(self, _: str) -> None:
        self._adding = None
        self.look_soon()

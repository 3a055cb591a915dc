"""Actions on the objects selected in the table, shared by buttons, menu and keys."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from qtpy.QtCore import QObject, Qt
from qtpy.QtGui import QAction, QKeySequence
from qtpy.QtWidgets import QPushButton

from napari_sam_lora._qt.viewer.controller import Controller
from napari_sam_lora._qt.widgets.controls import button
from napari_sam_lora.session import EditResult, LabelSet, ObjectRecord
from napari_sam_lora.text import pluralize


class ObjectActions(QObject):
    """Edit the selected objects of the target; each edit is one step of undo.

    Parameters
    ----------
    controller : Controller
    selected : callable
        Ids of the selected objects.
    parent : QObject
    """

    def __init__(self, controller: Controller, selected: Callable[[], list[int]], parent: QObject) -> None:
        super().__init__(parent)
        self._controller, self._selected = controller, selected
        self._all_approved = False
        self.delete = self._action("Delete", "Remove the selected objects (Delete)", self._delete)
        self.delete.setShortcut(QKeySequence(Qt.Key.Key_Delete))
        self.delete.setShortcutContext(Qt.ShortcutContext.WidgetShortcut)
        self.merge = self._action(
            "Merge", "Merge the selected objects into one, which keeps the lowest id", self._merge
        )
        self.split = self._action(
            "Split", "Make each separate part of the selected object an object of its own", self._split
        )
        self.approve = self._action("Approve", "", self._approve)
        self.edit = self._action(
            "Edit prompts", "Show the prompts of the selected object again, to change them and its mask", self._edit
        )

    def of_selection(self) -> list[QAction]:
        """Return the actions that need a selection."""
        return [self.delete, self.merge, self.split, self.approve, self.edit]

    def refresh(self, records: Sequence[ObjectRecord]) -> None:
        """Enable only the actions that are possible with the selected objects."""
        self.delete.setEnabled(bool(records))
        self.merge.setEnabled(len(records) > 1)
        self.split.setEnabled(len(records) == 1)
        self.edit.setEnabled(len(records) == 1 and bool(records[0].prompts))
        self._all_approved = bool(records) and all(record.approved for record in records)
        self.approve.setEnabled(bool(records))
        self.approve.setText("Unapprove" if self._all_approved else "Approve")
        self.approve.setToolTip(
            "Withdraw the approval of the selected objects"
            if self._all_approved
            else "Mark the selected objects as correct: segmenting again does not change them"
        )

    def set_approved(self, label: int, approved: bool) -> None:
        """Approve one object, or withdraw the approval."""
        self._edit_labels(lambda labels: labels.approve([label], approved))

    def set_class(self, class_id: int) -> None:
        """Give the selected objects a class; 0 for none."""
        self._edit_labels(lambda labels: labels.set_class(self._selected(), class_id))

    def _delete(self) -> None:
        self._edit_labels(lambda labels: labels.delete(self._selected()))

    def _merge(self) -> None:
        self._edit_labels(lambda labels: labels.merge(sorted(self._selected())))

    def _split(self) -> None:
        self._edit_labels(lambda labels: labels.split(self._selected()[0]))

    def _approve(self) -> None:
        approved = not self._all_approved
        self._edit_labels(lambda labels: labels.approve(self._selected(), approved))

    def _edit(self) -> None:
        with self._controller.report_errors():
            self._controller.bring_back(self._selected()[0])

    def _edit_labels(self, edit: Callable[[LabelSet], EditResult]) -> None:
        self._controller.layers.flush()
        target = self._controller.target
        if target is not None:
            with self._controller.report_errors():
                self._controller.report(edit(target))

    def _action(self, text: str, tip: str, call: Callable[[], Any]) -> QAction:
        made = QAction(text, self)
        made.setToolTip(tip)
        made.triggered.connect(lambda *_: call())
        return made


def button_of(shared: QAction) -> QPushButton:
    """Make a button that triggers an action and follows its text, tooltip and state."""
    made = button(shared.text(), shared.toolTip(), shared.trigger)

    def follow_action() -> None:
        made.setText(shared.text())
        made.setToolTip(shared.toolTip())
        made.setEnabled(shared.isEnabled())

    shared.changed.connect(follow_action)
    follow_action()
    return made


def summary(records: Sequence[ObjectRecord], selected: int, complete: int) -> str:
    """Return counts of the objects of a label image in one line."""
    counts = [pluralize(len(records), "object")]
    approved = sum(record.approved for record in records)
    painted = sum(record.origin == "painted" for record in records)
    counts += [f"{number} {word}" for number, word in ((approved, "approved"), (painted, "painted")) if number]
    counts += [f"{pluralize(complete, 'plane')} complete"] if complete else []
    counts += [f"{selected} selected"] if selected > 1 else []
    return ", ".join(counts)

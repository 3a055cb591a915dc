"""Review proposed changes one by one, in the viewer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QVBoxLayout, QWidget
from superqt.utils import signals_blocked

from napari_sam_lora._qt.finetuning.example_pictures import image_position
from napari_sam_lora._qt.prompting.preview_layer import PreviewLayer
from napari_sam_lora._qt.viewer.controller import Controller
from napari_sam_lora._qt.widgets.controls import Notice, button
from napari_sam_lora._qt.widgets.layout import row
from napari_sam_lora.regions import Region, union_box
from napari_sam_lora.session import EditResult, Proposal, ProposedChange

NOTHING_CHANGED, TAKEN_BACK = "Nothing was changed.", "The changes were undone."
KEPT, ADDED, REMOVED = 1, 2, 3
COLOURS = ("#ffffff", "#3fa7d6", "#e69f00")


class Review(QWidget):
    """Shows each proposed change in the viewer and makes those that the user ticks.

    Signals
    -------
    ended : (str)
        The review has ended: message about what was changed.

    Parameters
    ----------
    controller : Controller

    Attributes
    ----------
    results : list of EditResult
        Results of the changes that the last review made, one per labels layer.
    """

    ended = Signal(str)

    def __init__(self, controller: Controller) -> None:
        super().__init__()
        self._controller = controller
        self._proposals: list[tuple[str, Proposal]] = []
        self._changes: list[tuple[int, int, ProposedChange]] = []
        self._accepted: list[bool] = []
        self._current = 0
        self.results: list[EditResult] = []
        self._layer: PreviewLayer | None = None
        self.about = Notice()
        self.legend = Notice("In the viewer: blue pixels are added, orange ones removed, white ones stay.")
        self.back = button("◀", "The previous change", lambda: self._step(-1))
        self.forward = button("▶", "The next change", lambda: self._step(1))
        self.take = QCheckBox("Take the new one")
        self.take.setToolTip("Off: keep the old mask.")
        self.all, self.none = (
            button("Tick all", "Take the new mask of every object.", lambda: self._tick(True)),
            button("Tick none", "Keep the old mask of every object.", lambda: self._tick(False)),
        )
        self.apply = button("Take", "Make the ticked changes, as one step of undo.", self._apply)
        self.refuse = button("Keep all old", "Drop all proposed changes.", self.close_review)
        self.undo = button("Take it back", "Undo the changes, all at once.", self._undo)
        self._review_widgets = [
            self.about,
            self.legend,
            row(self.back, self.take, self.forward),
            row(self.all, self.none),
            row(self.apply, self.refuse),
        ]
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for widget in (*self._review_widgets, self.undo):
            layout.addWidget(widget)
        self.take.toggled.connect(self._on_take)
        controller.layers.labels_changed.connect(self._close_if_labels_gone)
        self._refresh()

    @property
    def is_open(self) -> bool:
        """Return whether there are changes to review."""
        return bool(self._changes)

    def open(self, proposals: Sequence[tuple[str, Proposal]]) -> None:
        """Start the review of proposals, each with the id of its labels; all changes are ticked at first."""
        self._proposals = list(proposals)
        self._changes = [
            (which, index, change)
            for which, (_, proposal) in enumerate(self._proposals)
            for index, change in enumerate(proposal.changes)
        ]
        self._accepted = [True] * len(self._changes)
        self._current, self.results = 0, []
        self._refresh()
        if self._changes:
            self._show_change()

    def close_review(self, message: str = NOTHING_CHANGED) -> None:
        """Drop the proposals and emit `ended` with a message."""
        self._proposals, self._changes, self._accepted = [], [], []
        if self._layer is not None:
            self._layer.remove()
            self._layer = None
        self._refresh()
        self.ended.emit(message)

    def _refresh(self) -> None:
        for widget in self._review_widgets:
            widget.setVisible(self.is_open)
        self.undo.setVisible(any(result.ids for result in self.results) and not self.is_open)
        if self.is_open:
            _, _, change = self._changes[self._current]
            name = f"object {change.label}" if change.label else "a new object"
            self.about.say(
                f"{self._current + 1} of {len(self._changes)}: {name}, {change.old.area} → {change.new.area} pixels, "
                f"IoU of old and new {change.iou:.2f}."
            )
            with signals_blocked(self.take):
                self.take.setChecked(self._accepted[self._current])
            self.apply.setText(f"Take {sum(self._accepted)} new")
            self.apply.setEnabled(any(self._accepted))
            self.back.setEnabled(self._current > 0)
            self.forward.setEnabled(self._current + 1 < len(self._changes))

    def _show_change(self) -> None:
        """Show the old and the new mask of the current change over the image."""
        _, _, change = self._changes[self._current]
        image = self._controller.layers.layer_of(change.plane.image)
        if image is None:
            return
        source = self._controller.session.images[change.plane.image]
        shape = change.plane.shape(source.shape)
        box = union_box((change.old, change.new))
        centre = (np.add(box[:2], box[2:]) - 1) / 2
        both = Region(box[:2], change.old.within(box) & change.new.within(box))
        masks = [(REMOVED, change.old), (ADDED, change.new), (KEPT, both)]
        self._controller.go_to(change.plane, image_position(change.plane, centre))
        if self._layer is None:
            self._layer = PreviewLayer(self._controller.viewer, "SAM old and new", COLOURS)
        self._layer.show(image, change.plane, shape, masks)

    def _step(self, by: int) -> None:
        self._current = min(max(self._current + by, 0), len(self._changes) - 1)
        self._refresh()
        self._show_change()

    def _tick(self, accepted: bool) -> None:
        self._accepted = [accepted] * len(self._changes)
        self._refresh()

    def _on_take(self, accepted: bool) -> None:
        if self.is_open:
            self._accepted[self._current] = accepted
            self._refresh()

    def _apply(self) -> None:
        """Make the ticked changes, as one step of undo in each labels layer."""
        results = []
        with self._controller.report_errors():
            self._controller.layers.flush()
            for which, (labels, proposal) in enumerate(self._proposals):
                indices = [
                    index
                    for (owner, index, _), accepted in zip(self._changes, self._accepted, strict=True)
                    if owner == which and accepted
                ]
                label_set = self._controller.session.labels.get(labels)
                if indices and label_set is not None:
                    result = label_set.apply(proposal, indices)
                    self._controller.report(result)
                    results.append(result)
        self.close_review(" ".join(result.message for result in results))
        self.results = results
        self._refresh()

    def _undo(self) -> None:
        for result in self.results:
            if result.ids:
                self._controller.undo()
        self.results = []
        self._refresh()
        self.ended.emit(TAKEN_BACK)

    def _close_if_labels_gone(self, *_: Any) -> None:
        """Close the review if one of its labels layers was removed."""
        if any(labels not in self._controller.session.labels for labels, _ in self._proposals):
            self.close_review()

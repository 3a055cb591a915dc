"""Looking through proposed changes one by one, in the viewer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QVBoxLayout, QWidget

from napari_sam_lora._qt.finetuning.example_pictures import place
from napari_sam_lora._qt.prompting.preview_layer import PreviewLayer
from napari_sam_lora._qt.viewer.controller import Controller
from napari_sam_lora._qt.widgets.controls import Notice, action, row
from napari_sam_lora.session import Proposal, ProposedChange

KEPT, ADDED, REMOVED = 1, 2, 3
COLOURS = ("#ffffff", "#3fa7d6", "#e69f00")


class Review(QWidget):
    """Shows each change in the viewer and takes those that the user ticks.

    Signals
    -------
    ended : (str)
        What was changed, in words.

    Parameters
    ----------
    controller : Controller
    """

    ended = Signal(str)

    def __init__(self, controller: Controller) -> None:
        super().__init__()
        self._controller = controller
        self._proposals: list[tuple[str, Proposal]] = []
        self._changes: list[tuple[int, int, ProposedChange]] = []
        self._accepted: list[bool] = []
        self._at = 0
        self._applied = 0
        self._layer: PreviewLayer | None = None
        self.about = Notice()
        self.legend = Notice("In the viewer: blue is added, orange is taken away, white stays.")
        self.back = action("◀", "The change before", lambda: self._step(-1))
        self.forward = action("▶", "The next change", lambda: self._step(1))
        self.take = QCheckBox("Take the new one")
        self.take.setToolTip("Off: the old one stays.")
        self.all, self.none = (
            action("Tick all", "Take every new one.", lambda: self._tick(True)),
            action("Tick none", "Keep every old one.", lambda: self._tick(False)),
        )
        self.apply = action("Take", "Make the changes that are ticked, as one step.", self._apply)
        self.refuse = action("Keep all old", "Forget what was proposed.", self.close_review)
        self.undo = action("Take it back", "Take back what was changed, in one go.", self._undo)
        self._open_parts = [
            self.about,
            self.legend,
            row(self.back, self.take, self.forward),
            row(self.all, self.none),
            row(self.apply, self.refuse),
        ]
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for widget in (*self._open_parts, self.undo):
            layout.addWidget(widget)
        self.take.toggled.connect(self._on_take)
        controller.labels_changed.connect(self._drop_lost)
        self._refresh()

    @property
    def is_open(self) -> bool:
        """Whether there are changes to look through."""
        return bool(self._changes)

    def open(self, proposals: Sequence[tuple[str, Proposal]]) -> None:
        """Look through proposals, each with the id of its labels; all are ticked at first."""
        self._proposals = list(proposals)
        self._changes = [
            (which, number, change)
            for which, (_, proposal) in enumerate(self._proposals)
            for number, change in enumerate(proposal.changes)
        ]
        self._accepted = [True] * len(self._changes)
        self._at, self._applied = 0, 0
        self._refresh()
        if self._changes:
            self._show_change()

    def close_review(self, said: str = "Nothing was changed.") -> None:
        """Forget what was proposed."""
        self._proposals, self._changes, self._accepted = [], [], []
        if self._layer is not None:
            self._layer.remove()
            self._layer = None
        self._refresh()
        self.ended.emit(said)

    def _refresh(self) -> None:
        for widget in self._open_parts:
            widget.setVisible(self.is_open)
        self.undo.setVisible(bool(self._applied) and not self.is_open)
        if self.is_open:
            _, _, change = self._changes[self._at]
            what = f"object {change.label}" if change.label else "a new object"
            self.about.say(
                f"{self._at + 1} of {len(self._changes)}: {what}, {change.old.area} → {change.new.area} pixels, "
                f"{100 * change.iou:.0f} % the same."
            )
            self.take.blockSignals(True)
            self.take.setChecked(self._accepted[self._at])
            self.take.blockSignals(False)
            self.apply.setText(f"Take {sum(self._accepted)} new")
            self.apply.setEnabled(any(self._accepted))
            self.back.setEnabled(self._at > 0)
            self.forward.setEnabled(self._at + 1 < len(self._changes))

    def _show_change(self) -> None:
        """Old and new in the viewer, over the image."""
        _, _, change = self._changes[self._at]
        image = self._controller.layer_of(change.plane.image)
        if image is None:
            return
        source = self._controller.session.images[change.plane.image]
        shape = change.plane.shape(source.shape)
        old, new = change.old.to_mask(shape), change.new.to_mask(shape)
        ids = np.zeros(shape, np.uint16)
        ids[old & new], ids[new & ~old], ids[old & ~new] = KEPT, ADDED, REMOVED
        box = np.argwhere(ids)
        centre = (box.min(0) + box.max(0)) / 2
        self._controller.go_to(change.plane, place(change.plane, centre))
        if self._layer is None:
            self._layer = PreviewLayer(self._controller.viewer, "SAM old and new", COLOURS)
        self._layer.show(image, change.plane, ids)

    def _step(self, by: int) -> None:
        self._at = min(max(self._at + by, 0), len(self._changes) - 1)
        self._refresh()
        self._show_change()

    def _tick(self, accepted: bool) -> None:
        self._accepted = [accepted] * len(self._changes)
        self._refresh()

    def _on_take(self, accepted: bool) -> None:
        if self.is_open:
            self._accepted[self._at] = accepted
            self._refresh()

    def _apply(self) -> None:
        """One step of each label layer."""
        applied, said = 0, []
        with self._controller.report_errors():
            self._controller.flush()
            for which, (labels, proposal) in enumerate(self._proposals):
                numbers = [
                    number
                    for (one, number, _), accepted in zip(self._changes, self._accepted, strict=True)
                    if one == which and accepted
                ]
                known = self._controller.session.labels.get(labels)
                if numbers and known is not None:
                    result = known.apply(proposal, numbers)
                    self._controller.report(result)
                    applied += bool(result.ids)
                    said.append(result.message)
        self.close_review(" ".join(said))
        self._applied = applied
        self._refresh()

    def _undo(self) -> None:
        for _ in range(self._applied):
            self._controller.undo()
        self._applied = 0
        self._refresh()
        self.ended.emit("Taken back.")

    def _drop_lost(self, *_: Any) -> None:
        """Forget the review if one of its label layers is gone."""
        if any(labels not in self._controller.session.labels for labels, _ in self._proposals):
            self.close_review()

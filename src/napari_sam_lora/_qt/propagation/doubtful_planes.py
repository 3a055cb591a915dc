"""Doubtful planes of the propagations in one viewer: which there are, and the way to the next."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from qtpy.QtCore import QObject, Signal

from napari_sam_lora._qt.propagation.layer import PropagationLayer
from napari_sam_lora._qt.viewer.controller import Controller
from napari_sam_lora.session import DoubtfulMask, LabelSet

NONE = "No plane is doubtful."
DOUBTS = {
    "size": "is much larger than in its key planes",
    "intensity": "has other intensities than in its key plane",
}


class DoubtfulPlanes(QObject):
    """Doubtful masks of the proposal, or of what was accepted and nobody has corrected, approved or undone since.

    Signals
    -------
    changed : ()

    Parameters
    ----------
    controller : Controller
    layer : PropagationLayer
        Preview of the proposal; objects that the user has left out there are left out here.
    parent : QObject
    """

    changed = Signal()

    def __init__(self, controller: Controller, layer: PropagationLayer, parent: QObject) -> None:
        super().__init__(parent)
        self._controller, self._layer = controller, layer
        self._proposed: tuple[DoubtfulMask, ...] = ()
        self._accepted: tuple[DoubtfulMask, ...] = ()
        self._labels: LabelSet | None = None
        controller.next_doubtful_wanted.connect(self.go_to_next)
        controller.layers.objects_changed.connect(self._on_objects)

    def masks(self) -> list[DoubtfulMask]:
        """List the doubtful masks in the order of their planes."""
        if self._proposed:
            found = [one for one in self._proposed if one.label not in self._layer.dropped]
        else:
            found = [one for one in self._accepted if self._is_unchecked(one)]
        return sorted(found, key=lambda one: (one.plane, one.label))

    def propose(self, masks: Sequence[DoubtfulMask]) -> None:
        """List these masks until the proposal is accepted or discarded."""
        self._proposed = tuple(masks)
        self.changed.emit()

    def accept(self, labels: LabelSet, accepted: Collection[int]) -> None:
        """Keep the proposed masks of accepted objects, instead of those that earlier propagations of these had."""
        others = self._accepted if labels is self._labels else ()
        kept = [one for one in others if one.label not in accepted]
        self._accepted = (*kept, *(one for one in self._proposed if one.label in accepted))
        self._labels = labels
        self.propose(())

    def go_to(self, mask: DoubtfulMask) -> None:
        """Show the plane of a mask and select its object, so that prompts replace it there."""
        controller = self._controller
        centre = np.zeros(mask.plane.ndim)
        centre[list(mask.plane.axes)] = np.mean([mask.region.box[:2], mask.region.box[2:]], axis=0)
        controller.go_to(mask.plane, tuple(centre))
        target = controller.active_layers.target_layer
        if target is not None:
            target.selected_label = mask.label
            controller.object_wanted.emit(mask.label)
        controller.message.emit(f"{describe(mask)}.")

    def go_to_next(self) -> None:
        """Go to the next doubtful plane after the one that is shown; after the last one, to the first."""
        masks, shown = self.masks(), self._controller.active_layers.plane
        if not masks:
            self._controller.message.emit(NONE)
            return
        is_same_view = shown is not None and shown.axes == masks[0].plane.axes
        after = [one for one in masks if is_same_view and shown is not None and one.plane.index > shown.index]
        self.go_to((after or masks)[0])

    def _is_unchecked(self, mask: DoubtfulMask) -> bool:
        """Return whether the mask is still in the labels as propagation left it."""
        labels = self._labels
        if labels is None or not any(labels is one for one in self._controller.session.labels.values()):
            return False
        if not mask.plane.is_in(labels.store.shape) or mask.label not in labels.ids_in(mask.plane):
            return False
        record = labels.record(mask.label)
        return record.origin_in(mask.plane) == "propagated" and not record.approved

    def _on_objects(self, _: str) -> None:
        if self._accepted:
            self.changed.emit()


def describe(mask: DoubtfulMask) -> str:
    """Return where a mask is, and why it is doubtful."""
    return f"Plane {mask.position}: object {mask.label} {DOUBTS[mask.doubt]}"

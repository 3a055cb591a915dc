"""Correction of the selected object in the shown plane: a mask that lies on it replaces it there."""

from __future__ import annotations

from collections.abc import Callable

from qtpy.QtCore import QObject

from napari_sam_lora._qt.viewer.controller import Controller
from napari_sam_lora.session import CommitPolicy


class Correction(QObject):
    """Offers, once for the prompts of a plane, to replace the selected object where the mask shows it again.

    Without it, a mask inside an object that is too large would find no free pixel. The offer is withdrawn when the mask
    or the selection changes to something else. It is not made if the user has chosen what the mask becomes, or lets new
    objects overwrite others.

    Parameters
    ----------
    controller : Controller
    selected : callable
        Returns the ids of the objects that are selected in the table.
    parent : QObject
    """

    def __init__(self, controller: Controller, selected: Callable[[], list[int]], parent: QObject) -> None:
        super().__init__(parent)
        self._controller, self._selected = controller, selected
        self._offered: CommitPolicy | None = None
        self._was_declined = False
        controller.previews.preview_changed.connect(self.follow)
        controller.policy_changed.connect(self._on_policy)

    def follow(self, *_: object) -> None:
        """Make or withdraw the offer for the present mask and selection."""
        controller = self._controller
        if controller.previews.preview is None:
            was_offered = self._offered is not None
            self._offered, self._was_declined = None, False
            if was_offered:
                controller.stop_replacing()
            return
        label = self._object_under_mask()
        if self._offered is None:
            is_default = controller.policy.target == "new" and not controller.policy.overwrite
            if label and is_default and not self._was_declined:
                controller.offer_to_replace(label)
                self._offered = controller.policy
        elif label != self._offered.label:
            self._offered = None
            controller.stop_replacing()

    def _object_under_mask(self) -> int:
        """Return the selected object if the mask lies on it; 0 for none."""
        preview, target, selected = self._controller.previews.preview, self._controller.target, self._selected()
        if preview is None or target is None or len(selected) != 1:
            return 0
        return selected[0] if target.lies_on(preview, selected[0]) else 0

    def _on_policy(self) -> None:
        """Respect another choice of the user."""
        if self._offered is not None and self._controller.policy != self._offered:
            self._offered, self._was_declined = None, True

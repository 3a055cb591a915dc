"""Progress bar that stands still while the amount of work is not known."""

from __future__ import annotations

from qtpy.QtWidgets import QProgressBar

UNKNOWN = "…"


class WorkBar(QProgressBar):
    """Progress bar that shows "…" instead of a moving stripe for the range 0 to 0.

    Qt draws that stripe up to 60 times a second. With a software renderer (remote desktops, virtual screens) this took
    60 to 75 % of a core, which the work itself needs.
    """

    def setRange(self, minimum: int, maximum: int) -> None:  # noqa: N802 - Qt's name
        """Set the range; 0 to 0 means that the amount of work is not known."""
        is_known = maximum > minimum
        super().setRange(minimum, maximum if is_known else minimum + 1)
        self.setFormat("%p%" if is_known else UNKNOWN)
        if not is_known:
            self.setValue(minimum)

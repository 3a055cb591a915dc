"""Progress bars of unknown work."""

from __future__ import annotations

from typing import Any

import pytest
from qtpy.QtCore import QEvent, QObject

from napari_sam_lora._qt.widgets.work_bar import UNKNOWN, WorkBar


class _Paints(QObject):
    """Count how often a widget is drawn."""

    count = 0

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # type: ignore[override, unused-ignore] # noqa: N802
        self.count += event.type() == QEvent.Type.Paint
        return False


@pytest.mark.parametrize("style", ["", "QProgressBar::chunk { background: red; }"])
def test_a_bar_of_unknown_work_stands_still(qtbot: Any, style: str) -> None:
    bar, paints = WorkBar(), _Paints()
    qtbot.addWidget(bar)
    bar.setStyleSheet(style)
    bar.setRange(0, 0)
    bar.show()
    qtbot.waitExposed(bar)
    qtbot.wait(50)
    bar.installEventFilter(paints)
    qtbot.wait(200)  # a moving stripe is drawn about ten times
    assert paints.count == 0
    assert bar.text() == UNKNOWN


def test_it_shows_the_share_of_known_work(qtbot: Any) -> None:
    bar = WorkBar()
    qtbot.addWidget(bar)
    bar.setRange(0, 0)
    bar.setRange(0, 4)
    bar.setValue(1)
    assert (bar.maximum(), bar.text()) == (4, "25%")

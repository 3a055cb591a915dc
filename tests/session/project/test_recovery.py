"""Recovery of sessions that ended before they were saved as a project."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from napari_sam_lora.session import ArrayStore, Session
from napari_sam_lora.session.project.recovery import KEPT, Recovery
from napari_sam_lora.session.project.saver import ProjectSaver

from ..helpers import SOON


def _work(folder: Path, name: str) -> None:
    session = Session()
    session.labels.add(name, ArrayStore(np.ones((8, 8), np.uint8)))
    assert ProjectSaver(session, folder, delay=0).close(SOON)
    session.close(SOON)


def test_a_session_that_was_closed_is_offered_as_such(tmp_path: Path) -> None:
    recovery = Recovery(tmp_path)
    folder = recovery.begin()
    _work(folder, "cells")
    assert recovery.unfinished() == []
    recovery.leave(folder)
    (offered,) = recovery.unfinished()
    assert offered.folder == folder
    assert offered.closed
    assert "cells" in offered.question


def test_the_last_sessions_that_were_closed_are_kept_and_any_that_was_killed(tmp_path: Path) -> None:
    recovery = Recovery(tmp_path)
    killed, first, *others = (recovery.begin() for _ in range(KEPT + 2))
    for folder in (killed, first, *others):
        _work(folder, folder.name)
    killed.with_suffix(".owner").unlink()
    recovery.leave(others[-1])
    recovery.leave(first)
    for folder in others[:-1]:
        recovery.leave(folder)
    kept = {one.folder for one in recovery.unfinished()}
    assert kept == {killed, first, *others[:-1]}  # the order of closing counts, not that of beginning
    assert not others[-1].exists()


def test_a_session_that_was_closed_without_labels_leaves_nothing(tmp_path: Path) -> None:
    recovery = Recovery(tmp_path)
    folder = recovery.begin()
    session = Session()
    assert ProjectSaver(session, folder, delay=0).close(SOON)
    session.close(SOON)
    recovery.leave(folder)
    assert list(tmp_path.iterdir()) == []


def test_a_session_that_is_continued_is_not_offered(tmp_path: Path) -> None:
    recovery = Recovery(tmp_path)
    folder = recovery.begin()
    _work(folder, "cells")
    recovery.leave(folder)
    recovery.adopt(folder)
    assert recovery.unfinished() == []

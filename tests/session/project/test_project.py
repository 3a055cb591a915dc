"""Projects: what is saved is there again, whatever happens to the program."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from error_codes import raises
from numpy.typing import NDArray

from napari_sam_lora import Adapter, Model
from napari_sam_lora.errors import InputError
from napari_sam_lora.session import ArraySource, ArrayStore, MaskOptions, ObjectClass, PlaneKey, Session
from napari_sam_lora.session.project.folder import read_manifest
from napari_sam_lora.session.project.loader import open_project, restore
from napari_sam_lora.session.project.recovery import Recovery
from napari_sam_lora.session.project.saver import ProjectSaver
from napari_sam_lora.session.project.snapshot import Extras

from ..helpers import SOON, make_preview, rectangle

PLANE = PlaneKey.of("stack", 3, (1,))
SHAPE = (4, 40, 50)


@pytest.fixture
def session() -> Iterator[Session]:
    """Open a session with a stack and empty labels, without a model."""
    made = _session()
    yield made
    assert made.close(SOON)


def _session(labels: bool = True) -> Session:
    made = Session()
    made.add_image("stack", ArraySource(np.zeros(SHAPE, np.uint8), "my stack", (2, 1, 1)))
    if labels:
        made.labels.add("cells/1", ArrayStore(np.zeros(SHAPE, np.int32)), [ObjectClass(2, "nucleus", (1, 0.5, 0))])
    return made


def _commit(session: Session, *box: int, plane: PlaneKey = PLANE) -> None:
    session.prompts.commit(make_preview(rectangle((40, 50), *box)[None], plane))


def _labels_of(session: Session) -> NDArray[Any]:
    return session.labels["cells/1"].store.data  # type: ignore[attr-defined]


def _reopened(folder: Path) -> Session:
    again = _session(labels=False)
    assert restore(open_project(folder), again) == ()
    return again


@pytest.fixture
def saver(session: Session, tmp_path: Path) -> Iterator[ProjectSaver]:
    made = ProjectSaver(session, tmp_path / "my project", delay=0)
    yield made
    made.close(SOON)


def test_a_project_without_adapters_is_brought_back_without_torch(saver: ProjectSaver, session: Session) -> None:
    _commit(session, 2, 3, 12, 20)
    assert saver.flush(SOON)
    code = (
        "import sys; from pathlib import Path; from napari_sam_lora.session import Session\n"
        "from napari_sam_lora.session.project.loader import open_project, restore\n"
        "session = Session(); restore(open_project(Path(sys.argv[1])), session)\n"
        "print(len(session.labels['cells/1'].records()), 'torch' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(saver.folder)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "1 False\n"


def test_everything_of_a_session_is_there_again(session: Session, saver: ProjectSaver) -> None:
    cells = session.labels["cells/1"]
    _commit(session, 2, 3, 12, 20)
    _commit(session, 20, 20, 30, 44, plane=PLANE.neighbour(2))
    cells.set_class([1], 2)
    cells.approve([2])
    cells.mark_complete(PLANE)
    for kind, data in (
        ("box", [1, 2, 9, 8]),
        ("lasso", [[1, 1], [1, 9], [9, 9]]),
        ("scribble", [[2, 2], [5, 6]]),
        ("point", [4, 4]),
    ):
        session.prompts.add(PLANE, kind, data)  # type: ignore[arg-type]
    session.prompts.batch = True
    saver.save()  # on demand: what no event tells of is saved too
    assert saver.flush(SOON)

    again = _reopened(saver.folder)
    np.testing.assert_array_equal(_labels_of(again), _labels_of(session))
    assert _labels_of(again).dtype == np.int32
    found, wanted = again.labels["cells/1"], cells
    assert found.classes == wanted.classes
    assert found.complete_planes == wanted.complete_planes
    assert [(r.id, r.class_id, r.origin, r.approved) for r in found.records()] == [
        (r.id, r.class_id, r.origin, r.approved) for r in wanted.records()
    ]
    for one, two in zip(found.records(), wanted.records(), strict=True):
        assert one.score == pytest.approx(two.score)
        assert one.prompts.keys() == two.prompts.keys()
        for plane, stored in one.prompts.items():
            (item,), (other,) = stored[0].row, two.prompts[plane][0].row
            assert stored[0].options == two.prompts[plane][0].options == MaskOptions()
            assert item.region is not None
            assert other.region is not None
            np.testing.assert_array_equal(item.region.to_mask((40, 50)), other.region.to_mask((40, 50)))
    before, after = session.prompts.draft(PLANE).rows()[0], again.prompts.draft(PLANE).rows()[0]
    assert [(item.kind, item.positive) for item in after] == [(item.kind, item.positive) for item in before]
    for new, old in zip(after, before, strict=True):
        np.testing.assert_array_equal(new.coordinates, old.coordinates)
    assert again.prompts.batch
    assert again.labels.target == "cells/1"
    again.close(SOON)


def test_the_manifest_can_be_read_by_a_person(session: Session, saver: ProjectSaver) -> None:
    _commit(session, 2, 3, 12, 20)
    assert saver.flush(SOON)
    text = (saver.folder / "project.json").read_text("utf-8")
    assert text.count("\n") > 20
    manifest = read_manifest(saver.folder)
    assert manifest["format"] == "napari-sam-lora project"
    assert manifest["images"][0]["name"] == "my stack"
    (labels,) = manifest["labels"]
    assert labels["id"] == "cells/1"
    assert list(labels["planes"]) == ["1"]  # empty planes have no file
    plane = tifffile.imread(saver.folder / labels["folder"] / labels["planes"]["1"])
    np.testing.assert_array_equal(plane, _labels_of(session)[1])


def test_painting_undo_and_other_views_are_saved_and_old_files_go(session: Session, saver: ProjectSaver) -> None:
    cells, data = session.labels["cells/1"], _labels_of(session)
    _commit(session, 2, 3, 12, 20)
    cells.watch(PLANE)
    data[1, 30:35, 30:35] = 7
    cells.note_painted(PLANE)
    side = PlaneKey.of("stack", 3, (25,), axes=(0, 2))
    session.prompts.commit(make_preview(rectangle((4, 50), 0, 40, 3, 45)[None], side))
    cells.undo()
    session.prompts.commit(make_preview(rectangle((4, 50), 0, 40, 2, 45)[None], side))
    assert saver.flush(SOON)
    again = _reopened(saver.folder)
    np.testing.assert_array_equal(_labels_of(again), data)
    again.close(SOON)
    files = [path.name for path in (saver.folder / "labels").rglob("*.*") if path.is_file()]
    assert len(files) == 2 + 1  # planes 0 and 1, and the objects
    cells.delete([record.id for record in cells.records()])
    assert saver.flush(SOON)
    assert not list((saver.folder / "labels").rglob("*.tif"))


def test_only_planes_that_changed_are_written(session: Session, saver: ProjectSaver) -> None:
    _commit(session, 2, 3, 12, 20)
    assert saver.flush(SOON)
    (first,) = read_manifest(saver.folder)["labels"]
    _commit(session, 2, 3, 12, 20, plane=PLANE.neighbour(1))
    assert saver.flush(SOON)
    (second,) = read_manifest(saver.folder)["labels"]
    assert second["planes"]["1"] == first["planes"]["1"]
    assert set(second["planes"]) == {"1", "2"}


def test_what_was_painted_in_planes_that_are_not_shown_is_saved_when_asked(
    session: Session, saver: ProjectSaver
) -> None:
    data = _labels_of(session)
    _commit(session, 2, 3, 12, 20)
    assert saver.flush(SOON)
    data[:, 30, 30] = 6  # by a script: nobody told the session
    saver.save()
    assert saver.flush(SOON)
    np.testing.assert_array_equal(open_project(saver.folder).labels[0].data, data)


def test_a_burst_of_edits_is_saved_together(session: Session, tmp_path: Path) -> None:
    saved: list[int] = []
    saver = ProjectSaver(session, tmp_path / "p", delay=1000)
    saver.saved.connect(saved.append)
    assert saver.flush(SOON)
    for row in range(10):
        _commit(session, 3 * row, 3, 3 * row + 2, 20)
    saver.tick()
    assert saver.flush(SOON)
    assert len(saved) <= 2
    assert saver.close(SOON)
    again = _reopened(tmp_path / "p")
    np.testing.assert_array_equal(_labels_of(again), _labels_of(session))
    again.close(SOON)


def test_a_project_is_continued(session: Session, saver: ProjectSaver) -> None:
    _commit(session, 2, 3, 12, 20)
    assert saver.close(SOON)
    again = _reopened(saver.folder)
    second = ProjectSaver(again, saver.folder, delay=0)
    _commit(again, 20, 3, 30, 20)
    assert second.close(SOON)
    third = _reopened(saver.folder)
    assert [record.id for record in third.labels["cells/1"].records()] == [1, 2]
    again.close(SOON)
    third.close(SOON)


def test_a_folder_of_other_things_and_another_project_are_refused(session: Session, tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"x")
    with raises(InputError, "folder-not-empty"):
        ProjectSaver(session, tmp_path)
    saver = ProjectSaver(session, tmp_path / "p")
    assert saver.close(SOON)
    empty = _session(labels=False)
    with raises(InputError, "other-project", match="cells/1"):
        ProjectSaver(empty, tmp_path / "p")
    assert open_project(tmp_path / "p").labels[0].id == "cells/1"
    empty.close(SOON)


def test_a_full_disk_is_reported_and_nothing_is_lost_when_there_is_room_again(
    session: Session, saver: ProjectSaver, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages: list[str] = []
    saver.failed.connect(messages.append)
    _commit(session, 2, 3, 12, 20)
    assert saver.flush(SOON)
    with monkeypatch.context() as full:

        def fail(*_: Any) -> None:
            raise OSError(28, "No space left on device")

        full.setattr("napari_sam_lora.files.os.replace", fail)
        _commit(session, 20, 3, 30, 20, plane=PLANE.neighbour(1))
        assert not saver.flush(SOON)
        assert "No space" in messages[-1]
        assert open_project(saver.folder).labels[0].data[2].max() == 0
    _commit(session, 32, 3, 36, 20)
    assert saver.flush(SOON)
    np.testing.assert_array_equal(open_project(saver.folder).labels[0].data, _labels_of(session))


def test_images_are_kept_by_reference_and_found_where_they_are_now(session: Session, tmp_path: Path) -> None:
    image = tmp_path / "données" / "cells 1.tif"
    image.parent.mkdir()
    tifffile.imwrite(image, np.zeros(SHAPE, np.uint8))
    saver = ProjectSaver(session, tmp_path / "p", Extras(image_path=lambda _: image))
    assert saver.close(SOON)
    found = open_project(tmp_path / "p").images[0]
    assert (found.state, found.path, found.question) == ("same", image, "")

    other = tmp_path / "other"
    other.mkdir()
    moved = image.rename(other / image.name)
    assert open_project(tmp_path / "p").images[0].state == "missing"
    assert str(image) in open_project(tmp_path / "p").questions[0]
    found = open_project(tmp_path / "p", also=[other]).images[0]
    assert (found.state, found.path) == ("moved", moved)

    tifffile.imwrite(moved, np.ones(SHAPE, np.uint8))
    found = open_project(tmp_path / "p", also=[other]).images[0]
    assert found.state == "changed"
    assert str(moved) in found.question


def test_a_project_and_its_images_can_be_moved_together(session: Session, tmp_path: Path) -> None:
    image = tmp_path / "work" / "a.tif"
    image.parent.mkdir()
    tifffile.imwrite(image, np.zeros(SHAPE, np.uint8))
    saver = ProjectSaver(session, tmp_path / "work" / "p", Extras(image_path=lambda _: image))
    assert saver.close(SOON)
    (tmp_path / "work").rename(tmp_path / "archive")
    found = open_project(tmp_path / "archive" / "p").images[0]
    assert found.path == tmp_path / "archive" / "a.tif"
    assert found.state == "moved"


def test_adapters_and_the_active_one_come_along(small: Model, adapter: Adapter, tmp_path: Path) -> None:
    session = Session(small)
    session.models.adapters.add(adapter, "nuclei")
    session.models.activate("nuclei")
    saver = ProjectSaver(session, tmp_path / "p", delay=0)
    assert saver.close(SOON)
    manifest = read_manifest(tmp_path / "p")
    assert manifest["model"]["hash"] == small.loaded.weights_hash
    assert manifest["active"] == "nuclei"
    again = Session(small)
    assert restore(open_project(tmp_path / "p"), again) == ()
    assert again.models.adapters.get("nuclei").key == adapter.key
    session.close(SOON)
    again.close(SOON)


def test_a_viewer_that_closes_does_not_empty_its_project(session: Session, tmp_path: Path) -> None:
    session.labels.add("more", ArrayStore(np.ones(SHAPE, np.uint8)))
    session.labels.target = "cells/1"
    saver = ProjectSaver(session, tmp_path / "p", delay=1000)
    _commit(session, 2, 3, 12, 20)
    for name in list(session.labels):
        session.labels.remove(name)
    saver.tick()
    saver.close(SOON)
    project = open_project(tmp_path / "p")
    assert {one.id for one in project.labels} == {"cells/1", "more"}
    assert project.labels[0].data.any()


def test_a_label_image_that_was_removed_is_not_brought_back(session: Session, saver: ProjectSaver) -> None:
    session.labels.add("more", ArrayStore(np.ones(SHAPE, np.uint8)))
    session.labels.remove("more")
    saver.save()
    assert saver.flush(SOON)
    assert {one.id for one in open_project(saver.folder).labels} == {"cells/1"}


def test_a_damaged_plane_is_reported_and_the_others_are_there(session: Session, saver: ProjectSaver) -> None:
    _commit(session, 2, 3, 12, 20)
    _commit(session, 2, 3, 12, 20, plane=PLANE.neighbour(1))
    assert saver.flush(SOON)
    (labels,) = read_manifest(saver.folder)["labels"]
    (saver.folder / labels["folder"] / labels["planes"]["1"]).write_bytes(b"II")
    project = open_project(saver.folder)
    assert len(project.problems) == 1
    assert "Plane 1" in project.problems[0]
    assert project.labels[0].data[2].any()


@pytest.mark.parametrize(
    ("content", "code"),
    [
        ("", "file-not-readable"),
        ("{", "file-not-readable"),
        ("[]", "not-a-manifest"),
        ('{"format": "x"}', "not-a-manifest"),
        ('{"format": "napari-sam-lora project", "version": 9}', "unknown-manifest-version"),
        ('{"format": "napari-sam-lora project", "version": 1}', "manifest-incomplete"),
    ],
)
def test_what_is_no_project_is_refused(tmp_path: Path, content: str, code: str) -> None:
    with raises(InputError, "manifest-not-found"):
        open_project(tmp_path)
    (tmp_path / "project.json").write_text(content)
    with raises(InputError, code, match=r"project\.json"):
        open_project(tmp_path)


def _in_a_child(work: Callable[[int], None]) -> tuple[int, int]:
    """Run something in a process of its own; return its number and the end of a pipe that it writes to."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        try:
            work(write)
        finally:
            os._exit(1)
    os.close(write)
    return child, read


# Windows has neither fork nor SIGKILL, so this way of dying cannot be made there; files are written in the same way.
@pytest.mark.skipif(
    sys.platform == "win32", reason="the killed process is made with fork and SIGKILL, which Windows lacks"
)
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_program_killed_at_any_moment_loses_no_label_that_was_saved(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(50):
        folder = tmp_path / str(number)

        def work(pipe: int, folder: Path = folder) -> None:
            session = _session()
            saver = ProjectSaver(session, folder, delay=0)
            for count in range(1, 300):
                row, column = divmod(count - 1, 12)
                _commit(session, row, 4 * column, row + 1, 4 * column + 3)
                assert saver.flush(SOON)
                os.write(pipe, bytes([count % 256]))

        child, pipe = _in_a_child(work)
        acknowledged = os.read(pipe, 1)
        time.sleep(float(rng.uniform(0, 0.03)))
        os.kill(child, signal.SIGKILL)
        while part := os.read(pipe, 4096):
            acknowledged += part
        os.waitpid(child, 0)
        os.close(pipe)
        project = open_project(folder)
        assert project.problems == ()
        there = set(np.unique(project.labels[0].data)) - {0}
        assert set(range(1, len(acknowledged) + 1)) <= there
        assert {one["id"] for one in project.labels[0].objects["objects"]} == there


def test_a_session_that_ended_before_its_time_is_offered_and_one_that_was_closed_is_not(
    session: Session, tmp_path: Path
) -> None:
    recovery = Recovery(tmp_path / "sessions")
    assert recovery.unfinished() == []
    folder = recovery.begin()
    saver = ProjectSaver(session, folder, delay=0)
    _commit(session, 2, 3, 12, 20)
    assert saver.close(SOON)
    assert recovery.unfinished() == []  # this process runs
    folder.with_suffix(".owner").write_text('{"pid": 1, "started": 1.0}')  # another process has its number now
    (offered,) = recovery.unfinished()
    assert offered.folder == folder
    assert not offered.closed
    assert "cells/1" in offered.question
    assert "my stack" in offered.question
    again = _reopened(offered.folder)
    assert _labels_of(again).any()
    again.close(SOON)
    recovery.end(offered.folder)
    assert recovery.unfinished() == []
    assert list((tmp_path / "sessions").iterdir()) == []


def test_sessions_without_labels_are_not_offered(tmp_path: Path) -> None:
    recovery = Recovery(tmp_path)
    folders = [recovery.begin() for _ in range(2)]
    empty = _session()
    assert ProjectSaver(empty, folders[0]).close(SOON)
    empty.close(SOON)
    for folder in folders:
        folder.with_suffix(".owner").unlink()
    assert recovery.unfinished() == []
    assert not any(folder.exists() for folder in folders)

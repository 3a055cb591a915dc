"""Segmenting again, the review of proposed changes, and folders of files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from error_codes import raises
from numpy.typing import NDArray

from napari_sam_lora._qt.adapters.panel import AdaptersPanel
from napari_sam_lora._qt.adapters.resegmentation import NO_LABELS, NOTHING_CHANGES
from napari_sam_lora._qt.viewer.controller import Controller
from napari_sam_lora.batch.files import plan_folder
from napari_sam_lora.errors import InputError
from napari_sam_lora.io.images import read_labels
from napari_sam_lora.labels import find_objects
from napari_sam_lora.session import CommitPolicy, PlaneKey

from ..tuning import SOON_MS, open_labelled, random_adapter

PLANE = PlaneKey.of("nuclei", 2)
Pair = tuple[NDArray[np.uint8], NDArray[np.uint8]]


@pytest.fixture
def controller(viewer: Any, nuclei: Pair) -> Iterator[Controller]:
    yield from open_labelled(viewer, nuclei[0], np.zeros_like(nuclei[1]))


@pytest.fixture
def panel(controller: Controller) -> AdaptersPanel:
    made = AdaptersPanel(controller.viewer)
    controller.viewer.window.add_dock_widget(made)
    return made


def _prompt(controller: Controller, nuclei: Pair, count: int = 3) -> None:
    """Commit the largest nuclei from boxes."""
    found = sorted(find_objects(nuclei[1]), key=lambda one: -one.area)[:count]
    for number, one in enumerate(found):
        controller.session.prompts.add(PLANE, "box", one.box, obj=number)
    preview = controller.session.prompts.preview(PLANE).result(SOON_MS)
    controller.session.prompts.commit(preview, CommitPolicy(), next(iter(controller.session.labels)))
    controller.session.models.adapters.add(random_adapter(), "a")


def _open(qtbot: Any, panel: AdaptersPanel, button: Any) -> None:
    button.click()
    qtbot.waitUntil(lambda: panel.resegment.review.is_open, timeout=SOON_MS)


def _pixels(panel: AdaptersPanel) -> NDArray[Any]:
    return np.array(panel.controller.viewer.layers["cells"].data)


def test_nothing_to_segment_again_is_shown(qtbot: Any, panel: AdaptersPanel) -> None:
    panel.resegment.replay.click()
    qtbot.waitUntil(lambda: NOTHING_CHANGES in panel.resegment.state.text(), timeout=SOON_MS)
    assert not panel.resegment.is_busy
    panel.controller.viewer.layers.remove("cells")
    assert not panel.resegment.replay.isEnabled()
    assert panel.resegment.state.text() == NO_LABELS


def test_prompts_are_replayed_with_the_adapter_and_taken_back_in_one_step(
    qtbot: Any, panel: AdaptersPanel, nuclei: Pair
) -> None:
    box = panel.resegment
    _prompt(panel.controller, nuclei)
    before = _pixels(panel)
    panel.controller.session.models.activate("a")
    _open(qtbot, panel, box.replay)
    assert np.array_equal(_pixels(panel), before), "nothing is changed before the review"
    assert "SAM old and new" in panel.controller.viewer.layers
    assert box.review.apply.text() == f"Take {len(box.review._changes)} new"
    box.review.apply.click()
    assert not np.array_equal(_pixels(panel), before)
    assert "SAM old and new" not in panel.controller.viewer.layers
    (result,) = box.review.results
    assert result.code == "changed"
    assert box.state.text() == result.message
    (labels,) = panel.controller.session.labels.values()
    assert {record.adapter for record in labels.records() if record.origin == "re-segmented"} == {"a"}
    box.review.undo.click()
    assert np.array_equal(_pixels(panel), before)


def test_old_or_new_is_chosen_object_by_object(qtbot: Any, panel: AdaptersPanel, nuclei: Pair) -> None:
    review = panel.resegment.review
    _prompt(panel.controller, nuclei)
    before = _pixels(panel)
    panel.controller.session.models.activate("a")
    _open(qtbot, panel, panel.resegment.replay)
    changes = [change for _, _, change in review._changes]
    assert len(changes) > 1
    review.none.click()
    assert not review.apply.isEnabled()
    review.forward.click()
    assert f"object {changes[1].label}" in review.about.text()
    review.take.setChecked(True)
    review.apply.click()
    after = _pixels(panel)
    changed = set(np.unique(before[before != after])) | set(np.unique(after[before != after]))
    assert changed <= {0, changes[1].label}
    assert not np.array_equal(before, after)


def test_refusing_changes_nothing(qtbot: Any, panel: AdaptersPanel, nuclei: Pair) -> None:
    _prompt(panel.controller, nuclei)
    before = _pixels(panel)
    panel.controller.session.models.activate("a")
    _open(qtbot, panel, panel.resegment.replay)
    panel.resegment.review.refuse.click()
    assert np.array_equal(_pixels(panel), before)
    assert "SAM old and new" not in panel.controller.viewer.layers
    assert panel.resegment.replay.isEnabled()


def test_painted_and_approved_objects_stay_as_they_are(qtbot: Any, panel: AdaptersPanel, nuclei: Pair) -> None:
    _prompt(panel.controller, nuclei)
    controller, layer = panel.controller, panel.controller.viewer.layers["cells"]
    (labels,) = controller.session.labels.values()
    first, second, third = (record.id for record in labels.records())
    labels.approve([first])
    ys, xs = np.nonzero(layer.data == second)
    layer.data_setitem((ys[:5], xs[:5]), 0)
    controller.layers.flush()
    controller.session.models.activate("a")
    panel.resegment.replay.click()
    qtbot.waitUntil(lambda: not panel.resegment.is_busy, timeout=SOON_MS)
    assert sum(proposal.left_alone for _, proposal in panel.resegment._proposals) == 2
    assert {change.label for _, _, change in panel.resegment.review._changes} <= {third}


def test_labels_without_prompts_are_refined_from_their_box(qtbot: Any, panel: AdaptersPanel, nuclei: Pair) -> None:
    layer = panel.controller.viewer.layers["cells"]
    rough = max(find_objects(nuclei[1]), key=lambda one: one.area)
    y0, x0, y1, x1 = rough.box
    wanted = nuclei[1] == rough.label
    square = np.zeros_like(wanted)
    square[y0 - 4 : y1 + 4, x0 - 4 : x1 + 4] = True
    layer.data_setitem(np.nonzero(square), 5)
    panel.controller.layers.flush()
    _open(qtbot, panel, panel.resegment.refine)
    panel.resegment.review.apply.click()
    found = _pixels(panel) == 5
    assert (found & wanted).sum() / (found | wanted).sum() > (square & wanted).sum() / (square | wanted).sum()


def test_all_open_images_are_segmented_again_one_after_the_other(
    qtbot: Any, panel: AdaptersPanel, nuclei: Pair
) -> None:
    viewer, session = panel.controller.viewer, panel.controller.session
    _prompt(panel.controller, nuclei)
    viewer.add_image(nuclei[0][:200, :220], name="other")
    viewer.add_labels(nuclei[1][:200, :220].astype(np.int32), name="other cells")
    session.models.activate("a")
    panel.resegment.scope.setCurrentIndex(panel.resegment.scope.findData("all"))
    _open(qtbot, panel, panel.resegment.refine)
    assert {name for name, _ in panel.resegment.review._proposals} == {"other cells"}, "the others have prompts"
    viewer.layers.remove("other cells")
    assert not panel.resegment.review.is_open, "labels that were removed are not reviewed"


def _write_images(folder: Path, nuclei: Pair) -> None:
    folder.mkdir()
    tifffile.imwrite(folder / "one.tif", nuclei[0][:96, :96])
    tifffile.imwrite(folder / "two.tif", np.stack([nuclei[0][:64, :64]] * 2))
    (folder / "three.png").write_bytes(b"damaged")


def test_a_folder_is_segmented_and_failures_are_named(
    qtbot: Any, panel: AdaptersPanel, nuclei: Pair, tmp_path: Path
) -> None:
    _write_images(tmp_path / "images", nuclei)
    panel.controller.session.models.adapters.add(random_adapter(), "a")
    panel.controller.session.models.activate("a")
    panel.folder.images.setText(str(tmp_path / "images"))
    panel.folder.output.setText(str(tmp_path / "labels"))
    panel.folder.start.click()
    assert not panel.folder.working.isHidden()
    qtbot.waitUntil(panel.folder.working.isHidden, timeout=SOON_MS)
    assert read_labels(tmp_path / "labels" / "one.tif").shape == (96, 96)
    assert read_labels(tmp_path / "labels" / "two.tif").shape == (2, 64, 64)
    assert "2 images" in panel.folder.state.text()
    assert "three.png" in panel.folder.state.text()


def test_a_cancelled_folder_leaves_no_part_of_a_file(
    qtbot: Any, panel: AdaptersPanel, nuclei: Pair, tmp_path: Path
) -> None:
    _write_images(tmp_path / "images", nuclei)
    panel.folder.images.setText(str(tmp_path / "images"))
    panel.folder.output.setText(str(tmp_path / "labels"))
    panel.folder.start.click()
    panel.folder.cancel.click()
    assert "Cancelled" in panel.folder.state.text()
    assert panel.folder.start.isEnabled()
    qtbot.waitUntil(lambda: not panel.finetuning_controller._thread.is_busy, timeout=SOON_MS)
    for path in (tmp_path / "labels").glob("*"):
        read_labels(path)


def test_labels_beside_their_images_are_not_taken_for_images(tmp_path: Path, nuclei: Pair) -> None:
    _write_images(tmp_path / "images", nuclei)
    folder = tmp_path / "images"
    (folder / "three.png").unlink()
    targets = plan_folder(folder, folder)
    assert [target.name for target in targets.values()] == ["one_labels.tif", "two_labels.tif"]
    for target in targets.values():
        tifffile.imwrite(target, nuclei[1])
    assert plan_folder(folder, folder) == targets
    with raises(InputError, "folder-not-found", match="none"):
        plan_folder(tmp_path / "none", folder)

"""The fine-tune widget in a real viewer, with real runs of a few steps."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from error_codes import raises
from numpy.typing import NDArray
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QMessageBox

from napari_sam_lora import Adapter
from napari_sam_lora._qt.finetuning.panel import FinetunePanel
from napari_sam_lora._qt.finetuning.presets import PRESETS
from napari_sam_lora._qt.finetuning.training_set import APPROVE_ALL, NOTHING_INCLUDED, TICK_DONE, find_pairs
from napari_sam_lora._qt.finetuning.training_table import NO_LABELS
from napari_sam_lora._qt.finetuning.verdict import ON_ONE_IMAGE, TITLES
from napari_sam_lora._qt.viewer.close_guards import AFTER_MS, ask_to_discard_training, main_window_of
from napari_sam_lora._qt.viewer.controller import Controller, controller_of
from napari_sam_lora.cli import main
from napari_sam_lora.errors import InputError
from napari_sam_lora.io.samples import nuclei_pair
from napari_sam_lora.parameters.training import TrainConfig
from napari_sam_lora.regions import Region
from napari_sam_lora.session import ArraySource, PlaneKey
from napari_sam_lora.session.plane_key import Box
from napari_sam_lora.training.data.samples import image_key
from napari_sam_lora.training.training_set import CheckedOn

from ..helpers import add_box, dense
from ..tuning import (
    CHECKED,
    FAST,
    LONG,
    SOON_MS,
    at_first_step,
    finish,
    open_labelled,
    random_adapter,
    small_model,
    train,
    weights,
)

PLANE = PlaneKey.of("nuclei", 2)
Pair = tuple[NDArray[np.uint8], NDArray[np.uint8]]


@pytest.fixture
def controller(viewer: Any, nuclei: Pair) -> Iterator[Controller]:
    yield from open_labelled(viewer, *nuclei)


@pytest.fixture
def panel(controller: Controller) -> FinetunePanel:
    return docked(controller.viewer)


def docked(viewer: Any) -> FinetunePanel:
    made = FinetunePanel(viewer)
    viewer.window.add_dock_widget(made)
    return made


def test_an_empty_viewer_shows_what_to_do(qtbot: Any, viewer: Any) -> None:
    panel = docked(viewer)
    assert not panel.table.empty.isHidden()
    assert panel.table.empty.text() == NO_LABELS
    assert not panel.run.start.isEnabled()
    assert panel.verdict.isHidden()
    panel.controller.close()


def test_labels_are_found_with_their_image_and_can_be_left_out(qtbot: Any, panel: FinetunePanel, nuclei: Pair) -> None:
    (pair,) = panel.finetuning_controller.pairs()
    objects = len(np.unique(nuclei[1])) - 1
    assert (pair.image_name, pair.labels_name, pair.planes, pair.objects) == ("nuclei", "cells", 1, objects)
    finetuning = panel.finetuning_controller
    finetuning.count()  # a panel that is shown does it by itself
    qtbot.waitUntil(lambda: finetuning.counts is not None, timeout=SOON_MS)
    counts = finetuning.counts
    assert counts is not None
    assert counts.labelled == objects > counts.learned > 0
    assert panel.run.start.text() == f"Fine-tune on {counts.learned} objects"
    assert panel.run.counts.text() == f"{counts}."
    item = panel.table.table.item(0, 0)
    assert item is not None
    item.setCheckState(Qt.CheckState.Unchecked)
    assert panel.finetuning_controller.included() == []
    assert not panel.run.start.isEnabled()
    assert NOTHING_INCLUDED in panel.table.warnings.text()


def test_labels_that_are_painted_or_added_appear_by_themselves(qtbot: Any, panel: FinetunePanel) -> None:
    viewer = panel.controller.viewer
    before = panel.finetuning_controller.pairs()[0].objects
    viewer.layers["cells"].data_setitem((np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])), 999)
    qtbot.waitUntil(lambda: panel.finetuning_controller.pairs()[0].objects == before + 1)
    viewer.add_labels(np.ones((5, 5), np.int32), name="of nothing")
    qtbot.waitUntil(lambda: panel.table.table.rowCount() == 2)
    assert len(panel.finetuning_controller.included()) == 1, "labels without an image cannot be learned from"


def _add_prompted_object(panel: FinetunePanel) -> None:
    """Add a prompted object to all pixels that have no label; nobody has checked it."""
    session = panel.controller.session
    session.prompts.add(PLANE, "box", [0, 0, 12, 12])
    preview = session.prompts.preview(PLANE).result(SOON_MS)
    everywhere = replace(preview.masks[0], region=Region((0, 0), np.ones(preview.shape, bool)))
    session.prompts.commit(replace(preview, masks=(everywhere,)), labels=next(iter(session.labels)))


def test_objects_that_nobody_checked_can_be_left_out(qtbot: Any, panel: FinetunePanel) -> None:
    session = panel.controller.session
    (labels,) = session.labels.values()
    painted = len(labels.records())
    _add_prompted_object(panel)
    assert len(labels.records()) == painted + 1
    panel.table.checked.setChecked(True)
    assert panel.finetuning_controller.pairs()[0].objects == painted
    assert len(np.unique(panel.finetuning_controller.snapshot()[0].labels)) == painted + 1, "and the background"
    counts = session.training.counter(TrainConfig(), only_checked=True)()
    assert (counts.unchecked, counts.labelled) == (1, painted + 1)
    (made,) = {record.id for record in labels.records() if record.origin == "prompted"}
    labels.approve([made])
    qtbot.waitUntil(lambda: panel.finetuning_controller.pairs()[0].objects == painted + 1)


def test_all_planes_of_labels_can_be_marked_as_complete(panel: FinetunePanel) -> None:
    item = panel.table.table.item(0, 4)
    assert item is not None
    item.setCheckState(Qt.CheckState.Checked)
    (labels,) = panel.controller.session.labels.values()
    assert labels.complete_planes == {PLANE.on("")}
    assert panel.controller.session.training.planes()[0].complete


def test_the_panel_says_what_find_everything_needs_to_learn(qtbot: Any, panel: FinetunePanel) -> None:
    (labels,) = panel.controller.session.labels.values()
    _add_prompted_object(panel)
    assert len([one for one in labels.records() if not one.is_checked]) == 1
    hint = panel.table.hint
    assert hint.text() == TICK_DONE
    done = panel.table.table.item(0, 4)
    assert done is not None
    done.setCheckState(Qt.CheckState.Checked)
    assert hint.isHidden()
    panel.table.checked.setChecked(True)
    assert hint.text() == APPROVE_ALL
    labels.approve([one.id for one in labels.records()])
    qtbot.waitUntil(hint.isHidden)
    labels.mark_complete(PLANE, False)
    qtbot.waitUntil(lambda: hint.text() == TICK_DONE)
    panel.finetuning_controller.set_values({"dense": False})
    assert hint.isHidden()
    panel.finetuning_controller.set_values({"complete": True})
    assert hint.isHidden()


def test_training_through_the_widget_keeps_an_adapter_and_shows_the_verdict(qtbot: Any, panel: FinetunePanel) -> None:
    panel.finetuning_controller.set_values(dict(CHECKED))
    finetuning = panel.finetuning_controller
    finetuning.count()  # a panel that is shown does it by itself
    qtbot.waitUntil(lambda: finetuning.counts is not None, timeout=SOON_MS)
    promised = finetuning.counts
    assert promised is not None
    panel.run.name.setText("my: nuclei")
    qtbot.mouseClick(panel.run.start, Qt.MouseButton.LeftButton)
    assert panel.finetuning_controller.is_running
    assert not panel.form_box.isEnabled()
    event = finish(qtbot, panel.finetuning_controller)
    assert event.state == "ended", event.message
    assert event.report is not None
    assert event.adapter == "my_ nuclei"
    assert not event.activated
    assert panel.controller.session.models.active == ""
    assert len(panel.finetuning_controller.curve.losses) >= 3
    assert panel.form_box.isEnabled()
    assert event.report.reason == panel.verdict.reason.text()
    assert panel.verdict.counts.text() == f"{event.report.counts}."
    assert promised == replace(event.report.counts, checked=promised.checked)
    qtbot.waitUntil(lambda: len(panel.verdict.examples.buttons) == 3, timeout=SOON_MS)
    viewer = panel.controller.viewer
    camera = getattr(viewer, "scene", viewer).camera
    centre = camera.center
    panel.verdict.examples.buttons[0].click()
    assert camera.center != centre


def test_an_adapter_that_is_not_better_can_be_used_anyway(qtbot: Any, panel: FinetunePanel) -> None:
    event = train(qtbot, panel.controller, FAST)
    assert event.report is not None
    assert event.report.verdict == "too few", "nothing was held out"
    assert panel.controller.session.models.active == ""
    assert panel.verdict.use.text() == "Use it anyway"
    panel.verdict.use.click()
    assert panel.controller.session.models.active == event.adapter
    assert panel.verdict.use.text() == "Stop using it"
    panel.verdict.use.click()
    assert panel.controller.session.models.active == ""


def test_an_adapter_that_is_better_on_one_image_is_offered_with_a_comparison(qtbot: Any, panel: FinetunePanel) -> None:
    event = train(qtbot, panel.controller, FAST)
    assert event.report is not None
    models, box = panel.controller.session.models, panel.verdict
    titles: dict[CheckedOn, str] = {"one image": ON_ONE_IMAGE, "other images": TITLES["better"]}
    for checked_on, title in titles.items():
        report = replace(event.report, verdict="better", checked_on=checked_on)
        panel.finetuning_controller.latest = replace(event, report=report)
        panel.finetuning_controller.run_changed.emit()
        assert box.title.text() == f"{event.adapter}: {title}"
        assert box.compare.isHidden() == report.use_at_once == (checked_on == "other images")
        assert box.use.text() == "Use it"
    assert models.active == ""
    box.compare.click()
    assert models.active == event.adapter
    box.compare.click()
    assert models.active == ""


def test_painting_and_prompting_meanwhile_do_not_change_the_run_nor_the_masks(qtbot: Any, panel: FinetunePanel) -> None:
    session, layer = panel.controller.session, panel.controller.viewer.layers["cells"]
    session.prompts.add(PLANE, "box", [40, 60, 70, 95])
    before = session.prompts.preview(PLANE).result(SOON_MS)
    alone = train(qtbot, panel.controller, FAST | {"steps": 6}, "alone")
    panel.finetuning_controller.start("meanwhile")
    during = session.prompts.preview(PLANE).result(SOON_MS)
    layer.data_setitem(np.nonzero(layer.data), 0)
    meanwhile = finish(qtbot, panel.finetuning_controller)
    assert (alone.state, meanwhile.state) == ("ended", "ended")
    assert np.array_equal(dense(during), dense(before))
    assert [one.score for one in during.masks] == [one.score for one in before.masks]
    assert session.models.adapters.get("meanwhile").key == session.models.adapters.get("alone").key


def test_stopping_keeps_what_was_learned(qtbot: Any, panel: FinetunePanel) -> None:
    panel.finetuning_controller.set_values(dict(LONG))
    panel.run.start.click()
    at_first_step(qtbot, panel.finetuning_controller, panel.run.stop.click)
    event = finish(qtbot, panel.finetuning_controller)
    assert event.state == "ended"
    assert len(panel.controller.session.models.adapters.entries()) == 1


def test_discarding_leaves_every_bit_as_it_was(qtbot: Any, panel: FinetunePanel) -> None:
    before = weights(small_model())
    panel.finetuning_controller.set_values(dict(LONG))
    panel.run.start.click()
    at_first_step(qtbot, panel.finetuning_controller, panel.run.discard.click)
    assert finish(qtbot, panel.finetuning_controller).state == "discarded"
    assert panel.controller.session.models.adapters.entries() == ()
    after = weights(small_model())
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert panel.finetuning_controller.latest is not None
    assert panel.run.state.text() == panel.finetuning_controller.latest.message != ""


def test_pausing_and_going_on(qtbot: Any, panel: FinetunePanel) -> None:
    panel.finetuning_controller.set_values(FAST | {"steps": 40})
    panel.run.start.click()
    at_first_step(qtbot, panel.finetuning_controller, panel.run.pause.click)
    qtbot.waitUntil(lambda: panel.run.pause.text() == "Go on", timeout=SOON_MS)
    panel.run.pause.click()
    assert finish(qtbot, panel.finetuning_controller).state == "ended"


def test_deleting_the_image_and_the_labels_does_not_end_the_run(qtbot: Any, panel: FinetunePanel) -> None:
    panel.finetuning_controller.set_values(FAST | {"steps": 10})
    panel.run.start.click()
    at_first_step(qtbot, panel.finetuning_controller, panel.controller.viewer.layers.clear)
    event = finish(qtbot, panel.finetuning_controller)
    assert event.state == "ended", event.message
    qtbot.waitUntil(lambda: not panel.run.start.isEnabled())


def test_a_closed_panel_leaves_the_run_alone_and_a_new_one_shows_it(qtbot: Any, controller: Controller) -> None:
    window = controller.viewer.window
    panel = FinetunePanel(controller.viewer)
    dock = window.add_dock_widget(panel, name="Fine-tune")
    panel.finetuning_controller.set_values(dict(LONG))
    panel.run.start.click()
    at_first_step(qtbot, panel.finetuning_controller, lambda: window.remove_dock_widget(dock))
    again = docked(controller.viewer)
    assert again.finetuning_controller.is_running
    assert not again.run.stop.isHidden()
    again.run.discard.click()
    assert finish(qtbot, again.finetuning_controller).state == "discarded"


@pytest.mark.parametrize(("answer", "state"), [("go on", "running"), ("stop", "ended"), ("discard", "discarded")])
def test_a_panel_that_is_closed_during_a_run_asks_what_becomes_of_it(
    qtbot: Any, controller: Controller, monkeypatch: pytest.MonkeyPatch, answer: str, state: str
) -> None:
    questions: list[int] = []

    def ask(window: object) -> str:
        questions.append(1)
        return answer

    monkeypatch.setattr("napari_sam_lora._qt.viewer.close_guards.ask_about_training", ask)
    panel = FinetunePanel(controller.viewer)
    finetuning_controller, window = panel.finetuning_controller, controller.viewer.window
    dock = window.add_dock_widget(panel)
    finetuning_controller.set_values(dict(LONG))
    panel.run.start.click()
    at_first_step(qtbot, finetuning_controller, lambda: finetuning_controller.close_guard.check_soon(panel))
    qtbot.wait(2 * AFTER_MS)
    assert questions == [], "it was hidden by another tab only"
    finetuning_controller.close_guard.check_soon(panel)
    window.remove_dock_widget(dock)
    qtbot.waitUntil(lambda: questions == [1], timeout=SOON_MS)
    if state == "running":
        assert finetuning_controller.is_running
        controller.session.training.discard()
    event = finish(qtbot, finetuning_controller)
    assert state in ("running", event.state)


def test_training_can_go_on_from_an_adapter_that_was_chosen(qtbot: Any, panel: FinetunePanel) -> None:
    combo = panel.form.resume_from
    assert [combo.itemText(index) for index in range(combo.count())] == ["the base model"]
    session = panel.controller.session
    session.models.adapters.add(random_adapter(), "earlier")
    session.models.adapters.add(random_adapter(1, "0" * 16, "vit_b"), "foreign")
    assert [combo.itemText(index) for index in range(combo.count())] == ["the base model", "earlier"]
    combo.setCurrentIndex(1)
    combo.activated.emit(1)
    event = train(qtbot, panel.controller, FAST | {"learning_rate": 1e-12})
    assert event.state == "ended", event.message
    assert session.models.adapters.get(event.adapter).info.lora == session.models.adapters.get("earlier").info.lora
    session.models.remove_adapter("earlier")
    assert panel.finetuning_controller.resume_from == "", "an adapter that was removed cannot be gone on from"


@pytest.mark.parametrize("answer", [False, True])
def test_closing_the_window_while_training_asks_and_ends_cleanly(
    qtbot: Any, controller: Controller, monkeypatch: pytest.MonkeyPatch, answer: bool
) -> None:
    questions: list[int] = []

    def ask(window: object) -> bool:
        questions.append(1)
        return answer

    monkeypatch.setattr("napari_sam_lora._qt.viewer.controller.ask_to_discard_training", ask)
    panel = docked(controller.viewer)
    controller.attach(panel)
    session = controller.session
    panel.finetuning_controller.set_values(dict(LONG))
    panel.run.start.click()
    window: Any = controller.viewer if answer else main_window_of(panel)
    at_first_step(qtbot, panel.finetuning_controller, window.close)
    assert questions == [1]
    job = session.training.job
    assert job is not None
    if answer:
        qtbot.waitUntil(lambda: job.event.is_final, timeout=SOON_MS)
        assert job.event.state == "discarded"
    else:
        assert panel.finetuning_controller.is_running
        session.training.discard()
        finish(qtbot, panel.finetuning_controller)


def test_the_question_of_a_closing_window_names_the_button_that_keeps_what_was_learned(
    panel: FinetunePanel, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def question(window: object, title: str, text: str) -> QMessageBox.StandardButton:
        asked.append(text)
        return QMessageBox.StandardButton.No

    monkeypatch.setattr(QMessageBox, "question", question)
    assert not ask_to_discard_training(panel)
    assert f"“{panel.run.stop.text()}”" in asked[0]


def test_labels_of_two_like_images_belong_to_the_image_below_them(viewer: Any) -> None:
    image, labels = nuclei_pair(3)
    viewer.add_image(image, name="image a")
    viewer.add_labels(labels.astype(np.int32), name="cells a")
    viewer.add_image(image, name="image b")
    viewer.add_labels(labels.astype(np.int32), name="cells b")
    controller = controller_of(viewer)
    pairs = find_pairs(controller, {}, only_checked=False)
    images = {controller.layers.id_of(one): one.name for one in controller.layers.images()}
    assert [images[pair.image] for pair in pairs] == ["image a", "image b"]
    controller.close()


def test_the_gate_refuses_an_adapter_that_learned_from_wrong_labels(qtbot: Any, viewer: Any) -> None:
    image, labels = (pixels[:250] for pixels in nuclei_pair(3))  # of a shape of its own, so that they are a pair
    viewer.add_image(image, name="nuclei 3")
    viewer.add_labels(labels.astype(np.int32), name="cells 3")
    controller = next(open_labelled(viewer, *nuclei_pair(4)))
    controller.session.training.hold_out([image_key(image)])
    plane = PlaneKey.of("", 2, ())
    stores = [own.store for own in controller.session.labels.values()]
    (trained_on,) = (store for store in stores if store.read(plane).shape != labels.shape)
    shuffled = np.random.default_rng(0).permutation(np.asarray(trained_on.read(plane)).ravel())
    trained_on.write(plane, np.ones(trained_on.read(plane).shape, np.bool_), shuffled)
    event = train(qtbot, controller, CHECKED | {"steps": 12, "learning_rate": 0.02})
    assert event.report is not None
    assert image_key(image) in event.report.held_out
    assert event.report.verdict == "not better", event.report.reason
    assert not event.activated
    assert controller.session.models.active == ""
    controller.close()


def test_a_failed_run_shows_why(qtbot: Any, panel: FinetunePanel) -> None:
    class Broken(ArraySource):
        def read(self, plane: PlaneKey, box: Box | None = None) -> NDArray[Any]:
            raise OSError("the disk is gone")

    panel.controller.session.add_image("nuclei", Broken(np.zeros((256, 256))))
    panel.finetuning_controller.set_values(dict(FAST))
    panel.run.start.click()
    assert finish(qtbot, panel.finetuning_controller).state == "failed"
    assert "disk is gone" in panel.run.state.text()


def test_presets_show_estimated_times(qtbot: Any, panel: FinetunePanel) -> None:
    panel.finetuning_controller.measure()
    qtbot.waitUntil(lambda: panel.finetuning_controller.speed is not None, timeout=SOON_MS)
    for name, choice in panel.form.presets.items():
        assert re.fullmatch(rf"{PRESETS[name].title}\W+\w+ \d+ (s|min|h \d+ min)", choice.text())
    panel.form.presets["quick"].click()
    assert panel.finetuning_controller.config().mode == "decoder"
    assert panel.finetuning_controller.preset == "quick"


def test_every_setting_has_an_editor_and_invalid_values_are_refused(panel: FinetunePanel) -> None:
    panel.form.advanced.expand(animate=False)
    editor = panel.form.editor
    assert editor is not None
    assert editor.fields.keys() == panel.finetuning_controller.config().as_dict().keys()
    before = dict(panel.finetuning_controller.values)
    rate = editor.fields["learning_rate"]
    rate.value = "fast"
    rate.native.editingFinished.emit()
    with raises(InputError, "setting-of-wrong-type", match="learning rate"):
        editor.values()
    assert "learning rate" in editor.problem.text()
    assert panel.finetuning_controller.values == before
    rate.value = "5e-4"
    rate.native.editingFinished.emit()
    targets = editor.fields["targets"]
    targets.value = "q, k, v"
    targets.native.editingFinished.emit()
    assert editor.problem.text() == ""
    assert panel.finetuning_controller.config().learning_rate == 5e-4
    assert panel.finetuning_controller.config().targets == ("q", "k", "v")
    assert panel.finetuning_controller.preset == ""


def test_settings_are_saved_as_yaml_or_refused(qtbot: Any, panel: FinetunePanel, tmp_path: Path) -> None:
    panel.form.save(tmp_path / "run", with_data=False)
    qtbot.waitUntil((tmp_path / "run.yaml").exists, timeout=SOON_MS)
    with qtbot.waitSignal(panel.controller.message) as said:
        panel.form.save(tmp_path / "run.json", with_data=False)
    assert "run.json" in said.args[0]
    assert [path.name for path in tmp_path.iterdir()] == ["run.yaml"]


def test_a_saved_file_trains_the_same_adapter_without_a_viewer(
    qtbot: Any, panel: FinetunePanel, tmp_path: Path
) -> None:
    event = train(qtbot, panel.controller, FAST, "here")
    panel.form.save(tmp_path / "run.yaml", with_data=True)
    assert _trained_without_a_viewer(qtbot, tmp_path).key == _key(panel, event.adapter)
    panel.finetuning_controller.choose_preset("thorough")
    panel.form.load(tmp_path / "run.yaml")
    qtbot.waitUntil(lambda: panel.finetuning_controller.preset == "", timeout=SOON_MS)
    assert panel.finetuning_controller.config().steps == FAST["steps"]


def test_a_saved_file_also_holds_user_prompts_held_out_blocks_and_the_adapter_to_go_on_from(
    qtbot: Any, panel: FinetunePanel, tmp_path: Path
) -> None:
    session = panel.controller.session
    plain = train(qtbot, panel.controller, FAST, "plain")
    (labels,) = session.labels.values()
    add_box(panel.controller, (40, 60, 70, 95))
    qtbot.waitUntil(lambda: not panel.controller.previews.is_waiting, timeout=SOON_MS)
    panel.controller.active_layers.choose_target(panel.controller.viewer.layers["cells"])
    panel.controller.set_policy(overwrite=True)
    panel.controller.commit()
    qtbot.waitUntil(lambda: any(record.prompts for record in labels.records()), timeout=SOON_MS)
    with_prompts = train(qtbot, panel.controller, FAST, "with prompts")
    panel.finetuning_controller.resume_from = plain.adapter
    session.training.hold_out(["a block of an earlier round"])
    further = train(qtbot, panel.controller, CHECKED, "further")
    panel.form.save(tmp_path / "run.yaml", with_data=True)
    assert _trained_without_a_viewer(qtbot, tmp_path).key == _key(panel, further.adapter)
    assert len({_key(panel, event.adapter) for event in (plain, with_prompts, further)}) == 3


def _trained_without_a_viewer(qtbot: Any, folder: Path) -> Adapter:
    qtbot.waitUntil((folder / "run.yaml").exists, timeout=SOON_MS)
    assert main(["train", str(folder / "run.yaml"), "--device", "cpu", "--quiet"]) == 0
    return Adapter.load(folder / "run.safetensors")


def _key(panel: FinetunePanel, name: str) -> str:
    return panel.controller.session.models.adapters.get(name).key


def test_a_folder_of_labelled_images_is_opened_as_layers(qtbot: Any, panel: FinetunePanel, tmp_path: Path) -> None:
    panel.form.save(tmp_path / "set.yaml", with_data=True)
    qtbot.waitUntil((tmp_path / "set.yaml").exists, timeout=SOON_MS)
    panel.table.add_folder(tmp_path / "set_data")
    qtbot.waitUntil(lambda: len(panel.finetuning_controller.pairs()) == 2, timeout=SOON_MS)
    here, added = panel.finetuning_controller.pairs()
    assert added.objects == here.objects
    assert (here.complete, added.complete) == (0, 0)


def test_done_of_a_saved_training_set_is_ticked_when_it_is_opened(
    qtbot: Any, panel: FinetunePanel, tmp_path: Path
) -> None:
    (pair,) = panel.finetuning_controller.pairs()
    panel.finetuning_controller.mark_complete(pair.labels, True)
    panel.form.save(tmp_path / "set.yaml", with_data=True)
    qtbot.waitUntil((tmp_path / "set.yaml").exists, timeout=SOON_MS)
    panel.table.add_folder(tmp_path / "set_data")
    qtbot.waitUntil(lambda: panel.table.table.rowCount() == 2, timeout=SOON_MS)
    done = panel.table.table.item(1, 4)
    assert done is not None
    assert done.checkState() == Qt.CheckState.Checked
    assert [plane.complete for plane in panel.finetuning_controller.snapshot()] == [True, True]


def test_a_preview_of_the_training_set_leads_to_its_planes(qtbot: Any, panel: FinetunePanel) -> None:
    panel.table._show.click()
    qtbot.waitUntil(lambda: len(panel.table.strip.buttons) == 1, timeout=SOON_MS)
    panel.table.strip.buttons[0].click()
    assert panel.controller.active_layers.plane == PLANE


def test_two_panels_of_one_viewer_share_one_controller(qtbot: Any, panel: FinetunePanel) -> None:
    other = docked(panel.controller.viewer)
    assert other.finetuning_controller is panel.finetuning_controller
    assert other.controller is panel.controller is controller_of(panel.controller.viewer)

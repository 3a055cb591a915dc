"""Screenshots of fine-tuning: ``xvfb-run -a -s "-screen 0 1280x800x24" python docs/screenshots/finetuning.py``.

Goes through a whole session in one window and writes ``docs/images/tune_*.png``: masks of the base model from clicks,
their corrections, the run, the verdict, the same clicks segmented again, and what is found without a prompt in the
next plane. Prints how long the run took.
``finetuning.py stack`` does the same on a stack of nuclei, where the whole stack is segmented again in the end, and
writes ``docs/images/stack_*.png``.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time

import numpy as np
from tifffile import imread
from window import Window

from napari_sam_lora._qt.adapters.panel import AdaptersPanel
from napari_sam_lora._qt.automatic.panel import EverythingBox
from napari_sam_lora._qt.finetuning.panel import FinetunePanel
from napari_sam_lora._qt.propagation.controller import propagation_controller_of
from napari_sam_lora.io.samples import nuclei_pair, nuclei_stack, samples_folder
from napari_sam_lora.labels import click_at_centre, find_objects

IMAGES = (4, 5, 7, 8, 6)  # of the ten sample images
LEARNED = (0, 1)  # of them, every nucleus is labelled
CLICKED_ON = (2, 3)  # of them, some nuclei are
CLICKED = 12  # in each
LABELLED, OTHER = (2, 6, 10, 14, 20, 25, 29), 17  # planes of the stack that are labelled, and one that is not


def photograph_images(theme: str = "dark", prefix: str = "tune", preset: str = "quick") -> None:
    """Fine-tune on two of five images, segment the clicks in two others again, and find everything in the last."""
    window = Window(theme)
    controller, viewer = window.controller, window.viewer
    pairs = [nuclei_pair(number) for number in IMAGES]
    viewer.add_image(np.stack([pair[0] for pair in pairs]), name="nuclei")
    controller.model_loader.ensure_model()
    window.wait(lambda: controller.session.models.model is not None)
    controller.active_layers.make_target()
    truths = {number: pair[1] for number, pair in enumerate(pairs)}
    clicked = {number: truths[number] for number in (*LEARNED, *CLICKED_ON)}
    click_on(window, clicked, {number: len(find_objects(truths[number])) for number in LEARNED})
    viewer.dims.set_point(0, 2)
    window.save(f"{prefix}_1_base")
    correct(window, {number: truths[number] for number in LEARNED})
    viewer.dims.set_point(0, LEARNED[1])
    tuning = learn(window, preset, prefix)
    segment_again(window, prefix)
    find_next(window, tuning, prefix)
    window.close()


def photograph_stack(preset: str = "standard", prefix: str = "stack") -> None:
    """Fine-tune on a few labelled planes of a stack and segment the whole stack again."""
    window = Window()
    controller, viewer = window.controller, window.viewer
    ((image, attributes, _),) = nuclei_stack()
    truth = imread(samples_folder() / "nuclei_stack_labels.tif")
    viewer.add_image(image, **attributes)
    controller.model_loader.ensure_model()
    window.wait(lambda: controller.session.models.model is not None)
    controller.active_layers.make_target()
    truths = {number: truth[number] for number in LABELLED}
    click_on(window, truths, {})
    viewer.dims.set_current_step(0, LABELLED[0])
    viewer.reset_view()
    window.save(f"{prefix}_1_base")
    paint(window, truths)
    window.save(f"{prefix}_2_painted")
    learn(window, preset, prefix)
    _, adapters = viewer.window.add_plugin_dock_widget("napari-sam-lora", "Adapters", tabify=True)
    assert isinstance(adapters, AdaptersPanel)
    adapters.parentWidget().raise_()
    viewer.dims.set_current_step(0, OTHER)
    propagation_controller = propagation_controller_of(controller)
    adapters.resegment.stack.click()
    window.wait(lambda: propagation_controller.state in ("found", "idle"))
    window.save(f"{prefix}_5_found")
    propagation_controller.accept()
    viewer.reset_view()
    window.save(f"{prefix}_6_again")
    window.close()


def paint(window: Window, truths: dict[int, np.ndarray]) -> None:
    """Paint the true labels of planes, where each nucleus has the same number in all planes."""
    layer = window.controller.active_layers.target_layer
    for number, truth in truths.items():
        wrong = np.nonzero(truth != layer.data[number])
        layer.data_setitem((np.full(len(wrong[0]), number), *wrong), truth[wrong])
    window.controller.layers.flush()


def learn(window: Window, preset: str, prefix: str) -> FinetunePanel:
    """Photograph the fine-tune panel: the training set, a run, and its verdict."""
    _, tuning = window.viewer.window.add_plugin_dock_widget("napari-sam-lora", "Fine-tune on my labels", tabify=True)
    assert isinstance(tuning, FinetunePanel)
    tuning.parentWidget().raise_()
    tuning.finetuning_controller.measure()
    window.wait(lambda: tuning.finetuning_controller.speed is not None)
    tuning.form.presets[preset].click()
    tuning.table.checked.setChecked(True)
    window.save(f"{prefix}_2_labels")
    train(window, tuning, prefix)
    return tuning


def click_on(window: Window, truths: dict[int, np.ndarray], counts: dict[int, int]) -> None:
    """Click once on each of the largest nuclei of planes, and add them to the labels."""
    controller = window.controller
    controller.drawing.set_batch(True)
    for number, truth in truths.items():
        window.viewer.dims.set_current_step(0, number)
        largest = sorted(find_objects(truth), key=lambda one: -one.area)[: counts.get(number, CLICKED)]
        window.click(*((number, *click_at_centre(truth == one.label)) for one in largest))
        window.settle()
        controller.commit()
        window.wait(lambda number=number: bool(controller.active_layers.target_layer.data[number].any()))
    controller.drawing.set_batch(False)


def correct(window: Window, truths: dict[int, np.ndarray]) -> None:
    """Correct these planes with the brush until every nucleus is labelled, and mark them as complete."""
    layer, labels = window.controller.active_layers.target_layer, window.controller.target
    for number, truth in truths.items():
        window.viewer.dims.set_current_step(0, number)
        wanted, new = np.zeros_like(truth, np.int32), int(layer.data.max()) + 1
        for one in find_objects(truth):
            is_nucleus = truth == one.label
            ids, areas = np.unique(layer.data[number][is_nucleus], return_counts=True)
            is_free = ~np.isin(ids, wanted)  # neither background nor the label of another nucleus
            wanted[is_nucleus] = ids[is_free][areas[is_free].argmax()] if is_free.any() else new
            new += not is_free.any()
        wrong = np.nonzero(wanted != layer.data[number])
        layer.data_setitem((np.full(len(wrong[0]), number), *wrong), wanted[wrong])
        window.controller.layers.flush()
        plane = window.controller.active_layers.plane
        labels.approve(labels.ids_in(plane))
        labels.mark_complete(plane)


def train(window: Window, tuning: FinetunePanel, prefix: str) -> None:
    """Photograph a run in the middle and at its end."""
    start = time.perf_counter()
    tuning.run.start.click()
    half = tuning.finetuning_controller.config().steps // 2
    window.wait(lambda: (step := tuning.finetuning_controller.latest.step) is not None and step.step >= half)
    scroll_to_end(window, tuning)
    window.save(f"{prefix}_3_run")
    window.wait(lambda: tuning.finetuning_controller.latest.is_final)
    event = tuning.finetuning_controller.latest
    print(f"{event.state} after {time.perf_counter() - start:.1f} s, in use: {event.activated}. {event.message}")
    window.wait(lambda: len(tuning.verdict.examples.buttons) > 0)
    scroll_to_end(window, tuning)
    window.save(f"{prefix}_4_verdict")
    if not event.activated:
        window.controller.session.models.activate(event.adapter)


def scroll_to_end(window: Window, panel: FinetunePanel) -> None:
    """Scroll to the end of a panel."""
    from qtpy.QtWidgets import QScrollArea  # noqa: PLC0415

    window._process_events()
    for area in panel.findChildren(QScrollArea):
        bar = area.verticalScrollBar()
        if area.widget() is not None and area.widget().isAncestorOf(panel.verdict):
            bar.setValue(bar.maximum())


def segment_again(window: Window, prefix: str) -> None:
    """Segment the clicks of the third plane again with the adapter, and photograph the review and its result."""
    _, adapters = window.viewer.window.add_plugin_dock_widget("napari-sam-lora", "Adapters", tabify=True)
    assert isinstance(adapters, AdaptersPanel)
    adapters.parentWidget().raise_()
    window.viewer.dims.set_point(0, 2)
    adapters.resegment.replay.click()
    window.wait(lambda: adapters.resegment.review.is_open)
    window.save(f"{prefix}_5_review")
    adapters.resegment.review.apply.click()
    window.viewer.reset_view()
    window.save(f"{prefix}_6_again")


def find_next(window: Window, tuning: FinetunePanel, prefix: str) -> None:
    """Find everything in the next plane with the button below the verdict, and photograph what is found."""
    everything = window.find(EverythingBox).everything
    tuning.next_step.go.click()
    window.wait(lambda: everything.state == "found")
    window.save(f"{prefix}_7_found")
    everything.discard()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:  # keeps the user's adapters out of the pictures
        os.environ["NAPARI_SAM_LORA_CACHE"] = folder
        if sys.argv[1:2] == ["stack"]:
            photograph_stack(*sys.argv[2:])
        else:
            photograph_images(*sys.argv[1:])

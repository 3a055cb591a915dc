"""Pictures of fine-tuning: ``xvfb-run -a -s "-screen 0 1280x800x24" python docs/screenshots/finetuning.py``.

Tells the whole story in one window and writes ``docs/images/tune_*.png``: what the base model makes of clicks, the
corrections, the run, the verdict, and the same clicks segmented again. Prints how long it took. ``finetuning.py stack``
tells it on a stack of nuclei, where the whole stack is segmented again in the end, as ``docs/images/stack_*.png``.
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
from napari_sam_lora._qt.finetuning.panel import FinetunePanel
from napari_sam_lora._qt.propagation.controller import propagation_controller_of
from napari_sam_lora.io.samples import nuclei_pair, nuclei_stack, samples_folder
from napari_sam_lora.labels import click_at_centre, find_objects

IMAGES = (4, 5, 7, 8)  # of the ten sample images; objects of the first two are labelled
OBJECTS = 8  # labelled in each of them
CLICKED = 12  # in each of the others
# Planes of the stack that are labelled, and one that is not.
LABELLED, OTHER = (2, 6, 10, 14, 20, 25, 29), 17


def tell(theme: str = "dark", prefix: str = "tune", effort: str = "quick") -> None:
    """The story."""
    window = Window(theme)
    controller, viewer = window.controller, window.viewer
    pairs = [nuclei_pair(number) for number in IMAGES]
    viewer.add_image(np.stack([pair[0] for pair in pairs]), name="nuclei")
    controller.ensure_model()
    window.wait(lambda: controller.session.model is not None)
    controller.make_target()
    truths = {number: pair[1] for number, pair in enumerate(pairs)}
    click_on(window, truths, {0: OBJECTS, 1: OBJECTS})
    viewer.dims.set_point(0, 2)
    window.save(f"{prefix}_1_base")
    correct(window, {number: truths[number] for number in (0, 1)})
    viewer.dims.set_point(0, 0)
    learn(window, effort, prefix)
    again(window, prefix)
    window.close()


def tell_of_a_stack(effort: str = "standard", prefix: str = "stack") -> None:
    """The same on a stack: a few planes are labelled, and all of it is segmented in the end."""
    window = Window()
    controller, viewer = window.controller, window.viewer
    ((image, attributes, _),) = nuclei_stack()
    truth = imread(samples_folder() / "nuclei_stack_labels.tif")
    viewer.add_image(image, **attributes)
    controller.ensure_model()
    window.wait(lambda: controller.session.model is not None)
    controller.make_target()
    truths = {number: truth[number] for number in LABELLED}
    click_on(window, truths, {})
    viewer.dims.set_current_step(0, LABELLED[0])
    viewer.reset_view()
    window.save(f"{prefix}_1_base")
    paint(window, truths)
    window.save(f"{prefix}_2_painted")
    learn(window, effort, prefix)
    _, adapters = viewer.window.add_plugin_dock_widget("napari-sam-lora", "Adapters", tabify=True)
    assert isinstance(adapters, AdaptersPanel)
    adapters.parentWidget().raise_()
    viewer.dims.set_current_step(0, OTHER)
    propagation = propagation_controller_of(controller)
    adapters.resegment.stack.click()
    window.wait(lambda: propagation.state in ("found", "idle"))
    window.save(f"{prefix}_5_found")
    propagation.accept()
    viewer.reset_view()
    window.save(f"{prefix}_6_again")
    window.close()


def paint(window: Window, truths: dict[int, np.ndarray]) -> None:
    """Paint planes as they should be, each nucleus with one number in all of them."""
    layer = window.controller.target_layer
    for number, truth in truths.items():
        places = np.nonzero(truth != layer.data[number])
        layer.data_setitem((np.full(len(places[0]), number), *places), truth[places])
    window.controller.flush()


def learn(window: Window, effort: str, prefix: str) -> None:
    """The fine-tune panel: what is learned from, a run, and its verdict."""
    _, tuning = window.viewer.window.add_plugin_dock_widget("napari-sam-lora", "Fine-tune on my labels", tabify=True)
    assert isinstance(tuning, FinetunePanel)
    tuning.parentWidget().raise_()
    tuning.finetuning_controller.measure()
    window.wait(lambda: tuning.finetuning_controller.speed is not None)
    tuning.form.presets[effort].click()
    tuning.table.checked.setChecked(True)
    window.save(f"{prefix}_2_labels")
    train(window, tuning, prefix)


def click_on(window: Window, truths: dict[int, np.ndarray], most: dict[int, int]) -> None:
    """One click on each of the largest nuclei of planes, added to the labels."""
    controller = window.controller
    controller.drawing.set_batch(True)
    for number, truth in truths.items():
        window.viewer.dims.set_current_step(0, number)
        largest = sorted(find_objects(truth), key=lambda one: -one.area)[: most.get(number, CLICKED)]
        window.click(*((number, *click_at_centre(truth == one.label)) for one in largest))
        window.settle()
        controller.commit()
        window.wait(lambda number=number: bool(controller.target_layer.data[number].any()))
    controller.drawing.set_batch(False)


def correct(window: Window, truths: dict[int, np.ndarray]) -> None:
    """Paint the objects of these planes as they should be."""
    layer = window.controller.target_layer
    for number, truth in truths.items():
        window.viewer.dims.set_current_step(0, number)
        for label in np.unique(layer.data[number])[1:]:
            there = layer.data[number] == label
            wanted = truth == np.bincount(truth[there & (truth > 0)]).argmax()
            for pixels, value in ((there & ~wanted, 0), (wanted & (layer.data[number] == 0), label)):
                places = np.nonzero(pixels)
                layer.data_setitem((np.full(len(places[0]), number), *places), value)
        window.controller.flush()


def train(window: Window, tuning: FinetunePanel, prefix: str) -> None:
    """A run, photographed in the middle and at its end."""
    begun = time.perf_counter()
    tuning.run.start.click()
    half = tuning.finetuning_controller.config().steps // 2
    window.wait(lambda: (step := tuning.finetuning_controller.latest.step) is not None and step.step >= half)
    scroll(window, tuning)
    window.save(f"{prefix}_3_run")
    window.wait(lambda: tuning.finetuning_controller.latest.is_final)
    event = tuning.finetuning_controller.latest
    print(f"{event.state} after {time.perf_counter() - begun:.1f} s, in use: {event.activated}. {event.message}")
    window.wait(lambda: len(tuning.verdict.examples.buttons) > 0)
    scroll(window, tuning)
    window.save(f"{prefix}_4_verdict")
    if not event.activated:
        window.controller.session.activate(event.adapter)


def scroll(window: Window, panel: FinetunePanel) -> None:
    """To the end of a panel."""
    from qtpy.QtWidgets import QScrollArea  # noqa: PLC0415

    window._live()
    for area in panel.findChildren(QScrollArea):
        bar = area.verticalScrollBar()
        if area.widget() is not None and area.widget().isAncestorOf(panel.verdict):
            bar.setValue(bar.maximum())


def again(window: Window, prefix: str) -> None:
    """The clicks of the third plane with the adapter: looked through, and changed."""
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


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:  # no adapters of the user's in the pictures
        os.environ["NAPARI_SAM_LORA_CACHE"] = folder
        if sys.argv[1:2] == ["stack"]:
            tell_of_a_stack(*sys.argv[2:])
        else:
            tell(*sys.argv[1:])

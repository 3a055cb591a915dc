"""Fine-tuning in the viewer: time that the user waits, pauses of the window meanwhile, and memory.

    python -m benchmarks.finetuning [--objects 10] [--preset quick] [--steps-of-vit-b 4]  # or under xvfb-run

Opens a real napari window with the prompt and fine-tune panels, the bundled model, and an image with ten labelled
nuclei. The time runs from pressing *Fine-tune* (*Start* in the table) to the verdict; after it, the adapter is active
if it is better. Pauses are gaps of a 10 ms timer during the run, with the viewer otherwise idle. The rate is relative
to the same run in a process without a window. Memory is measured after each of three rounds, each with three more
objects. ViT-B (random weights) runs a few steps of the standard preset; the time of a whole run follows from these.
"""

from __future__ import annotations

import argparse
import gc
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import napari
import numpy as np
import psutil
from numpy.typing import NDArray
from qtpy.QtWidgets import QApplication

from benchmarks.pauses import Pauses
from benchmarks.viewer import load, wait
from benchmarks.workers import random_checkpoint, run_worker
from napari_sam_lora._qt.finetuning.panel import FinetunePanel
from napari_sam_lora._qt.finetuning.presets import PRESETS
from napari_sam_lora._qt.viewer.controller import controller_of
from napari_sam_lora.api import fine_tune, iter_fine_tune, load_model
from napari_sam_lora.io.samples import nuclei_pair
from napari_sam_lora.labels import find_objects
from napari_sam_lora.parameters.training import TrainConfig
from napari_sam_lora.session import TrainingEvent

SAMPLE, ROUNDS, MORE = 5, 3, 3


def largest(labels: NDArray[np.uint8], count: int) -> NDArray[np.int32]:
    """Return the label image (y, x) with its largest objects only."""
    kept = sorted(find_objects(labels), key=lambda one: -one.area)[:count]
    return np.where(np.isin(labels, [one.label for one in kept]), labels, 0).astype(np.int32)


def run(panel: FinetunePanel, preset: str) -> tuple[TrainingEvent, float]:
    """Choose a preset and press *Fine-tune*; return the last event and the seconds until then."""
    panel.form.presets[preset].click()
    start = time.perf_counter()
    panel.run.start.click()
    wait(lambda: panel.finetuning_controller.latest is not None and panel.finetuning_controller.latest.is_final)
    event = panel.finetuning_controller.latest
    assert event is not None
    return event, time.perf_counter() - start


def in_viewer(objects: int, preset: str) -> float:
    """Print the rows that need a window; return the seconds of the run in it."""
    viewer = napari.Viewer()
    controller = controller_of(viewer)
    image, labels = nuclei_pair(SAMPLE)
    viewer.add_image(image, name="nuclei")
    layer: Any = viewer.add_labels(largest(labels, objects), name="cells")
    viewer.window.add_plugin_dock_widget("napari-sam-lora", "Prompt and segment")
    _, panel = viewer.window.add_plugin_dock_widget("napari-sam-lora", "Fine-tune on my labels")
    assert isinstance(panel, FinetunePanel)
    load(controller, "sam_nano", None)
    panel.finetuning_controller.measure()
    wait(lambda: panel.finetuning_controller.speed is not None)
    process, seconds = psutil.Process(), 0.0
    memory: list[float] = []
    for number in range(ROUNDS):
        data = largest(labels, objects + MORE * number)
        changed = np.nonzero(data != layer.data)
        if len(changed[0]):
            layer.data_setitem(changed, data[changed])
        controller.layers.flush()
        with Pauses() as pauses:
            event, passed = run(panel, preset)
        if event.report is None:
            raise RuntimeError(event.message)
        if not number:
            seconds = event.report.seconds
            outcome = f"{passed:.1f} s, {event.report.verdict}"
            print(f"| {objects} objects, {preset}: from *Start* to the verdict | {outcome} |")
            print(pauses.rows("meanwhile"), flush=True)
        controller.session.models.activate(event.adapter)
        gc.collect()
        memory.append(process.memory_info().rss / 2**20)
    rounds = ", ".join(f"{megabytes:.0f}" for megabytes in memory)
    print(f"| memory after rounds 1 to {ROUNDS}, MB | {rounds} ({memory[-1] / memory[0]:.2f}) |", flush=True)
    viewer.close()
    return seconds


def without_viewer(objects: int, preset: str) -> float:
    """Return the seconds of the same run without a viewer."""
    image, labels = nuclei_pair(SAMPLE)
    config = TrainConfig.from_dict(dict(PRESETS[preset].values))
    return fine_tune(load_model("sam_nano", device="cpu"), [(image, largest(labels, objects))], config)[1].seconds


def vit_b(objects: int, steps: int) -> tuple[float, float]:
    """Return the seconds of a step of ViT-B at 1024 pixels, and of a whole default run without its verdict."""
    image, labels = nuclei_pair(SAMPLE)
    config = TrainConfig(steps=steps, views=1, validation_share=0.0)
    with tempfile.TemporaryDirectory() as folder:
        model = load_model(random_checkpoint(Path(folder)), device="cpu")
    training = iter_fine_tune(model, [(image, largest(labels, objects))], config)
    start = time.perf_counter()
    times = []
    for _ in training:
        times.append(time.perf_counter() - start)
        start = time.perf_counter()
    training.discard()
    step = float(np.median(times[1:]))  # the first step encodes
    return step, step * TrainConfig().steps


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, default=10, help="labelled objects")
    parser.add_argument("--preset", choices=tuple(PRESETS), default="quick")
    parser.add_argument("--steps-of-vit-b", type=int, default=4, help="steps that are timed; 0 leaves it out")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        print(json.dumps({"seconds": without_viewer(options.objects, options.preset)}))
        return
    application = QApplication.instance() or QApplication([])
    print("| | |\n|---|---|")
    settings = ("--objects", str(options.objects), "--preset", options.preset)
    alone = run_worker("benchmarks.finetuning", "--worker", *settings)["seconds"]
    seconds = in_viewer(options.objects, options.preset)
    print(f"| the same run, without a viewer / in it | {alone:.1f} s / {seconds:.1f} s |")
    print(f"| rate in the viewer | {alone / seconds:.2f} |", flush=True)
    if options.steps_of_vit_b:
        step, whole = vit_b(options.objects, options.steps_of_vit_b)
        print(f"| ViT-B, 1024 pixels, standard: a step / all steps | {step:.1f} s / {whole / 60:.0f} min |")
    application.quit()


if __name__ == "__main__":
    main()

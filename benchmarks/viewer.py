"""The viewer while it works: from a prompt to its visible mask, and pauses of the window while a plane is encoded.

    python -m benchmarks.viewer [--runs 15] [--input-size 1024]        # on a screen, or under xvfb-run

Opens a real napari window with the prompt panel. Masks: a click is added to the points layer on an encoded plane; the
time ends when the preview is drawn in its layer, with the bundled model and with ViT-B (random weights). Pauses: gaps
of a 10 ms timer while ViT-B encodes new planes and the viewer is otherwise idle. The rate of the worker is the time to
encode other such planes on the main thread, divided by the time in the worker.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import napari
import numpy as np
from qtpy.QtCore import QEventLoop, QTimer
from qtpy.QtWidgets import QApplication

from benchmarks.pauses import Pauses
from benchmarks.workers import random_checkpoint, seconds
from napari_sam_lora._qt.viewer.controller import Controller, controller_of
from napari_sam_lora.session import ArraySource, PlaneKey

SIDE, PLANES, PATIENCE = 512, 8, 600.0


def wait(condition: Callable[[], bool]) -> None:
    """Process events until a condition holds; sleep between them, so that the worker has the processor."""
    end = time.monotonic() + PATIENCE
    loop, timer = QEventLoop(), QTimer()
    timer.timeout.connect(lambda: loop.quit() if condition() or time.monotonic() > end else None)
    timer.start(2)
    loop.exec()
    timer.stop()
    if not condition():
        raise TimeoutError("The window did not reach the expected state.")


def _prompt_to_mask(controller: Controller, runs: int) -> float:
    """Return the median seconds from a click to its mask in the preview layer; the plane is encoded first."""
    rng = np.random.default_rng(0)
    controller.draw_with("point")
    layers: Any = controller.drawing.layers
    previews = controller.previews
    times = []
    for number in range(runs + 2):
        controller.clear_prompts()
        wait(lambda: previews.preview is None and not previews.is_waiting)
        start = time.perf_counter()
        layers.points.add(np.array([[0, *rng.uniform(50, SIDE - 50, 2)]]))
        wait(lambda: previews.preview is not None and not previews.is_waiting)
        if number > 1:  # the first ones encode and allocate
            times.append(time.perf_counter() - start)
    return statistics.median(times)


def _growing_draft(controller: Controller, clicks: int = 40) -> tuple[float, float]:
    """Return the median seconds from click to mask while all clicks stay, and from the last ten clicks to the draft."""
    rng = np.random.default_rng(0)
    controller.draw_with("point")
    layers: Any = controller.drawing.layers
    previews = controller.previews
    controller.clear_prompts()
    wait(lambda: previews.preview is None and not previews.is_waiting)
    to_draft, to_mask = [], []
    for _ in range(clicks):
        before, start = previews.preview, time.perf_counter()
        layers.points.add(np.array([[0, *rng.uniform(50, SIDE - 50, 2)]]))
        to_draft.append(time.perf_counter() - start)
        wait(lambda before=before: previews.preview is not before and not previews.is_waiting)  # type: ignore[misc]
        to_mask.append(time.perf_counter() - start)
    controller.clear_prompts()
    return statistics.median(to_mask), statistics.median(to_draft[-10:])


def _encode_in_worker(controller: Controller, planes: list[PlaneKey]) -> float:
    """Return the seconds that the worker takes for each plane."""
    start = time.perf_counter()
    controller.session.prompts.embed(planes)
    wait(lambda: not controller.session.models.is_busy)
    return (time.perf_counter() - start) / len(planes)


def _measure(runs: int, input_size: int) -> None:
    viewer = napari.Viewer()
    controller = controller_of(viewer)
    viewer.window.add_plugin_dock_widget("napari-sam-lora", "Prompt and segment")
    stack = np.random.default_rng(0).integers(0, 256, (PLANES, SIDE, SIDE), np.uint8)
    viewer.add_image(stack, name="planes")
    viewer.dims.set_current_step(0, 0)  # the plane of the clicks
    print("| | |\n|---|---|")
    load(controller, "sam_nano", None)
    print(f"| prompt to visible mask, sam_nano | {1000 * _prompt_to_mask(controller, runs):.0f} ms |", flush=True)
    to_mask, to_draft = _growing_draft(controller)
    print(f"| the same, 40 clicks in one draft | {1000 * to_mask:.0f} ms |")
    print(f"| the 31st to 40th click until it is in the draft | {1000 * to_draft:.1f} ms |", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        load(controller, random_checkpoint(Path(folder)), input_size)
    print(f"| prompt to visible mask, ViT-B | {1000 * _prompt_to_mask(controller, runs):.0f} ms |", flush=True)
    controller.session.models.cancel("embed")
    wait(lambda: not controller.session.models.is_busy)
    model: Any = controller.session.models.model
    others = np.random.default_rng(1).integers(0, 256, (3, SIDE, SIDE), np.uint8)
    on_main = statistics.median(seconds(partial(model.encode, plane)) for plane in others)
    fresh = np.random.default_rng(2).integers(0, 256, (PLANES, SIDE, SIDE), np.uint8)
    controller.session.add_image("fresh", ArraySource(fresh))
    with Pauses() as pauses:
        in_worker = _encode_in_worker(controller, [PlaneKey.of("fresh", 3, (z,)) for z in range(3)])
    print(pauses.rows("while ViT-B encodes"))
    print(f"| encoding, main thread / worker | {on_main:.2f} s / {in_worker:.2f} s |")
    print(f"| rate of the worker | {on_main / in_worker:.2f} |", flush=True)
    controller.close()
    viewer.close()


def load(controller: Controller, name: str | Path, input_size: int | None) -> None:
    """Load a model in the session and wait for it."""
    future = controller.session.models.load(name, "cpu", input_size)
    wait(future.done)
    future.result()


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--input-size", type=int, default=1024, help="of ViT-B")
    options = parser.parse_args()
    application = QApplication.instance() or QApplication([])
    _measure(options.runs, options.input_size)
    application.quit()


if __name__ == "__main__":
    main()

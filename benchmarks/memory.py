"""Memory that a window holds: label layers that are shown plane by plane, and previews on a large plane.

    python -m benchmarks.memory [labels | preview]        # on a screen, or under xvfb-run

Labels: nine planes of 4096² pixels, uint16, are shown one after the other. Preview: eight boxes of one object each on a
plane of 10,000² pixels, from the request to the visible masks. Resident memory is that above the state before; each
measurement runs in its own process.
"""

from __future__ import annotations

import argparse
import gc
import os
import subprocess
import sys
import time
from threading import Event, Thread

import napari
import numpy as np
import psutil

from benchmarks.viewer import load, wait
from napari_sam_lora._qt.viewer.controller import Controller, controller_of

PLANES, LABEL_SIDE, IMAGE_SIDE, OBJECTS = 9, 4096, 10_000, 8


class _Peak(Thread):
    """Thread that records the largest resident memory until it is stopped."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.megabytes, self._stopped = 0.0, Event()

    def run(self) -> None:
        while not self._stopped.wait(0.005):
            self.megabytes = max(self.megabytes, _resident())

    def stop(self) -> float:
        self._stopped.set()
        self.join()
        return self.megabytes


def _resident() -> float:
    return float(psutil.Process().memory_info().rss / 1e6)


def _settle(seconds: float = 0.5) -> None:
    """Let the window work for a while."""
    end = time.monotonic() + seconds
    wait(lambda: time.monotonic() > end)
    gc.collect()


def _open() -> Controller:
    controller = controller_of(napari.Viewer())
    load(controller, "sam_nano", None)
    return controller


def measure_labels() -> None:
    """Print a row of a table: memory after all planes of a label layer were shown."""
    controller = _open()
    viewer = controller.viewer
    labels = np.zeros((PLANES, LABEL_SIDE, LABEL_SIDE), np.uint16)
    labels[:, 100:200, 100:200], labels[:, 1000:1400, 2000:2600] = 1, 2
    image = np.ones(labels.shape, np.uint8)
    viewer.add_image(image)
    viewer.add_labels(labels)
    viewer.dims.set_current_step(0, 0)
    labels += 0  # so that the system gives memory for all pages now
    _settle()
    before = _resident()
    for index in range(PLANES):
        viewer.dims.set_current_step(0, index)
        _settle(0.2)
    print(f"| {PLANES} planes of {LABEL_SIDE}² labels shown | {_resident() - before:.0f} MB | | |", flush=True)


def measure_preview() -> None:
    """Print a row of a table: memory and seconds of previews on a large plane."""
    controller = _open()
    image = np.random.default_rng(0).integers(0, 50, (IMAGE_SIDE, IMAGE_SIDE), np.uint8)
    centres = [(500 + 300 * number, 700 + 200 * number) for number in range(OBJECTS)]
    for y, x in centres:
        image[y - 20 : y + 20, x - 20 : x + 20] = 200
    controller.viewer.add_image(image)
    _settle(2)
    plane, previews = controller.active_layers.plane, controller.previews
    if plane is None:
        raise RuntimeError("The window shows no plane of the image.")
    before, peak = _resident(), _Peak()
    peak.start()
    controller.session.prompts.batch = True
    start = time.perf_counter()
    for y, x in centres:
        controller.session.prompts.add(plane, "box", [y - 22, x - 22, y + 22, x + 22])
    wait(lambda: previews.preview is not None and len(previews.preview) == OBJECTS and not previews.is_waiting)
    spent = time.perf_counter() - start
    held, highest = _resident() - before, peak.stop() - before
    what = f"preview of {OBJECTS} boxes on {IMAGE_SIDE:,}²"
    print(f"| {what} | {held:.0f} MB | {highest:.0f} MB | {spent:.1f} s |", flush=True)


def main() -> None:
    """Print the table, or one row of it."""
    measures = {"labels": measure_labels, "preview": measure_preview}
    parser = argparse.ArgumentParser(
        "python -m benchmarks.memory", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="?", choices=tuple(measures), help="measure only this, in this process")
    chosen = parser.parse_args().what
    if chosen is not None:
        measures[chosen]()
        os._exit(0)  # without closing the window, which takes longer than the measurement
    print("| | held | peak | time |\n|---|---|---|---|", flush=True)
    for what in measures:
        subprocess.run([sys.executable, "-m", "benchmarks.memory", what], check=True)


if __name__ == "__main__":
    main()

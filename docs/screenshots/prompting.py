"""Screenshots of prompting: ``xvfb-run -a -s "-screen 0 1280x800x24" python docs/screenshots/prompting.py [NAME ...]``.

Writes ``docs/images/nuclei.png``, ``stack.png``, ``everything.png`` and ``light.png``, or those that are named.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable

import numpy as np
import tifffile
from window import Window

from napari_sam_lora._qt.automatic.panel import EverythingBox
from napari_sam_lora._qt.objects.table import ObjectsTable
from napari_sam_lora.io.samples import nuclei_pair, samples_folder
from napari_sam_lora.labels import LabelledObject, find_objects

IMAGE = 5  # of the ten sample images


def largest_first(labels: np.ndarray) -> list[LabelledObject]:
    """Return the objects of a plane (y, x), the largest first."""
    return sorted(find_objects(labels), key=lambda one: -one.area)


def label_some(window: Window, number: int) -> list[LabelledObject]:
    """Label some nuclei from box prompts; return the others."""
    image, truth = nuclei_pair(IMAGE)
    window.viewer.add_image(image, name="nuclei", scale=(0.65, 0.65), units=("um", "um"))
    objects = largest_first(truth)
    window.controller.drawing.set_batch(True)
    for one in objects[:number]:
        window.box(*(side - 0.5 for side in one.box))
    window.settle()
    window.controller.commit()
    window.wait(
        lambda: (
            window.controller.active_layers.target_layer is not None
            and bool(window.controller.active_layers.target_layer.data.any())
        )
    )
    window.controller.drawing.set_batch(False)
    return objects[number:]


def nuclei(theme: str = "dark", name: str = "nuclei") -> None:
    """Photograph labelled objects, and the next one prompted with a box, a click inside and a click outside."""
    window = Window(theme)
    one = label_some(window, 12)[0]
    y0, x0, y1, x1 = one.box
    window.box(y0 - 0.5, x0 - 0.5, y1 - 0.5, x1 - 0.5)
    window.click(one.centre)
    window.click((y0 - 3, x0 - 3), positive=False)
    window.settle()
    window.unfold()
    window.save(name)
    window.close()


def light() -> None:
    """Photograph the table of objects in napari's light theme."""
    window = Window("light")
    label_some(window, 12)
    target = window.controller.target
    if target is not None:
        target.approve([1, 2, 5])
    window.unfold("Objects")
    table = window.find(ObjectsTable)
    window.wait(lambda: table.model.rowCount() == 12)
    table.select([3])
    window.scroll_to(table)
    window.save("light")
    window.close()


def stack() -> None:
    """Photograph a plane of a stack, where each box is its own object."""
    window = Window()
    window.viewer.open_sample("napari-sam-lora", "nuclei_stack")
    plane = 15
    window.viewer.dims.set_current_step(0, plane)
    truth = tifffile.imread(samples_folder() / "nuclei_stack_labels.tif")[plane]
    window.controller.drawing.set_batch(True)
    for one in largest_first(truth)[:6]:
        y0, x0, y1, x1 = one.box
        window.box(y0 - 0.5, x0 - 0.5, y1 - 0.5, x1 - 0.5, before=(plane,))
    window.settle()
    window.unfold()
    window.save("stack")
    window.close()


def everything() -> None:
    """Photograph the objects that everything mode proposes, one of them left out."""
    window = Window()
    label_some(window, 4)
    window.unfold("Find everything")
    box = window.find(EverythingBox)
    box.start()
    window.wait(lambda: box.everything.state == "found")
    review, plane = box.everything.review, window.controller.active_layers.plane
    change = review.findings.proposal(plane).changes[-1]
    review.drop(plane, tuple(np.argwhere(change.new.to_mask((256, 256)))[0]))
    window.scroll_to(box.deciding)
    window.save("everything")
    window.close()


PICTURES: dict[str, Callable[[], None]] = {"nuclei": nuclei, "stack": stack, "everything": everything, "light": light}

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        os.environ["NAPARI_SAM_LORA_CONFIG"] = folder  # keeps the user's settings out of the pictures
        for name in sys.argv[1:] or PICTURES:
            PICTURES[name]()

"""Screenshots of propagation, ``docs/images/propagate_1_ready.png`` to ``propagate_4_table.png``, or those that are
named: ``xvfb-run -a -s "-screen 0 1280x800x24" python docs/screenshots/propagating.py [NAME ...]``
"""

from __future__ import annotations

import os
import sys
import tempfile

import numpy as np
import tifffile
from window import Window

from napari_sam_lora._qt.objects.table import ObjectsTable
from napari_sam_lora._qt.propagation.panel import PropagationBox
from napari_sam_lora.io.samples import samples_folder
from napari_sam_lora.labels import find_objects

PLANE = 15
OBJECTS = 8
BOUNDS = (9, 21)
SECTION = "Propagate through the stack"


def open_stack(window: Window) -> None:
    """Open the sample stack and label the largest nuclei of one plane from boxes."""
    window.viewer.open_sample("napari-sam-lora", "nuclei_stack")
    window.viewer.dims.set_current_step(0, PLANE)
    truth = np.asarray(tifffile.imread(samples_folder() / "nuclei_stack_labels.tif")[PLANE])
    window.controller.drawing.set_batch(True)
    for one in sorted(find_objects(truth), key=lambda one: -one.area)[:OBJECTS]:
        y0, x0, y1, x1 = (side - 0.5 for side in one.box)
        window.box(y0, x0, y1, x1, before=(PLANE,))
    window.settle()
    window.controller.commit()
    window.wait(
        lambda: (
            window.controller.active_layers.target_layer is not None
            and bool(window.controller.active_layers.target_layer.data.any())
        )
    )
    window.controller.drawing.set_batch(False)


def propagate(names: set[str]) -> None:
    """Photograph the propagation of objects from one plane through the stack."""
    window = Window()
    open_stack(window)
    window.unfold(SECTION)
    box = window.find(PropagationBox)
    box.range.first.setValue(BOUNDS[0])
    box.range.last.setValue(BOUNDS[1])

    def save(name: str) -> None:
        if not names or name in names:
            window.save(name)

    window.scroll_to(box)
    save("propagate_1_ready")
    box.propagate.click()
    window.wait(lambda: box.propagation_controller.done >= 4)
    window.viewer.dims.set_current_step(0, PLANE + 2)
    window.scroll_to(box.view)
    save("propagate_2_running")
    window.wait(lambda: box.propagation_controller.state == "found")
    window.scroll_to(box.view)
    save("propagate_3_found")
    box.view.accept.click()
    window.unfold("Objects")
    table = window.find(ObjectsTable)
    window.wait(lambda: table.model.rowCount() == OBJECTS)
    window.scroll_to(table)
    save("propagate_4_table")
    window.close()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        os.environ["NAPARI_SAM_LORA_CONFIG"] = folder  # keeps the user's settings out of the pictures
        propagate(set(sys.argv[1:]))

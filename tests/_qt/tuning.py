"""What the tests of fine-tuning and adapters share: labelled viewers, and runs of a few steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from qtpy.QtWidgets import QApplication

from napari_sam_lora import Adapter, Model, load_model
from napari_sam_lora._qt.finetuning.controller import FinetuningController, finetuning_controller_of
from napari_sam_lora._qt.viewer.controller import Controller
from napari_sam_lora.lora.adapter import AdapterInfo
from napari_sam_lora.lora.inject import LoRAConfig, adapter_parameters, attach
from napari_sam_lora.session import Session, TrainingEvent

SOON_MS = 120_000
FAST = {"mode": "decoder", "steps": 3, "objects": 2, "views": 1, "corrections": 0, "validation_share": 0.0}
CHECKED = FAST | {"validation_share": 0.3}
LONG = FAST | {"steps": 2000, "objects": 1}


@cache
def small_model() -> Model:
    """The bundled model at a small input size."""
    return load_model("sam_nano", device="cpu", input_size=128)


def open_labelled(viewer: Any, image: NDArray[Any], labels: NDArray[Any]) -> Iterator[Controller]:
    """A controller over a viewer with one image and its labels; closed in the end."""
    viewer.add_image(image, name="nuclei")
    viewer.add_labels(labels.astype(np.int32), name="cells")
    controller = Controller(viewer, QApplication.instance(), Session(small_model()))
    yield controller
    controller.close()


def made_adapter(seed: int = 0, base_hash: str | None = None, base_name: str = "sam_nano") -> Adapter:
    """An adapter that changes what the model says, as if it had been trained."""
    model = small_model()
    config = LoRAConfig((4, 5), rank=2)
    generator = torch.Generator().manual_seed(seed)
    tensors = {
        name: torch.randn(value.shape, generator=generator) * 0.1
        for name, value in adapter_parameters(attach(model.loaded.sam, config)).items()
    }
    training = {"images": 1, "objects_trained_on": 7}
    own_hash = model.loaded.weights_hash if base_hash is None else base_hash
    return Adapter(tensors, AdapterInfo(base_name, own_hash, config, "late", 128, training=training))


def finish(qtbot: Any, desk: FinetuningController) -> TrainingEvent:
    """Wait for the end of the run."""
    qtbot.waitUntil(lambda: desk.latest is not None and desk.latest.is_final, timeout=SOON_MS)
    assert desk.latest is not None
    return desk.latest


def train(qtbot: Any, controller: Controller, values: dict[str, Any], name: str = "run") -> TrainingEvent:
    """A run from the start to its end."""
    desk = finetuning_controller_of(controller)
    desk.set_values(dict(values))
    desk.start(name)
    return finish(qtbot, desk)


def at_first_step(qtbot: Any, desk: FinetuningController, act: Callable[[], None]) -> None:
    """Do something once a run has made a step."""
    qtbot.waitUntil(lambda: desk.latest is not None and desk.latest.step is not None, timeout=SOON_MS)
    act()


def weights(model: Model) -> dict[str, torch.Tensor]:
    """A copy of all weights."""
    return {name: value.clone() for name, value in model.loaded.sam.state_dict().items()}

"""Labelled viewers and fine-tuning runs of a few steps, for tests."""

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
    """Load the bundled model with a small input size."""
    return load_model("sam_nano", device="cpu", input_size=128)


def open_labelled(viewer: Any, image: NDArray[Any], labels: NDArray[Any]) -> Iterator[Controller]:
    """Yield a controller of a viewer with one image and its labels, then close it."""
    viewer.add_image(image, name="nuclei")
    viewer.add_labels(labels.astype(np.int32), name="cells")
    controller = Controller(viewer, QApplication.instance(), Session(small_model()))
    yield controller
    controller.close()


def random_adapter(seed: int = 0, base_hash: str | None = None, base_name: str = "sam_nano") -> Adapter:
    """Return an adapter with random weights, which changes the masks of the model as a trained one does."""
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


def finish(qtbot: Any, finetuning: FinetuningController) -> TrainingEvent:
    """Wait for the end of the run and return its last event."""
    qtbot.waitUntil(lambda: finetuning.latest is not None and finetuning.latest.is_final, timeout=SOON_MS)
    assert finetuning.latest is not None
    return finetuning.latest


def train(qtbot: Any, controller: Controller, values: dict[str, Any], name: str = "run") -> TrainingEvent:
    """Start a run, wait for its end and return its last event."""
    finetuning = finetuning_controller_of(controller)
    finetuning.set_values(dict(values))
    finetuning.start(name)
    return finish(qtbot, finetuning)


def at_first_step(qtbot: Any, finetuning: FinetuningController, act: Callable[[], None]) -> None:
    """Call a function once the run has made a step."""
    qtbot.waitUntil(lambda: finetuning.latest is not None and finetuning.latest.step is not None, timeout=SOON_MS)
    act()


def weights(model: Model) -> dict[str, torch.Tensor]:
    """Return a copy of all weights."""
    return {name: value.clone() for name, value in model.loaded.sam.state_dict().items()}

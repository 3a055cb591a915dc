"""Prompt the Segment Anything Model on microscopy and medical images, and adapt it to your own data with LoRA.

Importing the package is cheap: torch is imported when a name below is first used.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from napari_sam_lora.native_libraries import import_triton_with_own_symbols

if TYPE_CHECKING:
    from napari_sam_lora.api import Evaluation as Evaluation
    from napari_sam_lora.api import Model as Model
    from napari_sam_lora.api import evaluate as evaluate
    from napari_sam_lora.api import evaluate_classes as evaluate_classes
    from napari_sam_lora.api import evaluate_everything as evaluate_everything
    from napari_sam_lora.api import fine_tune as fine_tune
    from napari_sam_lora.api import iter_fine_tune as iter_fine_tune
    from napari_sam_lora.api import load_model as load_model
    from napari_sam_lora.images import Preprocessing as Preprocessing
    from napari_sam_lora.images import StackPosition as StackPosition
    from napari_sam_lora.lora.adapter import Adapter as Adapter
    from napari_sam_lora.model.dense.instances import maps_to_labels as maps_to_labels
    from napari_sam_lora.model.embeddings import Embedding as Embedding
    from napari_sam_lora.model.predictor import Result as Result
    from napari_sam_lora.parameters.everything import EverythingConfig as EverythingConfig
    from napari_sam_lora.parameters.instances import InstanceConfig as InstanceConfig
    from napari_sam_lora.parameters.propagation import PropagationConfig as PropagationConfig
    from napari_sam_lora.parameters.tiling import TilingConfig as TilingConfig
    from napari_sam_lora.parameters.training import TrainConfig as TrainConfig
    from napari_sam_lora.prompts import Prompts as Prompts
    from napari_sam_lora.stacks.propagation.propagate import propagate as propagate
    from napari_sam_lora.stacks.propagation.propagate import propagate_volume as propagate_volume
    from napari_sam_lora.stacks.propagation.state import PropagatedPlane as PropagatedPlane
    from napari_sam_lora.training.data.samples import TrainingPair as TrainingPair
    from napari_sam_lora.training.evaluation.classes import ClassFigures as ClassFigures
    from napari_sam_lora.training.run import FineTuneReport as FineTuneReport
    from napari_sam_lora.training.run import StepReport as StepReport

try:
    __version__ = version("napari-sam-lora")
except PackageNotFoundError:  # run from a source tree that is not installed
    __version__ = "0.0.0"

_MODULES = {
    "Adapter": "lora.adapter",
    "ClassFigures": "training.evaluation.classes",
    "Embedding": "model.embeddings",
    "Evaluation": "api",
    "EverythingConfig": "parameters.everything",
    "FineTuneReport": "training.run",
    "InstanceConfig": "parameters.instances",
    "Model": "api",
    "Preprocessing": "images",
    "Prompts": "prompts",
    "PropagatedPlane": "stacks.propagation.state",
    "PropagationConfig": "parameters.propagation",
    "Result": "model.predictor",
    "StackPosition": "images",
    "StepReport": "training.run",
    "TilingConfig": "parameters.tiling",
    "TrainConfig": "parameters.training",
    "TrainingPair": "training.data.samples",
    "evaluate": "api",
    "evaluate_classes": "api",
    "evaluate_everything": "api",
    "fine_tune": "api",
    "iter_fine_tune": "api",
    "load_model": "api",
    "maps_to_labels": "model.dense.instances",
    "propagate": "stacks.propagation.propagate",
    "propagate_volume": "stacks.propagation.propagate",
}
__all__ = [*_MODULES, "__version__"]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import_triton_with_own_symbols()  # this may be napari's console
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)

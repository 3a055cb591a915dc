"""Settings of a fine-tuning run; they are described in `napari_sam_lora.parameters.training`."""

from __future__ import annotations

from napari_sam_lora.parameters.training import TrainConfig

__all__ = ["TrainConfig"]

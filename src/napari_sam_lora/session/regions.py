"""Masks cut to their bounding box; they are the core's."""

from __future__ import annotations

from napari_sam_lora.regions import Region

__all__ = ["Region"]

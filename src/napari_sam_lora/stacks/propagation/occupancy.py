"""Compressed occupancy masks, one per plane."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from napari_sam_lora.regions import Region


@dataclass(frozen=True)
class Occupancy:
    """Pixels of each plane that belong to an object already; compressed, to save memory.

    Attributes
    ----------
    planes : mapping of int to bytes
        Packed and compressed mask by index of the plane.
    """

    planes: Mapping[int, bytes] = field(default_factory=dict)

    def mask(self, index: int, shape: tuple[int, int]) -> NDArray[np.bool_]:
        """Return the mask bool (y, x) of a plane; empty if nothing was recorded."""
        packed = self.planes.get(index)
        if packed is None:
            return np.zeros(shape, np.bool_)
        bits = np.frombuffer(zlib.decompress(packed), np.uint8)
        return np.unpackbits(bits, count=shape[0] * shape[1]).astype(np.bool_).reshape(shape)

    def with_mask(self, index: int, mask: NDArray[np.bool_]) -> Occupancy:
        """Return a copy in which the mask of a plane is replaced by ``mask``, bool (y, x)."""
        return Occupancy({**self.planes, index: zlib.compress(np.packbits(mask).tobytes(), 1)})

    def with_objects(self, index: int, objects: Mapping[int, Region], shape: tuple[int, int]) -> Occupancy:
        """Return a copy in which the pixels of ``objects`` are occupied as well."""
        mask = self.mask(index, shape)
        for region in objects.values():
            region.write(mask, True)
        return self.with_mask(index, mask)

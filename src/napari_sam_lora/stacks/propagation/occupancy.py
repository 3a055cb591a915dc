"""Pixels that are taken, of some planes, in little memory."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from napari_sam_lora.regions import Region


@dataclass(frozen=True)
class Occupancy:
    """A compressed mask for each of some planes.

    Attributes
    ----------
    planes : mapping of int to bytes
    """

    planes: Mapping[int, bytes] = field(default_factory=dict)

    def mask(self, index: int, shape: tuple[int, int]) -> NDArray[np.bool_]:
        """Bool (y, x) of a plane."""
        packed = self.planes.get(index)
        if packed is None:
            return np.zeros(shape, np.bool_)
        bits = np.frombuffer(zlib.decompress(packed), np.uint8)
        return np.unpackbits(bits, count=shape[0] * shape[1]).astype(np.bool_).reshape(shape)

    def with_mask(self, index: int, mask: NDArray[np.bool_]) -> Occupancy:
        """These, and a plane's bool (y, x) instead of what was known of it."""
        return Occupancy({**self.planes, index: zlib.compress(np.packbits(mask).tobytes(), 1)})

    def adding(self, index: int, objects: Mapping[int, Region], shape: tuple[int, int]) -> Occupancy:
        """These, and the pixels of some objects of a plane."""
        mask = self.mask(index, shape)
        for region in objects.values():
            region.write(mask, True)
        return self.with_mask(index, mask)

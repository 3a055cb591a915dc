"""What a model does with stacks and planes of any size; a part of `Model`, apart only to be read more easily."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_sam_lora.model.automatic import EverythingConfig, Progress
from napari_sam_lora.model.predictor import Multimask, Predictor
from napari_sam_lora.prompts import Prompts
from napari_sam_lora.stacks.config import PropagationConfig
from napari_sam_lora.stacks.everything import segment_everything
from napari_sam_lora.stacks.placed import Asked, Placed, PlaneDecoder
from napari_sam_lora.stacks.propagated import PropagatedPlane, Stack
from napari_sam_lora.stacks.propagation import propagate
from napari_sam_lora.stacks.seeds import Seed
from napari_sam_lora.stacks.tiles import TilingConfig


class StackMethods(ABC):
    """Mixed into `Model`."""

    @property
    @abstractmethod
    def predictor(self) -> Predictor:
        """What to segment with."""

    def propagate(
        self,
        stack: Stack,
        seeds: Seed | Mapping[int, Seed],
        plane: int | None = None,
        config: PropagationConfig | None = None,
        **options: Any,
    ) -> Iterator[PropagatedPlane]:
        """Follow objects from one or several planes through a stack, plane by plane; see `propagate`."""
        return propagate(self, stack, seeds, plane, config, **options)

    def segment_large(
        self,
        image: ArrayLike,
        prompts: Prompts,
        multimask: Multimask = "auto",
        tiling: TilingConfig | None = None,
    ) -> list[Placed]:
        """Masks of prompted objects in a plane of any size, one a row.

        A large plane is not encoded as a whole, but only the tiles that show the objects.

        Parameters
        ----------
        image : array_like
            (y, x) or (y, x, c).
        prompts : Prompts
            Drawn masks are allowed, logits are not.
        multimask : bool or "auto"
            See `Predictor.segment`.
        tiling : TilingConfig, optional

        Returns
        -------
        list of Placed
            ``region()`` is the mask, cut to its box.
        """
        decoder = PlaneDecoder(self.predictor, image, tiling)
        return sorted(decoder.decode(Asked.rows(prompts), multimask), key=lambda placed: placed.row)

    def segment_everything(
        self,
        image: ArrayLike,
        config: EverythingConfig | None = None,
        *,
        smallest: int = 0,
        progress: Progress | None = None,
        tiling: TilingConfig | None = None,
    ) -> NDArray[np.int32]:
        """Segment all objects of a plane without prompts.

        Parameters
        ----------
        image : array_like
            (y, x) or (y, x, c).
        config : EverythingConfig, optional
        smallest : int
            Objects with fewer pixels are left out.
        progress : callable, optional
            Called with the batches of clicks done and all of them.
        tiling : TilingConfig, optional
            How a large plane is cut into tiles; objects that lie across several are one object.

        Returns
        -------
        int32 (y, x)
            Instance ids; 0 is background.
        """
        return segment_everything(self.predictor, image, config, progress, tiling, smallest)

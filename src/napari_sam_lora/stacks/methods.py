"""What a model does with stacks; a part of `Model`, apart only to be read more easily."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from napari_sam_lora.model.predictor import Predictor
from napari_sam_lora.stacks.config import PropagationConfig
from napari_sam_lora.stacks.propagated import PropagatedPlane, Stack
from napari_sam_lora.stacks.propagation import propagate
from napari_sam_lora.stacks.seeds import Seed


class StackMethods:
    """Mixed into `Model`."""

    @property
    def predictor(self) -> Predictor:
        """What to segment with."""
        raise NotImplementedError

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

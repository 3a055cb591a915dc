"""Results of a propagation by plane, and the state from which it can be resumed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from napari_sam_lora.model.predictor import Predictor
from napari_sam_lora.prompts import ObjectPrompts
from napari_sam_lora.regions import Region
from napari_sam_lora.stacks.propagation.doubts import Doubt, Reference
from napari_sam_lora.stacks.propagation.occupancy import Occupancy
from napari_sam_lora.stacks.propagation.step import EndReason


class HasPredictor(Protocol):
    """A model, such as `napari_sam_lora.Model`."""

    @property
    def predictor(self) -> Predictor:
        """Predictor with the active adapter."""
        ...


class Stack(Protocol):
    """Planes that are read one by one: an array, a dask or zarr array, or a list of planes."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


@dataclass(frozen=True, eq=False)
class PropagationState:
    """State of a propagation after a plane, to resume it later.

    Attributes
    ----------
    sweep : str
        "seeds", "up" or "down".
    index : int
        The plane that was done last.
    objects : mapping of int to Region
        Objects that are still followed, as they are in that plane.
    seeded : mapping
        Objects that were segmented from prompts, by plane.
    occupancy : Occupancy
        Pixels of objects in planes that a later sweep visits again.
    references : mapping of int to Reference
        The objects as their key planes show them.
    doubtful : mapping of int to int
        Objects that are doubtful in that plane, and in how many planes in a row.
    """

    sweep: Literal["seeds", "up", "down"]
    index: int
    objects: Mapping[int, Region]
    seeded: Mapping[int, Mapping[int, Region]]
    occupancy: Occupancy
    references: Mapping[int, Reference] = field(default_factory=dict)
    doubtful: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class PropagatedPlane:
    """Objects that a propagation found in one plane.

    A plane between key planes of different objects may come twice, with other objects.

    Attributes
    ----------
    index : int
        Index of the plane.
    shape : tuple of int
        (y, x).
    objects : mapping of int to Region
        Masks by id; they overlap neither each other nor what is finished.
    scores : mapping of int to float
        Predicted IoU; missing for objects whose seeds are labels.
    ended : mapping of int to str
        Objects that are not in this plane any more, and why: "score", "overlap", "growth", "shrinkage", "size",
        "contrast", "doubtful" (see `PropagationConfig`) or "closed".
    doubts : mapping of int to str
        Objects in this plane whose mask is doubtful, and why: "size" (much larger than in the key planes) or
        "intensity" (other intensities than in the key plane).
    prompts : mapping of int to ObjectPrompts
        Prompts from which each mask was decoded.
    is_seed : bool
        Whether this is a key plane: these objects are seeds, not propagated.
    done, total : int
        Planes done, and planes to do if no object ends early.
    state : PropagationState
    """

    index: int
    shape: tuple[int, int]
    objects: Mapping[int, Region]
    scores: Mapping[int, float]
    ended: Mapping[int, EndReason]
    doubts: Mapping[int, Doubt]
    prompts: Mapping[int, ObjectPrompts]
    is_seed: bool
    done: int
    total: int
    state: PropagationState = field(repr=False)

    @property
    def labels(self) -> NDArray[np.int64]:
        """The objects as a label image (y, x)."""
        labels = np.zeros(self.shape, np.int64)
        self.write(labels)
        return labels

    def write(self, labels: NDArray[Any]) -> None:
        """Write the objects into a plane (y, x), in place."""
        for label, region in self.objects.items():
            region.write(labels, label)

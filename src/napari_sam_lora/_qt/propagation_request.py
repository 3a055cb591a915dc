"""What the user asked to propagate."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from napari_sam_lora.session import PlaneKey


@dataclass(frozen=True)
class Request:
    """What to propagate.

    Attributes
    ----------
    plane : PlaneKey
        A plane of the stack.
    ids : tuple of int, optional
        None for all objects of the plane.
    axis : int
        Position in ``plane.index`` of the axis to go along.
    values : dict
        Fields of `PropagationConfig`.
    redo : bool
        Whether masks of an earlier propagation are made anew.
    whole_stack : bool
        Segment the whole stack again instead, with its prompts.
    """

    plane: PlaneKey
    ids: tuple[int, ...] | None = None
    axis: int = -1
    values: dict[str, Any] = field(default_factory=dict)
    redo: bool = False
    whole_stack: bool = False

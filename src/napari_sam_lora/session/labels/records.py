"""Records of objects: everything about an object except its pixels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Literal

from napari_sam_lora.masks import MaskOptions
from napari_sam_lora.session.plane_key import PlaneKey
from napari_sam_lora.session.prompting.draft import Row

Origin = Literal["prompted", "painted", "re-segmented", "everything", "propagated"]


@dataclass(frozen=True)
class StoredPrompts:
    """Prompts of one commit: the items of one object in one plane, and the options of its mask."""

    row: Row
    options: MaskOptions


@dataclass(frozen=True)
class ObjectRecord:
    """Record of an object; replaced, never changed.

    Attributes
    ----------
    id : int
        Value of its pixels in the labels.
    class_id : int
        Id of its class; 0 for none.
    origin : str
        "prompted", "painted", "re-segmented", "everything" or "propagated". Painted objects keep their prompts.
    origins : mapping of PlaneKey to str
        Origin in planes where it differs: "propagated", or "prompted" in an object that is not; the keys have no image.
    score : float
        Predicted IoU of the last mask, at most 1; NaN if it was never predicted.
    approved : bool
        Whether the user approved it; re-segmentation leaves approved objects alone.
    prompts : mapping of PlaneKey to tuple of StoredPrompts
        Prompts of each commit, by plane.
    adapter : str
        Name of the adapter that made the last mask; empty for the base model.
    """

    id: int
    class_id: int = 0
    origin: Origin = "painted"
    score: float = float("nan")
    approved: bool = False
    prompts: Mapping[PlaneKey, tuple[StoredPrompts, ...]] = field(default_factory=lambda: MappingProxyType({}))
    adapter: str = ""
    origins: Mapping[PlaneKey, Origin] = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        object.__setattr__(self, "score", min(self.score, 1.0))  # NaN stays

    def origin_in(self, plane: PlaneKey) -> Origin:
        """Return the origin of its pixels in a plane."""
        return self.origins.get(plane.on(""), self.origin)

    def is_checked_in(self, plane: PlaneKey) -> bool:
        """Return whether a person painted, corrected or approved it in this plane."""
        return self.approved or self.origin_in(plane) == "painted"

    def painted_in(self, plane: PlaneKey) -> ObjectRecord:
        """Return the record after a person has changed its pixels in a plane."""
        others = {key: origin for key, origin in self.origins.items() if key != plane.on("")}
        return replace(self, origin="painted", origins=MappingProxyType(others))

    def prompted_in(self, plane: PlaneKey) -> ObjectRecord:
        """Return the record after its mask in a plane was made from prompts, which makes this a key plane."""
        others = {key: origin for key, origin in self.origins.items() if key != plane.on("")}
        if self.origin != "prompted":
            others[plane.on("")] = "prompted"
        return replace(self, origins=MappingProxyType(others))

    @property
    def propagated_planes(self) -> tuple[PlaneKey, ...]:
        """Planes in which its pixels come from propagation; the keys have no image."""
        return tuple(key for key, origin in self.origins.items() if origin == "propagated")

    @property
    def is_checked(self) -> bool:
        """Return whether a person painted, corrected or approved it."""
        return self.approved or self.origin == "painted"


@dataclass(frozen=True)
class ObjectClass:
    """Class of objects.

    Attributes
    ----------
    id : int
        Whole number from 1; in a semantic label image also the pixel value.
    name : str
    colour : tuple of float
        RGB between 0 and 1.
    """

    id: int
    name: str
    colour: tuple[float, float, float]


@dataclass(frozen=True)
class ObjectStats:
    """Measurements of an object from its pixels.

    Attributes
    ----------
    area : int
        Number of pixels in all planes.
    centroid : tuple of float
        Position along all axes of the label array.
    box : tuple of slice
        Bounding box along all axes.
    plane_index : tuple of int
        Position of the plane of the last two axes in which it is largest.
    """

    area: int
    centroid: tuple[float, ...]
    box: tuple[slice, ...]
    plane_index: tuple[int, ...]

"""What is known of each object beside its pixels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Literal

from napari_sam_lora.session.plane_key import PlaneKey
from napari_sam_lora.session.prompting.draft import Row
from napari_sam_lora.session.prompting.preview import MaskOptions

Origin = Literal["prompted", "painted", "re-segmented", "everything", "propagated"]


@dataclass(frozen=True)
class StoredPrompts:
    """The prompts of one commit: the items of one object in one plane, and how its mask was made of them."""

    row: Row
    options: MaskOptions


@dataclass(frozen=True)
class ObjectRecord:
    """What is known of an object; replaced, never changed.

    Attributes
    ----------
    id : int
        Its value in the labels.
    class_id : int
        0 for no class.
    origin : str
        "prompted", "painted", "re-segmented", "everything" or "propagated". Painted objects keep their prompts.
    origins : mapping of PlaneKey to str
        Planes, without an image, in which it has another origin, such as "propagated".
    score : float
        Predicted IoU of the last mask; NaN if it was never predicted. More than 1, as models may predict, becomes 1.
    approved : bool
        Approved objects are left alone by re-segmentation.
    prompts : mapping of PlaneKey to tuple of StoredPrompts
        One for each commit in that plane.
    adapter : str
        Name of the adapter that made it; empty for the base model.
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
        """Where its pixels in a plane are from."""
        return self.origins.get(plane.on(""), self.origin)

    def is_checked_in(self, plane: PlaneKey) -> bool:
        """Whether a person painted, corrected or approved it in this plane."""
        return self.approved or self.origin_in(plane) == "painted"

    def painted_in(self, plane: PlaneKey) -> ObjectRecord:
        """The record after a person has changed its pixels in a plane."""
        others = {key: origin for key, origin in self.origins.items() if key != plane.on("")}
        return replace(self, origin="painted", origins=MappingProxyType(others))

    @property
    def is_checked(self) -> bool:
        """Whether a person painted, corrected or approved it; others are as a model left them."""
        return self.approved or self.origin == "painted"


@dataclass(frozen=True)
class ObjectClass:
    """A kind of object.

    Attributes
    ----------
    id : int
        1 or more; in a semantic label image also the pixel value.
    name : str
    colour : tuple of float
        RGB between 0 and 1.
    """

    id: int
    name: str
    colour: tuple[float, float, float]


@dataclass(frozen=True)
class ObjectStats:
    """Measured from the pixels.

    Attributes
    ----------
    area : int
        Pixels, in all planes.
    centroid : tuple of float
        Along all axes of the label array.
    box : tuple of slice
        Along all axes.
    plane_index : tuple of int
        Where to look at it: the plane of the last two axes in which it is largest.
    """

    area: int
    centroid: tuple[float, ...]
    box: tuple[slice, ...]
    plane_index: tuple[int, ...]

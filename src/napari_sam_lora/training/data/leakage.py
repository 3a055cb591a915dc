"""Keep training objects from leaking the masks of held-out objects on other planes of the same stack.

Neighbouring planes of a stack look alike, so an object's mask on one plane nearly gives its mask on the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_sam_lora.images import StackPosition
from napari_sam_lora.training.data.samples import ObjectRef, Plane

# A training object leaks if more than this share of its pixels is covered by held-out objects of other planes ...
MAX_COVERED_SHARE = 0.1
# ... or, where whole planes are held out, if its plane is at most this many planes away from one of them.
MAX_PLANES_AWAY = 2


@dataclass(frozen=True, eq=False)
class _StackObject:
    """An object and its position in its stack."""

    ref: ObjectRef
    plane: Plane
    position: StackPosition
    box: tuple[int, int, int, int]

    @property
    def orientation(self) -> tuple[int, int]:
        """Axes of the stack that its plane has."""
        return self.position.plane_axes

    @property
    def mask(self) -> NDArray[np.bool_]:
        """Its pixels within its box."""
        y0, x0, y1, x1 = self.box
        return self.plane.labels[y0:y1, x0:x1] == self.ref.label

    def pixels_in(self, whole: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return its box of an array of the whole plane, as a view."""
        (y, x), (y0, x0, y1, x1) = self.position.corner, self.box
        return whole[y + y0 : y + y1, x + x0 : x + x1]


def drop_leaking_objects(
    train: Sequence[ObjectRef], test: Sequence[ObjectRef], planes: Sequence[Plane]
) -> tuple[ObjectRef, ...]:
    """Drop training objects that overlap held-out ones on other planes of the same stack (leakage).

    An object leaks if held-out objects of other planes cover more than `MAX_COVERED_SHARE` of it or, where whole planes
    are held out, if it is at most `MAX_PLANES_AWAY` planes away from one of them.

    Parameters
    ----------
    train, test : sequence of ObjectRef
    planes : sequence of Plane
        Planes of both; empty if none is a plane of a stack.

    Returns
    -------
    tuple of ObjectRef
        Training objects that do not leak.
    """
    held_out = _by_stack(test, planes)
    leaking: set[ObjectRef] = set()
    for stack, own in _by_stack(train, planes).items() if held_out else ():
        others = held_out.get(stack, [])
        leaking |= _near_layers(own, others) | _on_same_pixels(own, others) | _in_other_orientations(own, others)
    return tuple(ref for ref in train if ref not in leaking)


def is_layer(unit: str) -> bool:
    """Return whether a unit is a layer of planes, not a region of all planes."""
    return unit.partition(":")[2].startswith("z")


def whole_shape(plane: Plane) -> tuple[int, int]:
    """Return (y, x) of a plane; for a crop, (y, x) of the whole plane."""
    return (plane.position and plane.position.plane_shape) or plane.prepared.shape


def _by_stack(refs: Sequence[ObjectRef], planes: Sequence[Plane]) -> dict[str, list[_StackObject]]:
    stacks: dict[str, list[_StackObject]] = {}
    boxes: dict[int, dict[int, tuple[int, int, int, int]]] = {}
    for ref in refs if planes else ():
        plane = planes[ref.plane]
        if plane.position is not None and plane.position.index:
            box_of = boxes.setdefault(ref.plane, {found.label: found.box for found in plane.objects})
            stack_object = _StackObject(ref, plane, plane.position, box_of[ref.label])
            stacks.setdefault(plane.position.stack, []).append(stack_object)
    return stacks


def _near_layers(own: list[_StackObject], others: list[_StackObject]) -> set[ObjectRef]:
    """Find objects on planes near a held-out layer of planes."""
    held_out = {(one.orientation, one.position.index[-1]) for one in others if is_layer(one.ref.unit)}
    near = range(-MAX_PLANES_AWAY, MAX_PLANES_AWAY + 1)
    return {one.ref for one in own if any((one.orientation, one.position.index[-1] + d) in held_out for d in near)}


def _on_same_pixels(own: list[_StackObject], others: list[_StackObject]) -> set[ObjectRef]:
    """Find objects on pixels that a held-out object covers on another plane."""
    covered: dict[tuple[int, int], NDArray[np.bool_]] = {}
    for one in others:
        if not is_layer(one.ref.unit):
            whole = covered.setdefault(one.orientation, np.zeros(whole_shape(one.plane), np.bool_))
            one.pixels_in(whole)[one.mask] = True
    return {
        one.ref
        for one in own
        if one.orientation in covered and one.pixels_in(covered[one.orientation])[one.mask].mean() > MAX_COVERED_SHARE
    }


def _in_other_orientations(own: list[_StackObject], others: list[_StackObject]) -> set[ObjectRef]:
    """Find objects whose box crosses that of a held-out one on a plane of another orientation."""
    if len({one.orientation for one in (*own, *others)}) < 2:
        return set()
    held_out = [(one.orientation, one.position.extent(one.box)) for one in others]
    return {
        one.ref
        for one in own
        for orientation, extent in held_out
        if orientation != one.orientation
        and all(a < d and c < b for (a, b), (c, d) in zip(one.position.extent(one.box), extent, strict=True))
    }

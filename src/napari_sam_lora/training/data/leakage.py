"""Planes of one stack look alike: what lies beside an object on another plane of its stack is known with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_sam_lora.images import StackPosition
from napari_sam_lora.training.data.samples import ObjectRef, Plane

# A training object is beside a held-out one if so much of it lies on pixels where one is on another plane ...
COVERED = 0.1
# ... or, where whole planes are held out, on a plane so near to one of those.
GAP = 2


@dataclass(frozen=True, eq=False)
class _StackObject:
    """An object and where it lies in its stack."""

    ref: ObjectRef
    plane: Plane
    position: StackPosition
    box: tuple[int, int, int, int]

    @property
    def view(self) -> tuple[int, int]:
        return self.position.plane_axes

    @property
    def mask(self) -> NDArray[np.bool_]:
        """Within its box."""
        y0, x0, y1, x1 = self.box
        return self.plane.labels[y0:y1, x0:x1] == self.ref.label

    def pixels_in(self, whole: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Its box in an array of the whole plane; not a copy."""
        (y, x), (y0, x0, y1, x1) = self.position.corner, self.box
        return whole[y + y0 : y + y1, x + x0 : x + x1]


def drop_leaking_objects(
    train: Sequence[ObjectRef], test: Sequence[ObjectRef], planes: Sequence[Plane]
) -> tuple[ObjectRef, ...]:
    """The training objects that lie beside no held-out object of the same stack.

    An object goes through several planes, so its pixels on one plane tell its mask on the next.

    Parameters
    ----------
    train, test : sequence of ObjectRef
    planes : sequence of Plane
        Of both; empty if none is a plane of a stack.
    """
    held = _by_stack(test, planes)
    beside: set[ObjectRef] = set()
    for stack, own in _by_stack(train, planes).items() if held else ():
        others = held.get(stack, [])
        beside |= _near_layers(own, others) | _on_pixels(own, others) | _in_other_views(own, others)
    return tuple(ref for ref in train if ref not in beside)


def is_layer(unit: str) -> bool:
    """Whether a unit is a layer of planes, not a region of all of them."""
    return unit.partition(":")[2].startswith("z")


def whole_shape(plane: Plane) -> tuple[int, int]:
    """(y, x) of a plane; of a crop, those of the plane that it is from."""
    return (plane.position and plane.position.plane_shape) or plane.prepared.shape


def _by_stack(refs: Sequence[ObjectRef], planes: Sequence[Plane]) -> dict[str, list[_StackObject]]:
    stacks: dict[str, list[_StackObject]] = {}
    boxes: dict[int, dict[int, tuple[int, int, int, int]]] = {}
    for ref in refs if planes else ():
        plane = planes[ref.plane]
        if plane.position is not None and plane.position.index:
            known = boxes.setdefault(ref.plane, {found.label: found.box for found in plane.objects})
            placed = _StackObject(ref, plane, plane.position, known[ref.label])
            stacks.setdefault(plane.position.stack, []).append(placed)
    return stacks


def _near_layers(own: list[_StackObject], others: list[_StackObject]) -> set[ObjectRef]:
    held = {(one.view, one.position.index[-1]) for one in others if is_layer(one.ref.unit)}
    near = range(-GAP, GAP + 1)
    return {one.ref for one in own if any((one.view, one.position.index[-1] + step) in held for step in near)}


def _on_pixels(own: list[_StackObject], others: list[_StackObject]) -> set[ObjectRef]:
    covered: dict[tuple[int, int], NDArray[np.bool_]] = {}
    for one in others:
        if not is_layer(one.ref.unit):
            whole = covered.setdefault(one.view, np.zeros(whole_shape(one.plane), np.bool_))
            one.pixels_in(whole)[one.mask] = True
    return {
        one.ref for one in own if one.view in covered and one.pixels_in(covered[one.view])[one.mask].mean() > COVERED
    }


def _in_other_views(own: list[_StackObject], others: list[_StackObject]) -> set[ObjectRef]:
    """Objects whose box crosses that of a held-out one on a plane of another orientation."""
    if len({one.view for one in (*own, *others)}) < 2:
        return set()
    held = [(one.view, one.position.extent(one.box)) for one in others]
    return {
        one.ref
        for one in own
        for view, extent in held
        if view != one.view
        and all(a < d and c < b for (a, b), (c, d) in zip(one.position.extent(one.box), extent, strict=True))
    }

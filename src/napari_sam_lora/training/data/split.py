"""Which objects a run trains on and which it tests on: apart in space, and the same in every round."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from napari_sam_lora.labels import LabelledObject
from napari_sam_lora.training.data.leakage import drop_leaking_objects, whole_shape
from napari_sam_lora.training.data.samples import ObjectRef, Plane

BLOCKS = 4  # a lone image is split by space in BLOCKS x BLOCKS parts, the same on all planes of a stack
DEPTH = 8  # planes of a part, where objects are too large to be split within planes
FOLDS = 3
FEWEST_HELD_OUT = 5
FEWEST_OBJECTS = 3


@dataclass(frozen=True)
class Split:
    """Which objects a run trains on and which it tests on.

    Attributes
    ----------
    train, test : tuple of ObjectRef
    held_out : tuple of str
        Units of the test objects, and those held out earlier; given to a later split, they stay held out.
    beside : int
        Objects in neither part, because they lie beside a held-out one on another plane of the same stack.
    """

    train: tuple[ObjectRef, ...]
    test: tuple[ObjectRef, ...]
    held_out: tuple[str, ...]
    beside: int = 0

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a user should know of objects that are not used."""
        if not self.beside:
            return ()
        are = "objects are" if self.beside > 1 else "object is"
        return (f"{self.beside} {are} not trained on, because held-out ones are beside on other planes of the stack.",)


def list_objects(planes: Sequence[Plane], held_out: Sequence[str] = ()) -> tuple[ObjectRef, ...]:
    """All objects; several images or stacks are split as wholes, a lone one by space.

    All planes of a stack are split alike: each has the same regions held out, or, where objects are too large for
    that, layers of `DEPTH` planes are. An image or stack of which parts were held out earlier goes on being split so.
    """
    several = len({source_of(plane) for plane in planes if plane.objects}) > 1
    parts = {unit.partition(":")[0]: unit.partition(":")[2] for unit in held_out if ":" in unit}
    layered = {source for source in map(source_of, planes) if _is_layered(source, planes, parts.get(source))}
    refs = []
    for index, plane in enumerate(planes):
        source = source_of(plane)
        for found in plane.objects:
            if several and source not in parts:
                unit = source
            elif source in layered:
                unit = f"{source}:{_layer(plane)}"
            else:
                unit = f"{source}:{_block(found, plane)}"
            refs.append(ObjectRef(index, found.label, unit))
    return tuple(refs)


def split_objects(
    objects: Sequence[ObjectRef], share: float, held_out: Sequence[str] = (), planes: Sequence[Plane] = ()
) -> Split:
    """Hold out whole units with about a share of the objects.

    The order in which units are held out depends on their content (of stacks: their name) alone, and units in
    ``held_out`` come first, so an object that was held out stays so when labels are added. A unit with so many objects
    that more than twice the share would be held out is left to train on; and no more than the share of the units is
    held out if they have `FEWEST_HELD_OUT` objects, because an adapter needs to see different images.

    Parameters
    ----------
    share : float
        0 holds nothing out.
    held_out : sequence of str
        Units of an earlier split.
    planes : sequence of Plane
        Of the objects; needed where they are planes of a stack.

    Returns
    -------
    Split
        At least one unit is left to train on.
    """
    chosen = _choose(objects, share, set(held_out))
    while chosen:
        train = tuple(ref for ref in objects if ref.unit not in chosen)
        test = tuple(ref for ref in objects if ref.unit in chosen)
        apart = drop_leaking_objects(train, test, planes)
        if apart:
            return Split(apart, test, tuple(sorted({*chosen, *held_out})), len(train) - len(apart))
        chosen.pop()  # all others lie beside what would be held out
    return Split(tuple(objects), (), tuple(sorted(set(held_out))))


def _choose(objects: Sequence[ObjectRef], share: float, earlier: set[str]) -> list[str]:
    """Units to be held out, those held out earlier first."""
    sizes = Counter(ref.unit for ref in objects)
    units = sorted(sizes, key=lambda unit: (unit not in earlier, _order(unit)))
    chosen: list[str] = []
    count = 0
    for unit in units if share > 0 else ():
        too_many = count + sizes[unit] > 2 * share * len(objects)
        enough = count >= share * len(objects) or (
            len(chosen) >= max(1, round(share * len(units))) and count >= FEWEST_HELD_OUT
        )
        if len(chosen) < len(units) - 1 and (unit in earlier or not (enough or too_many)):
            chosen.append(unit)
            count += sizes[unit]
    if share > 0 and not chosen and len(units) > 1:
        chosen.append(min(units, key=lambda unit: sizes[unit]))
    return chosen


def plan_folds(objects: Sequence[ObjectRef], split: Split, share: float, planes: Sequence[Plane] = ()) -> list[Split]:
    """The splits of a cross-validation where too few objects are held out but there are enough; otherwise none."""
    if share == 0 or len(split.test) >= FEWEST_HELD_OUT or len(objects) < FEWEST_OBJECTS:
        return []
    return cross_validation(objects, planes)


def cross_validation(objects: Sequence[ObjectRef], planes: Sequence[Plane] = (), folds: int = FOLDS) -> list[Split]:
    """Splits in which each object is held out once.

    Units are kept whole where there are enough of them; otherwise single objects are held out. Splits in which
    nothing would be left to train on, because all other objects lie beside those held out, are left out.
    """
    units = {ref.unit for ref in objects}
    by_object = len(units) < folds

    def unit_of(ref: ObjectRef) -> str:
        return f"{ref.unit}/{ref.label}" if by_object else ref.unit

    members: dict[str, list[ObjectRef]] = {}
    for ref in objects:
        members.setdefault(unit_of(ref), []).append(ref)
    parts: list[list[ObjectRef]] = [[] for _ in range(min(folds, len(members)))]
    for unit in sorted(members, key=lambda unit: (-len(members[unit]), _order(unit))):
        min(parts, key=len).extend(members[unit])
    splits = []
    for part in map(set, parts):
        train = tuple(ref for ref in objects if ref not in part)
        apart = drop_leaking_objects(train, tuple(part), planes)
        if apart:
            splits.append(Split(apart, tuple(ref for ref in objects if ref in part), (), len(train) - len(apart)))
    return splits


def source_of(plane: Plane) -> str:
    """Key of the image or stack that a plane is from."""
    position = plane.position
    if position is None:
        return plane.key
    # A crop of a single image names that by its content.
    return position.stack if not position.index else _order(f"stack {position.stack}")


def _is_layered(source: str, planes: Sequence[Plane], earlier: str | None) -> bool:
    """Whether a stack is split in layers of planes: as it was earlier, or if its objects are larger than blocks."""
    if earlier is not None:
        return earlier.startswith("z")
    own = [plane for plane in planes if source_of(plane) == source and plane.position and plane.position.index]
    sides = []
    for plane in own:
        height, width = whole_shape(plane)
        for y0, x0, y1, x1 in (found.box for found in plane.objects):
            sides.append(max((y1 - y0) / height, (x1 - x0) / width))
    return len(set(map(_layer, own))) > 1 and bool(sides) and float(np.median(sides)) > 1 / BLOCKS


def _layer(plane: Plane) -> str:
    position = plane.position
    if position is None or not position.index:
        return "z"
    axes = ",".join(map(str, position.plane_axes))
    return f"z{position.index[-1] // DEPTH} {axes}"


def _block(found: LabelledObject, plane: Plane) -> str:
    corner = (0, 0) if plane.position is None else plane.position.corner
    y, x = (
        int((first + centre) / side * BLOCKS)
        for first, centre, side in zip(corner, found.centre, whole_shape(plane), strict=True)
    )
    return f"{y},{x}"


def _order(unit: str) -> str:
    return hashlib.blake2b(unit.encode(), digest_size=8).hexdigest()

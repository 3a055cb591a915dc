"""Split objects into those to train on and those to test on: separate in space, and the same in every round."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from napari_sam_lora.labels import LabelledObject
from napari_sam_lora.parameters.training import TrainConfig
from napari_sam_lora.text import Caution
from napari_sam_lora.training.data.leakage import drop_leaking_objects, whole_shape
from napari_sam_lora.training.data.samples import ObjectRef, Plane

BLOCKS = 4  # a single image is split into BLOCKS x BLOCKS regions, the same on all planes of a stack
DEPTH = 8  # planes of a layer, where objects are too large for a split within planes
WHOLE_IMAGES = (
    4  # of so many images whole ones are held out; of fewer, parts of each, so that training sees all of them
)
FOLDS = 3  # where all objects are trained on
MORE_FOLDS = 2  # of the objects that are trained on, where few others are held out
FEWEST_HELD_OUT = 5
ENOUGH_HELD_OUT = 20
FEWEST_OBJECTS = 3
SHARE = TrainConfig().validation_share


@dataclass(frozen=True)
class Split:
    """Objects that a run trains on and objects that it tests on.

    Attributes
    ----------
    train, test : tuple of ObjectRef
    held_out : tuple of str
        Units of the test objects, and those held out earlier; passed to a later split, they stay held out.
    leaking : int
        Number of objects in neither, because they overlap a held-out one on another plane of the same stack.
    """

    train: tuple[ObjectRef, ...]
    test: tuple[ObjectRef, ...]
    held_out: tuple[str, ...]
    leaking: int = 0

    @property
    def cautions(self) -> tuple[Caution, ...]:
        """Cautions about objects that are not used."""
        if not self.leaking:
            return ()
        are = "objects are" if self.leaking > 1 else "object is"
        message = f"{self.leaking} {are} not trained on: they lie next to held-out ones in the stack."
        return (Caution(message, "leaking-objects"),)


def list_objects(planes: Sequence[Plane], held_out: Sequence[str] = ()) -> tuple[ObjectRef, ...]:
    """List all objects with their units: whole images or stacks, or regions of images if there are few.

    Images are whole if there are at least `WHOLE_IMAGES`, and stacks if there are several. All planes of a lone stack
    are split alike: the same regions of each are held out, or layers of `DEPTH` planes where objects are too large for
    that, or where fewer objects would leak, such as those of one structure that runs through the stack. An image or
    stack that was whole, or split into regions or layers, when it was held out earlier stays so.
    """
    sources = {source_of(plane) for plane in planes if plane.objects}
    has_stacks = any(plane.position is not None and plane.position.index for plane in planes if plane.objects)
    are_whole = len(sources) >= WHOLE_IMAGES or (len(sources) > 1 and has_stacks)
    held_whole = {unit for unit in held_out if ":" not in unit} if len(sources) > 1 else set()
    earlier = {unit.partition(":")[0]: unit.partition(":")[2] for unit in held_out if ":" in unit}
    layered = {source for source in sources if _is_layered(source, planes, earlier.get(source))}
    refs = []
    for index, plane in enumerate(planes):
        source = source_of(plane)
        if source in held_whole or (are_whole and source not in earlier):
            refs += [ObjectRef(index, found.label, source) for found in plane.objects]
        else:
            refs += _parts(index, plane, source in layered)
    return tuple(refs)


def split_objects(
    objects: Sequence[ObjectRef], share: float, held_out: Sequence[str] = (), planes: Sequence[Plane] = ()
) -> Split:
    """Hold out whole units with about a share of the objects.

    The order in which units are held out depends only on their content (for stacks: their name), and units in
    ``held_out`` come first, so a held-out object stays held out when labels are added. A unit with so many objects
    that more than twice the share would be held out is trained on; and no more than the share of the units is
    held out if they have `FEWEST_HELD_OUT` objects, because an adapter needs to see different images.

    Parameters
    ----------
    share : float
        0 holds nothing out.
    held_out : sequence of str
        Units of an earlier split.
    planes : sequence of Plane
        Planes of the objects; needed where they are planes of a stack.

    Returns
    -------
    Split
        At least one unit is left to train on.
    """
    chosen = _choose(objects, share, set(held_out))
    while chosen:
        train = tuple(ref for ref in objects if ref.unit not in chosen)
        test = tuple(ref for ref in objects if ref.unit in chosen)
        kept = drop_leaking_objects(train, test, planes)
        if kept:
            return Split(kept, test, tuple(sorted({*chosen, *held_out})), len(train) - len(kept))
        chosen.pop()  # all other objects leak
    return Split(tuple(objects), (), tuple(sorted(set(held_out))))


def _choose(objects: Sequence[ObjectRef], share: float, earlier: set[str]) -> list[str]:
    """Choose the units to be held out, those held out earlier first."""
    sizes = Counter(ref.unit for ref in objects)
    units = sorted(sizes, key=lambda unit: (unit not in earlier, _stable_hash(unit)))
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


@dataclass(frozen=True)
class Plan:
    """Split for the adapter of a run, with the splits of its cross-validation.

    Attributes
    ----------
    main : Split
        Its ``test`` is empty where the adapter is trained on all objects.
    folds : tuple of Split
    """

    main: Split
    folds: tuple[Split, ...] = ()

    def fold_steps(self, steps: int) -> tuple[int, ...]:
        """Return the steps of each fold, which sees each of its fewer objects as often as a run of so many steps."""
        return tuple(max(1, min(steps, round(steps * len(fold.train) / len(self.main.train)))) for fold in self.folds)


def plan_folds(
    objects: Sequence[ObjectRef],
    split: Split,
    share: float,
    planes: Sequence[Plane] = (),
    resumed: bool = False,
) -> Plan:
    """Plan a cross-validation if fewer than `ENOUGH_HELD_OUT` objects are held out.

    Where not even `FEWEST_HELD_OUT` are, the adapter is trained on all objects, and others test all of them in `FOLDS`
    folds. Otherwise others test the objects that it is trained on, in `MORE_FOLDS` folds of whole units.

    Parameters
    ----------
    objects : sequence of ObjectRef
    split : Split
        Of these objects.
    share : float
        Share of the objects to be held out; 0 plans no folds.
    planes : sequence of Plane
        Planes of the objects; needed where they are planes of a stack.
    resumed : bool
        The run continues from an adapter, which has seen the training objects: they test nothing.
    """
    if share == 0 or len(split.test) >= ENOUGH_HELD_OUT or len(objects) < FEWEST_OBJECTS:
        return Plan(split)
    if len(split.test) < FEWEST_HELD_OUT:
        folds = cross_validation(objects, planes)
        return Plan(Split(tuple(objects), (), split.held_out), tuple(folds)) if folds else Plan(split)
    if resumed or len({ref.unit for ref in split.train}) < MORE_FOLDS:
        return Plan(split)
    folds = cross_validation(objects, planes, MORE_FOLDS, split.train)
    # With less than half of the objects, an adapter says little about this one.
    return Plan(split, tuple(fold for fold in folds if 2 * len(fold.train) >= len(split.train)))


def cross_validation(
    objects: Sequence[ObjectRef],
    planes: Sequence[Plane] = (),
    folds: int = FOLDS,
    tested: Sequence[ObjectRef] | None = None,
) -> list[Split]:
    """Make splits in which each tested object is held out once; by default all are tested.

    Units are kept whole where there are enough of them; otherwise single objects are held out. Splits with nothing to
    train on, because all other objects would leak, are left out.
    """
    tested = objects if tested is None else tested
    by_object = len({ref.unit for ref in tested}) < folds

    def unit_of(ref: ObjectRef) -> str:
        return f"{ref.unit}/{ref.label}" if by_object else ref.unit

    members: dict[str, list[ObjectRef]] = {}
    for ref in tested:
        members.setdefault(unit_of(ref), []).append(ref)
    held_out: list[list[ObjectRef]] = [[] for _ in range(min(folds, len(members)))]
    for unit in sorted(members, key=lambda unit: (-len(members[unit]), _stable_hash(unit))):
        min(held_out, key=len).extend(members[unit])
    splits = []
    for fold in map(set, held_out):
        train = tuple(ref for ref in objects if ref not in fold)
        kept = drop_leaking_objects(train, tuple(fold), planes)
        if kept:
            splits.append(Split(kept, tuple(ref for ref in objects if ref in fold), (), len(train) - len(kept)))
    return splits


def source_of(plane: Plane) -> str:
    """Return the key of the image or stack that a plane is from."""
    position = plane.position
    if position is None:
        return plane.key
    # The stack name of a crop of a single image is a hash of that image already.
    return position.stack if not position.index else _stable_hash(f"stack {position.stack}")


def _is_layered(source: str, planes: Sequence[Plane], earlier: str | None) -> bool:
    """Return whether a stack is split into layers.

    It is if it was so earlier, if its objects are larger than regions, or if more objects are left to train on.
    """
    if earlier is not None:
        return earlier.startswith("z")
    own = [plane for plane in planes if source_of(plane) == source and plane.position and plane.position.index]
    sides = []
    for plane in own:
        height, width = whole_shape(plane)
        for y0, x0, y1, x1 in (found.box for found in plane.objects):
            sides.append(max((y1 - y0) / height, (x1 - x0) / width))
    if len(set(map(_layer, own))) < 2 or not sides:
        return False
    return float(np.median(sides)) > 1 / BLOCKS or _count_trained(own, True) > _count_trained(own, False)


def _count_trained(planes: Sequence[Plane], layered: bool) -> int:
    """Count the objects of a stack that are left to train on, if it is split into layers or regions; 0 without a test.

    The share is that of the default settings, so that the kind of split does not depend on settings.
    """
    refs = [ref for index, plane in enumerate(planes) for ref in _parts(index, plane, layered)]
    split = split_objects(refs, SHARE, (), planes)
    return len(split.train) if split.test else 0


def _parts(index: int, plane: Plane, layered: bool) -> list[ObjectRef]:
    """List the objects of a plane with layers or regions as units."""
    source = source_of(plane)
    return [
        ObjectRef(index, found.label, f"{source}:{_layer(plane) if layered else _block(found, plane)}")
        for found in plane.objects
    ]


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


def _stable_hash(unit: str) -> str:
    return hashlib.blake2b(unit.encode(), digest_size=8).hexdigest()

"""Objects found in one plane without prompts, in the worker thread, and the maps they were cut out of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_sam_lora.errors import InputError
from napari_sam_lora.labels import find_objects
from napari_sam_lora.parameters.everything import EverythingConfig
from napari_sam_lora.parameters.instances import InstanceConfig
from napari_sam_lora.regions import Region
from napari_sam_lora.session.jobs.worker import CancelToken
from napari_sam_lora.session.labels.classes import PredictedClass, predict_classes
from napari_sam_lora.session.labels.proposals import Proposal, ProposedChange
from napari_sam_lora.session.labels.stores import Pixels
from napari_sam_lora.session.plane_key import ImageSource, PlaneKey
from napari_sam_lora.session.prompting.engine import Engine

if TYPE_CHECKING:
    from napari_sam_lora.model.predictor import Predictor


@dataclass(frozen=True)
class HeadSearch:
    """Search with the dense head.

    Attributes
    ----------
    values : mapping
        Fields of `InstanceConfig` that differ from those that suit the head.
    """

    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ClickSearch:
    """Search with a grid of clicks.

    Attributes
    ----------
    config : EverythingConfig
    smallest : int
        Objects with fewer pixels are left out.
    """

    config: EverythingConfig = field(default_factory=EverythingConfig)
    smallest: int = 0


Search = HeadSearch | ClickSearch


@dataclass(frozen=True, eq=False)
class FoundObject:
    """An object that was found without prompts, its score from 0 to 1, and its class if one is predicted."""

    region: Region
    score: float
    predicted: PredictedClass | None = None


@dataclass(frozen=True, eq=False)
class FoundPlane:
    """Objects found in a plane, labelled or not, and the maps from which others can be cut without the model.

    Attributes
    ----------
    plane : PlaneKey
    objects : tuple of FoundObject
    adapter : str
        Name of the adapter that was active; empty for the base model.
    smallest : int
        Objects with fewer pixels were left out.
    maps : float16 (2 or more, y, x), optional
        See `napari_sam_lora.stacks.dense.dense_maps`. None with a grid of clicks, and where memory is short.
    config : InstanceConfig, optional
        How the objects were cut out of maps; None with a grid of clicks.
    refine : bool
        Whether the mask decoder should segment the objects again, because that suits the head.
    is_refined : bool
        Whether it has.
    classes : mapping of int to str
        Ids and names of the classes whose maps are the last.
    """

    plane: PlaneKey
    objects: tuple[FoundObject, ...]
    adapter: str
    smallest: int = 0
    maps: NDArray[np.float16] | None = None
    config: InstanceConfig | None = None
    refine: bool = False
    is_refined: bool = False
    classes: Mapping[int, str] = field(default_factory=dict)

    def is_cut_with(self, values: Mapping[str, Any]) -> bool:
        """Return whether cutting with these fields of `InstanceConfig` would change nothing, or cannot be done."""
        return self.maps is None or self.config is None or replace(self.config, **values) == self.config

    def is_up_to_date(self, values: Mapping[str, Any]) -> bool:
        """Return whether the objects are cut with these values, and refined if that suits the head."""
        return self.is_cut_with(values) and (self.maps is None or self.is_refined == self.refine)


def find_in_plane(
    token: CancelToken, engine: Engine, source: ImageSource, plane: PlaneKey, search: Search
) -> FoundPlane:
    """Find all objects of a plane.

    Raises
    ------
    InputError
        If the dense head is asked for and the model has none.
    """
    token.check()
    pixels = source.read(plane)
    if isinstance(search, ClickSearch):
        objects = _find_by_clicks(token, engine.predictor(), pixels, search)
        return FoundPlane(plane, objects, engine.name, search.smallest)
    from napari_sam_lora.stacks.dense import dense_maps, dense_model  # noqa: PLC0415

    predictor = engine.predictor()
    head = dense_model(predictor)
    maps = dense_maps(predictor, pixels, token.progress).astype(np.float16)
    config = replace(head.instances, **search.values)
    uncut = FoundPlane(plane, (), engine.name, config.smallest, maps, config, head.refine, classes=head.classes)
    return _cut_and_refine(token, uncut, config, predictor, pixels)


def cut_again(found: FoundPlane, values: Mapping[str, Any]) -> FoundPlane:
    """Cut the objects out of the maps again, without the model; takes a fraction of a second.

    Parameters
    ----------
    found : FoundPlane
    values : mapping
        Fields of `InstanceConfig` to change.

    Raises
    ------
    InputError
        If there are no maps.
    """
    from napari_sam_lora.model.dense.instances import maps_to_labels  # noqa: PLC0415

    if found.maps is None or found.config is None:
        raise InputError("The maps of this plane were not kept: find its objects again.", code="no-maps")
    config = replace(found.config, **values)
    maps = found.maps.astype(np.float32)
    objects = _objects_of(maps_to_labels(maps[: len(maps) - len(found.classes)], config), maps, found.classes)
    return replace(found, objects=objects, config=config, smallest=config.smallest, is_refined=False)


def cut_and_refine_again(
    token: CancelToken, engine: Engine, source: ImageSource, found: FoundPlane, values: Mapping[str, Any]
) -> FoundPlane:
    """Cut objects like `cut_again`, and refine them if that suits the head."""
    token.check()
    if not found.refine:
        return cut_again(found, values)
    config = None if found.config is None else replace(found.config, **values)
    return _cut_and_refine(token, found, config, engine.predictor(), source.read(found.plane))


def propose(found: FoundPlane, labels: Pixels) -> Proposal:
    """Propose the found objects on the unlabelled pixels (y, x) of their plane, the best first.

    Objects of which more than half is labelled already, or of which fewer pixels are left than the smallest size,
    count as left alone.
    """
    changes, left_alone = [], 0
    for one in found.objects:
        y0, x0, y1, x1 = one.region.box
        free = one.region.crop & (labels[y0:y1, x0:x1] == 0)
        count = np.count_nonzero(free)
        if count < max(1, found.smallest) or 2 * count < one.region.area:
            left_alone += 1
            continue
        new = Region.of(free, (y0, x0))
        changes.append(ProposedChange(found.plane, 0, Region.empty(), new, one.score, 0.0, predicted=one.predicted))
    changes.sort(key=lambda change: -change.score)
    return Proposal(tuple(changes), "everything", found.adapter, left_alone)


def _cut_and_refine(
    token: CancelToken, found: FoundPlane, config: InstanceConfig | None, predictor: Predictor, pixels: NDArray[Any]
) -> FoundPlane:
    """Cut objects out of the maps, and let the mask decoder segment each again if that suits the head."""
    from napari_sam_lora.stacks.dense import find_instances  # noqa: PLC0415

    token.check()
    objects: tuple[FoundObject, ...] = ()
    if found.maps is not None:
        maps = found.maps.astype(np.float32)
        objects = _objects_of(find_instances(predictor, pixels, maps, config, found.refine), maps, found.classes)
    token.check()
    smallest = 0 if config is None else config.smallest
    return replace(found, objects=objects, config=config, smallest=smallest, is_refined=found.refine)


def _find_by_clicks(
    token: CancelToken, predictor: Predictor, pixels: NDArray[Any], search: ClickSearch
) -> tuple[FoundObject, ...]:
    """Find objects with a grid of clicks; where they overlap, smaller ones are in front."""
    from napari_sam_lora.stacks.everything import find_everything, numbered  # noqa: PLC0415

    found = find_everything(predictor, pixels, search.config, token.progress)
    token.check()
    shape = (pixels.shape[0], pixels.shape[1])
    kept = [one for one in found if search.smallest <= one.region.area <= shape[0] * shape[1] / 2]
    kept.sort(key=lambda one: -one.region.area)
    instances = numbered([one.region for one in kept], shape)
    objects = []
    for number, one in enumerate(kept, start=1):
        y0, x0, y1, x1 = one.region.box
        objects.append(FoundObject(Region((y0, x0), instances[y0:y1, x0:x1] == number), one.score))
    return tuple(objects)


def _objects_of(
    instances: NDArray[np.int32], maps: NDArray[np.float32], classes: Mapping[int, str]
) -> tuple[FoundObject, ...]:
    """Return the objects of a label image (y, x), each with its mean foreground probability as score, and its class."""
    predicted = predict_classes(instances, maps, classes)
    objects = []
    for one in find_objects(instances):
        y0, x0, y1, x1 = one.box
        mask = instances[y0:y1, x0:x1] == one.label
        score = min(1.0, float(maps[0, y0:y1, x0:x1][mask].mean()))
        objects.append(FoundObject(Region((y0, x0), mask), score, predicted.get(one.label)))
    return tuple(objects)

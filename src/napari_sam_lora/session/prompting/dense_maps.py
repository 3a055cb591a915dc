"""Maps of the dense head for a plane, computed in the worker thread, and the objects that are cut out of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_sam_lora.labels import find_objects
from napari_sam_lora.regions import Region
from napari_sam_lora.session.jobs.worker import CancelToken
from napari_sam_lora.session.labels.classes import predict_classes
from napari_sam_lora.session.labels.proposals import Proposal
from napari_sam_lora.session.labels.stores import Pixels
from napari_sam_lora.session.plane_key import ImageSource, PlaneKey
from napari_sam_lora.session.prompting.engine import Engine
from napari_sam_lora.session.prompting.replay import FoundObject, propose_new

if TYPE_CHECKING:
    from napari_sam_lora.parameters.instances import InstanceConfig


@dataclass(frozen=True, eq=False)
class PlaneMaps:
    """Maps of one plane, from which objects can be cut again and again without the model.

    Attributes
    ----------
    plane : PlaneKey
    maps : float32 (2 or more, y, x)
        See `napari_sam_lora.stacks.dense.dense_maps`.
    instances : InstanceConfig
        Parameters that suit the head.
    adapter : str
        Name of the adapter that was active; empty for the base model.
    classes : mapping of int to str
        Ids and names of the classes whose maps are the last.
    """

    plane: PlaneKey
    maps: NDArray[np.float32]
    instances: InstanceConfig
    adapter: str
    classes: Mapping[int, str] = field(default_factory=dict)


def predict_maps(token: CancelToken, engine: Engine, source: ImageSource, plane: PlaneKey) -> PlaneMaps:
    """Predict the maps of a plane; the model must have a dense head."""
    from napari_sam_lora.stacks.dense import dense_maps, dense_model  # noqa: PLC0415

    token.check()
    predictor = engine.predictor()
    maps = dense_maps(predictor, source.read(plane), token.progress)
    token.check()
    dense = dense_model(predictor)
    return PlaneMaps(plane, maps, dense.instances, engine.name, dense.classes)


def propose_from_maps(found: PlaneMaps, labels: Pixels, config: InstanceConfig) -> Proposal:
    """Propose the objects of which at least half is unlabelled, the surest first; takes a fraction of a second.

    Parameters
    ----------
    found : PlaneMaps
    labels : int (y, x)
        Present labels of the plane.
    config : InstanceConfig
        How objects are cut out of the maps.
    """
    from napari_sam_lora.model.dense.instances import maps_to_labels  # noqa: PLC0415

    instances = maps_to_labels(found.maps[: len(found.maps) - len(found.classes)], config)
    classes = predict_classes(instances, found.maps, found.classes)
    objects = [
        FoundObject(Region(one.box[:2], mask), _mean_probability(found.maps, one.box, mask), classes.get(one.label))
        for one in find_objects(instances)
        if (mask := instances[one.box[0] : one.box[2], one.box[1] : one.box[3]] == one.label).any()
    ]
    return propose_new(found.plane, objects, labels, config.smallest, found.adapter)


def _mean_probability(maps: NDArray[np.float32], box: Any, mask: NDArray[np.bool_]) -> float:
    y0, x0, y1, x1 = box
    return min(1.0, float(maps[0, y0:y1, x0:x1][mask].mean()))

"""Conversion of objects and prompts to plain values for a project's JSON files, and back."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from types import MappingProxyType
from typing import Any

import numpy as np

from napari_sam_lora.io.coco.reading import segmentation_mask
from napari_sam_lora.io.coco.run_lengths import compress_runs, encode_runs
from napari_sam_lora.masks import MaskOptions
from napari_sam_lora.regions import Region
from napari_sam_lora.session.labels.history import Meta
from napari_sam_lora.session.labels.records import ObjectClass, ObjectRecord, StoredPrompts
from napari_sam_lora.session.plane_key import PlaneKey
from napari_sam_lora.session.prompting.draft import PromptItem, Row

Plain = dict[str, Any]


def meta_to_plain(meta: Meta) -> Plain:
    """Convert the metadata of a label image."""
    return {
        "classes": classes_to_plain(meta.classes),
        "complete": [plane_to_plain(plane) for plane in sorted(meta.complete)],
        "objects": [record_to_plain(record) for _, record in sorted(meta.records.items())],
    }


def plane_to_plain(plane: PlaneKey) -> Plain:
    """Convert the key of a plane."""
    return {"image": plane.image, "axes": list(plane.axes), "index": list(plane.index)}


def plane_from_plain(values: Mapping[str, Any]) -> PlaneKey:
    """Make the key of a plane; the inverse of `plane_to_plain`."""
    first, second = values["axes"]
    return PlaneKey(str(values["image"]), (int(first), int(second)), tuple(int(place) for place in values["index"]))


def record_to_plain(record: ObjectRecord) -> Plain:
    """Convert the record of an object with its prompts."""
    return {
        "id": record.id,
        "class": record.class_id,
        "origin": record.origin,
        "score": None if math.isnan(record.score) else float(record.score),
        "approved": record.approved,
        "adapter": record.adapter,
        "origins": [{"plane": plane_to_plain(plane), "origin": origin} for plane, origin in record.origins.items()],
        "prompts": [
            {"plane": plane_to_plain(plane), "commits": [_stored_to_plain(one) for one in stored]}
            for plane, stored in record.prompts.items()
        ],
    }


def record_from_plain(values: Mapping[str, Any]) -> ObjectRecord:
    """Make the record of an object; the inverse of `record_to_plain`."""
    prompts = {
        plane_from_plain(one["plane"]): tuple(_stored_from_plain(stored) for stored in one["commits"])
        for one in values["prompts"]
    }
    return ObjectRecord(
        id=int(values["id"]),
        class_id=int(values["class"]),
        origin=values["origin"],
        score=math.nan if values["score"] is None else float(values["score"]),
        approved=bool(values["approved"]),
        prompts=MappingProxyType(prompts),
        adapter=str(values["adapter"]),
        origins=MappingProxyType({plane_from_plain(one["plane"]): one["origin"] for one in values.get("origins", ())}),
    )


def classes_to_plain(classes: Iterable[ObjectClass]) -> list[Plain]:
    """Convert classes."""
    return [asdict(one) | {"colour": list(one.colour)} for one in classes]


def classes_from_plain(values: Iterable[Mapping[str, Any]]) -> tuple[ObjectClass, ...]:
    """Make classes; the inverse of `classes_to_plain`."""
    classes = []
    for one in values:
        red, green, blue = (float(channel) for channel in one["colour"])
        classes.append(ObjectClass(int(one["id"]), str(one["name"]), (red, green, blue)))
    return tuple(classes)


def row_to_plain(row: Row) -> list[Plain]:
    """Convert the prompts of one object."""
    return [_item_to_plain(item) for item in row]


def row_from_plain(values: Iterable[Mapping[str, Any]]) -> Row:
    """Make the prompts of one object; the inverse of `row_to_plain`."""
    return tuple(_item_from_plain(item) for item in values)


def _stored_to_plain(stored: StoredPrompts) -> Plain:
    return {"options": asdict(stored.options), "items": row_to_plain(stored.row)}


def _stored_from_plain(values: Mapping[str, Any]) -> StoredPrompts:
    options = dict(values["options"])
    if options.get("window") is not None:
        low, high = options["window"]
        options["window"] = (float(low), float(high))
    return StoredPrompts(row_from_plain(values["items"]), MaskOptions(**options))


def _item_to_plain(item: PromptItem) -> Plain:
    values: Plain = {
        "id": item.id,
        "kind": item.kind,
        "positive": item.positive,
        "coordinates": np.asarray(item.coordinates, np.float64).tolist(),
    }
    if item.region is not None:
        crop = item.region.crop
        counts = compress_runs(encode_runs(crop)) if crop.size else ""
        values["region"] = {"origin": list(item.region.origin), "size": list(crop.shape), "counts": counts}
    return values


def _item_from_plain(values: Mapping[str, Any]) -> PromptItem:
    region = None
    if "region" in values:
        encoded = values["region"]
        height, width = (int(side) for side in encoded["size"])
        crop = np.zeros((height, width), np.bool_)
        if crop.size:
            crop = segmentation_mask({"size": [height, width], "counts": encoded["counts"]}, (height, width))
        top, left = encoded["origin"]
        region = Region((int(top), int(left)), crop)
    coordinates = np.array(values["coordinates"], np.float64).reshape(-1, 2)
    return PromptItem(int(values["id"]), values["kind"], bool(values["positive"]), coordinates, region)

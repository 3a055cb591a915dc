"""Snapshots of a session for a project."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_sam_lora.session.labels.label_set import LabelSet
from napari_sam_lora.session.labels.object_statistics import LARGE
from napari_sam_lora.session.labels.stores import Pixels
from napari_sam_lora.session.plane_key import ImageSource, PlaneKey
from napari_sam_lora.session.project.folder import Index, LabelSnapshot, Snapshot
from napari_sam_lora.session.project.image_references import ImageReference, relative_to
from napari_sam_lora.session.project.serialisation import (
    Plain,
    plane_to_plain,
    row_to_plain,
)
from napari_sam_lora.session.training_job import TrainingEvent

if TYPE_CHECKING:
    from napari_sam_lora.session.session import Session

_TYPES = {int(np.iinfo(kind).max): kind for kind in ("int8", "uint8", "int16", "uint16", "int32", "uint32")}


@dataclass(frozen=True)
class Extras:
    """Functions that give values of the viewer, which the session does not have; called on the owner's thread.

    Attributes
    ----------
    image_path : callable
        Returns the file of an image, by id; None if it is only in memory.
    layer : callable
        Returns display settings of a label image, by id, as plain values.
    settings : callable
        Returns tools and options as plain values.
    """

    image_path: Callable[[str], Path | None] = lambda _: None
    layer: Callable[[str], Plain] = lambda _: {}
    settings: Callable[[], Plain] = dict


def take_snapshot(
    session: Session,
    sets: Mapping[str, LabelSet],
    fresh: Collection[str],
    folder: Path,
    extras: Extras,
    history: Sequence[Plain],
) -> Snapshot:
    """Copy the planes that have changed since the last snapshot, and everything else, which is small.

    Call it on the owner's thread.

    Parameters
    ----------
    session : Session
    sets : mapping of str to LabelSet
        Label images by id.
    fresh : collection of str
        Label images of which all planes are copied, or of very large ones all planes that were measured.
    folder : Path
        Folder of the project; image paths are also stored relative to it.
    extras : Extras
    history : sequence of dict
        Training runs so far.
    """
    labels = tuple(_snapshot_labels(name, one, name in fresh, extras.layer(name)) for name, one in sets.items())
    images = tuple(_reference(name, one, extras.image_path(name), folder) for name, one in session.images.items())
    used = {record.adapter for one in sets.values() for record in one.meta.records.values()}
    used |= {session.models.active} | {str(run.get("adapter", "")) for run in history}
    present = {entry.name for entry in session.models.adapters.entries()} if used - {""} else set()
    adapters = {name: session.models.adapters.get(name) for name in sorted(used & present)}
    return Snapshot(_state(session, extras, history), images, labels, adapters)


def _snapshot_labels(name: str, labels: LabelSet, is_fresh: bool, layer: Plain) -> LabelSnapshot:
    """Copy the changed planes of a label image, or all of a fresh one."""
    shape, changed = labels.store.shape, labels.take_changes()
    wanted = {index for plane in changed for index in _crossed_planes(plane, shape)}
    planes: dict[Index, NDArray[Any] | None] = {}
    if is_fresh and math.prod(shape) <= LARGE:
        wanted = set(np.ndindex(*shape[:-2]))
    elif is_fresh:
        wanted |= set(labels.labelled_so_far())
    for index in sorted(wanted):
        pixels = labels.store.read(PlaneKey.of("", len(shape), index))
        planes[index] = _compact(pixels) if pixels.any() else None
    dtype = _TYPES.get(labels.store.largest_id, "int64")
    return LabelSnapshot(name, shape, dtype, planes, labels.meta, layer)


def _reference(name: str, source: ImageSource, path: Path | None, folder: Path) -> ImageReference:
    """Make the reference to an image; its hash is added when it is written."""
    path = path or getattr(source, "path", None)
    absolute = "" if path is None else str(path)
    relative = "" if path is None else relative_to(Path(path), folder)
    return ImageReference(name, source.name, absolute, relative, "", source.shape, tuple(source.spacing))


def _state(session: Session, extras: Extras, history: Sequence[Plain]) -> Plain:
    """Collect model, drafts, settings and training history as plain values for the manifest."""
    model = session.models.model
    drafts = [
        {"plane": plane_to_plain(plane), "rows": {str(obj): row_to_plain(row) for obj, row in draft.rows().items()}}
        for plane, draft in session.prompts.drafts.items()
        if draft.rows()
    ]
    return {
        "saved": datetime.now(UTC).isoformat(timespec="seconds"),
        "model": None
        if model is None
        else {"name": model.name, "hash": model.loaded.weights_hash, "input_size": model.predictor.input_size},
        "active": session.models.active,
        "target": session.labels.target,
        "batch": session.prompts.batch,
        "settings": extras.settings(),
        "drafts": drafts,
        "training": list(history),
        "held_out": sorted(session.training.held_out),
    }


def _crossed_planes(plane: PlaneKey, shape: tuple[int, ...]) -> Iterator[Index]:
    """Yield the positions of the planes of the last two axes that a plane of any view crosses."""
    rest = iter(plane.index)
    ranges = [range(shape[axis]) if axis in plane.axes else (next(rest),) for axis in range(len(shape))]
    for index in np.ndindex(*(len(places) for places in ranges[:-2])):
        yield tuple(int(places[place]) for places, place in zip(ranges, index, strict=False))


def _compact(pixels: Pixels) -> NDArray[Any]:
    """Convert labels to uint16, uint32 or int64, the smallest that holds them."""
    largest = int(pixels.max(initial=0))
    return pixels.astype(np.uint16 if largest < 2**16 else np.uint32 if largest < 2**32 else np.int64)


def training_to_plain(event: TrainingEvent) -> Plain:
    """Convert the last event of a run for the history of a project."""
    report = event.report
    values: Plain = {
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        "state": event.state,
        "message": event.message,
        "adapter": event.adapter,
        "activated": event.activated,
    }
    if report is not None:
        figures = {key: value for key, value in report.metrics().items() if key in ("base", "adapted")}
        values |= {
            "verdict": report.verdict,
            "reason": report.reason,
            "trained_on": report.train_count,
            "objects": asdict(report.counts),
            "held_out": list(report.held_out),
            "seconds": round(report.seconds, 1),
            "losses": [round(float(loss), 5) if math.isfinite(loss) else None for loss in report.losses],
            "figures": {
                name: {key: value if math.isfinite(value) else None for key, value in one.items()}
                for name, one in figures.items()
            },
        }
    return values

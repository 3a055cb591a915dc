"""The folder of a project: what is in it, and writing it so that it is whole at any moment.

    project.json            the manifest, for people and programs; replacing it is what makes a save count
    labels/NAME/…-7.tif     the planes of a label image that are not empty; 7 is the save that they changed in
    labels/NAME/objects-7.json   its objects, classes and prompts
    adapters/…              the adapters that were used

New files are written beside the old ones, then the manifest is replaced, then what it no longer names is removed. A
program that is killed anywhere leaves the project as it was, or as it became.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_sam_lora.errors import InputError
from napari_sam_lora.files import atomic_path
from napari_sam_lora.io.images import read_labels
from napari_sam_lora.io.tiff.writing import write_labels
from napari_sam_lora.session.labels.history import Meta
from napari_sam_lora.session.project.image_references import ImageReference
from napari_sam_lora.session.project.serialisation import Plain, meta_to_plain

if TYPE_CHECKING:
    from napari_sam_lora.lora.adapter import Adapter

MANIFEST = "project.json"
FORMAT = "napari-sam-lora project"
FORMAT_VERSION = 1
Index = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class LabelSnapshot:
    """A label image as it is at one moment.

    Attributes
    ----------
    id : str
    shape : tuple of int
    dtype : str
    planes : dict of tuple to array or None
        Planes (y, x) of the last two axes that have changed since the last snapshot, by their position along the other
        axes; None for an empty one.
    objects : Meta
        Classes, complete planes, and records.
    layer : dict
        Plain values that a viewer needs to show it as before.
    """

    id: str
    shape: tuple[int, ...]
    dtype: str
    planes: dict[Index, NDArray[Any] | None]
    objects: Meta
    layer: Plain = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A session at one moment.

    Attributes
    ----------
    state : dict
        Plain values for the manifest: model, active adapter, target, settings, drafts, training.
    images : tuple of ImageReference
    labels : tuple of LabelSnapshot
    adapters : dict of str to Adapter
    """

    state: Plain
    images: tuple[ImageReference, ...]
    labels: tuple[LabelSnapshot, ...]
    adapters: Mapping[str, Adapter] = field(default_factory=dict)

    def after(self, earlier: Snapshot) -> Snapshot:
        """This one, with the planes of an earlier one that was not written."""
        before = {one.id: one for one in earlier.labels if one.id}
        merged = []
        for one in self.labels:
            old = before.get(one.id)
            planes = {**old.planes, **one.planes} if old is not None and old.shape == one.shape else one.planes
            merged.append(LabelSnapshot(one.id, one.shape, one.dtype, planes, one.objects, one.layer))
        return Snapshot(self.state, self.images, tuple(merged), {**earlier.adapters, **self.adapters})


class ProjectFolder:
    """A project folder that is written by this process only.

    Parameters
    ----------
    folder : Path
        Made if it is not there.

    Raises
    ------
    InputError
        If there are other things in it, or it cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._labels: dict[str, Plain] = {}
        self._objects: dict[str, Meta] = {}  # as they were written last
        self._adapters: dict[str, str] = {}
        self._serial = 0
        _remove_halves(folder)
        if (folder / MANIFEST).exists():
            manifest = read_manifest(folder)
            self._labels = {one["id"]: one for one in manifest["labels"]}
            self._adapters = dict(manifest["adapters"])
            self._serial = int(manifest["serial"])
        elif folder.exists() and any(path.name[0] != "." for path in folder.iterdir()):
            raise InputError(f"{folder} holds other things: choose an empty folder, or one of a project.")

    @property
    def knows(self) -> frozenset[str]:
        """Label images that are in the folder."""
        return frozenset(self._labels)

    def write(self, snapshot: Snapshot) -> int:
        """Save; returns the number of the save. If it fails, the project is as it was."""
        serial = self._serial + 1
        labels = {one.id: self._write_labels(one, serial) for one in snapshot.labels}
        adapters = {name: self._write_adapter(name, one) for name, one in snapshot.adapters.items()}
        manifest = {
            "format": FORMAT,
            "version": FORMAT_VERSION,
            "serial": serial,
            **snapshot.state,
            "images": [vars(one) for one in snapshot.images],
            "labels": list(labels.values()),
            "adapters": self._adapters | adapters,
        }
        write_json(self.folder / MANIFEST, manifest)
        self._labels, self._serial = labels, serial
        self._objects = {one.id: one.objects for one in snapshot.labels}
        self._adapters |= adapters
        self._clean()
        return serial

    def _write_labels(self, snapshot: LabelSnapshot, serial: int) -> Plain:
        known = self._labels.get(snapshot.id)
        if known is not None and tuple(known["shape"]) != snapshot.shape:
            known = None
        place = known["folder"] if known is not None else self._free_place(snapshot.id)
        planes: dict[str, str] = dict(known["planes"]) if known is not None else {}
        for index, pixels in snapshot.planes.items():
            key = ",".join(map(str, index))
            planes.pop(key, None)
            if pixels is not None:
                name = "-".join(["plane", *(f"{place:04d}" for place in index), str(serial)])
                planes[key] = write_labels(self.folder / place / f"{name}.tif", pixels).name
        if known is not None and self._objects.get(snapshot.id) is snapshot.objects:
            objects = known["objects"]
        else:
            objects = f"objects-{serial}.json"
            write_json(self.folder / place / objects, meta_to_plain(snapshot.objects))
        return {
            "id": snapshot.id,
            "folder": place,
            "shape": list(snapshot.shape),
            "dtype": snapshot.dtype,
            "objects": objects,
            # A layer that is gone, as when its viewer closes, says nothing any more.
            "layer": snapshot.layer or (known or {}).get("layer", {}),
            "planes": dict(sorted(planes.items(), key=lambda one: [int(part) for part in one[0].split(",") if part])),
        }

    def _free_place(self, name: str) -> str:
        bare = re.sub(r"[^\w.()+-]+", "_", name).strip("._") or "labels"
        taken = {one["folder"].casefold() for one in self._labels.values()}
        number = 1
        while True:
            place = f"labels/{bare}" if number == 1 else f"labels/{bare}_{number}"
            if place.casefold() not in taken and not (self.folder / place).exists():
                return place
            number += 1

    def _write_adapter(self, name: str, adapter: Adapter) -> str:
        path = self.folder / "adapters" / f"{name}.safetensors"
        if self._adapters.get(name) != adapter.key or not path.exists():
            adapter.save(path)
        return adapter.key

    def _clean(self) -> None:
        """Remove files of earlier saves."""
        for one in self._labels.values():
            kept = {*one["planes"].values(), one["objects"]}
            for path in (self.folder / one["folder"]).glob("*-*.*"):
                if path.name not in kept and re.fullmatch(r"(plane|objects)-[\d-]+\.(tif|json)", path.name):
                    path.unlink(missing_ok=True)


def _remove_halves(folder: Path) -> None:
    """Remove what was being written when an earlier process ended."""
    for path in folder.rglob(".*-*") if folder.is_dir() else ():
        if re.fullmatch(r"\.(plane|objects|project)-.*\.(tif|json)", path.name):
            path.unlink(missing_ok=True)


def read_manifest(folder: Path) -> Plain:
    """The manifest of a project.

    Raises
    ------
    InputError
        If there is none, it is damaged, or of a newer version.
    """
    path = folder / MANIFEST
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{folder} is not a project: it has no {MANIFEST}.") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InputError(f"{path} is not the manifest of a project.")
    if content.get("version") != FORMAT_VERSION:
        raise InputError(f"{path} has version {content.get('version')}; update napari-sam-lora to open it.")
    missing = {"serial", "images", "labels", "adapters"} - content.keys()
    if missing:
        raise InputError(f"{path} is damaged: it has no {', '.join(sorted(missing))}.")
    return content


def read_planes(folder: Path, entry: Mapping[str, Any]) -> tuple[NDArray[Any], list[str]]:
    """The array of a label image of the manifest, and what could not be read."""
    data = np.zeros([int(side) for side in entry["shape"]], np.dtype(entry["dtype"]))
    problems = []
    for key, name in entry["planes"].items():
        index = tuple(int(part) for part in key.split(",") if part)
        try:
            data[index] = read_labels(folder / entry["folder"] / name).reshape(data.shape[-2:])
        except (InputError, ValueError, IndexError) as error:
            problems.append(f"Plane {key or '0'} of “{entry['id']}” could not be read: {error}")
    return data, problems


def read_objects(folder: Path, entry: Mapping[str, Any]) -> Plain:
    """Classes, complete planes and records of a label image of the manifest, as plain values."""
    path = folder / entry["folder"] / entry["objects"]
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    return dict(content)


def write_json(path: Path, content: Plain) -> None:
    """Write plain values, indented, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n", "utf-8")

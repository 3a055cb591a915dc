"""Project folder on disk, written so that it is complete at any moment.

    project.json                 the manifest, for people and programs; a save is complete when it is replaced
    labels/NAME/…-7.tif          the planes of a label image that are not empty; 7 is the save in which they changed
    labels/NAME/objects-7.json   its objects, classes and prompts
    adapters/…                   the adapters that were used

New files are written beside the old ones, then the manifest is replaced, and files that it no longer names are removed.
A program that is killed at any moment leaves the project as it was before the save, or as it is after it.
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
    """Label image at one moment.

    Attributes
    ----------
    id : str
    shape : tuple of int
    dtype : str
    planes : dict of tuple to array or None
        Planes (y, x) of the last two axes that have changed since the last snapshot, by their position along the other
        axes; None for a plane without labels.
    objects : Meta
        Classes, complete planes and records.
    layer : dict
        Display settings of the layer, as plain values.
    """

    id: str
    shape: tuple[int, ...]
    dtype: str
    planes: dict[Index, NDArray[Any] | None]
    objects: Meta
    layer: Plain = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Snapshot:
    """Session at one moment.

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
        """Return this snapshot with the planes and adapters of an earlier one that was not written."""
        before = {one.id: one for one in earlier.labels if one.id}
        merged = []
        for one in self.labels:
            old = before.get(one.id)
            planes = {**old.planes, **one.planes} if old is not None and old.shape == one.shape else one.planes
            merged.append(LabelSnapshot(one.id, one.shape, one.dtype, planes, one.objects, one.layer))
        return Snapshot(self.state, self.images, tuple(merged), {**earlier.adapters, **self.adapters})


class ProjectFolder:
    """Project folder to which only this process writes.

    Parameters
    ----------
    folder : Path
        Created with the first save if it does not exist.

    Raises
    ------
    InputError
        If the folder contains other files, or its manifest cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._labels: dict[str, Plain] = {}
        self._objects: dict[str, Meta] = {}  # as written last
        self._adapters: dict[str, str] = {}
        self._serial = 0
        _remove_partial_files(folder)
        if (folder / MANIFEST).exists():
            manifest = read_manifest(folder)
            self._labels = {one["id"]: one for one in manifest["labels"]}
            self._adapters = dict(manifest["adapters"])
            self._serial = int(manifest["serial"])
        elif folder.exists() and any(path.name[0] != "." for path in folder.iterdir()):
            raise InputError(
                f"{folder} contains other files: choose an empty folder or a project folder.", code="folder-not-empty"
            )

    @property
    def label_ids(self) -> frozenset[str]:
        """Ids of the label images in the folder."""
        return frozenset(self._labels)

    def write(self, snapshot: Snapshot) -> int:
        """Save a snapshot and return the number of the save. If it fails, the project stays as it was."""
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
        """Write the changed files of a label image; return its entry for the manifest."""
        before = self._labels.get(snapshot.id)
        if before is not None and tuple(before["shape"]) != snapshot.shape:
            before = None
        subfolder = before["folder"] if before is not None else self._free_subfolder(snapshot.id)
        planes: dict[str, str] = dict(before["planes"]) if before is not None else {}
        for index, pixels in snapshot.planes.items():
            key = ",".join(map(str, index))
            planes.pop(key, None)
            if pixels is not None:
                name = "-".join(["plane", *(f"{place:04d}" for place in index), str(serial)])
                planes[key] = write_labels(self.folder / subfolder / f"{name}.tif", pixels).name
        if before is not None and self._objects.get(snapshot.id) is snapshot.objects:
            objects = before["objects"]
        else:
            objects = f"objects-{serial}.json"
            write_json(self.folder / subfolder / objects, meta_to_plain(snapshot.objects))
        return {
            "id": snapshot.id,
            "folder": subfolder,
            "shape": list(snapshot.shape),
            "dtype": snapshot.dtype,
            "objects": objects,
            # Of a layer that was removed, as when its viewer closes, the last settings are kept.
            "layer": snapshot.layer or (before or {}).get("layer", {}),
            "planes": dict(sorted(planes.items(), key=lambda one: [int(part) for part in one[0].split(",") if part])),
        }

    def _free_subfolder(self, name: str) -> str:
        """Return an unused subfolder for a new label image."""
        bare = re.sub(r"[^\w.()+-]+", "_", name).strip("._") or "labels"
        used = {one["folder"].casefold() for one in self._labels.values()}
        number = 1
        while True:
            subfolder = f"labels/{bare}" if number == 1 else f"labels/{bare}_{number}"
            if subfolder.casefold() not in used and not (self.folder / subfolder).exists():
                return subfolder
            number += 1

    def _write_adapter(self, name: str, adapter: Adapter) -> str:
        """Write an adapter if it has changed; return the key of its content."""
        path = self.folder / "adapters" / f"{name}.safetensors"
        if self._adapters.get(name) != adapter.key or not path.exists():
            adapter.save(path)
        return adapter.key

    def _clean(self) -> None:
        """Remove files that the manifest no longer names."""
        for one in self._labels.values():
            kept = {*one["planes"].values(), one["objects"]}
            for path in (self.folder / one["folder"]).glob("*-*.*"):
                if path.name not in kept and re.fullmatch(r"(plane|objects)-[\d-]+\.(tif|json)", path.name):
                    path.unlink(missing_ok=True)


def _remove_partial_files(folder: Path) -> None:
    """Remove files that were being written when an earlier process ended."""
    for path in folder.rglob(".*-*") if folder.is_dir() else ():
        if re.fullmatch(r"\.(plane|objects|project)-.*\.(tif|json)", path.name):
            path.unlink(missing_ok=True)


def read_manifest(folder: Path) -> Plain:
    """Read the manifest of a project.

    Raises
    ------
    InputError
        If it is missing, damaged, or of a newer version.
    """
    path = folder / MANIFEST
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{folder} is not a project: it has no {MANIFEST}.", code="manifest-not-found") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}", code="file-not-readable") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InputError(f"{path} is not the manifest of a project.", code="not-a-manifest")
    if content.get("version") != FORMAT_VERSION:
        raise InputError(
            f"{path} has version {content.get('version')}: update napari-sam-lora to open it.",
            code="unknown-manifest-version",
        )
    missing = {"serial", "images", "labels", "adapters"} - content.keys()
    if missing:
        raise InputError(f"{path} is damaged: it has no {', '.join(sorted(missing))}.", code="manifest-incomplete")
    return content


def read_planes(folder: Path, entry: Mapping[str, Any]) -> tuple[NDArray[Any], list[str]]:
    """Read the array of a label image of the manifest; return it with messages about planes that are damaged."""
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
    """Read classes, complete planes and records of a label image of the manifest, as plain values."""
    path = folder / entry["folder"] / entry["objects"]
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}", code="file-not-readable") from error
    return dict(content)


def write_json(path: Path, content: Plain) -> None:
    """Write plain values as indented JSON, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n", "utf-8")

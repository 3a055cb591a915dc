"""DICOM: slices of a folder, and frames of a file, as volumes with their place in the patient, or as films."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam_lora.errors import InputError
from napari_sam_lora.io.dicom.headers import Frame, Place, read_frames
from napari_sam_lora.io.dicom.pixels import read_pixels
from napari_sam_lora.io.dicom.segments import merge_segments
from napari_sam_lora.io.optional import need
from napari_sam_lora.io.placement import Placement

ENDINGS = (".dcm", ".dicom")
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_FIRST_FILES = 500  # looked at to tell whether a folder holds DICOM; a folder may be huge
_EVEN = 0.05  # share of the slice distance by which distances may differ
_NEAR = 1e-3  # mm between slices that are at the same place


@dataclass(frozen=True, eq=False)
class DicomSeries:
    """One series.

    Attributes
    ----------
    name : str
        Its description.
    data : array (..., y, x) or (..., y, x, 3)
        Stored values after rescaling, of a CT Hounsfield units; integers stay integers.
    axes : tuple of str
        Names of the axes before the colours: "z", "y" and "x" with "t" before them if places are there several times;
        without a place "y" and "x" after "t" of a film, "z", or "frame" if nothing says what lies between frames.
    steps : tuple of float
        Along these axes.
    units : tuple of str
        Such as "mm", "s", and "pixel" where the file does not say it.
    placement : Placement, optional
        Of z, y and x, in mm; None if the file does not say where the image lies.
    has_channels : bool
        Whether the last axis is that of colours.
    is_segmentation : bool
        Whether its modality is SEG.
    """

    name: str
    data: NDArray[Any]
    axes: tuple[str, ...]
    steps: tuple[float, ...]
    units: tuple[str, ...]
    placement: Placement | None = None
    has_channels: bool = False
    is_segmentation: bool = False


def is_dicom(path: Path) -> bool:
    """Whether a file begins as DICOM files do (PS3.10, section 7.1)."""
    try:
        with path.open("rb") as stream:
            return stream.read(132)[128:] == b"DICM"
    except OSError:
        return False


def holds_dicom(folder: Path) -> bool:
    """Whether there is a DICOM file among the first files of a folder and of the folders in it."""
    return any(path.is_file() and is_dicom(path) for path in islice(folder.rglob("*"), _FIRST_FILES))


def read_dicom(path: str | Path) -> list[DicomSeries]:
    """Read the series of a folder, or the one that a file belongs to.

    Parameters
    ----------
    path : path-like
        A folder of slices, or one file, which is read alone. If there are no images in the folder itself, the folders
        in it are looked into.

    Returns
    -------
    list of DicomSeries
        Slices are sorted by where they lie, whatever the files are called, and in whatever order frames are in them.
        Places that are there several times make a time axis. Frames that are turned or spaced in another way are a
        series of their own.

    Raises
    ------
    InputError
        If there are no images, slices are damaged, differ in size, or pydicom is not installed.
    """
    source = Path(path)
    if not source.exists():
        raise InputError(f"There is no file or folder {source}.")
    need("pydicom", source.name)
    frames = _frames_of(source)
    if not frames:
        raise InputError(f"{source.name} holds no DICOM image (reports, plans and contours are none).")
    return [_assemble(series, source) for series in _grouped(frames)]


def _frames_of(source: Path) -> list[Frame]:
    if not source.is_dir():
        return read_frames(source)
    for paths in (source.iterdir(), source.rglob("*")):
        files = [path for path in sorted(paths) if path.is_file() and is_dicom(path)]
        frames = [frame for file in files for frame in read_frames(file)]
        if frames:
            return frames
    return []


def _grouped(frames: Sequence[Frame]) -> list[list[Frame]]:
    groups: dict[tuple[Any, ...], list[list[Frame]]] = {}
    for frame in frames:
        alike = groups.setdefault(frame.series, [])
        own = next((group for group in alike if _are_parallel(group[0].place, frame.place)), None)
        if own is None:
            own = []
            alike.append(own)
        own.append(frame)
    return [group for alike in groups.values() for group in alike]


def _are_parallel(one: Place | None, other: Place | None) -> bool:
    return one is other if one is None or other is None else one.is_parallel(other)


def _assemble(frames: Sequence[Frame], source: Path) -> DicomSeries:
    places = [frame.place for frame in frames if frame.place is not None]
    if len(places) < len(frames):
        return _film(sorted(frames, key=lambda frame: frame.order))
    if frames[0].modality == "SEG":
        labels, first, last = merge_segments(frames, places, read_pixels(frames))
        return _volume(frames[0], labels[None], first, last)
    order = _sorted(frames, places, source)
    stack = read_pixels([frames[at] for at in order.ravel().tolist()])
    stack = stack.reshape(*order.shape, *stack.shape[1:])
    return _volume(frames[0], stack.swapaxes(0, 1), places[order[0, 0]], places[order[-1, 0]])


def _sorted(frames: Sequence[Frame], places: Sequence[Place], source: Path) -> NDArray[np.int64]:
    """(z, t) the numbers of the frames, by where they lie and, at one place, by their own order."""
    depths = np.array([place.depth for place in places])
    by_depth = np.argsort(depths, kind="stable")
    starts = np.flatnonzero(np.diff(depths[by_depth], prepend=-np.inf) > _NEAR)
    slices = np.split(by_depth, starts[1:])
    counts = [len(numbers) for numbers in slices]
    name = frames[0].name
    if len(set(counts)) > 1:
        advice = "" if source.is_file() else " Put each into a folder of its own."
        raise InputError(
            f"The series {name!r} has slices at some places {min(counts)} times and at others {max(counts)} times: it "
            f"is incomplete, or holds several.{advice}"
        )
    _check_even(np.array([places[numbers[0]].position for numbers in slices]), name)
    return np.array([sorted(numbers, key=lambda at: frames[at].order) for numbers in slices], np.int64)


def _check_even(positions: NDArray[np.float64], name: str) -> None:
    """Warn if slices do not lie on a straight line at equal distances."""
    if len(positions) < 3:
        return
    steps = np.diff(positions, axis=0)
    gaps = np.linalg.norm(steps, axis=1)
    if (np.linalg.norm(steps - np.median(steps, axis=0), axis=1) > _EVEN * np.median(gaps)).any():
        warnings.warn(
            f"The slices of {name!r} are not evenly spaced ({gaps.min():g} to {gaps.max():g} mm): some may be missing, "
            "or shifted. They are shown at equal distances.",
            stacklevel=6,
        )


def _volume(frame: Frame, stack: NDArray[Any], first: Place, last: Place) -> DicomSeries:
    """A stack (t, z, y, x) or (t, z, y, x, 3) between two places; ``frame`` is any of it."""
    count = stack.shape[1]
    step = (last.position - first.position) / (count - 1) if count > 1 else first.normal * _thickness(frame)
    # Voxel (i, j, k) of the file is column, row, slice.
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 2], affine[:3, 3] = first.along, first.down, step, first.position
    placement = Placement.of(_LPS_TO_RAS @ affine, stack.shape[3:0:-1])
    has_channels = stack.ndim > 4
    data = placement.show(stack.transpose(3, 2, 1, 0, *range(4, stack.ndim)))
    data = np.moveaxis(data, 0, -1) if has_channels else data
    times = len(data) > 1
    return DicomSeries(
        frame.name,
        data if times else data[0],
        ("t", "z", "y", "x") if times else ("z", "y", "x"),
        (1.0,) * (4 if times else 3),
        ("pixel",) * times + ("mm",) * 3,
        placement,
        has_channels,
        frame.modality == "SEG",
    )


def _thickness(frame: Frame) -> float:
    length, unit = frame.step
    return length if unit == "mm" else 1.0


def _film(frames: Sequence[Frame]) -> DicomSeries:
    """Frames that lie nowhere in particular, one behind the other."""
    first = frames[0]
    data = read_pixels(frames)
    has_channels = data.ndim > 3
    length, unit = first.step
    axes, steps, units = (
        (({"s": "t", "mm": "z"}.get(unit, "frame"),), (length,), (unit,)) if len(data) > 1 else ((),) * 3
    )
    sides = first.pixel or (1.0, 1.0)
    sides_unit = "mm" if first.pixel else "pixel"
    return DicomSeries(
        first.name,
        data if len(data) > 1 else data[0],
        (*axes, "y", "x"),
        (*steps, *sides),
        (*units, sides_unit, sides_unit),
        None,
        has_channels,
        first.modality == "SEG",
    )

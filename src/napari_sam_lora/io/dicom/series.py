"""Assemble DICOM slices and frames to volumes with their position in the patient, or to time series."""

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
from napari_sam_lora.io.dicom.headers import Frame, FrameGeometry, read_frames
from napari_sam_lora.io.dicom.pixels import read_pixels
from napari_sam_lora.io.dicom.segments import merge_segments
from napari_sam_lora.io.placement import Placement
from napari_sam_lora.io.shared.file_warning import FileWarning
from napari_sam_lora.io.shared.optional_dependencies import import_optional

ENDINGS = (".dcm", ".dicom")
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_FIRST_FILES = 500  # a folder may be huge: so many files are checked for DICOM
_TOLERANCE = 0.05  # fraction of the slice distance by which distances may differ
_SAME_POSITION = 1e-3  # mm


@dataclass(frozen=True, eq=False)
class DicomSeries:
    """The image of a DICOM series.

    Attributes
    ----------
    name : str
        Series description.
    data : array (..., y, x) or (..., y, x, 3)
        Values after rescaling, in CT Hounsfield units; integers stay integers.
    axes : tuple of str
        Names of the axes before the colours: "z", "y" and "x", with "t" before them if positions occur several times.
        Without a position "y" and "x", after "t" (a time series), "z", or "frame" if the axis is unknown.
    steps : tuple of float
        Spacing along these axes.
    units : tuple of str
        Such as "mm", "s", and "pixel" where the unit is unknown.
    placement : Placement, optional
        Of z, y and x, in mm; None if the file holds no position.
    has_channels : bool
        The last axis holds colours.
    is_segmentation : bool
        The modality is SEG.
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
    """Return whether a file has the signature of DICOM (PS3.10, section 7.1)."""
    try:
        with path.open("rb") as stream:
            return stream.read(132)[128:] == b"DICM"
    except OSError:
        return False


def holds_dicom(folder: Path) -> bool:
    """Return whether there is a DICOM file among the first files of a folder and its subfolders."""
    return any(path.is_file() and is_dicom(path) for path in islice(folder.rglob("*"), _FIRST_FILES))


def read_dicom(path: str | Path) -> list[DicomSeries]:
    """Read the series of a folder, or of one file.

    Parameters
    ----------
    path : path-like
        A folder of slices, or one file, which is read alone. If there are no images in the folder itself, its
        subfolders are read.

    Returns
    -------
    list of DicomSeries
        Slices are sorted by position, independent of file names and of the order of frames. Positions that occur
        several times make a time axis. Frames with another orientation or pixel size are a series of their own.

    Raises
    ------
    InputError
        If there are no images, slices are damaged or missing, or pydicom is not installed.
    """
    source = Path(path)
    if not source.exists():
        raise InputError(f"There is no file or folder {source}.", code="file-not-found")
    import_optional("pydicom", source.name)
    frames = _frames_of(source)
    if not frames:
        raise InputError(
            f"{source.name} holds no DICOM image: it may be a report, a plan or contours, or cut off.",
            code="no-dicom-image",
        )
    return [_assemble(series, source) for series in _group_by_series(frames)]


def _frames_of(source: Path) -> list[Frame]:
    if not source.is_dir():
        return read_frames(source)
    for paths in (source.iterdir(), source.rglob("*")):
        files = [path for path in sorted(paths) if path.is_file() and is_dicom(path)]
        frames = [frame for file in files for frame in read_frames(file)]
        if frames:
            return frames
    return []


def _group_by_series(frames: Sequence[Frame]) -> list[list[Frame]]:
    groups: dict[tuple[Any, ...], list[list[Frame]]] = {}
    for frame in frames:
        orientations = groups.setdefault(frame.series, [])
        group = next((one for one in orientations if _are_parallel(one[0].geometry, frame.geometry)), None)
        if group is None:
            group = []
            orientations.append(group)
        group.append(frame)
    return [group for orientations in groups.values() for group in orientations]


def _are_parallel(one: FrameGeometry | None, other: FrameGeometry | None) -> bool:
    return one is other if one is None or other is None else one.is_parallel(other)


def _assemble(frames: Sequence[Frame], source: Path) -> DicomSeries:
    geometries = [frame.geometry for frame in frames if frame.geometry is not None]
    if len(geometries) < len(frames):
        return _time_series(sorted(frames, key=lambda frame: frame.order))
    if frames[0].modality == "SEG":
        labels, first, last = merge_segments(frames, geometries, read_pixels(frames))
        return _volume(frames[0], labels[None], first, last)
    order = _sort_by_position(frames, geometries, source)
    stack = read_pixels([frames[index] for index in order.ravel().tolist()])
    stack = stack.reshape(*order.shape, *stack.shape[1:])
    return _volume(frames[0], stack.swapaxes(0, 1), geometries[order[0, 0]], geometries[order[-1, 0]])


def _sort_by_position(frames: Sequence[Frame], geometries: Sequence[FrameGeometry], source: Path) -> NDArray[np.int64]:
    """Return the indices (z, t) of frames, sorted by position and, at one position, by their own order."""
    depths = np.array([geometry.depth for geometry in geometries])
    by_depth = np.argsort(depths, kind="stable")
    starts = np.flatnonzero(np.diff(depths[by_depth], prepend=-np.inf) > _SAME_POSITION)
    slices = np.split(by_depth, starts[1:])
    counts = [len(indices) for indices in slices]
    name = frames[0].name
    if len(set(counts)) > 1:
        advice = "" if source.is_file() else " Put each series into its own folder."
        raise InputError(
            f"The series {name!r} has {min(counts)} slices at some positions and {max(counts)} at others: it is "
            f"incomplete, or several series are mixed.{advice}",
            code="series-incomplete",
        )
    _warn_if_uneven(np.array([geometries[indices[0]].position for indices in slices]), name)
    return np.array([sorted(indices, key=lambda index: frames[index].order) for indices in slices], np.int64)


def _warn_if_uneven(positions: NDArray[np.float64], name: str) -> None:
    """Warn if slices do not lie on a straight line at equal distances."""
    if len(positions) < 3:
        return
    steps = np.diff(positions, axis=0)
    gaps = np.linalg.norm(steps, axis=1)
    if (np.linalg.norm(steps - np.median(steps, axis=0), axis=1) > _TOLERANCE * np.median(gaps)).any():
        message = (
            f"The slices of {name!r} are not evenly spaced ({gaps.min():g} to {gaps.max():g} mm): some may be missing "
            "or shifted. They are shown at equal distances."
        )
        warnings.warn(FileWarning(message, code="uneven-slices"), stacklevel=6)


def _volume(frame: Frame, stack: NDArray[Any], first: FrameGeometry, last: FrameGeometry) -> DicomSeries:
    """Make a volume of a stack (t, z, y, x) or (t, z, y, x, 3).

    ``first`` and ``last`` are the positions of the outermost slices, and ``frame`` is any of its frames.
    """
    count = stack.shape[1]
    step = (last.position - first.position) / (count - 1) if count > 1 else first.normal * _thickness(frame)
    # Voxels (i, j, k) are column, row, slice.
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 2], affine[:3, 3] = first.along, first.down, step, first.position
    placement = Placement.of(_LPS_TO_RAS @ affine, stack.shape[3:0:-1])
    has_channels = stack.ndim > 4
    data = placement.show(stack.transpose(3, 2, 1, 0, *range(4, stack.ndim)))
    data = np.moveaxis(data, 0, -1) if has_channels else data
    has_time = len(data) > 1
    return DicomSeries(
        frame.name,
        data if has_time else data[0],
        ("t", "z", "y", "x") if has_time else ("z", "y", "x"),
        (1.0,) * (4 if has_time else 3),
        ("pixel",) * has_time + ("mm",) * 3,
        placement,
        has_channels,
        frame.modality == "SEG",
    )


def _thickness(frame: Frame) -> float:
    length, unit = frame.step
    return length if unit == "mm" else 1.0


def _time_series(frames: Sequence[Frame]) -> DicomSeries:
    """Stack frames that have no position: a time series, or planes whose distance or axis is unknown."""
    first = frames[0]
    data = read_pixels(frames)
    has_channels = data.ndim > 3
    length, unit = first.step
    axes, steps, units = (
        (({"s": "t", "mm": "z"}.get(unit, "frame"),), (length,), (unit,)) if len(data) > 1 else ((),) * 3
    )
    pixel_size = first.pixel_size or (1.0, 1.0)
    pixel_unit = "mm" if first.pixel_size else "pixel"
    return DicomSeries(
        first.name,
        data if len(data) > 1 else data[0],
        (*axes, "y", "x"),
        (*steps, *pixel_size),
        (*units, pixel_unit, pixel_unit),
        None,
        has_channels,
        first.modality == "SEG",
    )

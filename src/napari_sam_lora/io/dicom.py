"""DICOM series: the slices of a folder as volumes with their place in the patient."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam_lora.errors import InputError
from napari_sam_lora.io.medical import need
from napari_sam_lora.io.placement import Placement

ENDINGS = (".dcm", ".dicom")
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_FIRST_FILES = 500  # looked at to tell whether a folder holds DICOM; a folder may be huge
_EVEN = 0.05  # share of the slice distance by which distances may differ


@dataclass(frozen=True, eq=False)
class DicomSeries:
    """One series.

    Attributes
    ----------
    name : str
        Its description.
    data : array (z, y, x) or (t, z, y, x)
        Stored values after rescaling, of a CT Hounsfield units; integers stay integers.
    placement : Placement
        Of the last three axes, in mm.
    is_segmentation : bool
        Whether its modality is SEG.
    """

    name: str
    data: NDArray[Any]
    placement: Placement
    is_segmentation: bool = False


@dataclass(frozen=True, eq=False)
class _Slice:
    """One frame: the file that it is in, and where it lies (LPS, mm)."""

    path: Path
    frame: int | None
    position: NDArray[np.float64]
    rows: NDArray[np.float64]
    columns: NDArray[np.float64]
    shape: tuple[int, int]
    series: str
    name: str
    number: int
    modality: str

    @property
    def normal(self) -> NDArray[np.float64]:
        return np.cross(_unit(self.columns), _unit(self.rows))

    @property
    def depth(self) -> float:
        return float(self.position @ self.normal)


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


def list_dicom(folder: Path) -> list[Path]:
    """The DICOM files of a folder and, if it has none, of the folders in it."""
    here = [path for path in sorted(folder.iterdir()) if path.is_file() and is_dicom(path)]
    return here or [path for path in sorted(folder.rglob("*")) if path.is_file() and is_dicom(path)]


def read_dicom(path: str | Path) -> list[DicomSeries]:
    """Read the series of a folder, or the one that a file belongs to.

    Parameters
    ----------
    path : path-like
        A folder of slices, or one file, which is read alone.

    Returns
    -------
    list of DicomSeries
        Slices are sorted by where they lie, whatever the files are called. Places that are there several times make a
        time axis, in the order of the instance numbers.

    Raises
    ------
    InputError
        If there are no images, slices are damaged, differ in size, or pydicom is not installed.
    """
    source = Path(path)
    if not source.exists():
        raise InputError(f"There is no file or folder {source}.")
    need("pydicom", source.name)
    files = list_dicom(source) if source.is_dir() else [source]
    if not files:
        raise InputError(f"The folder {source} holds no DICOM images.")
    series: dict[str, list[_Slice]] = {}
    for slice_ in _slices(files):
        series.setdefault(slice_.series, []).append(slice_)
    if not series:
        raise InputError(f"{source.name} holds DICOM files, but none of them is an image of one channel.")
    return [_assemble(slices) for slices in series.values()]


def _slices(files: Iterable[Path]) -> Iterator[_Slice]:
    import pydicom  # noqa: PLC0415  an optional dependency

    for path in files:
        try:
            header = pydicom.dcmread(path, stop_before_pixels=True)
        except Exception as error:  # pydicom raises whatever it likes on a damaged file
            raise InputError(f"{path.name} is damaged or not a DICOM file: {_words(error)}") from error
        if "Rows" not in header or int(header.get("SamplesPerPixel", 1)) != 1:
            continue
        frames = int(header.get("NumberOfFrames", 1) or 1)
        for frame in range(frames):
            yield _slice(path, header, frame if frames > 1 else None)


def _slice(path: Path, header: Any, frame: int | None) -> _Slice:
    position = _tag(header, frame, "PlanePositionSequence", "ImagePositionPatient")
    orientation = _tag(header, frame, "PlaneOrientationSequence", "ImageOrientationPatient") or [1, 0, 0, 0, 1, 0]
    spacing = _tag(header, frame, "PixelMeasuresSequence", "PixelSpacing") or header.get("ImagerPixelSpacing") or [1, 1]
    along, down = np.array(orientation, np.float64).reshape(2, 3)
    if position is None:  # an X-ray, or frames without places: one behind the other
        step = _tag(header, frame, "PixelMeasuresSequence", "SliceThickness") or 1
        count = int(header.get("InstanceNumber", 0) or 0) if frame is None else frame
        position = np.cross(along, down) * float(step) * count
    number = int(header.get("InstanceNumber", 0) or 0)
    return _Slice(
        path,
        frame,
        np.array(position, np.float64),
        down * float(spacing[0]),
        along * float(spacing[1]),
        (int(header.Rows), int(header.Columns)),
        f"{header.get('SeriesInstanceUID', '')} {np.round(orientation, 3).tolist()} {header.Rows} {header.Columns}",
        str(header.get("SeriesDescription", "") or header.get("Modality", "") or path.stem),
        number if frame is None else frame,
        str(header.get("Modality", "")),
    )


def _tag(header: Any, frame: int | None, group: str, name: str) -> Any:
    """A value of the frame, of all frames, or of the file."""
    places = []
    if frame is not None and "PerFrameFunctionalGroupsSequence" in header:
        places.append(header.PerFrameFunctionalGroupsSequence[frame])
    places += list(header.get("SharedFunctionalGroupsSequence") or [])
    for place in places:
        inner = place.get(group)
        if inner and name in inner[0]:
            return inner[0].get(name)
    return header.get(name)


def _assemble(slices: Sequence[_Slice]) -> DicomSeries:
    ordered = sorted(slices, key=lambda one: (round(one.depth, 3), one.number))
    depths = np.array([round(one.depth, 3) for one in ordered])
    places, counts = np.unique(depths, return_counts=True)
    times = int(counts[0])
    if (counts != times).any():
        raise InputError(
            f"The series {ordered[0].name!r} has slices at some places {counts.min()} times and at others "
            f"{counts.max()} times: it is incomplete, or holds several. Put each into a folder of its own."
        )
    gaps = np.diff(places)
    if len(gaps) and (abs(gaps - np.median(gaps)) > _EVEN * np.median(gaps)).any():
        warnings.warn(
            f"The slices of {ordered[0].name!r} are not evenly spaced ({gaps.min():g} to {gaps.max():g} mm): some may "
            "be missing. They are shown at equal distances.",
            stacklevel=4,
        )
    first, last = ordered[0], ordered[-1]
    step = (last.position - first.position) / (len(places) - 1) if len(places) > 1 else first.normal
    stack = _pixels(ordered)
    stack = stack.reshape(len(places), times, *first.shape)
    # Voxel (i, j, k) of the file is column, row, slice.
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 2], affine[:3, 3] = first.columns, first.rows, step, first.position
    stored = stack.transpose(3, 2, 0, 1)
    placement = Placement.of(_LPS_TO_RAS @ affine, stored.shape[:3])
    shown = placement.show(stored)
    return DicomSeries(first.name, shown if times > 1 else shown[0], placement, first.modality == "SEG")


def _pixels(slices: Sequence[_Slice]) -> NDArray[Any]:
    """(n, y, x) of frames, each file read once."""
    held: dict[Path, NDArray[Any]] = {}
    for path in dict.fromkeys(one.path for one in slices):
        held[path] = _read_pixels(path)
    frames = [held[one.path] if one.frame is None else held[one.path][one.frame] for one in slices]
    kind = np.result_type(*{frame.dtype for frame in frames})
    out = np.empty((len(frames), *slices[0].shape), kind)
    for place, frame in enumerate(frames):
        out[place] = frame
    return out


def _read_pixels(path: Path) -> NDArray[Any]:
    import pydicom  # noqa: PLC0415
    from pydicom.pixels.processing import apply_modality_lut  # noqa: PLC0415

    try:
        dataset = pydicom.dcmread(path)
        stored = dataset.pixel_array
    except Exception as error:
        raise InputError(f"{path.name} cannot be read: {_words(error)}") from error
    if "ModalityLUTSequence" not in dataset and _is_whole(dataset):
        slope, intercept = int(dataset.get("RescaleSlope", 1)), int(dataset.get("RescaleIntercept", 0))
        if (slope, intercept) == (1, 0):
            return stored
        values = stored.astype(np.int32) * slope + intercept
        fits = np.iinfo(np.int16).min <= values.min() and values.max() <= np.iinfo(np.int16).max
        return values.astype(np.int16) if fits else values
    return np.asarray(apply_modality_lut(stored, dataset), np.float32)


def _is_whole(dataset: Any) -> bool:
    if "SharedFunctionalGroupsSequence" in dataset and "RescaleSlope" not in dataset:
        shared = dataset.SharedFunctionalGroupsSequence[0].get("PixelValueTransformationSequence")
        if shared:
            dataset.RescaleSlope, dataset.RescaleIntercept = shared[0].RescaleSlope, shared[0].RescaleIntercept
    values = (float(dataset.get("RescaleSlope", 1)), float(dataset.get("RescaleIntercept", 0)))
    return all(value == int(value) for value in values)


def _words(error: Exception) -> str:
    text = " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__
    return f"{text}."


def _unit(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    return vector / np.linalg.norm(vector)

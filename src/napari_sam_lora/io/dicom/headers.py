"""What the headers of DICOM files say of each frame: where it lies, how large its pixels are, and what they mean."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam_lora.errors import InputError

_DIRECTORY = "1.2.840.10008.1.3.10"  # DICOMDIR, the table of contents of a disc
_SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")
_CENTIMETRES = 3  # PS3.3, C.8.5.5.1.15


@dataclass(frozen=True, eq=False)
class Place:
    """Where a frame lies in the patient (LPS, mm): its first pixel, and the steps down a column and along a row."""

    position: NDArray[np.float64]
    down: NDArray[np.float64]
    along: NDArray[np.float64]

    @property
    def normal(self) -> NDArray[np.float64]:
        """Unit vector from frame to frame."""
        across = np.cross(self.along, self.down)
        return np.asarray(across / np.linalg.norm(across), np.float64)

    @property
    def depth(self) -> float:
        """Position along the normal, in mm."""
        return float(self.position @ self.normal)

    def is_parallel(self, other: Place) -> bool:
        """Whether another frame has the same directions and pixels, but for rounding errors of the file."""
        return bool(
            np.allclose(self.along, other.along, atol=1e-3 * np.linalg.norm(self.along))
            and np.allclose(self.down, other.down, atol=1e-3 * np.linalg.norm(self.down))
        )


@dataclass(frozen=True, eq=False)
class Frame:
    """One plane of a file.

    Attributes
    ----------
    path : Path
    index : int
        In the file.
    series : tuple
        Equal for frames that belong together if they are parallel.
    name, modality : str
    place : Place, optional
    pixel : tuple of float, optional
        (y, x) in mm.
    step : tuple of float and str
        From frame to frame where there is no place: length and unit, of a film seconds.
    order : tuple
        What sorts frames of the same place, or without places.
    rescale : tuple of float
        Slope and intercept.
    segment : int
        Number of the segment, of a segmentation that has one in each frame; otherwise 0.
    inside : float
        Least value that belongs to a segment.
    """

    path: Path
    index: int
    series: tuple[Any, ...]
    name: str
    modality: str
    place: Place | None
    pixel: tuple[float, float] | None
    step: tuple[float, str]
    order: tuple[Any, ...]
    rescale: tuple[float, float]
    segment: int
    inside: float


def read_frames(path: Path) -> list[Frame]:
    """The frames of a DICOM file; empty if it holds no image.

    Raises
    ------
    InputError
        If it is damaged, or not a DICOM file.
    """
    import pydicom  # noqa: PLC0415  an optional dependency

    try:
        header = pydicom.dcmread(path, stop_before_pixels=True)
        if "Rows" not in header or header.get("SOPClassUID") == _DIRECTORY:
            return []
        return list(_frames(path, header))
    except pydicom.errors.InvalidDicomError as error:
        raise InputError(f"{path.name} is not a DICOM file, or its beginning is missing.") from error
    except Exception as error:  # pydicom raises whatever it likes on a damaged file
        raise InputError(f"{path.name} is damaged: {words(error)}") from error


def words(error: Exception) -> str:
    """One short line of an exception's text."""
    text = " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__
    return f"{text}."


def _frames(path: Path, header: Any) -> Iterator[Frame]:
    count = int(header.get("NumberOfFrames", 1) or 1)
    for index in range(count):
        group = _Groups(header, index)
        spacing = _spacing(group)
        place = _place(group, spacing)
        yield Frame(
            path,
            index,
            _series(path, group, place, spacing, count),
            str(header.get("SeriesDescription", "") or header.get("Modality", "") or path.stem),
            str(header.get("Modality", "")),
            place,
            spacing,
            _step(group),
            _order(group),
            (float(group.get("RescaleSlope", 1)), float(group.get("RescaleIntercept", 0))),
            int(group.get("ReferencedSegmentNumber", 0)),
            float(header.get("MaximumFractionalValue") or 2) / 2,
        )


class _Groups:
    """Looks values up for a frame: in its functional groups, in those of all frames, then in the file."""

    def __init__(self, header: Any, index: int) -> None:
        self.header, self.index = header, index
        own = header.get("PerFrameFunctionalGroupsSequence")
        shared = header.get("SharedFunctionalGroupsSequence")
        self._places = [*([own[index]] if own else []), *(shared or [])]

    def get(self, name: str, default: Any = None) -> Any:
        """A value, whatever the functional group is called that holds it."""
        for place in self._places:
            for group in place:
                if group.VR == "SQ" and group.value and name in group.value[0]:
                    return group.value[0].get(name)
        value = self.header.get(name)
        return default if value is None or value == "" else value


def _spacing(group: _Groups) -> tuple[float, float] | None:
    for name in _SPACINGS:
        sides = group.get(name)
        if sides is not None and len(sides) == 2 and min(sides) > 0:
            return float(sides[0]), float(sides[1])
    regions = [
        (abs(float(region.PhysicalDeltaY)) * 10, abs(float(region.PhysicalDeltaX)) * 10)
        for region in group.header.get("SequenceOfUltrasoundRegions") or ()
        if region.get("PhysicalUnitsXDirection") == region.get("PhysicalUnitsYDirection") == _CENTIMETRES
    ]
    return regions[0] if len(set(regions)) == 1 and min(regions[0]) > 0 else None


def _place(group: _Groups, spacing: tuple[float, float] | None) -> Place | None:
    detector = (group.header.get("DetectorInformationSequence") or [{}])[0]  # of nuclear medicine
    position = group.get("ImagePositionPatient", detector.get("ImagePositionPatient"))
    orientation = group.get("ImageOrientationPatient", detector.get("ImageOrientationPatient"))
    if spacing is None or position is None or orientation is None or len(position) != 3 or len(orientation) != 6:
        return None
    along, down = np.array(orientation, np.float64).reshape(2, 3)
    if not np.linalg.norm(np.cross(along, down)) > 0.5:
        return None
    place = Place(np.array(position, np.float64), down * spacing[0], along * spacing[1])
    return Place(place.position + place.normal * _offset(group), place.down, place.along)


def _offset(group: _Groups) -> float:
    """Distance of a frame from the place that the file names for its first one, in mm."""
    header = group.header
    if header.get("GridFrameOffsetVector") is not None:  # of a dose
        offsets = header.GridFrameOffsetVector
        return float(offsets[group.index]) - float(offsets[0])
    if header.get("SliceVector") is not None:  # of nuclear medicine; its spacing may be negative
        vector = header.SliceVector
        count = int(np.atleast_1d(vector)[group.index])
        return (count - 1) * float(header.get("SpacingBetweenSlices") or header.get("SliceThickness") or 1)
    return 0.0


def _step(group: _Groups) -> tuple[float, str]:
    times = group.get("FrameTime") or np.mean(group.get("FrameTimeVector", [0])[1:] or [0])
    rate = group.get("CineRate") or group.get("RecommendedDisplayFrameRate")
    if times or rate:
        return float(times) / 1000 if times else 1 / float(rate), "s"
    between = group.get("SpacingBetweenSlices") or group.get("SliceThickness")
    return (abs(float(between)), "mm") if between else (1.0, "pixel")


def _order(group: _Groups) -> tuple[Any, ...]:
    dimensions = group.get("DimensionIndexValues", ())
    return (
        int(group.get("TemporalPositionIndex", 0)),
        tuple(map(int, np.atleast_1d(dimensions))),
        int(group.header.get("InstanceNumber", 0) or 0),
        group.index,
    )


def _series(
    path: Path, group: _Groups, place: Place | None, spacing: tuple[float, float] | None, count: int
) -> tuple[Any, ...]:
    header = group.header
    sides = (int(header.Rows), int(header.Columns), int(header.get("SamplesPerPixel", 1)))
    kind = (str(header.get("SeriesInstanceUID", "")), *sides, str(header.get("PhotometricInterpretation", "")))
    if place is None or header.get("Modality") == "SEG":  # a film, or segments, are complete in their file
        own = str(path) if count > 1 or place is not None else ""
        return (*kind, spacing, own)
    return (*kind, str(group.get("StackID", "")))

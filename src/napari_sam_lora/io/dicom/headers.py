"""Read the headers of DICOM files: position, pixel size and meaning of each frame."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam_lora.errors import InputError
from napari_sam_lora.io.shared.decoding_errors import unreadable

_DIRECTORY = "1.2.840.10008.1.3.10"  # DICOMDIR, the table of contents of a disc
_SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")
_CENTIMETRES = 3  # PS3.3, C.8.5.5.1.15


@dataclass(frozen=True, eq=False)
class FrameGeometry:
    """Position of a frame in the patient (LPS, mm): its first pixel, and the steps down a column and along a row."""

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

    def is_parallel(self, other: FrameGeometry) -> bool:
        """Return whether another frame has the same directions and pixel size, up to rounding errors of the file."""
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
        Number of the frame in the file.
    series : tuple
        Equal for frames that belong together if they are parallel.
    name, modality : str
    geometry : FrameGeometry, optional
    pixel_size : tuple of float, optional
        (y, x) in mm.
    step : tuple of float and str
        Distance to the next frame where there is no geometry: length and unit, seconds in a time series.
    order : tuple
        Sort key for frames of the same position, or without one.
    rescale : tuple of float
        Slope and intercept.
    segment : int
        Number of the segment, of a segmentation that has one in each frame; otherwise 0.
    threshold : float
        Smallest value that belongs to a segment.
    """

    path: Path
    index: int
    series: tuple[Any, ...]
    name: str
    modality: str
    geometry: FrameGeometry | None
    pixel_size: tuple[float, float] | None
    step: tuple[float, str]
    order: tuple[Any, ...]
    rescale: tuple[float, float]
    segment: int
    threshold: float


def read_frames(path: Path) -> list[Frame]:
    """Read the frames of a DICOM file, without their pixels; empty if it holds no image.

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
        raise InputError(f"{path.name} is not a DICOM file, or its beginning is missing.", code="not-dicom") from error
    except Exception as error:  # pydicom raises any exception on a damaged file
        raise unreadable(path, error) from error


def _frames(path: Path, header: Any) -> Iterator[Frame]:
    count = int(header.get("NumberOfFrames", 1) or 1)
    for index in range(count):
        values = _FrameValues(header, index)
        pixel_size = _pixel_size(values)
        geometry = _geometry(values, pixel_size)
        yield Frame(
            path,
            index,
            _series(path, values, geometry, pixel_size, count),
            str(header.get("SeriesDescription", "") or header.get("Modality", "") or path.stem),
            str(header.get("Modality", "")),
            geometry,
            pixel_size,
            _step(values),
            _order(values),
            (float(values.get("RescaleSlope", 1)), float(values.get("RescaleIntercept", 0))),
            int(values.get("ReferencedSegmentNumber", 0)),
            float(header.get("MaximumFractionalValue") or 2) / 2,
        )


class _FrameValues:
    """Header values of a frame: from its functional groups, else the shared ones, else the file."""

    def __init__(self, header: Any, index: int) -> None:
        self.header, self.index = header, index
        own = header.get("PerFrameFunctionalGroupsSequence")
        shared = header.get("SharedFunctionalGroupsSequence")
        self._items = [*([own[index]] if own else []), *(shared or [])]

    def get(self, name: str, default: Any = None) -> Any:
        """Return a value from whichever functional group holds it."""
        for item in self._items:
            for group in item:
                if group.VR == "SQ" and group.value and name in group.value[0]:
                    return group.value[0].get(name)
        value = self.header.get(name)
        return default if value is None or value == "" else value


def _pixel_size(values: _FrameValues) -> tuple[float, float] | None:
    for name in _SPACINGS:
        spacing = values.get(name)
        if spacing is not None and len(spacing) == 2 and min(spacing) > 0:
            return float(spacing[0]), float(spacing[1])
    regions = [
        (abs(float(region.PhysicalDeltaY)) * 10, abs(float(region.PhysicalDeltaX)) * 10)
        for region in values.header.get("SequenceOfUltrasoundRegions") or ()
        if region.get("PhysicalUnitsXDirection") == region.get("PhysicalUnitsYDirection") == _CENTIMETRES
    ]
    return regions[0] if len(set(regions)) == 1 and min(regions[0]) > 0 else None


def _geometry(values: _FrameValues, pixel_size: tuple[float, float] | None) -> FrameGeometry | None:
    detector = (values.header.get("DetectorInformationSequence") or [{}])[0]  # of nuclear medicine
    position = values.get("ImagePositionPatient", detector.get("ImagePositionPatient"))
    orientation = values.get("ImageOrientationPatient", detector.get("ImageOrientationPatient"))
    if pixel_size is None or position is None or orientation is None or len(position) != 3 or len(orientation) != 6:
        return None
    along, down = np.array(orientation, np.float64).reshape(2, 3)
    if not np.linalg.norm(np.cross(along, down)) > 0.5:
        return None
    first = FrameGeometry(np.array(position, np.float64), down * pixel_size[0], along * pixel_size[1])
    return FrameGeometry(first.position + first.normal * _offset(values), first.down, first.along)


def _offset(values: _FrameValues) -> float:
    """Return the distance of a frame from the position that the file states for the first one, in mm."""
    header = values.header
    if header.get("GridFrameOffsetVector") is not None:  # of a dose
        offsets = header.GridFrameOffsetVector
        return float(offsets[values.index]) - float(offsets[0])
    if header.get("SliceVector") is not None:  # of nuclear medicine; its spacing may be negative
        vector = header.SliceVector
        count = int(np.atleast_1d(vector)[values.index])
        return (count - 1) * float(header.get("SpacingBetweenSlices") or header.get("SliceThickness") or 1)
    return 0.0


def _step(values: _FrameValues) -> tuple[float, str]:
    times = values.get("FrameTime") or np.mean(values.get("FrameTimeVector", [0])[1:] or [0])
    rate = values.get("CineRate") or values.get("RecommendedDisplayFrameRate")
    if times or rate:
        return float(times) / 1000 if times else 1 / float(rate), "s"
    distance = values.get("SpacingBetweenSlices") or values.get("SliceThickness")
    return (abs(float(distance)), "mm") if distance else (1.0, "pixel")


def _order(values: _FrameValues) -> tuple[Any, ...]:
    dimensions = values.get("DimensionIndexValues", ())
    return (
        int(values.get("TemporalPositionIndex", 0)),
        tuple(map(int, np.atleast_1d(dimensions))),
        int(values.header.get("InstanceNumber", 0) or 0),
        values.index,
    )


def _series(
    path: Path, values: _FrameValues, geometry: FrameGeometry | None, pixel_size: tuple[float, float] | None, count: int
) -> tuple[Any, ...]:
    header = values.header
    shape = (int(header.Rows), int(header.Columns), int(header.get("SamplesPerPixel", 1)))
    common = (str(header.get("SeriesInstanceUID", "")), *shape, str(header.get("PhotometricInterpretation", "")))
    if geometry is None or header.get("Modality") == "SEG":  # one file holds a whole time series or segmentation
        own = str(path) if count > 1 or geometry is not None else ""
        return (*common, pixel_size, own)
    return (*common, str(values.get("StackID", "")))

"""Write DICOM files with several frames, for tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    MediaStorageDirectoryStorage,
    SegmentationStorage,
    generate_uid,
)

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)


def dataset(planes: NDArray[Any], modality: str = "MR", name: str = "frames", **more: Any) -> Dataset:
    """Make an image of frames (n, y, x) or (n, y, x, 3), of 8 or 16 bits, without a position."""
    one = Dataset()
    one.file_meta = FileMetaDataset()
    one.file_meta.MediaStorageSOPClassUID = one.SOPClassUID = EnhancedMRImageStorage
    one.file_meta.MediaStorageSOPInstanceUID = one.SOPInstanceUID = generate_uid()
    one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    one.SeriesInstanceUID, one.SeriesDescription, one.Modality = generate_uid(), name, modality
    one.InstanceNumber, one.NumberOfFrames = 1, len(planes)
    one.Rows, one.Columns = planes.shape[1:3]
    one.SamplesPerPixel = 3 if planes.ndim > 3 else 1
    one.PhotometricInterpretation = "RGB" if planes.ndim > 3 else "MONOCHROME2"
    if planes.ndim > 3:
        one.PlanarConfiguration = 0
    bits = planes.dtype.itemsize * 8
    one.BitsAllocated, one.BitsStored, one.HighBit = bits, bits, bits - 1
    one.PixelRepresentation = int(planes.dtype.kind == "i")
    one.PixelData = planes.tobytes() + b"\0" * (planes.nbytes % 2)
    for key, value in more.items():
        setattr(one, key, value)
    return one


def group(name: str, **values: Any) -> dict[str, list[Dataset]]:
    """Make a functional group."""
    inner = Dataset()
    for key, value in values.items():
        setattr(inner, key, value)
    return {name: [inner]}


def groups(*parts: dict[str, list[Dataset]]) -> Dataset:
    """Combine the functional groups of a frame, or the shared ones."""
    item = Dataset()
    for part in parts:
        for key, value in part.items():
            setattr(item, key, value)
    return item


def place(position: Sequence[float], orientation: Sequence[float] | None = None) -> list[dict[str, list[Dataset]]]:
    """Make the groups with the position and orientation of a frame."""
    found = [group("PlanePositionSequence", ImagePositionPatient=list(position))]
    if orientation is not None:
        found.append(group("PlaneOrientationSequence", ImageOrientationPatient=list(orientation)))
    return found


def measures(spacing: Sequence[float] = (0.5, 0.25), thickness: float = 3.0) -> dict[str, list[Dataset]]:
    """Make the group of pixel sizes."""
    return group("PixelMeasuresSequence", PixelSpacing=list(spacing), SliceThickness=thickness)


def stack(planes: NDArray[Any], frames: Sequence[Dataset], *shared: dict[str, list[Dataset]], **more: Any) -> Dataset:
    """Make an enhanced image: frames with functional groups of their own."""
    one = dataset(planes, **more)
    one.SharedFunctionalGroupsSequence = [groups(*shared)]
    one.PerFrameFunctionalGroupsSequence = list(frames)
    return one


def segmentation(
    planes: NDArray[np.bool_], positions: Sequence[Sequence[float]], segments: Sequence[int], **more: Any
) -> Dataset:
    """Make a binary segmentation (n, y, x), one frame per segment and slice."""
    frames = [
        groups(*place(position), group("SegmentIdentificationSequence", ReferencedSegmentNumber=number))
        for position, number in zip(positions, segments, strict=True)
    ]
    turned = group("PlaneOrientationSequence", ImageOrientationPatient=list(AXIAL))
    one = stack(planes.astype(np.uint8), frames, measures(), turned, modality="SEG", name="organs")
    one.SOPClassUID = one.file_meta.MediaStorageSOPClassUID = SegmentationStorage
    one.SegmentationType = "BINARY"
    one.BitsAllocated, one.BitsStored, one.HighBit = 1, 1, 0
    bits = np.packbits(planes.ravel(), bitorder="little").tobytes()
    one.PixelData = bits + b"\0" * (len(bits) % 2)
    for key, value in more.items():
        setattr(one, key, value)
    return one


def compress(one: Dataset, frames: Sequence[bytes], syntax: str) -> Dataset:
    """Replace the pixels by compressed frames."""
    one.file_meta.TransferSyntaxUID = UID(syntax)
    one.PixelData = encapsulate(list(frames))
    one["PixelData"].is_undefined_length = True
    return one


def save(path: Path, one: Dataset) -> Path:
    """Write a data set to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    one.save_as(path, enforce_file_format=True)
    return path


def save_table_of_contents(folder: Path) -> Path:
    """Write a DICOMDIR, the table of contents of a disc."""
    one = Dataset()
    one.file_meta = FileMetaDataset()
    one.file_meta.MediaStorageSOPClassUID = one.SOPClassUID = MediaStorageDirectoryStorage
    one.file_meta.MediaStorageSOPInstanceUID = one.SOPInstanceUID = generate_uid()
    one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    one.DirectoryRecordSequence = []
    return save(folder / "DICOMDIR", one)

"""Write NIfTI files and DICOM series with a known position, for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
from numpy.typing import ArrayLike, NDArray
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from scipy.spatial.transform import Rotation


def affine(spacing: ArrayLike = (0.7, 0.8, 2.5), angles: ArrayLike = (0, 0, 0), flips: ArrayLike = (1, 1, 1)) -> Any:
    """Return the affine from voxels (i, j, k) to RAS, rotated by angles in degrees."""
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() @ np.diag(
        np.asarray(spacing) * np.asarray(flips)
    )
    matrix[:3, 3] = 12.5, -40.25, 7.75
    return matrix


def load(path: Path) -> Any:
    """Load a NIfTI file with nibabel."""
    return nibabel.load(path)


def write_volume(path: Path, data: NDArray[Any], matrix: Any, big_endian: bool = False) -> Path:
    """Write a NIfTI file."""
    image = nibabel.Nifti1Image(data, matrix, dtype=data.dtype)
    image.header.set_xyzt_units("mm", "sec")
    if big_endian:
        image = nibabel.Nifti1Image(data, matrix, image.header.as_byteswapped(">"), dtype=data.dtype)
    nibabel.save(image, path)
    return path


def write_series(folder: Path, data: NDArray[np.int16], matrix: Any, name: str = "chest", order: int = 1) -> Path:
    """Write a DICOM series of CT slices (z, y, x); ``matrix`` maps (column, row, slice) to the patient (LPS)."""
    folder.mkdir(parents=True, exist_ok=True)
    series = generate_uid()
    for k, plane in enumerate(data):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, generate_uid()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        one = pydicom.Dataset()
        one.file_meta = meta
        one.SOPClassUID, one.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
        one.SeriesInstanceUID, one.SeriesDescription, one.Modality = series, name, "CT"
        one.InstanceNumber = k + 1 if order > 0 else len(data) - k
        steps = np.linalg.norm(matrix[:3, :3], axis=0)
        one.ImageOrientationPatient = [float(v) for v in (*matrix[:3, 0] / steps[0], *matrix[:3, 1] / steps[1])]
        one.ImagePositionPatient = [float(v) for v in matrix[:3] @ [0, 0, k, 1]]
        one.PixelSpacing = [float(steps[1]), float(steps[0])]
        one.SliceThickness = float(steps[2])
        one.Rows, one.Columns = plane.shape
        one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
        one.BitsAllocated, one.BitsStored, one.HighBit, one.PixelRepresentation = 16, 16, 15, 0
        one.RescaleSlope, one.RescaleIntercept = 1, -1024
        one.PixelData = (plane.astype(np.int32) + 1024).astype(np.uint16).tobytes()
        one.save_as(folder / f"{'abcdefghijklmnop'[(k * 7) % 16]}{k}.dcm", enforce_file_format=True)
    return folder

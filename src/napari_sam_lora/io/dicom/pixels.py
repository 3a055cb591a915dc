"""Decode and rescale the pixels of DICOM frames, in gray or colour."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam_lora.errors import InputError
from napari_sam_lora.io.dicom import codecs
from napari_sam_lora.io.dicom.headers import Frame
from napari_sam_lora.io.shared.decoding_errors import summarize


def read_pixels(frames: Sequence[Frame]) -> NDArray[Any]:
    """Read the pixels of frames of one size; each file is read once.

    Returns
    -------
    array (n, y, x) or (n, y, x, 3)
        Rescaled, in CT to Hounsfield units; integers if all slopes and intercepts are, otherwise float32.

    Raises
    ------
    InputError
        If a file cannot be decoded.
    """
    is_whole = all(value == int(value) for frame in frames for value in frame.rescale)
    positions_by_file: dict[Path, list[int]] = {}
    for position, frame in enumerate(frames):
        positions_by_file.setdefault(frame.path, []).append(position)
    planes: dict[int, NDArray[Any]] = {}
    for path, positions in positions_by_file.items():
        dataset, stored = _decode(path)
        for position in positions:
            frame = frames[position]
            planes[position] = _rescale(dataset, stored[frame.index], frame.rescale, is_whole)
    out = np.empty((len(frames), *planes[0].shape), np.result_type(*{plane.dtype for plane in planes.values()}))
    for position in range(len(frames)):
        out[position] = planes.pop(position)
    return out


def _decode(path: Path) -> tuple[Any, NDArray[Any]]:
    """Return the data set of a file and its stored values (frames, y, x) or (frames, y, x, 3)."""
    import pydicom  # noqa: PLC0415  an optional dependency
    from pydicom.pixels.processing import apply_color_lut  # noqa: PLC0415

    codecs.register()
    try:
        dataset = pydicom.dcmread(path)
        stored = dataset.pixel_array
        if dataset.PhotometricInterpretation == "PALETTE COLOR":
            stored = apply_color_lut(stored, dataset)[..., :3]
    except Exception as error:  # decoders raise any exception on a damaged file
        raise InputError(f"{path.name} cannot be read: {summarize(error)}", code="file-not-readable") from error
    plane = (dataset.Rows, dataset.Columns)
    if stored.ndim > 2 and stored.shape[-1] == 3 and stored.shape[-3:-1] == plane:
        bits = 8 * stored.dtype.itemsize if dataset.SamplesPerPixel == 1 else int(dataset.BitsStored)
        return dataset, (stored >> max(0, bits - 8)).astype(np.uint8).reshape(-1, *plane, 3)
    return dataset, stored.reshape(-1, *plane)


def _rescale(dataset: Any, stored: NDArray[Any], rescale: tuple[float, float], is_whole: bool) -> NDArray[Any]:
    if "ModalityLUTSequence" in dataset:
        from pydicom.pixels.processing import apply_modality_lut  # noqa: PLC0415

        return np.asarray(apply_modality_lut(stored, dataset), np.float32)
    slope, intercept = rescale
    if not is_whole:
        return (stored * slope + intercept).astype(np.float32)
    if rescale == (1, 0):
        return stored
    values = stored.astype(np.int32 if stored.itemsize < 4 else np.int64) * int(slope) + int(intercept)
    fits = np.iinfo(np.int16).min <= values.min() and values.max() <= np.iinfo(np.int16).max
    return values.astype(np.int16) if fits else values

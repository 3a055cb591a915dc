"""Read NIfTI volumes with their position in space, and write labels on the voxels of their image."""

from __future__ import annotations

import gzip
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam_lora.errors import InputError
from napari_sam_lora.files import atomic_path
from napari_sam_lora.io.label_dtype import label_dtype
from napari_sam_lora.io.placement import Placement, layer_affine, placement_of, world_to_ras
from napari_sam_lora.io.shared.decoding_errors import unreadable
from napari_sam_lora.io.shared.file_warning import FileWarning
from napari_sam_lora.io.shared.optional_dependencies import import_optional
from napari_sam_lora.io.units import MICROMETRES, length_unit

ENDINGS = (".nii", ".nii.gz")
_LABEL_INTENT = 1002
_LARGEST_SIDE = 32767  # of NIfTI-1; longer sides need NIfTI-2
_SPACE = {"meter": "m", "mm": "mm", "micron": "um"}
_SPACE_CODES = {"m": "meter", "mm": "mm", "µm": "micron"}
_TIME = {"sec": "s", "msec": "ms", "usec": "us"}


@dataclass(frozen=True, eq=False)
class NiftiVolume:
    """A NIfTI file.

    Attributes
    ----------
    data : array (..., z, y, x)
        A view of the stored values, scaled if the file has a slope, in native byte order.
    placement : Placement
        Of the last three axes.
    steps : tuple of float
        Spacing along the axes before z.
    units : tuple of str
        Of all axes.
    is_labels : bool
        The header has the intent *label*.
    """

    data: NDArray[Any]
    placement: Placement
    steps: tuple[float, ...]
    units: tuple[str, ...]
    is_labels: bool


def read_nifti(path: str | Path) -> NiftiVolume:
    """Read a NIfTI volume (.nii, .nii.gz) of two to five axes.

    Raises
    ------
    InputError
        If the file does not exist or is damaged, or nibabel is not installed.
    """
    source = Path(path)
    nibabel = import_optional("nibabel", source.name)
    if not source.is_file():
        raise InputError(f"There is no file {source}.", code="file-not-found")
    try:
        image = nibabel.load(source)
        stored = np.asarray(image.dataobj)
    except Exception as error:  # nibabel and zlib raise any exception on a damaged file
        raise unreadable(source, error) from error
    stored = stored.astype(stored.dtype.newbyteorder("="), copy=False)
    if stored.dtype.fields is not None:  # colours, as in DTI maps
        stored = np.stack([stored[name] for name in ("R", "G", "B")], -1).mean(-1).round().astype(np.uint8)
    stored = stored.reshape(stored.shape + (1,) * (3 - stored.ndim))
    header = image.header
    space, time = header.get_xyzt_units() if hasattr(header, "get_xyzt_units") else ("mm", "sec")
    unit = _SPACE.get(space, "mm")
    header_hex = bytes(header.binaryblock).hex()
    try:
        placement = Placement.of(image.affine, stored.shape[:3], unit, header_hex)
    except InputError:
        message = f"{source.name} holds no valid position of its voxels; only their size is used."
        warnings.warn(FileWarning(message, code="position-missing"), stacklevel=3)
        placement = Placement.of(header.get_base_affine(), stored.shape[:3], unit)
    extra_axes = stored.ndim - 3
    zooms = [float(step) or 1.0 for step in header.get_zooms()[3 : 3 + extra_axes]]
    units = ("",) * max(0, extra_axes - 1) + (_TIME.get(time, ""),) * (extra_axes > 0) + (placement.unit,) * 3
    is_labels = int(header.get("intent_code", 0)) == _LABEL_INTENT
    return NiftiVolume(placement.show(stored), placement, tuple(zooms[::-1]), units, is_labels)


def write_nifti(
    path: str | Path, labels: NDArray[np.integer[Any]], attributes: Mapping[str, Any] | None = None
) -> Path:
    """Write labels as NIfTI, atomically, in the smallest type that holds their ids.

    Parameters
    ----------
    path : path-like
        Ends in .nii or .nii.gz.
    labels : int (y, x), (z, y, x) or (t, z, y, x)
    attributes : mapping, optional
        Of their napari layer. If its metadata holds the placement from `read_layers`, and the layer was not moved,
        the file has exactly the voxel order and the affine of the image that was read; otherwise it has the affine of
        the layer.

    Returns
    -------
    Path

    Raises
    ------
    InputError
        If the ending is another, there are no voxels, an id cannot be stored, or nibabel is not installed.
    """
    target, layer = Path(path), attributes or {}
    nibabel = import_optional("nibabel", target.name)
    if not target.name.lower().endswith(ENDINGS):
        raise InputError(
            f"The name of a NIfTI file must end in .nii or .nii.gz, not {target.name}.", code="wrong-file-ending"
        )
    if labels.ndim < 2 or 0 in labels.shape:
        raise InputError(f"There are no voxels to write: the labels are {labels.shape}.", code="labels-empty")
    volume = labels.reshape((1,) * (3 - labels.ndim) + labels.shape)
    placement, header = placement_of(layer), None
    if placement is not None and placement.shown_shape == volume.shape[-3:]:
        header = _header(nibabel, placement)
        stored, affine = placement.store(volume), np.asarray(placement.affine)
    else:
        stored, affine = volume.T, world_to_ras(_in_one_unit(layer_affine(layer, 3), layer))
    values = stored.astype(label_dtype(labels))
    kind = nibabel.Nifti1Image if max(stored.shape) <= _LARGEST_SIDE else nibabel.Nifti2Image
    image = kind(values, None if header is not None else affine, header, dtype=values.dtype)
    _complete_header(image, affine, layer, is_new=header is None)
    opener = gzip.open if target.name.lower().endswith(".gz") else open
    with atomic_path(target) as temporary, opener(temporary, "wb") as stream:
        image.to_stream(stream)
    return target


def _unit_of(attributes: Mapping[str, Any]) -> str:
    """Return the unit of the file: µm for units up to µm, m for m, otherwise mm; empty if the layer's is unknown."""
    units = list(attributes.get("units") or ())
    unit = length_unit(units[-1]) if units else ""
    return unit if unit in ("", "m") else "µm" if MICROMETRES[unit] <= 1 else "mm"


def _in_one_unit(affine: NDArray[np.float64], attributes: Mapping[str, Any]) -> NDArray[np.float64]:
    """Convert an affine to napari's world, where each axis has its own unit, to z, y, x in the file's unit."""
    unit = _unit_of(attributes)
    units = [length_unit(one) for one in ["", "", "", *(attributes.get("units") or ())][-3:]]
    factors = [MICROMETRES[one] / MICROMETRES[unit] if unit and one else 1.0 for one in units]
    return np.diag([*factors, 1.0]) @ affine


def _header(nibabel: Any, placement: Placement) -> Any:
    """Return the header of the file that the image was read from; None if it was not NIfTI-1."""
    try:
        header = nibabel.Nifti1Header(bytes.fromhex(placement.header), check=False)
        header = header.as_byteswapped("<")
        header.set_data_shape(placement.shape)
    except Exception:  # not a header, or one of NIfTI-2: the affine is enough
        return None
    header["cal_min"] = header["cal_max"] = 0
    return header if np.array_equal(header.get_best_affine(), np.asarray(placement.affine)) else None


def _complete_header(image: Any, affine: NDArray[np.float64], attributes: Mapping[str, Any], is_new: bool) -> None:
    """Set the intent *label*, and spacing and units where they are not those of the image's file."""
    header = image.header
    header.set_slope_inter(1, 0)
    header.set_intent("label")
    extra_axes = image.ndim - 3
    if is_new:
        image.set_sform(affine, code=1)
        image.set_qform(affine, code=1, strip_shears=True)
        header.set_xyzt_units(_SPACE_CODES.get(_unit_of(attributes), "unknown"), "sec" if extra_axes else None)
    scale = np.atleast_1d(attributes.get("scale", ()))
    if extra_axes and len(scale) >= image.ndim:
        steps = [abs(float(step)) for step in scale[-4 : -4 - extra_axes : -1]]
        header.set_zooms((*header.get_zooms()[:3], *steps))

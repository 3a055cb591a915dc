"""Position and orientation of a volume: from a file to napari's axes (z, y, x), and back without loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_sam_lora.errors import InputError

METADATA = "napari-sam-lora"
_RAS_TO_WORLD = np.array([[0.0, 0, 1, 0], [0, -1, 0, 0], [-1, 0, 0, 0], [0, 0, 0, 1]])
# Smaller deviations of an axis from the scanner's are rounding errors of the file.
_STRAIGHT = 1e-5


@dataclass(frozen=True)
class Placement:
    """Position and orientation of the voxels of a medical volume.

    In napari its axes are z, y, x and point to the patient's head, back and left, so that an axial plane looks as
    radiologists view it. The file may store them in any order and direction.

    Attributes
    ----------
    affine : tuple of tuple of float
        (4, 4), from voxels (i, j, k) of the file to NIfTI's world: right, anterior, superior (RAS).
    shape : tuple of int
        (i, j, k) of the file.
    order : tuple of int
        The file's axis that is shown as z, as y and as x.
    flipped : tuple of bool
        Which of these run in the opposite direction of the file.
    unit : str
        Of the affine.
    header : str
        Header of the NIfTI file in hexadecimal digits, if it was one.
    """

    affine: tuple[tuple[float, ...], ...]
    shape: tuple[int, int, int]
    order: tuple[int, int, int]
    flipped: tuple[bool, bool, bool]
    unit: str = "mm"
    header: str = ""

    @classmethod
    def of(cls, affine: ArrayLike, shape: Sequence[int], unit: str = "mm", header: str = "") -> Placement:
        """Make the placement for an affine (4, 4) to RAS and the shape (i, j, k) of a file.

        Raises
        ------
        InputError
            If the affine is not invertible.
        """
        matrix = np.asarray(affine, np.float64)
        if matrix.shape != (4, 4) or not np.isfinite(matrix).all() or abs(np.linalg.det(matrix[:3, :3])) < 1e-30:
            raise InputError(
                "The affine of this volume is not invertible; the position of its voxels is unknown.",
                code="affine-not-invertible",
            )
        axes, signs = _nearest_axes(matrix[:3, :3])
        order = tuple(axes.index(axis) for axis in (2, 1, 0))
        # z, y, x point to superior, posterior and left; RAS is right, anterior, superior.
        flipped = tuple(signs[axis] != sign for axis, sign in zip(order, (1, -1, -1), strict=True))
        return cls(
            tuple(tuple(map(float, row)) for row in matrix),
            tuple(int(side) for side in shape),  # type: ignore[arg-type]
            order,  # type: ignore[arg-type]
            flipped,  # type: ignore[arg-type]
            unit,
            header,
        )

    def show(self, stored: NDArray[Any]) -> NDArray[Any]:
        """Return a view (..., z, y, x) of an array (i, j, k, ...) of the file; axes after k come before z, reversed.

        Raises
        ------
        InputError
            If the array has another shape than the placement.
        """
        spatial = [stored.shape[axis] for axis in range(3)]
        if tuple(spatial) != self.shape:
            raise InputError(
                f"The array is {tuple(spatial)}, its placement is for {self.shape}.", code="placement-does-not-fit"
            )
        view = stored.transpose(*range(stored.ndim - 1, 2, -1), *self.order)
        return self._flip(view)

    def store(self, shown: NDArray[Any]) -> NDArray[Any]:
        """Return a view (i, j, k, ...); the inverse of `show`."""
        view = self._flip(shown)
        first = shown.ndim - 3
        axes = [first + self.order.index(axis) for axis in range(3)]
        return view.transpose(*axes, *range(first - 1, -1, -1))

    def _flip(self, view: NDArray[Any]) -> NDArray[Any]:
        z, y, x = (slice(None, None, -1 if flip else 1) for flip in self.flipped)
        return view[..., z, y, x]

    @property
    def shown_shape(self) -> tuple[int, int, int]:
        """Shape (z, y, x) in napari."""
        return tuple(self.shape[axis] for axis in self.order)  # type: ignore[return-value]

    @property
    def shown_affine(self) -> NDArray[np.float64]:
        """(4, 4) from voxels (z, y, x) to napari's world."""
        return _RAS_TO_WORLD @ np.asarray(self.affine) @ self._to_file()

    def transform(self) -> dict[str, Any]:
        """Return napari's ``scale`` and ``translate`` for (z, y, x); of an oblique volume ``scale`` and ``affine``."""
        affine = self.shown_affine
        scale = np.linalg.norm(affine[:3, :3], axis=0)
        skew = affine[:3, :3] / scale - np.eye(3)
        if np.abs(skew).max() < _STRAIGHT:
            return {"scale": scale, "translate": affine[:3, 3]}
        return {"scale": scale, "affine": affine @ np.diag([*(1 / scale), 1])}

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for a layer's metadata."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Placement:
        """Make a placement from the values of `as_dict`."""
        return cls.of(values["affine"], values["shape"], values["unit"], values["header"])

    def _to_file(self) -> NDArray[np.float64]:
        """Return the matrix (4, 4) from voxels (z, y, x) to voxels (i, j, k) of the file."""
        matrix = np.zeros((4, 4))
        matrix[3, 3] = 1
        for shown, (axis, flip) in enumerate(zip(self.order, self.flipped, strict=True)):
            matrix[axis, shown] = -1 if flip else 1
            matrix[axis, 3] = self.shape[axis] - 1 if flip else 0
        return matrix


def placement_of(attributes: Mapping[str, Any]) -> Placement | None:
    """Return the placement from the metadata of a layer; None if there is none or the layer was moved since."""
    metadata = attributes.get("metadata", {}).get(METADATA)
    values = metadata.get("placement") if isinstance(metadata, Mapping) else None
    if not isinstance(values, Mapping):
        return None
    placement = Placement.from_dict(values)
    current, original = layer_affine(attributes, 3), placement.shown_affine
    atol = 1e-4 * np.abs(original[:3, :3]).max()
    return placement if np.allclose(current, original, rtol=1e-4, atol=atol) else None


def layer_affine(attributes: Mapping[str, Any], ndim: int) -> NDArray[np.float64]:
    """Combine ``scale``, ``translate``, ``rotate``, ``shear`` and ``affine`` of a layer to one transform.

    Parameters
    ----------
    attributes : mapping
        As in napari's layer data tuples; a missing one is the identity.
    ndim : int
        Number of last axes to return.

    Returns
    -------
    float64 (ndim + 1, ndim + 1)
    """
    scale = np.atleast_1d(np.asarray(attributes.get("scale", np.ones(ndim)), np.float64))
    count = len(scale)
    rotate = np.asarray(attributes.get("rotate", np.eye(count)), np.float64)
    inner = np.eye(count + 1)
    inner[:count, :count] = rotate.reshape(count, count) @ _shear(attributes.get("shear"), count) @ np.diag(scale)
    inner[:count, count] = attributes.get("translate", np.zeros(count))
    outer = np.asarray(getattr(attributes.get("affine"), "affine_matrix", attributes.get("affine", np.eye(count + 1))))
    if outer.shape != inner.shape:
        grown = np.eye(count + 1)
        grown[count + 1 - len(outer) :, count + 1 - len(outer) :] = outer
        outer = grown
    whole = outer @ inner
    if count < ndim:
        grown = np.eye(ndim + 1)
        grown[ndim - count :, ndim - count :] = whole
        return grown
    return np.asarray(whole[count - ndim :, count - ndim :], np.float64)


def world_to_ras(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """Convert an affine (4, 4) from voxels (z, y, x) to napari's world, to one from voxels (x, y, z) to RAS."""
    swap = np.eye(4)[[2, 1, 0, 3]]
    return np.asarray(np.linalg.inv(_RAS_TO_WORLD) @ affine @ swap, np.float64)


def _nearest_axes(linear: NDArray[np.float64]) -> tuple[list[int], list[int]]:
    """Return the nearest world axis of each voxel axis, each once, and their directions (1 or -1)."""
    from nibabel.orientations import io_orientation  # noqa: PLC0415  an optional dependency

    matrix = np.eye(4)
    matrix[:3, :3] = linear
    orientation = io_orientation(matrix)
    return [int(axis) for axis in orientation[:, 0]], [int(sign) for sign in orientation[:, 1]]


def _shear(value: Any, count: int) -> NDArray[np.float64]:
    """Return the shear matrix of napari's ``shear``: a matrix, or the values above its diagonal."""
    if value is None:
        return np.eye(count)
    values = np.asarray(value, np.float64)
    if values.ndim == 2:
        return values
    matrix = np.eye(count)
    matrix[np.triu_indices(count, 1)] = values
    return matrix

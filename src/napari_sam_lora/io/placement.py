"""Where the voxels of a volume lie: from a file to napari's axes (z, y, x), and back to the file without a loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_sam_lora.errors import InputError

METADATA = "napari-sam-lora"
_RAS_TO_WORLD = np.array([[0.0, 0, 1, 0], [0, -1, 0, 0], [-1, 0, 0, 0], [0, 0, 0, 1]])
# Angles below this, of an axis to the scanner's, are rounding errors of the file.
_STRAIGHT = 1e-5


@dataclass(frozen=True)
class Placement:
    """Where the voxels of a medical volume lie.

    In napari its axes are z, y, x and grow towards the patient's head, back and left, so that an axial plane is seen
    as radiologists see it. The file may store them in any order and direction.

    Attributes
    ----------
    affine : tuple of tuple of float
        (4, 4), from voxels (i, j, k) of the file to NIfTI's right, anterior, superior (RAS).
    shape : tuple of int
        (i, j, k) of the file.
    order : tuple of int
        The file's axis that is shown as z, as y and as x.
    flipped : tuple of bool
        Which of those run against the file.
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
        """For an affine (4, 4) to RAS and the shape (i, j, k) of a file.

        Raises
        ------
        InputError
            If the affine is not invertible.
        """
        matrix = np.asarray(affine, np.float64)
        if matrix.shape != (4, 4) or not np.isfinite(matrix).all() or abs(np.linalg.det(matrix[:3, :3])) < 1e-30:
            raise InputError("The affine of this volume is not invertible; it does not say where the voxels lie.")
        axes, signs = _nearest_axes(matrix[:3, :3])
        order = tuple(axes.index(axis) for axis in (2, 1, 0))
        # Superior, posterior and left are shown upwards; RAS is right, anterior, superior.
        flipped = tuple(signs[i] != wanted for i, wanted in zip(order, (1, -1, -1), strict=True))
        return cls(
            tuple(tuple(map(float, row)) for row in matrix),
            tuple(int(side) for side in shape),  # type: ignore[arg-type]
            order,  # type: ignore[arg-type]
            flipped,  # type: ignore[arg-type]
            unit,
            header,
        )

    def show(self, stored: NDArray[Any]) -> NDArray[Any]:
        """A view (..., z, y, x) of an array (i, j, k, ...) of the file; axes after k stand before z, reversed."""
        spatial = [stored.shape[axis] for axis in range(3)]
        if tuple(spatial) != self.shape:
            raise InputError(f"The array is {tuple(spatial)}, the placement is that of {self.shape}.")
        view = stored.transpose(*range(stored.ndim - 1, 2, -1), *self.order)
        return self._flip(view)

    def store(self, shown: NDArray[Any]) -> NDArray[Any]:
        """The inverse of `show`: a view (i, j, k, ...)."""
        view = self._flip(shown)
        first = shown.ndim - 3
        axes = [first + self.order.index(axis) for axis in range(3)]
        return view.transpose(*axes, *range(first - 1, -1, -1))

    def _flip(self, view: NDArray[Any]) -> NDArray[Any]:
        z, y, x = (slice(None, None, -1 if flip else 1) for flip in self.flipped)
        return view[..., z, y, x]

    @property
    def shown_shape(self) -> tuple[int, int, int]:
        """(z, y, x)."""
        return tuple(self.shape[axis] for axis in self.order)  # type: ignore[return-value]

    @property
    def shown_affine(self) -> NDArray[np.float64]:
        """(4, 4) from voxels (z, y, x) to napari's world."""
        return _RAS_TO_WORLD @ np.asarray(self.affine) @ self._to_file()

    def transform(self) -> dict[str, Any]:
        """napari's ``scale`` with ``translate``, or with ``affine`` if the volume is oblique; for (z, y, x)."""
        affine = self.shown_affine
        scale = np.linalg.norm(affine[:3, :3], axis=0)
        skew = affine[:3, :3] / scale - np.eye(3)
        if np.abs(skew).max() < _STRAIGHT:
            return {"scale": scale, "translate": affine[:3, 3]}
        return {"scale": scale, "affine": affine @ np.diag([*(1 / scale), 1])}

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for a layer's metadata."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Placement:
        """Inverse of `as_dict`."""
        return cls.of(values["affine"], values["shape"], values["unit"], values["header"])

    def _to_file(self) -> NDArray[np.float64]:
        """(4, 4) from voxels (z, y, x) to voxels (i, j, k) of the file."""
        matrix = np.zeros((4, 4))
        matrix[3, 3] = 1
        for shown, (axis, flip) in enumerate(zip(self.order, self.flipped, strict=True)):
            matrix[axis, shown] = -1 if flip else 1
            matrix[axis, 3] = self.shape[axis] - 1 if flip else 0
        return matrix


def placement_of(attributes: Mapping[str, Any]) -> Placement | None:
    """The placement that a reader put into the metadata of a layer, if the layer has not been moved since."""
    mark = attributes.get("metadata", {}).get(METADATA)
    kept = mark.get("placement") if isinstance(mark, Mapping) else None
    if not isinstance(kept, Mapping):
        return None
    placement = Placement.from_dict(kept)
    matrix = layer_affine(attributes, 3)
    wanted = placement.shown_affine
    return placement if np.allclose(matrix, wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted[:3, :3]).max()) else None


def layer_affine(attributes: Mapping[str, Any], ndim: int) -> NDArray[np.float64]:
    """The whole transform of a layer from its ``scale``, ``translate``, ``rotate``, ``shear`` and ``affine``.

    Parameters
    ----------
    attributes : mapping
        Those of napari's layer data tuples; what is missing is the identity.
    ndim : int
        Number of last axes wanted.

    Returns
    -------
    float64 (ndim + 1, ndim + 1)
    """
    scale = np.atleast_1d(np.asarray(attributes.get("scale", np.ones(ndim)), np.float64))
    count = len(scale)
    rotate = np.asarray(attributes.get("rotate", np.eye(count)), np.float64)
    placed = np.eye(count + 1)
    placed[:count, :count] = rotate.reshape(count, count) @ _shear(attributes.get("shear"), count) @ np.diag(scale)
    placed[:count, count] = attributes.get("translate", np.zeros(count))
    outer = np.asarray(getattr(attributes.get("affine"), "affine_matrix", attributes.get("affine", np.eye(count + 1))))
    if outer.shape != placed.shape:
        grown = np.eye(count + 1)
        grown[count + 1 - len(outer) :, count + 1 - len(outer) :] = outer
        outer = grown
    whole = outer @ placed
    if count < ndim:
        grown = np.eye(ndim + 1)
        grown[ndim - count :, ndim - count :] = whole
        return grown
    return np.asarray(whole[count - ndim :, count - ndim :], np.float64)


def world_to_ras(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """An affine (4, 4) from voxels (z, y, x) to napari's world, as one from (x, y, z) to RAS."""
    swap = np.eye(4)[[2, 1, 0, 3]]
    return np.asarray(np.linalg.inv(_RAS_TO_WORLD) @ affine @ swap, np.float64)


def _nearest_axes(linear: NDArray[np.float64]) -> tuple[list[int], list[int]]:
    """For each voxel axis the world axis nearest to it, each once, and its direction."""
    from nibabel.orientations import io_orientation  # noqa: PLC0415  an optional dependency

    matrix = np.eye(4)
    matrix[:3, :3] = linear
    found = io_orientation(matrix)
    return [int(axis) for axis in found[:, 0]], [int(sign) for sign in found[:, 1]]


def _shear(value: Any, count: int) -> NDArray[np.float64]:
    if value is None:
        return np.eye(count)
    given = np.asarray(value, np.float64)
    if given.ndim == 2:
        return given
    matrix = np.eye(count)
    matrix[np.triu_indices(count, 1)] = given
    return matrix

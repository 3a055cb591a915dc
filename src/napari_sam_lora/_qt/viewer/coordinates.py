"""Where a plane of a layer is: between what the viewer shows, the data of layers, and planes of the session."""

from __future__ import annotations

from typing import Any

import numpy as np
import pint
from napari.utils.transforms import Affine
from numpy.typing import ArrayLike, NDArray

from napari_sam_lora.session import PlaneKey

Points = NDArray[np.float64]


def data_shape(layer: Any) -> tuple[int, ...]:
    """Shape of the data of an Image or Labels layer at full resolution, without colours."""
    data = layer.data[0] if layer.multiscale else layer.data
    shape = data.shape[:-1] if getattr(layer, "rgb", False) else data.shape
    return tuple(int(side) for side in shape)


def data_to_world(layer: Any) -> tuple[Points, Points]:
    """Matrix (n, n) and offset (n,) from the data of a layer to the world, in units of the layer."""
    offset = np.asarray(layer.data_to_world(np.zeros(layer.ndim)), np.float64)
    columns = [np.asarray(layer.data_to_world(axis), np.float64) - offset for axis in np.eye(layer.ndim)]
    return np.stack(columns, axis=1), offset


def current_plane(viewer: Any, layer: Any, image: str) -> PlaneKey | None:
    """The plane of a layer that the viewer shows.

    Follows ``dims.order``, the transform and the units, as napari's own slicing does.

    Parameters
    ----------
    image : str
        The id to put into the key.

    Returns
    -------
    PlaneKey or None
        None in the 3-D view, where the layer has fewer than two of the displayed axes, and where the viewer shows a
        position outside of the layer.
    """
    dims = viewer.dims
    axes = [axis - (dims.ndim - layer.ndim) for axis in dims.displayed]
    if dims.ndisplay != 2 or dims.ndim < layer.ndim or min(axes) < 0:
        return None
    others = [axis for axis in range(layer.ndim) if axis not in axes]
    matrix, offset = data_to_world(layer)
    inverse = np.linalg.inv(matrix)
    point = np.asarray(dims.point, np.float64)[-layer.ndim :] * unit_factors(viewer, layer)
    place = inverse[np.ix_(others, others)] @ point[others] - (inverse @ offset)[others]
    key = PlaneKey(image, (axes[0], axes[1]), tuple(round(value) for value in place))
    return key if key.is_in(data_shape(layer)) else None


def world_to_data(viewer: Any, layer: Any, position: ArrayLike) -> Points:
    """Data coordinates (n,) of a position in the viewer, such as of a mouse event; heeds the units of the layer."""
    given = np.asarray(position, np.float64)
    padded = np.concatenate([np.zeros(max(0, layer.ndim - len(given))), given])[-layer.ndim :]
    matrix, offset = data_to_world(layer)
    return np.asarray(np.linalg.solve(matrix, padded * unit_factors(viewer, layer) - offset), np.float64)


def unit_factors(viewer: Any, layer: Any) -> Points:
    """How many units of the layer one unit of the viewer is, along each axis of the layer."""
    world = getattr(viewer.dims, "units", None)
    if world is None or len(world) < layer.ndim:
        return np.ones(layer.ndim)
    return _factors(world[-layer.ndim :], layer.units)


def between_layers(points: ArrayLike, source: Any, target: Any, plane: PlaneKey) -> Points:
    """Data coordinates (k, n) of one layer as data coordinates (k, m) of another; axes are matched from the last.

    Axes that the source does not have get the position of the plane.
    """
    matrix, offset = data_to_world(source)
    world = np.asarray(points, np.float64).reshape(-1, source.ndim) @ matrix.T + offset
    shared = min(source.ndim, target.ndim)
    world = world[:, -shared:] * _factors(source.units[-shared:], target.units[-shared:])
    matrix, offset = data_to_world(target)
    whole = np.broadcast_to(matrix @ plane_to_data(np.zeros((1, 2)), plane)[0] + offset, (len(world), target.ndim))
    placed = np.concatenate([whole[:, : target.ndim - shared], world], axis=1) - offset
    found = np.asarray(np.linalg.solve(matrix, placed.T).T, np.float64)
    if shared < target.ndim:
        missing = [axis for axis in plane.other_axes if axis < target.ndim - shared]
        found[:, missing] = plane_to_data(np.zeros((1, 2)), plane)[0, missing]
    return found


def is_in_plane(points: ArrayLike, plane: PlaneKey) -> NDArray[np.bool_]:
    """Which of the data coordinates (k, n) lie in a plane."""
    others = np.asarray(points, np.float64).reshape(-1, plane.ndim)[:, list(plane.other_axes)]
    found: NDArray[np.bool_] = (np.round(others) == np.asarray(plane.index, np.float64)).all(axis=1)
    return found


def data_to_plane(points: ArrayLike, plane: PlaneKey) -> Points:
    """Pixel coordinates (k, 2) as (y, x) in a plane, of data coordinates (k, n)."""
    return np.asarray(points, np.float64).reshape(-1, plane.ndim)[:, list(plane.axes)]


def plane_to_data(points: ArrayLike, plane: PlaneKey) -> Points:
    """Data coordinates (k, n), of pixel coordinates (k, 2) as (y, x) in a plane."""
    given = np.asarray(points, np.float64).reshape(-1, 2)
    placed = np.zeros((len(given), plane.ndim))
    placed[:, list(plane.axes)] = given
    placed[:, list(plane.other_axes)] = plane.index
    return placed


def transform_of(layer: Any) -> dict[str, Any]:
    """What a new layer of the same data shape needs to lie where this one does."""
    names = ("scale", "translate", "rotate", "shear", "affine", "units", "axis_labels")
    return {name: getattr(layer, name) for name in names}


def plane_transform(layer: Any, plane: PlaneKey) -> dict[str, Any]:
    """The transform of a new layer of one plane, with one pixel along the other axes; see `thin_shape`.

    Only the translation differs: it moves by what the position along the other axes amounts to.
    """
    transform = transform_of(layer)
    linear = Affine(scale=layer.scale, rotate=layer.rotate, shear=layer.shear, ndim=layer.ndim).linear_matrix
    step = plane_to_data(np.zeros((1, 2)), plane)[0]
    return transform | {"translate": np.asarray(layer.translate) + linear @ step}


def thin_shape(plane: PlaneKey, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of an array of all axes that holds one plane only."""
    return tuple(side if axis in plane.axes else 1 for axis, side in enumerate(shape))


def to_thin(pixels: NDArray[Any], plane: PlaneKey) -> NDArray[Any]:
    """A plane (y, x) as an array of all axes, one pixel along those that are not displayed."""
    ordered = pixels.T if plane.is_transposed else pixels
    return np.expand_dims(ordered, plane.other_axes)


def from_thin(data: NDArray[Any], plane: PlaneKey) -> NDArray[Any]:
    """The plane (y, x) of what `to_thin` gives."""
    ordered = data.squeeze(plane.other_axes)
    return ordered.T if plane.is_transposed else ordered


def _factors(given: Any, wanted: Any) -> Points:
    registry = pint.get_application_registry()
    sizes = [registry.get_base_units(a)[0] / registry.get_base_units(b)[0] for a, b in zip(given, wanted, strict=True)]
    return np.array(sizes, np.float64)

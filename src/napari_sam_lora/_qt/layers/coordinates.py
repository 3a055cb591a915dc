"""Convert between coordinates of the viewer (world), of a layer's data, and of a plane of the session."""

from __future__ import annotations

from typing import Any

import numpy as np
import pint
from napari.utils.transforms import Affine
from numpy.typing import ArrayLike, NDArray

from napari_sam_lora.session import PlaneKey

Points = NDArray[np.float64]


def data_shape(layer: Any) -> tuple[int, ...]:
    """Return the shape of an Image or Labels layer at full resolution, without the channel axis of colours."""
    data = layer.data[0] if layer.multiscale else layer.data
    shape = data.shape[:-1] if getattr(layer, "rgb", False) else data.shape
    return tuple(int(side) for side in shape)


def data_to_world(layer: Any) -> tuple[Points, Points]:
    """Return the matrix (n, n) and the offset (n,) from data to world coordinates, in units of the layer."""
    offset = np.asarray(layer.data_to_world(np.zeros(layer.ndim)), np.float64)
    columns = [np.asarray(layer.data_to_world(axis), np.float64) - offset for axis in np.eye(layer.ndim)]
    return np.stack(columns, axis=1), offset


def current_plane(viewer: Any, layer: Any, image: str) -> PlaneKey | None:
    """Return the plane of a layer that the viewer shows.

    Follows ``dims.order``, the transform and the units, as napari's own slicing does.

    Parameters
    ----------
    viewer : napari.Viewer
    layer : napari layer
    image : str
        Id of the image, for the key.

    Returns
    -------
    PlaneKey or None
        None in the 3-D view, if the layer has fewer than two of the displayed axes, and if the viewer shows a
        position outside of the layer.
    """
    axes = _displayed_axes(viewer, layer)
    if axes is None:
        return None
    key = PlaneKey(image, axes, tuple(round(value) for value in _shown_position(viewer, layer, axes)))
    return key if key.is_in(data_shape(layer)) else None


def world_to_data(viewer: Any, layer: Any, position: ArrayLike) -> Points:
    """Convert a position in the viewer, such as of a mouse event, to data coordinates (n,), with the layer's units."""
    world = np.asarray(position, np.float64)
    padded = np.concatenate([np.zeros(max(0, layer.ndim - len(world))), world])[-layer.ndim :]
    matrix, offset = data_to_world(layer)
    return np.asarray(np.linalg.solve(matrix, padded * unit_factors(viewer, layer) - offset), np.float64)


def unit_factors(viewer: Any, layer: Any) -> Points:
    """Return the size (n,) of the viewer's unit in units of the layer, along each axis of the layer."""
    world = getattr(viewer.dims, "units", None)
    if world is None or len(world) < layer.ndim:
        return np.ones(layer.ndim)
    return _unit_ratios(world[-layer.ndim :], layer.units)


def between_layers(points: ArrayLike, source: Any, target: Any, plane: PlaneKey) -> Points:
    """Convert data coordinates (k, n) of one layer to data coordinates (k, m) of another.

    Axes are matched from the last. Axes that the source does not have get the position of the plane.
    """
    matrix, offset = data_to_world(source)
    world = np.asarray(points, np.float64).reshape(-1, source.ndim) @ matrix.T + offset
    shared = min(source.ndim, target.ndim)
    world = world[:, -shared:] * _unit_ratios(source.units[-shared:], target.units[-shared:])
    matrix, offset = data_to_world(target)
    start = plane_to_data(np.zeros((1, 2)), plane)[0]
    plane_world = np.broadcast_to(matrix @ start + offset, (len(world), target.ndim))
    target_world = np.concatenate([plane_world[:, : target.ndim - shared], world], axis=1)
    converted = np.asarray(np.linalg.solve(matrix, (target_world - offset).T).T, np.float64)
    if shared < target.ndim:
        missing = [axis for axis in plane.other_axes if axis < target.ndim - shared]
        converted[:, missing] = start[missing]
    return converted


def is_in_plane(points: ArrayLike, plane: PlaneKey) -> NDArray[np.bool_]:
    """Return for each of the data coordinates (k, n) whether it lies in a plane."""
    others = np.asarray(points, np.float64).reshape(-1, plane.ndim)[:, list(plane.other_axes)]
    inside: NDArray[np.bool_] = (np.round(others) == np.asarray(plane.index, np.float64)).all(axis=1)
    return inside


def data_to_plane(points: ArrayLike, plane: PlaneKey) -> Points:
    """Convert data coordinates (k, n) to pixel coordinates (k, 2) as (y, x) in a plane."""
    return np.asarray(points, np.float64).reshape(-1, plane.ndim)[:, list(plane.axes)]


def plane_to_data(points: ArrayLike, plane: PlaneKey) -> Points:
    """Convert pixel coordinates (k, 2) as (y, x) in a plane to data coordinates (k, n)."""
    pixels = np.asarray(points, np.float64).reshape(-1, 2)
    data = np.zeros((len(pixels), plane.ndim))
    data[:, list(plane.axes)] = pixels
    data[:, list(plane.other_axes)] = plane.index
    return data


def transform_of(layer: Any) -> dict[str, Any]:
    """Return the keyword arguments that place a new layer of the same data shape where this one is."""
    names = ("scale", "translate", "rotate", "shear", "affine", "units", "axis_labels")
    return {name: getattr(layer, name) for name in names}


def snapped_transform(viewer: Any, layer: Any) -> dict[str, Any]:
    """Return the keyword arguments that place a new layer so that its nearest plane is where the viewer is.

    They are those of `transform_of`, with a translation by less than a pixel, and only along the axes that are not
    displayed. Between planes, as where a volume on another grid is shown too, napari draws neither points nor shapes
    of the nearest one, and fails while a box is dragged.
    """
    transform, axes = transform_of(layer), _displayed_axes(viewer, layer)
    if axes is None or layer.ndim == len(axes):
        return transform
    position = _shown_position(viewer, layer, axes)
    step = np.zeros(layer.ndim)
    step[[axis for axis in range(layer.ndim) if axis not in axes]] = position - np.round(position)
    return transform | {"translate": np.asarray(layer.translate) + _linear_matrix(layer) @ step}


def plane_transform(layer: Any, plane: PlaneKey, corner: tuple[int, int] = (0, 0)) -> dict[str, Any]:
    """Return the keyword arguments that place a new layer of one plane (see `thin_shape`) where that plane is.

    They are those of `transform_of`, with the position of the plane, or of a part of it whose first pixel is
    ``corner`` (y, x), added to the translation.
    """
    step = plane_to_data(np.array([corner]), plane)[0]
    return transform_of(layer) | {"translate": np.asarray(layer.translate) + _linear_matrix(layer) @ step}


def thin_shape(plane: PlaneKey, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of a thin array: all axes, with one pixel along those that are not displayed."""
    return tuple(side if axis in plane.axes else 1 for axis, side in enumerate(shape))


def to_thin(pixels: NDArray[Any], plane: PlaneKey) -> NDArray[Any]:
    """Turn a plane (y, x) into a thin array: all axes, with one pixel along those that are not displayed."""
    ordered = pixels.T if plane.is_transposed else pixels
    return np.expand_dims(ordered, plane.other_axes)


def from_thin(data: NDArray[Any], plane: PlaneKey) -> NDArray[Any]:
    """Return the plane (y, x) of a thin array, as the inverse of `to_thin`."""
    ordered = data.squeeze(plane.other_axes)
    return ordered.T if plane.is_transposed else ordered


def _displayed_axes(viewer: Any, layer: Any) -> tuple[int, int] | None:
    """Return the axes of a layer that are displayed; None unless they are two."""
    dims = viewer.dims
    axes = [axis - (dims.ndim - layer.ndim) for axis in dims.displayed]
    if dims.ndisplay != 2 or dims.ndim < layer.ndim or min(axes) < 0:
        return None
    return axes[0], axes[1]


def _shown_position(viewer: Any, layer: Any, axes: tuple[int, int]) -> Points:
    """Return the data coordinates that the viewer shows along the axes that are not displayed."""
    others = [axis for axis in range(layer.ndim) if axis not in axes]
    matrix, offset = data_to_world(layer)
    inverse = np.linalg.inv(matrix)
    point = np.asarray(viewer.dims.point, np.float64)[-layer.ndim :] * unit_factors(viewer, layer)
    position: Points = inverse[np.ix_(others, others)] @ point[others] - (inverse @ offset)[others]
    return position


def _linear_matrix(layer: Any) -> Points:
    """Return the matrix (n, n) of scale, rotation and shear of a layer."""
    affine = Affine(scale=layer.scale, rotate=layer.rotate, shear=layer.shear, ndim=layer.ndim)
    return np.asarray(affine.linear_matrix, np.float64)


def _unit_ratios(units: Any, others: Any) -> Points:
    registry = pint.get_application_registry()
    ratios = [registry.get_base_units(a)[0] / registry.get_base_units(b)[0] for a, b in zip(units, others, strict=True)]
    return np.array(ratios, np.float64)

"""Convert what is drawn on Points and Shapes layers to prompts of a plane, and back."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import napari.layers
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from napari_sam_lora._qt.viewer.coordinates import Points, between_layers, data_to_plane, is_in_plane, plane_to_data
from napari_sam_lora._qt.viewer.napari_stores import is_managed
from napari_sam_lora.session import Draft, PlaneKey, PromptItem
from napari_sam_lora.session.prompting.draft import PromptKind

POLARITY, OBJECT = "polarity", "object"
POLARITY_NAMES = {True: "positive", False: "negative"}
COLOURS = {True: "#2ecc40", False: "#ff4136"}


@dataclass(frozen=True, eq=False)
class DrawnPrompt:
    """One prompt drawn on a layer.

    Attributes
    ----------
    kind : str
    data : array
        As `Draft.add` takes it, in pixels of the plane.
    positive : bool
    obj : int
        Number of the object it belongs to.
    """

    kind: PromptKind
    data: NDArray[Any]
    positive: bool
    obj: int


@dataclass(frozen=True, eq=False)
class Shape:
    """Vertices in data coordinates and napari's name of the shape type, as a Shapes layer takes them."""

    vertices: Points
    type: str


def read_points(layer: Any, plane: PlaneKey, image_layer: Any, skip: Container[bytes] = ()) -> list[DrawnPrompt]:
    """Read the points of a layer in a plane of an image; the layer may have another transform or fewer axes.

    Parameters
    ----------
    skip : container of bytes
        Keys of points to leave out; see `key_of`.
    """
    points = _to_image(layer, np.asarray(layer.data), plane, image_layer)
    inside = is_in_plane(points, plane)
    in_pixels = data_to_plane(points, plane)
    return [
        DrawnPrompt("point", in_pixels[i], positive_of(layer, i), object_of(layer, i))
        for i in np.flatnonzero(inside).tolist()
        if key_of(layer.data[i]) not in skip
    ]


def read_shapes(layer: Any, plane: PlaneKey, image_layer: Any, skip: Container[bytes] = ()) -> list[DrawnPrompt]:
    """Read the shapes of a layer in a plane of an image.

    Rectangles become boxes, other areas lassos, paths and lines scribbles. ``skip`` is as in `read_points`.
    """
    prompts = []
    for number, (vertices, shape_type) in enumerate(zip(layer.data, layer.shape_type, strict=True)):
        path = _to_image(layer, vertices, plane, image_layer)
        if is_in_plane(path, plane).all() and key_of(vertices) not in skip:
            prompt = _as_prompt(str(shape_type), data_to_plane(path, plane), positive_of(layer, number))
            prompts.append(replace(prompt, obj=object_of(layer, number)))
    return prompts


def keys_in_plane(layer: Any, plane: PlaneKey, image_layer: Any) -> set[bytes]:
    """Return the keys of the points or shapes of a layer that lie in a plane of an image; see `key_of`."""
    return {key_of(one) for one in layer.data if is_in_plane(_to_image(layer, one, plane, image_layer), plane).all()}


def in_plane(layer: Any, plane: PlaneKey) -> list[int]:
    """Return the indices of the points or shapes of a prompt layer that lie in a plane."""
    return [number for number, vertices in enumerate(layer.data) if is_in_plane(vertices, plane).all()]


def key_of(vertices: Any) -> bytes:
    """Return a key for a point or shape: the bytes of its coordinates."""
    return np.asarray(vertices, np.float64).tobytes()


def is_same(first: Sequence[DrawnPrompt], second: Sequence[DrawnPrompt]) -> bool:
    """Return whether two lists of prompts are equal."""
    return len(first) == len(second) and all(
        (a.kind, a.positive, a.obj) == (b.kind, b.positive, b.obj) and np.array_equal(a.data, b.data)
        for a, b in zip(first, second, strict=True)
    )


def positive_of(layer: Any, number: int) -> bool:
    """Return whether a point or shape is positive; all are on a layer without a feature for polarity."""
    if POLARITY not in layer.features:
        return True
    value = layer.features[POLARITY].iloc[number]
    return not (value == POLARITY_NAMES[False] or value is False or (isinstance(value, (int, float)) and value <= 0))


def object_of(layer: Any, number: int) -> int:
    """Return the number of the object that a point or shape belongs to."""
    value = layer.features[OBJECT].iloc[number] if OBJECT in layer.features else 0
    return int(value) if pd.notna(value) else 0


def features_of(positive: Sequence[bool], objects: Sequence[int]) -> pd.DataFrame:
    """Make the table of features of a prompt layer."""
    polarity = pd.Series([POLARITY_NAMES[one] for one in positive], dtype=object)
    return pd.DataFrame({POLARITY: polarity, OBJECT: pd.Series(list(objects), dtype=np.int64)})


def as_point(item: PromptItem, plane: PlaneKey) -> Points:
    """Return the data coordinates (n,) of a point."""
    point: Points = plane_to_data(item.coordinates, plane)[0]
    return point


def as_shape(item: PromptItem, plane: PlaneKey) -> Shape:
    """Convert a box, lasso or scribble to a shape of a Shapes layer."""
    if item.kind == "box":
        (top, left), (bottom, right) = item.coordinates - 0.5
        corners = np.array([[top, left], [top, right], [bottom, right], [bottom, left]])
        return Shape(plane_to_data(corners, plane), "rectangle")
    path = item.coordinates
    if len(path) == 1:  # napari draws no path with a single vertex
        path = np.concatenate([path, path + np.array([0, 0.5])])
    return Shape(plane_to_data(path, plane), "polygon" if item.kind == "lasso" else "path")


def items_of(draft: Draft, kinds: Iterable[str]) -> list[tuple[int, PromptItem]]:
    """Return (object number, item) for the prompts of some kinds."""
    wanted = set(kinds)
    return [(obj, item) for obj, row in draft.rows().items() for item in row if item.kind in wanted]


def remove(layer: Any, numbers: list[int]) -> None:
    """Remove points or shapes from a prompt layer."""
    if numbers:
        layer.selected_data = set(numbers)
        layer.remove_selected()


def set_last(layer: Any, positive: bool, obj: int) -> None:
    """Set the features of the last point or shape of a prompt layer."""
    features = layer.features.copy()
    features.loc[len(features) - 1, [POLARITY, OBJECT]] = [POLARITY_NAMES[positive], obj]
    layer.features = features


def colour(layer: Any) -> None:
    """Colour each point or shape of a prompt layer by its polarity."""
    if not len(layer.data):
        return
    wanted = [COLOURS[positive_of(layer, number)] for number in range(len(layer.data))]
    if isinstance(layer, napari.layers.Points):
        layer.face_color = wanted
    else:
        layer.edge_color = wanted


def _to_image(layer: Any, vertices: NDArray[Any], plane: PlaneKey, image_layer: Any) -> Points:
    """Convert data coordinates of a layer to those of the image."""
    if is_managed(layer):  # has the transform of the image
        return np.asarray(vertices, np.float64).reshape(-1, layer.ndim)
    return between_layers(vertices, layer, image_layer, plane)


def _as_prompt(shape_type: str, path: Points, positive: bool) -> DrawnPrompt:
    """Convert a shape, with vertices in pixels of the plane, to a prompt of object 0."""
    if shape_type in ("path", "line"):
        return DrawnPrompt("scribble", path, positive, 0)
    if shape_type == "rectangle" and positive:
        # Pixels reach half a unit around their centre, and a box is half-open.
        return DrawnPrompt("box", np.concatenate([path.min(0), path.max(0)]) + 0.5, True, 0)
    if shape_type == "ellipse":
        centre, angles = path.mean(0), np.linspace(0, 2 * np.pi, 32, endpoint=False)[:, None]
        across, down = (path[1] + path[2] - path[0] - path[3]) / 4, (path[2] + path[3] - path[0] - path[1]) / 4
        path = centre + np.cos(angles) * across + np.sin(angles) * down
    return DrawnPrompt("lasso", path, positive, 0)

"""Convert what is drawn on Points and Shapes layers to prompts of a plane, and back."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import napari.layers
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from napari_sam_lora._qt.layers.coordinates import (
    Points,
    between_layers,
    data_shape,
    data_to_plane,
    is_in_plane,
    plane_to_data,
)
from napari_sam_lora._qt.layers.napari_stores import is_managed
from napari_sam_lora.errors import InputError
from napari_sam_lora.regions import Region
from napari_sam_lora.session import Draft, PlaneKey, PromptItem
from napari_sam_lora.session.prompting.draft import PromptKind, make_item

POLARITY, OBJECT = "polarity", "object"
POLARITY_NAMES = {True: "positive", False: "negative"}
# From a vertex to the next one of a scribble of a single vertex, which napari cannot draw.
_DOT = np.array([0, 0.5])
COLOURS = {True: "#2ecc40", False: "#ff4136"}


class DrawnPrompts:
    """Prompts drawn on layers in one plane of an image, each with the number of its object.

    Parameters
    ----------
    plane : PlaneKey
    image_layer : napari.layers.Image

    Attributes
    ----------
    items : list of (int, PromptItem)
        Number of the object and prompt, without an id: the draft keeps that of the prompt it was before.
    problem : str
        Why a drawn prompt cannot be used; empty if all can.
    """

    def __init__(self, plane: PlaneKey, image_layer: Any) -> None:
        self.plane, self._image_layer = plane, image_layer
        self._shape = plane.shape(data_shape(image_layer))
        self.items: list[tuple[int, PromptItem]] = []
        self.problem = ""

    def add(self, kind: PromptKind, data: ArrayLike | Region, positive: bool, obj: int) -> None:
        """Add a prompt in pixels of the plane, as `Draft.add` takes it, or note why it cannot be used."""
        try:
            self.items.append((obj, make_item(0, kind, data, positive, self._shape)))
        except InputError as error:
            self.problem = str(error)

    def read_points(self, layer: Any, skip: Container[bytes] = ()) -> None:
        """Add the points of a layer in the plane; the layer may have another transform or fewer axes.

        Parameters
        ----------
        skip : container of bytes
            Keys of points to leave out; see `key_of`.
        """
        points = _to_image(layer, np.asarray(layer.data), self.plane, self._image_layer)
        in_pixels = data_to_plane(points, self.plane)
        positive, objects = polarities_of(layer), objects_of(layer)
        for number in np.flatnonzero(is_in_plane(points, self.plane)).tolist():
            if key_of(layer.data[number]) not in skip:
                self.add("point", in_pixels[number], positive[number], objects[number])

    def read_shapes(self, layer: Any, skip: Container[bytes] = ()) -> None:
        """Add the shapes of a layer in the plane.

        Rectangles become boxes, other areas lassos, paths and lines scribbles. ``skip`` is as in `read_points`.
        """
        features = zip(polarities_of(layer), objects_of(layer), strict=True)
        for vertices, shape_type, (positive, obj) in zip(layer.data, layer.shape_type, features, strict=True):
            path = _to_image(layer, vertices, self.plane, self._image_layer)
            if is_in_plane(path, self.plane).all() and key_of(vertices) not in skip:
                kind, data = _from_shape(str(shape_type), data_to_plane(path, self.plane), positive)
                self.add(kind, data, positive, obj)


@dataclass(frozen=True, eq=False)
class Shape:
    """Vertices in data coordinates and napari's name of the shape type, as a Shapes layer takes them."""

    vertices: Points
    type: str


def keys_in_plane(layer: Any, plane: PlaneKey, image_layer: Any) -> set[bytes]:
    """Return the keys of the points or shapes of a layer that lie in a plane of an image; see `key_of`."""
    return {key_of(one) for one in layer.data if is_in_plane(_to_image(layer, one, plane, image_layer), plane).all()}


def in_plane(layer: Any, plane: PlaneKey) -> list[int]:
    """Return the indices of the points or shapes of a prompt layer that lie in a plane."""
    return [number for number, vertices in enumerate(layer.data) if is_in_plane(vertices, plane).all()]


def key_of(vertices: Any) -> bytes:
    """Return a key for a point or shape: the bytes of its coordinates."""
    return np.asarray(vertices, np.float64).tobytes()


def polarities_of(layer: Any) -> list[bool]:
    """Return for each point or shape whether it is positive; all are on a layer without a feature for polarity."""
    if POLARITY not in layer.features:
        return [True] * len(layer.data)
    values = layer.features[POLARITY].tolist()
    return [
        not (value == POLARITY_NAMES[False] or value is False or (isinstance(value, (int, float)) and value <= 0))
        for value in values[: len(layer.data)]
    ]


def objects_of(layer: Any) -> list[int]:
    """Return for each point or shape the number of the object that it belongs to."""
    if OBJECT not in layer.features:
        return [0] * len(layer.data)
    return [int(value) if pd.notna(value) else 0 for value in layer.features[OBJECT].tolist()[: len(layer.data)]]


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
    if len(path) == 1:
        path = np.concatenate([path, path + _DOT])
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
    wanted = [COLOURS[positive] for positive in polarities_of(layer)]
    if isinstance(layer, napari.layers.Points):
        layer.face_color = wanted
    else:
        layer.edge_color = wanted


def _to_image(layer: Any, vertices: NDArray[Any], plane: PlaneKey, image_layer: Any) -> Points:
    """Convert data coordinates of a layer to those of the image."""
    if is_managed(layer):  # has the transform of the image
        return np.asarray(vertices, np.float64).reshape(-1, layer.ndim)
    return between_layers(vertices, layer, image_layer, plane)


def _from_shape(shape_type: str, path: Points, positive: bool) -> tuple[PromptKind, Points]:
    """Convert a shape, with vertices in pixels of the plane, to the kind and data of a prompt."""
    if shape_type in ("path", "line"):
        is_dot = len(path) == 2 and np.allclose(path[1] - path[0], _DOT, atol=1e-3)
        return "scribble", path[:1] if is_dot else path
    if shape_type == "rectangle" and positive:
        # Pixels reach half a unit around their centre, and a box is half-open.
        return "box", np.concatenate([path.min(0), path.max(0)]) + 0.5
    if shape_type == "ellipse":
        centre, angles = path.mean(0), np.linspace(0, 2 * np.pi, 32, endpoint=False)[:, None]
        across, down = (path[1] + path[2] - path[0] - path[3]) / 4, (path[2] + path[3] - path[0] - path[1]) / 4
        path = centre + np.cos(angles) * across + np.sin(angles) * down
    return "lasso", path

"""From class maps to the class of each object, and of each pixel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam_lora.labels import areas_in


def classify_objects(
    labels: NDArray[np.integer[Any]], class_maps: NDArray[np.floating[Any]], classes: Sequence[int]
) -> dict[int, int]:
    """Give each object the class with the largest sum of probabilities over its pixels.

    Parameters
    ----------
    labels : int (y, x)
        0 is background.
    class_maps : float (n, y, x)
        Probability of each class.
    classes : sequence of int
        Ids of these classes.

    Returns
    -------
    dict of int to int
        Id of the class by id of the object, in the order of the objects' ids.
    """
    ids = list(areas_in(labels))
    if not ids:
        return {}
    inside = labels != 0
    at = np.searchsorted(ids, labels[inside])
    sums = np.stack([np.bincount(at, one[inside], len(ids)) for one in class_maps])
    return {label: int(classes[best]) for label, best in zip(ids, sums.argmax(0).tolist(), strict=True)}


def semantic_labels(
    foreground: NDArray[np.bool_], class_maps: NDArray[np.floating[Any]], classes: Sequence[int]
) -> NDArray[np.int32]:
    """Return the most probable class of each pixel of the foreground; 0 is background.

    Parameters
    ----------
    foreground : bool (y, x)
    class_maps : float (n, y, x)
        Probability of each class.
    classes : sequence of int
        Ids of these classes.

    Returns
    -------
    int32 (y, x)
    """
    return np.where(foreground, np.asarray(classes, np.int32)[class_maps.argmax(0)], np.int32(0))

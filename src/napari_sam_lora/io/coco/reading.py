"""Read COCO annotations: polygons and run-length encoded masks."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.draw import polygon

from napari_sam_lora.errors import InputError
from napari_sam_lora.io.coco.run_lengths import decode_runs, decompress_runs


@dataclass(frozen=True)
class CocoImage:
    """An image of a COCO file and its annotations.

    Attributes
    ----------
    file_name : str
    annotations : tuple of dict
        Those of single objects; regions marked as crowds are left out.
    crowds : int
        How many crowds were left out.
    category_names : mapping of int to str
        Names of all categories of the file, by id.
    """

    file_name: str
    annotations: tuple[dict[str, Any], ...]
    crowds: int
    category_names: Mapping[int, str] = field(default_factory=dict)

    @property
    def categories(self) -> dict[int, int]:
        """Category of each annotation that has one, by its number from 1, as in `rasterise`."""
        numbered = enumerate(self.annotations, start=1)
        known = ((number, one.get("category_id")) for number, one in numbered)
        return {number: category for number, category in known if isinstance(category, int) and category > 0}


def read_coco(path: Path) -> list[CocoImage]:
    """Read the images of a COCO file, in its order.

    Raises
    ------
    InputError
        If the file is not readable, not JSON, or not in COCO's object-detection format.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.", code="file-not-readable") from error
    except ValueError as error:
        raise InputError(f"{path.name} is not JSON: {error}", code="not-json") from error
    try:
        names = {image["id"]: str(image["file_name"]) for image in content["images"]}
        found: dict[Any, list[dict[str, Any]]] = {number: [] for number in names}
        for annotation in content["annotations"]:
            found[annotation["image_id"]].append(annotation)
        categories = {int(one["id"]): str(one.get("name", "")) for one in content.get("categories") or ()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{path.name} is not a COCO file: it needs images with id and file_name, and annotations with the "
            f"image_id of one of them ({type(error).__name__}: {error}).",
            code="not-coco",
        ) from error
    return [_image(name, found[number], categories) for number, name in names.items()]


def _image(name: str, annotations: Sequence[dict[str, Any]], categories: Mapping[int, str]) -> CocoImage:
    kept = tuple(annotation for annotation in annotations if not annotation.get("iscrowd"))
    return CocoImage(name, kept, len(annotations) - len(kept), categories)


def rasterise(image: CocoImage, shape: tuple[int, int], classes: bool = False) -> NDArray[np.int64]:
    """Draw the annotations of an image as labels.

    Parameters
    ----------
    image : CocoImage
    shape : tuple of int
        (y, x) of the image.
    classes : bool
        Ids are those of the categories; otherwise annotations are numbered from 1.

    Returns
    -------
    int64 (y, x)
        Where objects overlap, the smaller one is in front.

    Raises
    ------
    InputError
        If an annotation is damaged or belongs to an image of another size.
    """
    masks = []
    for number, annotation in enumerate(image.annotations, start=1):
        try:
            mask = segmentation_mask(annotation["segmentation"], shape)
            masks.append((int(annotation["category_id"]) if classes else number, mask))
        except (KeyError, TypeError, ValueError, IndexError) as error:
            name = annotation.get("id", number)
            raise InputError(
                f"{image.file_name}: annotation {name} is damaged: {_reason(error)}", code="annotation-damaged"
            ) from error
    labels = np.zeros(shape, np.int64)
    for label, mask in sorted(masks, key=lambda item: -np.count_nonzero(item[1])):
        labels[mask] = label
    return labels


def _reason(error: Exception) -> str:
    return f"it has no {error}." if isinstance(error, KeyError) else str(error)


def segmentation_mask(segmentation: Any, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the mask (y, x) of a COCO segmentation: polygons, or run lengths as a list or compressed to text.

    Raises
    ------
    InputError
        If polygons or run lengths are damaged or belong to another size; the message goes on after "annotation N is
        damaged:".
    """
    if isinstance(segmentation, dict):
        size = tuple(segmentation["size"])
        if size != shape:
            raise InputError(f"its size is {size}, that of the image {shape}.", code="mask-does-not-fit")
        counts = segmentation["counts"]
        return decode_runs(decompress_runs(counts) if isinstance(counts, str) else counts, shape)
    mask = np.zeros(shape, np.bool_)
    for corners in segmentation:
        points = np.asarray(corners, np.float64).reshape(-1, 2)
        if len(points) < 3 or not np.isfinite(points).all():
            raise InputError("a polygon needs at least three corners, all finite.", code="invalid-polygon")
        # The centre of the first pixel is (0.5, 0.5) in COCO and (0, 0) in scikit-image.
        mask[polygon(points[:, 1] - 0.5, points[:, 0] - 0.5, shape)] = True
    return mask

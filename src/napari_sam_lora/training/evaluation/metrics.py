"""Score how well a model segments labelled objects from a simulated user's prompts, object by object."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from napari_sam_lora.labels import click_at_centre
from napari_sam_lora.model.embeddings import Embedding
from napari_sam_lora.model.predictor import Predictor
from napari_sam_lora.overlap import mask_iou
from napari_sam_lora.prompts import Prompts
from napari_sam_lora.training.data.samples import ObjectRef, Plane
from napari_sam_lora.training.data.simulated_user import with_click
from napari_sam_lora.training.memory import AdaptiveChunks

MAX_CLICKS = 6
GOOD_IOU = 0.8


@dataclass(frozen=True)
class ObjectScore:
    """Scores of one object.

    Attributes
    ----------
    plane, label : int
        Number of its training pair, and its id there.
    box_iou, box_dice : float
        IoU and Dice of the mask from its exact box.
    click_iou : float
        IoU of the mask from one click at its centre, the candidate with the highest predicted IoU.
    corrected_iou : float
        IoU of the mask after the last of `MAX_CLICKS` clicks, each at the centre of the largest error.
    clicks_to_good : int
        Clicks until the IoU is 0.8; one more than `MAX_CLICKS` if it never is.
    class_id : int, optional
        Its class, where labels are classes.
    area : int, optional
        Pixels of its label.
    """

    plane: int
    label: int
    box_iou: float
    box_dice: float
    click_iou: float
    corrected_iou: float
    clicks_to_good: int
    class_id: int | None = None
    area: int | None = None


@dataclass(frozen=True)
class Figures:
    """Mean scores of objects; NaN if there are none.

    Attributes
    ----------
    box_iou, box_dice, click_iou, corrected_iou, clicks_to_good : float
        See `ObjectScore`.
    count : int
        Number of objects.
    """

    box_iou: float
    box_dice: float
    click_iou: float
    corrected_iou: float
    clicks_to_good: float
    count: int


def summarise(scores: Sequence[ObjectScore]) -> Figures:
    """Average the scores of objects."""
    means = {
        field.name: float(np.mean([getattr(score, field.name) for score in scores])) if scores else np.nan
        for field in fields(Figures)
        if field.name != "count"
    }
    return Figures(**means, count=len(scores))


def score_objects(
    predictor: Predictor,
    planes: Sequence[Plane],
    objects: Iterable[ObjectRef],
    max_clicks: int = MAX_CLICKS,
    chunks: AdaptiveChunks | None = None,
) -> list[ObjectScore]:
    """Prompt for each object as a user would, and compare the masks with its label at the resolution of the plane.

    Nothing is random: boxes are exact, the first click is the pixel farthest from the object's outline.

    Parameters
    ----------
    chunks : AdaptiveChunks, optional
        Objects that are segmented at once; fewer if memory runs out.
    """
    chunks = chunks or AdaptiveChunks()
    by_plane: dict[int, list[int]] = {}
    for ref in objects:
        by_plane.setdefault(ref.plane, []).append(ref.label)
    scores = []
    for index, labels in by_plane.items():
        scores += chunks.map(partial(_score_in_plane, predictor, planes[index], max_clicks), labels)
    return scores


def _score_in_plane(predictor: Predictor, plane: Plane, max_clicks: int, labels: Sequence[int]) -> list[ObjectScore]:
    embedding = predictor.encode_prepared(plane.prepared)
    objects = {found.label: found for found in plane.objects}
    truth = [plane.labels == label for label in labels]
    by_box = predictor.segment(embedding, Prompts(boxes=[objects[label].box for label in labels]))
    box_iou = [mask_iou(found, true) for found, true in zip(by_box.masks, truth, strict=True)]
    after = list(iou_after_clicks(predictor, embedding, truth, max_clicks))
    clicks = clicks_until_good(after)
    return [
        ObjectScore(
            plane.image,
            label,
            box,
            2 * box / (1 + box),
            click,
            corrected,
            count,
            plane.classes.get(label),
            objects[label].area,
        )
        for label, box, click, corrected, count in zip(labels, box_iou, after[0], after[-1], clicks, strict=True)
    ]


def iou_after_clicks(
    predictor: Predictor,
    embedding: Embedding,
    truth: Sequence[NDArray[np.bool_]],
    max_clicks: int = MAX_CLICKS,
    found: Sequence[NDArray[np.bool_]] | None = None,
) -> Iterator[list[float]]:
    """Yield the IoU of each object after one click, two clicks and so on, each in the middle of the largest error.

    Parameters
    ----------
    predictor : Predictor
    embedding : Embedding
        Of the plane, from the predictor.
    truth : sequence of bool (y, x)
        The objects, at least one.
    max_clicks : int
        Number of lists.
    found : sequence of bool (y, x), optional
        Masks that the clicks correct, one for each object. By default there are none, and the first click is in the
        middle of the object.
    """
    if found is None:
        prompts = Prompts(points=[[click_at_centre(true)] for true in truth])
    else:
        masks = np.stack(found)
        prompts = _with_corrections(Prompts(masks=masks), masks, masks, truth)
    for number in range(1, max_clicks + 1):
        result = predictor.segment(embedding, prompts)
        yield [mask_iou(mask, true) for mask, true in zip(result.masks, truth, strict=True)]
        if number < max_clicks:
            prompts = _with_corrections(prompts, result.masks, result.logits, truth)


def clicks_until_good(iou: Sequence[Sequence[float]]) -> list[int]:
    """Return the number of clicks until each object has `GOOD_IOU`; one more than there are lists if it never has.

    Parameters
    ----------
    iou : sequence of sequence of float
        From `iou_after_clicks`.
    """
    reached = np.asarray(iou) >= GOOD_IOU
    return (1 + np.vstack([reached, np.ones_like(reached[:1])]).argmax(0)).tolist()


def _with_corrections(
    prompts: Prompts, found: NDArray[np.bool_], masks: NDArray[Any], truth: Sequence[NDArray[np.bool_]]
) -> Prompts:
    """Add a click to each object, in the middle of the largest error of what was found, and the masks as prompts."""
    clicks = []
    for mask, true in zip(found, truth, strict=True):
        wrong, count = ndi.label(mask != true)
        if not count:
            y, x = click_at_centre(true)
        else:
            largest = 1 + int(np.bincount(wrong.ravel())[1:].argmax())
            y, x = click_at_centre(wrong == largest)
        clicks.append(((float(y), float(x)), int(true[y, x])))
    return with_click(prompts, clicks, masks)

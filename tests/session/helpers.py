"""Helpers for tests of the session."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_sam_lora.masks import ObjectMask
from napari_sam_lora.regions import Region
from napari_sam_lora.session import MaskOptions, PlaneKey, Preview, PromptItem, Session
from napari_sam_lora.session.everything.found_plane import FoundPlane
from napari_sam_lora.session.everything.run import EverythingRun
from napari_sam_lora.session.prompting.draft import make_item

SOON = 60.0


def rectangle(shape: tuple[int, int], y0: int, x0: int, y1: int, x1: int) -> NDArray[np.bool_]:
    """Make a rectangular mask (y, x)."""
    mask = np.zeros(shape, np.bool_)
    mask[y0:y1, x0:x1] = True
    return mask


def make_preview(
    masks: NDArray[np.bool_], plane: PlaneKey | None = None, scores: tuple[float, ...] | None = None
) -> Preview:
    """Make a preview as if each mask (n, y, x) had been prompted with its own region."""
    rows: list[tuple[PromptItem, ...]] = []
    for number, mask in enumerate(masks):
        rows.append((make_item(number, "mask", mask, True, mask.shape),) if mask.any() else ())
    regions = [Region.of(mask) for mask in masks]
    return Preview(
        plane=plane or PlaneKey.of("image", 2),
        shape=(masks.shape[1], masks.shape[2]),
        rows=tuple(rows),
        objects=tuple(range(len(masks))),
        masks=tuple(
            ObjectMask(region, score, (region,) * 3)
            for region, score in zip(regions, scores or [0.9] * len(masks), strict=True)
        ),
        options=MaskOptions(),
    )


def dense(preview: Preview) -> NDArray[np.bool_]:
    """Return the masks of a preview in the whole plane, bool (n, y, x)."""
    masks = [mask.region.to_mask(preview.shape) for mask in preview.masks]
    return np.array(masks, np.bool_).reshape(-1, *preview.shape)


def scores_of(preview: Preview) -> list[float]:
    """Return the predicted IoU of each mask of a preview."""
    return [mask.score for mask in preview.masks]


def collect(session: Session, run: EverythingRun, most: int | None = None) -> list[FoundPlane]:
    """Start a run, wait for it, and return what it reported."""
    found: list[FoundPlane] = []

    def add(of: EverythingRun, plane: FoundPlane) -> None:
        if of is run:
            found.append(plane)

    session.everything.found.connect(add)
    run.start(most).result(SOON)
    session.everything.found.disconnect(add)
    return found

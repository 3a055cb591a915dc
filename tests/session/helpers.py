"""Helpers for tests of the session."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_sam_lora.session import MaskOptions, PlaneKey, Preview, PromptItem
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
    count = len(masks)
    return Preview(
        plane=plane or PlaneKey.of("image", 2),
        rows=tuple(rows),
        objects=tuple(range(count)),
        masks=masks,
        scores=np.array(scores or [0.9] * count, np.float32),
        candidates=np.repeat(masks[:, None], 3, axis=1),
        candidate_scores=np.zeros((count, 3), np.float32),
        options=MaskOptions(),
    )

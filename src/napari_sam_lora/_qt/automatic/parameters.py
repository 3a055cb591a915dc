"""Form for the parameters of everything mode, with labels in plain English."""

from __future__ import annotations

from qtpy.QtWidgets import QWidget

from napari_sam_lora._qt.viewer.preferences import RememberedSettings
from napari_sam_lora._qt.widgets.number_form import NumberForm, Parameter

# Fields of `EverythingConfig`, and "smallest", the argument of `Proposals.everything`.
PARAMETERS = (
    Parameter(
        "points_per_side",
        "Clicks along a side",
        "The model gets a grid of clicks, this many along each side. More find smaller objects and take longer.",
        32,
        2,
        256,
        8,
        is_basic=True,
    ),
    Parameter(
        "smallest",
        "Smallest object (pixels)",
        "Objects with fewer pixels are left out.",
        20,
        0,
        1_000_000,
        10,
        is_basic=True,
    ),
    Parameter(
        "pred_iou_thresh",
        "Least score",
        "Masks with a lower score from the model than this (0 to 1) are dropped. Lower finds more. "
        "Press the down arrow at 0 for “auto”, which takes what is usual for the model.",
        None,
        0.0,
        1.0,
        0.05,
        is_basic=True,
    ),
    Parameter(
        "stability_score_thresh",
        "Least stability",
        "Masks whose outline moves a lot when the threshold changes a little are dropped (0 to 1). Lower finds more. "
        "Press the down arrow at 0 for “auto”, which takes what is usual for the model.",
        None,
        0.0,
        1.0,
        0.05,
    ),
    Parameter(
        "stability_score_offset",
        "Stability: change by",
        "How far the threshold is changed to test whether an outline is stable.",
        1.0,
        0.1,
        10.0,
        0.1,
    ),
    Parameter(
        "box_nms_thresh",
        "Most overlap",
        "Of two masks whose boxes overlap more than this (0 to 1), only the better one is kept.",
        0.5,
        0.0,
        1.0,
        0.05,
    ),
    Parameter(
        "min_mask_region_area",
        "Clean up to (pixels)",
        "Holes and specks of a mask that are smaller than this are filled or removed.",
        0,
        0,
        100_000,
        10,
    ),
    Parameter(
        "crop_n_layers",
        "Rounds on enlarged parts",
        "Searches enlarged parts of the plane too, for many small objects. Each round takes four times as long.",
        0,
        0,
        3,
        1,
    ),
    Parameter(
        "crop_nms_thresh",
        "Most overlap between parts",
        "Like “Most overlap”, but between masks found in different enlarged parts.",
        0.7,
        0.0,
        1.0,
        0.05,
    ),
    Parameter(
        "crop_overlap_ratio",
        "Parts overlap by",
        "How far enlarged parts overlap, as a fraction of the plane.",
        512 / 1500,
        0.0,
        0.9,
        0.05,
    ),
    Parameter(
        "crop_n_points_downscale_factor",
        "Fewer clicks in parts",
        "Each further round divides the clicks along a side by this number.",
        1,
        1,
        8,
        1,
    ),
    Parameter(
        "points_per_batch",
        "Clicks at once",
        "How many clicks are processed together. Fewer need less memory.",
        64,
        1,
        1024,
        16,
    ),
)


class EverythingForm(NumberForm):
    """Form for the basic or the other parameters; it remembers the values that were entered.

    Parameters
    ----------
    is_basic : bool
        Show the basic parameters; otherwise the other ones.
    remembered : RememberedSettings
    parent : QWidget, optional
    """

    def __init__(self, is_basic: bool, remembered: RememberedSettings, parent: QWidget | None = None) -> None:
        super().__init__([one for one in PARAMETERS if one.is_basic == is_basic], remembered, parent)

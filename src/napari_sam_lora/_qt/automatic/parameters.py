"""The forms for finding objects without prompts."""

from __future__ import annotations

from dataclasses import replace

from napari_sam_lora._qt.viewer.preferences import RememberedSettings
from napari_sam_lora._qt.widgets.parameter_form import ParameterForm
from napari_sam_lora.parameters.everything import EverythingConfig
from napari_sam_lora.parameters.instances import InstanceConfig
from napari_sam_lora.parameters.schema import Parameter, parameters_of

# An argument of `Session.everything`, beside its `EverythingConfig`.
SMALLEST = Parameter(
    "smallest",
    int,
    20,
    title="Smallest object (pixels)",
    description="Objects with fewer pixels are left out.",
    step=10,
    shown_range=(0, 1_000_000),
)
BASIC = ("points_per_side", SMALLEST, "pred_iou_thresh")
ADVANCED = (
    "stability_score_thresh",
    "stability_score_offset",
    "box_nms_thresh",
    "min_mask_region_area",
    "crop_n_layers",
    "crop_nms_thresh",
    "crop_overlap_ratio",
    "crop_n_points_downscale_factor",
    "points_per_batch",
)


# Parameters of the dense head's objects that act at once on what was found.
SLIDERS = ("sensitivity", "separation", "smallest")
# End of the slider for the smallest size, in pixels, and how much further than the suggested size it goes at least.
MOST_PIXELS, MOST_TIMES = 2000, 4


def instances_form() -> ParameterForm:
    """Return the form for objects that the object finder finds; its values are those that suit the model."""
    own = {one.name: one for one in parameters_of(InstanceConfig)}
    smallest = replace(own["smallest"], title="Smallest size", shown_range=(0, MOST_PIXELS))
    return ParameterForm(InstanceConfig, [*(own[name] for name in SLIDERS[:-1]), smallest], sliders=SLIDERS)


def show_instances(form: ParameterForm, suggested: InstanceConfig) -> None:
    """Show the parameters that suit a model; the slider for the smallest size reaches beyond that."""
    form.set_range("smallest", 0, max(MOST_PIXELS, MOST_TIMES * suggested.smallest))
    form.show_values(suggested.as_dict())


def everything_form() -> ParameterForm:
    """Return the form; it remembers the values that were entered."""
    return ParameterForm(EverythingConfig, BASIC, ADVANCED, RememberedSettings("everything"))

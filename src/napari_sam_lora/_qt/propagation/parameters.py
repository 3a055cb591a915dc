"""The form for the settings of a propagation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from napari_sam_lora._qt.viewer.preferences import RememberedSettings
from napari_sam_lora._qt.widgets import parameter_form
from napari_sam_lora._qt.widgets.parameter_form import ParameterForm
from napari_sam_lora.parameters.propagation import PropagationConfig

BASIC = ("direction", "projection")
ADVANCED = (
    "min_score",
    "min_overlap",
    "max_growth",
    "max_shrinkage",
    "min_contrast",
    "max_growth_from_key",
    "max_intensity_change",
    "max_doubtful",
    "padding",
    "smallest",
    "smooth",
)


def propagation_form(remembered: RememberedSettings) -> ParameterForm:
    """Return the form; the parameters for where an object ends are in its ``advanced``."""
    return ParameterForm(PropagationConfig, BASIC, ADVANCED, remembered)


def usable_values(remembered: Mapping[str, Any]) -> dict[str, Any]:
    """Return fields of `PropagationConfig` from remembered values; unusable ones are left out."""
    return parameter_form.usable_values(PropagationConfig, remembered, (*BASIC, *ADVANCED))

"""How objects are propagated, in plain words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qtpy.QtWidgets import QCheckBox, QFormLayout, QVBoxLayout, QWidget

from napari_sam_lora._qt.viewer.preferences import RememberedSettings
from napari_sam_lora._qt.widgets.controls import chooser
from napari_sam_lora._qt.widgets.number_form import NumberForm, Parameter

DIRECTIONS = {"both": "both ways", "up": "to higher planes", "down": "to lower planes"}
USUAL = "auto"
PROJECTIONS = {
    USUAL: "automatic",
    "box": "the box",
    "mask": "the shape",
    "points": "points",
    "box+mask": "box and shape",
    "box+points": "box and points",
    "mask+points": "shape and points",
    "box+mask+points": "all three",
}
# Fields of `PropagationConfig`.
PARAMETERS = (
    Parameter(
        "min_score",
        "Least score",
        "An object ends where the model itself thinks its mask is worse than this (0 to 1). Lower goes on for longer. "
        "Press the down arrow at 0 for “auto”, which takes what is usual for the model.",
        None,
        0.0,
        1.0,
        0.05,
    ),
    Parameter(
        "min_overlap",
        "Least overlap",
        "An object ends where its mask overlaps that of the plane before less than this (0 to 1). Lower is for "
        "objects that move more from plane to plane.",
        0.4,
        0.0,
        1.0,
        0.05,
    ),
    Parameter(
        "max_growth",
        "Grows at most (times)",
        "An object ends where its area is more than so many times that of the plane before.",
        2.0,
        1.0,
        100.0,
        0.5,
    ),
    Parameter(
        "max_shrinkage",
        "Shrinks at most (times)",
        "An object ends where its area is so many times smaller than in the plane before.",
        3.0,
        1.0,
        100.0,
        0.5,
    ),
    Parameter(
        "min_contrast",
        "Least contrast",
        "An object ends where it stands out from its surroundings by less than this share of what it did where you "
        "drew it. 0 turns it off.",
        0.35,
        0.0,
        1.0,
        0.05,
    ),
    Parameter(
        "padding",
        "Enlarge the box by",
        "The box for the next plane is larger on each side by this share of the object. More is for objects that move "
        "or grow fast.",
        0.0,
        0.0,
        1.0,
        0.05,
    ),
    Parameter(
        "smallest",
        "Smallest object (pixels)",
        "An object ends where it has fewer pixels.",
        5,
        0,
        1_000_000,
        5,
    ),
)


class PropagationForm(QWidget):
    """Direction and prompts; what makes an object end is in `advanced`, a widget apart. All is remembered.

    Parameters
    ----------
    remembered : RememberedSettings

    Attributes
    ----------
    rows : QFormLayout
        Others may add theirs.
    """

    def __init__(self, remembered: RememberedSettings) -> None:
        super().__init__()
        self._remembered = remembered
        known = remembered.read()
        self.direction = chooser(DIRECTIONS, "From the planes in which the objects are, along the stack.")
        self.projection = chooser(
            PROJECTIONS,
            "What of an object in one plane is shown to the model as its prompt in the next. Automatic is best for "
            "most images.",
        )
        for widget, name in ((self.direction, "direction"), (self.projection, "projection")):
            widget.setCurrentIndex(max(0, widget.findData(known.get(name))))
            widget.activated.connect(self._remember)
        self.rows = QFormLayout(self)
        self.rows.setContentsMargins(0, 0, 0, 0)
        self.rows.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        self.rows.addRow("Direction", self.direction)
        self.rows.addRow("Prompts", self.projection)
        self.numbers = NumberForm(PARAMETERS, remembered)
        self.smooth = QCheckBox("Fill holes, leave out loose parts")
        self.smooth.setToolTip("Parts of a mask that do not touch the object in the plane before are left out.")
        self.smooth.setChecked(known.get("smooth") is not False)
        self.smooth.toggled.connect(self._remember)
        self.advanced = QWidget()
        column = QVBoxLayout(self.advanced)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.numbers)
        column.addWidget(self.smooth)

    def values(self) -> dict[str, Any]:
        """Fields of `PropagationConfig`."""
        return usable_values(self._chosen() | self.numbers.values())

    def reset(self) -> None:
        """Back to what is usual."""
        self.direction.setCurrentIndex(0)
        self.projection.setCurrentIndex(0)
        self.smooth.setChecked(True)
        self.numbers.reset()
        self._remember()

    def _chosen(self) -> dict[str, Any]:
        return {
            "direction": self.direction.currentData(),
            "projection": self.projection.currentData(),
            "smooth": self.smooth.isChecked(),
        }

    def _remember(self, *_: object) -> None:
        self._remembered.update(**self._chosen())


def usable_values(known: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of `PropagationConfig`, of what was chosen in a `PropagationForm` or remembered, which may be anything."""
    values: dict[str, Any] = {one.name: one.usable(known.get(one.name, one.default)) for one in PARAMETERS}
    values["smooth"] = known.get("smooth") is not False
    for name, active_layers in (("direction", DIRECTIONS), ("projection", PROJECTIONS)):
        chosen = known.get(name)
        if chosen != USUAL and chosen in list(active_layers):
            values[name] = chosen
    return values

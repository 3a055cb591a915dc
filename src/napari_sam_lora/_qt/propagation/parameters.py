"""Form for the settings of a propagation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qtpy.QtWidgets import QCheckBox, QFormLayout, QVBoxLayout, QWidget

from napari_sam_lora._qt.viewer.preferences import RememberedSettings
from napari_sam_lora._qt.widgets.controls import combo_box
from napari_sam_lora._qt.widgets.number_form import NumberForm, Parameter

DIRECTIONS = {"both": "both ways", "up": "to higher planes", "down": "to lower planes"}
AUTOMATIC = "auto"
PROJECTIONS = {
    AUTOMATIC: "automatic",
    "box": "the box",
    "mask": "the shape",
    "points": "points",
    "box+mask": "box and shape",
    "box+points": "box and points",
    "mask+points": "shape and points",
    "box+mask+points": "all three",
}
PARAMETERS = (  # fields of `PropagationConfig`
    Parameter(
        "min_score",
        "Least score",
        "An object ends where the score that the model gives its mask is below this (0 to 1). A lower value follows it "
        "for longer. Press the down arrow at 0 for “auto”, the usual value of the model.",
        None,
        0.0,
        1.0,
        0.05,
    ),
    Parameter(
        "min_overlap",
        "Least overlap",
        "An object ends where its mask overlaps that of the previous plane by less than this (0 to 1). Lower it for "
        "objects that move much from plane to plane.",
        0.4,
        0.0,
        1.0,
        0.05,
    ),
    Parameter(
        "max_growth",
        "Grows at most (times)",
        "An object ends where its area is more than this many times its area in the previous plane.",
        2.0,
        1.0,
        100.0,
        0.5,
    ),
    Parameter(
        "max_shrinkage",
        "Shrinks at most (times)",
        "An object ends where its area is this many times smaller than in the previous plane.",
        3.0,
        1.0,
        100.0,
        0.5,
    ),
    Parameter(
        "min_contrast",
        "Least contrast",
        "An object ends where its contrast with its surroundings is below this share of the contrast where you drew "
        "it. 0 turns this off.",
        0.35,
        0.0,
        1.0,
        0.05,
    ),
    Parameter(
        "padding",
        "Enlarge the box by",
        "The box for the next plane is enlarged on each side by this share of the object's size. Raise it for objects "
        "that move or grow fast.",
        0.0,
        0.0,
        1.0,
        0.05,
    ),
    Parameter(
        "smallest",
        "Smallest object (pixels)",
        "An object ends where it has fewer pixels than this.",
        5,
        0,
        1_000_000,
        5,
    ),
)


class PropagationForm(QWidget):
    """Fields for direction and prompts; those for where an object ends are in `advanced`. All values are remembered.

    Parameters
    ----------
    remembered : RememberedSettings

    Attributes
    ----------
    rows : QFormLayout
        Layout of the form, to which callers may add rows.
    advanced : QWidget
        Further settings, to be shown elsewhere.
    """

    def __init__(self, remembered: RememberedSettings) -> None:
        super().__init__()
        self._remembered = remembered
        values = remembered.read()
        self.direction = combo_box(DIRECTIONS, "Direction along the stack, from the planes that contain the objects.")
        self.projection = combo_box(
            PROJECTIONS,
            "Prompt that the model gets in the next plane, made from the object in this one. Automatic is best for "
            "most images.",
        )
        for widget, name in ((self.direction, "direction"), (self.projection, "projection")):
            widget.setCurrentIndex(max(0, widget.findData(values.get(name))))
            widget.activated.connect(self._remember)
        self.rows = QFormLayout(self)
        self.rows.setContentsMargins(0, 0, 0, 0)
        self.rows.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        self.rows.addRow("Direction", self.direction)
        self.rows.addRow("Prompts", self.projection)
        self.numbers = NumberForm(PARAMETERS, remembered)
        self.smooth = QCheckBox("Fill holes, leave out loose parts")
        self.smooth.setToolTip(
            "Fills the holes of a mask, and leaves out parts that do not touch the object in the previous plane."
        )
        self.smooth.setChecked(values.get("smooth") is not False)
        self.smooth.toggled.connect(self._remember)
        self.advanced = QWidget()
        column = QVBoxLayout(self.advanced)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.numbers)
        column.addWidget(self.smooth)

    def values(self) -> dict[str, Any]:
        """Return the values as fields of `PropagationConfig`."""
        return usable_values(self._chosen() | self.numbers.values())

    def reset(self) -> None:
        """Set all values back to their defaults."""
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


def usable_values(remembered: Mapping[str, Any]) -> dict[str, Any]:
    """Return fields of `PropagationConfig` from remembered values; unusable ones are replaced by defaults."""
    values: dict[str, Any] = {one.name: one.validated(remembered.get(one.name, one.default)) for one in PARAMETERS}
    values["smooth"] = remembered.get("smooth") is not False
    for name, options in (("direction", DIRECTIONS), ("projection", PROJECTIONS)):
        chosen = remembered.get(name)
        if chosen != AUTOMATIC and chosen in list(options):
            values[name] = chosen
    return values

"""Form of the numbers of a configuration; what was entered is remembered."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from qtpy.QtWidgets import QDoubleSpinBox, QFormLayout, QSpinBox, QWidget

from napari_sam_lora._qt.viewer.preferences import RememberedSettings


@dataclass(frozen=True)
class Parameter:
    """Number of a configuration.

    Attributes
    ----------
    name : str
        Name of the field in the configuration.
    label : str
        Label in the form.
    tip : str
        Tooltip.
    default : int, float or None
        The same as in the configuration, which is not imported because it would import torch. None leaves the number
        to the model.
    low, high, step : int or float
    is_basic : bool
        Whether it is shown before the user asks for more settings.
    """

    name: str
    label: str
    tip: str
    default: float | None
    low: float
    high: float
    step: float
    is_basic: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether the number is an integer."""
        return isinstance(self.default, int)

    def validated(self, value: Any) -> float | None:
        """Return a remembered value, which may be anything, if it is a number in the range; otherwise the default."""
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        number = value if is_number and self.low <= value <= self.high else self.default
        return number if number is None else int(number) if self.is_whole else float(number)


class NumberForm(QWidget):
    """Form with a spin box for each number.

    Parameters
    ----------
    parameters : iterable of Parameter
    remembered : RememberedSettings
        Holds the values between sessions.
    parent : QWidget, optional

    Attributes
    ----------
    fields : dict of str to QSpinBox or QDoubleSpinBox
        By name of the parameter.
    """

    def __init__(
        self, parameters: Iterable[Parameter], remembered: RememberedSettings, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._remembered = remembered
        self.fields: dict[str, Any] = {}
        self._parameters = tuple(parameters)
        values = remembered.read()
        layout = QFormLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        for one in self._parameters:
            field = _field(one)
            _set(field, one, values.get(one.name, one.default))
            field.editingFinished.connect(self._remember)
            layout.addRow(one.label, field)
            label = layout.labelForField(field)
            if label is not None:
                label.setToolTip(one.tip)
            self.fields[one.name] = field

    def values(self) -> dict[str, Any]:
        """Return the numbers by name; None stands for "auto"."""
        return {one.name: _value(self.fields[one.name], one) for one in self._parameters}

    def reset(self) -> None:
        """Set all numbers to their defaults."""
        for one in self._parameters:
            _set(self.fields[one.name], one, one.default)
        self._remember()

    def _remember(self) -> None:
        self._remembered.update(**self.values())


def _field(parameter: Parameter) -> Any:
    field: Any = QSpinBox() if parameter.is_whole else QDoubleSpinBox()
    if parameter.default is None:
        field.setRange(parameter.low - parameter.step, parameter.high)
        field.setSpecialValueText("auto")
    else:
        field.setRange(parameter.low, parameter.high)
    field.setSingleStep(parameter.step)
    field.setToolTip(parameter.tip)
    return field


def _set(field: Any, parameter: Parameter, value: Any) -> None:
    number = parameter.validated(value)
    field.setValue(field.minimum() if number is None else number)


def _value(field: Any, parameter: Parameter) -> float | None:
    if parameter.default is None and field.value() < parameter.low:
        return None
    value: float = field.value()
    return value

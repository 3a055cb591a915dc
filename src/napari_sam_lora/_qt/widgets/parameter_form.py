"""Forms for parameters, made by magicgui from their descriptions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Literal, get_args, get_origin

import yaml
from magicgui.widgets import create_widget
from magicgui.widgets.bases import ValueWidget
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QComboBox, QDoubleSpinBox, QFormLayout, QLineEdit, QWidget
from superqt.utils import signals_blocked

from napari_sam_lora._qt.viewer.preferences import RememberedSettings
from napari_sam_lora._qt.widgets.controls import Notice, allow_narrow
from napari_sam_lora.errors import InputError
from napari_sam_lora.parameters.schema import Parameter, parameters_of, validated

# A choice of this name leaves the parameter out; so does a spin box of an optional number at its end.
AUTOMATIC = "auto"
# Whole numbers whose default is larger, such as bytes, are typed.
_LARGEST_DEFAULT_IN_SPIN_BOX, _LARGEST_IN_SPIN_BOX = 1_000_000, 2**31 - 1
_MISSING = object()


class ParameterForm(QWidget):
    """Form with a row for each parameter of a class.

    Signals
    -------
    edited : (dict)
        The user has changed a value, and all are valid: `values`. Otherwise the form shows what is wrong.

    Parameters
    ----------
    cls : type
        Made with `parameters`.
    rows : iterable of str or Parameter
        Parameters in the form itself, by name; also others, which are not of the class.
    advanced : iterable of str
        Parameters in the widget `advanced`.
    remembered : RememberedSettings, optional
        Holds the values between sessions.
    sliders : iterable of str
        Numbers that are set with a slider instead of a spin box, by name.

    Attributes
    ----------
    fields : dict of str to magicgui widget
        By name of the parameter.
    rows : QFormLayout
        Layout of the form, to which callers may add rows.
    advanced : QWidget
        Further parameters; hidden until it is put elsewhere and shown.
    problem : Notice
    """

    edited = Signal(dict)

    def __init__(
        self,
        cls: type,
        rows: Iterable[str | Parameter],
        advanced: Iterable[str] = (),
        remembered: RememberedSettings | None = None,
        sliders: Iterable[str] = (),
    ) -> None:
        super().__init__()
        self._cls, self._remembered, self._sliders = cls, remembered, set(sliders)
        self._own = {one.name: one for one in parameters_of(cls)}
        self._parameters: dict[str, Parameter] = {}
        self.fields: dict[str, ValueWidget[Any]] = {}
        self.problem = Notice()
        self.advanced = QWidget(self)
        self.advanced.hide()
        self.rows = self._layout(self, rows)
        self._layout(self.advanced, advanced)
        self.rows.addRow(self.problem)
        self.show_values({} if remembered is None else remembered.read())

    def values(self) -> dict[str, Any]:
        """Return all values by name, as the class has them.

        Raises
        ------
        InputError
            If a value cannot be used.
        """
        read = {name: _read(self.fields[name], one) for name, one in self._parameters.items()}
        own = {name: value for name, value in read.items() if name in self._own and value != AUTOMATIC}
        made: Any = validated(self._cls, own, "the form", lambda name: self._own[name].label)
        return {name: getattr(made, name) if name in self._own else value for name, value in read.items()}

    def show_values(self, values: Mapping[str, Any]) -> None:
        """Fill the form; values that are left out or that it cannot show become the defaults."""
        for name, parameter in self._parameters.items():
            with signals_blocked(self.fields[name].native):
                _show(self.fields[name], parameter, usable(parameter, values.get(name, _MISSING)))
        self.problem.say("")

    def set_range(self, name: str, low: float, high: float) -> None:
        """Let the field of a number offer this range, ends included; the limits of the parameter stay."""
        self._parameters[name] = replace(self._parameters[name], shown_range=(low, high))
        field: Any = self.fields[name]
        with signals_blocked(field.native):
            field.min, field.max = low, high

    def reset(self) -> None:
        """Set all values to their defaults."""
        self.show_values({})
        self._remember()

    def _layout(self, widget: QWidget, names: Iterable[str | Parameter]) -> QFormLayout:
        layout = QFormLayout(widget)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        for one in names:
            parameter = self._own[one] if isinstance(one, str) else one
            field = self.fields[parameter.name] = _field(parameter, parameter.name in self._sliders)
            self._parameters[parameter.name] = parameter
            self._connect(field)
            if isinstance(field.native, QCheckBox) and parameter.title:
                layout.addRow(field.native)
                continue
            layout.addRow(parameter.label, field.native)
            label = layout.labelForField(field.native)
            if label is not None:
                label.setToolTip(field.tooltip)
        return layout

    def _connect(self, field: ValueWidget[Any]) -> None:
        finished = getattr(field.native, "editingFinished", None)
        if isinstance(field.native, QLineEdit):
            field.native.editingFinished.connect(self._on_edit)
        else:
            field.changed.connect(self._on_edit)
        (field.changed if finished is None else finished).connect(self._remember)

    def _on_edit(self, *_: object) -> None:
        try:
            values = self.values()
        except InputError as error:
            self.problem.say(str(error))
        else:
            self.problem.say("")
            self.edited.emit(values)

    def _remember(self, *_: object) -> None:
        if self._remembered is not None:
            self._remembered.update(**{name: _read(self.fields[name], one) for name, one in self._parameters.items()})


def usable(parameter: Parameter, value: Any) -> Any:
    """Return a remembered value, which may be anything, if a form can show it; otherwise the default."""
    if value is None and parameter.is_optional:
        return None
    if parameter.choices:
        automatic = AUTOMATIC if AUTOMATIC in parameter.choices else parameter.default
        return value if value in list(parameter.choices) else automatic
    if value is _MISSING:
        return parameter.default
    if parameter.kind is bool:
        return value if isinstance(value, bool) else parameter.default
    if parameter.step is None:
        return value
    low, high = _range(parameter)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return parameter.kind(value) if is_number and low <= value <= high else parameter.default


def usable_values(cls: type, remembered: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Return these parameters of a class from remembered values; what is unusable or automatic is left out."""
    own = {one.name: one for one in parameters_of(cls)}
    found = {name: usable(own[name], remembered.get(name, _MISSING)) for name in names}
    return {name: value for name, value in found.items() if value != AUTOMATIC}


def _field(parameter: Parameter, is_slider: bool = False) -> ValueWidget[Any]:
    """Make the magicgui widget of a parameter."""
    options: dict[str, Any] = {"tooltip": _tip(parameter)}
    kind = parameter.kind
    if get_origin(kind) is Literal:
        choices = parameter.choices or {one: one for one in get_args(kind)}
        options["choices"] = [(text, value) for value, text in choices.items()]
        kind = str
    elif _has_spin_box(parameter):
        low, high = _range(parameter)
        options |= {"min": low - parameter.step if _has_end(parameter) else low, "max": high}  # type: ignore[operator]
        options["step"] = parameter.step or 1
        if is_slider:
            options["widget_type"] = "FloatSlider" if kind is float else "Slider"
    elif kind is not bool:
        options["widget_type"], kind = "LineEdit", str
    field: Any = create_widget(name=parameter.name, annotation=kind, options=options)
    native = field.native
    if isinstance(native, QDoubleSpinBox) and _has_end(parameter):
        native.setSpecialValueText(AUTOMATIC)
    elif isinstance(native, QCheckBox):
        native.setText(parameter.title)
    elif isinstance(native, QLineEdit):
        native.setPlaceholderText("automatic" if parameter.is_optional else "")
    elif isinstance(native, QComboBox) and parameter.choices:
        allow_narrow(native)  # its texts may be long
    return field


def _has_spin_box(parameter: Parameter) -> bool:
    if parameter.step is not None:
        return True
    return parameter.kind is int and not parameter.is_optional and parameter.default <= _LARGEST_DEFAULT_IN_SPIN_BOX


def _has_end(parameter: Parameter) -> bool:
    """Return whether the spin box has a step below its lowest number, which stands for None."""
    return parameter.is_optional and parameter.step is not None


def _range(parameter: Parameter) -> tuple[float, float]:
    if parameter.shown_range is not None:
        return parameter.shown_range
    return parameter.low or 0, _LARGEST_IN_SPIN_BOX if parameter.high is None else parameter.high


def _tip(parameter: Parameter) -> str:
    if not _has_end(parameter):
        return parameter.description
    low = _range(parameter)[0]
    return f"{parameter.description} Press the down arrow at {low:g} for “auto”, {parameter.none}."


def _show(field: ValueWidget[Any], parameter: Parameter, value: Any) -> None:
    widget: Any = field
    if isinstance(widget.native, QLineEdit):
        text = ", ".join(map(str, value)) if isinstance(value, tuple | list) else value
        widget.value = "" if text is None else str(text)
    else:
        widget.value = widget.min if value is None else value


def _read(field: ValueWidget[Any], parameter: Parameter) -> Any:
    value: Any = field.value
    if isinstance(field.native, QLineEdit):
        return _read_text(str(value).strip(), get_origin(parameter.kind) is tuple)
    if _has_end(parameter) and value < _range(parameter)[0]:
        return None
    default, native = parameter.default, field.native
    is_default = isinstance(native, QDoubleSpinBox) and default and value == round(default, native.decimals())
    return default if is_default else value  # the spin box may have rounded it


def _read_text(text: str, is_list: bool) -> Any:
    if is_list and text and not text.startswith("["):
        text = f"[{text}]"
    try:
        return yaml.safe_load(text) if text else None
    except yaml.YAMLError:
        return text  # the check that follows refuses it

"""Form generated from the fields of a settings dataclass."""

from __future__ import annotations

import types
from typing import Any, Literal, Union, get_args, get_origin

import yaml
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QComboBox, QFormLayout, QLineEdit, QSpinBox, QWidget

from napari_sam_lora._qt.widgets.controls import Notice
from napari_sam_lora.errors import InputError
from napari_sam_lora.training.settings_fields import Setting, checked, settings_of

MAX_INTEGER = 1_000_000


class SettingsEditor(QWidget):
    """Editor for the values of a dataclass; each is checked as in its YAML file.

    Signals
    -------
    edited : (dict)
        The values that differ from the defaults, emitted when all are valid.

    Parameters
    ----------
    cls : type
        A dataclass whose constructor raises an InputError for values that make no sense.
    """

    edited = Signal(dict)

    def __init__(self, cls: type) -> None:
        super().__init__()
        self._cls = cls
        self._settings = {setting.name: setting for setting in settings_of(cls)}
        self.editors = {name: _editor(setting, self._on_edit) for name, setting in self._settings.items()}
        self.problem = Notice()
        form = QFormLayout(self)
        form.setContentsMargins(0, 0, 0, 0)
        form.setRowWrapPolicy(QFormLayout.RowWrapPolicy.WrapLongRows)
        for name, editor in self.editors.items():
            form.addRow(name.replace("_", " "), editor)
            label = form.labelForField(editor)
            if label is not None:
                label.setToolTip(self._settings[name].help)
        form.addRow(self.problem)
        self._filling = False

    def show_values(self, values: dict[str, Any]) -> None:
        """Fill the form; settings that are left out get their defaults."""
        self._filling = True
        for name, editor in self.editors.items():
            _fill(editor, values.get(name, self._settings[name].default))
        self._filling = False
        self.problem.say("")

    def values(self) -> dict[str, Any]:
        """Return the values that differ from the defaults.

        Raises
        ------
        InputError
            If a value cannot be used.
        """
        read = {
            name: checked(_read(editor), self._settings[name].hint, name.replace("_", " "))
            for name, editor in self.editors.items()
        }
        self._cls(**read)
        return {name: value for name, value in read.items() if value != self._settings[name].default}

    def _on_edit(self) -> None:
        if self._filling:
            return
        try:
            values = self.values()
        except InputError as error:
            self.problem.say(str(error))
        else:
            self.problem.say("")
            self.edited.emit(values)


def _editor(setting: Setting, edited: Any) -> QWidget:
    hint, optional = _without_none(setting.hint)
    editor: QWidget
    if hint is bool:
        editor = QCheckBox()
        editor.toggled.connect(lambda _: edited())
    elif get_origin(hint) is Literal:
        editor = QComboBox()
        editor.addItems([str(one) for one in get_args(hint)])
        editor.currentTextChanged.connect(lambda _: edited())
    elif hint is int and not optional and setting.default <= MAX_INTEGER:
        editor = QSpinBox()
        editor.setRange(0, MAX_INTEGER)
        editor.valueChanged.connect(lambda _: edited())
    else:
        editor = QLineEdit()
        editor.setPlaceholderText("automatic" if optional else "")
        editor.setProperty("holds_list", get_origin(hint) is tuple)
        editor.editingFinished.connect(edited)
    editor.setToolTip(setting.help)
    return editor


def _fill(editor: QWidget, value: Any) -> None:
    if isinstance(editor, QCheckBox):
        editor.setChecked(bool(value))
    elif isinstance(editor, QComboBox):
        editor.setCurrentText(str(value))
    elif isinstance(editor, QSpinBox):
        editor.setValue(int(value))
    elif isinstance(editor, QLineEdit):
        text = ", ".join(map(str, value)) if isinstance(value, (tuple, list)) else value
        editor.setText("" if text is None else str(text))


def _read(editor: QWidget) -> Any:
    if isinstance(editor, QCheckBox):
        return editor.isChecked()
    if isinstance(editor, QComboBox):
        return editor.currentText()
    if isinstance(editor, QSpinBox):
        return editor.value()
    assert isinstance(editor, QLineEdit)
    text = editor.text().strip()
    if text and editor.property("holds_list") and not text.startswith("["):
        text = f"[{text}]"
    try:
        value = yaml.safe_load(text) if text else None
    except yaml.YAMLError:
        return text  # the check that follows refuses it
    return value


def _without_none(hint: Any) -> tuple[Any, bool]:
    """Return a type hint without None, and whether None was one of its types."""
    if get_origin(hint) in (Union, types.UnionType):
        kinds = [kind for kind in get_args(hint) if kind is not type(None)]
        return kinds[0], len(kinds) < len(get_args(hint))
    return hint, False

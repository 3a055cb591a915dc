"""A form made from the fields of a settings dataclass."""

from __future__ import annotations

import types
from typing import Any, Literal, Union, get_args, get_origin

import yaml
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QComboBox, QFormLayout, QLineEdit, QSpinBox, QWidget

from napari_sam_lora._qt.widgets.controls import Notice
from napari_sam_lora.cli.options import Setting, checked, settings_of
from napari_sam_lora.errors import InputError

MOST = 1_000_000


class SettingsEditor(QWidget):
    """Edits the values of a dataclass, each checked as in its YAML file.

    Signals
    -------
    edited : (dict)
        The values that differ from the defaults, whenever all are valid.

    Parameters
    ----------
    cls : type
        A dataclass whose constructor raises an InputError for values that make no sense.
    place : str
        How messages call it.
    """

    edited = Signal(dict)

    def __init__(self, cls: type, place: str) -> None:
        super().__init__()
        self._cls, self._place = cls, place
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
        """Fill the form; what is left out has its default."""
        self._filling = True
        for name, editor in self.editors.items():
            _fill(editor, values.get(name, self._settings[name].default))
        self._filling = False
        self.problem.say("")

    def values(self) -> dict[str, Any]:
        """The values that differ from the defaults.

        Raises
        ------
        InputError
            If one of them cannot be used.
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
    made: QWidget
    if hint is bool:
        made = QCheckBox()
        made.toggled.connect(lambda _: edited())
    elif get_origin(hint) is Literal:
        made = QComboBox()
        made.addItems([str(one) for one in get_args(hint)])
        made.currentTextChanged.connect(lambda _: edited())
    elif hint is int and not optional and setting.default <= MOST:
        made = QSpinBox()
        made.setRange(0, MOST)
        made.valueChanged.connect(lambda _: edited())
    else:
        made = QLineEdit()
        made.setPlaceholderText("chosen by itself" if optional else "")
        made.setProperty("holds_list", get_origin(hint) is tuple)
        made.editingFinished.connect(edited)
    made.setToolTip(setting.help)
    return made


def _fill(editor: QWidget, value: Any) -> None:
    if isinstance(editor, QCheckBox):
        editor.setChecked(bool(value))
    elif isinstance(editor, QComboBox):
        editor.setCurrentText(str(value))
    elif isinstance(editor, QSpinBox):
        editor.setValue(int(value))
    elif isinstance(editor, QLineEdit):
        shown = ", ".join(map(str, value)) if isinstance(value, (tuple, list)) else value
        editor.setText("" if shown is None else str(shown))


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
        return text  # refused by the check that follows
    return value


def _without_none(hint: Any) -> tuple[Any, bool]:
    if get_origin(hint) in (Union, types.UnionType):
        kinds = [kind for kind in get_args(hint) if kind is not type(None)]
        return kinds[0], len(kinds) < len(get_args(hint))
    return hint, False

"""How to learn: an effort in plain words, or every setting."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from napari.utils.notifications import show_info
from qtpy.QtWidgets import QButtonGroup, QFileDialog, QFormLayout, QMenu, QRadioButton, QVBoxLayout, QWidget

from napari_sam_lora._qt.adapters.table import is_foreign
from napari_sam_lora._qt.finetuning.controller import FinetuningController
from napari_sam_lora._qt.finetuning.estimates import estimate_seconds
from napari_sam_lora._qt.finetuning.presets import PRESETS
from napari_sam_lora._qt.finetuning.settings_editor import SettingsEditor
from napari_sam_lora._qt.viewer.controller import Controller
from napari_sam_lora._qt.widgets.controls import Notice, Section, action, chooser, duration
from napari_sam_lora.session import CancelToken, TrainingPlane
from napari_sam_lora.session.training_export import read_settings, write_settings

MEANINGS = {
    "instances": "A number per object",
    "classes": "A number per class",
    "mask": "All is one object",
}
FILES = "Settings (*.yaml *.yml)"


class TrainingForm(QWidget):
    """Efforts with their estimated times, and all settings below.

    Parameters
    ----------
    controller : Controller
    finetuning : FinetuningController
    """

    def __init__(self, controller: Controller, finetuning: FinetuningController) -> None:
        super().__init__()
        self._controller, self._finetuning = controller, finetuning
        self.presets = {name: QRadioButton(preset.title) for name, preset in PRESETS.items()}
        self._words = {name: Notice(preset.words) for name, preset in PRESETS.items()}
        self._own = Notice("Settings of your own, see below.")
        self.meaning = chooser(MEANINGS, "What the numbers of your labels layers stand for.")
        self.begin = chooser(
            {"": "the base model"},
            "Learning from the base model on all labels so far is best: going on from an adapter is shorter, but it "
            "may forget, and its layers are those that it has.",
        )
        self.editor: SettingsEditor | None = None
        self.advanced = Section("All settings")
        self.advanced.setDuration(0)
        self._loading = Notice("One moment…")
        self.advanced.addWidget(self._loading)
        self.files = action("Load or save…", "Settings as a file, which trains without napari as well.", lambda: None)
        self.files.setMenu(self._menu())
        self._lay_out()
        self._connect()
        self._show_begin()
        self.refresh()

    def _lay_out(self) -> None:
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._group = QButtonGroup(self)
        for name, choice in self.presets.items():
            self._group.addButton(choice)
            choice.setToolTip(PRESETS[name].words)
            self._words[name].setContentsMargins(20, 0, 0, 0)
            layout.addWidget(choice)
            layout.addWidget(self._words[name])
        layout.addWidget(self._own)
        form = QFormLayout()
        form.addRow("Labels", self.meaning)
        form.addRow("Begin with", self.begin)
        layout.addLayout(form)
        layout.addWidget(self.advanced)
        layout.addWidget(self.files)

    def _connect(self) -> None:
        for name, choice in self.presets.items():
            choice.clicked.connect(partial(self._choose, name))
        self.meaning.activated.connect(self._on_meaning)
        self.begin.activated.connect(self._on_begin)
        self.advanced.toggled.connect(self._on_expanded)
        for signal in (self._controller.adapters_changed, self._controller.model_changed):
            signal.connect(self._show_begin)
        self._finetuning.settings_changed.connect(self.refresh)
        self._finetuning.set_changed.connect(self._show_times)

    def refresh(self) -> None:
        """Show the settings as they are now."""
        finetuning = self._finetuning
        self._group.setExclusive(False)
        for name, choice in self.presets.items():
            choice.setChecked(name == finetuning.preset)
        self._group.setExclusive(True)
        self._own.setVisible(not finetuning.preset)
        self.meaning.setCurrentIndex(self.meaning.findData(finetuning.values.get("labels", "instances")))
        if self.editor is not None:
            self.editor.show_values(finetuning.values)
        self._show_times()

    def _show_begin(self) -> None:
        """The adapters of the loaded model."""
        session = self._controller.session
        names = [one.name for one in self._finetuning.adapters() if not is_foreign(one, session.model)]
        if self._finetuning.resume_settings not in names:
            self._finetuning.resume_settings = ""
        self.begin.clear()
        self.begin.addItem("the base model", "")
        for name in names:
            self.begin.addItem(name, name)
        self.begin.setCurrentIndex(self.begin.findData(self._finetuning.resume_settings))

    def _on_begin(self, place: int) -> None:
        self._finetuning.resume_settings = str(self.begin.itemData(place))

    def _show_times(self) -> None:
        """Estimates need the model's speed, and torch, which is there by then."""
        finetuning = self._finetuning
        pairs = finetuning.included()
        if finetuning.speed is None or not pairs:
            for name, choice in self.presets.items():
                choice.setText(PRESETS[name].title)
            return
        from napari_sam_lora.training.config import TrainConfig  # noqa: PLC0415

        counts = sum(pair.planes for pair in pairs), sum(pair.objects for pair in pairs), len({p.image for p in pairs})
        for name, choice in self.presets.items():
            config = TrainConfig(**PRESETS[name].values)
            seconds = finetuning.pace * estimate_seconds(config, finetuning.speed, *counts)
            choice.setText(f"{PRESETS[name].title}, about {duration(seconds)}")
        if not finetuning.preset:
            seconds = finetuning.pace * estimate_seconds(
                TrainConfig.from_dict(finetuning.values), finetuning.speed, *counts
            )
            self._own.setText(f"Settings of your own, see below: about {duration(seconds)}.")

    def _choose(self, name: str, *_: object) -> None:
        self._finetuning.choose_preset(name)

    def _on_meaning(self, place: int) -> None:
        meaning = str(self.meaning.itemData(place))
        rest = {name: value for name, value in self._finetuning.values.items() if name != "labels"}
        self._finetuning.set_values(rest if meaning == "instances" else rest | {"labels": meaning})

    def _on_expanded(self, expanded: bool) -> None:
        if expanded and self.editor is None:
            self._finetuning.in_background("form", _import_settings, self._make_editor, self)

    def _make_editor(self, cls: type) -> None:
        if self.editor is None:
            self.editor = SettingsEditor(cls, "training")
            self.editor.show_values(self._finetuning.values)
            self.editor.edited.connect(self._finetuning.set_values)
            self._loading.hide()
            self.advanced.addWidget(self.editor)
            self.advanced.expand(animate=False)

    # Files

    def _menu(self) -> QMenu:
        menu = QMenu(self)
        for words, tip, call in (
            ("Load settings…", "From a YAML file.", self._choose_to_load),
            ("Save settings…", "As a YAML file.", partial(self._choose_to_save, False)),
            (
                "Save settings with images and labels…",
                "All that 'napari-sam-lora train' needs to make the same adapter without napari.",
                partial(self._choose_to_save, True),
            ),
        ):
            action = menu.addAction(words)
            if action is not None:
                action.setToolTip(tip)
                action.triggered.connect(lambda *_, call=call: call())
        return menu

    def _choose_to_load(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Load training settings", "", FILES)
        if path:
            self.load(Path(path))

    def _choose_to_save(self, with_data: bool) -> None:
        path, _ = QFileDialog.getSaveFileName(self, "Save training settings", "training.yaml", FILES)
        if path:
            self.save(Path(path), with_data)

    def load(self, path: Path) -> None:
        """Take the settings of a file; it is read in the background, for it needs torch."""
        self._finetuning.in_background("load", lambda token: read_settings(path), self._loaded, self)

    def _loaded(self, found: tuple[dict[str, object], str]) -> None:
        values, name = found
        self._finetuning.set_values(values)
        model = self._controller.session.model
        if name and model is not None and name != model.name:
            show_info(f"These settings were made for the model {name}; loaded is {model.name}.")

    def save(self, path: Path, with_data: bool) -> None:
        """Write the settings, and if wanted the images and labels, in the background."""
        with self._controller.report_errors():
            planes: tuple[TrainingPlane, ...] = ()
            if with_data:
                planes = self._finetuning.snapshot()
            session, resume_settings = self._controller.session, self._finetuning.resume_settings
            job = partial(
                write_settings,
                path=path,
                values=dict(self._finetuning.values),
                model=session.model,
                planes=planes,
                held_out=sorted(session.held_out) if with_data else (),
                start=session.adapters.get(resume_settings) if with_data and resume_settings else None,
            )
            self._finetuning.in_background("save", job, lambda saved: show_info(f"Saved {saved}."), self)


def _import_settings(token: CancelToken) -> type:
    from napari_sam_lora.training.config import TrainConfig  # noqa: PLC0415

    return TrainConfig

"""Form for the training settings: a preset, or every single setting."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from napari.utils.notifications import show_info
from qtpy.QtWidgets import QButtonGroup, QFileDialog, QFormLayout, QMenu, QRadioButton, QVBoxLayout, QWidget

from napari_sam_lora._qt.adapters.table import is_foreign
from napari_sam_lora._qt.finetuning.controller import FinetuningController
from napari_sam_lora._qt.finetuning.estimates import estimate_seconds
from napari_sam_lora._qt.finetuning.presets import PRESETS
from napari_sam_lora._qt.viewer.controller import Controller
from napari_sam_lora._qt.viewer.progress import format_duration
from napari_sam_lora._qt.widgets.controls import Notice, button, combo_box
from napari_sam_lora._qt.widgets.layout import Section
from napari_sam_lora._qt.widgets.parameter_form import ParameterForm
from napari_sam_lora.io.shared.endings import with_ending
from napari_sam_lora.parameters.schema import parameters_of
from napari_sam_lora.parameters.training import TrainConfig
from napari_sam_lora.session import TrainingPlane
from napari_sam_lora.session.training_export import read_settings, write_settings

MEANINGS = {
    "instances": "A number per object",
    "classes": "A number per class",
    "mask": "All is one object",
}
FILES = "Settings (*.yaml *.yml)"


class TrainingForm(QWidget):
    """Presets with their estimated times, and all settings below.

    Parameters
    ----------
    controller : Controller
    finetuning_controller : FinetuningController
    """

    def __init__(self, controller: Controller, finetuning_controller: FinetuningController) -> None:
        super().__init__()
        self._controller, self._finetuning_controller = controller, finetuning_controller
        self.presets = {name: QRadioButton(preset.title) for name, preset in PRESETS.items()}
        self._descriptions = {name: Notice(preset.description) for name, preset in PRESETS.items()}
        self._own = Notice("Settings of your own, see below.")
        self.meaning = combo_box(MEANINGS, "What the numbers in your labels layers stand for.")
        self.resume_from = combo_box(
            {"": "the base model"},
            "Starting from the base model with all labels so far is best. Going on from an adapter is faster, but it "
            "may forget what it has learned, and it keeps its LoRA layers (blocks and rank).",
        )
        self.editor: ParameterForm | None = None
        self._defaults = {one.name: one.default for one in parameters_of(TrainConfig)}
        self.advanced = Section("All settings")
        self.advanced.setDuration(0)
        self.files = button(
            "Load or save…",
            "Load the settings from a file, or save them; the file can be trained from without napari, too.",
            lambda: None,
        )
        self.files.setMenu(self._menu())
        self._lay_out()
        self._connect()
        self._show_adapters()
        self.refresh()

    def _lay_out(self) -> None:
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._group = QButtonGroup(self)
        for name, choice in self.presets.items():
            self._group.addButton(choice)
            choice.setToolTip(PRESETS[name].description)
            self._descriptions[name].setContentsMargins(20, 0, 0, 0)
            layout.addWidget(choice)
            layout.addWidget(self._descriptions[name])
        layout.addWidget(self._own)
        form = QFormLayout()
        form.addRow("Labels", self.meaning)
        form.addRow("Begin with", self.resume_from)
        layout.addLayout(form)
        layout.addWidget(self.advanced)
        layout.addWidget(self.files)

    def _connect(self) -> None:
        for name, choice in self.presets.items():
            choice.clicked.connect(partial(self._choose, name))
        self.meaning.activated.connect(self._on_meaning)
        self.resume_from.activated.connect(self._on_resume_from)
        self.advanced.toggled.connect(self._on_expanded)
        for signal in (self._controller.events.adapters_changed, self._controller.events.model_changed):
            signal.connect(self._show_adapters)
        self._finetuning_controller.settings_changed.connect(self.refresh)
        self._finetuning_controller.set_changed.connect(self._show_times)

    def refresh(self) -> None:
        """Show the current settings."""
        finetuning_controller = self._finetuning_controller
        self._group.setExclusive(False)
        for name, choice in self.presets.items():
            choice.setChecked(name == finetuning_controller.preset)
        self._group.setExclusive(True)
        self._own.setVisible(not finetuning_controller.preset)
        self.meaning.setCurrentIndex(self.meaning.findData(finetuning_controller.values.get("labels", "instances")))
        if self.editor is not None:
            self.editor.show_values(finetuning_controller.values)
        self._show_times()

    def _show_adapters(self) -> None:
        """List the adapters of the loaded model, from which training can go on."""
        session = self._controller.session
        names = [
            one.name for one in self._finetuning_controller.adapters() if not is_foreign(one, session.models.model)
        ]
        if self._finetuning_controller.resume_from not in names:
            self._finetuning_controller.resume_from = ""
        self.resume_from.clear()
        self.resume_from.addItem("the base model", "")
        for name in names:
            self.resume_from.addItem(name, name)
        self.resume_from.setCurrentIndex(self.resume_from.findData(self._finetuning_controller.resume_from))

    def _on_resume_from(self, index: int) -> None:
        self._finetuning_controller.resume_from = str(self.resume_from.itemData(index))
        self._finetuning_controller.count()

    def _show_times(self) -> None:
        """Show the estimated times once the speed of the model is measured."""
        finetuning_controller = self._finetuning_controller
        pairs = finetuning_controller.included()
        if finetuning_controller.speed is None or not pairs:
            for name, choice in self.presets.items():
                choice.setText(PRESETS[name].title)
            return
        counts = sum(pair.planes for pair in pairs), sum(pair.objects for pair in pairs), len({p.image for p in pairs})
        for name, choice in self.presets.items():
            config = TrainConfig(**PRESETS[name].values)
            seconds = finetuning_controller.pace * estimate_seconds(config, finetuning_controller.speed, *counts)
            choice.setText(f"{PRESETS[name].title}, about {format_duration(seconds)}")
        if not finetuning_controller.preset:
            seconds = finetuning_controller.pace * estimate_seconds(
                TrainConfig.from_dict(finetuning_controller.values), finetuning_controller.speed, *counts
            )
            self._own.setText(f"Settings of your own, see below: about {format_duration(seconds)}.")

    def _choose(self, name: str, *_: object) -> None:
        self._finetuning_controller.choose_preset(name)

    def _on_meaning(self, index: int) -> None:
        meaning = str(self.meaning.itemData(index))
        rest = {name: value for name, value in self._finetuning_controller.values.items() if name != "labels"}
        self._finetuning_controller.set_values(rest if meaning == "instances" else rest | {"labels": meaning})

    def _on_expanded(self, expanded: bool) -> None:
        if expanded and self.editor is None:
            self.editor = ParameterForm(TrainConfig, self._defaults)
            self.editor.show_values(self._finetuning_controller.values)
            self.editor.edited.connect(self._on_edited)
            self.advanced.addWidget(self.editor)
            self.advanced.expand(animate=False)

    def _on_edited(self, values: dict[str, object]) -> None:
        changed = {name: value for name, value in values.items() if value != self._defaults[name]}
        self._finetuning_controller.set_values(changed)

    # Files

    def _menu(self) -> QMenu:
        menu = QMenu(self)
        for title, tip, call in (
            ("Load settings…", "From a YAML file.", self._choose_to_load),
            ("Save settings…", "As a YAML file.", partial(self._choose_to_save, False)),
            (
                "Save settings with images and labels…",
                "Everything that 'napari-sam-lora train' needs to train the same adapter without napari.",
                partial(self._choose_to_save, True),
            ),
        ):
            action = menu.addAction(title)
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
        """Load settings from a file."""
        with self._controller.report_errors():
            values, name = read_settings(path)
            self._finetuning_controller.set_values(values)
            self._compare_model(name)

    def _compare_model(self, name: str) -> None:
        """Tell the user if the settings were saved for another model."""
        model = self._controller.session.models.model
        if name and model is not None and name != model.name:
            show_info(f"These settings were saved for the model {name}, but {model.name} is loaded.")

    def save(self, path: Path, with_data: bool) -> None:
        """Save the settings in the background, on request with the images and labels."""
        with self._controller.report_errors():
            planes: tuple[TrainingPlane, ...] = ()
            if with_data:
                planes = self._finetuning_controller.snapshot()
            session, resume_from = self._controller.session, self._finetuning_controller.resume_from
            job = partial(
                write_settings,
                path=with_ending(path, (".yaml", ".yml")),
                values=dict(self._finetuning_controller.values),
                model=session.models.model,
                planes=planes,
                held_out=sorted(session.training.held_out) if with_data else (),
                start=session.models.adapters.get(resume_from) if with_data and resume_from else None,
            )
            self._finetuning_controller.in_background("save", job, lambda saved: show_info(f"Saved {saved}."), self)

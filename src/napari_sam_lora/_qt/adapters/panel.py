"""The widget "Adapters": choose, import and export adapters, and segment again with the one in use."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_info, show_warning
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import QFileDialog, QMenu, QMessageBox

from napari_sam_lora._qt.adapters.import_questions import Answers, Question, import_or_ask
from napari_sam_lora._qt.adapters.resegmentation import ResegmentBox
from napari_sam_lora._qt.adapters.table import AdaptersTable, describe_entry, is_foreign
from napari_sam_lora._qt.automatic.files_panel import FolderBox
from napari_sam_lora._qt.finetuning.controller import finetuning_controller_of
from napari_sam_lora._qt.viewer.controller import controller_of
from napari_sam_lora._qt.widgets.controls import Notice, button
from napari_sam_lora._qt.widgets.layout import ScrollPanel, box, row
from napari_sam_lora.errors import InputError
from napari_sam_lora.io.shared.endings import with_ending
from napari_sam_lora.session import AdapterLibrary, CancelToken

if TYPE_CHECKING:
    from napari_sam_lora.api import Model
    from napari_sam_lora.lora.adapter import Adapter

ADAPTER_FILES = "Adapters (*.safetensors)"
FOREIGN_FILES = "Adapters (*.safetensors *.pth *.pt)"
CHECKPOINT_FILES = "SAM checkpoints (*.pth *.pt *.safetensors)"
NO_ADAPTERS = (
    "No adapters yet. Label about ten objects and fine-tune on them in the fine-tune widget, or import a file."
)


class AdaptersPanel(ScrollPanel):
    """Panel with the adapters of this computer; segments open images and files with them.

    Parameters
    ----------
    napari_viewer : napari.Viewer
    """

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__()
        self.controller = controller_of(napari_viewer)
        self.finetuning_controller = finetuning_controller_of(self.controller)
        self.state = Notice()
        self.empty = Notice()
        self.table = AdaptersTable(self.controller, self.finetuning_controller)
        self.about = Notice()
        self.use = button("Use", "Segment with the selected adapter from now on.", self._use)
        tip = "Switch between the base model and the adapter to compare their masks of the current prompts (Shift-M)."
        self.toggle = button("Compare", tip, self._toggle)
        self.delete = button("Delete…", "Delete the selected adapter and its file.", self._delete)
        self.more = button("Files…", "Import, export or merge adapters.", lambda: None)
        self.more.setMenu(self._menu())
        self.resegment = ResegmentBox(self.controller)
        self.folder = FolderBox(self.controller, self.finetuning_controller)
        for widget in (
            box(
                "Adapters",
                self.state,
                self.empty,
                self.table,
                self.about,
                row(self.use, self.toggle),
                row(self.delete, self.more),
            ),
            box("Segment again", self.resegment),
            box("Segment files", self.folder),
        ):
            self.column.addWidget(widget)
        self.column.addStretch(1)
        self.table.chosen.connect(self.refresh)
        self.controller.model_loader.loading_changed.connect(self.refresh)
        self.refresh()

    def showEvent(self, event: QShowEvent | None) -> None:  # noqa: N802 - Qt's name
        """Attach the session to the window."""
        super().showEvent(event)
        self.controller.attach(self)

    def on_dock_closed(self) -> None:
        """Detach the panel from the controller; shortcuts end with the last panel."""
        self.controller.detach(self)

    def refresh(self) -> None:
        """Show which adapter is in use, and enable the buttons that apply."""
        session, entry = self.controller.session, self.table.entry
        entries = self.finetuning_controller.adapters()
        in_use = (
            f"the adapter “{session.models.active}”" if session.models.active else "the base model, without an adapter"
        )
        loading = self.controller.model_loader.loading
        self.state.say(f"Loading the model {loading} …" if loading else f"Segmenting with {in_use}.")
        self.empty.say("" if entries else NO_ADAPTERS if session.models.adapters.is_read else "Reading the adapters…")
        foreign = entry is not None and is_foreign(entry, session.models.model)
        lines = [] if entry is None else describe_entry(entry)
        if foreign and entry is not None:
            lines.append(f"It belongs to another model. Load {entry.base_name} to use it.")
        if session.models.adapters.problems:
            lines.append("Files that cannot be read: " + " ".join(session.models.adapters.problems))
        self.about.say("\n".join(lines))
        is_active = entry is not None and entry.name == session.models.active
        self.use.setText("Stop using" if is_active else "Use")
        for widget in (self.use, self.delete):
            widget.setEnabled(entry is not None)
        self.toggle.setEnabled(bool(entries))
        for name, action in self.actions_by_name.items():
            action.setEnabled(name == "import" or entry is not None)

    def _use(self) -> None:
        entry, models = self.table.entry, self.controller.session.models
        if entry is not None and entry.name == models.active:
            models.deactivate()
        elif entry is not None:
            self.controller.with_model(partial(models.activate, entry.name), self)

    def _toggle(self) -> None:
        with self.controller.report_errors():
            self.controller.session.models.toggle()

    def _delete(self) -> None:
        entry = self.table.entry
        if entry is not None:
            question = f"Delete the adapter “{entry.name}” and its file? This cannot be undone."
            if QMessageBox.question(self, "Delete an adapter", question) == QMessageBox.StandardButton.Yes:
                with self.controller.report_errors():
                    self.controller.session.models.remove_adapter(entry.name)

    # Files

    def _menu(self) -> QMenu:
        menu, self.actions_by_name = QMenu(self), {}
        for name, title, call in (
            ("import", "Import an adapter…", self._choose_import),
            ("export", "Export the selected adapter…", self._choose_export),
            ("merge", "Merge it into a SAM checkpoint…", self._choose_merge),
        ):
            action = menu.addAction(title)
            assert action is not None
            action.triggered.connect(lambda *_, call=call: call())
            self.actions_by_name[name] = action
        return menu

    def _choose_import(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Import an adapter", "", FOREIGN_FILES)
        if path:
            self.import_file(Path(path))

    def _choose_export(self) -> None:
        entry = self.table.entry
        if entry is not None:
            suggested = f"{entry.name}.safetensors"
            path, _ = QFileDialog.getSaveFileName(self, "Export an adapter", suggested, ADAPTER_FILES)
            if path:
                self.export(entry.name, Path(path))

    def _choose_merge(self) -> None:
        entry = self.table.entry
        if entry is not None:
            suggested = f"{entry.name}.pth"
            path, _ = QFileDialog.getSaveFileName(self, "Merge into a checkpoint", suggested, CHECKPOINT_FILES)
            if path:
                self.merge(entry.name, Path(path))

    def import_file(self, path: Path, answers: Answers | None = None) -> None:
        """Import an adapter file, also of another project, in the background; asks for what the file does not tell."""
        self.controller.with_model(partial(self._import_now, path, answers or Answers()), self)

    def _import_now(self, path: Path, answers: Answers) -> None:
        models = self.controller.session.models
        job = partial(
            import_or_ask,
            library=models.adapters,
            path=path,
            loaded=models.need().loaded,
            answers=answers,
        )
        self.finetuning_controller.in_background("adapter", job, self._on_imported, self)

    def _on_imported(self, result: str | Question) -> None:
        if not isinstance(result, str):
            with self.controller.report_errors():
                answers = result.ask(self)
                if answers is not None:
                    self.import_file(result.path, answers)
            return
        self.table.choose(result)
        entry = self.controller.session.models.adapters.entry(result)
        if is_foreign(entry, self.controller.session.models.model):
            show_warning(f"“{result}” was trained on {entry.base_name}. Load that model to use it.")

    def export(self, name: str, path: Path) -> None:
        """Export an adapter to a file, in the background."""
        with self.controller.report_errors():
            adapters, target = self.controller.session.models.adapters, with_ending(path, (".safetensors",))
            job = partial(_export, adapters=adapters, name=name, path=target)
            self.finetuning_controller.in_background("adapter", job, show_info, self.finetuning_controller)

    def merge(self, name: str, path: Path) -> None:
        """Merge an adapter into the base model and save it as a SAM checkpoint, in the background."""
        with self.controller.report_errors():
            session, target = self.controller.session, with_ending(path, (".pth", ".pt", ".safetensors"))
            job = partial(_merge, adapter=session.models.adapters.get(name), model=session.models.model, path=target)
            self.finetuning_controller.in_background("merge", job, show_info, self.finetuning_controller)


def _export(token: CancelToken, *, adapters: AdapterLibrary, name: str, path: Path) -> str:
    return f"Saved {adapters.export(name, path)}."


def _merge(token: CancelToken, *, adapter: Adapter, model: Model | None, path: Path) -> str:
    from napari_sam_lora.lora.merge import save_merged  # noqa: PLC0415  imports torch
    from napari_sam_lora.model.input_size import native_positions, stride  # noqa: PLC0415

    if model is None:
        raise InputError(f"Load the model {adapter.info.base_name} first.", code="no-model")
    sam, trained_at = model.loaded.sam, adapter.info.input_size
    tree = adapter.apply(sam, model.name, model.loaded.weights_hash)
    saved = save_merged(path, tree)
    if sam.image_encoder.pos_embed is None:  # such an encoder runs at any size
        return f"Saved {saved}."
    native = int(native_positions(sam).shape[1]) * stride(sam)
    note = f" Other programs run it at {native} pixels, but the adapter was trained at {trained_at}."
    return f"Saved {saved}.{note if native != trained_at else ''}"

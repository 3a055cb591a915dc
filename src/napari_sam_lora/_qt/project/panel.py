"""Buttons of the viewer's project: save, open and export, and restore a session that ended without a project."""

from __future__ import annotations

from pathlib import Path

from napari.utils.notifications import show_info
from qtpy.compat import isalive
from qtpy.QtWidgets import QFileDialog, QMessageBox, QVBoxLayout, QWidget

from napari_sam_lora._qt.npe2.writers import KINDS, file_of, kind_of, save_layer
from napari_sam_lora._qt.project.controller import project_controller_of
from napari_sam_lora._qt.viewer.controller import Controller
from napari_sam_lora._qt.widgets.controls import Notice, button
from napari_sam_lora._qt.widgets.layout import row
from napari_sam_lora.io.images import stem
from napari_sam_lora.io.writers import default_ending
from napari_sam_lora.session.project.image_references import FoundImage


class ProjectBox(QWidget):
    """Buttons to save and open projects, and a question if there is a session to restore.

    Parameters
    ----------
    controller : Controller
    """

    def __init__(self, controller: Controller) -> None:
        super().__init__()
        self._controller = controller
        self.project = project_controller_of(controller)
        self.question, self.state = Notice(), Notice()
        self.restore = button("Restore", "Open the images, labels and prompts of this session again.", self._restore)
        self.discard = button("Discard…", "Delete this session for good.", self._discard)
        self.answers = row(self.restore, self.discard)
        tip = (
            "Save labels, prompts, adapters and settings in a folder. From then on they are saved there automatically."
        )
        self.save = button("Save project…", tip, self._save)
        tip = "Write the labels that objects are added to as TIFF, NIfTI, PNG, COCO, a table or a prompt file."
        self.export = button("Export labels…", tip, self._export)
        self.open = button("Open project…", "Open the images, labels and prompts of a project folder.", self._open)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for widget in (self.question, self.answers, row(self.save, self.open), self.export, self.state):
            layout.addWidget(widget)
        self.project.changed.connect(self.refresh)
        controller.active_layers.target_chosen.connect(self.refresh)
        self.refresh()

    def refresh(self) -> None:
        """Update texts and buttons."""
        offered = self.project.offered
        self.question.say(offered[0].question if offered else "")
        self.answers.setVisible(bool(offered))
        self.save.setText("Save project…" if self.project.folder is None else "Save project")
        self.state.say(self.project.state)
        self.export.setEnabled(self._controller.active_layers.target_layer is not None)

    def ask(self, found: FoundImage) -> Path | None:
        """Ask where an image is that has changed or is missing; works also after the panel was closed."""
        parent = self if isalive(self) else None
        if found.state == "changed" and found.path is not None:
            answer = QMessageBox.question(parent, "The image has changed", f"{found.question}\n\nOpen it anyway?")
            return found.path if answer == QMessageBox.StandardButton.Yes else None
        path, _ = QFileDialog.getOpenFileName(parent, found.question, "", "All files (*)")
        return Path(path) if path else None

    def _restore(self) -> None:
        if self.project.offered:
            self.project.restore(self.project.offered[0], self.ask)

    def _discard(self) -> None:
        if self.project.offered:
            session = self.project.offered[0]
            question = f"Delete this session with the labels {', '.join(session.labels)} for good?"
            if QMessageBox.question(self, "Discard a session", question) == QMessageBox.StandardButton.Yes:
                self.project.discard(session)

    def _save(self) -> None:
        if self.project.folder is not None:
            self.project.save()
            return
        folder = QFileDialog.getExistingDirectory(self, "Choose an empty folder for the project")
        if folder:
            self.project.save(Path(folder))

    def _open(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Choose a project folder")
        if folder:
            self.project.open(Path(folder), self.ask)

    def _export(self) -> None:
        layer = self._controller.active_layers.target_layer
        if layer is None:
            return
        own = default_ending(file_of(self._controller.active_layers.image_of(layer)))
        suggested, filters = stem(Path(str(layer.name))) + own, ";;".join(KINDS)
        path, kind = QFileDialog.getSaveFileName(self, "Export labels", suggested, filters, kind_of(Path(suggested)))
        if path:
            with self._controller.report_errors():
                self._controller.layers.flush()
                written = save_layer(self._controller, layer, Path(path), kind)
                show_info(f"Saved {written[0]}" + (f" and {len(written) - 1} more." if len(written) > 1 else "."))

"""Controller of the project of one viewer: saves it automatically while working, and opens projects."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from napari.utils.notifications import show_info, show_warning
from qtpy.compat import isalive
from qtpy.QtCore import QObject, QTimer, Signal

from napari_sam_lora._qt.project.layers import AskForImage, extras_of, open_in_viewer
from napari_sam_lora._qt.viewer.background_jobs import BackgroundJobs
from napari_sam_lora._qt.viewer.controller import Controller
from napari_sam_lora._qt.viewer.preferences import preferences
from napari_sam_lora.errors import InputError
from napari_sam_lora.model.download import cache_folder
from napari_sam_lora.session import Session
from napari_sam_lora.session.project.folder import read_manifest
from napari_sam_lora.session.project.loader import Project, active_adapter, history_of, open_project
from napari_sam_lora.session.project.recovery import Recovery, Unfinished
from napari_sam_lora.session.project.saver import ProjectSaver
from napari_sam_lora.session.project.snapshot import Extras

TICK_MS = 1000
CLOSE_SECONDS = 10.0


def project_controller_of(controller: Controller) -> ProjectController:
    """Return the project controller of a viewer, made on first use; it lives as long as the viewer's controller."""
    existing = controller.findChild(ProjectController)
    return existing if isinstance(existing, ProjectController) else ProjectController(controller)


class ProjectController(QObject):
    """Project of one viewer.

    Until the user saves a project, the session is saved automatically into a recovery folder (if the preference
    *Save while working* is on). The folder is removed once the project is on disk; a session that ends without a
    project is offered to be restored later.

    Signals
    -------
    changed : ()
        `state`, `folder` or `offered`.

    Attributes
    ----------
    state : str
        One sentence for the user: where the project is saved, or what is wrong; empty if there is nothing to say.
    problem : str
        Why work is not saved, for programs and tests: "recovery-not-writable" or "save-failed"; empty once it is saved.
    """

    changed = Signal()
    _saved = Signal(int)
    _failed = Signal(str)

    def __init__(self, controller: Controller) -> None:
        super().__init__(controller)
        self._controller = controller
        self._recovery = Recovery(cache_folder() / "sessions")
        self._saver: ProjectSaver | None = None
        self._recovery_folder: Path | None = None  # where the saver writes, unless the user has chosen a folder
        self._former_folders: set[Path] = set()  # recovery folders that are removed once the project is on disk
        self.state = self.problem = ""
        self._model_source = self._loading_source = ""
        self._offered = tuple(self._recovery.unfinished())
        self._jobs = BackgroundJobs(controller)
        self._timer = QTimer(self)
        self._timer.setInterval(TICK_MS)
        self._timer.timeout.connect(self._tick)
        self._saved.connect(self._on_saved)
        self._failed.connect(self._on_failed)
        controller.model_loader.loading_changed.connect(self._on_loading)
        controller.events.model_changed.connect(self._on_model)
        controller.layers.objects_changed.connect(self._start_autosave)
        controller.drawing.draft_changed.connect(self._start_autosave)
        controller.closed.connect(self.close)

    @property
    def offered(self) -> tuple[Unfinished, ...]:
        """Sessions that ended without a project and can be restored."""
        return self._offered

    @property
    def folder(self) -> Path | None:
        """Folder of the project that the user has saved or opened; None if there is none yet."""
        return None if self._saver is None or self._recovery_folder is not None else self._saver.folder

    def save(self, folder: Path | None = None) -> None:
        """Save a project into a folder, by default the current one; from then on it is saved there automatically."""
        with self._controller.report_errors():
            self._controller.layers.flush()
            if folder is not None and folder != self.folder:
                history = () if self._saver is None else self._saver.history
                saver = ProjectSaver(self._controller.session, folder, self._extras(), history=history)
                self._use(saver, recovery_folder=None)
            if self._saver is not None and self._recovery_folder is None:
                self._saver.save()
                self._warn_of_partial_labels()

    def open(self, folder: Path, ask: AskForImage) -> None:
        """Open a project in the viewer and save it there from then on; its adapters are read in the background."""
        with self._controller.report_errors():
            if not read_manifest(folder)["adapters"]:
                self._open_now(folder, ask)
                return
            self._set_state(f"Opening {folder.name} …")
            self._jobs.in_background(
                "project",
                lambda token: _load_adapters(self._controller.session),
                lambda _: self._open_now(folder, ask),
                self,
                failed=lambda: self._set_state(""),
            )

    def restore(self, offered: Unfinished, ask: AskForImage) -> None:
        """Open a session that is offered."""
        self._offered = tuple(one for one in self._offered if one != offered)
        self.open(offered.folder, ask)
        self.changed.emit()

    def discard(self, offered: Unfinished) -> None:
        """Delete a session that is offered."""
        self._offered = tuple(one for one in self._offered if one != offered)
        self._recovery.end(offered.folder)
        self.changed.emit()

    def close(self) -> None:
        """Save what has changed; a session without a project can be restored later."""
        self._jobs.end_background()
        self._controller.layers.flush()
        project_saver = None if self._recovery_folder is not None else self._saver
        is_saved = self._stop()
        if project_saver is not None and not is_saved:  # such as on a disk that is full or was removed
            self._save_for_recovery()
        for folder in self._former_folders:
            if project_saver is not None and is_saved:
                self._recovery.end(folder)
            else:
                self._recovery.leave(folder)

    # Opening

    def _open_now(self, folder: Path, ask: AskForImage) -> None:
        with self._controller.report_errors():
            self._set_state("")
            self._finish_saving(folder)
            project = open_project(folder)
            history = () if self._saver is None else self._saver.history
            self._stop()
            is_recovery = folder.parent == self._recovery.root
            if is_recovery:
                self._recovery.adopt(folder)
            problems = open_in_viewer(project, self._controller, ask)
            history = (*history_of(project, self._controller.session), *history)
            saver = ProjectSaver(self._controller.session, folder, self._extras(), history=history)
            self._use(saver, recovery_folder=folder if is_recovery else None)
            self._load_model(project)
            if problems:
                show_warning("\n".join(problems))

    def _finish_saving(self, folder: Path) -> None:
        """Write the last changes of the current project, if that is the one that will be opened again."""
        if self._saver is not None and self._saver.folder.resolve() == folder.resolve():
            self._controller.layers.flush()
            if not self._saver.flush(CLOSE_SECONDS):
                raise InputError(
                    f"{folder} cannot be opened, because its last changes could not be saved there. Check that the "
                    "disk is available and not full.",
                    code="project-not-saved",
                )

    def _load_model(self, project: Project) -> None:
        """Load the model of the project unless it is loaded, then activate the project's adapter."""
        wanted, session = project.manifest.get("model"), self._controller.session
        if not wanted:
            return

        def activate(_: object = None) -> None:
            with self._controller.report_errors():
                if active := active_adapter(project, session):
                    session.models.activate(active)

        if session.models.model is not None and session.models.model.loaded.weights_hash == wanted["hash"]:
            activate()
            return
        show_info(f"Loading the model of the project, {wanted['name']}.")
        source = str(project.manifest.get("settings", {}).get("model_source") or wanted["name"])
        loading = self._controller.model_loader.load_model(source, input_size=wanted.get("input_size"))
        self._controller.events.when_done(loading, activate)

    def _on_loading(self, name: str) -> None:
        self._loading_source = name or self._loading_source

    def _on_model(self) -> None:
        self._model_source = self._loading_source

    # Saving

    def _start_autosave(self, *_: object) -> None:
        """Start to save into a recovery folder with the first object or prompt."""
        session = self._controller.session
        if self._saver is None and preferences().autosave and (session.labels or session.prompts.drafts):
            try:
                folder = self._recovery.begin()
            except OSError as error:
                reason = f"{self._recovery.root} cannot be written ({error.strerror or type(error).__name__})"
                message = f"Your work is not saved automatically: {reason}. Save it as a project."
                self._warn_once("recovery-not-writable", message)
                return
            self._use(ProjectSaver(session, folder, self._extras()), recovery_folder=folder)

    def _use(self, saver: ProjectSaver, recovery_folder: Path | None) -> None:
        self._stop()
        self._saver, self._recovery_folder = saver, recovery_folder
        saver.saved.connect(self._emit_saved)
        saver.failed.connect(self._emit_failed)
        self._timer.start()
        self.changed.emit()

    def _stop(self) -> bool:
        """Close the current saver; return whether everything is on disk."""
        saver, self._saver = self._saver, None
        recovery_folder, self._recovery_folder = self._recovery_folder, None
        self._timer.stop()
        if recovery_folder is not None:
            self._former_folders.add(recovery_folder)
        if saver is None:
            return True
        is_saved = saver.close(CLOSE_SECONDS)
        saver.saved.disconnect(self._emit_saved)
        saver.failed.disconnect(self._emit_failed)
        return is_saved

    def _save_for_recovery(self) -> None:
        with suppress(OSError):
            folder = self._recovery.begin()
            self._former_folders.add(folder)
            ProjectSaver(self._controller.session, folder, self._extras()).close(CLOSE_SECONDS)

    def _extras(self) -> Extras:
        return extras_of(self._controller, lambda: self._model_source)

    def _warn_of_partial_labels(self) -> None:
        large = [name for name, labels in self._controller.session.labels.items() if labels.is_partial]
        if large:
            show_warning(
                f"{', '.join(large)}: too large to be saved completely. The project contains the planes that were "
                "shown or changed; press “Export labels…” to save all planes."
            )

    def _tick(self) -> None:
        if self._saver is not None:
            self._saver.tick()

    def _emit_saved(self, number: int) -> None:
        """Pass on to the GUI thread; called in the writing thread."""
        if isalive(self):
            self._saved.emit(number)

    def _emit_failed(self, reason: str) -> None:
        """Pass on to the GUI thread; called in the writing thread."""
        if isalive(self):
            self._failed.emit(reason)

    def _on_saved(self, number: int) -> None:
        self.problem = ""
        if self._saver is not None and self._saver.has_saved:
            former, self._former_folders = self._former_folders - {self._saver.folder}, set()
            for folder in former:
                self._recovery.end(folder)
        if self.folder is not None:
            self._set_state(f"Saved in {self.folder}.")

    def _on_failed(self, reason: str) -> None:
        self._warn_once("save-failed", f"The project could not be saved: {reason}")

    def _warn_once(self, problem: str, message: str) -> None:
        """Show a warning, but not again while the problem persists."""
        self.problem = problem
        if self.state != message:
            show_warning(message)
            self._set_state(message)

    def _set_state(self, state: str) -> None:
        self.state = state
        self.changed.emit()


def _load_adapters(session: Session) -> None:
    """Import torch and read the adapters; in a worker thread, since it would block the window for seconds."""
    import torch  # noqa: F401, PLC0415

    session.models.adapters.entries()

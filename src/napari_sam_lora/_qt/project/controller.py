"""Saving what one viewer holds: by itself while working, and as a project when asked."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from napari.utils.notifications import show_info, show_warning
from qtpy.compat import isalive
from qtpy.QtCore import QObject, QTimer, Signal

from napari_sam_lora._qt.project.layers import Ask, extras_of, lay_out
from napari_sam_lora._qt.viewer.background_jobs import Background
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
    """Return the viewer's controller of this panel, made on first use; it lives as long as its parent."""
    found = controller.findChild(ProjectController)
    return found if isinstance(found, ProjectController) else ProjectController(controller)


class ProjectController(QObject):
    """The project of one viewer.

    Until the user saves a project, a session saves itself into a folder of its own (if the preference *Save while
    working* is on). It is removed when the project is on disk; a session that ends without one is offered later.

    Signals
    -------
    changed : ()
        What is saved where, or what can be restored.

    Attributes
    ----------
    state : str
        In plain words.
    """

    changed = Signal()
    _saved = Signal(int)
    _failed = Signal(str)

    def __init__(self, controller: Controller) -> None:
        super().__init__(controller)
        self._controller = controller
        self._recovery = Recovery(cache_folder() / "sessions")
        self._own: Path | None = None
        self._former: set[Path] = set()  # folders of sessions that go on in a project, until that is on disk
        self._saver: ProjectSaver | None = None
        self.state = ""
        self._source = self._loading = ""
        self._offered = tuple(self._recovery.unfinished())
        self._reads = Background(controller)
        self._timer = QTimer(self)
        self._timer.setInterval(TICK_MS)
        self._timer.timeout.connect(self._tick)
        self._saved.connect(self._on_saved)
        self._failed.connect(self._on_failed)
        controller.loading_changed.connect(self._on_loading)
        controller.model_changed.connect(self._on_model)
        controller.objects_changed.connect(self._begin)
        controller.draft_changed.connect(self._begin)
        controller.closed.connect(self.close)

    @property
    def offered(self) -> tuple[Unfinished, ...]:
        """Sessions that ended without having become a project."""
        return self._offered

    @property
    def folder(self) -> Path | None:
        """Of the project that the user has saved or opened; None if there is none yet."""
        return None if self._saver is None or self._own is not None else self._saver.folder

    def save(self, folder: Path | None = None) -> None:
        """Save a project, into the present folder or another; it goes on being saved there while working."""
        with self._controller.report_errors():
            self._controller.flush()
            if folder is not None and folder != self.folder:
                history = () if self._saver is None else self._saver.history
                self._use(ProjectSaver(self._controller.session, folder, self._extras(), history=history), own=None)
            if self._saver is not None and self._own is None:
                self._saver.save()
                self._tell_what_is_left_out()

    def open(self, folder: Path, ask: Ask) -> None:
        """Open a project in the viewer, and go on with it; adapters are read in the background before that."""
        with self._controller.report_errors():
            if not read_manifest(folder)["adapters"]:
                self._go_on(folder, ask)
                return
            self._say_opening(f"Opening {folder.name} …")
            self._reads.in_background(
                "project",
                lambda token: _ready_for_adapters(self._controller.session),
                lambda _: self._go_on(folder, ask),
                self,
                failed=lambda: self._say_opening(""),
            )

    def _go_on(self, folder: Path, ask: Ask) -> None:
        """Lay a project out as it is now, and save there from now on."""
        with self._controller.report_errors():
            self._say_opening("")
            self._finish_saving(folder)
            project = open_project(folder)
            history = () if self._saver is None else self._saver.history
            self._stop()
            is_own = folder.parent == self._recovery.root
            if is_own:
                self._recovery.adopt(folder)
            problems = lay_out(project, self._controller, ask)
            history = (*history_of(project, self._controller.session), *history)
            saver = ProjectSaver(self._controller.session, folder, self._extras(), history=history)
            self._use(saver, folder if is_own else None)
            self._load_model(project)
            if problems:
                show_warning("\n".join(problems))

    def _finish_saving(self, folder: Path) -> None:
        """What has changed in a project that is to be opened once more is to be in it."""
        if self._saver is not None and self._saver.folder.resolve() == folder.resolve():
            self._controller.flush()
            if not self._saver.flush(CLOSE_SECONDS):
                raise InputError(f"{folder} cannot be opened: its last changes could not be saved there.")

    def restore(self, offered: Unfinished, ask: Ask) -> None:
        """Open a session that is offered."""
        self._offered = tuple(one for one in self._offered if one != offered)
        self.open(offered.folder, ask)
        self.changed.emit()

    def discard(self, offered: Unfinished) -> None:
        """Remove a session that is offered."""
        self._offered = tuple(one for one in self._offered if one != offered)
        self._recovery.end(offered.folder)
        self.changed.emit()

    def close(self) -> None:
        """Save what has changed; a session that has not become a project can be restored."""
        self._reads.end_background()
        self._controller.flush()
        saver = None if self._own is not None else self._saver
        is_saved = self._stop()
        if saver is not None and not is_saved:  # such as on a disk that is full or gone
            self._keep_elsewhere()
        for folder in self._former:
            if saver is not None and is_saved:
                self._recovery.end(folder)
            else:
                self._recovery.leave(folder)

    def _on_loading(self, name: str) -> None:
        self._loading = name or self._loading

    def _on_model(self) -> None:
        self._source = self._loading

    def _begin(self, *_: object) -> None:
        """Begin to save with the first object or prompt."""
        session = self._controller.session
        if self._saver is None and preferences().autosave and (session.labels or session.drafts):
            try:
                own = self._recovery.begin()
            except OSError as error:
                why = f"{self._recovery.root} cannot be written ({error.strerror or type(error).__name__})"
                self._say(f"Work does not save itself: {why}. Save a project.")
                return
            self._use(ProjectSaver(session, own, self._extras()), own)

    def _use(self, saver: ProjectSaver, own: Path | None) -> None:
        self._stop()
        self._saver, self._own = saver, own
        saver.saved.connect(self._tell_saved)
        saver.failed.connect(self._tell_failed)
        self._timer.start()
        self.changed.emit()

    def _tell_what_is_left_out(self) -> None:
        large = [name for name, labels in self._controller.session.labels.items() if labels.is_partial]
        if large:
            show_warning(
                f"{', '.join(large)}: too large to be saved as a whole. The project has the planes that were shown or "
                "changed; press “Export labels…” to keep the others too."
            )

    def _keep_elsewhere(self) -> None:
        with suppress(OSError):
            own = self._recovery.begin()
            self._former.add(own)
            ProjectSaver(self._controller.session, own, self._extras()).close(CLOSE_SECONDS)

    def _extras(self) -> Extras:
        return extras_of(self._controller, lambda: self._source)

    def _stop(self) -> bool:
        """Let go of the present saver; whether all that it had to save is on disk."""
        saver, self._saver = self._saver, None
        own, self._own = self._own, None
        self._timer.stop()
        if own is not None:
            self._former.add(own)
        if saver is None:
            return True
        is_saved = saver.close(CLOSE_SECONDS)
        saver.saved.disconnect(self._tell_saved)
        saver.failed.disconnect(self._tell_failed)
        return is_saved

    def _tell_saved(self, number: int) -> None:
        """In the writing thread."""
        if isalive(self):
            self._saved.emit(number)

    def _tell_failed(self, words: str) -> None:
        """In the writing thread."""
        if isalive(self):
            self._failed.emit(words)

    def _tick(self) -> None:
        if self._saver is not None:
            self._saver.tick()

    def _on_saved(self, number: int) -> None:
        if self._saver is not None and self._saver.has_saved:
            former, self._former = self._former - {self._saver.folder}, set()
            for folder in former:
                self._recovery.end(folder)
        if self.folder is not None:
            self.state = f"Saved in {self.folder}."
            self.changed.emit()

    def _on_failed(self, words: str) -> None:
        self._say(f"The project could not be saved: {words}")

    def _say_opening(self, words: str) -> None:
        self.state = words
        self.changed.emit()

    def _say(self, problem: str) -> None:
        """Warn once of what goes on going wrong."""
        if self.state != problem:
            show_warning(problem)
            self.state = problem
            self.changed.emit()

    def _load_model(self, project: Project) -> None:
        """The model of the project, and then its adapter, unless that model is loaded already."""
        wanted, session = project.manifest.get("model"), self._controller.session
        if not wanted:
            return

        def activate() -> None:
            self._controller.model_changed.disconnect(activate)
            with self._controller.report_errors():
                if active := active_adapter(project, session):
                    session.activate(active)

        self._controller.model_changed.connect(activate)
        if session.model is not None and session.model.loaded.weights_hash == wanted["hash"]:
            activate()
            return
        show_info(f"Loading the model of the project, {wanted['name']}.")
        source = str(project.manifest.get("settings", {}).get("model_source") or wanted["name"])
        self._controller.load_model(source, input_size=wanted.get("input_size"))


def _ready_for_adapters(session: Session) -> None:
    """In a thread: importing torch, and the adapters that are there, keep a window waiting for seconds."""
    import torch  # noqa: F401, PLC0415

    session.adapters.entries()

"""Saving what one viewer holds: by itself while working, and as a project when asked."""

from __future__ import annotations

from pathlib import Path

from napari.utils.notifications import show_info, show_warning
from qtpy.compat import isalive
from qtpy.QtCore import QObject, QTimer, Signal

from napari_sam_lora._qt.controller import Controller
from napari_sam_lora._qt.project_layers import Ask, extras_of, lay_out
from napari_sam_lora._qt.settings import preferences
from napari_sam_lora.model.download import cache_folder
from napari_sam_lora.session.project import ProjectSaver
from napari_sam_lora.session.project_opening import Project, open_project
from napari_sam_lora.session.recovery import Recovery, Unfinished

TICK_MS = 1000
CLOSE_SECONDS = 10.0


def project_desk_of(controller: Controller) -> ProjectDesk:
    """The desk of a controller, made when first asked for; it ends with the controller."""
    found = controller.findChild(ProjectDesk)
    return found if isinstance(found, ProjectDesk) else ProjectDesk(controller)


class ProjectDesk(QObject):
    """The project of one viewer.

    Until the user saves a project, a session saves itself into a folder of its own (if the preference *Save while
    working* is on), which is removed when the viewer is closed and offered at the next start if it never was.

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
        self._saver: ProjectSaver | None = None
        self.state = ""
        self._source = self._loading = ""
        self._offered = tuple(self._recovery.unfinished())
        self._timer = QTimer(self)
        self._timer.setInterval(TICK_MS)
        self._timer.timeout.connect(self._tick)
        self._saved.connect(self._on_saved)
        self._failed.connect(self._on_failed)
        controller.loading_changed.connect(self._on_loading)
        controller.model_changed.connect(self._on_model)
        controller.objects_changed.connect(self._on_objects)
        controller.draft_changed.connect(self._begin)
        controller.closed.connect(self.close)

    @property
    def offered(self) -> tuple[Unfinished, ...]:
        """Sessions that ended before their time."""
        return self._offered

    @property
    def folder(self) -> Path | None:
        """Of the project that the user has saved or opened; None if there is none yet."""
        return None if self._saver is None or self._own is not None else self._saver.folder

    def save(self, folder: Path | None = None) -> None:
        """Save a project, into the present folder or another; it goes on being saved there while working."""
        with self._controller.told():
            self._controller.flush()
            if folder is not None and folder != self.folder:
                self._use(
                    ProjectSaver(self._controller.session, folder, extras_of(self._controller, lambda: self._source)),
                    own=None,
                )
            if self._saver is not None and self._own is None:
                self._saver.save()

    def open(self, folder: Path, ask: Ask) -> None:
        """Open a project in the viewer, and go on with it."""
        with self._controller.told():
            project = open_project(folder)
            self._stop()
            problems = lay_out(project, self._controller, ask)
            history = project.manifest.get("training", ())
            extras = extras_of(self._controller, lambda: self._source)
            is_own = folder.parent == self._recovery.root
            self._use(
                ProjectSaver(self._controller.session, folder, extras, history=history), folder if is_own else None
            )
            self._load_model(project)
            if problems:
                show_warning("\n".join(problems))

    def restore(self, offered: Unfinished, ask: Ask) -> None:
        """Open a session that ended before its time."""
        self._offered = tuple(one for one in self._offered if one != offered)
        self.open(offered.folder, ask)
        self.changed.emit()

    def discard(self, offered: Unfinished) -> None:
        """Remove a session that ended before its time."""
        self._offered = tuple(one for one in self._offered if one != offered)
        self._recovery.end(offered.folder)
        self.changed.emit()

    def close(self) -> None:
        """Save what has changed; a session that was not saved as a project was closed by its user."""
        self._controller.flush()
        self._stop()

    def _on_loading(self, name: str) -> None:
        self._loading = name or self._loading

    def _on_model(self) -> None:
        self._source = self._loading

    def _on_objects(self, name: str) -> None:
        layer = self._controller.layer_of(name)
        if self._saver is not None and layer is not None and layer.n_edit_dimensions > 2:
            self._saver.reread(name)  # a brush of three dimensions paints planes that are not shown
        self._begin()

    def _begin(self, *_: object) -> None:
        """Begin to save with the first object or prompt."""
        session = self._controller.session
        if self._saver is None and preferences().autosave and (session.labels or session.drafts):
            with self._controller.told():
                own = self._recovery.begin()
                self._use(ProjectSaver(session, own, extras_of(self._controller, lambda: self._source)), own)

    def _use(self, saver: ProjectSaver, own: Path | None) -> None:
        self._stop()
        self._saver, self._own = saver, own
        saver.saved.connect(self._tell_saved)
        saver.failed.connect(self._tell_failed)
        self._timer.start()
        self.changed.emit()

    def _stop(self) -> None:
        saver, self._saver = self._saver, None
        own, self._own = self._own, None
        self._timer.stop()
        if saver is not None:
            saver.close(CLOSE_SECONDS)
            saver.saved.disconnect(self._tell_saved)
            saver.failed.disconnect(self._tell_failed)
        if own is not None:
            self._recovery.end(own)

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
        if self.folder is not None:
            self.state = f"Saved in {self.folder}."
            self.changed.emit()

    def _on_failed(self, words: str) -> None:
        if self.state != words:
            show_warning(f"The project could not be saved: {words}")
        self.state = words
        self.changed.emit()

    def _load_model(self, project: Project) -> None:
        """The model of the project, and then its adapter, unless that model is loaded already."""
        wanted, active = project.manifest.get("model"), str(project.manifest.get("active", ""))
        session = self._controller.session
        if not wanted:
            return

        def activate() -> None:
            self._controller.model_changed.disconnect(activate)
            with self._controller.told():
                if active and any(entry.name == active for entry in session.adapters.entries()):
                    session.activate(active)

        self._controller.model_changed.connect(activate)
        if session.model is not None and session.model.loaded.weights_hash == wanted["hash"]:
            activate()
            return
        show_info(f"Loading the model of the project, {wanted['name']}.")
        source = str(project.manifest.get("settings", {}).get("model_source") or wanted["name"])
        self._controller.load_model(source, input_size=wanted.get("input_size"))

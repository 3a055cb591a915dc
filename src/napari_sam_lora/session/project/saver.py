"""Saving a session as a project, on demand and automatically."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from psygnal import Signal, SignalInstance

from napari_sam_lora.errors import InputError
from napari_sam_lora.session.jobs.threads import start_thread
from napari_sam_lora.session.jobs.user_messages import user_message
from napari_sam_lora.session.jobs.worker import emit_safely
from napari_sam_lora.session.labels.label_set import LabelSet
from napari_sam_lora.session.project.folder import ProjectFolder, Snapshot
from napari_sam_lora.session.project.image_references import ImageReference, hash_file
from napari_sam_lora.session.project.serialisation import Plain
from napari_sam_lora.session.project.snapshot import Extras, take_snapshot, training_to_plain
from napari_sam_lora.session.training_job import TrainingEvent

if TYPE_CHECKING:
    from napari_sam_lora.session.session import Session

# Seconds between two automatic saves.
DELAY = 2.0


@dataclass(eq=False)
class _Waiting:
    """Work for the writing thread, shared with the owner's thread."""

    snapshot: Snapshot | None = None
    failed: Snapshot | None = None
    busy: bool = False
    closed: bool = False
    changed: threading.Condition = field(default_factory=threading.Condition)


class ProjectSaver:
    """Keeps a project folder up to date with a session.

    Snapshots of changes are taken on the owner's thread at most every ``delay`` seconds, and written by another thread.
    The first change is saved at once; for later ones call `tick` from time to time.

    Events (may come from the writing thread)
    -----------------------------------------
    saved : (int)
        The project was written; the number of the save.
    failed : (str)
        It could not be written, for example to a full disk; it is tried again with the next change.

    Parameters
    ----------
    session : Session
    folder : Path
        New or empty folder, or the folder of a project to continue.
    extras : Extras, optional
    delay : float
        Seconds between snapshots; 0 takes one at every change.
    history : iterable of dict
        Training runs of earlier sessions of this project.

    Raises
    ------
    InputError
        If the folder contains other files, or is a project whose labels are not open.
    """

    saved = Signal(int)
    failed = Signal(str)

    def __init__(
        self,
        session: Session,
        folder: Path,
        extras: Extras | None = None,
        delay: float = DELAY,
        history: Iterable[Plain] = (),
    ) -> None:
        self.folder = folder
        self._session, self._extras, self._delay = session, extras or Extras(), delay
        self._project = ProjectFolder(folder)
        missing = self._project.label_ids - session.labels.keys()
        if missing:
            raise InputError(
                f"{folder} is a project with other labels ({min(missing)}): open it, or choose another folder.",
                code="other-project",
            )
        self._history = list(history)
        self._hashes: dict[tuple[str, int, int], str] = {}
        self._seen: dict[str, LabelSet] = {}
        self._is_dirty, self._last, self._has_saved = True, -np.inf, False
        self._waiting, self._owner = _Waiting(), threading.current_thread()
        self._thread = start_thread(self._run, "napari-sam-lora project")
        for signal in self._signals:
            signal.connect(self._note)
        session.labels.labels_changed.connect(self._on_labels)
        session.training.training_changed.connect(self._on_training)
        self.tick()

    @property
    def history(self) -> tuple[Plain, ...]:
        """Training runs so far, including those of earlier sessions."""
        return tuple(self._history)

    @property
    def has_saved(self) -> bool:
        """Return whether the session was written at least once by this saver."""
        return self._has_saved

    @property
    def _signals(self) -> tuple[SignalInstance, ...]:
        """Events of the session that call for a save."""
        session = self._session
        return (
            session.images_changed,
            session.prompts.draft_changed,
            session.models.model_changed,
            session.models.active_changed,
        )

    def tick(self) -> None:
        """Take a snapshot if something has changed and the delay has passed. Call it on the owner's thread.

        Nothing is saved when all label images were removed: either the viewer is closing, or the user will call `save`.
        """
        if self._is_dirty and not self._lost_all and time.monotonic() - self._last >= self._delay:
            self._take_snapshot(self._follow_labels())

    def save(self) -> None:
        """Take a snapshot of everything now, and write it in the background. Call it on the owner's thread."""
        self._take_snapshot(self._follow_labels() | self._seen.keys())

    def _take_snapshot(self, fresh: Collection[str]) -> None:
        """Take a snapshot, with all planes of fresh label images, and queue it for writing."""
        snapshot = take_snapshot(self._session, self._seen, fresh, self.folder, self._extras, self._history)
        self._is_dirty, self._last = False, time.monotonic()
        with self._waiting.changed:
            for earlier in (self._waiting.snapshot, self._waiting.failed):
                snapshot = snapshot if earlier is None else snapshot.after(earlier)
            self._waiting.snapshot, self._waiting.failed = snapshot, None
            self._waiting.changed.notify_all()

    def flush(self, timeout: float | None = None) -> bool:
        """Save all changes and wait until they are written; return False if that takes too long or fails."""
        if self._is_dirty and not self._lost_all:
            self._take_snapshot(self._follow_labels())
        waiting = self._waiting
        with waiting.changed:
            ended = waiting.changed.wait_for(lambda: waiting.snapshot is None and not waiting.busy, timeout)
            return ended and waiting.failed is None

    def close(self, timeout: float | None = None) -> bool:
        """Save all changes and disconnect from the session; return whether they were written, see `flush`."""
        saved = self.flush(timeout)
        for signal in self._signals:
            signal.disconnect(self._note)
        self._session.labels.labels_changed.disconnect(self._on_labels)
        self._session.training.training_changed.disconnect(self._on_training)
        for labels in self._seen.values():
            labels.objects_changed.disconnect(self._note)
        self._seen.clear()
        with self._waiting.changed:
            self._waiting.closed = True
            self._waiting.changed.notify_all()
        return saved

    # Listening, on the owner's thread

    def _note(self, *_: object) -> None:
        """Remember that something has changed, and save it if it is time."""
        self._is_dirty = True
        if threading.current_thread() is self._owner:
            self.tick()

    def _on_labels(self) -> None:
        """Follow new label images at once, but save removals later, because a closing viewer removes all of them."""
        if self._session.labels.keys() >= self._seen.keys():
            self._note()
            return
        if self._is_dirty and self._waiting.failed is None:
            self._take_snapshot(())  # last changes of the removed label images
        self._is_dirty, self._last = True, time.monotonic()

    @property
    def _lost_all(self) -> bool:
        """Return whether all label images were removed."""
        return bool(self._seen) and not self._session.labels

    def _on_training(self, event: TrainingEvent) -> None:
        """Remember the end of a run, which the next `tick` saves; called in the training thread."""
        if event.is_final:
            self._history.append(training_to_plain(event))
            self._is_dirty = True

    def _follow_labels(self) -> set[str]:
        """Listen to all label images; return the ids of new ones."""
        present = dict(self._session.labels)
        fresh = {name for name, labels in present.items() if self._seen.get(name) is not labels}
        for name in fresh:
            present[name].objects_changed.connect(self._note)
        for name, labels in self._seen.items():
            if present.get(name) is not labels:
                labels.objects_changed.disconnect(self._note)
        self._seen = present
        return fresh

    # Writing, in the writing thread

    def _run(self) -> None:
        """Write snapshots until the saver is closed."""
        waiting = self._waiting
        while True:
            with waiting.changed:
                waiting.changed.wait_for(lambda: waiting.snapshot is not None or waiting.closed)
                if waiting.snapshot is None:
                    return
                snapshot, waiting.snapshot, waiting.busy = waiting.snapshot, None, True
            self._write(snapshot)

    def _write(self, snapshot: Snapshot) -> None:
        """Write a snapshot; if that fails, merge it into the next one."""
        waiting, serial, problem = self._waiting, 0, ""
        try:
            serial = self._project.write(self._with_hashes(snapshot))
            self._has_saved = True
        except Exception as error:  # reported, and tried again
            problem = user_message(error)
        with waiting.changed:
            waiting.busy = False
            if problem and waiting.snapshot is not None:
                waiting.snapshot = waiting.snapshot.after(snapshot)
            elif problem:
                waiting.failed, self._is_dirty = snapshot, True
            waiting.changed.notify_all()
        if problem:
            emit_safely(self.failed, problem)
        else:
            emit_safely(self.saved, serial)

    def _with_hashes(self, snapshot: Snapshot) -> Snapshot:
        """Add hashes of the image files, computed once for each file and time of change."""
        images = tuple(
            ImageReference(**asdict(one) | {"hash": self._hash(Path(one.path))}) if one.path else one
            for one in snapshot.images
        )
        return Snapshot(snapshot.state, images, snapshot.labels, snapshot.adapters)

    def _hash(self, path: Path) -> str:
        """Return the hash of a file; empty if it cannot be read."""
        try:
            stat = path.stat()
            key = (str(path), stat.st_size, stat.st_mtime_ns)
            if key not in self._hashes:
                self._hashes[key] = hash_file(path)
            return self._hashes[key]
        except OSError:
            return ""

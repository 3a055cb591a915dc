"""Sessions that are saved while working, and can be restored when they ended without having become a project."""

from __future__ import annotations

import json
import os
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import psutil

from napari_sam_lora.errors import InputError
from napari_sam_lora.session.project.folder import MANIFEST, read_manifest, write_json

# Sessions that their user closed; older ones are removed.
KEPT = 3


@dataclass(frozen=True)
class Unfinished:
    """A session that can be restored.

    Attributes
    ----------
    folder : Path
    saved : str
        ISO 8601 time of the last save.
    labels, images : tuple of str
        Names of what is in it.
    closed : float
        When its user closed it, in seconds since 1970; 0 if the program ended before that.
    """

    folder: Path
    saved: str
    labels: tuple[str, ...]
    images: tuple[str, ...]
    closed: float = 0

    @property
    def question(self) -> str:
        """What to ask the user."""
        what = ", ".join(self.labels[:3]) or "prompts"
        on = f" on {', '.join(self.images[:3])}" if self.images else ""
        how = "was closed" if self.closed else "ended unexpectedly"
        return f"napari {how} before this was saved as a project: {what}{on} ({self._when}). Restore it?"

    @property
    def _when(self) -> str:
        """The time of the last save on the user's clock."""
        try:
            return f"{datetime.fromisoformat(self.saved).astimezone():%Y-%m-%d %H:%M}"
        except ValueError:
            return "at an unknown time"


class Recovery:
    """The folder in which running sessions save themselves, one folder each.

    Parameters
    ----------
    root : Path
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def begin(self) -> Path:
        """A new folder for a session of this process."""
        stamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")  # a person looks for it by local time
        number = 0
        while True:
            folder = self.root / f"{stamp}_{os.getpid()}{f'_{number}' if number else ''}"
            try:
                folder.mkdir(parents=True)
            except FileExistsError:
                number += 1
                continue
            self.adopt(folder)
            return folder

    def adopt(self, folder: Path) -> None:
        """A session that ended before its time is gone on with by this process."""
        write_json(folder.with_suffix(".owner"), _me())

    def end(self, folder: Path) -> None:
        """Nothing of a session needs to be restored: it has become a project, or its user does not want it."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.with_suffix(".owner").unlink(missing_ok=True)

    def leave(self, folder: Path) -> None:
        """A session was closed without having become a project: it can be restored, for it may be by mistake."""
        with suppress(OSError):  # then it is offered as one whose process has ended
            write_json(folder.with_suffix(".owner"), {"closed": time.time()})
        closed = sorted((one for one in self.unfinished() if one.closed), key=lambda one: one.closed, reverse=True)
        for one in closed[KEPT:]:
            self.end(one.folder)

    def unfinished(self) -> list[Unfinished]:
        """Sessions with labels or prompts that no process is working on, the one saved last first."""
        found = []
        for folder in self.root.glob("*/") if self.root.is_dir() else ():
            owner = _read_owner(folder.with_suffix(".owner"))
            if _is_running(owner):
                continue
            try:
                manifest = read_manifest(folder)
            except InputError:
                if not (folder / MANIFEST).exists():
                    self.end(folder)  # it ended before anything was saved
                continue
            labels = tuple(one["id"] for one in manifest["labels"] if one["planes"])
            if labels or manifest.get("drafts"):
                images = tuple(one["name"] for one in manifest["images"])
                closed = owner.get("closed", 0.0)
                found.append(Unfinished(folder, str(manifest.get("saved", "")), labels, images, closed))
            else:
                self.end(folder)
        return sorted(found, key=lambda one: (one.saved, one.folder.name), reverse=True)


def _me() -> dict[str, float]:
    return {"pid": os.getpid(), "started": psutil.Process().create_time()}


def _read_owner(path: Path) -> dict[str, float]:
    try:
        return {str(name): float(value) for name, value in json.loads(path.read_text(encoding="utf-8")).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _is_running(owner: dict[str, float]) -> bool:
    """Whether the process that a folder belongs to is running; numbers of processes are used again."""
    try:
        return abs(psutil.Process(int(owner["pid"])).create_time() - owner["started"]) < 1
    except (KeyError, ValueError, OverflowError, psutil.Error):
        return False

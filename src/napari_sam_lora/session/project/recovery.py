"""Recovery of sessions that ended before they were saved as a project."""

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

# Number of sessions closed by the user that are kept; older ones are removed.
KEPT = 3


@dataclass(frozen=True)
class Unfinished:
    """Session that can be restored.

    Attributes
    ----------
    folder : Path
    saved : str
        ISO 8601 time of the last save.
    labels, images : tuple of str
        Names of its label images and images.
    closed : float
        Time at which the user closed it, in seconds since 1970; 0 if the program ended before that.
    """

    folder: Path
    saved: str
    labels: tuple[str, ...]
    images: tuple[str, ...]
    closed: float = 0

    @property
    def question(self) -> str:
        """Question for the user."""
        what = ", ".join(self.labels[:3]) or "prompts"
        on = f" on {', '.join(self.images[:3])}" if self.images else ""
        how = "was closed" if self.closed else "ended unexpectedly"
        return f"napari {how} before this was saved as a project: {what}{on} ({self._when}). Restore it?"

    @property
    def _when(self) -> str:
        """Local time of the last save."""
        try:
            return f"{datetime.fromisoformat(self.saved).astimezone():%Y-%m-%d %H:%M}"
        except ValueError:
            return "at an unknown time"


class Recovery:
    """Folder of automatic saves, with one subfolder for each session.

    Parameters
    ----------
    root : Path
        The folder; created when it is needed.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def begin(self) -> Path:
        """Create a folder for a new session of this process, and return it."""
        stamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")  # local time, because people look for it
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
        """Make this process the owner of a session that it continues."""
        write_json(folder.with_suffix(".owner"), _this_process())

    def end(self, folder: Path) -> None:
        """Remove a session that was saved as a project or that the user does not want."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.with_suffix(".owner").unlink(missing_ok=True)

    def leave(self, folder: Path) -> None:
        """Keep a session that the user closed without saving it, in case that was a mistake."""
        with suppress(OSError):  # then it is offered as one whose process has ended
            write_json(folder.with_suffix(".owner"), {"closed": time.time()})
        closed = sorted((one for one in self.unfinished() if one.closed), key=lambda one: one.closed, reverse=True)
        for one in closed[KEPT:]:
            self.end(one.folder)

    def unfinished(self) -> list[Unfinished]:
        """List sessions with labels or prompts that no process works on, the one saved last first."""
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


def _this_process() -> dict[str, float]:
    """Identify this process by its number and start time."""
    return {"pid": os.getpid(), "started": psutil.Process().create_time()}


def _read_owner(path: Path) -> dict[str, float]:
    """Read the owner file of a session; return an empty dict if it is missing or damaged."""
    try:
        return {str(name): float(value) for name, value in json.loads(path.read_text(encoding="utf-8")).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _is_running(owner: dict[str, float]) -> bool:
    """Return whether the owner is running; its start time tells it from a later process with the same number."""
    try:
        return abs(psutil.Process(int(owner["pid"])).create_time() - owner["started"]) < 1
    except (KeyError, ValueError, OverflowError, psutil.Error):
        return False

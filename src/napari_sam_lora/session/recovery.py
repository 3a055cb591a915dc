"""Projects that are saved while working, and those that a program left behind when it ended before its time."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import psutil

from napari_sam_lora.errors import InputError
from napari_sam_lora.session.project_files import MANIFEST, read_manifest, write_json


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
    """

    folder: Path
    saved: str
    labels: tuple[str, ...]
    images: tuple[str, ...]

    @property
    def question(self) -> str:
        """What to ask the user."""
        on = f" on {', '.join(self.images[:3])}" if self.images else ""
        return f"napari ended before {', '.join(self.labels[:3])}{on} was saved ({self.saved}). Restore it?"


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
        """A session was ended by its user: nothing of it needs to be restored."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.with_suffix(".owner").unlink(missing_ok=True)

    def unfinished(self) -> list[Unfinished]:
        """Sessions with labels whose process is gone, the last one first."""
        found = []
        for folder in sorted(self.root.glob("*/"), reverse=True) if self.root.is_dir() else ():
            if _is_owned(folder.with_suffix(".owner")):
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
                found.append(Unfinished(folder, str(manifest.get("saved", "")), labels, images))
            else:
                self.end(folder)
        return found


def _me() -> dict[str, float]:
    return {"pid": os.getpid(), "started": psutil.Process().create_time()}


def _is_owned(path: Path) -> bool:
    """Whether the process that a folder belongs to is running; numbers of processes are used again."""
    try:
        owner = json.loads(path.read_text(encoding="utf-8"))
        return abs(psutil.Process(int(owner["pid"])).create_time() - float(owner["started"])) < 1
    except (OSError, ValueError, KeyError, TypeError, psutil.Error):
        return False

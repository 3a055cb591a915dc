"""The adapters that a session can use."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from psygnal import Signal

if TYPE_CHECKING:
    from napari_sam_lora.lora.adapter import Adapter
    from napari_sam_lora.model.checkpoints import LoadedModel


@dataclass(frozen=True)
class AdapterEntry:
    """An adapter as it is listed.

    Attributes
    ----------
    name : str
        Unique in its library.
    base_name, base_hash : str
        The model that it belongs to.
    created : str
        ISO 8601 time.
    megabytes : float
    objects, images : int
        What it was trained on; 0 if unknown.
    gain : float or None
        Mean gain in IoU on held-out objects, over boxes and first clicks; None if it was not measured.
    verdict : str
        "better", "not better", "too few", or empty.
    reason : str
        The verdict in plain words.
    note : str
        The user's.
    """

    name: str
    base_name: str
    base_hash: str
    created: str
    megabytes: float
    objects: int
    images: int
    gain: float | None
    verdict: str
    reason: str
    note: str


class AdapterLibrary:
    """Adapters by name, in a folder (one .safetensors file each) or in memory. Safe to use from several threads.

    Events (emitted on the thread that makes the change; the training thread adds its adapter)
    -----------------------------------------------------------------------------------------
    changed : ()

    Parameters
    ----------
    folder : Path, optional
        Adapters in it are listed, damaged files are left out (`problems` names them). By default adapters are kept in
        memory only.
    """

    changed = Signal()

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self.problems: tuple[str, ...] = ()

    def entries(self) -> tuple[AdapterEntry, ...]:
        """All adapters, the newest first."""
        raise NotImplementedError

    def entry(self, name: str) -> AdapterEntry:
        """One of them.

        Raises
        ------
        AdapterError
            If there is none of that name; so do all methods that take a name.
        """
        raise NotImplementedError

    def get(self, name: str) -> Adapter:
        """The adapter itself."""
        raise NotImplementedError

    def add(self, adapter: Adapter, name: str, note: str = "") -> str:
        """Keep an adapter; returns the name, with a number appended if it was taken."""
        raise NotImplementedError

    def remove(self, name: str) -> None:
        """Delete an adapter and its file."""
        raise NotImplementedError

    def rename(self, name: str, new_name: str) -> None:
        """Rename an adapter and its file; a name that is taken is refused."""
        raise NotImplementedError

    def set_note(self, name: str, note: str) -> None:
        """Change the note, which is kept in the file."""
        raise NotImplementedError

    def import_file(self, path: Path, loaded: LoadedModel) -> str:
        """Add an adapter file: ours, or Sam_LoRA's for the loaded base model; returns its name."""
        raise NotImplementedError

    def export(self, name: str, path: Path) -> Path:
        """Write an adapter to a .safetensors file."""
        raise NotImplementedError

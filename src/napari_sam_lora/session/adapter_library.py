"""Library of the adapters that a session can use."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING

from psygnal import Signal

from napari_sam_lora.errors import AdapterError
from napari_sam_lora.session.jobs.worker import emit_safely

if TYPE_CHECKING:
    from napari_sam_lora.lora.adapter import Adapter
    from napari_sam_lora.model.checkpoints import LoadedModel


@dataclass(frozen=True)
class AdapterEntry:
    """Description of an adapter in the list.

    Attributes
    ----------
    name : str
        Unique in its library.
    base_name, base_hash : str
        Base model that it belongs to.
    created : str
        ISO 8601 time.
    megabytes : float
    objects, images : int
        Objects and images that it was trained on; 0 if unknown.
    gain : float or None
        Mean gain in IoU on held-out objects, over boxes and first clicks; None if it was not measured.
    verdict : str
        "better", "not better", "too few", or empty.
    reason : str
        Reason of the verdict, for the user.
    note : str
        Note of the user.
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
        Its adapters are listed; damaged files are left out and named in `problems`. The files are read, and torch is
        imported, when the list is first needed. By default adapters are kept in memory only.
    """

    changed = Signal()

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self.problems: tuple[str, ...] = ()
        self._adapters: dict[str, Adapter] = {}
        self._lock = RLock()
        self._is_read = folder is None or not any(folder.glob("*.safetensors"))

    @property
    def is_read(self) -> bool:
        """Return whether the folder was read already. If not, the next use of the list takes time and imports torch."""
        return self._is_read

    def entries(self) -> tuple[AdapterEntry, ...]:
        """List all adapters, the newest first."""
        with self._lock:
            self._read_folder()
            listed = [_describe(name, adapter) for name, adapter in self._adapters.items()]
        return tuple(sorted(listed, key=lambda entry: entry.created, reverse=True))

    def entry(self, name: str) -> AdapterEntry:
        """Describe one adapter.

        Raises
        ------
        AdapterError
            If no adapter has this name; all methods that take a name raise it.
        """
        return _describe(name, self.get(name))

    def get(self, name: str) -> Adapter:
        """Return the adapter itself; the same object until it is changed."""
        with self._lock:
            self._read_folder()
            if name not in self._adapters:
                raise AdapterError(
                    f"There is no adapter {name!r}: it may have been deleted. Choose another one.",
                    code="adapter-not-found",
                )
            return self._adapters[name]

    def add(self, adapter: Adapter, name: str, note: str = "") -> str:
        """Add an adapter; return its name, with a number appended if the name was in use."""
        with self._lock:
            self._read_folder()
            free = self._free_name(_check_name(name))
            self._store(free, _with_note(adapter, note) if note else adapter)
        emit_safely(self.changed)
        return free

    def remove(self, name: str) -> None:
        """Delete an adapter and its file."""
        with self._lock:
            self.get(name)
            if self.folder is not None:
                self._path(name).unlink(missing_ok=True)
            del self._adapters[name]
        emit_safely(self.changed)

    def rename(self, name: str, new_name: str) -> None:
        """Rename an adapter and its file; raise an AdapterError if the new name is in use."""
        with self._lock:
            adapter = self.get(name)
            if new_name == name:
                return
            if _check_name(new_name) != self._free_name(new_name):
                raise AdapterError(
                    f"There is already an adapter {new_name!r}: choose another name.", code="adapter-name-in-use"
                )
            if self.folder is not None:
                self._path(name).rename(self._path(new_name))
            self._adapters[new_name] = adapter
            del self._adapters[name]
        emit_safely(self.changed)

    def set_note(self, name: str, note: str) -> None:
        """Change the note, which is stored in the adapter file."""
        with self._lock:
            self._store(name, _with_note(self.get(name), note))
        emit_safely(self.changed)

    def import_file(
        self, path: Path, loaded: LoadedModel, blocks: Sequence[int] | None = None, alpha: float | None = None
    ) -> str:
        """Add an adapter file of this package, or of another project for the loaded base model; return its name.

        Parameters
        ----------
        blocks, alpha : optional
            Settings that some files of other projects lack; see `import_adapter`.

        Raises
        ------
        AdapterError
            If the file is neither, or damaged.
        """
        from safetensors import SafetensorError, safe_open  # noqa: PLC0415

        from napari_sam_lora.lora.adapter import Adapter  # noqa: PLC0415
        from napari_sam_lora.lora.interop import import_adapter  # noqa: PLC0415

        is_own = False
        if path.suffix == ".safetensors":
            try:
                with safe_open(path, framework="pt") as file:
                    is_own = "adapter" in (file.metadata() or {})
            except (SafetensorError, OSError) as error:
                raise AdapterError(
                    f"{path.name} cannot be read as a .safetensors file: {error}", code="adapter-file-damaged"
                ) from error
        adapter = Adapter.load(path) if is_own else import_adapter(path, loaded, blocks, alpha)
        return self.add(adapter, re.sub(r"[^\w .()+-]", "_", path.stem).strip(" .") or "adapter")

    def export(self, name: str, path: Path) -> Path:
        """Write an adapter to a .safetensors file, and its card beside it; an existing card is renamed first."""
        from napari_sam_lora.io.adapters.card import write_card  # noqa: PLC0415
        from napari_sam_lora.io.shared.existing_files import keep_previous  # noqa: PLC0415

        adapter = self.get(name)
        saved = adapter.save(path)
        card = saved.with_suffix(".md")
        with keep_previous([card]):
            write_card(card, adapter, saved.stem)
        return saved

    def _read_folder(self) -> None:
        """Load the adapters of the folder, once."""
        if self._is_read or self.folder is None:
            return
        from napari_sam_lora.lora.adapter import Adapter  # noqa: PLC0415

        problems = []
        for path in sorted(self.folder.glob("*.safetensors")):
            if not path.name.startswith("."):  # left over from a write that was interrupted
                try:
                    self._adapters[path.stem] = Adapter.load(path)
                except AdapterError as error:
                    problems.append(str(error))
        self.problems = tuple(problems)
        self._is_read = True

    def _store(self, name: str, adapter: Adapter) -> None:
        if self.folder is not None:
            adapter.save(self._path(name))
        self._adapters[name] = adapter

    def _path(self, name: str) -> Path:
        assert self.folder is not None
        return self.folder / f"{name}.safetensors"

    def _free_name(self, name: str) -> str:
        """Append a number to a name until no adapter and no file has it."""
        used = {other.casefold() for other in self._adapters}
        if self.folder is not None:  # damaged files too must not be overwritten
            used |= {path.stem.casefold() for path in self.folder.glob("*.safetensors")}
        free, number = name, 1
        while free.casefold() in used:
            number += 1
            free = f"{name} {number}"
        return free


def _check_name(name: str) -> str:
    """Return the name, or raise an AdapterError if it cannot be a file name everywhere."""
    if not re.fullmatch(r"\w[\w .()+-]{0,79}", name) or name != name.strip(" ."):
        raise AdapterError(
            f"{name!r} cannot be the name of an adapter: use letters, digits, spaces and . ( ) + - _",
            code="adapter-name-invalid",
        )
    return name


def _with_note(adapter: Adapter, note: str) -> Adapter:

    info = replace(adapter.info, training=adapter.info.training | {"note": note})
    return replace(adapter, info=info)


def _describe(name: str, adapter: Adapter) -> AdapterEntry:
    info = adapter.info
    metrics = info.metrics
    gain = None
    if "base" in metrics and "adapted" in metrics:
        gain = sum(metrics["adapted"][kind] - metrics["base"][kind] for kind in ("box_iou", "click_iou")) / 2
    return AdapterEntry(
        name=name,
        base_name=info.base_name,
        base_hash=info.base_hash,
        created=info.created,
        megabytes=sum(value.numel() * value.element_size() for value in adapter.tensors.values()) / 2**20,
        objects=int(info.training.get("objects_trained_on", 0)),
        images=int(info.training.get("images", 0)),
        gain=gain,
        verdict=str(metrics.get("verdict", "")),
        reason=str(metrics.get("reason", "")),
        note=str(info.training.get("note", "")),
    )

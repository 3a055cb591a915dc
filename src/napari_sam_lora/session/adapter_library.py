"""The adapters that a session can use."""

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
        Adapters in it are listed, damaged files are left out (`problems` names them). Its files, and with them torch,
        are read when the list is first asked for. By default adapters are kept in memory only.
    """

    changed = Signal()

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self.problems: tuple[str, ...] = ()
        self._held: dict[str, Adapter] = {}
        self._lock = RLock()
        self._is_read = folder is None or not any(folder.glob("*.safetensors"))

    @property
    def is_read(self) -> bool:
        """Whether the folder was read. Until then looking at the list takes time and imports torch."""
        return self._is_read

    def entries(self) -> tuple[AdapterEntry, ...]:
        """All adapters, the newest first."""
        with self._lock:
            self._read_folder()
            listed = [_describe(name, adapter) for name, adapter in self._held.items()]
        return tuple(sorted(listed, key=lambda entry: entry.created, reverse=True))

    def entry(self, name: str) -> AdapterEntry:
        """One of them.

        Raises
        ------
        AdapterError
            If there is none of that name; so do all methods that take a name.
        """
        return _describe(name, self.get(name))

    def get(self, name: str) -> Adapter:
        """The adapter itself; the same object until it is changed."""
        with self._lock:
            self._read_folder()
            if name not in self._held:
                raise AdapterError(f"There is no adapter {name!r}; it may have been deleted.")
            return self._held[name]

    def add(self, adapter: Adapter, name: str, note: str = "") -> str:
        """Keep an adapter; returns the name, with a number appended if it was taken."""
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
            del self._held[name]
        emit_safely(self.changed)

    def rename(self, name: str, new_name: str) -> None:
        """Rename an adapter and its file; a name that is taken is refused."""
        with self._lock:
            adapter = self.get(name)
            if new_name == name:
                return
            if _check_name(new_name) != self._free_name(new_name):
                raise AdapterError(f"There is an adapter {new_name!r} already; choose another name.")
            if self.folder is not None:
                self._path(name).rename(self._path(new_name))
            self._held[new_name] = adapter
            del self._held[name]
        emit_safely(self.changed)

    def set_note(self, name: str, note: str) -> None:
        """Change the note, which is kept in the file."""
        with self._lock:
            self._store(name, _with_note(self.get(name), note))
        emit_safely(self.changed)

    def import_file(
        self, path: Path, loaded: LoadedModel, blocks: Sequence[int] | None = None, alpha: float | None = None
    ) -> str:
        """Add an adapter file: ours, or that of another project for the loaded base model; returns its name.

        Parameters
        ----------
        blocks, alpha : optional
            What some files of other projects do not say; see `import_adapter`.

        Raises
        ------
        AdapterError
            If it is neither.
        """
        from safetensors import SafetensorError, safe_open  # noqa: PLC0415

        from napari_sam_lora.lora.adapter import Adapter  # noqa: PLC0415
        from napari_sam_lora.lora.interop import import_adapter  # noqa: PLC0415

        ours = False
        if path.suffix == ".safetensors":
            try:
                with safe_open(path, framework="pt") as file:
                    ours = "adapter" in (file.metadata() or {})
            except (SafetensorError, OSError) as error:
                raise AdapterError(f"{path.name} cannot be read as a .safetensors file: {error}") from error
        adapter = Adapter.load(path) if ours else import_adapter(path, loaded, blocks, alpha)
        return self.add(adapter, re.sub(r"[^\w .()+-]", "_", path.stem).strip(" .") or "adapter")

    def export(self, name: str, path: Path) -> Path:
        """Write an adapter to a .safetensors file, and its card beside it; a card in the way is kept aside."""
        from napari_sam_lora.io.adapter_card import write_card  # noqa: PLC0415
        from napari_sam_lora.io.output import kept_aside  # noqa: PLC0415

        adapter = self.get(name)
        saved = adapter.save(path)
        card = saved.with_suffix(".md")
        with kept_aside([card]):
            write_card(card, adapter, saved.stem)
        return saved

    def _read_folder(self) -> None:
        if self._is_read or self.folder is None:
            return
        from napari_sam_lora.lora.adapter import Adapter  # noqa: PLC0415

        problems = []
        for path in sorted(self.folder.glob("*.safetensors")):
            if not path.name.startswith("."):  # a file that was being written when the program ended
                try:
                    self._held[path.stem] = Adapter.load(path)
                except AdapterError as error:
                    problems.append(str(error))
        self.problems = tuple(problems)
        self._is_read = True

    def _store(self, name: str, adapter: Adapter) -> None:
        if self.folder is not None:
            adapter.save(self._path(name))
        self._held[name] = adapter

    def _path(self, name: str) -> Path:
        assert self.folder is not None
        return self.folder / f"{name}.safetensors"

    def _free_name(self, name: str) -> str:
        taken = {held.casefold() for held in self._held}
        if self.folder is not None:  # damaged files too must not be overwritten
            taken |= {path.stem.casefold() for path in self.folder.glob("*.safetensors")}
        free, number = name, 1
        while free.casefold() in taken:
            number += 1
            free = f"{name} {number}"
        return free


def _check_name(name: str) -> str:
    if not re.fullmatch(r"\w[\w .()+-]{0,79}", name) or name != name.strip(" ."):
        raise AdapterError(f"{name!r} cannot be an adapter's name: use letters, digits, spaces and . ( ) + - _")
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

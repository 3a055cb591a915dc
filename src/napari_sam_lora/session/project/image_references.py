"""References to the images of a project, by path and content hash, and the search for them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import xxhash

# Files up to this size are hashed whole; of larger ones as many bytes in evenly spread blocks.
_WHOLE_BYTES = 64 * 2**20
_BLOCK_BYTES = 2**20

ImageState = Literal["same", "moved", "changed", "missing", "in memory"]


@dataclass(frozen=True)
class ImageReference:
    """Reference to an image of a project.

    Attributes
    ----------
    id, name : str
    path : str
        Path of its file or folder when it was opened; empty for an image that was only in memory.
    relative : str
        The same path relative to the project folder, so that both can be moved together.
    hash : str
        Hash of the content; see `hash_file`.
    shape : tuple of int
    spacing : tuple of float
    """

    id: str
    name: str
    path: str
    relative: str
    hash: str
    shape: tuple[int, ...]
    spacing: tuple[float, ...]

    @classmethod
    def from_plain(cls, values: dict[str, Any]) -> ImageReference:
        """Make a reference of plain values; the inverse of `dataclasses.asdict`."""
        return cls(**values | {"shape": tuple(values["shape"]), "spacing": tuple(values["spacing"])})


@dataclass(frozen=True)
class FoundImage:
    """Result of the search for an image of a project.

    Attributes
    ----------
    reference : ImageReference
    path : Path or None
        Present path; None if it is missing or was only in memory.
    state : str
        "same", "moved" (found elsewhere with the same content), "changed" (found with other content), "missing" or
        "in memory".
    """

    reference: ImageReference
    path: Path | None
    state: ImageState

    @property
    def question(self) -> str:
        """Question for the user; empty if there is nothing to ask."""
        name = self.reference.name
        return {
            "changed": f"The image “{name}” has changed since it was saved ({self.path}): its labels may not fit.",
            "missing": f"The image “{name}” is not where it was ({self.reference.path}). Where is it now?",
            "moved": f"The image “{name}” was found in another place: {self.path}.",
        }.get(self.state, "")


def hash_file(path: Path) -> str:
    """Hash size and content of a file with XXH128, or names and sizes of the files of a folder.

    Of files above 64 MiB, 64 blocks of 1 MiB are hashed.
    """
    digest = xxhash.xxh128()
    if path.is_dir():
        for file in sorted(path.rglob("*")):
            if file.is_file():
                digest.update(f"{file.relative_to(path).as_posix()} {file.stat().st_size}\n".encode())
        return f"xxh128:{digest.hexdigest()}"
    size = path.stat().st_size
    digest.update(str(size).encode())
    with path.open("rb") as stream:
        if size <= _WHOLE_BYTES:
            while block := stream.read(_BLOCK_BYTES):
                digest.update(block)
        else:
            count = _WHOLE_BYTES // _BLOCK_BYTES
            for number in range(count):
                stream.seek((size - _BLOCK_BYTES) * number // (count - 1))
                digest.update(stream.read(_BLOCK_BYTES))
    return f"xxh128:{digest.hexdigest()}"


def relative_to(path: Path, folder: Path) -> str:
    """Return the path relative to a folder; empty if there is none, such as on another drive."""
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:
        return ""


def find_image(reference: ImageReference, folder: Path, also: Iterable[Path] = ()) -> FoundImage:
    """Look for an image of a project where it was, relative to the project, and in other folders.

    Parameters
    ----------
    reference : ImageReference
    folder : Path
        Folder of the project.
    also : iterable of Path
        More places to look in: folders for a file of the same name, or files.
    """
    if not reference.path:
        return FoundImage(reference, None, "in memory")
    original = Path(reference.path)
    places = [original]
    if reference.relative:
        places.append(Path(os.path.normpath(folder / reference.relative)))
    for place in (*also, folder):
        places += [place / original.name if place.is_dir() else place]
    changed: Path | None = None
    for place in places:
        if not place.exists():
            continue
        if not reference.hash or _hash_or_empty(place) == reference.hash:
            return FoundImage(reference, place, "same" if place == original else "moved")
        changed = changed or place
    return FoundImage(reference, changed, "missing" if changed is None else "changed")


def _hash_or_empty(path: Path) -> str:
    try:
        return hash_file(path)
    except OSError:
        return ""

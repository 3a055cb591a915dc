"""Where the file of a named model is, fetching it first if need be."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import platformdirs
import pooch
import requests

from napari_sam_lora.errors import CheckpointError
from napari_sam_lora.model.registry import ModelInfo

CACHE_VARIABLE = "NAPARI_SAM_LORA_CACHE"
CONNECT_SECONDS = 30

Progress = Callable[[int, int], None]


def cache_folder() -> Path:
    """Where fetched checkpoints are kept: ``NAPARI_SAM_LORA_CACHE``, or the user's cache directory."""
    chosen = os.environ.get(CACHE_VARIABLE)
    return Path(chosen).expanduser() if chosen else platformdirs.user_cache_path("napari-sam-lora") / "models"


def is_available(info: ModelInfo) -> bool:
    """Whether the file is on this computer; it is verified when it is loaded."""
    return info.asset is not None or (cache_folder() / info.file_name).is_file()


def model_path(info: ModelInfo, progress: Progress | None = None) -> Path:
    """Path of a verified checkpoint, fetched if it is not on this computer.

    A download goes to a temporary file that takes its name when its hash is right, so that one that broke off leaves
    nothing and is started again.

    Parameters
    ----------
    info : ModelInfo
    progress : callable, optional
        Called with the bytes fetched and all bytes (0 if unknown); an exception that it raises ends the download.

    Raises
    ------
    CheckpointError
        If the file cannot be fetched, or is not what it should be; the message says how to put it there by hand.
    """
    if info.asset is not None:
        with as_file(files("napari_sam_lora") / "assets" / info.asset) as path:
            return path
    folder = cache_folder()
    target = folder / info.file_name
    by_hand = f"Fetch {info.url} in another way, save it as {target}, and try again."
    try:
        folder.mkdir(parents=True, exist_ok=True)
        found = pooch.retrieve(
            info.url,
            known_hash=info.digest,
            fname=info.file_name,
            path=folder,
            downloader=pooch.HTTPDownloader(
                progressbar=_Bar(progress) if progress else False, timeout=CONNECT_SECONDS, chunk_size=1 << 20
            ),
        )
    except requests.RequestException as error:
        raise CheckpointError(
            f"{info.name} is not on this computer and could not be fetched ({type(error).__name__}). {by_hand}"
        ) from error
    except ValueError as error:  # pooch: the hash is another
        raise CheckpointError(
            f"The file of {info.name} that was fetched is damaged or not the right one. {by_hand}"
        ) from error
    except OSError as error:
        raise CheckpointError(
            f"{info.name} cannot be kept in {folder}: {error.strerror or error}. "
            f"Set {CACHE_VARIABLE} to a folder with {info.megabytes} MB of room."
        ) from error
    return Path(found)


class _Bar:
    """What pooch expects of a progress bar."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._done = 0
        self.total: Any = 0

    def update(self, count: int) -> None:
        total = int(self.total or 0)
        counted = self._done + count
        self._done = max(self._done, min(counted, total) if total else counted)
        self._progress(self._done, total)

    def reset(self) -> None:
        """pooch counts the last, shorter piece as a whole one, and then counts again from here; we do not go back."""

    def close(self) -> None:
        """Nothing is left open."""

"""Files of named models: bundled, in the cache folder, or downloaded into it."""

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
    """Return the folder of downloaded checkpoints: ``NAPARI_SAM_LORA_CACHE``, or the user's cache directory."""
    chosen = os.environ.get(CACHE_VARIABLE)
    return Path(chosen).expanduser() if chosen else platformdirs.user_cache_path("napari-sam-lora") / "models"


def is_available(info: ModelInfo) -> bool:
    """Return whether the file is on this computer; it is verified when it is loaded."""
    return info.asset is not None or (cache_folder() / info.file_name).is_file()


def model_path(info: ModelInfo, progress: Progress | None = None) -> Path:
    """Return the path of a verified checkpoint; download it if it is not on this computer.

    A download goes to a temporary file, which is renamed once its hash is right: an interrupted download leaves nothing
    behind and starts again.

    Parameters
    ----------
    info : ModelInfo
    progress : callable, optional
        Called with the bytes downloaded and in total (0 if unknown); an exception that it raises ends the download.

    Raises
    ------
    CheckpointError
        If the file cannot be downloaded or stored, or has another hash; the message says how to provide it by hand.
    """
    if info.asset is not None:
        with as_file(files("napari_sam_lora") / "assets" / info.asset) as path:
            return path
    folder = cache_folder()
    target = folder / info.file_name
    by_hand = f"Download {info.url} in another way, save it as {target}, and try again."
    try:
        folder.mkdir(parents=True, exist_ok=True)
        found = pooch.retrieve(
            info.url,
            known_hash=info.digest,
            fname=info.file_name,
            path=folder,
            downloader=pooch.HTTPDownloader(
                progressbar=_ProgressAdapter(progress) if progress else False,
                timeout=CONNECT_SECONDS,
                chunk_size=1 << 20,
            ),
        )
    except requests.RequestException as error:
        raise CheckpointError(
            f"{info.name} is not on this computer and could not be downloaded ({type(error).__name__}). {by_hand}",
            code="download-failed",
        ) from error
    except ValueError as error:  # raised by pooch if the hash differs
        raise CheckpointError(
            f"The downloaded file of {info.name} is damaged or not the right one. {by_hand}",
            code="download-with-wrong-hash",
        ) from error
    except OSError as error:
        raise CheckpointError(
            f"{info.name} cannot be saved in {folder}: {error.strerror or error}. "
            f"Set the environment variable {CACHE_VARIABLE} to a folder with {info.megabytes} MB of free space.",
            code="cache-folder-not-writable",
        ) from error
    return Path(found)


class _ProgressAdapter:
    """Progress bar, as pooch expects it, that calls a function."""

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
        """Ignore: pooch resets its count after the last chunk, but reported progress must not go back."""

    def close(self) -> None:
        """Do nothing: there is nothing to close."""

"""Cache of embeddings on disk, shared by later sessions and other processes."""

from __future__ import annotations

import hashlib
import os
import re
import time
import warnings
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from napari_sam_lora.files import atomic_path

DEFAULT_BUDGET = 4 * 2**30
FORMAT = 1  # to be raised when the same weights and pixels give other embeddings, or the file layout changes
STALE_SECONDS = 3600  # a temporary file this old belongs to a process that died
_FILE_NAME = re.compile(r"\.?embedding-[0-9a-f]{32}.*\.safetensors")


class EmbeddingFiles:
    """A folder with one safetensors file for each embedding, up to a budget; the least recently used are removed first.

    Threads and processes may share a folder. Disk errors are not raised: an unreadable file counts as missing, an
    embedding that cannot be written is skipped, and the first such error gives a `UserWarning`. Other files in the
    folder are left alone.

    Parameters
    ----------
    folder : path-like
        Created when the first embedding is written.
    device : str or torch.device
        Device of the model. Embeddings of other types of device are kept apart, since they differ in the last bits.
    budget : int
        Bytes.
    """

    def __init__(
        self, folder: str | os.PathLike[str], device: str | torch.device = "cpu", budget: int = DEFAULT_BUDGET
    ) -> None:
        self.folder = Path(folder).expanduser()
        self.device = torch.device(device)
        self.budget = budget
        self._warned = False

    def path(self, key: tuple[str, str]) -> Path:
        """Return the path of the file of this key, whether or not it exists."""
        digest = hashlib.blake2b(repr((FORMAT, self.device.type, *key)).encode(), digest_size=16)
        return self.folder / f"embedding-{digest.hexdigest()}.safetensors"

    def read(self, key: tuple[str, str]) -> Tensor | None:
        """Return the embedding of this key, float32 (1, c, h, w) on the device; None if there is none.

        A damaged file is removed.
        """
        path = self.path(key)
        try:
            content = path.read_bytes()  # not memory-mapped: a mapped file that shrinks crashes the process
        except FileNotFoundError:
            return None
        except OSError as error:
            self._warn(error)
            return None
        found = _unpack(content)
        with suppress(OSError):  # another process may have removed it
            if found is None:
                path.unlink()
            else:
                os.utime(path)  # time of last use; many file systems do not record when a file is read
        return None if found is None else found.to(self.device)

    def write(self, key: tuple[str, str], tensor: Tensor) -> None:
        """Write an embedding, float32 (1, c, h, w), and remove the least recently used ones beyond the budget."""
        path, content = self.path(key), _pack(tensor)
        if len(content) > self.budget:
            return
        try:
            with atomic_path(path) as temporary:
                temporary.write_bytes(content)
        except OSError as error:
            if not path.is_file():  # otherwise another process has written it
                self._warn(error)
        self._trim()

    def _trim(self) -> None:
        used = 0
        for _, size, path in sorted(self._files(), reverse=True):
            used += size
            if used > self.budget:
                with suppress(OSError):
                    path.unlink()

    def _files(self) -> Iterator[tuple[int, int, Path]]:
        """Yield time of last use, size and path of every embedding; remove temporary files of dead processes."""
        with suppress(OSError):
            for path in self.folder.iterdir():
                if not _FILE_NAME.fullmatch(path.name):
                    continue
                with suppress(OSError):  # removed meanwhile
                    status = path.stat()
                    if not path.name.startswith("."):
                        yield status.st_mtime_ns, status.st_size, path
                    elif status.st_mtime < time.time() - STALE_SECONDS:
                        path.unlink()

    def _warn(self, error: OSError) -> None:
        if not self._warned:
            self._warned = True
            warnings.warn(
                f"Embeddings cannot be saved in {self.folder} ({error.strerror or error}), so they are in memory only. "
                "Free some space there, or choose a folder that you can write to.",
                stacklevel=2,
            )


def _pack(tensor: Tensor) -> bytes:
    """Serialise an embedding with its checksum and its memory layout, on which the decoder's last bits depend."""
    channels_last = not tensor.is_contiguous() and tensor.is_contiguous(memory_format=torch.channels_last)
    stored = tensor.detach().to("cpu", torch.float32)
    stored = (stored.permute(0, 2, 3, 1) if channels_last else stored).contiguous()
    metadata = torch.tensor([_checksum(stored), int(channels_last)], dtype=torch.int64)
    return save({"embedding": stored, "about": metadata})


def _unpack(content: bytes) -> Tensor | None:
    """Restore an embedding; None if the content is damaged."""
    try:
        tensors = load(content)
        stored, (checksum, channels_last) = tensors["embedding"], tensors["about"].tolist()
    except (SafetensorError, KeyError, ValueError, TypeError):
        return None
    if stored.dtype != torch.float32 or stored.ndim != 4 or _checksum(stored) != checksum:
        return None
    return stored.permute(0, 3, 1, 2) if channels_last else stored


def _checksum(stored: Tensor) -> int:
    """Return the CRC-32 of the values; safetensors itself checks the header only."""
    return zlib.crc32(stored.numpy().data)

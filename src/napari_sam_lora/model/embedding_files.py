"""Embeddings on disk, so that a later session or another process finds what was encoded before."""

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
FORMAT = 1  # to be raised when the same weights and pixels give other embeddings, or the files look otherwise
STALE_SECONDS = 3600  # a temporary file this old was left behind by a process that died
_OURS = re.compile(r"\.?embedding-[0-9a-f]{32}.*\.safetensors")


class EmbeddingFiles:
    """A folder with one safetensors file an embedding, up to a budget; those used longest ago go first.

    Threads and processes may share a folder. No trouble with the disk is raised: what cannot be read is not there, what
    cannot be kept is not kept, and the first time a `UserWarning` says so. Other files in the folder are left alone.

    Parameters
    ----------
    folder : path-like
        Made when the first embedding is kept.
    device : str or torch.device
        Where embeddings are computed and needed. Those of another type of device are not mixed up with them, since
        they are not equal to the last bit.
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
        """Where the embedding of this key is, or would be."""
        digest = hashlib.blake2b(repr((FORMAT, self.device.type, *key)).encode(), digest_size=16)
        return self.folder / f"embedding-{digest.hexdigest()}.safetensors"

    def read(self, key: tuple[str, str]) -> Tensor | None:
        """The embedding of this key, float32 (1, c, h, w) on the device; None if it is not kept.

        A damaged file is removed.
        """
        path = self.path(key)
        try:
            content = path.read_bytes()  # not mapped: a mapped file that shrinks ends the process
        except FileNotFoundError:
            return None
        except OSError as error:
            self._warn(error)
            return None
        found = _unpack(content)
        with suppress(OSError):  # another process may be faster
            if found is None:
                path.unlink()
            else:
                os.utime(path)  # the time of last use; many disks do not note when a file is read
        return None if found is None else found.to(self.device)

    def write(self, key: tuple[str, str], tensor: Tensor) -> None:
        """Keep an embedding, float32 (1, c, h, w), and remove those used longest ago beyond the budget."""
        path, content = self.path(key), _pack(tensor)
        if len(content) > self.budget:
            return
        try:
            with atomic_path(path) as temporary:
                temporary.write_bytes(content)
        except OSError as error:
            if not path.is_file():  # otherwise another process has written the same
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
        """Time of last use, size and path of every embedding; temporary files of dead processes are removed."""
        with suppress(OSError):
            for path in self.folder.iterdir():
                if not _OURS.fullmatch(path.name):
                    continue
                with suppress(OSError):  # gone meanwhile
                    status = path.stat()
                    if not path.name.startswith("."):
                        yield status.st_mtime_ns, status.st_size, path
                    elif status.st_mtime < time.time() - STALE_SECONDS:
                        path.unlink()

    def _warn(self, error: OSError) -> None:
        if not self._warned:
            self._warned = True
            warnings.warn(
                f"Embeddings cannot be kept in {self.folder} ({error.strerror or error}), but in memory only. "
                "Make room there, or choose a folder that you may write to.",
                stacklevel=2,
            )


def _pack(tensor: Tensor) -> bytes:
    """The layout in memory is kept too, because the decoder's last bits depend on it."""
    channels_last = not tensor.is_contiguous() and tensor.is_contiguous(memory_format=torch.channels_last)
    held = tensor.detach().to("cpu", torch.float32)
    held = (held.permute(0, 2, 3, 1) if channels_last else held).contiguous()
    about = torch.tensor([_checksum(held), int(channels_last)], dtype=torch.int64)
    return save({"embedding": held, "about": about})


def _unpack(content: bytes) -> Tensor | None:
    """None if the content is damaged."""
    try:
        tensors = load(content)
        held, (checksum, channels_last) = tensors["embedding"], tensors["about"].tolist()
    except (SafetensorError, KeyError, ValueError, TypeError):
        return None
    if held.dtype != torch.float32 or held.ndim != 4 or _checksum(held) != checksum:
        return None
    return held.permute(0, 3, 1, 2) if channels_last else held


def _checksum(held: Tensor) -> int:
    """safetensors checks the header only."""
    return zlib.crc32(held.numpy().data)

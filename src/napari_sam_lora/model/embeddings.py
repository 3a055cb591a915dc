"""Embeddings, and their cache in memory and optionally on disk; keys are made from content, so no hit is stale."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock

from torch import Tensor

from napari_sam_lora.images import Prepared
from napari_sam_lora.model.embedding_files import EmbeddingFiles

DEFAULT_BUDGET = 512 * 2**20


@dataclass(frozen=True, eq=False)
class Embedding:
    """An encoded plane.

    Attributes
    ----------
    tensor : Tensor
        SAM's image embedding, float32 (1, c, h, w).
    prepared : Prepared
        The pixels that were encoded; if the encoder has changed since, the model encodes them again.
    weights_key : str
        Identifies the encoder weights, adapter included.
    """

    tensor: Tensor
    prepared: Prepared
    weights_key: str

    @property
    def shape(self) -> tuple[int, int]:
        """(y, x) of the plane."""
        return self.prepared.shape


class EmbeddingCache:
    """Least-recently-used cache of embeddings with a budget of memory; safe to share between threads.

    Parameters
    ----------
    budget : int
        Bytes.
    files : EmbeddingFiles, optional
        Cache on disk: searched before an embedding is computed, and written to afterwards.
    """

    def __init__(self, budget: int = DEFAULT_BUDGET, files: EmbeddingFiles | None = None) -> None:
        self.budget = budget
        self.files = files
        self._cached: OrderedDict[tuple[str, str], Embedding] = OrderedDict()
        self._lock = Lock()

    def get(self, prepared: Prepared, weights_key: str, encode: Callable[[], Tensor]) -> Embedding:
        """Return the embedding of these pixels under these weights; call ``encode`` if it is not cached."""
        key = (prepared.key, weights_key)
        with self._lock:
            if key in self._cached:
                self._cached.move_to_end(key)
                return self._cached[key]
        embedding = Embedding(self._read_or_encode(key, encode), prepared, weights_key)
        with self._lock:
            self._cached[key] = embedding
            while len(self._cached) > 1 and self._size() > self.budget:
                self._cached.popitem(last=False)
        return embedding

    def __len__(self) -> int:
        return len(self._cached)

    def clear(self) -> None:
        """Remove all embeddings from memory; files stay."""
        with self._lock:
            self._cached.clear()

    def shrink(self) -> bool:
        """Free memory, and keep at most one embedding from now on; returns whether more were allowed before."""
        with self._lock:
            before, self.budget = self.budget, 0
            self._cached.clear()
        return before > 0

    def _read_or_encode(self, key: tuple[str, str], encode: Callable[[], Tensor]) -> Tensor:
        if self.files is None:
            return encode()
        tensor = self.files.read(key)
        if tensor is None:
            tensor = encode()
            self.files.write(key, tensor)
        return tensor

    def _size(self) -> int:
        return sum(entry.tensor.numel() * entry.tensor.element_size() for entry in self._cached.values())

"""Embeddings in memory and, if set, on disk, keyed by what they were computed from: a stale hit cannot happen."""

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
        The pixels that were encoded; a model whose encoder has changed since encodes them again by itself.
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
    """The most recently used embeddings, up to a budget of memory; safe to share between threads.

    Parameters
    ----------
    budget : int
        Bytes.
    files : EmbeddingFiles, optional
        Where embeddings are kept on disk as well, and looked for before they are computed.
    """

    def __init__(self, budget: int = DEFAULT_BUDGET, files: EmbeddingFiles | None = None) -> None:
        self.budget = budget
        self.files = files
        self._held: OrderedDict[tuple[str, str], Embedding] = OrderedDict()
        self._lock = Lock()

    def get(self, prepared: Prepared, weights_key: str, encode: Callable[[], Tensor]) -> Embedding:
        """The embedding of these pixels under these weights, computed by ``encode`` if it is not kept."""
        key = (prepared.key, weights_key)
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
                return self._held[key]
        made = Embedding(self._read_or_encode(key, encode), prepared, weights_key)
        with self._lock:
            self._held[key] = made
            while len(self._held) > 1 and self._size() > self.budget:
                self._held.popitem(last=False)
        return made

    def __len__(self) -> int:
        return len(self._held)

    def clear(self) -> None:
        """Forget what is in memory; files stay."""
        with self._lock:
            self._held.clear()

    def give_up(self) -> bool:
        """Keep no more than one embedding in memory from now on; returns whether more were allowed."""
        with self._lock:
            before, self.budget = self.budget, 0
            self._held.clear()
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
        return sum(entry.tensor.numel() * entry.tensor.element_size() for entry in self._held.values())

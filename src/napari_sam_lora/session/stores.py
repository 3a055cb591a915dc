"""Where labels are kept, with undo: a protocol, and the implementation over a NumPy array."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from napari_sam_lora.session.planes import PlaneKey


class LabelStore(Protocol):
    """The pixels of one label image and their history. Used on the owner's thread only.

    ``plane.image`` is ignored; ids are whole numbers, 0 is background.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the label array."""
        ...

    @property
    def largest_id(self) -> int:
        """The largest id that the dtype can hold."""
        ...

    def read(self, plane: PlaneKey) -> NDArray[np.int64]:
        """A copy of one plane (y, x)."""
        ...

    def write(self, plane: PlaneKey, where: NDArray[np.bool_], values: int | NDArray[np.integer[Any]]) -> None:
        """Set pixels as ONE undoable step, or as part of the running transaction.

        Parameters
        ----------
        where : bool (y, x)
        values : int or array (n,)
            One for all, or one for each True pixel in C order.
        """
        ...

    def transaction(self) -> AbstractContextManager[None]:
        """All writes in the block are one step; if the block raises, they are taken back."""
        ...

    def undo(self) -> bool:
        """Take back the last step; False if there is none to take back."""
        ...

    def redo(self) -> bool:
        """Do the last step that was taken back again; False if there is none."""
        ...

    def max_label(self) -> int:
        """The largest id in use anywhere in the array."""
        ...


class ArrayStore:
    """Labels in a NumPy array, changed in place.

    Parameters
    ----------
    data : int array
    steps : int
        Steps that can be undone; the oldest are forgotten first.
    """

    def __init__(self, data: NDArray[Any], steps: int = 200) -> None:
        self.data = data

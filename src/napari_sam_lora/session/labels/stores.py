"""Storage of label pixels with undo: a protocol, and the implementation with a NumPy array."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from napari_sam_lora.errors import InputError
from napari_sam_lora.session.plane_key import Box, PlaneKey, check_plane

Pixels = NDArray[np.integer[Any]]
_Step = list[tuple[PlaneKey, tuple[NDArray[np.intp], ...], NDArray[Any], NDArray[Any]]]


def own_dtype(pixels: NDArray[Any]) -> Pixels:
    """Return labels as they are, but uint64 as int64, which NumPy does not mix with other integers."""
    return pixels.astype(np.int64) if pixels.dtype == np.uint64 else pixels


class LabelStore(Protocol):
    """Pixels of one label image and their history. Used on the owner's thread only.

    ``plane.image`` is ignored. Ids are whole numbers; 0 is background.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the label array."""
        ...

    @property
    def largest_id(self) -> int:
        """Largest id that the dtype can hold."""
        ...

    def read(self, plane: PlaneKey, box: Box | None = None) -> Pixels:
        """Copy the pixels (y, x) of one plane, or of a box of it, in their own dtype; see `own_dtype`."""
        ...

    def write(
        self,
        plane: PlaneKey,
        where: NDArray[np.bool_],
        values: int | NDArray[np.integer[Any]],
        origin: tuple[int, int] = (0, 0),
    ) -> None:
        """Set pixels as one undo step, or as part of the running transaction.

        Parameters
        ----------
        where : bool (y, x)
            Pixels to set, of the plane or of a box of it.
        values : int or array (n,)
            One value for all, or one for each True pixel in C order.
        origin : tuple of int
            (y, x) of the box in the plane.
        """
        ...

    def transaction(self) -> AbstractContextManager[None]:
        """Make all writes in the block one step; if the block raises, undo them."""
        ...

    def undo(self) -> bool:
        """Undo the last step; return False if there is none."""
        ...

    def redo(self) -> bool:
        """Redo the step that was undone last; return False if there is none."""
        ...

    def max_label(self) -> int:
        """Return the largest id in use anywhere in the array."""
        ...


class ArrayStore:
    """Labels in a NumPy array, changed in place.

    Parameters
    ----------
    data : int array
    steps : int
        Number of steps that can be undone; the oldest are dropped first.

    Raises
    ------
    InputError
        If the array does not hold whole numbers.
    """

    def __init__(self, data: NDArray[Any], steps: int = 200) -> None:
        if data.dtype.kind not in "iu":
            raise InputError(f"Labels must be whole numbers, not {data.dtype}.", code="labels-not-whole-numbers")
        self.data = data
        self._steps: deque[_Step] = deque(maxlen=steps)
        self._undone: list[_Step] = []
        self._open: _Step | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the label array."""
        return self.data.shape

    @property
    def largest_id(self) -> int:
        """Largest id that the dtype can hold."""
        return int(np.iinfo(self.data.dtype).max)

    def read(self, plane: PlaneKey, box: Box | None = None) -> Pixels:
        """Copy the pixels (y, x) of one plane, or of a box of it, in their own dtype; see `own_dtype`."""
        return own_dtype(self._view(plane, box)).copy()

    def write(
        self,
        plane: PlaneKey,
        where: NDArray[np.bool_],
        values: int | NDArray[np.integer[Any]],
        origin: tuple[int, int] = (0, 0),
    ) -> None:
        """Set pixels as one undo step, or as part of the running transaction."""
        if np.min(values, initial=0) < 0 or np.max(values, initial=0) > self.largest_id:
            raise InputError(
                f"These labels hold ids up to {self.largest_id}: convert them to int32 for more.",
                code="id-out-of-range",
            )
        with self.transaction():
            rows, columns = np.nonzero(where)
            view, pixels = self._view(plane), (rows + origin[0], columns + origin[1])
            before = view[pixels]
            view[pixels] = values
            after = view[pixels]
            if self._open is not None and not np.array_equal(before, after):
                self._open.append((plane, pixels, before, after))

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make all writes in the block one step; if the block raises, undo them."""
        if self._open is not None:
            yield  # part of the outer one
            return
        step = self._open = []
        try:
            yield
        except BaseException:
            self._restore(step, before=True)
            raise
        else:
            if step:
                self._steps.append(step)
                self._undone.clear()
        finally:
            self._open = None

    def undo(self) -> bool:
        """Undo the last step; return False if there is none."""
        if not self._steps:
            return False
        self._undone.append(self._steps.pop())
        self._restore(self._undone[-1], before=True)
        return True

    def redo(self) -> bool:
        """Redo the step that was undone last; return False if there is none."""
        if not self._undone:
            return False
        self._steps.append(self._undone.pop())
        self._restore(self._steps[-1], before=False)
        return True

    def max_label(self) -> int:
        """Return the largest id in use anywhere in the array."""
        return int(self.data.max(initial=0))

    def _view(self, plane: PlaneKey, box: Box | None = None) -> NDArray[Any]:
        """Return a view (y, x) of a plane, or of a box of it."""
        check_plane(plane, self.shape)
        view = self.data[plane.slices(box)]
        return view.T if plane.is_transposed else view

    def _restore(self, step: _Step, before: bool) -> None:
        """Write the pixels before or after a step."""
        for plane, pixels, old, new in reversed(step) if before else step:
            self._view(plane)[pixels] = old if before else new

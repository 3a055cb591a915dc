"""Key planes of a propagation: labels, or prompts that are segmented first."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_sam_lora.errors import InputError
from napari_sam_lora.labels import check_labels
from napari_sam_lora.prompts import ObjectPrompts, Prompts
from napari_sam_lora.regions import Region
from napari_sam_lora.stacks.propagation.overlap import regions_of

# Labels (y, x); prompts, whose objects get the ids 1, 2, and so on; or prompts by id.
Seed = ArrayLike | Prompts | Mapping[int, ObjectPrompts]


class Seeds:
    """Seeds by plane; label planes are read when they are needed.

    Parameters
    ----------
    by_plane : mapping of int to Seed
    shape : tuple of int
        (y, x) of the planes.
    bounds : tuple of int
        First and last plane; seeds outside are not used.
    ids : collection of int, optional
        Follow only these objects; others in label planes keep their pixels.

    Raises
    ------
    InputError
        If no plane lies within the bounds.
    """

    def __init__(
        self,
        by_plane: Mapping[int, Seed],
        shape: tuple[int, int],
        bounds: tuple[int, int],
        ids: Collection[int] | None = None,
    ) -> None:
        self.planes = sorted(index for index in by_plane if bounds[0] <= index <= bounds[1])
        if not self.planes:
            raise InputError(
                f"None of the labelled or prompted planes lies between plane {bounds[0]} and plane {bounds[1]}.",
                code="no-seed-within-bounds",
            )
        self._by_plane, self._shape = by_plane, shape
        self._ids = None if ids is None else frozenset(ids)

    def prompts(self, index: int) -> dict[int, ObjectPrompts] | None:
        """Return the prompts of a plane by id; None if its seeds are labels."""
        seed = self._by_plane[index]
        if isinstance(seed, Prompts):
            seed = dict(enumerate(ObjectPrompts.from_prompts(seed), start=1))
        if not isinstance(seed, Mapping):
            return None
        return {label: one for label, one in seed.items() if self._is_wanted(label)}

    def regions(self, index: int) -> dict[int, Region]:
        """Return the objects by id of a plane whose seeds are labels."""
        return {label: region for label, region in regions_of(self._labels(index)).items() if self._is_wanted(label)}

    def free(self, index: int) -> NDArray[np.bool_]:
        """Return the pixels bool (y, x) of any plane that have no label."""
        if index not in self._by_plane or self._is_prompts(index):
            return np.ones(self._shape, np.bool_)
        return self._labels(index) == 0

    def _labels(self, index: int) -> NDArray[np.int64]:
        try:
            return check_labels(self._by_plane[index], self._shape)  # type: ignore[arg-type]
        except InputError as error:
            raise InputError(f"Plane {index}: {error}", code=error.code) from error

    def _is_prompts(self, index: int) -> bool:
        return isinstance(self._by_plane[index], (Prompts, Mapping))

    def _is_wanted(self, label: int) -> bool:
        return self._ids is None or label in self._ids


def seeds_by_plane(seeds: Seed | Mapping[int, Seed], plane: int | None, count: int) -> Mapping[int, Seed]:
    """Return the seeds of one plane or of several as a mapping from plane to seed.

    Raises
    ------
    InputError
        If the plane of the seeds is missing, there are no seeds, or the stack has no such plane.
    """
    if plane is None and not isinstance(seeds, Mapping):
        raise InputError("Say which plane the labels or prompts belong to: plane=…", code="seed-plane-missing")
    by_plane: Any = seeds if plane is None else {plane: seeds}
    if not by_plane:
        raise InputError(
            "There is nothing to propagate: label or prompt objects in at least one plane.", code="nothing-to-propagate"
        )
    wrong = [index for index in by_plane if not 0 <= index < count]
    if wrong:
        raise InputError(f"There is no plane {wrong[0]}: the planes are 0 to {count - 1}.", code="plane-outside-stack")
    return by_plane

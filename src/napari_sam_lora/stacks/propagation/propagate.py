"""Follow objects from the planes where they are known through a stack, plane by plane."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam_lora.errors import InputError
from napari_sam_lora.model.predictor import Predictor
from napari_sam_lora.regions import Region
from napari_sam_lora.stacks.propagation.config import PropagationConfig
from napari_sam_lora.stacks.propagation.occupancy import Occupancy
from napari_sam_lora.stacks.propagation.plan import Plan, Sweep, plan_sweeps
from napari_sam_lora.stacks.propagation.seeds import Seed, Seeds, seeds_by_plane
from napari_sam_lora.stacks.propagation.state import HasPredictor, PropagatedPlane, PropagationState, Stack
from napari_sam_lora.stacks.propagation.step import Followed, follow, own_contrasts, segment_seeds
from napari_sam_lora.stacks.tile_masks import ObjectPrompts, PlaneDecoder
from napari_sam_lora.stacks.tiles import TilingConfig

_NOTHING = Followed({}, {}, {})


def propagate(
    model: HasPredictor,
    stack: Stack,
    seeds: Seed | Mapping[int, Seed],
    plane: int | None = None,
    config: PropagationConfig | None = None,
    *,
    ids: Collection[int] | None = None,
    finished: Stack | None = None,
    closed: Collection[int] = (),
    tiling: TilingConfig | None = None,
    state: PropagationState | None = None,
) -> Iterator[PropagatedPlane]:
    """Follow objects through a stack.

    Only the plane that is worked on is read; memory does not grow with the number of planes.

    Parameters
    ----------
    model : Model
        Its active adapter, if there is one, is used to the end.
    stack : array_like
        (n, y, x) or (n, y, x, c): anything with a length that gives a plane when it is indexed, such as NumPy, dask
        and zarr arrays. The axis may be z or t.
    seeds : array_like, Prompts, mapping of int to ObjectPrompts, or a mapping from plane to these
        Labels (y, x) of a plane, one id an object; or prompts of its objects, which get the ids 1, 2, …, or those of
        the mapping. Several planes are key planes: they stay as they are, an object goes out from each of its own, and
        between two of them the nearer one decides.
    plane : int, optional
        Which plane the seeds are of, unless they are a mapping.
    config : PropagationConfig, optional
    ids : collection of int, optional
        Only these objects of the seeds; the others keep their pixels.
    finished : array_like, optional
        Labels (n, y, x), read plane by plane: nothing is propagated onto pixels that are not 0. Objects of the seeds
        are best left out.
    closed : collection of int
        Planes in which nothing is changed; an object that is not a seed there ends.
    tiling : TilingConfig, optional
        For large planes.
    state : PropagationState, optional
        Of a plane that an earlier call with the same arguments gave: go on after it.

    Yields
    ------
    PropagatedPlane
        First the planes of the seeds, then those above and those below. Stop whenever you like.

    Raises
    ------
    InputError
        If seeds and stack do not fit together, or nothing is to be propagated.
    """
    config = config or PropagationConfig()
    given = seeds_by_plane(seeds, plane, len(stack))
    first = np.shape(stack[min(given)])
    if len(first) < 2:
        raise InputError(f"A stack is (n, y, x) or (n, y, x, channel); its planes are {first}.")
    shape = first[0], first[1]
    chosen = Seeds(given, shape, config.bounds(len(stack)), ids)
    return _Propagation(model.predictor, stack, chosen, config, shape, finished, frozenset(closed), tiling).run(state)


def propagate_volume(
    model: HasPredictor,
    stack: Stack,
    seeds: Seed | Mapping[int, Seed],
    plane: int | None = None,
    config: PropagationConfig | None = None,
    **options: Any,
) -> NDArray[np.int64]:
    """`propagate` to the end, with the same arguments; returns the labels (n, y, x) of all planes."""
    done = list(propagate(model, stack, seeds, plane, config, **options))
    labels = np.zeros((len(stack), *done[0].shape), np.int64)
    for one in done:
        one.write(labels[one.index])
    return labels


@dataclass(frozen=True, eq=False)
class _Propagation:
    """One propagation; what changes is in its states."""

    predictor: Predictor
    stack: Stack
    seeds: Seeds
    config: PropagationConfig
    shape: tuple[int, int]
    finished: Stack | None
    closed: frozenset[int]
    tiling: TilingConfig | None

    def run(self, state: PropagationState | None) -> Iterator[PropagatedPlane]:
        keys: dict[int, list[int]] = {}
        begun = state or PropagationState("seeds", -1, {}, {}, Occupancy())
        for index in self.seeds.planes:
            seed = self._seed(index, begun)
            for label in seed.objects:
                keys.setdefault(label, []).append(index)
            if begun.sweep == "seeds" and index > begun.index:
                begun = seed.state
                yield seed
        if not keys:
            raise InputError("There is nothing to propagate: the given planes hold none of the objects.")
        plan = plan_sweeps(keys, self.config.bounds(len(self.stack)), self.config.direction)
        for sweep in plan.sweeps:
            if begun.sweep == "down" and sweep.name == "up":
                continue
            for one in self._sweep(plan, sweep, begun):
                begun = one.state
                yield one

    def _sweep(self, plan: Plan, sweep: Sweep, state: PropagationState) -> Iterator[PropagatedPlane]:
        goes_on = state.sweep == sweep.name
        current = dict(state.objects) if goes_on else {}
        contrasts = dict(state.contrasts) if goes_on else {}
        for index in sweep.planes():
            if goes_on and (index - state.index) * sweep.step <= 0:
                continue
            current = {label: region for label, region in current.items() if sweep.reaches(label, index)}
            found, asked = self._follow(index, current, state) if current else (_NOTHING, {})
            occupancy = state.occupancy
            if current and plan.is_visited_again(index, sweep):
                occupancy = occupancy.adding(index, found.objects, self.shape)
            worked, current = bool(current), dict(found.objects)
            here = sweep.keys_at(index)
            if here:
                known = self._known(index, state)
                given = {label: known[label] for label in here}
                going = {label: given[label] for label in here if sweep.reaches(label, index + sweep.step)}
                if going:
                    contrasts |= own_contrasts(self._decoder(index), going, self.config)
                current |= given
            contrasts = {label: contrasts[label] for label in current if label in contrasts}
            state = PropagationState(sweep.name, index, dict(current), state.seeded, occupancy, contrasts)
            if worked:
                prompts = {label: asked[label] for label in found.objects}
                done = plan.done(sweep, index)
                yield PropagatedPlane(
                    index, self.shape, found.objects, found.scores, found.ended, prompts, False, done, plan.total, state
                )

    def _follow(
        self, index: int, current: Mapping[int, Region], state: PropagationState
    ) -> tuple[Followed, dict[int, ObjectPrompts]]:
        if index in self.closed:
            return Followed({}, {}, dict.fromkeys(current, "closed")), {}
        least = self.config.score_for(self.predictor.sam)
        return follow(self._decoder(index), current, self._free(index, state), self.config, least, state.contrasts)

    def _free(self, index: int, state: PropagationState) -> NDArray[np.bool_]:
        free = self.seeds.free(index) & ~state.occupancy.mask(index, self.shape)
        if self.finished is not None:
            free &= np.asarray(self.finished[index]) == 0
        for region in state.seeded.get(index, {}).values():
            region.write(free, False)
        return free

    def _decoder(self, index: int) -> PlaneDecoder:
        image = np.asarray(self.stack[index])
        if image.shape[:2] != self.shape:
            raise InputError(f"Plane {index} is {image.shape[:2]}, others are {self.shape}: a stack has one size.")
        return PlaneDecoder(self.predictor, image, self.tiling)

    def _seed(self, index: int, state: PropagationState) -> PropagatedPlane:
        """A key plane; its prompts are segmented the first time."""
        asked, seeded = self.seeds.asked(index), state.seeded
        if asked is None or index in seeded:
            found, asked = Followed(self._known(index, state), {}, {}), {}
        else:
            found = segment_seeds(self._decoder(index), asked, self._free(index, state))
            asked = {label: asked[label] for label in found.objects}
            seeded = {**seeded, index: found.objects}
        held = PropagationState("seeds", index, {}, seeded, state.occupancy)
        return PropagatedPlane(index, self.shape, found.objects, found.scores, found.ended, asked, True, 0, 0, held)

    def _known(self, index: int, state: PropagationState) -> dict[int, Region]:
        return dict(state.seeded[index]) if index in state.seeded else self.seeds.regions(index)

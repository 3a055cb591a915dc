"""Follow objects from their key planes through a stack, plane by plane."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam_lora.errors import InputError
from napari_sam_lora.model.predictor import Predictor
from napari_sam_lora.parameters.propagation import PropagationConfig
from napari_sam_lora.parameters.tiling import TilingConfig
from napari_sam_lora.prompts import ObjectPrompts
from napari_sam_lora.regions import Region
from napari_sam_lora.stacks.plane_decoder import ImageDecoder
from napari_sam_lora.stacks.propagation.config import least_score
from napari_sam_lora.stacks.propagation.doubts import count_doubts
from napari_sam_lora.stacks.propagation.occupancy import Occupancy
from napari_sam_lora.stacks.propagation.plan import Plan, Sweep, plan_sweeps
from napari_sam_lora.stacks.propagation.seeds import Seed, Seeds, seeds_by_plane
from napari_sam_lora.stacks.propagation.state import HasPredictor, PropagatedPlane, PropagationState, Stack
from napari_sam_lora.stacks.propagation.step import Followed, follow, references_of, segment_seeds

_NO_OBJECTS = Followed({}, {}, {})


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

    Planes are read one by one; memory does not grow with their number.

    Parameters
    ----------
    model : Model
        Its active adapter, if there is one, is used for all planes.
    stack : array_like
        (n, y, x) or (n, y, x, c): anything with a length that gives a plane when it is indexed, such as NumPy, dask
        and zarr arrays. The axis may be z or t.
    seeds : array_like, Prompts, mapping of int to ObjectPrompts, or a mapping from plane to these
        Labels (y, x) of a plane, one id an object; or prompts of its objects, which get the ids 1, 2, …, or those of
        the mapping. Several planes are key planes: they stay as they are, an object is followed from each of its own,
        and between two of them each plane is reached from the nearer one.
    plane : int, optional
        Plane of the seeds, unless they are a mapping.
    config : PropagationConfig, optional
    ids : collection of int, optional
        Follow only these objects of the seeds; the others keep their pixels.
    finished : array_like, optional
        Labels (n, y, x), read plane by plane: nothing is propagated onto pixels that are not 0. They should not contain
        the objects of the seeds.
    closed : collection of int
        Planes that must not change: objects end there, unless they are seeds of the plane.
    tiling : TilingConfig, optional
        Tiles of large planes.
    state : PropagationState, optional
        State of a plane that an earlier call with the same arguments yielded: resume after it.

    Yields
    ------
    PropagatedPlane
        First the key planes, then those above and those below. The iteration can be stopped at any plane.

    Raises
    ------
    InputError
        If seeds and stack do not fit together, or nothing is to be propagated.
    """
    config = config or PropagationConfig()
    by_plane = seeds_by_plane(seeds, plane, len(stack))
    plane_shape = np.shape(stack[min(by_plane)])
    if len(plane_shape) < 2:
        raise InputError(
            f"A stack must be (n, y, x) or (n, y, x, channel), but its planes are {plane_shape}.", code="not-a-stack"
        )
    shape = plane_shape[0], plane_shape[1]
    key_planes = Seeds(by_plane, shape, config.bounds(len(stack)), ids)
    return _Propagation(model.predictor, stack, key_planes, config, shape, finished, frozenset(closed), tiling).run(
        state
    )


def propagate_volume(
    model: HasPredictor,
    stack: Stack,
    seeds: Seed | Mapping[int, Seed],
    plane: int | None = None,
    config: PropagationConfig | None = None,
    **options: Any,
) -> NDArray[np.int64]:
    """Run `propagate` to the end, with the same arguments; returns the labels (n, y, x) of all planes."""
    planes = list(propagate(model, stack, seeds, plane, config, **options))
    labels = np.zeros((len(stack), *planes[0].shape), np.int64)
    for one in planes:
        one.write(labels[one.index])
    return labels


@dataclass(frozen=True, eq=False)
class _Propagation:
    """One propagation; all that changes while it runs is in its states."""

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
        areas: dict[int, int] = {}
        last = state or PropagationState("seeds", -1, {}, {}, Occupancy())
        for index in self.seeds.planes:
            seed = self._seed(index, last)
            for label, region in seed.objects.items():
                keys.setdefault(label, []).append(index)
                areas[label] = max(areas.get(label, 0), region.area)
            if last.sweep == "seeds" and index > last.index:
                last = seed.state
                yield seed
        if not keys:
            raise InputError(
                "There is nothing to propagate: the labelled or prompted planes hold none of the chosen objects.",
                code="nothing-to-propagate",
            )
        plan = plan_sweeps(keys, self.config.bounds(len(self.stack)), self.config.direction)
        for sweep in plan.sweeps:
            if last.sweep == "down" and sweep.name == "up":
                continue
            for one in self._sweep(plan, sweep, last, areas):
                last = one.state
                yield one

    def _sweep(
        self, plan: Plan, sweep: Sweep, state: PropagationState, areas: Mapping[int, int]
    ) -> Iterator[PropagatedPlane]:
        resumes = state.sweep == sweep.name
        current = dict(state.objects) if resumes else {}
        references = dict(state.references) if resumes else {}
        doubtful = dict(state.doubtful) if resumes else {}
        for index in sweep.planes():
            if resumes and (index - state.index) * sweep.step <= 0:
                continue
            current = {label: region for label, region in current.items() if sweep.reaches(label, index)}
            found, prompts = self._follow(index, current, state) if current else (_NO_OBJECTS, {})
            doubtful = count_doubts(doubtful, found.doubts)
            stopped = [label for label, count in doubtful.items() if count > self.config.max_doubtful]
            found = found.without(stopped, "doubtful")
            occupancy = state.occupancy
            if current and plan.is_visited_again(index, sweep):
                occupancy = occupancy.with_objects(index, found.objects, self.shape)
            was_followed, current = bool(current), dict(found.objects)
            key_ids = sweep.keys_at(index)
            if key_ids:
                key_objects = self._key_objects(index, state)
                current |= {label: key_objects[label] for label in key_ids}
                leaving = {label: current[label] for label in key_ids if sweep.reaches(label, index + sweep.step)}
                if leaving:
                    references |= references_of(self._decoder(index), leaving, areas, self.config)
            references = {label: references[label] for label in current if label in references}
            doubtful = {label: count for label, count in doubtful.items() if label in found.doubts}
            state = PropagationState(
                sweep.name, index, dict(current), state.seeded, occupancy, references, dict(doubtful)
            )
            if was_followed:
                prompts = {label: prompts[label] for label in found.objects}
                done = plan.done(sweep, index)
                yield PropagatedPlane(
                    index,
                    self.shape,
                    found.objects,
                    found.scores,
                    found.ended,
                    found.doubts,
                    prompts,
                    is_seed=False,
                    done=done,
                    total=plan.total,
                    state=state,
                )

    def _follow(
        self, index: int, current: Mapping[int, Region], state: PropagationState
    ) -> tuple[Followed, dict[int, ObjectPrompts]]:
        if index in self.closed:
            return Followed({}, {}, dict.fromkeys(current, "closed")), {}
        least = least_score(self.predictor.sam, self.config)
        return follow(self._decoder(index), current, self._free(index, state), self.config, least, state.references)

    def _free(self, index: int, state: PropagationState) -> NDArray[np.bool_]:
        free = self.seeds.free(index) & ~state.occupancy.mask(index, self.shape)
        if self.finished is not None:
            free &= np.asarray(self.finished[index]) == 0
        for region in state.seeded.get(index, {}).values():
            region.write(free, False)
        return free

    def _decoder(self, index: int) -> ImageDecoder:
        image = np.asarray(self.stack[index])
        if image.shape[:2] != self.shape:
            raise InputError(
                f"Plane {index} is {image.shape[:2]}, others are {self.shape}: all planes must have the same size.",
                code="planes-of-different-size",
            )
        return ImageDecoder(self.predictor, image, self.tiling)

    def _seed(self, index: int, state: PropagationState) -> PropagatedPlane:
        """Return a key plane; its prompts are segmented the first time."""
        prompts, seeded = self.seeds.prompts(index), state.seeded
        if prompts is None or index in seeded:
            found, prompts = Followed(self._key_objects(index, state), {}, {}), {}
        else:
            found = segment_seeds(self._decoder(index), prompts, self._free(index, state))
            prompts = {label: prompts[label] for label in found.objects}
            seeded = {**seeded, index: found.objects}
        after = PropagationState("seeds", index, {}, seeded, state.occupancy)
        return PropagatedPlane(
            index, self.shape, found.objects, found.scores, found.ended, {}, prompts, True, 0, 0, after
        )

    def _key_objects(self, index: int, state: PropagationState) -> dict[int, Region]:
        return dict(state.seeded[index]) if index in state.seeded else self.seeds.regions(index)

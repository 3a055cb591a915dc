"""The model side of a session: what a job in the worker thread needs to segment."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_sam_lora.images import Prepared, Preprocessing, fixed_window, prepare
from napari_sam_lora.session.jobs.worker import CancelToken
from napari_sam_lora.session.plane_key import ImageSource, PlaneKey
from napari_sam_lora.session.prompting.draft import Row
from napari_sam_lora.session.prompting.preview import MaskOptions, Preview, RowMask, segment_rows
from napari_sam_lora.session.prompting.tiled_prompts import segment_row

if TYPE_CHECKING:
    from napari_sam_lora.api import Model
    from napari_sam_lora.lora.adapter import Adapter
    from napari_sam_lora.model.predictor import Predictor
    from napari_sam_lora.stacks.tiles import Level, Tile

PLANES_KEPT = 24
PREDICTORS_KEPT = 3
_Key = tuple[PlaneKey, Preprocessing, int, "Tile | None"]


class PlaneCache:
    """Prepared pixels of the planes used last, so that a plane is read once. Safe to share between threads."""

    def __init__(self, most: int = PLANES_KEPT) -> None:
        self._most = most
        self._held: OrderedDict[_Key, tuple[ImageSource, Prepared]] = OrderedDict()
        self._windows: OrderedDict[tuple[PlaneKey, Preprocessing], tuple[ImageSource, Preprocessing]] = OrderedDict()
        self._lock = Lock()

    def get(
        self,
        source: ImageSource,
        plane: PlaneKey,
        preprocessing: Preprocessing,
        input_size: int,
        tile: Tile | None = None,
    ) -> Prepared:
        """The plane, or a tile of it, as SAM sees it; read if it is not held, or is held of another source."""
        key = (plane, preprocessing, input_size, tile)
        with self._lock:
            held = self._held.get(key)
            if held is not None and held[0] is source:
                self._held.move_to_end(key)
                return held[1]
        pixels = source.read(plane)
        if tile is None:
            prepared = prepare(pixels, input_size, preprocessing)
        else:
            window = self._window(source, plane, preprocessing, pixels)
            prepared = prepare(pixels[tile.slices], input_size, window)
        with self._lock:
            self._held[key] = source, prepared
            while len(self._held) > self._most:
                self._held.popitem(last=False)
        return prepared

    def _window(
        self, source: ImageSource, plane: PlaneKey, preprocessing: Preprocessing, pixels: NDArray[Any]
    ) -> Preprocessing:
        """That of the whole plane, for all its tiles."""
        with self._lock:
            held = self._windows.get((plane, preprocessing))
        if held is None or held[0] is not source:
            held = source, fixed_window(pixels, preprocessing)
            with self._lock:
                self._windows[plane, preprocessing] = held
                while len(self._windows) > self._most:
                    self._windows.popitem(last=False)
        return held[1]


class PredictorCache:
    """Predictors of the adapters used last, so that switching between them costs nothing. For the worker thread."""

    def __init__(self) -> None:
        self._held: list[tuple[Model, Adapter | None, Predictor]] = []

    def get(self, model: Model, adapter: Adapter | None) -> Predictor:
        """The predictor of a model with this adapter, or of the base model."""
        from napari_sam_lora.lora.adapted import predictor_for  # noqa: PLC0415

        for place, (held_model, held_adapter, held) in enumerate(self._held):
            if held_model is model and held_adapter is adapter:
                self._held.append(self._held.pop(place))
                return held
        cache, preprocessing = model.predictor.cache, model.preprocessing
        made = predictor_for(model.loaded, adapter, cache=cache, preprocessing=preprocessing)
        self._held = [*(held for held in self._held if held[0] is model), (model, adapter, made)][-PREDICTORS_KEPT:]
        return made


@dataclass(frozen=True, eq=False)
class Engine:
    """The model and adapter of one job; frozen when the job is queued.

    Attributes
    ----------
    model : Model
    adapter : Adapter or None
    name : str
        The adapter's; empty for the base model.
    predictors : PredictorCache
    planes : PlaneCache
    """

    model: Model
    adapter: Adapter | None
    name: str
    predictors: PredictorCache
    planes: PlaneCache

    def predictor(self) -> Predictor:
        """In the worker thread only."""
        return self.predictors.get(self.model, self.adapter)

    def prepared(
        self,
        source: ImageSource,
        plane: PlaneKey,
        window: tuple[float, float] | None = None,
        tile: Tile | None = None,
    ) -> Prepared:
        """The pixels of a plane or a tile as this model sees them, with another intensity window if one is given."""
        predictor = self.predictor()
        preprocessing = predictor.preprocessing
        if window is not None:
            preprocessing = replace(preprocessing, window=window)
        return self.planes.get(source, plane, preprocessing, predictor.input_size, tile)

    def _levels(self, source: ImageSource, plane: PlaneKey) -> list[Level]:
        from napari_sam_lora.stacks.tiles import pyramid  # noqa: PLC0415

        return pyramid(plane.shape(source.shape), self.predictor().input_size)

    def segment(
        self, source: ImageSource, plane: PlaneKey, rows: Sequence[Row], options: MaskOptions
    ) -> list[RowMask | None]:
        """Masks of some objects of a plane; see `segment_rows`. Of a large plane only tiles are encoded."""
        levels = self._levels(source, plane)
        if len(levels) > 1:

            def in_tile(tile: Tile, row: Row) -> RowMask | None:
                prepared = self.prepared(source, plane, options.window, tile)
                return segment_rows(self.predictor(), prepared, [row], options)[0]

            return [segment_row(in_tile, levels, row) for row in rows]
        return segment_rows(self.predictor(), self.prepared(source, plane, options.window), rows, options)

    def preview(
        self,
        token: CancelToken,
        source: ImageSource,
        plane: PlaneKey,
        rows: dict[int, Row],
        options: MaskOptions,
    ) -> Preview:
        """Masks of a draft's snapshot."""
        token.check()
        found = self.segment(source, plane, list(rows.values()), options) if rows else []
        kept = [(obj, rows[obj], mask) for obj, mask in zip(rows, found, strict=True) if mask is not None]
        shape = plane.shape(source.shape)
        masks = [mask for _, _, mask in kept]
        return Preview(
            plane=plane,
            rows=tuple(row for _, row, _ in kept),
            objects=tuple(obj for obj, _, _ in kept),
            masks=np.array([one.mask for one in masks], np.bool_).reshape(-1, *shape),
            scores=np.array([one.score for one in masks], np.float32),
            candidates=np.array([one.candidates for one in masks], np.bool_).reshape(-1, 3, *shape),
            candidate_scores=np.array([one.candidate_scores for one in masks], np.float32).reshape(-1, 3),
            options=options,
            adapter=self.name,
        )

    def embed(self, token: CancelToken, source: ImageSource, plane: PlaneKey) -> None:
        """Encode a plane, so that a later preview finds its embedding in memory; a large one waits for prompts."""
        token.check()
        if len(self._levels(source, plane)) > 1:
            return
        prepared = self.prepared(source, plane)
        token.check()
        self.predictor().encode_prepared(prepared)

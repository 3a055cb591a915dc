"""Segmentation in the worker thread: the model and adapter of a job, with caches of planes and predictors."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from threading import Lock
from typing import TYPE_CHECKING

from napari_sam_lora.images import Prepared, Preprocessing, fixed_window, prepare
from napari_sam_lora.masks import MaskOptions, ObjectMask
from napari_sam_lora.session.jobs.worker import CancelToken
from napari_sam_lora.session.plane_key import ImageSource, PlaneKey
from napari_sam_lora.session.prompting.draft import Row, combine
from napari_sam_lora.session.prompting.preview import Preview

if TYPE_CHECKING:
    from napari_sam_lora.api import Model
    from napari_sam_lora.lora.adapter import Adapter
    from napari_sam_lora.model.predictor import Predictor
    from napari_sam_lora.stacks.tiles import Tile

PLANES_KEPT = 24
PREDICTORS_KEPT = 3
_Key = tuple[PlaneKey, Preprocessing, int, "Tile | None"]


class PlaneCache:
    """Prepared pixels of the planes used last, so that a plane is read only once. May be used by several threads."""

    def __init__(self, most: int = PLANES_KEPT) -> None:
        self._most = most
        self._prepared: OrderedDict[_Key, tuple[ImageSource, Prepared]] = OrderedDict()
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
        """Return a plane, or a tile of it, prepared for SAM; read it unless it is in the cache for this source."""
        key = (plane, preprocessing, input_size, tile)
        with self._lock:
            cached = self._prepared.get(key)
            if cached is not None and cached[0] is source:
                self._prepared.move_to_end(key)
                return cached[1]
        if tile is None:
            prepared = prepare(source.read(plane), input_size, preprocessing)
        else:
            window = self._window(source, plane, preprocessing)
            prepared = prepare(source.read(plane, tile.box), input_size, window)
        with self._lock:
            self._prepared[key] = source, prepared
            while len(self._prepared) > self._most:
                self._prepared.popitem(last=False)
        return prepared

    def _window(self, source: ImageSource, plane: PlaneKey, preprocessing: Preprocessing) -> Preprocessing:
        """Return the preprocessing with the intensity window of the whole plane, which all its tiles share."""
        if preprocessing.window is not None:
            return preprocessing
        with self._lock:
            cached = self._windows.get((plane, preprocessing))
        if cached is None or cached[0] is not source:
            cached = source, fixed_window(source.read(plane), preprocessing)
            with self._lock:
                self._windows[plane, preprocessing] = cached
                while len(self._windows) > self._most:
                    self._windows.popitem(last=False)
        return cached[1]


class PredictorCache:
    """Predictors of the adapters used last, so that switching between them takes no time. For the worker thread."""

    def __init__(self) -> None:
        self._predictors: list[tuple[Model, Adapter | None, Predictor]] = []

    def get(self, model: Model, adapter: Adapter | None) -> Predictor:
        """Return the predictor of a model with an adapter, or without one."""
        from napari_sam_lora.lora.adapted import predictor_for  # noqa: PLC0415

        for place, (cached_model, cached_adapter, predictor) in enumerate(self._predictors):
            if cached_model is model and cached_adapter is adapter:
                self._predictors.append(self._predictors.pop(place))
                return predictor
        cache, preprocessing = model.predictor.cache, model.preprocessing
        predictor = predictor_for(model.loaded, adapter, cache=cache, preprocessing=preprocessing)
        of_this_model = [one for one in self._predictors if one[0] is model]
        self._predictors = [*of_this_model, (model, adapter, predictor)][-PREDICTORS_KEPT:]
        return predictor


@dataclass(frozen=True, eq=False)
class Engine:
    """Model and adapter of one job, fixed when the job is queued.

    Attributes
    ----------
    model : Model
    adapter : Adapter or None
    name : str
        Name of the adapter; empty for the base model.
    predictors : PredictorCache
    planes : PlaneCache
    """

    model: Model
    adapter: Adapter | None
    name: str
    predictors: PredictorCache
    planes: PlaneCache

    def predictor(self) -> Predictor:
        """Return the predictor. For the worker thread only."""
        return self.predictors.get(self.model, self.adapter)

    def prepared(
        self,
        source: ImageSource,
        plane: PlaneKey,
        window: tuple[float, float] | None = None,
        tile: Tile | None = None,
    ) -> Prepared:
        """Return a plane or a tile, prepared for this model, with another intensity window if there is one."""
        predictor = self.predictor()
        preprocessing = predictor.preprocessing
        if window is not None:
            preprocessing = replace(preprocessing, window=window)
        return self.planes.get(source, plane, preprocessing, predictor.input_size, tile)

    def segment(
        self,
        source: ImageSource,
        plane: PlaneKey,
        rows: Sequence[Row],
        options: MaskOptions,
        with_candidates: bool = False,
    ) -> list[ObjectMask | None]:
        """Segment some objects of a plane; the result is None for those without a positive prompt.

        The plane, or in a large one only the tiles that show the objects, are encoded unless their embeddings are in
        memory.
        """
        from napari_sam_lora.stacks.plane_decoder import Choice, PlaneDecoder  # noqa: PLC0415

        masks: list[ObjectMask | None] = [None] * len(rows)
        objects = {place: combined for place, row in enumerate(rows) if (combined := combine(row)) is not None}
        if not objects:
            return masks

        def prepared(tile: Tile) -> Prepared:
            return self.prepared(source, plane, options.window, tile if len(decoder.levels) > 1 else None)

        decoder = PlaneDecoder(self.predictor(), plane.shape(source.shape), prepared)
        places = list(objects)
        for number, mask in decoder.decode(list(objects.values()), Choice(options, with_candidates=with_candidates)):
            masks[places[number]] = _at_most_one(mask)
        return masks

    def preview(
        self,
        token: CancelToken,
        source: ImageSource,
        plane: PlaneKey,
        rows: dict[int, Row],
        options: MaskOptions,
    ) -> Preview:
        """Segment a snapshot of a draft."""
        token.check()
        found = self.segment(source, plane, list(rows.values()), options, with_candidates=True) if rows else []
        kept = [(obj, rows[obj], mask) for obj, mask in zip(rows, found, strict=True) if mask is not None]
        return Preview(
            plane=plane,
            shape=plane.shape(source.shape),
            rows=tuple(row for _, row, _ in kept),
            objects=tuple(obj for obj, _, _ in kept),
            masks=tuple(mask for _, _, mask in kept),
            options=options,
            adapter=self.name,
        )

    def embed(self, token: CancelToken, source: ImageSource, plane: PlaneKey) -> None:
        """Encode a plane, so that a later preview finds its embedding in memory. A large plane is not encoded."""
        from napari_sam_lora.stacks.tiles import pyramid  # noqa: PLC0415

        token.check()
        if len(pyramid(plane.shape(source.shape), self.predictor().input_size)) > 1:
            return
        prepared = self.prepared(source, plane)
        token.check()
        self.predictor().encode_prepared(prepared)


def _at_most_one(mask: ObjectMask) -> ObjectMask:
    """Return a mask with scores of at most 1, as the user sees them, and without its logits."""
    first, second, third = (min(score, 1.0) for score in mask.candidate_scores)
    return replace(mask, score=min(mask.score, 1.0), candidate_scores=(first, second, third), logits=None)

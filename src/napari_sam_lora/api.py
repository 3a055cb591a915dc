"""What users of the package call: models, fine-tuning and evaluation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from napari_sam_lora.errors import InputError
from napari_sam_lora.images import Preprocessing
from napari_sam_lora.labels import LabelMeaning, check_labels
from napari_sam_lora.lora.adapted import predictor_for
from napari_sam_lora.lora.adapter import Adapter
from napari_sam_lora.model.allocator import keep_freed_memory
from napari_sam_lora.model.automatic import EverythingConfig, Progress, everything
from napari_sam_lora.model.checkpoints import LoadedModel, load
from napari_sam_lora.model.device import pick_device
from napari_sam_lora.model.embedding_files import EmbeddingFiles
from napari_sam_lora.model.embeddings import Embedding, EmbeddingCache
from napari_sam_lora.model.input_size import at_input_size, mask_stride
from napari_sam_lora.model.instances import InstanceConfig
from napari_sam_lora.model.predictor import Multimask, Predictor, Result
from napari_sam_lora.prompts import Prompts
from napari_sam_lora.stacks.dense import dense_maps, dense_model, find_instances
from napari_sam_lora.stacks.everything import segment_everything
from napari_sam_lora.stacks.propagation.config import PropagationConfig
from napari_sam_lora.stacks.propagation.propagate import propagate
from napari_sam_lora.stacks.propagation.seeds import Seed
from napari_sam_lora.stacks.propagation.state import PropagatedPlane, Stack
from napari_sam_lora.stacks.tile_masks import ObjectPrompts, PlaneDecoder, TileMask
from napari_sam_lora.stacks.tiles import TilingConfig
from napari_sam_lora.training.config import TrainConfig
from napari_sam_lora.training.data.crops import cut_large
from napari_sam_lora.training.data.samples import Labelled, snapshot
from napari_sam_lora.training.data.split import list_objects
from napari_sam_lora.training.evaluation.instance_matching import Matches, match_objects
from napari_sam_lora.training.evaluation.metrics import Figures, ObjectScore, score_objects, summarise
from napari_sam_lora.training.run import FineTuneReport, FineTuneRun

Pairs = Iterable[Labelled]
Method = Literal["head", "clicks"]
METHODS: tuple[Method, ...] = ("head", "clicks")


class Model:
    """A SAM, and the adapter that is active on it.

    Parameters
    ----------
    loaded : LoadedModel
        Its weights are never changed.
    preprocessing : Preprocessing, optional
        Intensity window while no adapter is active; an adapter brings its own.
    cache : EmbeddingCache, optional
        Where its embeddings are kept.
    """

    def __init__(
        self, loaded: LoadedModel, preprocessing: Preprocessing | None = None, cache: EmbeddingCache | None = None
    ) -> None:
        self.loaded = loaded
        self.preprocessing = preprocessing or Preprocessing()
        self._cache = EmbeddingCache() if cache is None else cache  # an empty one is false
        self._base = predictor_for(loaded, cache=self._cache, preprocessing=self.preprocessing)
        self._active: tuple[Adapter, Predictor] | None = None

    @property
    def name(self) -> str:
        """Registered name, or file name of the checkpoint."""
        return self.loaded.name

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.loaded.sam.device

    @property
    def predictor(self) -> Predictor:
        """The base model's predictor, or the active adapter's."""
        return self._base if self._active is None else self._active[1]

    @property
    def adapter(self) -> Adapter | None:
        """The active adapter."""
        return None if self._active is None else self._active[0]

    def encode(self, image: ArrayLike) -> Embedding:
        """Encode a plane.

        Parameters
        ----------
        image : array_like
            (y, x) or (y, x, c) with 1, 3 or 4 channels, any dtype.

        Returns
        -------
        Embedding
            ``tensor`` is SAM's image embedding, float32 (1, c, h, w).
        """
        return self.predictor.encode(image)

    def segment(self, embedding: Embedding, prompts: Prompts, multimask: Multimask = "auto") -> Result:
        """Masks of the prompted objects, one a row; see `Predictor.segment`."""
        return self.predictor.segment(embedding, prompts, multimask)

    def segment_everything_records(
        self, image: ArrayLike, config: EverythingConfig | None = None, *, progress: Progress | None = None
    ) -> list[dict[str, Any]]:
        """`segment_everything` as segment-anything's scored records; masks may overlap. See `everything`."""
        return everything(self.predictor, image, config, progress)

    def activate(self, adapter: Adapter) -> None:
        """Segment with this adapter from now on.

        Raises
        ------
        AdapterError
            If the adapter was trained on another base model.
        """
        self._active = adapter, predictor_for(self.loaded, adapter, cache=self._cache)

    def deactivate(self) -> None:
        """Segment with the base model from now on."""
        self._active = None

    @contextmanager
    def adapted(self, adapter: Adapter | None) -> Iterator[Model]:
        """Segment with an adapter (or, given None, with the base model) within the block only."""
        before = self._active
        if adapter is None:
            self.deactivate()
        else:
            self.activate(adapter)
        try:
            yield self
        finally:
            self._active = before

    def propagate(
        self,
        stack: Stack,
        seeds: Seed | Mapping[int, Seed],
        plane: int | None = None,
        config: PropagationConfig | None = None,
        **options: Any,
    ) -> Iterator[PropagatedPlane]:
        """Follow objects from one or several planes through a stack, plane by plane; see `propagate`."""
        return propagate(self, stack, seeds, plane, config, **options)

    def segment_large(
        self,
        image: ArrayLike,
        prompts: Prompts,
        multimask: Multimask = "auto",
        tiling: TilingConfig | None = None,
    ) -> list[TileMask]:
        """Masks of prompted objects in a plane of any size, one a row.

        A large plane is not encoded as a whole, but only the tiles that show the objects.

        Parameters
        ----------
        image : array_like
            (y, x) or (y, x, c).
        prompts : Prompts
            Drawn masks are allowed, logits are not.
        multimask : bool or "auto"
            See `Predictor.segment`.
        tiling : TilingConfig, optional

        Returns
        -------
        list of TileMask
            ``region()`` is the mask, cut to its box.
        """
        decoder = PlaneDecoder(self.predictor, image, tiling)
        return sorted(decoder.decode(ObjectPrompts.rows(prompts), multimask), key=lambda placed: placed.row)

    def maps(self, image: ArrayLike, *, progress: Progress | None = None) -> NDArray[np.float32]:
        """Maps of the dense head: probability of foreground, and distance to the outline relative to the largest.

        Parameters
        ----------
        image : array_like
            (y, x) or (y, x, c), of any size.
        progress : callable, optional
            Called with the tiles done and all tiles.

        Returns
        -------
        float32 (2, y, x), or (3, y, x) of micro-sam's models, with nearness to the centre
            From 0 to 1. `napari_sam_lora.model.instances.maps_to_labels` cuts objects out of them.

        Raises
        ------
        InputError
            If the model has no dense head.
        """
        return dense_maps(self.predictor, image, progress)

    def segment_everything(
        self,
        image: ArrayLike,
        config: EverythingConfig | None = None,
        *,
        smallest: int | None = None,
        progress: Progress | None = None,
        tiling: TilingConfig | None = None,
        method: Method | None = None,
        instances: InstanceConfig | None = None,
    ) -> NDArray[np.int32]:
        """Segment all objects of a plane without prompts.

        Parameters
        ----------
        image : array_like
            (y, x) or (y, x, c).
        config : EverythingConfig, optional
            Of "clicks".
        smallest : int, optional
            Objects with fewer pixels are left out. By default what suits the dense head, and 0 with clicks.
        progress : callable, optional
            Called with the batches of clicks, or the tiles, done and all of them.
        tiling : TilingConfig, optional
            Of "clicks": how a large plane is cut into tiles; objects that lie across several are one object.
        method : str, optional
            "head": the dense head; "clicks": a grid of clicks. By default the head where there is one and neither
            ``config`` nor ``tiling`` is given.
        instances : InstanceConfig, optional
            Of "head"; by default what was chosen when the head was trained.

        Returns
        -------
        int32 (y, x)
            Instance ids; 0 is background.

        Raises
        ------
        InputError
            If the model has no dense head and it is asked for.
        """
        if method not in (None, *METHODS):
            raise InputError(f"method is one of {', '.join(METHODS)}, not {method!r}.", code="unknown-method")
        if method is None:
            by_clicks = self.predictor.dense is None or config is not None or tiling is not None
            method = "clicks" if by_clicks and instances is None else "head"
        if method == "clicks":
            return segment_everything(self.predictor, image, config, progress, tiling, smallest or 0)
        chosen = instances or dense_model(self.predictor).instances
        chosen = chosen if smallest is None else replace(chosen, smallest=smallest)
        return find_instances(self.predictor, image, config=chosen, progress=progress)


@dataclass(frozen=True)
class Evaluation:
    """Figures of one adapter, or of the base model.

    Attributes
    ----------
    adapter : Adapter or None
    figures : Figures
        Means over all objects.
    objects : tuple of ObjectScore
    """

    adapter: Adapter | None
    figures: Figures
    objects: tuple[ObjectScore, ...]


def load_model(
    name: str | Path = "sam_nano",
    device: str = "auto",
    preprocessing: Preprocessing | None = None,
    input_size: int | None = None,
    embeddings_folder: str | Path | None = None,
) -> Model:
    """Load a model.

    Parameters
    ----------
    name : str or Path
        A registered name, or the path of a SAM-format checkpoint (.safetensors, .pth, .pt).
    device : str
        "auto" (CUDA or Apple's MPS where there is one, otherwise the CPU), or a torch device such as "cuda:1".
    preprocessing : Preprocessing, optional
        Intensity window.
    input_size : int, optional
        Side of the square model input in pixels, by default the one that the model was trained at: 1024, and 256 for
        sam_nano. Half of it costs less than a quarter of the time and shows less detail.
    embeddings_folder : str or Path, optional
        Where embeddings are kept for later sessions, up to 4 GiB; by default they are in memory only.

    Raises
    ------
    CheckpointError
        If there is no such model, or the file is damaged or something else.
    InputError
        If there is no such device, or the input size does not fit the model.
    """
    chosen = pick_device(device)
    if chosen.type == "cpu":
        keep_freed_memory()
    loaded = load(name, chosen)
    if input_size is not None:
        loaded = replace(loaded, sam=at_input_size(loaded.sam, input_size))
    files = None if embeddings_folder is None else EmbeddingFiles(embeddings_folder, chosen)
    return Model(loaded, preprocessing, EmbeddingCache(files=files))


def iter_fine_tune(
    model: Model,
    pairs: Pairs,
    config: TrainConfig | None = None,
    *,
    held_out: Sequence[str] = (),
    start: Adapter | None = None,
) -> FineTuneRun:
    """Fine-tune step by step.

    Parameters
    ----------
    model : Model
        Not changed, and free to be used meanwhile.
    pairs : iterable of (image, labels), (image, labels, prompts) or (image, labels, prompts, position)
        Image (y, x) or (y, x, c); labels (y, x), whole numbers, one an object (or what ``config.labels`` says), 0
        for what is not labelled. Prompts, a dict from id to `Prompts` of one row, are those that the user gave for
        these objects; they are replayed beside simulated ones. The `StackPosition` of a plane of a stack keeps
        neighbours of held-out planes out of training. Arrays are copied. Images without a label are left out
        with a warning.
    config : TrainConfig, optional
    held_out : sequence of str
        `FineTuneReport.held_out` of an earlier run: what was held out then is held out again.
    start : Adapter, optional
        Go on from this adapter and its layers. The default, training from the base model, avoids forgetting.

    Returns
    -------
    FineTuneRun
        An iterator of one report a step, with ``stop()``, ``discard()``, ``warnings`` and ``result()``.
    """
    return FineTuneRun(model.loaded, pairs, config or TrainConfig(), model.preprocessing, held_out, start)


def fine_tune(
    model: Model,
    pairs: Pairs,
    config: TrainConfig | None = None,
    *,
    held_out: Sequence[str] = (),
    start: Adapter | None = None,
) -> tuple[Adapter, FineTuneReport]:
    """Fine-tune to the end; see `iter_fine_tune`.

    Returns
    -------
    Adapter, in every case, also if it is not better than the base model
    FineTuneReport, whose ``verdict`` is "better", "not better" or "too few"
    """
    run = iter_fine_tune(model, pairs, config, held_out=held_out, start=start)
    for _ in run:
        pass
    return run.result()


def evaluate(
    model: Model, pairs: Pairs, adapters: Sequence[Adapter | None] = (None,), *, labels: LabelMeaning = "instances"
) -> list[Evaluation]:
    """Measure how well labelled objects are segmented from boxes and clicks.

    Parameters
    ----------
    model : Model
    pairs : iterable of (image, labels)
        Every object counts (of large planes those in crops, as in training); use others than were trained on.
    adapters : sequence of Adapter or None
        None stands for the base model.
    labels : str
        What label images mean: "instances", "classes" or "mask"; see `TrainConfig`.

    Returns
    -------
    list of Evaluation
        One for each adapter, in order.
    """
    copied = [(np.asarray(pair[0]), np.asarray(pair[1])) for pair in pairs]
    evaluations = []
    for adapter in adapters:
        with model.adapted(adapter):
            predictor = model.predictor
            size, stride, shown = predictor.input_size, mask_stride(predictor.sam), predictor.preprocessing
            cut = partial(cut_large, input_size=size, preprocessing=shown, meaning=labels)
            planes = snapshot(copied, size, stride, shown, labels, cut)
            scores = score_objects(predictor, planes, list_objects(planes))
            evaluations.append(Evaluation(adapter, summarise(scores), tuple(scores)))
    return evaluations


def evaluate_everything(
    model: Model,
    pairs: Pairs,
    adapters: Sequence[Adapter | None] = (None,),
    config: EverythingConfig | None = None,
    method: Method | None = None,
) -> list[Matches]:
    """Measure what everything mode finds in planes that are labelled completely.

    Parameters are those of `evaluate`, which other than this does not count objects that are not labelled as mistakes,
    and those of `Model.segment_everything`.

    Returns
    -------
    list of Matches
        One for each adapter, over all planes; see ``Matches.average_precision``.
    """
    copied = [(np.asarray(pair[0]), check_labels(pair[1], np.shape(pair[0])[:2])) for pair in pairs]
    found = []
    for adapter in adapters:
        with model.adapted(adapter):
            matches = Matches()
            for image, labels in copied:
                matches += match_objects(model.segment_everything(image, config, method=method), labels)
            found.append(matches)
    return found

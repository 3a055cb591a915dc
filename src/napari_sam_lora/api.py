"""Functions and classes for users of the package: models, fine-tuning and evaluation."""

from __future__ import annotations

import threading
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
from napari_sam_lora.labels import LabelMeaning, check_labels, separate_objects
from napari_sam_lora.lora.adapted import predictor_for
from napari_sam_lora.lora.adapter import Adapter
from napari_sam_lora.model.allocator import keep_freed_memory
from napari_sam_lora.model.automatic import Progress, everything
from napari_sam_lora.model.checkpoints import LoadedModel, load
from napari_sam_lora.model.device import pick_device
from napari_sam_lora.model.embedding_files import EmbeddingFiles
from napari_sam_lora.model.embeddings import Embedding, EmbeddingCache
from napari_sam_lora.model.input_size import at_input_size, mask_stride
from napari_sam_lora.model.predictor import Multimask, Predictor, Result
from napari_sam_lora.parameters.everything import EverythingConfig
from napari_sam_lora.parameters.instances import InstanceConfig
from napari_sam_lora.parameters.propagation import PropagationConfig
from napari_sam_lora.parameters.tiling import TilingConfig
from napari_sam_lora.parameters.training import TrainConfig
from napari_sam_lora.prompts import ObjectPrompts, Prompts
from napari_sam_lora.regions import Region
from napari_sam_lora.stacks.dense import dense_maps, dense_model, find_classes, find_instances, segment_semantic
from napari_sam_lora.stacks.everything import segment_everything
from napari_sam_lora.stacks.plane_decoder import Choice, ImageDecoder
from napari_sam_lora.stacks.propagation.propagate import propagate
from napari_sam_lora.stacks.propagation.seeds import Seed
from napari_sam_lora.stacks.propagation.state import PropagatedPlane, Stack
from napari_sam_lora.training.data.counts import ObjectCounts
from napari_sam_lora.training.data.crops import cut_large
from napari_sam_lora.training.data.samples import Labelled, as_pair, snapshot
from napari_sam_lora.training.data.split import list_objects
from napari_sam_lora.training.evaluation.classes import ClassFigures, score_classes
from napari_sam_lora.training.evaluation.instance_matching import Matches, match_objects
from napari_sam_lora.training.evaluation.metrics import Figures, ObjectScore, score_objects, summarise
from napari_sam_lora.training.resume import resume_settings
from napari_sam_lora.training.run import FineTuneReport, FineTuneRun
from napari_sam_lora.training.training_set import TrainingSet

Pairs = Iterable[Labelled]
Active = tuple[Adapter, Predictor]
Method = Literal["head", "clicks"]
METHODS: tuple[Method, ...] = ("head", "clicks")


class _InBlock(threading.local):
    """Adapters of the blocks of `Model.adapted` that this thread is in, the innermost last."""

    def __init__(self) -> None:
        self.stack: list[Active | None] = []


@dataclass(frozen=True, eq=False)
class TileMask:
    """Mask of one object of a large plane.

    Attributes
    ----------
    row : int
        Index of the object among the prompts.
    origin : tuple of int
        (y, x) of the first pixel of ``logits`` in the plane.
    logits : float32 (h, w)
        In pixels of the plane; the mask is where they are above the threshold, and nowhere outside this crop.
    score : float
        Predicted IoU.
    """

    row: int
    origin: tuple[int, int]
    logits: NDArray[np.float32]
    score: float

    def region(self, threshold: float = 0.0) -> Region:
        """Return the mask: pixels with logits above the threshold."""
        return Region.of(self.logits > threshold, self.origin)


class Model:
    """A SAM model and the adapter that is active on it.

    Parameters
    ----------
    loaded : LoadedModel
        Its weights are never changed.
    preprocessing : Preprocessing, optional
        Intensity window while no adapter is active; an adapter brings its own.
    cache : EmbeddingCache, optional
        Keeps its embeddings.
    """

    def __init__(
        self, loaded: LoadedModel, preprocessing: Preprocessing | None = None, cache: EmbeddingCache | None = None
    ) -> None:
        self.loaded = loaded
        self.preprocessing = preprocessing or Preprocessing()
        self._cache = EmbeddingCache() if cache is None else cache  # an empty one is false
        self._base = predictor_for(loaded, cache=self._cache, preprocessing=self.preprocessing)
        self._active: Active | None = None
        self._in_block = _InBlock()

    @property
    def name(self) -> str:
        """Registered name of the model, or the file name of its checkpoint."""
        return self.loaded.name

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.loaded.sam.device

    @property
    def adapter(self) -> Adapter | None:
        """Active adapter, or None."""
        active = self._active_here()
        return None if active is None else active[0]

    @property
    def classes(self) -> Mapping[int, str]:
        """Ids and names of the classes that the dense head predicts, in the order of its maps; empty without any."""
        dense = self.predictor.dense
        return {} if dense is None else dict(dense.classes)

    @property
    def predictor(self) -> Predictor:
        """Predictor of the base model, or of the active adapter."""
        active = self._active_here()
        return self._base if active is None else active[1]

    def activate(self, adapter: Adapter) -> None:
        """Segment with this adapter from now on; within a block of `adapted`, until the block ends.

        Raises
        ------
        AdapterError
            If the adapter was trained on another base model.
        """
        self._set_active((adapter, predictor_for(self.loaded, adapter, cache=self._cache)))

    def deactivate(self) -> None:
        """Segment with the base model from now on; within a block of `adapted`, until the block ends."""
        self._set_active(None)

    @contextmanager
    def adapted(self, adapter: Adapter | None) -> Iterator[Model]:
        """Segment with an adapter, or with the base model if it is None, within the block and in this thread only.

        Other threads go on with the adapter that they use themselves.
        """
        active = None if adapter is None else (adapter, predictor_for(self.loaded, adapter, cache=self._cache))
        self._in_block.stack.append(active)
        try:
            yield self
        finally:
            self._in_block.stack.pop()

    def _active_here(self) -> Active | None:
        """Return what is active in this thread: that of the innermost block of `adapted`, or else of all threads."""
        return self._in_block.stack[-1] if self._in_block.stack else self._active

    def _set_active(self, active: Active | None) -> None:
        if self._in_block.stack:
            self._in_block.stack[-1] = active
        else:
            self._active = active

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
        """Segment the prompted objects, one per row; see `Predictor.segment`."""
        return self.predictor.segment(embedding, prompts, multimask)

    def segment_large(
        self,
        image: ArrayLike,
        prompts: Prompts,
        multimask: Multimask = "auto",
        tiling: TilingConfig | None = None,
    ) -> list[TileMask]:
        """Segment prompted objects in a plane of any size, one per row.

        Of a large plane only the tiles that show the objects are encoded.

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
            ``region()`` is the mask, cropped to its bounding box.
        """
        decoder = ImageDecoder(self.predictor, image, tiling)
        decoded = dict(decoder.decode(ObjectPrompts.from_prompts(prompts), Choice(multimask=multimask)))
        masks = [decoded[row] for row in range(len(decoded))]
        return [TileMask(row, mask.region.origin, mask.needed_logits, mask.score) for row, mask in enumerate(masks)]

    def maps(self, image: ArrayLike, *, progress: Progress | None = None) -> NDArray[np.float32]:
        """Predict the maps of the dense head: foreground, relative distance to the outline, and classes.

        Parameters
        ----------
        image : array_like
            (y, x) or (y, x, c), of any size.
        progress : callable, optional
            Called with the number of tiles done and their total.

        Returns
        -------
        float32 (2 + classes, y, x), or (3, y, x) with nearness to the centre from micro-sam's models
            From 0 to 1: probability of foreground; distance; then for each of `classes`, in this order, its probability
            where there is an object. `napari_sam_lora.model.dense.instances.maps_to_labels` cuts objects out of them.

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
            For "clicks".
        smallest : int, optional
            Objects with fewer pixels are left out. By default what suits the dense head, or 0 with clicks.
        progress : callable, optional
            Called with the number of batches of clicks, or of tiles, done and their total.
        tiling : TilingConfig, optional
            For "clicks": how a large plane is cut into tiles; objects across several tiles are joined.
        method : str, optional
            "head": the dense head; "clicks": a grid of clicks. By default the head if there is one and neither
            ``config`` nor ``tiling`` is given.
        instances : InstanceConfig, optional
            For "head"; by default what was chosen when the head was trained.

        Returns
        -------
        int32 (y, x)
            Instance ids; 0 is background.

        Raises
        ------
        InputError
            If the method is unknown, or the model has no dense head although it is asked for.
        """
        if method not in (None, *METHODS):
            raise InputError(f"method must be one of {', '.join(METHODS)}, not {method!r}.", code="unknown-method")
        if method is None:
            by_clicks = self.predictor.dense is None or config is not None or tiling is not None
            method = "clicks" if by_clicks and instances is None else "head"
        if method == "clicks":
            return segment_everything(self.predictor, image, config, progress, tiling, smallest or 0)
        chosen = instances or dense_model(self.predictor).instances
        chosen = chosen if smallest is None else replace(chosen, smallest=smallest)
        return find_instances(self.predictor, image, config=chosen, progress=progress)

    def classify(
        self,
        image: ArrayLike,
        labels: NDArray[np.integer[Any]],
        *,
        maps: NDArray[np.float32] | None = None,
        progress: Progress | None = None,
    ) -> dict[int, int]:
        """Predict the class of each object of a label image, such as that of `segment_everything`.

        Parameters
        ----------
        image : array_like
            (y, x) or (y, x, c).
        labels : int (y, x)
            Instance ids; 0 is background.
        maps : float32 (2 + classes, y, x), optional
            From `maps`, if they were computed before.
        progress : callable, optional
            Called with the number of tiles done and their total.

        Returns
        -------
        dict of int to int
            Class by object id: the one with the largest sum of probabilities over the pixels of the object.

        Raises
        ------
        InputError
            If the model predicts no `classes`, or the labels have another shape than the image.
        """
        return find_classes(self.predictor, image, labels, maps, progress)

    def segment_semantic(
        self,
        image: ArrayLike,
        *,
        maps: NDArray[np.float32] | None = None,
        instances: InstanceConfig | None = None,
        progress: Progress | None = None,
    ) -> NDArray[np.int32]:
        """Predict the class of each pixel of a plane.

        Parameters
        ----------
        image : array_like
            (y, x) or (y, x, c).
        maps : float32 (2 + classes, y, x), optional
            From `maps`, if they were computed before.
        instances : InstanceConfig, optional
            Its sensitivity and smoothing decide what is foreground; by default what was chosen when the head was
            trained.
        progress : callable, optional
            Called with the number of tiles done and their total.

        Returns
        -------
        int32 (y, x)
            Ids of `classes`; 0 is background.

        Raises
        ------
        InputError
            If the model predicts no `classes`.
        """
        return segment_semantic(self.predictor, image, maps, instances, progress)

    def segment_everything_records(
        self, image: ArrayLike, config: EverythingConfig | None = None, *, progress: Progress | None = None
    ) -> list[dict[str, Any]]:
        """Segment all objects of a plane into segment-anything's scored records.

        Masks may overlap, unlike those of `segment_everything`. See `napari_sam_lora.model.automatic.everything`.
        """
        return everything(self.predictor, image, config, progress)

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


@dataclass(frozen=True)
class Evaluation:
    """Evaluation of one adapter, or of the base model.

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
        Folder that keeps embeddings for later sessions, up to 4 GiB; by default they are in memory only.

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
    class_names: Mapping[int, str] | None = None,
) -> FineTuneRun:
    """Fine-tune step by step.

    Parameters
    ----------
    model : Model
        Not changed, and free to be used during the run.
    pairs : iterable of TrainingPair, or of (image, labels) and further fields of it
        Image (y, x) or (y, x, c); labels (y, x), whole numbers, one per object (or as ``config.labels`` says), 0
        for what is not labelled. Prompts, a dict from id to `Prompts` of one row, are those of the user for
        these objects; they are replayed besides simulated ones. The `StackPosition` of a plane of a stack keeps
        neighbours of held-out planes out of training. Where background is known, the dense head learns to find
        objects, and their classes where there are at least two (or ``config.labels`` is "classes"). Arrays are copied.
        Images without a label are left out with a warning.
    config : TrainConfig, optional
    held_out : sequence of str
        `FineTuneReport.held_out` of an earlier run: what was held out then is held out again.
    start : Adapter, optional
        Continue from this adapter with its layers. The default, training from the base model, avoids forgetting.
    class_names : mapping of int to str, optional
        Names of classes by id; they are stored in the adapter.

    Returns
    -------
    FineTuneRun
        An iterator with one report per step, with ``stop()``, ``discard()``, ``warnings`` and ``result()``.
    """
    return FineTuneRun(model.loaded, pairs, config or TrainConfig(), model.preprocessing, held_out, start, class_names)


def fine_tune(
    model: Model,
    pairs: Pairs,
    config: TrainConfig | None = None,
    *,
    held_out: Sequence[str] = (),
    start: Adapter | None = None,
    class_names: Mapping[int, str] | None = None,
) -> tuple[Adapter, FineTuneReport]:
    """Fine-tune until the end; see `iter_fine_tune`.

    Returns
    -------
    adapter : Adapter
        Returned in every case, even if it is not better than the base model.
    report : FineTuneReport
        Its ``verdict`` is "better", "not better" or "too few".
    """
    run = iter_fine_tune(model, pairs, config, held_out=held_out, start=start, class_names=class_names)
    for _ in run:
        pass
    return run.result()


def count_objects(
    model: Model,
    pairs: Pairs,
    config: TrainConfig | None = None,
    *,
    held_out: Sequence[str] = (),
    start: Adapter | None = None,
) -> ObjectCounts:
    """Count the objects that a run with these arguments would learn, hold out and leave out; see `iter_fine_tune`."""
    config, held_out = resume_settings(start, model.loaded, config or TrainConfig(), held_out)
    return TrainingSet.of(model.loaded, pairs, config, model.preprocessing, held_out, start is not None).counts


def evaluate(
    model: Model, pairs: Pairs, adapters: Sequence[Adapter | None] = (None,), *, labels: LabelMeaning = "instances"
) -> list[Evaluation]:
    """Measure how well labelled objects are segmented from boxes and clicks.

    Parameters
    ----------
    model : Model
    pairs : iterable of (image, labels)
        Every object counts (of large planes those in crops, as in training); use images that were not trained on.
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

    The parameters are those of `evaluate` and of `Model.segment_everything`. Unlike in `evaluate`, a found object that
    is not labelled counts as a mistake.

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


def evaluate_classes(
    model: Model, pairs: Pairs, adapters: Sequence[Adapter | None] = (None,), *, labels: LabelMeaning = "instances"
) -> list[ClassFigures | None]:
    """Measure the classes that are predicted in planes that are labelled completely.

    Parameters
    ----------
    model : Model
    pairs : iterable of TrainingPair, or of (image, labels)
        Where labels are instances, ``classes`` of a `TrainingPair` are theirs; objects without a class do not count.
    adapters : sequence of Adapter or None
        None stands for the base model.
    labels : str
        What label images mean, see `evaluate`.

    Returns
    -------
    list of ClassFigures or None
        One for each adapter, over all planes: ``dice`` of each class, and the ``accuracy`` of found objects. None for
        those that predict no classes.
    """
    copied = []
    for pair in map(as_pair, pairs):
        image = np.asarray(pair.image)
        objects, classes = separate_objects(check_labels(pair.labels, (image.shape[0], image.shape[1])), labels)
        copied.append((image, objects, pair.classes if labels == "instances" else classes))
    figures: list[ClassFigures | None] = []
    for adapter in adapters:
        with model.adapted(adapter):
            scored = (score_classes(model.predictor, *one) for one in copied)
            figures.append(sum(scored, start=ClassFigures()) if model.classes else None)
    return figures

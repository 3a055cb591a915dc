"""Everything that one viewer knows, without a viewer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from numpy.typing import ArrayLike
from psygnal import Signal

from napari_sam_lora.session.adapters import AdapterLibrary
from napari_sam_lora.session.labelset import CommitPolicy, EditResult, LabelSet
from napari_sam_lora.session.planes import ImageSource, PlaneKey
from napari_sam_lora.session.preview import MaskOptions, Preview
from napari_sam_lora.session.prompts import Draft, PromptKind
from napari_sam_lora.session.proposals import Proposal
from napari_sam_lora.session.records import ObjectClass
from napari_sam_lora.session.stores import LabelStore
from napari_sam_lora.session.training import TrainingJob, TrainingPlane

if TYPE_CHECKING:
    from napari_sam_lora.api import Model
    from napari_sam_lora.model.automatic import EverythingConfig
    from napari_sam_lora.training.config import TrainConfig


class Session:
    """Images, prompts, labels, adapters and training of one viewer.

    Call every method on one thread, the owner's; none of them waits for torch. What takes long returns a Future,
    whose callbacks (``add_done_callback``) run in the worker thread.

    A script::

        session = Session(load_model("sam_nano"))
        session.add_image("nuclei", ArraySource(image))
        session.add_labels("cells", ArrayStore(np.zeros(image.shape, int)))
        plane = PlaneKey.of("nuclei", 2)
        session.add_prompt(plane, "box", [40, 60, 70, 95])
        session.commit(session.preview(plane).result())
        job = session.start_training(TrainConfig(steps=200))
        job.wait()
        session.labels["cells"].apply(session.resegment("cells").result())
        session.close()

    Events on the owner's thread
    ----------------------------
    images_changed, labels_changed : ()
        The lists of images or of label images. What happens inside a label image is `LabelSet.objects_changed`.
    draft_changed : (PlaneKey)
        Prompts of this plane.

    Events that may come from a worker thread
    -----------------------------------------
    Connect a GUI through a queue, such as a Qt signal.

    model_changed : ()
        Another model is loaded.
    active_changed : (str)
        Name of the active adapter; empty for the base model.
    busy_changed : (bool)
        Whether the worker has something to do.
    progressed : (key, done, total)
        Of the running job; key[0] is "model", "preview", "everything", "resegment" or "embed".
    failed : (str)
        A job ended with an error: the plain words for a person. The Future has the exception.
    training_changed : (TrainingEvent)

    Parameters
    ----------
    model : Model, optional
        Give one, or call `load_model`.
    adapters_folder : Path, optional
        Where adapters are kept; in memory by default.
    threads : int, optional
        Threads that torch may use for an operation, in each of the two workers.
    """

    images_changed = Signal()
    labels_changed = Signal()
    draft_changed = Signal(PlaneKey)
    model_changed = Signal()
    active_changed = Signal(str)
    busy_changed = Signal(bool)
    progressed = Signal(object, int, int)
    failed = Signal(str)
    training_changed = Signal(object)

    def __init__(
        self, model: Model | None = None, *, adapters_folder: Path | None = None, threads: int | None = None
    ) -> None:
        self.adapters = AdapterLibrary(adapters_folder)

    # Model and adapters

    def load_model(self, name: str | Path, device: str = "auto", input_size: int | None = None) -> Future[Model]:
        """Load a model in the worker; prompts and labels stay. If it fails, the present model stays.

        An active adapter is deactivated if it belongs to another base.
        """
        raise NotImplementedError

    @property
    def model(self) -> Model | None:
        """The model in use; its own active adapter is not looked at, see `active`."""
        raise NotImplementedError

    @property
    def active(self) -> str:
        """Name of the active adapter; empty for the base model."""
        raise NotImplementedError

    def activate(self, name: str) -> None:
        """Segment with this adapter from the next preview on.

        Raises
        ------
        AdapterError
            If there is no such adapter, or it was trained on another base model; the present one stays active.
        """
        raise NotImplementedError

    def deactivate(self) -> None:
        """Segment with the base model from the next preview on."""
        raise NotImplementedError

    def toggle(self) -> str:
        """Switch between the base model and the adapter that was active last; returns what is active now."""
        raise NotImplementedError

    # Images and labels

    @property
    def images(self) -> Mapping[str, ImageSource]:
        """By id."""
        raise NotImplementedError

    @property
    def labels(self) -> Mapping[str, LabelSet]:
        """By id."""
        raise NotImplementedError

    def add_image(self, image: str, source: ImageSource) -> None:
        """Add an image under an id that does not change when a layer is renamed; replaces one with the same id.

        Call it again when the pixels of an image have changed. Prompts are kept where they still fit.
        """
        raise NotImplementedError

    def remove_image(self, image: str) -> None:
        """Forget an image and the prompts being drawn on it; prompts stored with objects stay."""
        raise NotImplementedError

    def add_labels(self, labels: str, store: LabelStore, classes: Iterable[ObjectClass] = ()) -> LabelSet:
        """Add a label image under an id; the first one, and each one added later, becomes `target`."""
        raise NotImplementedError

    def remove_labels(self, labels: str) -> None:
        """Forget a label image and its history."""
        raise NotImplementedError

    target: str
    """Id of the label image that `commit` writes to; empty for none."""

    # Prompts, preview, commit

    def draft(self, plane: PlaneKey) -> Draft:
        """The prompts being drawn in a plane. Change them through the session, which tells others."""
        raise NotImplementedError

    def add_prompt(
        self, plane: PlaneKey, kind: PromptKind, data: ArrayLike, *, positive: bool = True, obj: int | None = None
    ) -> int:
        """Add a prompt; returns its id. See `Draft.add`.

        Parameters
        ----------
        obj : int, optional
            Which object of the draft. By default the last one; in batch mode (`batch`) each positive prompt begins a
            new one.
        """
        raise NotImplementedError

    batch: bool
    """Whether each box or positive point is its own object."""

    def move_prompt(self, plane: PlaneKey, item: int, data: ArrayLike) -> None:
        """See `Draft.move`."""
        raise NotImplementedError

    def flip_prompt(self, plane: PlaneKey, item: int) -> None:
        """See `Draft.flip`."""
        raise NotImplementedError

    def remove_prompt(self, plane: PlaneKey, item: int) -> None:
        """See `Draft.remove`."""
        raise NotImplementedError

    def clear_prompts(self, plane: PlaneKey) -> None:
        """Remove all prompts being drawn in a plane."""
        raise NotImplementedError

    def preview(self, plane: PlaneKey, options: MaskOptions | None = None) -> Future[Preview]:
        """Masks of the draft as it is now, with the active adapter. A newer call supersedes one that waits.

        Without any prompt the result has no objects.
        """
        raise NotImplementedError

    def commit(self, preview: Preview, policy: CommitPolicy | None = None, labels: str | None = None) -> EditResult:
        """Write a preview into a label image (by default `target`), and clear the draft it came from.

        If nothing was written, the draft stays. See `LabelSet.commit`.
        """
        raise NotImplementedError

    def bring_back(self, labels: str, label: int, plane: PlaneKey | None = None) -> PlaneKey:
        """Put the stored prompts of an object back into the draft of a plane, to edit the object.

        Commit with ``CommitPolicy("part", label)``; `LabelSet.delete` it first to replace it.

        Returns
        -------
        PlaneKey
            The plane that was given, or the first that has prompts of the object.

        Raises
        ------
        InputError
            If it has no prompts there.
        """
        raise NotImplementedError

    def embed(self, planes: Sequence[PlaneKey]) -> None:
        """Encode planes in the background, in this order; replaces what was asked for before and is still waiting."""
        raise NotImplementedError

    # History over all label images

    def undo(self) -> str | None:
        """Take back the last edit in any label image; its name, or None if there is nothing to take back."""
        raise NotImplementedError

    def redo(self) -> str | None:
        """Do again what was taken back last."""
        raise NotImplementedError

    # Whole planes

    def resegment(self, labels: str | None = None, planes: Sequence[PlaneKey] | None = None) -> Future[Proposal]:
        """Replay the stored prompts of some planes, or of all, with the active adapter; changes nothing by itself.

        Painted and approved objects are left alone.
        """
        raise NotImplementedError

    def refine(
        self,
        planes: Sequence[PlaneKey],
        labels: str | None = None,
        ids: Sequence[int] | None = None,
        by: Literal["box", "mask"] = "box",
    ) -> Future[Proposal]:
        """Segment objects again with their own box or mask as the prompt; changes nothing by itself.

        Parameters
        ----------
        ids : sequence of int, optional
            By default the objects without prompts that are not approved.
        """
        raise NotImplementedError

    def everything(
        self,
        plane: PlaneKey,
        labels: str | None = None,
        config: EverythingConfig | None = None,
        smallest: int = 0,
    ) -> Future[Proposal]:
        """Propose all objects of a plane that lie on unlabelled pixels; changes nothing by itself."""
        raise NotImplementedError

    def cancel(self, kind: str) -> None:
        """Cancel the waiting or running work of a kind: "everything", "resegment" or "embed"."""
        raise NotImplementedError

    # Training

    def training_planes(self, include: Sequence[tuple[str, str]] | None = None) -> tuple[TrainingPlane, ...]:
        """Copies of what would be trained on.

        Parameters
        ----------
        include : sequence of (image, labels), optional
            Ids of pairs of the same shape; by default every label image with the first image of its shape.
        """
        raise NotImplementedError

    def start_training(
        self,
        config: TrainConfig | None = None,
        include: Sequence[tuple[str, str]] | None = None,
        name: str = "adapter",
    ) -> TrainingJob:
        """Fine-tune from the base model on a snapshot, in a thread of its own.

        Prompting, painting and committing go on meanwhile with the model as it is. At the end the adapter is added
        to `adapters` under this name, and activated only if it is better than the base model.

        Raises
        ------
        TrainingError
            If there is nothing to train on, no model, or a run going on already.
        """
        raise NotImplementedError

    @property
    def training(self) -> TrainingJob | None:
        """The run that is going on, or the last one."""
        raise NotImplementedError

    def stop(self) -> None:
        """Stop training and keep what was learned; see `TrainingJob.stop`. No error if there is none."""
        raise NotImplementedError

    def discard(self) -> None:
        """Stop training and keep nothing."""
        raise NotImplementedError

    def close(self, timeout: float | None = None) -> bool:
        """Discard training, cancel all work and end both threads; True if they ended in time. Twice does no harm."""
        raise NotImplementedError

"""Images, label images and prompts of a session, and the way from prompts to labels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from itertools import count
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from numpy.typing import ArrayLike
from psygnal import Signal

from napari_sam_lora.errors import InputError
from napari_sam_lora.session.jobs.worker import Priority
from napari_sam_lora.session.labels.edits import CommitPolicy, EditResult
from napari_sam_lora.session.labels.label_set import LabelSet
from napari_sam_lora.session.labels.records import ObjectClass
from napari_sam_lora.session.labels.stores import LabelStore
from napari_sam_lora.session.model_session import ModelSession
from napari_sam_lora.session.plane_key import ImageSource, PlaneKey, check_plane
from napari_sam_lora.session.prompting.draft import Draft, PromptKind
from napari_sam_lora.session.prompting.preview import MaskOptions, Preview

if TYPE_CHECKING:
    from napari_sam_lora.api import Model


class ContentSession(ModelSession):
    """Session with images, labels, prompts and undo; a base of `Session`, where the events are described.

    Attributes
    ----------
    target : str
        Id of the label image that is written to and segmented by default; empty for none.
    batch : bool
        Whether each new positive prompt is its own object.
    """

    images_changed = Signal()
    labels_changed = Signal()
    draft_changed = Signal(PlaneKey)

    def __init__(
        self, model: Model | None = None, *, adapters_folder: Path | None = None, threads: int | None = None
    ) -> None:
        super().__init__(model, adapters_folder=adapters_folder, threads=threads)
        self.target = ""
        self.batch = False
        self._images: dict[str, ImageSource] = {}
        self._labels: dict[str, LabelSet] = {}
        self._drafts: dict[PlaneKey, Draft] = {}
        self._edits = count()
        self._held_out: frozenset[str] = frozenset()

    @property
    def held_out(self) -> frozenset[str]:
        """Units held out by training runs so far and by `hold_out`."""
        return self._held_out

    def hold_out(self, held_out: Iterable[str]) -> None:
        """Hold out these units in later runs too, such as `FineTuneReport.held_out` of earlier runs of a project."""
        self._held_out |= set(held_out)

    # Images and labels

    @property
    def images(self) -> Mapping[str, ImageSource]:
        """Images by id."""
        return MappingProxyType(self._images)

    @property
    def labels(self) -> Mapping[str, LabelSet]:
        """Label images by id."""
        return MappingProxyType(self._labels)

    @property
    def drafts(self) -> Mapping[PlaneKey, Draft]:
        """Prompts that are being drawn, by plane."""
        return MappingProxyType(self._drafts)

    def add_image(self, image: str, source: ImageSource) -> None:
        """Add an image under an id, which stays the same when a layer is renamed.

        An image with the same id is replaced: call this again with a new source when pixels have changed. Prompts that
        are being drawn are kept where they still fit.
        """
        self._images[image] = source
        for plane, draft in list(self._drafts.items()):
            if plane.image == image and not (plane.is_in(source.shape) and draft.shape == plane.shape(source.shape)):
                del self._drafts[plane]
        self.images_changed.emit()

    def remove_image(self, image: str) -> None:
        """Remove an image and the prompts being drawn on it; prompts stored with objects stay."""
        self._images.pop(image, None)
        self._drafts = {plane: draft for plane, draft in self._drafts.items() if plane.image != image}
        self.images_changed.emit()

    def add_labels(self, labels: str, store: LabelStore, classes: Iterable[ObjectClass] = ()) -> LabelSet:
        """Add a label image under an id, or replace the one with this id; it becomes the `target`."""
        added = self._labels[labels] = LabelSet(store, classes, self._edits.__next__)
        self.target = labels
        self.labels_changed.emit()
        return added

    def remove_labels(self, labels: str) -> None:
        """Remove a label image and its history; if it is the target, the one added last becomes the target."""
        self._labels.pop(labels, None)
        if self.target == labels:
            self.target = next(reversed(self._labels), "")
        self.labels_changed.emit()

    # Prompts

    def draft(self, plane: PlaneKey) -> Draft:
        """Return the prompts being drawn in a plane. Change them through the session, which emits `draft_changed`."""
        source = self._need_image(plane.image)
        check_plane(plane, source.shape)
        return self._drafts.setdefault(plane, Draft(plane.shape(source.shape)))

    def add_prompt(
        self, plane: PlaneKey, kind: PromptKind, data: ArrayLike, *, positive: bool = True, obj: int | None = None
    ) -> int:
        """Add a prompt and return its id. See `Draft.add`.

        Parameters
        ----------
        obj : int, optional
            Object of the draft. By default the last one; in batch mode (`batch`) each positive prompt starts a new
            object.
        """
        draft = self.draft(plane)
        if obj is None:
            following = draft.new_object()
            obj = following if self.batch and positive else max(following - 1, 0)
        item = draft.add(kind, data, positive=positive, obj=obj)
        self.draft_changed.emit(plane)
        return item

    def move_prompt(self, plane: PlaneKey, item: int, data: ArrayLike) -> None:
        """Replace the data of a prompt; see `Draft.move`."""
        self.draft(plane).move(item, data)
        self.draft_changed.emit(plane)

    def flip_prompt(self, plane: PlaneKey, item: int) -> None:
        """Turn a positive prompt negative, or back; see `Draft.flip`."""
        self.draft(plane).flip(item)
        self.draft_changed.emit(plane)

    def remove_prompt(self, plane: PlaneKey, item: int) -> None:
        """Remove a prompt; see `Draft.remove`."""
        self.draft(plane).remove(item)
        self.draft_changed.emit(plane)

    def clear_prompts(self, plane: PlaneKey) -> None:
        """Remove all prompts being drawn in a plane."""
        self.draft(plane).clear()
        self.draft_changed.emit(plane)

    def bring_back(self, labels: str, label: int, plane: PlaneKey | None = None) -> PlaneKey:
        """Put the stored prompts of an object back into the draft of a plane, to edit the object.

        Commit with ``CommitPolicy("replace", label)``.

        Returns
        -------
        PlaneKey
            The plane of the argument, or the first plane that has prompts of the object.

        Raises
        ------
        InputError
            If it has no prompts there.
        """
        stored = self._need_labels(labels).record(label).prompts
        plane = plane or min(stored, default=None)
        if plane is None or plane not in stored:
            raise InputError(
                f"Object {label} has no prompts here: it was painted, or prompted in another plane.",
                code="no-stored-prompts",
            )
        draft = self.draft(plane)
        for prompts in stored[plane]:
            draft.put_back(prompts.row)
        self.draft_changed.emit(plane)
        return plane

    # Masks

    def preview(self, plane: PlaneKey, options: MaskOptions | None = None) -> Future[Preview]:
        """Segment the present draft with the active adapter. A newer call replaces one that waits.

        Without any prompt the result has no objects.
        """
        rows = dict(self.draft(plane).rows())
        source = self._need_image(plane.image)
        job = self._engine().preview
        return self._submit(Priority.PROMPT, ("preview",), job, source, plane, rows, options or MaskOptions())

    def commit(self, preview: Preview, policy: CommitPolicy | None = None, labels: str | None = None) -> EditResult:
        """Write a preview into a label image (by default `target`), and clear the prompts that it was made from.

        If nothing could be written, the prompts stay. See `LabelSet.commit`.
        """
        result = self._need_labels(labels).commit(preview, policy)
        draft = self._drafts.get(preview.plane)
        if result.ids and draft is not None:
            drawn = {item.id: item for row in draft.rows().values() for item in row}
            for item in (item for row in preview.rows for item in row):
                if drawn.get(item.id) is item:  # one that was moved meanwhile stays
                    draft.remove(item.id)
            self.draft_changed.emit(preview.plane)
        return result

    def embed(self, planes: Sequence[PlaneKey]) -> None:
        """Encode planes in the background, in this order; planes of an earlier call that still wait are dropped.

        Planes that are not in the image are left out. Without a model nothing happens.
        """
        self.cancel("embed")
        if self.model is None:
            return
        engine = self._engine()
        for plane in planes:
            source = self._images.get(plane.image)
            if source is not None and plane.is_in(source.shape):
                self._submit(Priority.BACKGROUND, ("embed", plane), engine.embed, source, plane)

    # History over all label images

    def undo(self) -> str | None:
        """Undo the last edit of any label image; return its name, or None if there is nothing to undo."""
        numbered = [(number, one) for one in self._labels.values() if (number := one.last_done) is not None]
        return max(numbered, key=lambda pair: pair[0])[1].undo() if numbered else None

    def redo(self) -> str | None:
        """Redo the edit that was undone last; return its name, or None if there is none."""
        numbered = [(number, one) for one in self._labels.values() if (number := one.last_undone) is not None]
        return min(numbered, key=lambda pair: pair[0])[1].redo() if numbered else None

    def _need_image(self, image: str) -> ImageSource:
        """Return an image by id, or raise an InputError."""
        if image not in self._images:
            raise InputError("This image is no longer open: choose another one.", code="image-not-found")
        return self._images[image]

    def _need_labels(self, labels: str | None) -> LabelSet:
        """Return a label image by id, by default the target, or raise an InputError."""
        chosen = self.target if labels is None else labels
        if chosen not in self._labels:
            raise InputError("There is no label image to work on: choose or create one first.", code="no-label-image")
        return self._labels[chosen]

"""Prompts that are being drawn in the planes of a session, their previews, and the way from previews to labels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from types import MappingProxyType

from numpy.typing import ArrayLike
from psygnal import Signal

from napari_sam_lora.errors import InputError
from napari_sam_lora.masks import MaskOptions
from napari_sam_lora.session.jobs.worker import Priority
from napari_sam_lora.session.labels.edits import CommitPolicy, EditResult
from napari_sam_lora.session.labels.label_sets import LabelSets
from napari_sam_lora.session.models import Models
from napari_sam_lora.session.plane_key import ImageSource, PlaneKey, check_plane, need_image
from napari_sam_lora.session.prompting.draft import Draft, PromptItem, PromptKind
from napari_sam_lora.session.prompting.preview import Preview


class DraftPrompts:
    """Drafts by plane, which are previewed with the active adapter and committed to label images.

    Events (emitted on the owner's thread)
    --------------------------------------
    draft_changed : (PlaneKey)
        Prompts of this plane have changed.

    Parameters
    ----------
    images : mapping of str to ImageSource
        Present images of the session by id.
    labels : LabelSets
    models : Models

    Attributes
    ----------
    batch : bool
        Whether each new positive prompt is its own object.
    """

    draft_changed = Signal(PlaneKey)

    def __init__(self, images: Mapping[str, ImageSource], labels: LabelSets, models: Models) -> None:
        self._images, self._labels, self._models = images, labels, models
        self.batch = False
        self._drafts: dict[PlaneKey, Draft] = {}

    # Drafts

    @property
    def drafts(self) -> Mapping[PlaneKey, Draft]:
        """Prompts that are being drawn, by plane."""
        return MappingProxyType(self._drafts)

    def draft(self, plane: PlaneKey) -> Draft:
        """Return the prompts of a plane. Change them through the methods here, which emit `draft_changed`."""
        source = need_image(self._images, plane.image)
        check_plane(plane, source.shape)
        return self._drafts.setdefault(plane, Draft(plane.shape(source.shape)))

    def add(
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

    def move(self, plane: PlaneKey, item: int, data: ArrayLike) -> None:
        """Replace the data of a prompt; see `Draft.move`."""
        self.draft(plane).move(item, data)
        self.draft_changed.emit(plane)

    def flip(self, plane: PlaneKey, item: int) -> None:
        """Turn a positive prompt negative, or back; see `Draft.flip`."""
        self.draft(plane).flip(item)
        self.draft_changed.emit(plane)

    def remove(self, plane: PlaneKey, item: int) -> None:
        """Remove a prompt; see `Draft.remove`."""
        self.draft(plane).remove(item)
        self.draft_changed.emit(plane)

    def clear(self, plane: PlaneKey) -> None:
        """Remove all prompts of a plane."""
        self.draft(plane).clear()
        self.draft_changed.emit(plane)

    def update(self, plane: PlaneKey, drawn: Iterable[tuple[int, PromptItem]]) -> bool:
        """Change the prompts of a plane that differ from what was drawn; return whether any does. See `Draft.update`.

        Emits `draft_changed` once, whatever number of prompts differ.
        """
        is_changed = self.draft(plane).update(drawn)
        if is_changed:
            self.draft_changed.emit(plane)
        return is_changed

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
        stored = self._labels.need(labels).record(label).prompts
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

    def drop_misfits(self, image: str) -> None:
        """Drop the drafts of an image that was removed, or that do not fit its new source."""
        source = self._images.get(image)
        for plane, draft in list(self._drafts.items()):
            fits = source is not None and plane.is_in(source.shape) and draft.shape == plane.shape(source.shape)
            if plane.image == image and not fits:
                del self._drafts[plane]

    # Masks

    def preview(self, plane: PlaneKey, options: MaskOptions | None = None) -> Future[Preview]:
        """Segment the present draft with the active adapter. A newer call replaces one that waits.

        Without any prompt the result has no objects.
        """
        rows = dict(self.draft(plane).rows())
        source = need_image(self._images, plane.image)
        job = self._models.engine().preview
        return self._models.submit(Priority.PROMPT, ("preview",), job, source, plane, rows, options or MaskOptions())

    def commit(self, preview: Preview, policy: CommitPolicy | None = None, labels: str | None = None) -> EditResult:
        """Write a preview into a label image (by default the target), and clear the prompts that it was made from.

        If nothing could be written, the prompts stay. See `LabelSet.commit`.
        """
        result = self._labels.need(labels).commit(preview, policy)
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
        self._models.cancel("embed")
        if self._models.model is None:
            return
        engine = self._models.engine()
        for plane in planes:
            source = self._images.get(plane.image)
            if source is not None and plane.is_in(source.shape):
                self._models.submit(Priority.BACKGROUND, ("embed", plane), engine.embed, source, plane)

"""Finding everything in the planes of a session, as proposals before anything is changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any

from psygnal import Signal

from napari_sam_lora.session.everything.findings import Findings
from napari_sam_lora.session.everything.found_plane import (
    FoundPlane,
    HeadSearch,
    Search,
    cut_and_refine_again,
    find_in_plane,
    propose,
)
from napari_sam_lora.session.everything.run import EverythingRun, Step
from napari_sam_lora.session.jobs.worker import CancelToken, Priority, emit_safely
from napari_sam_lora.session.labels.label_sets import LabelSets
from napari_sam_lora.session.labels.proposals import Proposal
from napari_sam_lora.session.models import Models
from napari_sam_lora.session.plane_key import ImageSource, PlaneKey, check_plane, labels_do_not_fit, need_image

# Maps of more planes are not kept: about 500 planes of 512 by 512 pixels.
MOST_BYTES = 512 * 2**20


class Everything:
    """Finds objects without prompts with the active adapter. Nothing is changed until `LabelSet.apply`.

    Events that may come from a worker thread
    -----------------------------------------
    found : (EverythingRun, FoundPlane)
        A plane was searched, or cut again, in this run; `Models.progressed` has the key ("everything",) or ("cut",).

    Parameters
    ----------
    images : mapping of str to ImageSource
        Present images of the session by id.
    labels : LabelSets
    models : Models
    """

    found = Signal(object, object)

    def __init__(self, images: Mapping[str, ImageSource], labels: LabelSets, models: Models) -> None:
        self._images, self._labels, self._models = images, labels, models

    def search(
        self, planes: Sequence[PlaneKey], search: Search | None = None, most_bytes: int = MOST_BYTES
    ) -> EverythingRun:
        """Prepare a search of some planes, which `EverythingRun.start` starts.

        Parameters
        ----------
        planes : sequence of PlaneKey
            Of one or several images.
        search : HeadSearch or ClickSearch, optional
            By default with the dense head.
        most_bytes : int
            See `EverythingRun`.

        Raises
        ------
        InputError
            If an image is not open, or has no such plane.
        """
        engine, steps = self._models.engine(), list[Step]()
        for plane in planes:
            source = need_image(self._images, plane.image)
            check_plane(plane, source.shape)
            steps.append(
                partial(find_in_plane, engine=engine, source=source, plane=plane, search=search or HeadSearch())
            )
        return self._run("everything", steps, most_bytes)

    def cut_again(self, planes: Sequence[FoundPlane], values: Mapping[str, Any]) -> EverythingRun:
        """Prepare cutting objects out of the maps of found planes again; they are refined if that suits the head.

        Parameters
        ----------
        planes : sequence of FoundPlane
        values : mapping
            Fields of `InstanceConfig` to change.
        """
        engine = self._models.engine()
        steps: list[Step] = [
            partial(
                cut_and_refine_again,
                engine=engine,
                source=need_image(self._images, found.plane.image),
                found=found,
                values=dict(values),
            )
            for found in planes
        ]
        return self._run("cut", steps, sum(0 if found.maps is None else found.maps.nbytes for found in planes))

    def propose(self, found: FoundPlane, labels: str | None = None) -> Proposal:
        """Propose the objects of a plane that lie on unlabelled pixels of a label image, by default of the target.

        Raises
        ------
        InputError
            If there are no such labels, or they do not fit.
        """
        chosen, shape = self._labels.need(labels), need_image(self._images, found.plane.image).shape
        if chosen.store.shape != shape:
            raise labels_do_not_fit(chosen.store.shape, shape)
        return propose(found, chosen.store.read(found.plane))

    def findings(self, propose: Callable[[FoundPlane], Proposal] | None = None) -> Findings:
        """Return an empty collection of found planes; by default their proposals are those for the target."""
        return Findings(propose or self.propose)

    def _run(self, kind: str, steps: Sequence[Step], most_bytes: int) -> EverythingRun:
        def submit(step: Callable[[CancelToken], None]) -> Future[None]:
            return self._models.submit(Priority.NORMAL, (kind,), step)

        def report(found: FoundPlane) -> None:
            emit_safely(self.found, run, found)

        run = EverythingRun(submit, steps, report, most_bytes)
        return run

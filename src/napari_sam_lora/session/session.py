"""The session: images, labels, prompts, adapters and training of one viewer, without the viewer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from psygnal import Signal

from napari_sam_lora.session.everything.everything import Everything
from napari_sam_lora.session.labels.label_sets import LabelSets
from napari_sam_lora.session.models import Models
from napari_sam_lora.session.plane_key import ImageSource
from napari_sam_lora.session.prompting.draft_prompts import DraftPrompts
from napari_sam_lora.session.propagation.propagation import Propagation
from napari_sam_lora.session.proposals import Proposals
from napari_sam_lora.session.training import Training

if TYPE_CHECKING:
    from napari_sam_lora.api import Model


class Session:
    """Images of one viewer, and the components that work on them.

    Call every method, also those of the components, on the thread that made the session (the owner's thread). None of
    them waits for torch: long work returns a Future, whose callbacks (``add_done_callback``) run in the worker thread.

    Example::

        session = Session(load_model("sam_nano"))
        session.add_image("nuclei", ArraySource(image))
        session.labels.add("cells", ArrayStore(np.zeros(image.shape, int)))
        plane = PlaneKey.of("nuclei", 2)
        session.prompts.add(plane, "box", [40, 60, 70, 95])
        session.prompts.commit(session.prompts.preview(plane).result())
        job = session.training.start(TrainConfig(steps=200))
        job.wait()
        session.labels["cells"].apply(session.proposals.resegment().result())
        session.close()

    Events on the owner's thread
    ----------------------------
    images_changed : ()
        An image was added or removed.

    Parameters
    ----------
    model : Model, optional
        Model to use; by default none until ``models.load`` is called.
    adapters_folder : Path, optional
        Where adapters are kept; in memory by default.
    threads : int, optional
        Threads that torch may use for one operation, in the worker and in the training thread.

    Attributes
    ----------
    models : Models
        The model, the adapters, and the worker thread.
    labels : LabelSets
        Label images by id, with undo.
    prompts : DraftPrompts
        Prompts that are being drawn, previews, and commits.
    proposals : Proposals
        Whole planes: segment again, refine.
    everything : Everything
        All objects of planes, found without prompts.
    propagation : Propagation
        Objects followed through stacks.
    training : Training
        Fine-tuning on the labels.
    """

    images_changed = Signal()

    def __init__(
        self, model: Model | None = None, *, adapters_folder: Path | None = None, threads: int | None = None
    ) -> None:
        self._images: dict[str, ImageSource] = {}
        self.models = Models(model, adapters_folder=adapters_folder, threads=threads)
        self.labels = LabelSets()
        self.prompts = DraftPrompts(self.images, self.labels, self.models)
        self.proposals = Proposals(self.images, self.labels, self.models)
        self.everything = Everything(self.images, self.labels, self.models)
        self.propagation = Propagation(self.images, self.labels, self.models)
        self.training = Training(self.images, self.labels, self.models, threads)

    @property
    def images(self) -> Mapping[str, ImageSource]:
        """Images by id."""
        return MappingProxyType(self._images)

    def add_image(self, image: str, source: ImageSource) -> None:
        """Add an image under an id, which stays the same when a layer is renamed.

        An image with the same id is replaced: call this again with a new source when pixels have changed. Prompts that
        are being drawn are kept where they still fit.
        """
        self._images[image] = source
        self.prompts.drop_misfits(image)
        self.images_changed.emit()

    def remove_image(self, image: str) -> None:
        """Remove an image and the prompts being drawn on it; prompts stored with objects stay."""
        self._images.pop(image, None)
        self.prompts.drop_misfits(image)
        self.images_changed.emit()

    def close(self, timeout: float | None = None) -> bool:
        """Discard training, cancel all work and end all threads; return whether they ended in time.

        Threads that need longer end by themselves, and the program waits for them when it exits. Closing twice does no
        harm.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait for each thread; by default as long as it takes.
        """
        self.training.discard()
        has_ended = self.models.close(timeout)
        return self.training.close(timeout) and has_ended

"""Opening projects: read the folder, find the images, and restore the session."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from napari_sam_lora.errors import AdapterError, InputError
from napari_sam_lora.session.labels.stores import ArrayStore
from napari_sam_lora.session.plane_key import PlaneKey
from napari_sam_lora.session.project.folder import read_manifest, read_objects, read_planes
from napari_sam_lora.session.project.image_references import FoundImage, ImageReference, find_image
from napari_sam_lora.session.project.serialisation import (
    Plain,
    classes_from_plain,
    plane_from_plain,
    record_from_plain,
    row_from_plain,
)

if TYPE_CHECKING:
    from napari_sam_lora.session.session import Session


@dataclass(frozen=True, eq=False)
class ProjectLabels:
    """Label image of a project.

    Attributes
    ----------
    id : str
    data : int array
    layer : dict
        Display settings of its layer, as plain values.
    objects : dict
        Classes, complete planes and records, as plain values.
    """

    id: str
    data: NDArray[Any]
    layer: Plain
    objects: Plain


@dataclass(frozen=True, eq=False)
class Project:
    """Project as read from its folder.

    Attributes
    ----------
    folder : Path
    manifest : dict
        Content of ``project.json``.
    images : tuple of FoundImage
        Images, with questions about those that were moved or changed or are missing.
    labels : tuple of ProjectLabels
    problems : tuple of str
        Messages about what could not be read.
    """

    folder: Path
    manifest: Plain
    images: tuple[FoundImage, ...]
    labels: tuple[ProjectLabels, ...]
    problems: tuple[str, ...]

    @property
    def questions(self) -> tuple[str, ...]:
        """Questions about images, for the user to answer before labels are laid on them."""
        return tuple(one.question for one in self.images if one.question)


def open_project(folder: Path, also: Iterable[Path] = ()) -> Project:
    """Read a project without changing anything.

    Parameters
    ----------
    folder : Path
    also : iterable of Path
        Folders in which to look for images that were moved.

    Raises
    ------
    InputError
        If the folder is not a project, or its manifest is damaged. Damaged planes are listed in `Project.problems`.
    """
    manifest = read_manifest(folder)
    also = tuple(also)
    problems: list[str] = []
    labels = []
    for entry in manifest["labels"]:
        data, messages = read_planes(folder, entry)
        problems += messages
        try:
            objects = read_objects(folder, entry)
        except InputError as error:
            problems.append(str(error))
            objects = {"classes": [], "complete": [], "objects": []}
        labels.append(ProjectLabels(entry["id"], data, entry.get("layer", {}), objects))
    images = tuple(find_image(ImageReference.from_plain(one), folder, also) for one in manifest["images"])
    return Project(folder, manifest, images, tuple(labels), tuple(problems))


def restore(
    project: Project,
    session: Session,
    images: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
) -> tuple[str, ...]:
    """Restore labels, objects, prompts, adapters and settings of a project in a session.

    Add the images to the session first. The model is not loaded here: load ``manifest["model"]``, then activate
    `active_adapter`.

    Parameters
    ----------
    project : Project
    session : Session
    images, labels : mapping of str to str, optional
        Present ids of images and label images, where they differ from those in the project. Label images that are not
        in the session are added as arrays.

    Returns
    -------
    tuple of str
        Messages about what could not be restored.
    """
    problems = list(project.problems)
    image_ids, label_ids = dict(images or {}), dict(labels or {})
    adapters, messages = _restore_adapters(project, session)
    problems += messages
    for one in project.labels:
        present_id = label_ids.get(one.id, one.id)
        label_set = session.labels.get(present_id) or session.labels.add(present_id, ArrayStore(one.data))
        records = [
            record_from_plain(_with_present_names(values, image_ids, adapters)) for values in one.objects["objects"]
        ]
        complete = [plane_from_plain(plane) for plane in one.objects["complete"]]
        label_set.restore(records, complete, classes_from_plain(one.objects["classes"]))
    session.prompts.batch = bool(project.manifest.get("batch", False))
    for run in project.manifest.get("training", ()):  # held-out units stay held out
        session.training.hold_out(run.get("held_out", ()))
    session.training.hold_out(project.manifest.get("held_out", ()))
    for draft in project.manifest.get("drafts", ()):
        plane = plane_from_plain(draft["plane"])
        problems += _restore_draft(session, plane.on(image_ids.get(plane.image, plane.image)), draft)
    target = str(project.manifest.get("target", ""))
    if label_ids.get(target, target) in session.labels:
        session.labels.target = label_ids.get(target, target)
    return tuple(problems)


def active_adapter(project: Project, session: Session) -> str:
    """Return the name in a session of the adapter that was active in a project; empty if there is none."""
    return _adapter_names(project, session).get(str(project.manifest.get("active", "")), "")


def history_of(project: Project, session: Session) -> list[Plain]:
    """List the training runs of a project for `ProjectSaver`, with the names of adapters in a session."""
    names = _adapter_names(project, session)
    runs: list[Plain] = list(project.manifest.get("training", ()))
    return [run | {"adapter": names.get(run.get("adapter", ""), run.get("adapter", ""))} for run in runs]


def _adapter_names(project: Project, session: Session) -> dict[str, str]:
    """Map the names of a project's adapters to their names in a session, for those that it has."""
    keys: dict[str, str] = project.manifest["adapters"]
    present = _names_by_key(session) if keys else {}
    return {name: present[key] for name, key in keys.items() if key in present}


def _names_by_key(session: Session) -> dict[str, str]:
    """Map the content keys of a session's adapters to their names."""
    return {session.models.adapters.get(entry.name).key: entry.name for entry in session.models.adapters.entries()}


def _restore_adapters(project: Project, session: Session) -> tuple[dict[str, str], list[str]]:
    """Add the adapters that the session does not have; return their names there, and messages about failures.

    Adapters are compared by content. If another adapter has the name, a number is appended.
    """
    keys: dict[str, str] = project.manifest["adapters"]
    if not keys:
        return {}, []
    from napari_sam_lora.lora.adapter import Adapter  # noqa: PLC0415  imports torch

    present, names, problems = _names_by_key(session), {}, []
    for name, key in keys.items():
        try:
            path = project.folder / "adapters" / f"{name}.safetensors"
            names[name] = present[key] if key in present else session.models.adapters.add(Adapter.load(path), name)
        except (AdapterError, OSError) as error:
            problems.append(f"The adapter {name!r} could not be read: {error}")
    return names, problems


def _restore_draft(session: Session, plane: PlaneKey, draft: Plain) -> list[str]:
    """Put the prompts of a draft back; return a message if its image is not open."""
    source = session.images.get(plane.image)
    if source is None or not plane.is_in(source.shape):
        return [f"Prompts that were being drawn on {plane.image!r} are left out: the image is not open."]
    for row in draft["rows"].values():
        session.prompts.draft(plane).put_back(row_from_plain(row))
    session.prompts.draft_changed.emit(plane)
    return []


def _with_present_names(values: Plain, images: Mapping[str, str], adapters: Mapping[str, str]) -> Plain:
    """Replace ids of images and names of adapters in the plain values of a record."""
    prompts = [
        one | {"plane": one["plane"] | {"image": images.get(one["plane"]["image"], one["plane"]["image"])}}
        for one in values["prompts"]
    ]
    return values | {"prompts": prompts, "adapter": adapters.get(values["adapter"], values["adapter"])}

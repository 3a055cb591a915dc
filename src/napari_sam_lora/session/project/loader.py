"""Opening a project: what it holds, what became of its images, and bringing a session back."""

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
    """A label image of a project.

    Attributes
    ----------
    id : str
    data : int array
    layer : dict
        What a viewer kept with it.
    objects : dict
        Plain values of its classes and records.
    """

    id: str
    data: NDArray[Any]
    layer: Plain
    objects: Plain


@dataclass(frozen=True, eq=False)
class Project:
    """A project that was read.

    Attributes
    ----------
    folder : Path
    manifest : dict
        As it stands in ``project.json``.
    images : tuple of FoundImage
        With what to ask about those that moved, changed or are missing.
    labels : tuple of ProjectLabels
    problems : tuple of str
        What could not be read, in plain words.
    """

    folder: Path
    manifest: Plain
    images: tuple[FoundImage, ...]
    labels: tuple[ProjectLabels, ...]
    problems: tuple[str, ...]

    @property
    def questions(self) -> tuple[str, ...]:
        """What to ask about images before labels are laid on them."""
        return tuple(one.question for one in self.images if one.question)


def open_project(folder: Path, also: Iterable[Path] = ()) -> Project:
    """Read a project; nothing is changed.

    Parameters
    ----------
    folder : Path
    also : iterable of Path
        Folders in which to look for images that moved.

    Raises
    ------
    InputError
        If it is no project, or its manifest is damaged. A damaged plane is a problem of the result instead.
    """
    manifest = read_manifest(folder)
    also = tuple(also)
    problems: list[str] = []
    labels = []
    for entry in manifest["labels"]:
        data, unread = read_planes(folder, entry)
        problems += unread
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
    """Bring labels, objects, prompts, adapters and settings of a project into a session.

    Add the images first. The model is not loaded here: load ``manifest["model"]`` and then activate
    `active_adapter`.

    Parameters
    ----------
    project : Project
    session : Session
    images, labels : mapping of str to str, optional
        Ids that images and label images have now, where they are other than in the project. Label images that are not
        in the session are added, over arrays.

    Returns
    -------
    tuple of str
        What could not be brought back, in plain words.
    """
    problems = list(project.problems)
    names, places = dict(images or {}), dict(labels or {})
    adapters, unread = _restore_adapters(project, session)
    problems += unread
    for one in project.labels:
        here = places.get(one.id, one.id)
        found = session.labels.get(here) or session.add_labels(here, ArrayStore(one.data))
        records = [record_from_plain(_renamed(values, names, adapters)) for values in one.objects["objects"]]
        complete = [plane_from_plain(plane) for plane in one.objects["complete"]]
        found.restore(records, complete, classes_from_plain(one.objects["classes"]))
    session.batch = bool(project.manifest.get("batch", False))
    for run in project.manifest.get("training", ()):  # what was held out once is held out again
        session.hold_out(run.get("held_out", ()))
    session.hold_out(project.manifest.get("held_out", ()))
    for draft in project.manifest.get("drafts", ()):
        plane = plane_from_plain(draft["plane"])
        problems += _restore_draft(session, plane.on(names.get(plane.image, plane.image)), draft)
    target = str(project.manifest.get("target", ""))
    if places.get(target, target) in session.labels:
        session.target = places.get(target, target)
    return tuple(problems)


def active_adapter(project: Project, session: Session) -> str:
    """Name in a session of the adapter that was active in a project; empty if it is not there, or was none."""
    return _adapter_names(project, session).get(str(project.manifest.get("active", "")), "")


def history_of(project: Project, session: Session) -> list[Plain]:
    """Trainings of a project, for `ProjectSaver`, with the names that adapters have in a session."""
    names = _adapter_names(project, session)
    runs: list[Plain] = list(project.manifest.get("training", ()))
    return [run | {"adapter": names.get(run.get("adapter", ""), run.get("adapter", ""))} for run in runs]


def _adapter_names(project: Project, session: Session) -> dict[str, str]:
    """Names in a session of a project's adapters, as far as they are there."""
    wanted: dict[str, str] = project.manifest["adapters"]
    there = _names_by_key(session) if wanted else {}
    return {name: there[key] for name, key in wanted.items() if key in there}


def _names_by_key(session: Session) -> dict[str, str]:
    return {session.adapters.get(entry.name).key: entry.name for entry in session.adapters.entries()}


def _restore_adapters(project: Project, session: Session) -> tuple[dict[str, str], list[str]]:
    """Add the adapters that the session does not have; returns their names there, and what could not be read.

    Content counts, not names: a name that is taken by another adapter gets a number.
    """
    wanted: dict[str, str] = project.manifest["adapters"]
    if not wanted:
        return {}, []
    from napari_sam_lora.lora.adapter import Adapter  # noqa: PLC0415  imports torch

    there, names, problems = _names_by_key(session), {}, []
    for name, key in wanted.items():
        try:
            path = project.folder / "adapters" / f"{name}.safetensors"
            names[name] = there[key] if key in there else session.adapters.add(Adapter.load(path), name)
        except (AdapterError, OSError) as error:
            problems.append(f"The adapter {name!r} could not be read: {error}")
    return names, problems


def _restore_draft(session: Session, plane: PlaneKey, draft: Plain) -> list[str]:
    source = session.images.get(plane.image)
    if source is None or not plane.is_in(source.shape):
        return [f"Prompts that were being drawn on {plane.image!r} are left out: the image is not open."]
    for row in draft["rows"].values():
        session.draft(plane).put_back(row_from_plain(row))
    session.draft_changed.emit(plane)
    return []


def _renamed(values: Plain, images: Mapping[str, str], adapters: Mapping[str, str]) -> Plain:
    prompts = [
        one | {"plane": one["plane"] | {"image": images.get(one["plane"]["image"], one["plane"]["image"])}}
        for one in values["prompts"]
    ]
    return values | {"prompts": prompts, "adapter": adapters.get(values["adapter"], values["adapter"])}

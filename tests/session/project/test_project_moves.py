"""Contents of a project that move with it, and opening it where its names are in use."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from napari_sam_lora import Adapter, Model
from napari_sam_lora.session import ArraySource, ArrayStore, PlaneKey, Session
from napari_sam_lora.session.project.loader import active_adapter, history_of, open_project, restore
from napari_sam_lora.session.project.saver import ProjectSaver
from napari_sam_lora.session.project.snapshot import Extras
from napari_sam_lora.session.training_job import TrainingEvent

from ..helpers import SOON, make_preview, rectangle

SHAPE = (40, 50)


def _session(model: Model | None = None) -> Session:
    made = Session(model)
    made.add_image("image", ArraySource(np.zeros(SHAPE, np.uint8), "image"))
    made.labels.add("cells", ArrayStore(np.zeros(SHAPE, np.int32)))
    return made


def _save(session: Session, folder: Path) -> None:
    assert ProjectSaver(session, folder, delay=0).close(SOON)


def test_what_was_held_out_is_held_out_again_whenever_the_saving_began(tmp_path: Path) -> None:
    session, again = _session(), _session()
    session.training.hold_out(["some object"])
    _save(session, tmp_path / "p")
    restore(open_project(tmp_path / "p"), again)
    assert again.training.held_out == {"some object"}
    assert session.close(SOON)
    assert again.close(SOON)


def test_objects_are_written_again_only_if_something_of_them_has_changed(tmp_path: Path) -> None:
    session, plane = _session(), PlaneKey.of("image", 2)
    saver = ProjectSaver(session, tmp_path / "p", delay=0)
    session.prompts.commit(make_preview(rectangle(SHAPE, 2, 3, 12, 20)[None], plane))
    assert saver.flush(SOON)
    (before,) = (tmp_path / "p").rglob("objects-*.json")
    session.prompts.add(plane, "box", [1, 2, 9, 8])
    assert saver.flush(SOON)
    project = open_project(tmp_path / "p")
    assert project.manifest["drafts"]
    assert list((tmp_path / "p").rglob("objects-*.json")) == [before]
    session.labels["cells"].approve([1])
    assert saver.close(SOON)
    (after,) = (tmp_path / "p").rglob("objects-*.json")
    assert after != before
    assert open_project(tmp_path / "p").labels[0].objects["objects"][0]["approved"]
    assert session.close(SOON)


def test_how_a_layer_was_shown_outlives_the_layer(tmp_path: Path) -> None:
    session, shown = _session(), {"cells": {"scale": [0.5, 0.5]}}
    saver = ProjectSaver(session, tmp_path / "p", Extras(layer=lambda name: shown.get(name, {})), delay=1000)
    assert saver.flush(SOON)
    session.prompts.commit(make_preview(rectangle(SHAPE, 2, 3, 12, 20)[None], PlaneKey.of("image", 2)))
    shown.clear()
    session.labels.remove("cells")
    assert saver.close(SOON)
    (labels,) = open_project(tmp_path / "p").labels
    assert labels.data.any()
    assert labels.layer == {"scale": [0.5, 0.5]}
    assert session.close(SOON)


def test_training_runs_of_a_session_can_be_handed_to_its_project(tmp_path: Path) -> None:
    session = _session()
    first = ProjectSaver(session, tmp_path / "own", delay=0)
    session.training.training_changed.emit(TrainingEvent(state="failed", message="no memory"))
    second = ProjectSaver(session, tmp_path / "p", delay=0, history=first.history)
    assert first.close(SOON)
    assert second.close(SOON)
    (run,) = open_project(tmp_path / "p").manifest["training"]
    assert run["message"] == "no memory"
    assert session.close(SOON)


def test_an_adapter_whose_name_is_in_use_is_found_by_its_content(
    small: Model, adapter: Adapter, tmp_path: Path
) -> None:
    session = _session(small)
    session.models.activate(session.models.adapters.add(adapter, "round 1"))
    preview = make_preview(rectangle(SHAPE, 2, 3, 12, 20)[None], PlaneKey.of("image", 2))
    session.prompts.commit(replace(preview, adapter="round 1"))
    assert session.labels["cells"].record(1).adapter == "round 1"
    _save(session, tmp_path / "p")
    other = replace(adapter, tensors={name: value * 2 for name, value in adapter.tensors.items()})

    again = Session(small)
    again.models.adapters.add(other, "round 1")
    project = open_project(tmp_path / "p")
    assert restore(project, again) == ()
    name = active_adapter(project, again)
    assert name != "round 1"
    assert again.models.adapters.get(name).key == adapter.key
    assert again.labels["cells"].record(1).adapter == name
    project.manifest["training"].append({"adapter": "round 1"})
    assert history_of(project, again) == [{"adapter": name}]

    restore(project, again)  # once more: it is there already
    assert len(again.models.adapters.entries()) == 2
    assert session.close(SOON)
    assert again.close(SOON)

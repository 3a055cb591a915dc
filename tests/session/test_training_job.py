"""Fine-tuning in a session: on a snapshot, in its own thread, never silently worse."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from error_codes import raises
from numpy.typing import NDArray

from napari_sam_lora import Adapter, Model, StackPosition, TrainConfig
from napari_sam_lora.errors import InputError, TrainingError
from napari_sam_lora.io.samples import nuclei_pair
from napari_sam_lora.io.tables.classes import ObjectClasses
from napari_sam_lora.session import ArraySource, ArrayStore, CommitPolicy, ObjectClass, PlaneKey, Session, TrainingEvent
from napari_sam_lora.session.everything.found_plane import HeadSearch
from napari_sam_lora.session.plane_key import Box
from napari_sam_lora.session.training_job import user_prompts
from napari_sam_lora.training.report import FineTuneReport

from .helpers import SOON, collect, dense, make_preview, scores_of

PLANE = PlaneKey.of("nuclei", 2)
FAST = TrainConfig(mode="decoder", steps=3, objects=2, views=1, corrections=0, validation_share=0.0)
LONG = TrainConfig(mode="decoder", steps=1000, objects=1, views=1, corrections=0, validation_share=0.0)
Pair = tuple[NDArray[np.uint8], NDArray[np.uint8]]


@pytest.fixture
def labelled(session: Session, nuclei: Pair) -> Session:
    """Add real labels, of which object 1 was prompted."""
    truth = nuclei[1].astype(np.int32)
    cells = session.labels.add("cells", ArrayStore(np.where(truth == 1, 0, truth)))
    cells.commit(make_preview((truth == 1)[None], PLANE))
    return session


def _at_first_step(session: Session, act: Callable[[], None], config: TrainConfig = LONG) -> list[TrainingEvent]:
    """Start a run, do something in its thread after the first step, and collect all events up to the end."""
    events: list[TrainingEvent] = []

    def listen(event: TrainingEvent) -> None:
        events.append(event)
        if event.state == "running" and sum(one.state == "running" for one in events) == 1:
            act()

    session.training.training_changed.connect(listen)
    assert session.training.start(config).wait(SOON).is_final
    return events


def test_what_is_trained_on_can_be_looked_at_first(labelled: Session, nuclei: Pair) -> None:
    labelled.labels["cells"].mark_complete(PLANE)
    (plane,) = labelled.training.planes()
    assert plane.plane == PLANE
    assert plane.complete
    assert len(np.unique(plane.labels)) == len(np.unique(nuclei[1]))
    (label,) = plane.prompts
    assert plane.prompts[label][0].row[0].kind == "mask"
    assert labelled.training.planes(include=[]) == ()


def test_objects_that_are_left_out_are_not_learned_as_background(labelled: Session) -> None:
    cells = labelled.labels["cells"]
    cells.mark_complete(PLANE)
    (prompted,) = (one.id for one in cells.records() if not one.is_checked)
    (plane,) = labelled.training.planes(only_checked=True)
    assert prompted not in plane.labels
    assert not plane.complete, "its pixels would be background"
    cells.approve([prompted])
    (plane,) = labelled.training.planes(only_checked=True)
    assert plane.complete


def test_classes_of_objects_are_trained_on_and_merged_by_name(labelled: Session) -> None:
    cells = labelled.labels["cells"]
    first, second = (one.id for one in cells.records()[:2])
    cells.set_classes([ObjectClass(1, "nucleus", (1, 0, 0)), ObjectClass(2, "debris", (0, 1, 0))])
    cells.set_class([first], 1)
    cells.set_class([second], 2)
    other = labelled.labels.add("other", ArrayStore(np.eye(256, dtype=np.int32)))
    other.set_classes([ObjectClass(1, "debris", (1, 0, 0)), ObjectClass(2, "dust", (0, 1, 0))])
    other.set_class([1], 1)
    mine, others = labelled.training.planes()
    assert mine.classes == ObjectClasses({first: 1, second: 2}, {1: "nucleus", 2: "debris"})
    assert others.classes == ObjectClasses({1: 2}, {1: "nucleus", 2: "debris", 3: "dust"})


def test_an_adapter_of_the_window_knows_the_classes(labelled: Session) -> None:
    cells = labelled.labels["cells"]
    cells.set_classes([ObjectClass(1, "nucleus", (1, 0, 0)), ObjectClass(2, "debris", (0, 1, 0))])
    ids = [one.id for one in cells.records()]
    cells.set_class(ids[::2], 1)
    cells.set_class(ids[1::2], 2)
    cells.mark_complete(PLANE)
    config = replace(FAST, steps=1, validation_share=0, check_every=0)
    event = labelled.training.start(config, name="kinds").wait(SOON)
    assert event.state == "ended"
    dense = labelled.models.adapters.get(event.adapter).dense
    assert dense is not None
    assert dict(dense.classes) == {1: "nucleus", 2: "debris"}
    labelled.models.activate(event.adapter)
    (found,) = collect(labelled, labelled.everything.search([PLANE], HeadSearch({"smallest": 1})))
    assert found.maps is not None
    assert (dict(found.classes), len(found.maps)) == ({1: "nucleus", 2: "debris"}, 4)
    labelled.labels.add("empty", ArrayStore(np.zeros((256, 256), np.int32)))
    proposal = labelled.everything.propose(found, "empty")
    assert proposal.changes
    names = {1: "nucleus", 2: "debris"}
    assert all(change.predicted and change.predicted.name == names[change.predicted.id] for change in proposal.changes)


def test_only_planes_with_labels_are_trained_on(small: Model) -> None:
    session = Session(small)
    data = np.zeros((2, 4, 30, 30), np.int32)
    data[0, 1, 5:20, 5:20] = data[1, 3, 5:20, 5:20] = 1
    session.add_image("stack", ArraySource(np.zeros(data.shape)))
    session.add_image("other", ArraySource(np.zeros((30, 30))))
    session.labels.add("cells", ArrayStore(data))
    assert [plane.plane.index for plane in session.training.planes()] == [(0, 1), (1, 3)]
    assert [plane.plane.image for plane in session.training.planes()] == ["stack", "stack"]
    assert [plane.position for plane in session.training.planes()] == [
        StackPosition("stack", (0, 1)),
        StackPosition("stack", (1, 3)),
    ]
    with raises(InputError, "labels-do-not-fit"):
        session.training.planes([("other", "cells")])


def test_a_run_ends_with_a_kept_adapter_that_is_not_active_unless_better(labelled: Session) -> None:
    events: list[TrainingEvent] = []
    labelled.training.training_changed.connect(events.append)
    final = labelled.training.start(FAST, name="mine").wait(SOON)
    assert final.state == "ended"
    assert final.report is not None
    assert (final.adapter, final.activated) == ("mine", False)
    assert final.report.checked_on == "one image"
    assert final.message == final.report.reason
    assert labelled.models.active == ""
    assert labelled.models.adapters.entry("mine").objects > 3
    steps = [event.step.step for event in events if event.state == "running" and event.step]
    assert steps[:3] == [1, 2, 3]
    assert [event.is_final for event in events].count(True) == 1
    assert events[-1] is final is labelled.training.job.event  # type: ignore[union-attr]


def test_the_prompts_that_the_user_gave_are_trained_with(labelled: Session, nuclei: Pair) -> None:
    """Those of all parts of an object together; an object that is gone has none."""
    truth = nuclei[1].astype(np.int32)
    cells, (label,) = labelled.labels["cells"], labelled.training.planes()[0].prompts
    cells.commit(make_preview((truth == 2)[None], PLANE), CommitPolicy("part", label, overwrite=True))
    (given,) = user_prompts(labelled.training.planes()[0]).values()
    assert len(given) == 1
    assert given.masks is not None
    assert np.array_equal(given.masks[0], (truth == 1) | (truth == 2))
    cells.store.write(PLANE, truth >= 0, 0)
    cells.store.write(PLANE, truth == 5, 5)
    cells.note_painted(PLANE)
    assert user_prompts(labelled.training.planes()[0]) == {}


@pytest.mark.parametrize(
    ("verdict", "checked_on", "active"),
    [
        ("better", "other images", "mine"),
        ("better", "same images", "mine"),
        ("better", "one image", ""),
        ("not better", "other images", ""),
        ("too few", "same images", ""),
    ],
)
def test_only_an_adapter_that_is_better_on_several_images_is_activated(
    labelled: Session, adapter: Adapter, monkeypatch: pytest.MonkeyPatch, verdict: str, checked_on: str, active: str
) -> None:
    """A run that learned at once, and was judged so."""

    class Report:
        def __init__(self) -> None:
            self.verdict, self.reason, self.held_out = verdict, "Said so.", ("unit",)
            self.checked_on = checked_on

        use_at_once = FineTuneReport.use_at_once

    class Run:
        def __iter__(self) -> Any:
            return iter(())

        def result(self) -> Any:
            return adapter, Report()

    asked: list[Any] = []

    def iter_fine_tune(*_: Any, held_out: Any, start: Any, class_names: Any) -> Run:
        assert (start, class_names) == (None, {})
        asked.append(held_out)
        return Run()

    monkeypatch.setattr("napari_sam_lora.api.iter_fine_tune", iter_fine_tune)
    event = labelled.training.start(FAST, name="mine").wait(SOON)
    assert (event.state, event.message, event.activated) == ("ended", "Said so.", bool(active))
    assert labelled.models.active == active
    assert labelled.training.start(FAST, name="mine").wait(SOON).adapter == "mine 2"
    assert asked == [(), ("unit",)]


def test_stopping_keeps_what_was_learned(labelled: Session) -> None:
    events = _at_first_step(labelled, labelled.training.stop)
    assert events[-1].state == "ended"
    assert events[-1].step is not None
    assert events[-1].step.step == 1
    assert len(labelled.models.adapters.entries()) == 1


def test_discarding_keeps_nothing_and_leaves_the_model_as_it_was(labelled: Session) -> None:
    labelled.prompts.add(PLANE, "box", [40, 60, 70, 95])
    before = labelled.prompts.preview(PLANE).result(SOON)
    events = _at_first_step(labelled, labelled.training.discard)
    assert events[-1].state == "discarded"
    assert labelled.models.adapters.entries() == ()
    after = labelled.prompts.preview(PLANE).result(SOON)
    assert np.array_equal(dense(after), dense(before))
    assert scores_of(after) == scores_of(before)


def test_pausing_waits_and_resuming_goes_on(labelled: Session) -> None:
    job = labelled.training.job
    assert job is None
    states: list[str] = []
    paused = threading.Event()

    def listen(event: TrainingEvent) -> None:
        if not states or states[-1] != event.state:
            states.append(event.state)
        if event.state == "running" and states.count("paused") == 0:
            labelled.training.job.pause()  # type: ignore[union-attr]
        if event.state == "paused":
            paused.set()

    labelled.training.training_changed.connect(listen)
    job = labelled.training.start(FAST)
    assert paused.wait(SOON)
    assert not job.wait(0.05).is_final
    with raises(TrainingError, "training-in-progress"):
        labelled.training.start(FAST)
    job.resume()
    assert job.wait(SOON).state == "ended"
    assert states == ["preparing", "running", "paused", "running", "stopping", "ended"]


def test_a_paused_run_can_be_discarded_by_closing(labelled: Session) -> None:
    paused = threading.Event()

    def listen(event: TrainingEvent) -> None:
        if event.state == "running":
            labelled.training.job.pause()  # type: ignore[union-attr]
        elif event.state == "paused":
            paused.set()

    labelled.training.training_changed.connect(listen)
    job = labelled.training.start(LONG)
    assert paused.wait(SOON)
    assert labelled.close(SOON)
    assert job.event.state == "discarded"


def test_prompting_and_painting_meanwhile_do_not_change_the_run(labelled: Session) -> None:
    alone = labelled.training.start(FAST, name="alone")
    assert alone.wait(SOON).state == "ended"
    labelled.models.deactivate()
    labelled.prompts.add(PLANE, "box", [40, 60, 70, 95])
    before = labelled.prompts.preview(PLANE).result(SOON)
    cells = labelled.labels["cells"]
    job = labelled.training.start(FAST, name="meanwhile")
    during = labelled.prompts.preview(PLANE).result(SOON)
    cells.store.write(PLANE, np.ones((256, 256), np.bool_), 0)
    cells.note_painted(PLANE)
    assert job.wait(SOON).state == "ended"
    assert np.array_equal(dense(during), dense(before))
    assert labelled.models.adapters.get("meanwhile").key == labelled.models.adapters.get("alone").key


def test_an_image_that_fails_to_be_read_ends_the_run_with_a_message(labelled: Session) -> None:
    class Broken(ArraySource):
        def read(self, plane: PlaneKey, box: Box | None = None) -> NDArray[Any]:
            raise OSError("the disk is gone")

    labelled.add_image("nuclei", Broken(np.zeros((256, 256))))
    event = labelled.training.start(FAST).wait(SOON)
    assert event.state == "failed"
    assert "disk is gone" in event.message
    assert labelled.models.adapters.entries() == ()


def test_a_deleted_image_does_not_end_the_run(labelled: Session) -> None:
    job = labelled.training.start(FAST)
    labelled.remove_image("nuclei")
    labelled.labels.remove("cells")
    assert job.wait(SOON).state == "ended"


def test_a_run_without_labels_is_refused_before_anything_starts(session: Session) -> None:
    with raises(TrainingError, "no-labelled-planes"):
        session.training.start(FAST)
    assert session.training.job is None
    session.training.stop()
    session.training.discard()


def test_three_rounds_in_one_session(small: Model) -> None:
    session = Session(small)
    cells = {}
    for number in (3, 4):
        image, truth = nuclei_pair(number)
        session.add_image(f"image {number}", ArraySource(image))
        cells[number] = session.labels.add(f"cells {number}", ArrayStore(truth.astype(np.int32)))
    include = [("image 3", "cells 3"), ("image 4", "cells 4")]
    config = TrainConfig(mode="decoder", steps=2, objects=2, views=1, corrections=0)
    names = []
    for _ in range(3):
        event = session.training.start(config, include).wait(SOON)
        assert event.state == "ended", event.message
        names.append(event.adapter)
        session.models.activate(event.adapter)
        proposal = session.proposals.refine([PlaneKey.of("image 3", 2)], "cells 3").result(SOON)
        before = len(cells[3].records())
        cells[3].apply(proposal)
        assert len(cells[3].records()) == before
    assert names == ["adapter", "adapter 2", "adapter 3"]
    assert session.close(SOON)

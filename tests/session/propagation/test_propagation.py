"""Propagation of objects through a stack: previewed, cancelled, accepted as one step, redone."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from error_codes import raises
from numpy.typing import NDArray

from napari_sam_lora import Adapter, Model
from napari_sam_lora.errors import InputError
from napari_sam_lora.overlap import mask_iou
from napari_sam_lora.parameters.propagation import PropagationConfig
from napari_sam_lora.session import ArraySource, ArrayStore, PlaneKey, Proposal, Session
from napari_sam_lora.session.plane_key import Box
from napari_sam_lora.session.project.serialisation import record_from_plain, record_to_plain
from napari_sam_lora.session.propagation.snapshot import Packed, snapshot_planes

from ..helpers import SOON, rectangle

SHAPE = (64, 64)


def at(index: int) -> PlaneKey:
    return PlaneKey.of("stack", 3, (index,))


def disc(y: int, x: int, radius: int) -> NDArray[np.bool_]:
    ys, xs = np.mgrid[:64, :64]
    return np.asarray((ys - y) ** 2 + (xs - x) ** 2 < radius**2)


@pytest.fixture
def stacked(small: Model) -> Iterator[Session]:
    """Open seven planes with two discs; both are labelled in plane 3."""
    image = np.full((7, *SHAPE), 40, np.uint8)
    labels = np.zeros(image.shape, np.int32)
    for label, (y, x) in enumerate(((18, 18), (44, 42)), start=1):
        image[:, disc(y, x, 10)] = 200
        labels[3][disc(y, x, 10)] = label
    made = Session(small)
    made.add_image("stack", ArraySource(image))
    made.labels.add("cells", ArrayStore(labels))
    yield made
    assert made.close(SOON)


def pixels(session: Session) -> NDArray[np.int32]:
    store = session.labels["cells"].store
    assert isinstance(store, ArrayStore)
    return np.asarray(store.data)


def test_a_propagation_is_previewed_and_accepted_as_one_step(stacked: Session) -> None:
    seen: list[Proposal] = []
    progress: list[tuple[int, int]] = []
    stacked.propagation.propagated.connect(seen.append)
    stacked.models.progressed.connect(lambda key, done, total: progress.append((done, total)))
    before = pixels(stacked).copy()
    proposal = stacked.propagation.start(at(3)).result(SOON)
    assert np.array_equal(pixels(stacked), before)
    assert [{change.plane for change in one.changes} for one in seen] == [{at(i)} for i in (4, 5, 6, 2, 1, 0)]
    assert progress[-1] == (6, 6)
    cells = stacked.labels["cells"]
    result = cells.apply(proposal)
    assert set(result.ids) == {1, 2}
    assert (result.code, result.skipped) == ("propagated", 0)
    assert "2 objects" in result.message
    for plane in pixels(stacked):
        assert mask_iou(plane == 1, before[3] == 1) > 0.7
        assert mask_iou(plane == 2, before[3] == 2) > 0.7
    assert stacked.labels.undo() == "propagated"
    assert np.array_equal(pixels(stacked), before)


def test_what_was_propagated_is_recorded_by_plane(stacked: Session) -> None:
    cells = stacked.labels["cells"]
    cells.apply(stacked.propagation.start(at(3), [1]).result(SOON))
    record = cells.record(1)
    assert record.origin == "painted"
    assert (record.origin_in(at(3)), record.origin_in(at(4))) == ("painted", "propagated")
    assert record.is_checked_in(at(3))
    assert not record.is_checked_in(at(4))
    assert set(record.prompts) == {at(i) for i in (0, 1, 2, 4, 5, 6)}
    again = record_from_plain(record_to_plain(record))
    assert dict(again.origins) == dict(record.origins)
    learned = stacked.training.planes(only_checked=True)
    assert [plane.plane for plane in learned] == [at(3)]
    assert {change.plane for change in stacked.proposals.resegment().result(SOON).changes} <= {
        at(i) for i in (0, 1, 2, 4, 5, 6)
    }


def test_a_cancelled_propagation_keeps_what_was_done_and_goes_on_later(stacked: Session) -> None:
    stacked.propagation.propagated.connect(
        lambda one: stacked.propagation.stop() if one.changes[0].plane == at(5) else None
    )
    part = stacked.propagation.start(at(3), [1]).result(SOON)
    assert [change.plane for change in part.changes] == [at(4), at(5)]
    stacked.labels["cells"].apply(part)
    stacked.propagation.propagated.disconnect()
    rest = stacked.propagation.start(at(3), [1]).result(SOON)
    assert {change.plane for change in rest.changes} == {at(i) for i in (6, 2, 1, 0)}


def test_finished_objects_and_complete_planes_stay_as_they_are(stacked: Session) -> None:
    cells = stacked.labels["cells"]
    data = pixels(stacked)
    data[4][10:18, 10:18] = 9
    cells.note_painted(at(4))
    cells.mark_complete(at(2))
    cells.apply(stacked.propagation.start(at(3), [1]).result(SOON))
    assert (data[4][10:18, 10:18] == 9).all()
    assert (data[4] == 1).any()
    assert not data[2].any()
    assert not data[1].any()


def test_prompts_are_answered_while_objects_are_followed(stacked: Session) -> None:
    done: list[str] = []
    stacked.propagation.propagated.connect(lambda one: done.append("plane"))
    future = stacked.propagation.start(at(3))
    stacked.prompts.add(at(0), "box", [8, 8, 28, 28])
    stacked.prompts.preview(at(0)).add_done_callback(lambda _: done.append("prompt"))
    future.result(SOON)
    assert done.count("plane") == 6
    assert "prompt" in done[:3]


def test_a_stack_is_segmented_again_from_what_was_drawn(stacked: Session) -> None:
    cells, data = stacked.labels["cells"], pixels(stacked)
    cells.apply(stacked.propagation.start(at(3)).result(SOON))
    for index in (4, 5):  # one is spoilt but not by hand, the other corrected by hand
        cells.watch(at(index))
        cells.store.write(at(index), rectangle(SHAPE, 10, 10, 20, 30) & (data[index] == 1), 0)
        if index == 5:
            cells.note_painted(at(5))
    corrected = data[5].copy()
    proposal = stacked.propagation.resegment_stack(at(0)).result(SOON)
    assert {(change.plane, change.label) for change in proposal.changes} >= {(at(4), 1)}
    assert (at(5), 1) not in {(change.plane, change.label) for change in proposal.changes}
    cells.apply(proposal)
    assert np.array_equal(data[5], corrected)
    assert mask_iou(data[4] == 1, data[3] == 1) > 0.6


def test_masks_that_are_not_found_again_go(stacked: Session) -> None:
    cells, data = stacked.labels["cells"], pixels(stacked)
    cells.apply(stacked.propagation.start(at(3), [1]).result(SOON))
    proposal = stacked.propagation.start(at(3), [1], PropagationConfig(smallest=10_000), redo=True).result(SOON)
    cells.apply(proposal)
    assert [bool((plane == 1).any()) for plane in data] == [False] * 3 + [True] + [False] * 3
    assert not cells.record(1).origins
    stacked.labels.undo()
    assert all((plane == 1).any() for plane in data)


def test_what_cannot_be_propagated_is_refused(stacked: Session, small: Model) -> None:
    with raises(InputError, "no-object-in-plane"):
        stacked.propagation.start(at(0))
    for axis in (1, -2):
        with raises(InputError, "axis-out-of-range"):
            stacked.propagation.start(at(3), axis=axis)
    stacked.add_image("flat", ArraySource(np.zeros(SHAPE)))
    stacked.labels.add("flat", ArrayStore(np.zeros(SHAPE, int)))
    with raises(InputError, "not-a-stack"):
        stacked.propagation.start(PlaneKey.of("flat", 2))
    with raises(InputError, "labels-do-not-fit"):
        stacked.propagation.start(at(3))
    failed = stacked.propagation.start(at(3), [7], labels="cells")
    assert isinstance(failed.exception(SOON), InputError)


def test_objects_are_followed_in_another_view(stacked: Session) -> None:
    cells, data = stacked.labels["cells"], pixels(stacked)
    cells.apply(stacked.propagation.start(at(3)).result(SOON))
    side = PlaneKey.of("stack", 3, (18,), (0, 2))
    data[:, :16][data[:, :16] == 1] = 0
    cells.note_painted(side)
    config = PropagationConfig(direction="down", first=12, min_score=0.0, min_overlap=0.0, min_contrast=0.0)
    proposal = stacked.propagation.start(side, [1], config).result(SOON)
    assert {change.plane.axes for change in proposal.changes} == {(0, 2)}


def test_a_propagation_that_was_stopped_goes_on_where_it_ended(stacked: Session) -> None:
    whole = stacked.propagation.start(at(3), [1]).result(SOON)
    seen: list[PlaneKey] = []
    stacked.propagation.propagated.connect(lambda one: seen.append(one.changes[0].plane))
    stacked.propagation.propagated.connect(
        lambda one: stacked.propagation.stop() if one.changes[0].plane == at(5) else None
    )
    part = stacked.propagation.start(at(3), [1]).result(SOON)
    run = stacked.propagation.run
    assert run is not None
    assert run.is_unfinished
    assert run.proposal.changes == part.changes
    rest = run.start().result(SOON)
    assert seen == [at(i) for i in (4, 5, 6, 2, 1, 0)]
    assert not run.is_unfinished
    assert {change.plane: change.new.area for change in rest.changes} == {
        change.plane: change.new.area for change in whole.changes
    }
    with raises(InputError, "propagation-ended"):
        run.start()


@pytest.mark.parametrize(
    ("config", "left"),
    [
        (PropagationConfig(smallest=10_000, direction="up"), {0, 1, 2, 3}),
        (PropagationConfig(smallest=10_000, first=2, last=5), {0, 1, 3, 6}),
    ],
)
def test_planes_that_are_not_gone_through_keep_what_was_propagated_before(
    stacked: Session, config: PropagationConfig, left: set[int]
) -> None:
    cells, data = stacked.labels["cells"], pixels(stacked)
    cells.apply(stacked.propagation.start(at(3), [1]).result(SOON))
    cells.apply(stacked.propagation.start(at(3), [1], config, redo=True).result(SOON))
    assert {index for index, plane in enumerate(data) if (plane == 1).any()} == left


def test_an_object_whose_only_drawn_mask_is_gone_keeps_the_propagated_ones(stacked: Session) -> None:
    cells, data = stacked.labels["cells"], pixels(stacked)
    cells.apply(stacked.propagation.start(at(3)).result(SOON))
    cells.watch(at(3))
    cells.store.write(at(3), data[3] == 1, 0)
    cells.note_painted(at(3))
    cells.apply(stacked.propagation.start(at(3), [1, 2], PropagationConfig(smallest=10_000), redo=True).result(SOON))
    assert [bool((plane == 1).any()) for plane in data] == [True] * 3 + [False] + [True] * 3
    assert [bool((plane == 2).any()) for plane in data] == [False] * 3 + [True] + [False] * 3


def test_prompts_are_replayed_with_the_adapter_before_objects_are_followed(stacked: Session, adapter: Adapter) -> None:
    cells, data = stacked.labels["cells"], pixels(stacked)
    data[:] = 0
    cells.note_painted(at(3))
    stacked.prompts.add(at(3), "box", [8, 8, 29, 29])
    stacked.prompts.commit(stacked.prompts.preview(at(3)).result(SOON))
    stacked.labels["cells"].apply(stacked.propagation.start(at(3), [1]).result(SOON))
    before = data.copy()
    stacked.models.adapters.add(adapter, "a")
    stacked.models.activate("a")
    proposal = stacked.propagation.resegment_stack(at(0), PropagationConfig(min_score=0.0)).result(SOON)
    (replayed,) = [change for change in proposal.changes if change.is_replayed]
    assert replayed.plane == at(3)
    cells.apply(proposal)
    assert not np.array_equal(data[3], before[3])
    record = cells.record(1)
    assert (record.origin_in(at(3)), record.adapter) == ("re-segmented", "a")
    assert all(origin == "propagated" for origin in record.origins.values())
    assert at(3) not in record.origins
    cells.approve([1])
    with raises(InputError, "all-approved"):
        stacked.propagation.resegment_stack(at(0))


def test_a_failure_keeps_what_was_done(stacked: Session) -> None:
    source, messages = stacked.images["stack"], list[str]()
    stacked.models.failed.connect(messages.append)
    read = source.read

    class Broken:
        name, shape, spacing = source.name, source.shape, source.spacing

        def read(self, plane: PlaneKey, box: Box | None = None) -> NDArray[np.uint8]:
            if plane.index == (6,):
                raise OSError("the disk is gone")
            return read(plane, box)

    stacked.add_image("stack", Broken())
    future = stacked.propagation.start(at(3), [1])
    assert isinstance(future.exception(SOON), OSError)
    assert "the disk is gone" in messages[0]
    run = stacked.propagation.run
    assert run is not None
    assert not run.is_unfinished
    assert [change.plane for change in run.proposal.changes] == [at(4), at(5)]


def test_a_failure_after_its_future_was_cancelled_is_only_reported(
    stacked: Session, caplog: pytest.LogCaptureFixture
) -> None:
    source, messages = stacked.images["stack"], list[str]()
    held, failed = threading.Event(), threading.Event()
    stacked.models.failed.connect(messages.append)
    stacked.models.failed.connect(lambda _: failed.set())

    class Broken:
        name, shape, spacing = source.name, source.shape, source.spacing

        def read(self, plane: PlaneKey, box: Box | None = None) -> NDArray[np.uint8]:
            held.wait(SOON)
            raise OSError("the disk is gone")

    stacked.add_image("stack", Broken())
    assert stacked.propagation.start(at(3), [1]).cancel()
    held.set()
    assert failed.wait(SOON)
    assert stacked.close(SOON)
    assert "the disk is gone" in messages[0]
    assert not caplog.records


def test_complete_planes_count_within_the_bounds(stacked: Session) -> None:
    cells = stacked.labels["cells"]
    for index in (0, 2, 5):
        cells.mark_complete(at(index))
    cells.mark_complete(PlaneKey.of("stack", 3, (3,), (0, 2)))
    assert cells.complete_along(at(3), 0) == [0, 2, 5]
    proposal = stacked.propagation.start(at(3), [1], PropagationConfig(first=1, last=5)).result(SOON)
    assert stacked.propagation.run is not None
    assert stacked.propagation.run.closed == 2
    assert {change.plane for change in proposal.changes} == {at(4)}


def test_a_plane_is_unpacked_once_for_all_that_look_at_it(stacked: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    unpacked: list[int] = []
    original = Packed.pixels

    def note(packed: Packed, shape: tuple[int, int]) -> NDArray[np.integer[Any]]:
        unpacked.append(len(packed.data))
        return original(packed, shape)

    monkeypatch.setattr(Packed, "pixels", note)
    stacked.labels["cells"].apply(stacked.propagation.start(at(3), [1]).result(SOON))
    unpacked.clear()
    stacked.propagation.start(at(3), [2]).result(SOON)
    assert len(unpacked) == 7 + (1 + 3) + (1 + 3), "all to look for objects, then the key plane and those above, below"


def test_masks_to_make_anew_are_cut_out_of_the_labels_that_stay(stacked: Session) -> None:
    cells, data = stacked.labels["cells"], pixels(stacked)
    cells.apply(stacked.propagation.start(at(3)).result(SOON))
    seen = snapshot_planes(cells, stacked.images["stack"], at(3), 0, [1], None, True, False)
    assert set(seen.redone) == {(index, 1) for index in (0, 1, 2, 4, 5, 6)}
    for index in range(7):
        again = seen.labels(index).copy()
        assert set(np.unique(again)) == ({0, 1, 2} if index == 3 else {0, 2})
        if index != 3:
            seen.redone[index, 1].write(again, 1)
        assert np.array_equal(again, data[index])


@pytest.mark.parametrize("axes", [None, (0, 2), (2, 1)])
def test_the_objects_of_a_plane_are_known_after_painting(stacked: Session, axes: tuple[int, int] | None) -> None:
    cells, data = stacked.labels["cells"], pixels(stacked)
    plane = PlaneKey.of("stack", 3, (18 if axes == (0, 2) else 3,), axes)
    assert cells.ids_in(plane) == ([1] if axes == (0, 2) else [1, 2])
    data[3, 18, 60:] = 7
    cells.note_painted(at(3))
    assert cells.ids_in(plane) == ([1, 7] if axes == (0, 2) else [1, 2, 7])


@pytest.mark.parametrize(("axis", "indices"), [(0, {(0, 3), (2, 3)}), (1, {(1, 2), (1, 4)})])
def test_the_axis_of_an_image_of_four_axes_is_chosen(small: Model, axis: int, indices: set[tuple[int, int]]) -> None:
    image = np.full((3, 7, *SHAPE), 40, np.uint8)
    image[..., disc(30, 30, 12)] = 200
    labels = np.zeros(image.shape, np.int32)
    labels[1, 3][disc(30, 30, 12)] = 5
    session = Session(small)
    session.add_image("movie", ArraySource(image))
    session.labels.add("cells", ArrayStore(labels))
    config = PropagationConfig(first=2 * axis, last=2 + 2 * axis)
    proposal = session.propagation.start(PlaneKey.of("movie", 4, (1, 3)), config=config, axis=axis).result(SOON)
    assert {change.plane.index for change in proposal.changes} == indices
    assert session.close(SOON)


def test_an_object_that_grew_is_followed_on_from_its_doubtful_plane_once_it_is_approved(small: Model) -> None:
    image, labels = np.full((7, *SHAPE), 40, np.uint8), np.zeros((7, *SHAPE), np.int32)
    for index in range(7):
        image[index][disc(32, 32, round(7 * 1.2**index))] = 200
    labels[0][disc(32, 32, 7)] = 1
    session = Session(small)
    session.add_image("stack", ArraySource(image))
    cells = session.labels.add("cells", ArrayStore(labels))
    proposal = session.propagation.start(at(0)).result(SOON)
    (doubtful,) = proposal.doubtful
    cells.apply(proposal)
    assert (doubtful.label, doubtful.doubt, doubtful.plane) == (1, "size", at(doubtful.position))
    assert np.array_equal(doubtful.region.to_mask(SHAPE), labels[doubtful.position] == 1)
    assert not labels[doubtful.position + 1].any()
    before = labels.copy()
    assert session.propagation.start(at(0), redo=True).result(SOON).doubtful[0].position == doubtful.position
    cells.approve([1])
    further = session.propagation.start(at(0), redo=True).result(SOON)
    assert min(change.plane for change in further.changes) == at(doubtful.position + 1)
    cells.apply(further)
    assert labels[doubtful.position + 1].any()
    assert np.array_equal(labels[: doubtful.position + 1], before[: doubtful.position + 1])
    assert session.close(SOON)

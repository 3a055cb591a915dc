"""Everything in several planes of a session is found, cut again, and proposed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from error_codes import raises
from numpy.typing import NDArray

from napari_sam_lora import EverythingConfig, Model
from napari_sam_lora.errors import InputError
from napari_sam_lora.session import ArraySource, ArrayStore, PlaneKey, Session
from napari_sam_lora.session.everything.found_plane import ClickSearch, FoundPlane, HeadSearch
from napari_sam_lora.stacks.dense import find_instances

from ..helpers import SOON, collect

PLANE = PlaneKey.of("nuclei", 2)
Pair = tuple[NDArray[np.uint8], NDArray[np.uint8]]
FEW = ClickSearch(EverythingConfig(points_per_side=12, pred_iou_thresh=0.3, stability_score_thresh=0.3), smallest=30)


def as_labels(found: FoundPlane, shape: tuple[int, int]) -> NDArray[np.int32]:
    """Return the found objects as a label image (y, x)."""
    labels = np.zeros(shape, np.int32)
    for number, one in enumerate(found.objects, start=1):
        one.region.write(labels, number)
    return labels


@pytest.fixture
def stack(session: Session, nuclei: Pair) -> list[PlaneKey]:
    """Add a stack of three planes, the last of them empty."""
    image = nuclei[0][:128, :128]
    session.add_image("stack", ArraySource(np.stack([image, image[::-1], np.zeros_like(image)])))
    session.labels.add("of the stack", ArrayStore(np.zeros((3, 128, 128), np.int32)))
    return [PlaneKey.of("stack", 3, (index,)) for index in range(3)]


def test_the_objects_of_a_plane_are_those_of_find_instances(session: Session, small: Model, nuclei: Pair) -> None:
    (found,) = collect(session, session.everything.search([PLANE]))
    wanted = find_instances(small.predictor, nuclei[0])
    assert len(found.objects) == wanted.max() > 3
    assert np.count_nonzero((as_labels(found, (256, 256)) > 0) != (wanted > 0)) < 20  # the maps are kept as float16


@pytest.mark.parametrize("search", [HeadSearch(), FEW], ids=["head", "clicks"])
def test_finished_objects_keep_their_pixels(session: Session, nuclei: Pair, search: Any) -> None:
    cells = session.labels["cells"]
    finished = np.isin(nuclei[1], np.unique(nuclei[1])[1:5])
    cells.store.write(PLANE, finished, 1)
    (found,) = collect(session, session.everything.search([PLANE], search))
    proposal = session.everything.propose(found, "cells")
    assert len(proposal.changes) > 3
    assert not any((change.new.to_mask((256, 256)) & finished).any() for change in proposal.changes)
    assert min(change.new.area for change in proposal.changes) >= 30
    result = cells.apply(proposal)
    assert (cells.store.read(PLANE)[finished] == 1).all()
    assert len(result.ids) == len(proposal.changes)
    assert cells.record(result.ids[0]).origin == "everything"


def test_several_planes_are_accepted_as_one_step(session: Session, stack: list[PlaneKey]) -> None:
    findings = session.everything.findings()
    for found in collect(session, session.everything.search(stack)):
        findings.put(found)
    assert findings.searched == stack
    assert findings.planes == stack[:2]
    labels = session.labels["of the stack"]
    result = labels.apply(findings.kept("stack"))
    assert len(result.ids) == findings.count() > 3
    assert labels.ids_in(stack[0])
    assert not {*labels.ids_in(stack[0])} & {*labels.ids_in(stack[1])}
    labels.undo()
    assert labels.records() == ()


def test_a_run_is_stopped_and_continued(session: Session, stack: list[PlaneKey]) -> None:
    run = session.everything.search(stack)
    assert [found.plane for found in collect(session, run, 2)] == stack[:2]
    assert run.is_unfinished
    assert [found.plane for found in collect(session, run)] == stack[2:]
    assert not run.is_unfinished
    with raises(InputError, "search-ended"):
        run.start()


def test_progress_counts_all_planes(session: Session, stack: list[PlaneKey]) -> None:
    seen: list[tuple[int, int]] = []
    session.models.progressed.connect(lambda key, done, total: seen.append((done, total)))
    collect(session, session.everything.search(stack))
    assert seen == sorted(seen)
    assert {total for _, total in seen} == {300}
    assert {0, 100, 200, 300} <= {done for done, _ in seen}


def test_a_cancelled_run_keeps_the_planes_that_are_done(session: Session, stack: list[PlaneKey]) -> None:
    run = session.everything.search(stack)

    def cancel(key: object, done: int, total: int) -> None:
        if done > 100:  # in the second plane
            run.stop()
            session.models.cancel("everything")

    session.models.progressed.connect(cancel)
    found = collect(session, run)
    assert [one.plane for one in found] == stack[:1]
    assert run.is_unfinished


def test_a_plane_that_cannot_be_read_ends_the_run_with_its_error(session: Session, stack: list[PlaneKey]) -> None:
    class Broken(ArraySource):
        def read(self, plane: PlaneKey, box: Any = None) -> NDArray[Any]:
            if plane.index == (1,):
                raise OSError("no disk")
            return super().read(plane, box)

    session.add_image("stack", Broken(np.zeros((3, 64, 64), np.uint8)))
    run = session.everything.search(stack)
    assert isinstance(run.start().exception(SOON), OSError)
    assert run.done == 1


def test_maps_are_kept_until_memory_is_short(session: Session, stack: list[PlaneKey]) -> None:
    one_plane = 2 * 128 * 128 * 2  # two maps of float16
    findings = session.everything.findings()
    for found in collect(session, session.everything.search(stack, most_bytes=one_plane)):
        findings.put(found)
    kept = [findings.found(plane).maps is not None for plane in stack]  # type: ignore[union-attr]
    assert kept == [True, False, False]
    assert findings.proposal(stack[1]).changes  # type: ignore[union-attr]
    assert findings.count_without_maps() == 2
    assert [found.plane for found in findings.stale({"sensitivity": 0.9})] == [stack[0]]


def test_other_values_cut_all_planes_again(session: Session, stack: list[PlaneKey]) -> None:
    findings = session.everything.findings()
    for found in collect(session, session.everything.search(stack)):
        findings.put(found)
    before = findings.count()
    stale = findings.stale({"smallest": 150})
    for found in collect(session, session.everything.cut_again(stale, {"smallest": 150})):
        findings.put(found)
    assert findings.stale({"smallest": 150}) == []
    assert 0 < findings.count() < before
    assert all(change.new.area >= 150 for change in findings.kept("stack").changes)


def test_objects_are_refined_from_their_boxes_if_that_suits_the_head(
    session: Session, small: Model, nuclei: Pair
) -> None:
    assert small.loaded.dense is not None
    refining = Model(replace(small.loaded, dense=replace(small.loaded.dense, refine=True)))
    other = Session(refining)
    other.add_image("nuclei", ArraySource(nuclei[0]))
    (found,) = collect(other, other.everything.search([PLANE]))
    wanted = find_instances(refining.predictor, nuclei[0], refine=True)
    rough = find_instances(refining.predictor, nuclei[0], refine=False)
    assert found.is_refined
    refined = as_labels(found, (256, 256)) > 0
    assert np.count_nonzero(refined != (wanted > 0)) < np.count_nonzero(refined != (rough > 0)) / 4
    assert other.close(SOON)


def test_an_unknown_image_or_plane_is_refused(session: Session) -> None:
    with raises(InputError, "image-not-found"):
        session.everything.search([PLANE.on("gone")])
    with raises(InputError, "plane-outside-stack"):
        session.everything.search([PlaneKey.of("nuclei", 3, (0,), (1, 2))])


def test_a_search_is_cancelled_within_a_plane(session: Session) -> None:
    search = ClickSearch(EverythingConfig(points_per_side=16, points_per_batch=16))
    seen: list[int] = []

    def cancel(key: object, done: int, total: int) -> None:
        seen.append(done)
        if done:
            session.models.cancel("everything")

    session.models.progressed.connect(cancel)
    found = collect(session, session.everything.search([PLANE], search))
    assert found == []
    assert len(seen) == 2

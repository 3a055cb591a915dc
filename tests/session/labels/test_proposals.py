"""Proposals: stored prompts replayed, labels refined."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_sam_lora import Adapter, Model
from napari_sam_lora.labels import find_objects
from napari_sam_lora.session import ArraySource, ArrayStore, PlaneKey, Session

from ..helpers import SOON, rectangle

PLANE = PlaneKey.of("nuclei", 2)
Pair = tuple[NDArray[np.uint8], NDArray[np.uint8]]


def _label_some(session: Session, truth: NDArray[Any], count: int = 4) -> None:
    session.prompts.batch = True
    for found in find_objects(truth)[:count]:
        session.prompts.add(PLANE, "box", found.box)
    session.prompts.commit(session.prompts.preview(PLANE).result(SOON))
    session.prompts.batch = False


def test_stored_prompts_are_replayed_with_the_adapter(session: Session, adapter: Adapter, nuclei: Pair) -> None:
    _label_some(session, nuclei[1])
    cells = session.labels["cells"]
    same = session.proposals.resegment().result(SOON)
    assert (same.changes, same.unchanged, same.left_alone) == ((), 4, 0)
    cells.approve([2])
    cells.watch(PLANE)
    y, x = np.argwhere(cells.store.read(PLANE) == 3)[0]
    cells.store.write(PLANE, rectangle((256, 256), y, x, y + 1, x + 1), 0)
    cells.note_painted(PLANE)
    before = cells.store.read(PLANE)

    session.models.adapters.add(adapter, "a")
    session.models.activate("a")
    proposal = session.proposals.resegment(planes=[PLANE]).result(SOON)
    assert {change.label for change in proposal.changes} <= {1, 4}
    assert proposal.changes
    assert proposal.left_alone == 2
    assert [change.iou for change in proposal.changes] == sorted(change.iou for change in proposal.changes)
    result = cells.apply(proposal)
    after = cells.store.read(PLANE)
    assert set(result.ids) <= {1, 4}
    for label in (2, 3):
        assert np.array_equal(after == label, before == label)
    assert cells.record(result.ids[0]).origin == "re-segmented"
    session.labels.undo()
    assert np.array_equal(cells.store.read(PLANE), before)


def test_prompts_of_an_image_that_is_gone_are_left_alone(session: Session, nuclei: Pair) -> None:
    _label_some(session, nuclei[1])
    session.remove_image("nuclei")
    proposal = session.proposals.resegment().result(SOON)
    assert (proposal.changes, proposal.left_alone) == ((), 4)
    assert len(session.labels["cells"].records()) == 4


@pytest.mark.parametrize("by", ["box", "mask"])
def test_labels_without_prompts_are_refined(small: Model, nuclei: Pair, by: Any) -> None:
    session = Session(small)
    session.add_image("nuclei", ArraySource(nuclei[0]))
    rough = np.zeros((256, 256), np.int32)
    found = find_objects(nuclei[1], smallest=100)[:3]
    for one in found:
        y0, x0, y1, x1 = one.box
        rough[y0:y1, x0:x1] = one.label
    cells = session.labels.add("cells", ArrayStore(rough))
    cells.approve([found[2].label])
    proposal = session.proposals.refine([PLANE], by=by).result(SOON)
    assert {change.label for change in proposal.changes} == {one.label for one in found[:2]}
    cells.apply(proposal)
    record = cells.record(found[0].label)
    assert record.origin == "re-segmented"
    assert [item.kind for stored in record.prompts[PLANE] for item in stored.row] == [by]
    assert session.close(SOON)

"""From prompts to labels, adapters and proposals, without a viewer."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from queue import Queue
from typing import Any

import numpy as np
import pytest
from error_codes import raises
from numpy.typing import NDArray

from napari_sam_lora import Adapter, Model, Prompts
from napari_sam_lora.errors import AdapterError, CheckpointError, InputError
from napari_sam_lora.labels import find_objects
from napari_sam_lora.masks import clean
from napari_sam_lora.regions import Region
from napari_sam_lora.session import (
    ArraySource,
    ArrayStore,
    CommitPolicy,
    MaskOptions,
    PlaneKey,
    Preview,
    Session,
)
from napari_sam_lora.session.plane_key import Box

from .helpers import SOON, dense, rectangle, scores_of

PLANE = PlaneKey.of("nuclei", 2)
Pair = tuple[NDArray[np.uint8], NDArray[np.uint8]]


def _preview(session: Session, plane: PlaneKey = PLANE, options: MaskOptions | None = None) -> Preview:
    return session.prompts.preview(plane, options).result(SOON)


def test_importing_the_session_imports_neither_torch_nor_qt() -> None:
    code = "import sys, napari_sam_lora.session; print([m for m in ('torch', 'qtpy', 'napari') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_preview_is_what_the_model_says(session: Session, small: Model, nuclei: Pair) -> None:
    session.prompts.add(PLANE, "box", [40, 60, 70, 95])
    session.prompts.add(PLANE, "point", [50, 80])
    preview = _preview(session)
    prompts = Prompts(boxes=[[40, 60, 70, 95]], points=[[[50, 80]]])
    expected = small.segment(small.encode(nuclei[0]), prompts)
    (mask,) = preview.masks
    candidates = [region.to_mask(preview.shape) for region in mask.candidates]
    assert np.array_equal(dense(preview), expected.masks)
    assert np.array_equal(candidates, expected.candidates[0])
    assert mask.score == pytest.approx(expected.scores[0])
    assert preview.objects == (0,)


def test_every_kind_of_prompt_gives_a_mask(session: Session, nuclei: Pair) -> None:
    first, second, third, fourth, fifth = find_objects(nuclei[1], smallest=100)[:5]
    y0, x0, y1, x1 = fourth.box
    session.prompts.batch = True
    session.prompts.add(PLANE, "point", first.centre)
    session.prompts.add(PLANE, "box", second.box)
    session.prompts.add(PLANE, "mask", nuclei[1] == third.label)
    session.prompts.add(PLANE, "lasso", [[y0, x0], [y0, x1], [y1, x1], [y1, x0]])
    session.prompts.add(PLANE, "scribble", [fifth.centre, (fifth.centre[0] + 1, fifth.centre[1] + 1)])
    preview = _preview(session)
    assert preview.objects == (0, 1, 2, 3, 4)
    for mask, found in zip(dense(preview), (first, second, third, fourth, fifth), strict=True):
        assert (mask & (nuclei[1] == found.label)).any()


def test_options_shape_the_masks(session: Session) -> None:
    session.prompts.add(PLANE, "point", [50, 80])
    preview = _preview(session)
    (plain,) = preview.masks
    candidates = [region.to_mask(preview.shape) for region in plain.candidates]
    best = int(np.argmax(plain.candidate_scores))
    assert np.array_equal(dense(preview)[0], candidates[best])
    for candidate in (0, 1, 2):
        chosen = _preview(session, options=MaskOptions(candidate=candidate))
        assert np.array_equal(dense(chosen)[0], candidates[candidate])
        assert chosen.masks[0].score == plain.candidate_scores[candidate]
    low, high = (dense(_preview(session, options=MaskOptions(candidate=2, threshold=t)))[0] for t in (-2.0, 2.0))
    assert (high <= candidates[2]).all()
    assert (candidates[2] <= low).all()
    assert high.sum() < low.sum()
    assert not _preview(session, options=MaskOptions(smallest=100_000)).masks[0].region.area


def test_the_contrast_limits_can_be_the_window(session: Session, nuclei: Pair) -> None:
    session.add_image("scaled", ArraySource(np.clip(nuclei[0], 10, 60).astype(np.float32) * 7))
    other = PLANE.on("scaled")
    for plane in (PLANE, other):
        session.prompts.add(plane, "box", [40, 60, 70, 95])
    one = _preview(session, options=MaskOptions(window=(10, 60)))
    two = _preview(session, other, MaskOptions(window=(70, 420)))
    assert np.array_equal(dense(one), dense(two))
    assert one.masks[0].score != _preview(session).masks[0].score


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"candidate": 3}, "candidate-out-of-range"),
        ({"threshold": np.nan}, "threshold-out-of-range"),
        ({"smallest": -1}, "smallest-out-of-range"),
        ({"window": (5.0, 5.0)}, "invalid-window"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], code: str) -> None:
    with raises(InputError, code):
        MaskOptions(**options)


def test_holes_are_filled() -> None:
    ring = rectangle((20, 20), 2, 2, 12, 12) & ~rectangle((20, 20), 5, 5, 8, 8)
    ring[18, 18] = True
    cleaned = clean(Region.of(ring), MaskOptions(fill_holes=True, smallest=5))
    assert np.array_equal(cleaned.to_mask((20, 20)), rectangle((20, 20), 2, 2, 12, 12))


def test_without_prompts_a_preview_is_empty_and_reads_nothing(session: Session) -> None:
    preview = _preview(session)
    assert (len(preview), preview.masks, preview.shape) == (0, (), (256, 256))
    assert session.prompts.commit(preview).code == "mask-empty"


def test_each_plane_is_read_once(session: Session, nuclei: Pair) -> None:
    reads: list[PlaneKey] = []

    class Counting(ArraySource):
        def read(self, plane: PlaneKey, box: Box | None = None) -> NDArray[Any]:
            reads.append(plane)
            return super().read(plane, box)

    stack = np.stack([nuclei[0], nuclei[0].T, nuclei[0][::-1]])
    session.add_image("stack", Counting(stack))
    planes = [PlaneKey.of("stack", 3, (z,)) for z in range(3)]
    session.prompts.embed([planes[1], planes[2], planes[2].neighbour(1)])
    for plane in planes[:2]:
        session.prompts.add(plane, "point", [50, 80])
        _preview(session, plane)
        session.prompts.add(plane, "point", [52, 82])
        _preview(session, plane)
    assert sorted(reads) in ([planes[0], planes[1]], planes)
    session.add_image("stack", Counting(stack + 1))
    _preview(session, planes[0])
    assert reads.count(planes[0]) == 2


def test_a_commit_clears_what_was_committed_and_nothing_else(session: Session) -> None:
    kept = session.prompts.add(PLANE, "box", [40, 60, 70, 95])
    preview = _preview(session)
    later = session.prompts.add(PLANE, "point", [200, 200])
    result = session.prompts.commit(preview)
    assert result.ids == (1,)
    left = [item.id for row in session.prompts.draft(PLANE).rows().values() for item in row]
    assert left == [later]
    assert kept != later


def test_prompts_stay_when_nothing_was_written(session: Session) -> None:
    session.labels["cells"].store.write(PLANE, np.ones((256, 256), np.bool_), 3)
    session.prompts.add(PLANE, "box", [40, 60, 70, 95])
    assert session.prompts.commit(_preview(session)).ids == ()
    assert len(session.prompts.draft(PLANE)) == 1


def test_prompts_of_an_object_are_brought_back_to_edit_it(session: Session) -> None:
    session.prompts.add(PLANE, "box", [40, 60, 70, 95])
    session.prompts.commit(_preview(session))
    assert len(session.prompts.draft(PLANE)) == 0
    assert session.prompts.bring_back("cells", 1) == PLANE
    session.prompts.add(PLANE, "point", [66, 80], positive=False)
    preview = _preview(session)
    session.prompts.commit(preview, CommitPolicy("replace", 1))
    assert np.array_equal(session.labels["cells"].store.read(PLANE) == 1, dense(preview)[0])
    ((stored,),) = session.labels["cells"].record(1).prompts.values()
    assert [item.kind for item in stored.row] == ["box", "point"]


def test_a_painted_object_has_nothing_to_bring_back(session: Session) -> None:
    session.labels["cells"].store.write(PLANE, rectangle((256, 256), 0, 0, 9, 9), 1)
    session.labels["cells"].note_painted(PLANE)
    with raises(InputError, "no-stored-prompts"):
        session.prompts.bring_back("cells", 1)


def test_undo_goes_over_all_label_images_in_order(session: Session) -> None:
    other = session.labels.add("other", ArrayStore(np.zeros((256, 256), np.int32)))
    assert session.labels.target == "other"
    for labels in ("cells", "other", "cells"):
        session.prompts.add(PLANE, "box", [40, 60, 70, 95])
        session.prompts.commit(_preview(session), CommitPolicy(overwrite=True), labels)
    cells = session.labels["cells"]
    session.labels.undo()
    assert [len(cells.records()), len(other.records())] == [1, 1]
    session.labels.undo()
    assert [len(cells.records()), len(other.records())] == [1, 0]
    session.labels.undo()
    assert session.labels.undo() is None
    session.labels.redo()
    assert [len(cells.records()), len(other.records())] == [1, 0]
    session.labels.redo()
    assert [len(cells.records()), len(other.records())] == [1, 1]


def test_adapters_are_activated_toggled_renamed_and_removed(session: Session, adapter: Adapter) -> None:
    said: list[str] = []
    session.models.active_changed.connect(said.append)
    session.prompts.add(PLANE, "box", [40, 60, 70, 95])
    base = _preview(session)
    with raises(AdapterError, "no-last-adapter"):
        session.models.toggle()
    session.models.adapters.add(adapter, "a")
    session.models.activate("a")
    adapted = _preview(session)
    assert adapted.adapter == "a"
    assert scores_of(adapted) != scores_of(base)
    assert session.models.toggle() == ""
    assert np.array_equal(dense(_preview(session)), dense(base))
    assert session.models.toggle() == "a"
    session.models.rename_adapter("a", "b")
    assert session.models.active == "b"
    session.models.remove_adapter("b")
    assert session.models.active == ""
    assert said == ["a", "", "a", "b", ""]


def test_an_adapter_of_another_base_is_refused_and_the_present_one_stays(session: Session, adapter: Adapter) -> None:
    session.models.adapters.add(adapter, "a")
    session.models.adapters.add(Adapter(adapter.tensors, replace(adapter.info, base_name="vit_b", base_hash="0")), "b")
    session.models.activate("a")
    with raises(AdapterError, "other-base-model", match="vit_b"):
        session.models.activate("b")
    assert session.models.active == "a"


def test_a_model_is_loaded_while_prompts_and_labels_stay(session: Session) -> None:
    session.prompts.add(PLANE, "box", [40, 60, 70, 95])
    model = session.models.load("sam_nano", "cpu", input_size=64).result(SOON)
    assert session.models.model is model
    assert model.predictor.input_size == 64
    assert session.prompts.commit(_preview(session)).ids == (1,)


def test_a_model_that_cannot_be_loaded_leaves_the_present_one(session: Session, small: Model) -> None:
    words: Queue[str] = Queue()
    session.models.failed.connect(words.put)
    with raises(CheckpointError, "model-not-found"):
        session.models.load("no_such_model").result(SOON)
    assert "no_such_model" in words.get(timeout=SOON)
    assert session.models.model is small


def test_without_a_model_labels_or_an_image_the_reason_is_given() -> None:
    session = Session()
    session.add_image("nuclei", ArraySource(np.zeros((9, 9))))
    with raises(InputError, "no-model"):
        session.prompts.preview(PLANE)
    with raises(InputError, "no-label-image"):
        session.proposals.resegment()
    with raises(InputError, "image-not-found"):
        session.prompts.draft(PLANE.on("other"))
    assert session.close(SOON)


def test_an_image_that_fails_to_be_read_is_reported_and_harms_nothing(session: Session) -> None:
    class Broken(ArraySource):
        def read(self, plane: PlaneKey, box: Box | None = None) -> NDArray[Any]:
            raise OSError("the disk is gone")

    words: Queue[str] = Queue()
    session.models.failed.connect(words.put)
    session.add_image("broken", Broken(np.zeros((30, 30))))
    session.prompts.add(PLANE.on("broken"), "point", [5, 5])
    with pytest.raises(OSError, match="disk"):
        _preview(session, PLANE.on("broken"))
    assert "disk is gone" in words.get(timeout=SOON)
    session.prompts.add(PLANE, "point", [50, 80])
    assert len(_preview(session)) == 1


def test_work_on_an_image_removed_meanwhile_harms_nothing(session: Session) -> None:
    session.prompts.add(PLANE, "point", [50, 80])
    future = session.prompts.preview(PLANE)
    session.remove_image("nuclei")
    session.labels.remove("cells")
    assert len(future.result(SOON)) == 1
    with raises(InputError, "no-label-image"):
        session.prompts.commit(future.result(SOON))


def test_two_sessions_are_independent(small: Model, tmp_path: Path) -> None:
    one, two = Session(small), Session(small, adapters_folder=tmp_path)
    one.add_image("nuclei", ArraySource(np.zeros((9, 9))))
    assert not two.images
    assert one.close(SOON)
    two.add_image("nuclei", ArraySource(np.eye(30)))
    two.prompts.add(PLANE, "point", [5, 5])
    assert len(_preview(two)) == 1
    assert two.close(SOON)
    assert two.close(SOON)

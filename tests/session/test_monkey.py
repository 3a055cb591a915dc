"""Three hundred random user actions: no exception, and no label lost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_sam_lora import Adapter, Model
from napari_sam_lora.errors import SamLoraError
from napari_sam_lora.session import ArraySource, ArrayStore, CommitPolicy, ObjectRecord, PlaneKey, Session

from .helpers import SOON

SHAPE = (3, 40, 48)
VIEWS = ((1, 2), (0, 2), (2, 1))


@dataclass
class State:
    """State that undoing the next edit must restore."""

    pixels: NDArray[np.int32]
    records: tuple[ObjectRecord, ...]


class Monkey:
    """Does random things and remembers the states that every undo and redo must restore."""

    def __init__(self, session: Session, adapter: Adapter, seed: int) -> None:
        self.session, self.rng = session, np.random.default_rng(seed)
        pixels = self.rng.integers(0, 255, SHAPE, np.uint8)
        session.add_image("stack", ArraySource(pixels))
        self.store = ArrayStore(np.zeros(SHAPE, np.int32), steps=1000)
        self.cells = session.labels.add("cells", self.store)
        session.models.adapters.add(adapter, "a")
        self.plane = PlaneKey.of("stack", 3, (0,))
        self.cells.watch(self.plane)
        self.states, self.undone = [self.look()], list[State]()

    def look(self) -> State:
        return State(self.store.data.copy(), self.cells.records())

    def check(self, state: State) -> None:
        assert np.array_equal(self.store.data, state.pixels)
        assert self.cells.records() == state.records

    def note(self) -> None:
        """Remember the state if an edit has happened; what was undone cannot be redone then."""
        number = self.cells.last_done
        if len(self.states) == 1 or number != self.number:
            state = self.look()
            if number != self.number:
                self.states.append(state)
                self.undone.clear()
        self.number = number

    number: int | None = None

    def some(self) -> list[int]:
        ids = [record.id for record in self.cells.records()]
        return [] if not ids else self.rng.choice(ids, min(len(ids), int(self.rng.integers(1, 4))), False).tolist()

    def prompt(self) -> None:
        height, width = self.plane.shape(SHAPE)
        y, x = self.rng.uniform(0, (height - 1, width - 1))
        kind = self.rng.choice(["point", "box", "scribble", "lasso", "negative", "outside"])
        if kind in ("point", "negative"):
            self.session.prompts.add(self.plane, "point", [y, x], positive=kind == "point")
        elif kind == "outside":
            self.session.prompts.add(self.plane, "point", [-50, x])
        elif kind == "box":
            self.session.prompts.add(self.plane, "box", [y, x, y + 9, x + 9])
        else:
            self.session.prompts.add(self.plane, kind, [[y, x], [y, x + 8], [y + 8, x + 4]])

    def move(self) -> None:
        items = [item.id for row in self.session.prompts.draft(self.plane).rows().values() for item in row]
        item = int(self.rng.choice([*items, 999]))
        act = self.rng.choice(["move", "flip", "remove"])
        if act == "move":
            self.session.prompts.move(self.plane, item, [1, 2])
        elif act == "flip":
            self.session.prompts.flip(self.plane, item)
        else:
            self.session.prompts.remove(self.plane, item)

    def commit(self) -> None:
        before = self.store.data.copy()
        target = self.rng.choice(["new", "new", "part", "replace"])
        ids = self.some()
        policy = CommitPolicy(target, ids[0] if ids else 0)
        result = self.session.prompts.commit(self.session.prompts.preview(self.plane).result(SOON), policy)
        changed = before != self.store.data
        assert changed.sum() == result.pixels
        own = policy.label if target == "replace" else 0
        assert np.isin(before[changed], [0, own]).all()

    def paint(self) -> None:
        height, width = self.plane.shape(SHAPE)
        mask = np.zeros((height, width), np.bool_)
        y, x = self.rng.integers(0, (height, width))
        mask[y : y + 5, x : x + 5] = True
        self.store.write(self.plane, mask, int(self.rng.choice([0, *self.some(), self.cells.next_id()])))
        self.cells.note_painted(self.plane)

    def show(self) -> None:
        axes = VIEWS[int(self.rng.integers(len(VIEWS)))]
        (other,) = {0, 1, 2} - {*axes}
        self.plane = PlaneKey.of("stack", 3, (int(self.rng.integers(SHAPE[other])),), axes)
        self.cells.watch(self.plane)
        self.session.prompts.embed([self.plane, self.plane.neighbour(1)])

    def undo(self) -> None:
        if self.session.labels.undo() is None:
            assert len(self.states) == 1
        else:
            self.undone.append(self.states.pop())
        self.check(self.states[-1])
        self.number = self.cells.last_done

    def redo(self) -> None:
        if self.session.labels.redo() is None:
            assert not self.undone
        else:
            self.states.append(self.undone.pop())
        self.check(self.states[-1])
        self.number = self.cells.last_done

    def undo_in_the_store(self) -> None:
        if self.store.undo():
            self.cells.note_painted(self.plane)
            while True:  # edits of metadata go with the edit of pixels below them
                self.undone.append(self.states.pop())
                if not np.array_equal(self.undone[-1].pixels, self.states[-1].pixels):
                    break
            self.check(self.states[-1])
            self.number = self.cells.last_done

    def replay(self) -> None:
        proposal = self.session.proposals.resegment().result(SOON)
        ids = {record.id for record in self.cells.records()}
        fixed = {one.id for one in self.cells.records() if one.origin == "painted" or one.approved}
        before = self.store.data.copy()
        self.cells.apply(proposal, [n for n in range(len(proposal.changes)) if self.rng.random() < 0.7])
        assert {record.id for record in self.cells.records()} == ids
        for label in fixed:
            assert np.array_equal(self.store.data == label, before == label)

    def switch(self) -> None:
        if self.rng.random() < 0.5:
            self.session.models.activate("a")
        else:
            self.session.models.toggle()

    def delete_image(self) -> None:
        source = self.session.images["stack"]
        self.session.remove_image("stack")
        self.session.add_image("stack", source)

    def edits(self) -> list[Callable[[], object]]:
        return [
            self.prompt, self.prompt, self.prompt, self.move, self.commit, self.commit, self.commit, self.paint,
            self.show, self.undo, self.undo, self.redo, self.undo_in_the_store, self.replay, self.switch,
            self.delete_image,
            lambda: self.cells.delete(self.some()),
            lambda: self.cells.merge(self.some()),
            lambda: self.cells.split((self.some() or [0])[0]),
            lambda: self.cells.approve(self.some(), bool(self.rng.random() < 0.5)),
            lambda: self.cells.mark_complete(self.plane, bool(self.rng.random() < 0.5)),
            lambda: self.session.prompts.bring_back("cells", (self.some() or [0])[0]),
        ]  # fmt: skip


@pytest.mark.parametrize("seed", [0, 1])
def test_three_hundred_operations(small: Model, adapter: Adapter, seed: int) -> None:
    session = Session(small)
    monkey = Monkey(session, adapter, seed)
    edits, done = monkey.edits(), 0
    failures: list[str] = []
    session.models.failed.connect(failures.append)
    for _ in range(300):
        edit = edits[int(monkey.rng.integers(len(edits)))]
        try:
            edit()
            done += 1
        except SamLoraError:  # refused with a reason
            monkey.check(monkey.states[-1])
        monkey.note()
    assert done > 200
    assert not failures
    while session.labels.undo():
        monkey.states.pop()
        monkey.check(monkey.states[-1])
    assert not monkey.store.data.any()
    assert session.close(SOON)

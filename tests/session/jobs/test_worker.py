"""The worker thread of a session."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future

import pytest
import torch

from napari_sam_lora.errors import InputError
from napari_sam_lora.session import CancelToken, JobCancelledError, Priority, TorchThread
from napari_sam_lora.session.jobs.openmp import release_pools
from napari_sam_lora.session.jobs.user_messages import OUT_OF_MEMORY, user_message

SOON = 10.0


class Gate:
    """A job that sets `begun` when it starts and ends when `go` is set."""

    def __init__(self) -> None:
        self.begun, self.go = threading.Event(), threading.Event()

    def __call__(self, token: CancelToken) -> str:
        self.begun.set()
        assert self.go.wait(SOON)
        token.check()
        return "done"


@pytest.fixture
def thread() -> Iterator[TorchThread]:
    made = TorchThread()
    yield made
    assert made.close(SOON)


def _double(_: CancelToken, number: int) -> int:
    return 2 * number


def test_a_job_runs_in_one_thread_that_is_not_the_callers(thread: TorchThread) -> None:
    waiting = [thread.submit(i, lambda _: threading.current_thread()) for i in range(3)]
    threads = [future.result(SOON) for future in waiting]
    assert len(set(threads)) == 1
    assert threads[0] is not threading.current_thread()
    assert thread.submit("k", _double, 4).result(SOON) == 8


def test_an_idle_thread_that_cannot_end_its_pool_ends_and_the_next_job_gets_a_new_one(
    thread: TorchThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_sam_lora.session.jobs.worker.IDLE_SECONDS", 0.01)
    monkeypatch.setattr("napari_sam_lora.session.jobs.worker.release_pools", lambda: False)
    busy: list[bool] = []
    thread.busy_changed.connect(busy.append)
    first = thread.submit("a", lambda _: threading.current_thread()).result(SOON)
    first.join(SOON)
    assert not first.is_alive()
    assert not thread.is_busy
    second = thread.submit("b", lambda _: threading.current_thread()).result(SOON)
    assert second is not first
    second.join(SOON)
    assert busy == [True, False, True, False]


# Counts threads in /proc, and only libgomp has a pool for each thread. Where there is none the thread ends, which the
# test above checks on every system.
@pytest.mark.skipif(
    not sys.platform.startswith("linux"),
    reason="threads are counted in /proc, and only libgomp has a pool for each",
)
def test_an_idle_thread_ends_its_pool_and_lives_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_sam_lora.session.jobs.worker.IDLE_SECONDS", 0.01)
    pools: list[set[str]] = []
    left: list[set[str]] = []
    released = threading.Event()

    def release() -> bool:
        done = release_pools()
        left.append(pools[-1] & _system_threads())
        released.set()
        return done

    def compute(_: CancelToken) -> tuple[threading.Thread, int]:
        before = _system_threads()
        torch.ones(1 << 20).sin_()
        pools.append(_system_threads() - before)
        return threading.current_thread(), torch.get_num_threads()

    monkeypatch.setattr("napari_sam_lora.session.jobs.worker.release_pools", release)
    made = TorchThread(threads=3)
    first, _ = made.submit("a", compute).result(SOON)
    assert released.wait(SOON)
    assert made.submit("b", compute).result(SOON) == (first, 3)
    assert made.close(SOON)
    assert len(pools[0]) >= 2
    assert len(pools[1]) >= 2
    assert left[0] == set()


def _system_threads() -> set[str]:
    return set(os.listdir("/proc/self/task"))


@pytest.mark.parametrize("stays", [True, False])
def test_no_job_is_lost_where_threads_rest_or_end(
    thread: TorchThread, monkeypatch: pytest.MonkeyPatch, stays: bool
) -> None:
    monkeypatch.setattr("napari_sam_lora.session.jobs.worker.IDLE_SECONDS", 0.0)
    monkeypatch.setattr("napari_sam_lora.session.jobs.worker.release_pools", lambda: stays)
    waiting = []
    for number in range(300):
        waiting.append(thread.submit(number, _double, number))
        if number % 3:
            waiting[-1].result(SOON)
    assert [future.result(SOON) for future in waiting] == [2 * number for number in range(300)]


def test_the_thread_has_a_large_stack_and_later_threads_keep_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    real = threading.stack_size

    def record(size: int = -1) -> int:
        if size < 0:
            return real()
        asked.append(size)
        return real(size)

    monkeypatch.setattr(threading, "stack_size", record)
    before = real()
    made = TorchThread()
    made.submit("k", _double, 1).result(SOON)
    assert asked[0] >= 8 * 2**20
    assert real() == before
    assert made.close(SOON)


def test_a_listener_that_fails_does_not_end_the_thread(thread: TorchThread) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("listener")

    thread.busy_changed.connect(fail)
    thread.progressed.connect(fail)
    thread.submit("k", lambda token: token.progress(1, 2)).result(SOON)
    assert thread.submit("k", _double, 1).result(SOON) == 2


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (InputError("Draw a box."), "Draw a box."),
        (MemoryError(), OUT_OF_MEMORY),
        (
            OSError(28, "No space left on device", "/a/b.tif"),
            "/a/b.tif: No space left on device.",
        ),
        (RuntimeError("CUDA out of memory. Tried to"), OUT_OF_MEMORY),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 5 bytes."), OUT_OF_MEMORY),
        (KeyError("x"), "KeyError"),
    ],
)
def test_a_message_names_what_failed(error: Exception, expected: str) -> None:
    assert expected in user_message(error)


def test_a_newer_job_replaces_the_waiting_one_of_its_key_only(thread: TorchThread) -> None:
    gate = Gate()
    first = thread.submit("first", gate)
    assert gate.begun.wait(SOON)
    old, other = thread.submit("preview", _double, 1), thread.submit("other", _double, 2)
    new = thread.submit("preview", _double, 3)
    assert old.cancelled()
    gate.go.set()
    assert (first.result(SOON), other.result(SOON), new.result(SOON)) == ("done", 4, 6)
    with pytest.raises(CancelledError):
        old.result(SOON)


def test_a_newer_job_interrupts_the_running_one_of_its_key(thread: TorchThread) -> None:
    gate = Gate()
    old = thread.submit("everything", gate)
    assert gate.begun.wait(SOON)
    new = thread.submit("everything", _double, 1)
    gate.go.set()
    with pytest.raises(JobCancelledError):
        old.result(SOON)
    assert new.result(SOON) == 2


def test_prompts_go_before_other_work_and_embeddings_after_it(thread: TorchThread) -> None:
    gate, order = Gate(), []
    thread.submit("first", gate)
    assert gate.begun.wait(SOON)
    futures: list[Future[None]] = []
    for name, priority in (("b", Priority.BACKGROUND), ("n", Priority.NORMAL), ("p", Priority.PROMPT)):
        for number in range(2):
            key = f"{name}{number}"
            futures.append(thread.submit_with(priority, key, lambda _, key: order.append(key), key))
    gate.go.set()
    for future in futures:
        future.result(SOON)
    assert order == ["p0", "p1", "n0", "n1", "b0", "b1"]


def test_an_error_reaches_the_caller_and_the_thread_goes_on(thread: TorchThread) -> None:
    def fail(_: CancelToken) -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        thread.submit("k", fail).result(SOON)
    assert thread.submit("k", _double, 1).result(SOON) == 2


def test_progress_is_reported_and_cancelling_ends_the_job(thread: TorchThread) -> None:
    seen: list[tuple[object, int, int]] = []
    thread.progressed.connect(lambda *args: seen.append(args))

    def work(token: CancelToken) -> None:
        for done in range(100):
            token.progress(done, 100)
            if done == 2:
                thread.cancel("work")

    with pytest.raises(JobCancelledError):
        thread.submit("work", work).result(SOON)
    assert seen == [("work", 0, 100), ("work", 1, 100), ("work", 2, 100)]


def test_busy_is_emitted_once_at_the_beginning_and_once_at_the_end(thread: TorchThread) -> None:
    said: list[bool] = []
    ended = threading.Event()

    def note(busy: bool) -> None:
        said.append(busy)
        if not busy:
            ended.set()

    thread.busy_changed.connect(note)
    gate = Gate()
    thread.submit("a", gate)
    assert gate.begun.wait(SOON)
    assert thread.is_busy
    thread.submit("b", _double, 1)
    gate.go.set()
    assert ended.wait(SOON)
    assert said == [True, False]
    assert not thread.is_busy


def test_closing_waits_for_the_running_job_and_cancels_the_rest() -> None:
    thread, gate = TorchThread(), Gate()
    running = thread.submit("a", gate)
    assert gate.begun.wait(SOON)
    waiting = thread.submit("b", _double, 1)
    assert not thread.close(0.01)
    assert waiting.cancelled()
    gate.go.set()
    assert thread.close(SOON)
    assert thread.close(SOON)
    with pytest.raises(JobCancelledError):
        running.result(SOON)
    with pytest.raises(RuntimeError, match="closed"):
        thread.submit("c", _double, 1)


def test_two_sessions_have_two_threads() -> None:
    one, two, gate = TorchThread(), TorchThread(), Gate()
    held = one.submit("k", gate)
    assert gate.begun.wait(SOON)
    assert two.submit("k", _double, 1).result(SOON) == 2
    gate.go.set()
    assert held.result(SOON) == "done"
    assert one.close(SOON)
    assert two.close(SOON)


def test_a_thread_that_never_worked_closes_at_once() -> None:
    assert TorchThread().close(0)

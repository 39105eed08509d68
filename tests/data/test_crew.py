"""Worker processes: nothing is lost, nothing is waited for without end, and nobody outlives the run."""

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import subprocess
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch

import mcld.data.crew as module
from mcld.data import Batch, FileSplit, TrainLoader, load_data, worker
from mcld.data.crew import Crew, crew
from mcld.engine.stop import StopRequest
from mcld.errors import RunError, explain

GB = 10**9


@pytest.fixture
def split(photos: Path) -> FileSplit:
    train = load_data("folder", path=photos, image_size=24).train
    assert isinstance(train, FileSplit)
    return train


def rooms(
    monkeypatch: pytest.MonkeyPatch, *, memory: int = 64 * GB, shared: int | None = 32 * GB, files: int = 1024
) -> None:
    monkeypatch.setattr(module, "free_memory", lambda: memory)
    monkeypatch.setattr(module, "shared_memory", lambda: shared)
    monkeypatch.setattr(module, "_open_files", lambda: files)


def same(a: list[Batch], b: list[Batch]) -> bool:
    return len(a) == len(b) and all(
        torch.equal(x, y) for one, two in zip(a, b, strict=True) for x, y in zip(one[:4], two[:4], strict=True)
    )


def processes() -> set[int]:
    return {child.pid for child in multiprocessing.active_children() if child.pid is not None}


def test_as_many_workers_as_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = 64 * 3 * 224 * 224
    rooms(monkeypatch)
    assert crew(4, batch) == Crew(4, 2, True)
    rooms(monkeypatch, shared=None)
    assert crew(4, batch) == Crew(4, 2, True)
    rooms(monkeypatch, files=200)
    assert crew(4, batch) == Crew(4, 2, False)
    rooms(monkeypatch, shared=2**26)
    assert crew(4, batch) == Crew(
        *(4, 2, False),
        (
            "workers send images by pipe: 10 batches of 9.6 MB are on their way, and /dev/shm has 67.1 MB left "
            "(containers: --shm-size)",
        ),
    )
    rooms(monkeypatch, memory=GB)
    found = crew(8, 10**8)
    assert (found.workers, found.ahead, found.shared) == (3, 1, True)
    assert found.notes == ("3 of 8 workers read images: a batch has 100.0 MB, and 1.0 GB of memory are free",)
    assert crew(8, 10**12).workers == 1


@pytest.mark.parametrize("views", [1, 2])
def test_batches_by_pipe_are_the_same(split: FileSplit, monkeypatch: pytest.MonkeyPatch, views: int) -> None:
    alone = list(TrainLoader(split, 5, seed=1, workers=0, views=views).epoch(0))
    shared = TrainLoader(split, 5, seed=1, workers=2, views=views)
    assert shared.notes == ()
    assert same(list(shared.epoch(0)), alone)
    rooms(monkeypatch, shared=0)
    no_shared_memory(monkeypatch)
    piped = TrainLoader(split, 5, seed=1, workers=2, views=views)
    assert "workers send images by pipe" in piped.notes[0]
    assert same(list(piped.epoch(0)), alone)


def test_a_batch_without_room_is_not_lost(split: FileSplit, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = list(TrainLoader(split, 5, seed=1, workers=0).epoch(0))
    no_shared_memory(monkeypatch)
    assert same(list(TrainLoader(split, 5, seed=1, workers=2).epoch(0)), alone)


def no_shared_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1>: No space left on device (28)")

    monkeypatch.setattr(torch.Tensor, "share_memory_", full)
    monkeypatch.setattr(torch.UntypedStorage, "_share_fd_cpu_", full)


def slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    images = FileSplit.images

    def wait(self: FileSplit, index: torch.Tensor, view: torch.Tensor) -> torch.Tensor:
        time.sleep(0.3)
        return images(self, index, view)

    monkeypatch.setattr(FileSplit, "images", wait)


def test_a_worker_that_dies_is_one_line(split: FileSplit, monkeypatch: pytest.MonkeyPatch) -> None:
    slowly(monkeypatch)
    before, epoch = processes(), TrainLoader(split, 2, seed=1, workers=2).epoch(0)
    next(epoch)
    started = time.monotonic()
    victim = (processes() - before).pop()

    def go_on() -> None:
        os.kill(victim, signal.SIGKILL)
        list(epoch)

    with pytest.raises((RunError, RuntimeError)) as error:  # torch tells of it wherever the program is by then
        go_on()
    message, status, known = explain(error.value)
    assert (status, known) == (1, True)
    assert "a process that reads images died" in message
    assert "try fewer data.workers (0 reads without them)" in message
    assert "\n" not in message
    assert time.monotonic() - started < 20


def test_signals_to_the_whole_group_are_left_to_the_parent(split: FileSplit, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = list(TrainLoader(split, 4, seed=1, workers=0).epoch(0))
    slowly(monkeypatch)
    before, loader = processes(), TrainLoader(split, 4, seed=1, workers=2)
    epoch = loader.epoch(0)
    found = [next(epoch)]
    for pid in map(str, processes() - before):
        subprocess.run(["kill", "-TERM", pid], check=True)
        subprocess.run(["kill", "-INT", pid], check=True)
    assert same(found + list(epoch), alone)
    assert signal.SIGTERM not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
    del epoch, loader
    assert not processes() - before  # what the parent says counts


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="nothing can be stopped here")
def test_a_stopped_worker_is_not_waited_for_once_the_run_is_to_end(split: FileSplit) -> None:
    alone = list(TrainLoader(split, 4, seed=1, workers=0).epoch(0))
    before, loader = processes(), TrainLoader(split, 4, seed=1, workers=2)
    epoch = loader.epoch(0)
    found = [next(epoch)]
    workers = processes() - before
    for pid in workers:
        os.kill(pid, signal.SIGSTOP)
    with StopRequest() as stop:
        threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM)).start()
        assert same(found + list(epoch), alone)
    assert stop.signal == signal.SIGTERM
    for pid in workers:
        os.kill(pid, signal.SIGSTOP)
    started = time.monotonic()
    del epoch, loader
    assert not processes() - before
    assert time.monotonic() - started < 5  # torch would wait so long for each, and Python at its end for ever


def test_a_worker_that_dies_as_it_hands_over_a_batch_is_one_line(
    split: FileSplit, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise EOFError

    monkeypatch.setattr(multiprocessing.connection, "answer_challenge", broken)
    with pytest.raises(RunError, match=r"^a process that reads images died .*try fewer data.workers"):
        list(TrainLoader(split, 4, seed=1, workers=2).epoch(0))


def _killed(split: FileSplit, tell: Connection) -> None:
    epoch = TrainLoader(split, 4, seed=1, workers=2).epoch(0)
    next(epoch)
    tell.send(sorted(processes()))
    os.kill(os.getpid(), signal.SIGKILL)


def _lives(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    return False


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks /proc whether a process lives")
def test_workers_go_when_their_parent_is_killed(split: FileSplit) -> None:
    ours, theirs = multiprocessing.Pipe()
    context = multiprocessing.get_context("fork")
    run = context.Process(target=_killed, args=(split, theirs))
    run.start()
    assert ours.poll(60)
    workers = ours.recv()
    run.join(10)
    assert (len(workers), run.exitcode) == (2, -signal.SIGKILL)
    deadline = time.monotonic() + 3
    while any(map(_lives, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(_lives, workers))


def _killed_while_a_batch_comes(split: FileSplit) -> None:
    answer, parent = multiprocessing.connection.answer_challenge, os.getpid()

    def die(*args: Any) -> None:
        answer(*args)  # by now the worker waits to hear what is wanted
        os.kill(parent, signal.SIGKILL)

    loader = TrainLoader(split, 4, seed=1, workers=2)
    with mock.patch.object(multiprocessing.connection, "answer_challenge", die):
        list(loader.epoch(0))


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="only there are they forked")
def test_a_worker_that_hands_over_a_batch_as_its_parent_is_killed_says_nothing(
    split: FileSplit, capfd: pytest.CaptureFixture[str]
) -> None:
    run = multiprocessing.get_context("fork").Process(target=_killed_while_a_batch_comes, args=(split,))
    run.start()
    run.join(60)
    assert run.exitcode == -signal.SIGKILL
    time.sleep(0.6)  # twice what a worker takes to see it
    assert capfd.readouterr().err == ""


def test_what_else_goes_wrong_in_a_worker_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    worker._Orphaned(os.getppid())(KeyError, KeyError("x"), None)
    assert "KeyError: 'x'" in capsys.readouterr().err

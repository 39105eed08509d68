import contextlib
import errno
import itertools
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.killing import killed_at

from mcld.errors import InputError
from mcld.files import atomic_write_text, holder
from mcld.runs import RunDirectory, owned
from mcld.runs.environment import describe_environment


def make(path: Path, *, force: bool = False) -> RunDirectory:
    with RunDirectory.create(path, force=force) as run:
        for file in (run.environment, run.model, run.config):
            file.write_text("{}")
    return RunDirectory(path)


def content(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir() if entry.name != ".lock")


def test_an_existing_run_is_never_replaced_without_force(tmp_path: Path) -> None:
    run = make(tmp_path / "run")
    (run.path / "summary.json").write_text("{}")
    with pytest.raises(InputError, match="exists already; go on with it: mcld resume"):
        make(run.path)
    assert run.summary.exists()
    make(run.path, force=True)
    assert content(run.path) == ["config.yaml", "environment.json", "model.json"]


def test_force_does_not_delete_what_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "me.jpg").write_text("")
    with pytest.raises(InputError, match="holds other files, not a run"):
        make(tmp_path / "photos", force=True)
    with pytest.raises(InputError, match="is a file"):
        make(tmp_path / "photos" / "me.jpg", force=True)
    assert (tmp_path / "photos" / "me.jpg").exists()


@pytest.mark.parametrize("names", [["config.yaml"], ["checkpoints"], ["config.yaml", "src"], ["best.safetensors"]])
def test_one_name_in_common_with_a_run_does_not_make_a_run(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine").write_text("")
    with pytest.raises(InputError, match="holds other files, not a run"):
        make(tmp_path, force=True)
    assert all((tmp_path / name / "mine").exists() for name in names)


def test_a_run_with_strange_files_in_it_is_not_replaced(tmp_path: Path) -> None:
    run = make(tmp_path / "run")
    (run.path / "thesis").mkdir()
    with pytest.raises(InputError, match=r"holds more than a run \(thesis\); move that away"):
        make(run.path, force=True)
    assert run.config.exists()


def test_a_start_that_fails_gives_the_old_run_back(tmp_path: Path) -> None:
    run = make(tmp_path / "run")
    run.checkpoints.mkdir()
    (run.checkpoints / "a").write_text("old")
    for path in (run.path, tmp_path / "new"):
        with contextlib.suppress(ZeroDivisionError), RunDirectory.create(path, force=True) as again:
            again.environment.write_text("new")
            raise ZeroDivisionError
    assert content(run.path) == ["checkpoints", "config.yaml", "environment.json", "model.json"]
    assert run.environment.read_text() == "{}"
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("old", [False, True])
def test_killed_at_each_file_operation_the_old_run_or_the_new_one_is_whole(tmp_path: Path, old: bool) -> None:
    """Nothing stays that no command takes on."""
    seen = set()
    for operation in itertools.count(1):
        path = tmp_path / f"run{operation}"
        if old:
            run = make(path)
            run.summary.write_text("old")
            run.checkpoints.mkdir()
            (run.checkpoints / "a").write_text("old")
        killed = killed_at(operation, lambda path=path: create_again(path))  # type: ignore[misc]
        if RunDirectory.is_run(path):
            run = RunDirectory.open(path)
            new = run.environment.read_text() == "new"
            names = ["config.yaml", "environment.json", "model.json"]
            assert content(path) == names if new else [".new", "checkpoints", *names, "summary.json"]
            assert new or (old and (run.checkpoints / "a").read_text() == "old")
            with run.lock():
                assert ".new" not in content(path)
            state = "new" if new else "old"
        else:
            assert not old
            create_again(path, force=False)  # as if nothing had been there
            state = "none"
        seen.add(state)
        create_again(path)
        assert content(path) == ["config.yaml", "environment.json", "model.json"]
        if not killed:
            break
    assert operation > 10
    assert seen == {"old" if old else "none", "new"}


def create_again(path: Path, *, force: bool = True) -> None:
    with RunDirectory.create(path, force=force) as run:
        for file in (run.environment, run.model, run.config):
            atomic_write_text(file, "new")


@pytest.mark.parametrize(
    "name", ["log.txt", "metrics.csv", ".lock", "checkpoints", "tensorboard", ".ready", "model.json"]
)
def test_no_link_leads_out_of_a_run_directory(tmp_path: Path, name: str) -> None:
    run = make(tmp_path / "run")
    (tmp_path / "home").mkdir()
    precious = tmp_path / "home" / "precious"
    precious.write_text("{}")
    (run.path / name).unlink(missing_ok=True)
    (run.path / name).symlink_to(precious.parent if "." not in name[1:] and name != ".lock" else precious)
    for action in (lambda: RunDirectory.open(run.path), run.lock().__enter__):
        with pytest.raises(InputError, match="is a symbolic link, and no link is followed out of a run's folder"):
            action()
    with contextlib.suppress(InputError):
        make(run.path, force=True)
    assert precious.read_text() == "{}"
    assert [entry.name for entry in precious.parent.iterdir()] == ["precious"]


def test_what_never_ends_is_not_waited_for(tmp_path: Path) -> None:
    run = make(tmp_path / "run")
    for name in ("log.txt", "summary.json", "checkpoints"):
        os.mkfifo(run.path / name)
        with pytest.raises(InputError, match=f"{name} is neither a file nor a folder"):
            RunDirectory.open(run.path)
        (run.path / name).unlink()
    os.mkfifo(run.summary)
    with pytest.raises(InputError, match=r"summary\.json cannot be read: it is a pipe"):
        run.read_json(run.summary)
    run.model.write_text("[" * 100_000)
    with pytest.raises(InputError, match=r"model\.json cannot be read"):
        run.read_json(run.model)


def test_a_child_process_does_not_hold_the_lock(tmp_path: Path) -> None:
    """Such as a worker that outlives a run that was killed."""
    run = make(tmp_path / "run")
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        with run.lock():
            worker = os.fork()
            if worker == 0:
                signal.pause()
            os.write(writer, worker.to_bytes(4, "little"))
            signal.pause()
    worker = int.from_bytes(os.read(reader, 4), "little")
    with pytest.raises(InputError, match=rf"in use by another process \(process {child} has its lock\)"), run.lock():
        pass
    os.kill(child, signal.SIGSTOP)
    while "stopped" not in holder(run.path / ".lock"):
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    try:
        os.kill(worker, 0)  # it is there
        with run.lock():
            pass
    finally:
        os.kill(worker, signal.SIGKILL)


def test_a_start_that_was_cut_short_can_be_replaced(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.environment.write_text("{}")
    (tmp_path / ".model.json.a8_x.tmp").write_text("{")
    run.checkpoints.mkdir()
    with pytest.raises(InputError, match=r"holds the beginning of a run; .* replace it with --force"):
        make(tmp_path)
    make(tmp_path, force=True)
    assert content(tmp_path) == ["config.yaml", "environment.json", "model.json"]


def test_a_link_to_a_run_stays_a_link(tmp_path: Path) -> None:
    run = make(tmp_path / "run")
    run.summary.write_text("{}")
    (tmp_path / "link").symlink_to(run.path)
    make(tmp_path / "link", force=True)
    assert (tmp_path / "link").is_symlink()
    assert content(run.path) == ["config.yaml", "environment.json", "model.json"]


def test_a_file_system_without_locks_is_told_as_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fcntl = pytest.importorskip("fcntl")

    def flock(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(InputError, match="cannot be locked against other processes"):
        make(tmp_path / "run")


def test_a_run_in_use_is_left_alone(tmp_path: Path) -> None:
    run = make(tmp_path / "run")
    with (
        run.lock(),
        pytest.raises(InputError, match="in use by another process"),
        RunDirectory.open(run.path).lock(),
    ):
        pass
    with run.lock():
        pass  # and the lock ended with its context


def test_a_run_that_came_into_being_meanwhile_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = owned.lock

    @contextlib.contextmanager
    def lock(folder: Path, what: str) -> Iterator[None]:
        with monkeypatch.context() as patch:
            patch.setattr(owned, "lock", waiting)
            make(folder, force=True)  # another process had the lock first
        with waiting(folder, what):
            yield

    monkeypatch.setattr(owned, "lock", lock)
    with pytest.raises(InputError, match="exists already"):
        make(tmp_path / "run")
    assert RunDirectory.is_run(tmp_path / "run")


def test_what_a_killed_process_had_half_written_goes(tmp_path: Path) -> None:
    run = make(tmp_path / "run")
    run.checkpoints.mkdir()
    half = [run.path / ".last.safetensors.abc_1234.tmp", run.checkpoints / ".epoch00001-step0-ff.ckpt.abc_1234.tmp"]
    others = [
        run.path / ".mine.tmp",
        run.path / ".notes.txt.abc_1234.tmp",
        run.checkpoints / "epoch00001-step0-ff.ckpt",
    ]
    for file in (*half, *others):
        file.write_text("x")
    with pytest.raises(InputError, match="in use"), RunDirectory(run.path).lock(), run.lock():
        pass
    assert [file.exists() for file in half] == [False, False]
    assert all(file.exists() for file in others)


def test_opening_what_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such run directory"):
        RunDirectory.open(tmp_path / "missing")
    with pytest.raises(InputError, match="is not a run directory"):
        RunDirectory.open(tmp_path)
    with pytest.raises(InputError, match="expected 'last' or 'best'"):
        RunDirectory(tmp_path).weights("first")


def test_metrics_come_back(tmp_path: Path) -> None:
    run = make(tmp_path / "run")
    rows = [{"epoch": 1.0, "loss": 0.5}, {"epoch": 2.0, "loss": 0.25, "extra": 1.0}]
    run.write_metrics(rows)
    assert run.read_metrics() == rows
    run.metrics.write_text("epoch,loss\n1,nonsense\n")
    with pytest.raises(InputError, match="cannot be read"):
        run.read_metrics()
    run.summary.write_text("{")
    with pytest.raises(InputError, match=r"summary\.json cannot be read"):
        run.read_json(run.summary)


def test_the_environment_names_what_matters() -> None:
    environment = describe_environment()
    assert environment["packages"]["torch"]
    assert environment["packages"]["mcld"]
    assert environment["cores"] >= 1
    assert environment["processor"]

"""``mcld teacher-logits``: what it stores is what a run looks for, and nothing that it is interrupted by spoils it."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mcld.teacher import LiveTeacher, LogitStore

Mcld = Callable[..., tuple[int, str, str]]
SMALL = ["student=resnet8", "student.options.width=4", "threads=1", "schedule.epochs=2"]


@pytest.fixture
def words(arrays: list[str], teacher: Path) -> list[str]:
    return [*arrays, f"teacher={teacher}", "data.padding=1", "threads=1"]


def flip(file: Path, at: int) -> None:
    content = bytearray(file.read_bytes())
    content[at] ^= 0x10
    file.write_bytes(content)


def count(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the batches that a teacher is run on from now on."""
    sizes: list[int] = []
    real = LiveTeacher.logits

    def logits(self: LiveTeacher, images: torch.Tensor) -> torch.Tensor:
        sizes.append(len(images))
        return real(self, images)

    monkeypatch.setattr(LiveTeacher, "logits", logits)
    return sizes


@pytest.mark.parametrize(
    "more", ["", "teacher.store=store", "teacher.views=2", "method=mlkd", "teacher.store_precision=32 precision=bf16"]
)
def test_a_run_after_it_asks_the_teacher_nothing(
    mcld: Mcld, words: list[str], more: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Whatever the settings; ``mlkd`` shows a second view of another kind, which is endless without a pool."""
    if "mlkd" in more:
        more += " teacher.views=3"
    monkeypatch.setenv("MCLD_CACHE", str(tmp_path / "cache"))
    sizes = count(monkeypatch)
    status, out, err = mcld("teacher-logits", *words, *more.split())
    assert status == 0, err
    views = {"teacher.views=2": 3, "method=mlkd teacher.views=3": 7}.get(more, 18)
    assert f"{views} views of each image" in out
    assert ("approximation" in out) == ("teacher.views" in more)
    assert "validation logits: 60 of 60 computed" in out
    assert f"training logits: {160 * views:,} of {160 * views:,} computed" in out
    assert sum(sizes) == 60 + 160 * views
    assert max(sizes) == 256
    sizes.clear()
    status, out, err = mcld("distill", *words, *SMALL, *more.split(), "run=run")
    assert status == 0, err
    assert "teacher's logits: 100.0% read from the store" in out
    status, out, err = mcld("teacher-logits", *words, *more.split())
    assert status == 0, err
    assert f"training logits: 0 of {160 * views:,} computed, the others were there" in out
    assert sizes == []


def test_the_student_is_the_same_as_with_the_live_teacher(mcld: Mcld, words: list[str], tmp_path: Path) -> None:
    given = ["teacher.store=store", "teacher.store_precision=32"]
    assert mcld("teacher-logits", *words, *given)[0] == 0
    assert mcld("distill", *words, *SMALL, "method=[mcld,kd]", *given, "run=stored")[0] == 0
    assert mcld("distill", *words, *SMALL, "method=[mcld,kd]", "teacher.store=off", "run=live")[0] == 0
    stored, live = (load_file(tmp_path / run / "last.safetensors") for run in ("stored", "live"))
    assert all(torch.equal(stored[key], live[key]) for key in stored)


def test_only_what_a_run_has_left_is_computed(mcld: Mcld, words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert mcld("distill", *words, *SMALL, "method=kd", "teacher.store=store", "run=run")[0] == 0
    sizes = count(monkeypatch)
    status, out, err = mcld("teacher-logits", *words, "teacher.store=store")
    assert status == 0, err
    assert "validation logits: 0 of 60 computed" in out
    assert 160 * 16 <= sum(sizes) < 160 * 17 + 20  # two epochs have shown two views of each image, some twice the same
    assert f"training logits: {sum(sizes):,} of 2,880 computed" in out


def test_check_reports_damage_and_the_next_fill_mends_it(
    mcld: Mcld, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["teacher-logits", *words, "teacher.store=store"]
    status, _, err = mcld(*words, "--check")
    assert (status, err.count("\n")) == (2, 1)
    assert "there is no store store/validation yet; the same command without --check fills it" in err
    assert not Path("store").exists()
    assert mcld(*words)[0] == 0
    status, out, _ = mcld(*words, "--check")
    assert status == 0
    assert "training logits in store/training: 2,880 intact, 0 not computed yet, 0 damaged\n" in out
    whole = Path("store/training/logits.bin").read_bytes()
    for row in (3, 700, 701):
        flip(Path("store/training/logits.bin"), row * 8 + 5)
    flip(Path("store/training/marks.bin"), 2000 * 4)
    flip(Path("store/validation/logits.bin"), 0)
    sizes = count(monkeypatch)
    status, out, _ = mcld(*words, "--check")
    assert status == 1
    assert "validation logits in store/validation: 59 intact, 0 not computed yet, 1 damaged; they will be" in out
    assert "training logits in store/training: 2,876 intact, 0 not computed yet, 4 damaged; they will be" in out
    assert sizes == []
    status, out, _ = mcld(*words, "--check")
    assert status == 0
    assert "2,876 intact, 4 not computed yet, 0 damaged\n" in out
    status, out, err = mcld(*words)
    assert status == 0, err
    assert sizes == [1, 4]
    assert Path("store/training/logits.bin").read_bytes() == whole
    assert mcld(*words, "--check")[0] == 0


def test_what_is_not_whole_is_computed_again(mcld: Mcld, words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as after a write that was cut short: without --check, too."""
    words = ["teacher-logits", *words, "teacher.store=store"]
    assert mcld(*words)[0] == 0
    whole = Path("store/training/logits.bin").read_bytes()
    flip(Path("store/training/marks.bin"), 2000 * 4)
    flip(Path("store/training/logits.bin"), 5)
    sizes = count(monkeypatch)
    status, out, err = mcld(*words)
    assert status == 0, err
    assert "training logits: 2 of 2,880 computed" in out
    assert sizes == [2]
    assert Path("store/training/logits.bin").read_bytes() == whole
    assert mcld(*words, "--check")[0] == 0


def test_a_run_tells_of_a_flipped_byte_and_computes_it_again(
    mcld: Mcld, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = ["teacher.store=store", "teacher.store_precision=32"]
    assert mcld("teacher-logits", *words, *given)[0] == 0
    run = ["distill", *words, *SMALL, "method=kd", *given]
    assert mcld(*run, "run=one")[0] == 0
    for row in range(2880):
        flip(Path("store/training/logits.bin"), row * 16 + 1)
    sizes = count(monkeypatch)
    status, out, err = mcld(*run, "run=two")
    assert status == 0, err
    assert "warning: 160 damaged logit vectors in store/training; they are computed again" in out
    assert 250 < sum(sizes) <= 320
    one, two = (load_file(tmp_path / name / "last.safetensors") for name in ("one", "two"))
    assert all(torch.equal(one[key], two[key]) for key in one)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["method=fitnet"], "teacher.store=auto: method=fitnet reads the teacher's feature maps, and a store holds"),
        (["method=plain"], "method=plain asks no teacher"),
        (["data.policy=trivial"], "teacher.store=auto: the views of data=arrays are endless; teacher.views=8 would"),
        (["teacher.store=off"], "teacher.store=off: there is no store then; expected auto or a folder"),
        (["teacher=resnet8"], "teacher=resnet8 is no run directory and has no weights; expected a run directory, or"),
        (["teacher.views=0"], "teacher.views=0; expected at least 1"),
        (["student=resnet8"], "student=resnet8: there is no such setting here; expected data=, data.KEY= or teacher=,"),
        (["schedule.epochs=3"], "schedule.epochs=3: there is no such setting here"),
        (["seed=1"], "seed=1: there is no such setting here"),
        (["runs/t"], "cannot read 'runs/t'; expected key=value, such as teacher=runs/t"),
        (["teacher.views=1,2"], "teacher.views=1,2: expected an integer, not '1,2'"),
    ],
)
@pytest.mark.parametrize("check", [[], ["--check"]])
def test_a_mistake_is_one_line_and_nothing_is_written(
    mcld: Mcld, words: list[str], tmp_path: Path, more: list[str], said: str, check: list[str]
) -> None:
    status, _, err = mcld("teacher-logits", *words, *more, *check)
    assert (status, err.count("\n")) == (2, 1)
    assert said in err
    assert not list(tmp_path.iterdir())


def test_without_a_teacher_or_with_one_that_knows_nothing(mcld: Mcld, arrays: list[str], teacher: Path) -> None:
    status, _, err = mcld("teacher-logits", *arrays)
    assert status == 2
    assert "teacher is not set; expected teacher=VALUE" in err
    status, _, err = mcld("teacher-logits", *arrays, f"teacher={teacher}", "teacher.mean=[5,5,5]", "threads=1")
    assert status == 2
    assert "is near chance on the validation data" in err


def test_a_disk_without_room_is_told_before_anything_is_computed(
    mcld: Mcld, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    usage, sizes = shutil.disk_usage("."), count(monkeypatch)
    size = 2880 * (4 * 2 + 4)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=size + 100))
    for more in ([], ["teacher.store=here"]):
        status, _, err = mcld("teacher-logits", *words, "teacher.mean=[0.4,0.5,0.5]", *more)
        assert (status, err.count("\n")) == (2, 1)
        assert "the training logits can take 34.6 kB more in " in err  # and the validation logits 1.2 kB beside them
        assert "and the disk has 34.7 kB left; expected a folder on another disk, fewer teacher.views" in err
    assert not Path("here").exists()
    assert sizes == []


def test_a_disk_that_fills_up_ends_it_in_one_line_and_it_goes_on_later(
    mcld: Mcld, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mcld.commands.teacher_logits.COMMIT_BYTES", 1000)
    real, left = os.pwrite, [8]

    def pwrite(descriptor: int, content: bytes, at: int) -> int:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(descriptor, content, at)

    monkeypatch.setattr(os, "pwrite", pwrite)
    words = ["teacher-logits", *words, "teacher.store=store"]
    status, _, err = mcld(*words)
    assert (status, err.count("\n")) == (1, 1)
    assert "cannot write to store/training: No space left on device; 768 of 2,880 training logits are stored" in err
    monkeypatch.setattr(os, "pwrite", real)
    status, out, err = mcld(*words)
    assert status == 0, err
    assert "training logits: 2,112 of 2,880 computed" in out
    assert mcld(*words, "--check")[0] == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_asked_to_stop_it_stores_what_it_has(
    mcld: Mcld, words: list[str], number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes, real = count(monkeypatch), LogitStore.add

    def add(self: LogitStore, rows: object, logits: torch.Tensor) -> None:
        real(self, rows, logits)  # type: ignore[arg-type]
        if len(sizes) == 4:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(LogitStore, "add", add)
    words = ["teacher-logits", *words, "teacher.store=store"]
    status, out, _ = mcld(*words)
    assert status == 128 + number
    assert "stopped: 768 of 2,880 training logits are stored; go on with the same command" in out
    status, out, err = mcld(*words)
    assert status == 0, err
    assert "training logits: 2,112 of 2,880 computed" in out


SLOWED = """
import sys, time
from mcld.cli.main import main
from mcld.teacher import LiveTeacher
import mcld.commands.teacher_logits as fill
fill.COMMIT_BYTES = 1
real = LiveTeacher.logits
LiveTeacher.logits = lambda self, images: (time.sleep(0.05), real(self, images))[1]
sys.exit(main(sys.argv[1:]))
"""


def test_killed_in_the_middle_and_beside_another(mcld: Mcld, words: list[str], tmp_path: Path) -> None:
    """Two at once on one store; one is killed, the other comes to its end."""
    words = ["teacher-logits", *words, f"teacher.store={tmp_path / 'store'}"]
    one, two = (
        subprocess.Popen([sys.executable, "-c", SLOWED, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for _ in range(2)
    )
    marks = tmp_path / "store" / "training" / "marks.bin"
    while not (marks.exists() and any(marks.read_bytes())) and one.poll() is None:
        time.sleep(0.001)
    one.send_signal(signal.SIGKILL)
    assert one.wait() == -signal.SIGKILL, one.communicate()
    said, _ = two.communicate(timeout=300)
    assert two.returncode == 0, said
    status, out, _ = mcld(*words, "--check")
    assert status == 0, out
    assert "2,880 intact, 0 not computed yet, 0 damaged" in out
    assert mcld(*words[:-1], "teacher.store=alone")[0] == 0
    for file in ("training/logits.bin", "training/marks.bin", "validation/logits.bin"):
        assert (tmp_path / "store" / file).read_bytes() == (tmp_path / "alone" / file).read_bytes()

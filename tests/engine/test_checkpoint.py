import hashlib
import io
import os
import pickle
import random
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mcld.engine.checkpoint import (
    list_checkpoints,
    load_checkpoint,
    random_state,
    restore_random_state,
    save_checkpoint,
)
from mcld.errors import InputError


def state_of(epoch: int, step: int = 0) -> dict[str, Any]:
    row = {"loss": 1.0, "val_top1": 0.5, "val_top5": 0.6, "images_per_second": 1.0}
    return {
        "epoch": epoch,
        "step": step,
        "seconds": 1.5,
        "history": [{"epoch": number + 1, **row} for number in range(epoch)],
        "best": {},
        "student": {"weights": torch.full((1000,), float(epoch))},
        "method": {},
        "optimizer": {},
        "precision": {},
        "ranks": [{"random": random_state(), "meter": {}}],
    }


def save(folder: Path, epoch: int, step: int = 0) -> Path:
    return save_checkpoint(folder, epoch, step, state_of(epoch, step))


def forge(folder: Path, epoch: int, data: bytes) -> Path:
    """A file whose name has the right digest."""
    path = folder / f"epoch{epoch:05d}-step0000000-{hashlib.sha256(data).hexdigest()[:16]}.ckpt"
    path.write_bytes(data)
    return path


def test_what_is_saved_comes_back_and_the_newest_two_are_kept(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path) == (None, None, [])
    for epoch in (1, 2, 12):
        path = save(tmp_path, epoch)
    state, found, damaged = load_checkpoint(tmp_path)
    assert state is not None
    assert (state["epoch"], found, damaged) == (12, path, [])
    assert torch.equal(state["student"]["weights"], torch.full((1000,), 12.0))
    assert len(list_checkpoints(tmp_path)) == 2


@pytest.mark.parametrize("harm", ["truncated", "flipped"])
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(tmp_path: Path, harm: str) -> None:
    save(tmp_path, 1)
    newest = save(tmp_path, 2)
    data = bytearray(newest.read_bytes())
    if harm == "flipped":
        data[len(data) // 2] ^= 1
    newest.write_bytes(data[: len(data) - 7] if harm == "truncated" else data)
    state, path, damaged = load_checkpoint(tmp_path)
    assert state is not None
    assert path is not None
    assert state["epoch"] == 1
    assert newest.name in damaged[0]
    path.write_bytes(b"")
    with pytest.raises(InputError, match="none is left to go on from: start the run again with --force"):
        load_checkpoint(tmp_path)


def test_a_file_that_a_crash_left_half_written_is_no_checkpoint(tmp_path: Path) -> None:
    save(tmp_path, 1)
    (tmp_path / ".epoch00002-step0000000-0123456789abcdef.ckpt.x.tmp").write_bytes(b"half")
    state, _, damaged = load_checkpoint(tmp_path)
    assert state is not None
    assert (state["epoch"], damaged) == (1, [])


def test_an_unwritable_folder_leaves_what_was_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot write .*missing.*No such file or directory"):
        save(tmp_path / "missing" / "checkpoints", 1)
    (tmp_path / "file").write_bytes(b"in the way")
    with pytest.raises(InputError, match=r"cannot write .*file: File exists"):
        save(tmp_path / "file", 1)


def test_random_states_survive_the_way_to_disk(tmp_path: Path) -> None:
    def draw() -> tuple[float, float, float]:
        return torch.rand(()).item(), random.random(), float(np.random.rand())

    torch.randn(3)
    random.gauss(0, 1)
    save(tmp_path, 0, 1)
    first = draw()
    state, _, _ = load_checkpoint(tmp_path)
    assert state is not None
    draw()
    restore_random_state(state["ranks"][0]["random"])
    assert draw() == first


def test_beyond_the_width_of_its_numbers_the_newest_stays(tmp_path: Path) -> None:
    """Names sort as text, numbers do not."""
    places = [(99_998, 0), (99_999, 9_999_999), (99_999, 10_000_000), (100_000, 0), (100_001, 0)]
    for epoch, step in places:
        state = {**state_of(0), "epoch": epoch, "step": step}
        path = save_checkpoint(tmp_path, epoch, step, state)
        assert path.exists()
        assert list_checkpoints(tmp_path)[0] == path
    assert [path.name[:24] for path in list_checkpoints(tmp_path)] == [
        "epoch100001-step0000000-",
        "epoch100000-step0000000-",
    ]


def test_a_forged_checkpoint_from_far_ahead_does_not_push_out_new_ones(tmp_path: Path) -> None:
    forge(tmp_path, 99_999, b"a")
    forge(tmp_path, 99_998, b"b")
    for epoch in (1, 2, 3):
        assert save(tmp_path, epoch).exists()
    assert [path.name[:10] for path in list_checkpoints(tmp_path)] == ["epoch00003", "epoch00002"]


class Runs:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch executed",)


def forgeries() -> dict[str, bytes]:
    def saved(content: Any) -> bytes:
        buffer = io.BytesIO()
        torch.save(content, buffer)
        return buffer.getvalue()

    good = state_of(2)
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(20_000_000))
    return {
        "a pickle": pickle.dumps(Runs()),
        "a pickle in an archive": saved(Runs()),
        "an empty file": b"",
        "a list": saved([1, 2]),
        "no history": saved({key: value for key, value in good.items() if key != "history"}),
        "no ranks": saved({**good, "ranks": [{}]}),
        "a text for a number": saved({**good, "epoch": "2"}),
        "epoch -1": saved({**good, "epoch": -1}),
        "another epoch": saved({**good, "epoch": 7}),
        "a text for a tensor": saved({**good, "student": {"weights": "x"}}),
        "rows of something else": saved({**good, "history": [1, 2]}),
        "no number": saved({**good, "history": [{**row, "loss": float("nan")} for row in good["history"]]}),
        "a negative time": saved({**good, "seconds": -1.0}),
        "a bomb": bomb.getvalue(),
    }


@pytest.mark.parametrize("kind", forgeries())
def test_a_forged_checkpoint_is_refused_and_the_one_before_is_used(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MCLD_MAX_FILE_GB", "0.01")
    save(tmp_path, 1)
    forged = forge(tmp_path, 2, forgeries()[kind])
    state, _, damaged = load_checkpoint(tmp_path)
    assert state is not None
    assert state["epoch"] == 1
    (line,) = damaged
    assert line.startswith(f"checkpoint {forged.name} ")
    assert "\n" not in line
    assert not (tmp_path / "executed").exists()


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    save(tmp_path, 1)
    os.mkfifo(tmp_path / "epoch00002-step0000000-0123456789abcdef.ckpt")
    (tmp_path / "epoch00003-step0000000-0123456789abcdef.ckpt").symlink_to("/etc/passwd")
    (tmp_path / "epoch00004-step0000000-0123456789abcdef.ckpt").mkdir()
    state, _, damaged = load_checkpoint(tmp_path)
    assert state is not None
    assert state["epoch"] == 1
    assert [line.partition(" cannot be read ")[2] for line in damaged] == [
        "(it is a folder)",
        "(it is a symbolic link; expected the file itself)",
        "(it is a pipe, no file)",
    ]

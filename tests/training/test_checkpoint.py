import random
from pathlib import Path

import numpy as np
import pytest
import torch

from mcld.errors import InputError
from mcld.training.checkpoint import (
    list_checkpoints,
    load_checkpoint,
    random_state,
    restore_random_state,
    save_checkpoint,
)


def save(folder: Path, epoch: int) -> Path:
    return save_checkpoint(folder, epoch, 0, {"epoch": epoch, "weights": torch.full((1000,), float(epoch))})


def test_what_is_saved_comes_back_and_the_newest_two_are_kept(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path) == (None, None, [])
    for epoch in (1, 2, 12):
        path = save(tmp_path, epoch)
    state, found, damaged = load_checkpoint(tmp_path)
    assert state is not None
    assert (state["epoch"], found, damaged) == (12, path, [])
    assert torch.equal(state["weights"], torch.full((1000,), 12.0))
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
    save_checkpoint(tmp_path, 0, 1, {"random": random_state()})
    first = draw()
    state, _, _ = load_checkpoint(tmp_path)
    assert state is not None
    draw()
    restore_random_state(state["random"])
    assert draw() == first

"""A run directory with a checkpoint that somebody else made goes on from the one before, or says why it cannot."""

import hashlib
import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.conftest import Mcld

from mcld.engine.checkpoint import list_checkpoints, read_checkpoint

State = dict[str, Any]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, arrays: list[str]) -> Path:
    from mcld.cli.main import main

    path = tmp_path_factory.mktemp("forged") / "run"
    words = ["train", *arrays, "model=resnet8", "model.options.width=4", "schedule.epochs=3", "threads=1"]
    with pytest.MonkeyPatch.context() as patch:  # with both checkpoints, as just before its end
        patch.setattr("mcld.commands.run.keep_newest", lambda _: None)
        assert main([*words, f"run={path}"]) == 0
    return path


def momentum(state: State) -> None:
    for kept in state["optimizer"]["state"].values():
        kept["momentum_buffer"] = torch.zeros(7)


FORGERIES: dict[str, Callable[[State], Any]] = {
    "weights of another network": lambda state: state.update(student={"conv.weight": torch.zeros(3)}),
    "best of another network": lambda state: state.update(best={"conv.weight": torch.zeros(3)}),
    "momentum of another shape": momentum,
    "no optimizer": lambda state: state.update(optimizer={}),
    "a text as momentum": lambda state: state["optimizer"]["param_groups"][0].update(momentum="0.9"),
    "no random state": lambda state: state["ranks"][0].update(random={}),
    "a random state of nothing": lambda state: state["ranks"][0]["random"].update(torch=torch.zeros(3)),
    "means without names": lambda state: state["ranks"][0]["meter"].update(names=[]),
    "of two devices": lambda state: state.update(ranks=state["ranks"] * 2),
    "of other settings": lambda state: state["settings"].update(seed=5),
    "a precision of something": lambda state: state.update(method={"x": torch.zeros(1)}),
}


def forge(run: Path, change: Callable[[State], Any]) -> Path:
    newest = list_checkpoints(run / "checkpoints")[0]
    state = read_checkpoint(newest)
    change(state)
    buffer = io.BytesIO()
    torch.save(state, buffer)
    digest = hashlib.sha256(buffer.getvalue()).hexdigest()[:16]
    newest.unlink()
    forged = newest.with_name(f"{newest.name.rpartition('-')[0]}-{digest}.ckpt")
    forged.write_bytes(buffer.getvalue())
    return forged


@pytest.mark.parametrize("kind", FORGERIES)
def test_a_forged_checkpoint_is_refused_and_the_one_before_is_used(
    mcld: Mcld, run: Path, tmp_path: Path, kind: str
) -> None:
    shutil.copytree(run, tmp_path / "run")
    forged = forge(tmp_path / "run", FORGERIES[kind])
    status, out, err = mcld("resume", "run")
    assert status == 0, err
    (line,) = [line for line in out.splitlines() if line.startswith("warning: ")]
    assert forged.name in line or "run run cannot go on" in line or "devices" in line
    assert line.endswith("; using the one before")
    assert "going on with epoch 3, step 1" in out
    ours, whole = (load_file(path / "last.safetensors") for path in (tmp_path / "run", run))
    assert all(torch.equal(ours[key], whole[key]) for key in whole)


def test_with_nothing_else_left_one_line_says_so(mcld: Mcld, run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    list_checkpoints(tmp_path / "run" / "checkpoints")[1].unlink()
    forged = forge(tmp_path / "run", lambda state: state.update(student={}))
    before = (tmp_path / "run" / "last.safetensors").read_bytes()
    status, _, err = mcld("resume", "run")
    assert (status, err.count("\n")) == (2, 1)
    assert f"checkpoint {forged.name} is none of this run's" in err
    assert "none is left to go on from: start the run again with --force" in err
    assert (tmp_path / "run" / "last.safetensors").read_bytes() == before


@pytest.mark.parametrize("command", ["resume", "evaluate", "export --format safetensors"])
@pytest.mark.parametrize("harm", ["bomb", "recursion", "pipe", "link"])
def test_a_run_directory_of_somebody_else_neither_hangs_nor_leads_elsewhere(
    mcld: Mcld, run: Path, tmp_path: Path, command: str, harm: str
) -> None:
    import os

    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run" / "summary.json").unlink()  # so that the settings are looked into
    config, weights = tmp_path / "run" / "config.yaml", tmp_path / "run" / "last.safetensors"
    if harm == "bomb":
        lines = [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9 if i else ['x'] * 9)}]\n" for i in range(12)]
        config.write_text("".join(lines) + config.read_text())
    elif harm == "recursion":
        config.write_text("a: &a [*a]\n" + config.read_text())
    else:
        file = config if harm == "pipe" else weights
        file.unlink()
        os.mkfifo(file) if harm == "pipe" else file.symlink_to(run / "last.safetensors")
    status, out, err = mcld(*command.split()[:1], "run", *command.split()[1:])
    assert (status, err.count("\n")) == (2, 1), out + err
    assert "run" in err

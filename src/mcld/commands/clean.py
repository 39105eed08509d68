"""Giving back the room of what a finished run no longer needs."""

import os
from collections.abc import Sequence
from pathlib import Path

from mcld.errors import InputError
from mcld.runs import RunDirectory


def clean(runs: Sequence[str | os.PathLike[str]], *, dry_run: bool = False) -> dict[str, int]:
    """Delete the checkpoints of finished runs; weights, summary, report and exports stay.

    Such a run can be evaluated, predicted with, taught from and exported as before; it cannot be resumed, for which
    there is no reason any more.

    Args:
        runs: run directories; all are looked at before anything is deleted.
        dry_run: delete nothing.

    Returns:
        For each run the bytes that were given back, or would be.

    Raises:
        InputError: for what is no run, one that is not finished, whose weights are missing, or that is in use.
    """
    opened = [RunDirectory.open(path) for path in runs]
    for run in opened:
        if not run.summary.is_file():
            raise InputError(
                f"run {run.path} is not finished, and goes on from its checkpoints: mcld resume {run.path}; to be rid "
                "of it, delete its folder"
            )
        for which in ("last", "best"):
            if not run.weights(which).is_file():
                raise InputError(f"run {run.path} has no {run.weights(which).name}; expected its weights beside it")
    freed: dict[str, int] = {}
    for run in opened:
        with run.lock():
            files = [file for file in _files(run.checkpoints) if file.suffix == ".ckpt"]
            freed[str(run.path)] = sum(file.stat().st_size for file in files)
            for file in files if not dry_run else ():
                file.unlink()
    return freed


def _files(folder: Path) -> list[Path]:
    return [file for file in folder.iterdir() if file.is_file()] if folder.is_dir() else []

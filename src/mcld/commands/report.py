"""The report of runs: what has to be measured for it, and where it goes."""

from collections.abc import Callable, Sequence
from pathlib import Path

from mcld.assembly.networks import load_run
from mcld.assembly.parts import build_parts
from mcld.configs.compose import settings_from_yaml
from mcld.errors import InputError
from mcld.evaluation.calibration import most_likely
from mcld.evaluation.logits import network_logits
from mcld.files import atomic_write_text
from mcld.report.answers import answers_of, write_answers
from mcld.report.html import write_figures
from mcld.report.run_facts import read_facts, weights_digest
from mcld.report.run_page import run_page
from mcld.runs import RunDirectory


def report_runs(
    paths: Sequence[str], out: Path | None, *, force: bool = False, tell: Callable[[str], None] = lambda _: None
) -> Path:
    """Write the page of finished runs: of one in full, of several beside one another.

    Answers on the validation images that are not known yet are computed and kept; where data or teacher are not at
    hand, the page goes without them and says so.

    Args:
        paths: run directories; of several the first is compared with the others.
        out: the page; None for ``report.html`` in the run directory of one run, which is always written anew.
        force: whether a page that is there may be replaced.
        tell: gets lines for a person.

    Returns:
        The page.

    Raises:
        InputError: for what is no finished run, and for a page that is there or has no folder.
    """
    if out is None:
        if len(paths) > 1:
            raise InputError(f"{len(paths)} runs: say where the page goes, such as --out comparison.html")
        out = RunDirectory.open(paths[0]).report
    elif out.is_dir() or not out.parent.is_dir():
        what = "is a folder" if out.is_dir() else f"cannot be written: there is no folder {out.parent}"
        raise InputError(f"--out {out} {what}; expected a file such as report.html")
    elif out.exists() and not force:
        raise InputError(f"--out {out} exists already; choose another name, or replace it with --force")
    runs = [read_facts(path) for path in paths]
    for place, path in enumerate(paths):
        if runs[place].answers is None:
            tell(f"{path}: its answers on the validation images")
            try:
                answer(path)
            except InputError as error:
                tell(f"warning: the page goes without the answers of {path}: {error}")
            else:
                runs[place] = read_facts(path)
    page, figures = run_page(runs)
    write_figures(figures, out.parent)
    atomic_write_text(out, page)
    return out


def answer(path: str) -> None:
    """Compute and keep the answers of a finished run on its validation images, with its data and its teacher.

    Raises:
        InputError: when these are not at hand, or not those that it was trained with.
    """
    run = RunDirectory.open(path)
    with run.lock():
        parts = build_parts(settings_from_yaml(run.config), begun=True)
        validation = parts.data.val
        inputs = run.read_json(run.environment).get("inputs")
        if isinstance(inputs, dict) and inputs.get("validation data") != validation.fingerprint():
            raise InputError("the validation images are not those that it was trained with")
        logits = network_logits(load_run(path), validation)
        teacher = most_likely(network_logits(parts.teacher, validation)) if parts.teacher is not None else None
        write_answers(answers_of(logits, teacher, validation, weights_digest(run)), run.answers)

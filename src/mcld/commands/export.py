"""``mcld export``: a run's network written in another format, checked, measured, and only then put in its place."""

import dataclasses
import hashlib
import json
import os
import platform
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import mcld
from mcld.assembly.networks import load_run, unfinished, weights_line
from mcld.assembly.objects import NO_OBJECTS, Objects
from mcld.assembly.parts import build_parts
from mcld.commands.evaluate import run_data
from mcld.configs.compose import settings_from_yaml
from mcld.data import Split, eval_batches, load_data
from mcld.errors import InputError, RunError, unknown_name
from mcld.exports._base import Export, Job, check_packages
from mcld.exports._check import BATCHES, LEAST, TOLERANCE, Row, answers, compare, measure_latency, table
from mcld.exports._use import use_script
from mcld.exports._weights import runner
from mcld.files import atomic_write_bytes, atomic_write_text
from mcld.models.network import Network
from mcld.options import OBJECT
from mcld.registry import EXPORTS
from mcld.runs import RunDirectory

RANDOM = 64
"""Random images that an export is compared on where a run's own are not at hand."""
USE = "use.py"


@dataclasses.dataclass(frozen=True)
class _Evidence:
    """What an export is compared on, and with.

    Attributes:
        val: the validation images; None for random ones.
        train: the training images, if they are at hand.
        teacher: the run's teacher, if it has one and it is at hand.
        notes: for a person.
        missing: why there are no images.
    """

    val: Split | None = None
    train: Split | None = None
    teacher: Network | None = None
    notes: tuple[str, ...] = ()
    missing: str = ""


def export_run(
    path: str,
    format: str,
    *,
    out: str | None = None,
    weights: str = "last",
    preprocess: bool = True,
    threads: int | None = None,
    force: bool = False,
    objects: Objects = NO_OBJECTS,
    tell: Callable[[str], None] = lambda _: None,
) -> Path:
    """Write a run's network in a format for others.

    Args:
        path: the run directory.
        format: one of ``mcld.registry.EXPORTS``.
        out: the folder that the files go to; by default ``export`` in the run directory (``export-best`` for these
            weights).
        weights: ``last`` or ``best``.
        preprocess: whether the normalisation is part of the export, where the format can hold it.
        threads: of the CPU for the measurements; by default what torch takes.
        force: replace files that are there.
        objects: data and network of a run that was made with objects from Python.
        tell: gets lines for a person.

    Returns:
        The file, in ``out``; what was measured is beside it, in ``FILE.json``.

    Raises:
        InputError: for what cannot be exported, and for a file that is there.
        RunError: when the export does not agree with the network. Nothing is written in either case.
    """
    form = find_format(format)
    if threads is not None and not 1 <= threads <= 1024:
        raise InputError(f"threads is {threads}; expected a number from 1 to 1024")
    if not preprocess and not form.normalizes:
        raise InputError(f"format {form.name} holds weights, and never the normalisation; leave --no-preprocess out")
    run = RunDirectory.open(path)
    network = load_run(path, weights, objects.student).cpu().eval().requires_grad_(False)
    for line in [weights_line(path, weights), *unfinished(path)]:
        tell(line)
    target = Path(out) if out is not None else run.path / ("export" if weights == "last" else f"export-{weights}")
    evidence = _evidence(run, objects)
    job = _job(network, evidence, preprocess)
    form.check(job)
    names = [*form.files, f"{form.files[0]}.json"]
    script = use_script(job) if form.use and job.mode else ""
    check_free(target, names, script, named=out is not None, force=force)
    for note in evidence.notes:
        tell(note)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads or before)
        with tempfile.TemporaryDirectory(prefix="mcld-export-") as place:
            folder = Path(place)
            lines = form.write(job, folder)
            report, rows = _examine(form, job, folder, evidence, run.weights(weights), threads or before)
            report = {
                **_identity(form, job, folder, weights_line(path, weights), threads or before),
                "notes": lines,
                **report,
            }
            target.mkdir(exist_ok=True)
            for name in form.files:
                (target / name).parent.mkdir(exist_ok=True)
                atomic_write_bytes(target / name, (folder / name).read_bytes())
    finally:
        torch.set_num_threads(before)
    if script:
        atomic_write_text(target / USE, script)
    text = json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False)
    atomic_write_text(target / names[-1], text + "\n")
    tell(f"wrote {', '.join(str(target / name) for name in [*names, *([USE] if script else [])])}")
    for line in [*lines, *_table_lines(rows, report)]:
        tell(line)
    return target / form.files[0]


def find_format(name: str) -> Export:
    """The format of a name, with its packages.

    Raises:
        InputError: for an unknown one, with the nearest, or without its packages.
    """
    kind = EXPORTS.find(name)
    if kind is None:
        raise unknown_name("export format", name, EXPORTS.names())
    check_packages(kind)
    return kind()


def check_free(out: Path, names: list[str], script: str, *, named: bool, force: bool) -> None:
    """Check that the files can be written, writing nothing.

    Raises:
        InputError: when one is there that ``force`` does not cover, or there can be no such folder.
    """
    other = "choose another --out, " if named else "choose an --out, "
    try:
        if out.exists() and not out.is_dir():
            raise InputError(f"{out} is a file; expected a folder: {other.removesuffix(', ')}")
        if not out.parent.is_dir():
            raise InputError(f"--out {out}: there is no folder {out.parent}")
        place = out if out.is_dir() else out.parent
        if not os.access(place, os.W_OK | os.X_OK):
            raise InputError(f"--out {out}: {place} is not writable")
        taken = [out / name for name in names if (out / name).exists() or (out / name).is_symlink()]
        if script and (out / USE).exists() and (out / USE).read_bytes() != script.encode():
            taken.append(out / USE)
    except OSError as error:  # such as a name that is too long
        raise InputError(f"--out {out}: {error.strerror or error}; choose another") from error
    if taken and not force:
        raise InputError(f"{taken[0]} exists already; {other}or replace it with --force")
    if folders := [file for file in taken if file.is_dir()]:
        raise InputError(f"{folders[0]} is a folder; {other.removesuffix(', ')}")


def _evidence(run: RunDirectory, objects: Objects) -> _Evidence:
    """The run's data and its teacher, as far as they are at hand and those that it was trained with."""
    chosen = run_data(run.path)
    notes: list[str] = []
    teacher = None
    try:
        try:
            parts = build_parts(settings_from_yaml(run.config), objects, begun=True)
            data, teacher = parts.data, parts.teacher
        except InputError as error:
            if chosen.name != OBJECT:  # the data may be there and the teacher gone, or a plugin of the method
                options = {field.name: getattr(chosen, field.name) for field in dataclasses.fields(chosen)}
                data = load_data(**options)
                notes.append(f"warning: the table goes without the teacher: {error}")
            elif objects.data is not None:
                data = objects.data
            else:
                raise
        inputs = run.read_json(run.environment).get("inputs")
        if isinstance(inputs, dict) and inputs.get("validation data") != data.val.fingerprint():
            raise InputError("the validation images are not those that it was trained with")
    except InputError as error:
        note = f"warning: accuracy is not measured, and the comparison is on {RANDOM} random images: {error}"
        return _Evidence(notes=(note,), missing=str(error))
    return _Evidence(data.val, data.train, teacher, tuple(notes))


def _job(network: Network, evidence: _Evidence, preprocess: bool) -> Job:
    spec = network.spec
    size = tuple(spec.image_size)
    if not size and evidence.val is not None:
        size = tuple(next(iter(eval_batches(evidence.val, 1, workers=0))).image.shape[-2:])
    if len(size) != 2:
        raise InputError(
            f"model.json of {spec.architecture} does not say how large its images are, and the run's data are not at "
            "hand; expected image_size: [height, width] there"
        )
    known = getattr(spec, "preprocessing", None) or {}
    temperature = getattr(spec, "temperature", None) or 1.0
    train = evidence.train

    def images(n: int, half: int) -> Tensor:
        assert train is not None
        index = torch.arange(half, len(train), 2)
        index = index[:: max(1, len(index) // n)][:n]
        view = torch.full_like(index, train.views.center)
        return torch.cat(
            [train.images(i, v) for i, v in zip(torch.split(index, 64), torch.split(view, 64), strict=True)]
        ).cpu()

    return Job(
        network,
        (size[0], size[1]),
        int(known.get("resize", min(size))),
        preprocess,
        float(temperature),
        images if train is not None else None,
        evidence.missing,
    )


def _examine(
    form: Export, job: Job, folder: Path, evidence: _Evidence, weights: Path, threads: int
) -> tuple[dict[str, Any], list[Row]]:
    """Compare the export with the network and measure it: what goes into the JSON file, and the rows of the table."""
    shape = (RANDOM, job.network.spec.in_channels, *job.size)
    labels = None
    if evidence.val is None:
        generator = torch.Generator().manual_seed(0)
        images = torch.randint(256, shape, dtype=torch.uint8, generator=generator)
        batches = list(torch.split(images, BATCHES[-1]))
    else:
        batches = [batch.image.cpu() for batch in eval_batches(evidence.val, BATCHES[-1])]
        labels = evidence.val.labels.cpu()
    batches = [batches[0][:1], batches[0][1:], *batches[1:]] if len(batches[0]) > 1 else batches  # sizes of all kinds
    student = runner(job.network)
    reference, _ = answers(student, batches)
    try:
        run = form.open(job, folder, threads)
        got, probabilities = answers(lambda images: run(form.inputs(job, images)), batches)
    except (InputError, RunError):
        raise
    except Exception as error:  # whatever a runtime says of a file that it cannot run
        reason = " ".join(str(error).split())[:300]
        raise RunError(
            f"the {form.name} export was refused, and nothing was written: it does not run ({reason})"
        ) from error
    difference, agreement = compare(form, job, got, probabilities, reference)

    def top1(logits: Tensor) -> float | None:
        return None if labels is None else (logits.argmax(dim=1) == labels).double().mean().item()

    size = sum((folder / name).stat().st_size for name in form.files) / 1e6
    exported = Row(f"{form.name} export", size, top1(got), agreement, difference)
    mine = Row("student, PyTorch", weights.stat().st_size / 1e6, top1(reference), 1.0, 0.0)
    runs: list[tuple[Row, Any, Callable[[Tensor], Any]]] = [
        (mine, student, lambda images: images),
        (exported, run, lambda images: form.inputs(job, images)),
    ]
    if evidence.teacher is not None:
        taught = runner(evidence.teacher.cpu())
        logits, _ = answers(taught, batches)
        same = (logits.argmax(dim=1) == reference.argmax(dim=1)).double().mean().item()
        bytes_ = sum(value.nbytes for value in evidence.teacher.model.state_dict().values())
        name = f"teacher {evidence.teacher.spec.architecture}, PyTorch"
        runs.insert(0, (Row(name, bytes_ / 1e6, top1(logits), same), taught, lambda images: images))
    measure_latency(runs, batches[-1])
    rows = [row for row, _, _ in runs]
    content = {
        "images": {"kind": "random" if labels is None else "validation", "count": len(reference)},
        "allowed": {"difference": TOLERANCE * max(1.0, reference.abs().max().item())}
        if form.exact
        else {"agreement": LEAST},
        "rows": [row.to_dict() for row in rows],
    }
    return content, rows


def _identity(form: Export, job: Job, folder: Path, weights: str, threads: int) -> dict[str, Any]:
    spec = job.network.spec
    digests = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in form.files}
    return {
        "format": form.name,
        "sha256": digests,
        "weights": weights,
        "network": {"architecture": spec.architecture, "classes": spec.num_classes, "image_size": list(job.size)},
        "preprocessing": "inside" if form.normalizes and job.preprocess else "outside",
        "temperature": job.temperature,
        "made_by": {"mcld": mcld.__version__, "torch": torch.__version__},
        "measured_on": {"device": "cpu", "threads": threads, "cores": os.cpu_count(), "cpu": platform.processor()},
    }


def _table_lines(rows: list[Row], report: dict[str, Any]) -> list[str]:
    images, threads = report["images"], report["measured_on"]["threads"]
    lines = [
        *table(rows),
        f"{images['count']:,} {images['kind']} images; milliseconds of a whole batch: median (95th percentile) on "
        f"{threads} CPU thread{'s' * (threads > 1)}, rough where other programs run",
    ]
    mine, exported = rows[-2:]
    if "agreement" in report["allowed"] and mine.top1 is not None and exported.top1 is not None:
        change = 100 * (exported.top1 - mine.top1)
        words = f"{abs(change):.2f} points {'lower' if change < 0 else 'higher'} than" if change else "the same as"
        lines.append(f"top-1 is {words} in PyTorch")
    return lines

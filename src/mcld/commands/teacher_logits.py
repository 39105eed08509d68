"""Filling the stores of a teacher's logits ahead of the runs that read them, and checking them."""

import time

import numpy as np
from lightning_fabric import Fabric

from mcld.assembly.choices import teacher_channels_last
from mcld.assembly.networks import build_network
from mcld.assembly.parts import build_data, build_method
from mcld.assembly.plan import settle
from mcld.assembly.sizes import fit_image_size
from mcld.assembly.stores import choose_stores, open_store, place, why_live
from mcld.commands.run import describe_data, describe_network, judge_teacher, launch
from mcld.configs.schema import Distill
from mcld.data import DataSet, Split, view_batches
from mcld.display import Display
from mcld.engine.ranks import large_batch
from mcld.engine.stop import Interrupted, StopRequest
from mcld.errors import InputError, RunError
from mcld.methods import Method
from mcld.models import Network
from mcld.runs import RunDirectory
from mcld.teacher import LiveTeacher, LogitStore, StoredTeacher
from mcld.teacher.store import Rows
from mcld.teacher.stored import COMMIT_BYTES, COMMIT_SECONDS

AT_ONCE = 2**20  # views that are looked up together


def fill_stores(settings: Distill, display: Display | None = None) -> None:
    """Compute whatever is missing of the teacher's logits for a run with these settings, training and validation.

    Args:
        settings: of the run; the student, and what else makes no difference to the teacher, is not looked at.
        display: where to print.

    Raises:
        InputError: for settings that cannot work, a store that cannot be used or that the disk has no room for.
        RunError: when the disk cannot be written.
        Interrupted: when asked to stop; what has been computed is stored.
    """
    display = display or Display()
    settings, fabric, data, method, teacher = _prepare(settings, display)
    places = choose_stores(settings, teacher, data, method, display, required=True)
    assert places.training is not None
    assert places.validation is not None
    live = LiveTeacher(fabric.to_device(teacher), channels_last=teacher_channels_last(settings))
    data = data.to(fabric.device)
    with StopRequest() as stop:
        store = open_store(places.validation, display)
        store.give_up, store.patience = (lambda: stop.signal is not None), float("inf")
        _fill(fabric, settings, live, store, data.val, display, stop)
        judge_teacher(fabric, settings, data, StoredTeacher(live, store, display.line), display)
        store = open_store(places.training, display)
        store.give_up, store.patience = (lambda: stop.signal is not None), float("inf")
        _fill(fabric, settings, live, store, data.train, display, stop)


def check_stores(settings: Distill, display: Display | None = None) -> int:
    """Read everything back that is stored for a run with these settings.

    Damaged vectors are made absent: the next :func:`fill_stores`, or the next run, computes them again.

    Args:
        settings: as for :func:`fill_stores`.
        display: where to print.

    Returns:
        How many vectors were damaged.

    Raises:
        InputError: for settings that cannot work, or when there is no store for them.
    """
    display = display or Display()
    settings, _, data, _, teacher = _prepare(settings, display)
    damaged = 0
    for kind in ("validation", "training"):
        where = place(settings, teacher, data, kind, required=True)
        if not (where.folder / "header.json").exists():
            raise InputError(f"there is no store {where.folder} yet; the same command without --check fills it")
        damaged += _check(LogitStore(where.folder, where.header), display)
    return damaged


def _prepare(settings: Distill, display: Display) -> tuple[Distill, Fabric, DataSet, Method, Network]:
    """What a run makes of these settings, as far as the teacher sees it."""
    settings = settle(settings)
    if settings.teacher.store == "off":
        raise InputError("teacher.store=off: there is no store then; expected auto or a folder")
    fabric = launch(settings)
    if fabric.world_size > 1:
        raise InputError("mcld teacher-logits works on one device; expected it to be started without torchrun")
    method = build_method(settings.method)
    settings, sized = fit_image_size(settings)
    data, settings = build_data(settings, method)
    if reason := why_live(settings, data, method):
        raise InputError(f"teacher.store={settings.teacher.store}: {reason}")
    notes = [*data.notes, *sized]
    given = settings.teacher
    teacher = build_network(given, data.info, "teacher", notes)
    if not (RunDirectory.is_run(given.name) or given.checkpoint or given.pretrained):
        hint = "a run directory, or its weights: teacher.checkpoint=FILE or teacher.pretrained=true"
        raise InputError(f"teacher={given.name} is no run directory and has no weights; expected {hint}")
    for line in [*notes, describe_data(data), describe_network("teacher", teacher, data.info)]:
        display.line(line)
    return settings, fabric, data, method, teacher


def _fill(
    fabric: Fabric,
    settings: Distill,
    live: LiveTeacher,
    store: LogitStore,
    split: Split,
    display: Display,
    stop: StopRequest,
) -> None:
    """Compute every absent row of a store."""
    total, there, computed, began = store.header.rows, store.filled(), 0, time.perf_counter()
    with display.bar(total, there, f"{store.header.split} logits") as bar:
        for start in range(0, total, AT_ONCE):
            absent = _missing(store, start, min(start + AT_ONCE, total))  # another run may be filling it, too
            bar.describe(f"{store.header.split} logits", {})
            index, view = store.views(absent, split.views.center)
            size, saved = large_batch(settings), time.monotonic()
            batches = view_batches(split, index, view, size, fabric.device, settings.data.workers)
            for at, batch in zip(range(0, len(absent), size), batches, strict=True):
                with fabric.autocast():
                    logits = live.logits(batch.image)
                store.add(absent[at : at + size], store.round(logits))
                computed += len(logits)
                bar.step(len(logits), len(logits))
                bar.describe(f"{store.header.split} logits", {})
                last = stop.signal is not None or at + size >= len(absent)
                if last or store.queued > COMMIT_BYTES or time.monotonic() - saved > COMMIT_SECONDS:
                    _commit(store, stop)
                    saved = time.monotonic()
                    if not display.console.is_terminal:
                        display.line(f"{store.header.split} logits: {store.filled() / total:.1%} are stored")
                if stop.signal is not None:
                    raise Interrupted(
                        f"stopped: {store.filled():,} of {total:,} {store.header.split} logits are stored; go on with "
                        "the same command",
                        stop.signal,
                    )
    speed = f" ({computed / (time.perf_counter() - began):,.0f} views/s)" if computed else ""
    display.line(f"{store.header.split} logits: {computed:,} of {total:,} computed{speed}, the others were there")


def _missing(store: LogitStore, start: int, stop: int) -> Rows:
    """The rows that are to be computed: those that are not there, and those that are not whole."""
    parts = []
    for first in range(start, stop, step := _rows_at_once(store)):
        rows = np.arange(first, min(first + step, stop))
        parts.append(rows[~store.read(rows)[1]])
    return np.concatenate(parts)


def _rows_at_once(store: LogitStore) -> int:
    return max(1, COMMIT_BYTES // (store.header.classes * store.header.dtype.itemsize))


def _commit(store: LogitStore, stop: StopRequest) -> None:
    try:
        store.commit()
    except OSError as error:
        if isinstance(error, BlockingIOError) and stop.signal is not None:
            return  # asked to stop while it waited for another process
        raise RunError(
            f"cannot write to {store.folder}: {error.strerror or error}; {store.filled():,} of {store.header.rows:,} "
            f"{store.header.split} logits are stored; go on with the same command"
        ) from error


def _check(store: LogitStore, display: Display) -> int:
    """Read a store, forget what is damaged, and say how much that is."""
    header, damaged, absent = store.header, 0, 0
    step = _rows_at_once(store)
    with display.bar(header.rows, 0, f"checking the {header.split} logits") as bar:
        for start in range(0, header.rows, step):
            rows = np.arange(start, min(start + step, header.rows))
            missing = store.absent(start, start + len(rows))  # before reading: another run may be filling it
            absent += len(missing)
            rows = np.setdiff1d(rows, missing, assume_unique=True)
            bad = rows[~store.read(rows)[1]]
            if len(bad):
                damaged += len(bad)
                _forget(store, bad)
            bar.step(len(rows), len(rows) + len(missing))
            bar.describe(f"checking the {header.split} logits", {})
    intact = header.rows - absent - damaged
    display.line(
        f"{header.split} logits in {store.folder}: {intact:,} intact, {absent:,} not computed yet, "
        f"{damaged:,} damaged{'; they will be computed again' if damaged else ''}",
        style="yellow" if damaged else None,
    )
    return damaged


def _forget(store: LogitStore, rows: Rows) -> None:
    try:
        store.forget(rows)
    except OSError as error:
        raise RunError(
            f"{len(rows):,} damaged logits in {store.folder}, which cannot be written: {error.strerror or error}"
        ) from error

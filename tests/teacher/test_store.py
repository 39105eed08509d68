import contextlib
import errno
import itertools
import json
import multiprocessing
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.killing import killed_at

from mcld.data import Batch, CropFlip, TensorSplit, TrainLoader
from mcld.errors import InputError
from mcld.files import lock_file
from mcld.models import ModelSpec, Network
from mcld.teacher import Header, LiveTeacher, LogitStore, StoredTeacher, plain_logits

IMAGES, CLASSES = 40, 5


def network(seed: int = 0) -> Network:
    torch.manual_seed(seed)
    return ModelSpec("resnet8", CLASSES, 3, mean=[0.5] * 3, std=[0.5] * 3, options={"width": 4}).build()


def split(views: CropFlip | None = None) -> TensorSplit:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (IMAGES, 3, 8, 8), generator=generator).to(torch.uint8)
    return TensorSplit(images, torch.arange(IMAGES) % CLASSES, views or CropFlip((8, 8), padding=1))


def header(**changes: object) -> Header:
    made = Header.of(network(), "made-up", "training", split(), storage="fp32", precision="32")
    return replace(made, **changes)  # type: ignore[arg-type]


def batch(data: TensorSplit, index: torch.Tensor, view: torch.Tensor) -> Batch:
    images = data.images(index.repeat_interleave(view[0].numel()), view.flatten())
    return Batch(index, view, images.view(*view.shape, *images.shape[1:]), data.labels[index])


def numbers(rows: np.ndarray[tuple[int], np.dtype[np.int64]]) -> torch.Tensor:
    """Logits that tell which row they belong to."""
    return (torch.from_numpy(rows)[:, None] * 10 + torch.arange(CLASSES)).float()


def fill(store: LogitStore, rows: list[int]) -> None:
    store.add(np.array(rows), numbers(np.array(rows)))
    store.commit()


def teacher(store: LogitStore, lines: list[str] | None = None) -> StoredTeacher:
    return StoredTeacher(LiveTeacher(network()), store, (lines if lines is not None else []).append)


def test_what_is_committed_is_read_back_by_a_later_run(tmp_path: Path) -> None:
    store = LogitStore(tmp_path / "store", header())
    assert store.header.rows == IMAGES * 18
    rows = np.array([700, 3, 4, 5])
    store.add(rows, numbers(rows))
    assert not store.read(rows)[1].any()
    store.commit()
    for opened in (store, LogitStore(tmp_path / "store", header())):
        values, whole = opened.read(np.array([3, 6, 700]))
        assert whole.tolist() == [True, False, True]
        assert torch.equal(torch.from_numpy(values[whole]), numbers(np.array([3, 700])))
        assert opened.filled() == 4
        assert opened.absent(0, 8).tolist() == [0, 1, 2, 6, 7]
    taken = sum(file.stat().st_blocks * 512 for file in (tmp_path / "store").iterdir())
    assert taken < 40_000  # sparse


def test_the_plain_view_of_a_pool_has_a_row_of_its_own(tmp_path: Path) -> None:
    pooled = split().with_pool(4)
    made = Header.of(network(), "made-up", "training", pooled, storage="fp16", precision="32")
    assert made.views_per_image == 5
    assert made.views.endswith("4 views per image (approximation)")
    store = LogitStore(tmp_path, made)
    rows = store.rows(torch.tensor([0, 0, 1, 39]), torch.tensor([0, -1, 3, -1]))
    assert rows.tolist() == [0, 4, 8, 199]


@pytest.mark.parametrize("storage", ["fp32", "fp16"])
def test_a_step_sees_the_same_whether_the_store_was_empty_or_full(tmp_path: Path, storage: str) -> None:
    data, store = split(), LogitStore(tmp_path, header(storage=storage))
    index, view = torch.randperm(IMAGES), torch.randint(18, (IMAGES,))
    live = LiveTeacher(network())(batch(data, index, view)).logits
    stored = teacher(store)
    cold = stored(batch(data, index, view)).logits
    stored.save()
    warm = stored(batch(data, index, view)).logits
    assert cold.dtype == warm.dtype == torch.float32
    assert torch.equal(cold, warm)
    assert torch.equal(cold, live) == (storage == "fp32")
    assert torch.equal(cold, live.half().float()) == (storage == "fp16")
    assert (stored.read, stored.computed) == (IMAGES, IMAGES)


def test_only_what_is_missing_is_computed_and_is_the_same_to_the_bit(tmp_path: Path) -> None:
    """Whatever the number of images beside it: no batch of fewer than 16 is run."""
    data, store = split(), LogitStore(tmp_path, header())
    index, view = torch.arange(IMAGES), torch.arange(IMAGES) % 18
    live = LiveTeacher(network())(batch(data, index, view)).logits
    for known in (torch.arange(0, 1), torch.arange(1, 30), torch.arange(30, 39)):
        stored = teacher(store)
        stored(batch(data, index[known], view[known]))
        stored.save()
    stored = teacher(store)
    whole = stored(batch(data, index, view)).logits
    assert stored.computed == 1
    assert torch.equal(whole, live)


def test_a_skipped_batch_never_gets_the_logits_of_another(tmp_path: Path) -> None:
    data, store = split(), LogitStore(tmp_path, header())
    index, view = torch.arange(IMAGES), torch.arange(IMAGES) % 18
    stored = teacher(store)
    whole = stored(batch(data, index, view)).logits
    stored.save()
    loader = TrainLoader(data, 8, seed=0)
    batches = list(loader.epoch(0))
    for shown in (batches[3], batches[0]):  # in any order, the others not at all
        assert shown.ids is not None
        assert torch.equal(shown.ids[0], shown.index)
        assert torch.equal(shown.ids[1], shown.view)
        live = LiveTeacher(network())(shown)
        assert torch.equal(stored(shown).logits, live.logits)
    wrong = batches[0]._replace(ids=batches[1].ids)
    with pytest.raises(ValueError, match="the batch's ids are not those of its images"):
        stored(wrong)
    assert len(whole) == IMAGES


def test_two_views_of_each_image(tmp_path: Path) -> None:
    data, store = split(), LogitStore(tmp_path, header())
    index, view = torch.arange(20), torch.randint(18, (20, 2))
    live = LiveTeacher(network())(batch(data, index, view))
    stored = teacher(store)
    for _ in range(2):
        outputs = stored(batch(data, index, view))
        assert outputs.other is not None
        assert live.other is not None
        assert torch.equal(outputs.logits, live.logits)
        assert torch.equal(outputs.other.logits, live.other.logits)
        stored.save()
    assert stored.read == 40


def test_the_plain_views_need_no_image_once_they_are_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, stored = split(), teacher(LogitStore(tmp_path, header()))
    device = torch.device("cpu")
    index, logits = plain_logits(LiveTeacher(network()), data, device, batch_size=16)
    assert torch.equal(plain_logits(stored, data, device, batch_size=16)[1], logits)
    monkeypatch.setattr(TensorSplit, "images", None)
    shares = [plain_logits(stored, data, device, rank=rank, world=2) for rank in (0, 1)]
    assert torch.equal(torch.cat([share for share, _ in shares]).sort().values, index)
    assert all(torch.equal(logits[share], values) for share, values in shares)


@pytest.mark.parametrize("file", ["logits.bin", "marks.bin"])
def test_a_flipped_byte_is_found_told_and_computed_again(tmp_path: Path, file: str) -> None:
    data = split()
    index, view = torch.arange(IMAGES), torch.full((IMAGES,), 7)
    stored = teacher(LogitStore(tmp_path, header()))
    right = stored(batch(data, index, view)).logits
    stored.save()
    row = 12 * 18 + 7
    size = {"logits.bin": 4 * CLASSES, "marks.bin": 4}[file]
    content = bytearray((tmp_path / file).read_bytes())
    content[row * size + 2] ^= 0x10
    (tmp_path / file).write_bytes(content)
    lines: list[str] = []
    stored = teacher(LogitStore(tmp_path, header()), lines)
    assert torch.equal(stored(batch(data, index, view)).logits, right)
    stored.save()
    assert (stored.computed, len(lines)) == (1, 1)
    assert "1 damaged logit vectors" in lines[0]
    again = teacher(LogitStore(tmp_path, header()), lines)
    assert torch.equal(again(batch(data, index, view)).logits, right)
    assert (again.computed, len(lines)) == (0, 1)


def test_vectors_in_the_wrong_place_are_found(tmp_path: Path) -> None:
    store = LogitStore(tmp_path, header())
    fill(store, [1, 2])
    for file, size in (("logits.bin", 4 * CLASSES), ("marks.bin", 4)):
        content = bytearray((tmp_path / file).read_bytes())
        content[size : 2 * size], content[2 * size : 3 * size] = content[2 * size : 3 * size], content[size : 2 * size]
        (tmp_path / file).write_bytes(content)
    assert not LogitStore(tmp_path, header()).read(np.array([1, 2]))[1].any()


DIFFERENT: list[tuple[str, Callable[[], Header], str]] = [
    ("other weights", lambda: Header.of(network(1), "made-up", "training", split(), storage="fp32", precision="32"),
     "weights "),
    ("other data", lambda: Header.of(network(), "made-up", "training", changed(), storage="fp32", precision="32"),
     "fingerprint "),
    ("other views",
     lambda: Header.of(network(), "made-up", "training", split(CropFlip((8, 8), padding=2)), storage="fp32",
                       precision="32"),
     "views 'crop 8, padding 1, horizontal flip' instead of 'crop 8, padding 2, horizontal flip', "
     "views_per_image 18 instead of 50"),
    ("other precision", lambda: header(storage="fp16"), "storage 'fp32' instead of 'fp16'"),
    ("other arithmetic", lambda: header(precision="bf16"), "precision '32' instead of 'bf16'"),
    ("other normalisation", lambda: header(mean=[0.4] * 3), "mean [0.5, 0.5, 0.5] instead of [0.4, 0.4, 0.4]"),
]  # fmt: skip


def changed() -> TensorSplit:
    images = split().raw.clone()
    images[0, 0, 0, 0] ^= 1
    return TensorSplit(images, torch.arange(IMAGES) % CLASSES, CropFlip((8, 8), padding=1))


@pytest.mark.parametrize(("other", "said"), [case[1:] for case in DIFFERENT], ids=[case[0] for case in DIFFERENT])
def test_a_store_for_anything_else_is_refused_with_what_differs(
    tmp_path: Path, other: Callable[[], Header], said: str
) -> None:
    fill(LogitStore(tmp_path, header()), [1])
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    with pytest.raises(InputError, match="holds other logits") as error:
        LogitStore(tmp_path, other())
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_damaged_files_are_told_in_one_line(tmp_path: Path) -> None:
    fill(LogitStore(tmp_path, header()), [1])
    os.truncate(tmp_path / "marks.bin", 100)
    with pytest.raises(InputError, match=r"marks.bin has 100 bytes; expected 2,880: delete the folder"):
        LogitStore(tmp_path, header())
    text = (tmp_path / "header.json").read_text()
    for broken in (text[: len(text) // 2], "[]", ""):
        (tmp_path / "header.json").write_text(broken)
        with pytest.raises(InputError, match=r"header.json is damaged .* delete the folder to start it anew"):
            LogitStore(tmp_path, header())
    changes = {**json.loads(text), "format": 2}
    (tmp_path / "header.json").write_text(json.dumps(changes))
    with pytest.raises(InputError, match="format 2 instead of 1"):
        LogitStore(tmp_path, header())


def test_folders_of_others_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(InputError, match=r"holds other files \(thesis.tex\)"):
        LogitStore(tmp_path, header())
    with pytest.raises(InputError, match="cannot be used"):
        LogitStore(tmp_path / "thesis.tex", header())
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_store_whose_making_was_interrupted_is_made_anew(tmp_path: Path) -> None:
    LogitStore(tmp_path, header())
    (tmp_path / "header.json").rename(tmp_path / ".header.json.1.tmp")
    (tmp_path / "logits.bin").write_bytes(b"abc")
    fill(LogitStore(tmp_path, header()), [4])
    assert LogitStore(tmp_path, header()).filled() == 1


def test_killed_at_each_file_operation_a_store_goes_on(tmp_path: Path) -> None:
    """While it is made, and in the middle of a write; nothing wrong can be read and nothing stays lost or left over."""
    rows = np.array([3, 4, 5, 9])

    def use(folder: Path) -> None:
        store = LogitStore(folder, header())
        store.add(rows, numbers(rows))
        store.commit()

    for operation in itertools.count(1):
        folder = tmp_path / f"store{operation}"
        killed = killed_at(operation, lambda folder=folder: use(folder))  # type: ignore[misc]
        store = LogitStore(folder, header())
        values, whole = store.read(np.arange(12))
        assert torch.equal(torch.from_numpy(values[whole]), numbers(np.arange(12)[whole]))
        use(folder)
        values, whole = LogitStore(folder, header()).read(rows)
        assert whole.all()
        assert torch.equal(torch.from_numpy(values), numbers(rows))
        store.add(np.array([0]), numbers(np.array([0])))
        store.commit()
        assert LogitStore(folder, header()).filled() == 5
        assert {entry.name for entry in folder.iterdir()} == {"header.json", "lock", "logits.bin", "marks.bin"}
        if not killed:
            break
    assert operation > 15


@pytest.mark.parametrize("harm", ["header", "changed", "size", "missing"])
def test_a_damaged_store_of_our_own_is_made_anew(tmp_path: Path, harm: str) -> None:
    """And whoever still reads the old files is not ended by it."""
    old = LogitStore(tmp_path, header())
    fill(old, [1])
    text = (tmp_path / "header.json").read_text()
    if harm == "header":
        (tmp_path / "header.json").write_text(text[:40])
    elif harm == "changed":
        (tmp_path / "header.json").write_text(text.replace("made-up", "made-ap"))
    elif harm == "size":
        (tmp_path / "marks.bin").write_bytes(bytes(100))
    else:
        (tmp_path / "logits.bin").unlink()
    with pytest.raises(InputError):
        LogitStore(tmp_path, header())
    lines: list[str] = []
    fill(LogitStore(tmp_path, header(), rebuild=True, tell=lines.append), [4])
    assert len(lines) == 1
    assert lines[0].startswith("warning: ")
    assert lines[0].endswith("; it was made anew")
    assert LogitStore(tmp_path, header(), rebuild=True, tell=lines.append).filled() == 1
    assert len(lines) == 1
    old.read(np.arange(10))


@pytest.mark.parametrize("name", ["header.json", "logits.bin", "marks.bin", "lock"])
def test_no_link_in_a_store_is_followed(tmp_path: Path, name: str) -> None:
    precious = tmp_path / "precious"
    precious.write_text("{}")
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / name).symlink_to(precious)
    for rebuild in (False, True):
        with contextlib.suppress(InputError):
            fill(LogitStore(tmp_path / "store", header(), rebuild=rebuild), [1])
    assert precious.read_text() == "{}"


def test_a_stopped_process_with_the_lock_holds_nobody_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    LogitStore(tmp_path, header())
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        with lock_file(tmp_path / "lock"):
            os.write(writer, b"x")
            signal.pause()
    os.read(reader, 1)
    os.kill(child, signal.SIGSTOP)
    os.waitpid(child, os.WUNTRACED)
    monkeypatch.setattr("mcld.teacher.store.PATIENCE", 1.3)
    data, lines = split(), list[str]()
    stored = StoredTeacher(LiveTeacher(network()), LogitStore(tmp_path, header(), tell=lines.append), lines.append)
    index, view = torch.arange(IMAGES), torch.full((IMAGES,), 3)
    try:
        began = time.monotonic()
        for _ in range(3):
            stored(batch(data, index, view))
            stored.save()
        assert 1.2 < time.monotonic() - began < 6  # it waited once
        whom = f"process {child} (stopped)"
        assert lines[0] == f"waiting for {whom}, which is writing to {tmp_path}"
        assert lines[1].startswith(f"warning: cannot write to {tmp_path}: {whom} has its lock; until it is free")
        assert len(lines) == 2
        stored.store.patience = 60.0
        stored.store.give_up = lambda: True  # asked to stop meanwhile
        began = time.monotonic()
        stored(batch(data, index, view))
        stored.save()
        assert time.monotonic() - began < 2
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    stored(batch(data, index, view))
    stored.save()
    assert stored.store.filled() == IMAGES


def test_logits_that_the_store_cannot_hold_are_refused(tmp_path: Path) -> None:
    store = LogitStore(tmp_path, header(storage="fp16"))
    with pytest.raises(InputError, match=r"too large for 16 bits: teacher\.store_precision=32"):
        store.round(torch.tensor([[1e6]]))
    store.add(np.array([0]), torch.full((1, CLASSES), torch.inf))
    with pytest.raises(InputError, match="not finite"):
        store.commit()
    assert store.filled() == 0


def test_a_full_disk_stops_the_writing_not_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, lines = split(), list[str]()
    stored = teacher(LogitStore(tmp_path, header()), lines)
    views = [torch.full((IMAGES,), view) for view in range(3)]
    index = torch.arange(IMAGES)
    right = [LiveTeacher(network())(batch(data, index, view)).logits for view in views]
    stored(batch(data, index, views[0]))
    stored.save()
    real, left = os.pwrite, [10]

    def pwrite(descriptor: int, content: bytes, at: int) -> int:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(descriptor, content[: len(content) // 2 + 1], at)  # and a disk may write less than it is given

    monkeypatch.setattr(os, "pwrite", pwrite)
    for view, logits in zip(views, right, strict=True):
        assert torch.equal(stored(batch(data, index, view)).logits, logits)
        stored.save()
    assert len(lines) == 1
    assert "No space left on device; what is missing there is from now on computed without being stored" in lines[0]
    monkeypatch.undo()
    again = teacher(LogitStore(tmp_path, header()))  # nothing half-written is readable
    for view, logits in zip(views, right, strict=True):
        assert torch.equal(again(batch(data, index, view)).logits, logits)
    assert (again.read, again.computed) == (IMAGES, 2 * IMAGES)


def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    """A small file system; where no such thing can be mounted, a limit on the size of files."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = shutil.which("mount") is not None and os.getuid() == 0
    mounted = mounted and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=512k", "none", str(disk)], capture_output=True, check=False
    ).returncode == 0  # fmt: skip
    big = header(images=4000)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    store, lines = LogitStore(disk / "store", big), list[str]()
    try:
        if not mounted:
            resource.setrlimit(resource.RLIMIT_FSIZE, (64_000, limits[1]))
        stored = StoredTeacher(LiveTeacher(network()), store, lines.append)
        rows = np.arange(0, big.rows, 9)
        fill(store, rows[:50].tolist())
        store.add(rows[50:], numbers(rows[50:]))
        stored.save()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        if mounted:
            values, whole = store.read(rows)
            subprocess.run(["umount", "-l", str(disk)], check=True)
    if not mounted:
        values, whole = store.read(rows)
    assert len(lines) == 1
    assert ("No space left" if mounted else "File too large") in lines[0]
    assert whole[:50].all()
    assert torch.equal(torch.from_numpy(values[whole]), numbers(rows[whole]))
    assert store.damaged == 0


def write_half(folder: Path, first: int) -> None:
    """Every second row or so, in many commits; the other process writes rows of its own and some of these."""
    store = LogitStore(folder, header())
    rows = np.random.default_rng(first).permutation(header().rows)[: header().rows * 2 // 3]
    for part in np.array_split(rows, 40):
        store.add(part, numbers(part))
        store.commit()
        values, whole = store.read(rows)
        assert torch.equal(torch.from_numpy(values[whole]), numbers(rows[whole]))
    assert store.damaged == 0


def test_two_processes_fill_one_store(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=write_half, args=(tmp_path / "store", first)) for first in (1, 2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    store = LogitStore(tmp_path / "store", header())
    rows = np.arange(header().rows)
    values, whole = store.read(rows)
    assert store.filled() == whole.sum() > header().rows * 2 // 3
    assert torch.equal(torch.from_numpy(values[whole]), numbers(rows[whole]))
    assert store.damaged == 0


WRITER = """
import sys
import numpy as np, torch
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_store import fill, header
from mcld.teacher import LogitStore
store = LogitStore(Path({folder!r}), header())
print("begun", flush=True)
for rows in np.array_split(np.random.default_rng(0).permutation(header().rows), 240):
    fill(store, rows.tolist())
"""


def test_killed_while_writing_nothing_wrong_is_readable(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    code = WRITER.format(tests=str(Path(__file__).parent), folder=str(folder))
    rows = np.arange(header().rows)
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    store = LogitStore(folder, header())
    while store.filled() < 50 and process.poll() is None:
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    store = LogitStore(folder, header())
    values, whole = store.read(rows)
    assert 50 <= store.filled() == whole.sum() < len(rows)
    assert store.damaged == 0
    assert torch.equal(torch.from_numpy(values[whole]), numbers(rows[whole]))
    fill(store, rows.tolist())
    assert store.read(rows)[1].all()

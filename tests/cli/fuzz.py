"""Random command lines for mcld, run in this process: no traceback, no hang, nothing written before a refusal.

On its own: ``python -m tests.cli.fuzz --lines 5000 --seed 1`` in the root of the repository.
"""

import argparse
import contextlib
import io
import os
import random
import shutil
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from torch import nn

SECONDS = 20
"""More than this is a hang."""
DATA = ["data=arrays", "data.train=train.npz", "data.val=val.npz", "data.padding=0", "data.batch_size=20"]
TINY = ["schedule.epochs=1", "threads=1"]
WIDE = 10**6  # between this and a handful a width would really be built, and fill the memory
VALUES = (
    *("", "null", "None", "true", "false", "True", "yes", "0", "1", "2", "3", "-1", "-0.5", "0.5", "1.5", "1e-30"),
    *("1e30", "1e9", "-1e9", "1000000000", str(2**31), str(2**63), str(2**64), "1" + "0" * 400, "1e400", "nan", "inf"),
    *(
        "-inf",
        "NaN",
        "0x10",
        "1_000",
        "010",
        "[]",
        "{}",
        "[1]",
        "[1,2]",
        "[null]",
        "[[1]]",
        "[a,b]",
        "{a:1}",
        "{a:{b:1}}",
    ),
    *("{name:1}", "{name:null}", "{:}", "[,]", "x", "auto", "on", "off", "last", "best", "none", "kd", "mcld", "plain"),
    *("resnet8", "resnet999", "timm/", "timm/nothing", "torchvision/", "torchvision/resnet18x", "/", "//", "a/b/c"),
    *("digits", "arrays", "folder", "cifar100", "one_cycle", "cosine", "step", "constant", "sgd", "adamw", "vit"),
    *(
        "cpu",
        "cuda",
        "mps",
        "32",
        "bf16",
        "16-mixed",
        "16",
        "T",
        "photos",
        "file.txt",
        "train.npz",
        "gone",
        "gone/gone",
    ),
    *(
        "~",
        "~/x",
        "~nobody/x",
        "~nobody",
        ".",
        "..",
        "./x",
        "../x",
        "/dev/null",
        "/dev/null/x",
        "/proc/x",
        "/proc/self/x",
    ),
    *(
        "\0",
        "a\0b",
        "x" * 300,
        "x/" + "y" * 300,
        "x/" * 3000,
        "é",
        "e\u0301",
        "\udcff",
        "\x1b[31mred",
        "a\nb",
        "\t",
        " ",
    ),
    *(
        "'",
        '"',
        "'a'",
        "'a",
        '"a',
        "a'b",
        "\\",
        "a\\",
        "=",
        "a=b",
        "a,b",
        "1,2",
        "1,x",
        ",",
        "1,",
        "1,,2",
        "$HOME",
        "$(x)",
    ),
    *("${seed}", "${", "${}", "${x}", "${oc.env:HOME}", "${oc.env:NOTHING}", "\\${seed}", "${run}", "${data}"),
    *("choice(1,2)", "choice()", "range(1,3)", "range(3)", "interval(0,1)", "glob(*)", "sort(2,1)", "shuffle(1,2)"),
    *(
        "sort(",
        "tag(a,choice(1,2))",
        "int(3.5)",
        "str(1)",
        "float(x)",
        "bool(1)",
        "extend_list(1)",
        "@x",
        "%",
        "*",
        "?",
    ),
    *(
        "#",
        "!!python/object:os.system",
        "&a",
        "*a",
        "2024-01-01",
        "1:30",
        "-",
        "--",
        "-m",
        "--force",
        "+",
        "~x",
        "|",
        "<",
    ),
)
FLAGS = {
    "train": ["--dry-run", "--force", "--cfg", "--cfg job", "--cfg all", "-m", "--help", "-x", "--multirun", "--dry"],
    "evaluate": ["--help", "--force", "-h", "--", "-1"],
    "export": [
        "--format safetensors",
        "--format repdistiller",
        "--format x",
        "--weights best",
        "--no-preprocess",
        "--weights x",
        "--out e",
        "--force",
    ],
    "transfer": ["--protocol probe", "--protocol x", "--untrained", "--force", "--help"],
    "teacher-logits": ["--check", "--help", "--force"],
    "bench": ["--dry-run", "--workers 0", "--workers x", "--threads -1", "--only x", "--cell x", "--report", "--out o"],
    "resume": ["--help", "--force", "x=1"],
}
FLAGS["distill"] = FLAGS["train"]


METHODS = (
    "kd",
    "mcld",
    "plain",
    "dkd",
    "[mcld,kd]",
    "at",
    "simkd",
    "mlkd",
    "crd",
    "rkd",
    "srd",
    "reviewkd",
    "sld",
    "ofd",
)
OPTIONS = ("width", "in_chans", "num_classes", "pretrained", "checkpoint_path", "img_size", "aux_logits", "x")


@dataclass(frozen=True)
class Fault:
    """What a line should not have done."""

    number: int
    words: list[str]
    what: str


def make_place(folder: Path) -> None:
    """Small data, a run, a student of it, a suite and what is none of them, in the working directory."""
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        labels = np.arange(40) % 4
        images = rng.integers(0, 120, (40, 8, 8, 3))
        for image, label in zip(images, labels, strict=True):
            image[2 * label : 2 * label + 2, :, label % 3] += 100
        np.savez(folder / f"{split}.npz", images=images.astype(np.uint8), labels=labels, names=np.array(list("abcd")))
    (folder / "file.txt").write_text("nothing\n")
    (folder / "photos").mkdir()
    suite = {
        "common": [*DATA, *TINY],
        "teacher": "T",
        "pairs": {"p": "student=resnet8"},
        "methods": {"kd": "method=kd"},
    }
    lines = [f"{key}: {value}" for key, value in {**suite, "seeds": [0], "test": ["data.val=val.npz"]}.items()]
    (folder / "suite.yaml").write_text("\n".join(lines).replace("'", '"') + "\n")
    for words in (
        ["train", *DATA, *TINY, "schedule.epochs=4", "model=resnet8", "run=T"],
        ["distill", *DATA, *TINY, "teacher=T", "student=resnet8", "student.options.width=2", "run=S"],
    ):
        status, _, error = run_line(words)
        assert status == 0, error


Keys = dict[str, Any]
"""Settings by dotted key, with their types."""


def settings_of(command: Any, *words: str) -> Keys:
    """What there is to set for some words."""
    from mcld.configs.compose import compose
    from mcld.configs.values import leaves

    return {key: kind for key, kind, _ in leaves(compose(command, words))}


def known_keys() -> Keys:
    """Every setting of both commands, with all data sets and methods, and some that there are not."""
    from mcld.methods import list_methods
    from mcld.registry import DATA

    keys: Keys = {}
    files = {"folder": ["path"], "imagenet": ["path"], "arrays": ["train", "val"]}
    for name in DATA.names():
        words = [f"data={name}", *(f"data.{key}=x" for key in files.get(name, []))]
        keys |= settings_of("train", *words, "model=x")
    for name in list_methods():
        keys |= settings_of("distill", "data=digits", "teacher=x", "student=x", f"method={name}")
    groups = (
        "model",
        "student",
        "teacher",
        "method",
        "data",
        "schedule",
        "optimizer",
        "hydra.run.dir",
        "nothing",
        "a.b",
    )
    return {**keys, **dict.fromkeys(groups, str)}


class Generator:
    """Command lines: a good one, changed in a few places.

    Args:
        seed: the same lines for the same seed.
    """

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.keys = known_keys()
        self.own: dict[tuple[str, str], Keys] = {}
        self.lines = 0

    def __call__(self) -> list[str]:
        """The words of one line."""
        pick = self.random.choice
        command = pick(
            ["train"] * 5 + ["distill"] * 6 + ["evaluate"] * 3 + ["transfer", "teacher-logits"] * 2 + list(FLAGS)
        )
        if self.random.random() < 0.03:
            command = pick(["methods", "models", "data", "published", "demo", "x", "", "help", "--version", "\0"])
            return [command, *(pick([*VALUES, "kd", "--json", "--help"]) for _ in range(self.random.randint(0, 2)))]
        self.lines += 1
        words = self._good(command)
        for _ in range(self.random.choice([1, 1, 1, 2, 2, 3])):
            words = self._change(command, words)
        if command in ("train", "distill") and self.random.random() < 0.3:
            words += pick([["--dry-run"], ["--cfg", "job"], ["-m"]])
        return [command, *words]

    def _good(self, command: str) -> list[str]:
        run = f"run=out{self.lines}"
        network = self.random.choice(["resnet8", "resnet8", "resnet20", "MobileNetV2", "T"])
        narrow = ["options.width=2"] if network.startswith("resnet") else []
        method = self.random.choice(METHODS)
        if command == "train":
            return [*DATA, *TINY, f"model={network}", *(f"model.{word}" for word in narrow), run]
        if command == "distill":
            narrow = [f"student.{word}" for word in narrow]
            return [*DATA, *TINY, "teacher=T", f"student={network}", *narrow, f"method={method}", run]
        if command == "teacher-logits":
            return [*DATA, "teacher=T", "threads=1"]
        return {
            "evaluate": ["T", *self.random.choice([[], DATA]), "threads=1"],
            "transfer": ["S", *DATA, "--protocol", "probe", run, "threads=1"],
            "export": ["T", "--format", "safetensors", "--out", f"exported{self.lines}"],
            "bench": ["suite.yaml", "--dry-run"],
            "resume": ["S"],
        }[command]

    def _change(self, command: str, words: list[str]) -> list[str]:
        pick, words = self.random.choice, list(words)
        kind = self.random.random()
        at = self.random.randrange(len(words)) if words else 0
        if kind < 0.6:
            return [*words, self._setting(command, words)]
        if kind < 0.75 and words:
            key, equals, _ = words[at].partition("=")
            words[at] = f"{key}={pick(VALUES)}" if equals else pick(VALUES)
        elif kind < 0.8 and words:
            del words[at]
        elif kind < 0.85 and words:
            words.insert(at, pick(words))
        elif kind < 0.93:
            words += pick(FLAGS[command]).split()
        elif words:
            place = self.random.randrange(len(words[at]) + 1)
            words[at] = (
                words[at][:place]
                + pick(["", "=", ".", ",", "x", "+", "~", "'", "\0", "[", "{", " "])
                + words[at][place + 1 :]
            )
        return words

    def _setting(self, command: str, words: list[str]) -> str:
        pick = self.random.choice
        keys = self.keys if self.random.random() < 0.2 else self._fitting(command, words)
        key = pick([*keys, *(f"{node}.options.{pick(OPTIONS)}" for node in ("model", "student", "teacher"))])
        value = pick(VALUES if self.random.random() < 0.5 else self._typed(keys.get(key, str)))
        if key == "threads" and value.isdigit() and int(value) > 4:
            value = pick(["4", "100000"])  # between them it would only take long
        if key.endswith(".width") and value.lstrip("-").isdigit() and 3 < int(value) < WIDE:
            value = "2"
        prefix = pick(["", "+", "~", "++"]) if self.random.random() < 0.05 else ""
        return prefix + (f"{key}={value}" if self.random.random() < 0.98 else key)

    def _fitting(self, command: str, words: list[str]) -> Keys:
        """The settings that there are for a line, as far as it can be read."""
        kind = "distill" if command in ("distill", "teacher-logits") else "train"
        method = next((word for word in words if word in [f"method={name}" for name in METHODS]), "method=kd")
        if (kind, method) not in self.own:
            extra = ["teacher=x", "student=x", method] if kind == "distill" else ["model=x"]
            self.own[kind, method] = settings_of(kind, *DATA, *extra)
        keys = self.own[kind, method]
        allowed: dict[str, tuple[str, ...]] = {
            "evaluate": ("data.", "model.", "device", "threads"),
            "transfer": ("data.", "run", "seed", "threads"),
        }
        allowed["teacher-logits"] = ("data.", "teacher.", "method.", "threads", "precision")
        return {key: keys[key] for key in keys if key.startswith(allowed.get(command, ""))}

    def _typed(self, kind: Any) -> tuple[str, ...]:
        """Values of a type, most of them in its range."""
        text = str(kind)
        if "bool" in text:
            return ("true", "false", "auto")
        if "list" in text:
            return ("[0.5]", "[0.5,0.5,0.5]", "[0.2,0.8]", "[0.8,0.2]", "[layer1,layer2]", "[1e30]", "[-1]", "null")
        if "int" in text:
            return ("1", "2", "3", "5", "8", "16", "64", "0", "-1", "1000", "null")
        if "float" in text:
            return ("0.1", "0.5", "1", "2.5", "1e-3", "0", "-1", "1000", "1e30", "null")
        words = (
            "T",
            "S",
            "resnet8",
            "last",
            "best",
            "auto",
            "off",
            "trivial",
            "rand",
            "none",
            "store",
            "null",
            "sgd",
            "adamw",
        )
        return (
            *words,
            "student",
            "teacher",
            "both",
            "hard",
            "soft",
            "columns",
            "prototypes",
            "cosine",
            "step",
            "train.npz",
        )


class _Hangs(Exception):  # noqa: N818 (not an error of the program's)
    pass


@contextlib.contextmanager
def _surroundings() -> Iterator[None]:
    """No network, an alarm, no compiler, no further processes, and training that ends after a step."""
    from lightning_fabric.strategies.launchers.subprocess_script import _SubprocessScriptLauncher

    from mcld.engine.loop import Loop
    from mcld.errors import RunError

    train = Loop.train

    def short(self: Loop) -> Any:
        if self.total > 4:
            self.stop.signal = signal.SIGTERM
        return train(self)

    def refuse(*_: Any, **__: Any) -> Any:
        raise OSError("no network here")

    def alone(*_: Any, **__: Any) -> Any:
        # Each would be this whole process once more, and the first to end would end this one with SIGKILL.
        raise RunError("no further processes here")

    def ring(*_: Any) -> Any:
        waited, worked = time.monotonic() - began[0], time.process_time() - began[1]
        if worked < SECONDS / 2 and waited < 6 * SECONDS:  # the machine may have other things to do
            signal.alarm(SECONDS // 2)
        else:
            raise _Hangs

    began = time.monotonic(), time.process_time()
    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(SECONDS)
    try:
        with (
            mock.patch.object(Loop, "train", short),
            mock.patch.object(socket, "getaddrinfo", refuse),
            mock.patch.object(nn.Module, "compile", return_value=None),  # minutes
            mock.patch.object(_SubprocessScriptLauncher, "_call_children_scripts", alone),
        ):
            yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def run_line(words: Sequence[str]) -> tuple[int, str, str]:
    """Run a command line: the exit status, what it printed, its errors."""
    from mcld.cli.main import main

    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = main(list(words))
        except SystemExit as exit:
            status = int(exit.code or 0)
    return status, out.getvalue(), err.getvalue()


def check_line(number: int, words: list[str]) -> Fault | None:
    """Run a line in the working directory; what is wrong with what it did."""
    before = _listing()
    try:
        with _surroundings():
            status, _, err = run_line(words)
    except _Hangs:
        return Fault(number, words, f"more than {SECONDS} s\n{traceback.format_exc()}")
    except BaseException:
        return Fault(number, words, traceback.format_exc())
    if status == 2:
        lines = err.splitlines()
        if not err.startswith("mcld: ") or len(lines) != 1 or len(err) > 3000 or "\x1b" in err or "\0" in err:
            return Fault(number, words, f"not one plain line: {err[:2000]!r}")
        if (after := _listing()) != before:
            return Fault(number, words, f"refused ({err.strip()[:300]}), but wrote {sorted(after ^ before)[:5]}")
    if "Traceback" in err:
        return Fault(number, words, err)
    return None


def _listing() -> set[tuple[str, int, int]]:
    found = set()
    for where, _, names in os.walk("."):
        found.add((where, 0, 0))
        for name in names:
            if name == ".lock":  # opened to look whether somebody holds it
                found.add((os.path.join(where, name), 0, 0))  # noqa: PTH118
                continue
            status = os.lstat(os.path.join(where, name))  # noqa: PTH118
            found.add((os.path.join(where, name), status.st_mtime_ns, status.st_size))  # noqa: PTH118
    return found


def fuzz(folder: Path, seed: int, *, lines: int, seconds: float, log: Path | None = None) -> tuple[int, list[Fault]]:
    """Run random lines in a folder until there were enough or the time is over; how many, and what went wrong."""
    os.environ["MCLD_CACHE"] = str(folder / "cache")
    place = folder / "a" / "place"
    place.mkdir(parents=True)
    os.chdir(place)
    make_place(place)
    faults: list[Fault] = []
    generate, deadline = Generator(seed), time.monotonic() + seconds
    for number in range(lines):
        if time.monotonic() > deadline:
            return number, faults
        words = generate()
        for made in [*Path().glob("out*"), *Path().glob("exported*")]:
            shutil.rmtree(made) if made.is_dir() else made.unlink()
        if log is not None:
            log.write_text(f"{number} {words!r}\n")  # what it was when the process ends itself
        fault = check_line(number, words)
        if fault is not None:
            faults.append(fault)
            if log is not None:
                print(f"--- {number} {words!r}\n{fault.what}", flush=True)
    return lines, faults


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--lines", type=int, default=5000)
    parser.add_argument("--seconds", type=float, default=36000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--last", type=Path, default=Path(tempfile.gettempdir()) / "mcld-fuzz-last", help="the line that runs"
    )
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        done, found = fuzz(Path(folder), given.seed, lines=given.lines, seconds=given.seconds, log=given.last)
        os.chdir("/")
    print(f"{done} lines, {len(found)} faults")
    sys.exit(bool(found))

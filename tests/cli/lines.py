"""Random command lines: good ones, changed in a few places."""

import random
from typing import Any

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
    files = {"folder": ["path"], "csv": ["path"], "imagenet": ["path"], "arrays": ["train", "val"]}
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

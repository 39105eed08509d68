"""CIFAR-100: the standard pairs of the field.

Sources: the READMEs of RepDistiller, mdistiller, LSKD and DIST, and the reports of people who ran them again. Rows of
numbers are in the order of ``PAIRS``; None where no number is known.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence

from mcld.configs.published._types import Number, Option, Recipe, Row
from mcld.methods import method_class

Values = Sequence[float | None]

PAIRS = (
    ("resnet56", "resnet20"),
    ("resnet110", "resnet32"),
    ("resnet32x4", "resnet8x4"),
    ("wrn_40_2", "wrn_16_2"),
    ("wrn_40_2", "wrn_40_1"),
    ("vgg13", "vgg8"),
    ("resnet32x4", "ShuffleV1"),
    ("wrn_40_2", "ShuffleV1"),
    ("vgg13", "MobileNetV2"),
    ("ResNet50", "MobileNetV2"),
    ("resnet32x4", "ShuffleV2"),
    # LSKD's further pairs
    ("resnet110", "resnet20"),
    ("resnet32x4", "wrn_16_2"),
    ("resnet32x4", "wrn_40_2"),
    ("wrn_40_2", "resnet8x4"),
    ("wrn_40_2", "MobileNetV2"),
    # RepDistiller's further pair
    ("ResNet50", "vgg8"),
)

TEACHERS = {
    "resnet56": 72.34,
    "resnet110": 74.31,
    "resnet32x4": 79.42,
    "wrn_40_2": 75.61,
    "vgg13": 74.64,
    "ResNet50": 79.34,
}
STUDENTS = {
    "resnet20": 69.06,
    "resnet32": 71.14,
    "resnet8x4": 72.50,
    "wrn_16_2": 73.26,
    "wrn_40_1": 71.98,
    "vgg8": 70.36,
    "ShuffleV1": 70.50,
    "MobileNetV2": 64.60,
    "ShuffleV2": 71.82,
}

KD = (70.66, 73.08, 73.33, 74.92, 73.54, 72.98, 74.07, 74.83, 67.37, 67.35, 74.45, 70.67, *[None] * 4, 73.81)
KD_LSKD_README = (*[None] * 12, 74.90, 77.70, 73.97, 68.36, None)
FITNET = (69.21, 71.06, 73.50, 73.58, 72.24, 71.02, 73.59, 73.73, 64.14, 63.16, 73.54)
RKD = (69.61, 71.82, 71.90, 73.35, 72.22, 71.48, 72.28, 72.21, 64.52, 64.43, 73.21)
CRD = (71.16, 73.48, 75.51, 75.48, 74.14, 73.94, 75.11, 76.05, 69.73, 69.11, 75.65, 71.46, *[None] * 4, 74.30)
REVIEWKD = (71.89, 73.89, 75.63, 76.12, 75.09, 74.84, 77.45, 77.14, None, 69.89, 77.78)
REVIEWKD_FROM_MEMORY = (*[None] * 8, 70.37)
REVIEWKD_RERUN = (71.79, 73.61, 76.02, 76.27, 75.21, None, 76.94, 77.44, None, None, 77.86)
REVIEWKD_ISSUE_39 = (*[None] * 9, 69.88)
DKD = (71.97, 74.11, 76.32, 76.23, 74.81, 74.68, 76.45, 76.70, 69.71, 70.35, 77.07)
DKD_LSKD_README = (*[None] * 11, 71.06, 75.70, 78.46, 75.56, 69.28)
DOT = (None, None, 75.12, None, None, 73.77, *[None] * 4, 75.55)
DIST = ("71.75±.30", None, "76.31±.19", None, "74.43±.24", None, "76.34±.18", None, None, "68.66±.23", "77.35±.25")
CTKD = (71.19, 73.52, 73.39, 75.45, 73.93, 73.52, None, None, 68.50, 68.67, 75.37)
KD_LS = (71.43, 74.17, 76.62, 76.11, 74.37, 74.36, None, None, 68.61, 69.02, 75.56, 71.48, 75.26, 77.92, 77.11, 69.23)
KD_LS_LOG = (71.37, 74.01, 76.28, 75.59, 74.20, 74.50, None, None, 69.09, 69.03, 75.58)
DKD_LS = (72.32, 74.29, 77.01, 76.39, 74.89, 74.81, None, None, 69.98, 70.45, 77.37, 71.85, 76.19, 78.95, 76.75, 70.01)
MLKD = (72.19, 74.11, 77.08, 76.63, 75.35, 75.18, None, None, 70.57, 71.04, 78.44, 71.89, 76.52, 79.26, 77.33, 70.78)
MLKD_LS = (
    *(72.33, 74.32, 78.28, 76.95, 75.56, 75.22, None, None, 70.94, 71.19, 78.76),
    *(72.27, 77.53, 79.66, 77.68, 71.61),
)

CTKD_OPTIONS = {"start": 1.0, "span": 20.0, "decay": 10.0, "weight": 0.9}

SECOND_VIEW = (
    "the second view is augmented by RandAugment, 2 operations at strength 9 of 30; the published code's may differ"
)
TWO_RATES = "the sources differ about the lr of this student: 0.01 (LSKD), 0.0025 (MLKD)"
OURS = "ours: the paper's hyper-parameters were not available"
OUR_CLIP = 5.0  # without it the first steps at these learning rates can destroy the student


def base_lr(student: str) -> float:
    """The field's first learning rate: 0.01 for MobileNets and ShuffleNets, else 0.05."""
    return 0.01 if student.startswith(("MobileNet", "Shuffle")) else 0.05


def rows() -> Iterator[Row]:
    """All rows, networks alone first."""
    for name, top1 in (TEACHERS | STUDENTS).items():
        if name in TEACHERS:
            number = Number(top1, "RepDistiller README (the released teacher)", "last", "1 run")
        else:
            number = Number(top1, "RepDistiller README", "last", "mean of runs, number not stated")
        yield Row(f"cifar100/{name}", "cifar100", name, Recipe(lr=base_lr(name)), (number,))
    yield from _one_view()
    yield from _two_views()


def _one_view() -> Iterator[Row]:
    crd_paper = _numbers("RepDistiller README", "last", "mean of runs, number not stated")
    lskd = _numbers("LSKD README", "best")
    mdistiller = _numbers("mdistiller README", "best", "mean of 5 runs")
    unknown = _numbers("LSKD README, whose protocol for this row is not stated")

    kd = _join(crd_paper(KD), unknown(KD_LSKD_README))
    yield from _rows("kd", "kd", "KD", kd, {"temperature": 4.0, "weight": 0.9}, 0.1)
    fitnet = {"weight": 100.0, "stage": 2}
    yield from _rows("fitnet", "fitnet", "FitNet", _join(crd_paper(FITNET)), fitnet, 1.0)
    yield from _rows("rkd", "rkd", "RKD", _join(crd_paper(RKD)), {"distance": 25.0, "angle": 50.0}, 1.0)
    crd = {"weight": 0.8, "negatives": 16384, "temperature": 0.07, "momentum": 0.5, "dim": 128}
    yield from _rows("crd", "crd", "CRD", _join(crd_paper(CRD)), crd, 1.0)
    reviewkd = _join(
        _numbers("ReviewKD paper")(REVIEWKD),
        _numbers("ReviewKD paper, quoted from memory and unverified")(REVIEWKD_FROM_MEMORY),
        _numbers("rerun by others: DevPranjal/reproduction-review-kd")(REVIEWKD_RERUN),
        _numbers("rerun by others: mdistiller issue 39", note="lr 0.01, batch 64, weight 30")(REVIEWKD_ISSUE_39),
    )
    review = {"weight": 1.0, "warmup": 20.0}
    note = "the weight of this pair was not available; 1 here"
    for row in _rows("reviewkd", "reviewkd", "ReviewKD", reviewkd, review, 1.0, note=note):
        preset = method_class("reviewkd").presets.get(row.pair)
        if row.pair == "ResNet50-MobileNetV2":
            row = dataclasses.replace(row, options={**review, "weight": 30.0}, note="")
        elif preset:  # the authors' script, which has a recipe of its own
            lr = 0.02 if row.student.startswith("Shuffle") else 0.1
            recipe = dataclasses.replace(row.recipe, batch_size=128, lr=lr, nesterov=True)
            row = dataclasses.replace(row, options={**review, **preset}, recipe=recipe, note="")
        yield row

    rerun = (
        (*[None] * 2, Number(75.98, "rerun by others: mdistiller issue 7", "unknown", "mean of 5 runs")),
        (*[None] * 3, Number(75.5, "rerun by others: mdistiller issue 8", "unknown", "mean of 4 runs")),
        (*[None] * 4, Number(73.3, "rerun by others: mdistiller issue 51")),
    )
    dkd = _join(mdistiller(DKD), unknown(DKD_LSKD_README), *rerun)
    for row in _rows("dkd", "dkd", "DKD", dkd, {"alpha": 1.0, "temperature": 4.0, "warmup": 20.0}, 1.0):
        preset = method_class("dkd").presets.get(row.pair)
        note = "" if preset else "beta of this pair was not available; 6 here"
        yield dataclasses.replace(row, options={**row.options, **(preset or {"beta": 6.0})}, note=note)
    yield from _rows("kd-dot", "dot", "KD+DOT", _join(mdistiller(DOT)), {}, note="an optimizer of its own (DOT)")
    spread = [
        None if text is None else Number(float(text.split("±")[0]), "DIST README", note=f"{text}, mean ± deviation")
        for text in DIST
    ]
    dist = {"beta": 2.0, "gamma": 2.0, "temperature": 4.0}
    yield from _rows("dist", "dist", "DIST", _join(spread), dist, 1.0)
    ctkd = _numbers("CTKD's own, quoted in LSKD README")(CTKD)
    yield from _rows("ctkd", "ctkd", "CTKD", _join(ctkd), CTKD_OPTIONS, 0.1)

    kd_ls = _join(lskd(KD_LS), _numbers("the one published log of LSKD", "last", "1 run")(KD_LS_LOG))
    for row in _rows("kd-ls", "kd", "KD+LS", kd_ls, {}, 0.1):
        presets = method_class("kd").presets
        yield dataclasses.replace(row, options=presets.get(f"{row.pair}-lskd", presets["lskd"]))
    dkd_ls = {"standardize": True, "alpha": 9.0, "beta": 18.0, "temperature": 2.0, "warmup": 20.0}
    note = "alpha 1 and beta 2 times a weight; the weight of each pair (9 to 18) was not available, 9 here"
    yield from _rows("dkd-ls", "dkd", "DKD+LS", _join(lskd(DKD_LS)), dkd_ls, 1.0, note=note)

    for row in _rows("ckd", "ckd", "CKD", [()] * len(PAIRS[:11]), {"weight": 100.0, "temperature": 1.0}, 1.0):
        yield dataclasses.replace(
            row,
            recipe=dataclasses.replace(row.recipe, epochs=480, decays=()),
            options={**row.options, **method_class("ckd").presets.get(row.pair, {})},
            note="numbers are in arXiv 2404.14109 only; the batch is 32 or 64 there, 64 here",
        )
    for row in _rows("mcld", "mcld", "MCLD", [()] * len(PAIRS), {}, 1.0, note=OURS):
        yield dataclasses.replace(row, recipe=dataclasses.replace(row.recipe, clip=OUR_CLIP))


def _two_views() -> Iterator[Row]:
    mlkd = _numbers("MLKD's own, quoted in LSKD README", "best")(MLKD)
    lskd = _numbers("LSKD README", "best")(MLKD_LS)
    for name, title, numbers, options in (
        ("mlkd", "MLKD", mlkd, {"temperature": 4.0, "weight": 0.9}),
        ("mlkd-ls", "MLKD+LS", lskd, {"temperature": 2.0, "weight": 9.0, "standardize": True}),
    ):
        for row in _rows(
            name, "mlkd", title, _join(numbers), {**options, "strong_ce_weight": 0.1, "as_published": True}, 0.1
        ):
            small = base_lr(row.student) < 0.05
            yield dataclasses.replace(
                row,
                recipe=dataclasses.replace(row.recipe, epochs=480, lr=0.01 if small else 0.025),
                views=2,
                second_policy="rand",
                note=f"{SECOND_VIEW}; {TWO_RATES}" if small else SECOND_VIEW,
            )


def _rows(
    name: str,
    method: str,
    title: str,
    numbers: Sequence[tuple[Number, ...]],
    options: Mapping[str, Option],
    ce_weight: float | None = None,
    note: str = "",
) -> Iterator[Row]:
    """A row for each pair that has a number, or for each of those given when none has any."""
    wanted = any(numbers)
    for (teacher, student), found in zip(PAIRS, numbers, strict=False):
        if found or not wanted:
            yield Row(
                f"cifar100/{teacher}-{student}/{name}",
                "cifar100",
                student,
                Recipe(lr=base_lr(student)),
                found,
                teacher,
                method,
                title,
                options,
                ce_weight,
                note=note,
            )


def _numbers(
    source: str, epoch: str = "unknown", runs: str = "unknown", note: str = ""
) -> Callable[[Values], list[Number | None]]:
    def made(values: Values) -> list[Number | None]:
        return [None if v is None else Number(v, source, epoch, runs, note) for v in values]  # type: ignore[arg-type]

    return made


def _join(*lists: Sequence[Number | None]) -> list[tuple[Number, ...]]:
    """All numbers of each pair, in the order of the lists."""
    columns = range(len(PAIRS))
    return [tuple(n for numbers in lists if i < len(numbers) and (n := numbers[i])) for i in columns]

"""CIFAR-100: methods on features and relations."""

import dataclasses
from collections.abc import Iterator

from mcld.configs.published import _cifar100_numbers as values
from mcld.configs.published._cifar100_numbers import PAIRS, USUAL
from mcld.configs.published._cifar100_rows import join, make_rows, notes, numbers_of
from mcld.configs.published._types import Option, Row
from mcld.methods import method_class

CRD_OPTIONS: dict[str, Option] = {
    "weight": 0.8,
    "negatives": 16384,
    "temperature": 0.07,
    "momentum": 0.5,
    "dim": 128,
}
FIRST_HALF = "the paraphraser is trained along with the student; RepDistiller trains it for 30 epochs before"
AVERAGED = {  # what the classifier reads the average of, where no stage ends with it
    **dict.fromkeys(("wrn_40_2", "wrn_16_2", "wrn_40_1", "ShuffleV2"), "[relu]"),
    "MobileNetV2": "[conv2]",
}
NO_RECIPE = "weight and recipe of this pair were not available; weight 1 and the field's recipe here"
OTHER_SCALING = "the authors scale images by CIFAR-10's mean and deviation"
TRAINING_TEACHER = (
    "their teacher is in training mode, so that it normalises by the batch; here it is in evaluation mode"
)


def rows() -> Iterator[Row]:
    """All of them, method by method."""
    yield from _repdistiller()
    yield from _reviewkd()
    numbers = join(numbers_of("SimKD README", "best", note="reduction 2")(values.SIMKD))
    note = "the projector here is on pooled features; the authors' has three convolutions on maps"
    yield from make_rows("simkd", "simkd", "SimKD", numbers, {"weight": 1.0}, 0.0, note)
    ofd = join(numbers_of("OFD README", note="100 − error")(values.OFD))
    note = notes("the authors pad images by reflection, we with zeros", OTHER_SCALING, TRAINING_TEACHER)
    yield from make_rows("ofd", "ofd", "OFD", ofd, {"weight": 0.001}, 1.0, note)
    note = "mdistiller's configuration; no number of it is known to us"
    for row in make_rows("ofd", "ofd", "OFD", [()] * len(PAIRS), {"weight": 0.001}, 1.0, note):
        if row.pair == "resnet32x4-resnet8x4":
            yield row
    presets = method_class("catkd").presets
    note = "numbers are in the paper (arXiv 2304.12777) only"
    for row in make_rows("catkd", "catkd", "CAT-KD", [()] * USUAL, {}, 1.0, note):
        further = tuple(
            f"{role}.maps={AVERAGED[network]}"
            for role, network in (("teacher", row.teacher or ""), ("student", row.student))
            if network in AVERAGED
        )
        options = {"side": 2, "normalize": True, **presets[row.pair]}
        yield dataclasses.replace(row, options=options, further=further)


def _repdistiller() -> Iterator[Row]:
    of = numbers_of("RepDistiller README", "last", "mean of runs, number not stated")
    fitnet = {"weight": 100.0, "stage": 2}
    yield from make_rows("fitnet", "fitnet", "FitNet", join(of(values.FITNET)), fitnet, 1.0)
    yield from make_rows("at", "at", "AT", join(of(values.AT)), {"weight": 1000.0}, 1.0)
    yield from make_rows("sp", "sp", "SP", join(of(values.SP)), {"weight": 3000.0}, 1.0)
    yield from make_rows("cc", "cc", "CC", join(of(values.CC)), {"weight": 0.02, "as_published": True}, 1.0)
    yield from make_rows("vid", "vid", "VID", join(of(values.VID)), {"weight": 1.0}, 1.0)
    yield from make_rows("rkd", "rkd", "RKD", join(of(values.RKD)), {"distance": 25.0, "angle": 50.0}, 1.0)
    yield from make_rows("pkt", "pkt", "PKT", join(of(values.PKT)), {"weight": 30000.0}, 1.0)
    yield from make_rows(
        "ft", "ft", "FT", join(of(values.FT)), {"weight": 200.0, "as_published": True}, 1.0, FIRST_HALF
    )
    yield from make_rows("nst", "nst", "NST", join(of(values.NST)), {"weight": 50.0}, 1.0)
    yield from make_rows("crd", "crd", "CRD", join(of(values.CRD)), CRD_OPTIONS, 1.0)


def _reviewkd() -> Iterator[Row]:
    numbers = join(
        numbers_of("ReviewKD paper")(values.REVIEWKD),
        numbers_of("ReviewKD paper, quoted from memory and unverified")(values.REVIEWKD_FROM_MEMORY),
        numbers_of("rerun by others: DevPranjal/reproduction-review-kd")(values.REVIEWKD_RERUN),
        numbers_of("rerun by others: mdistiller issue 39", note="lr 0.01, batch 64, weight 30")(
            values.REVIEWKD_ISSUE_39
        ),
    )
    options: dict[str, Option] = {"weight": 1.0, "warmup": 20.0}
    presets = method_class("reviewkd").presets
    for row in make_rows("reviewkd", "reviewkd", "ReviewKD", numbers, options, 1.0, NO_RECIPE):
        if row.pair == "ResNet50-MobileNetV2":
            note = "weight, lr and batch of mdistiller issue 39; the authors' were not available"
            row = dataclasses.replace(row, options={**options, "weight": 30.0}, note=note)
        elif preset := presets.get(row.pair):  # the authors' script, which has a recipe of its own
            lr = 0.02 if row.student.startswith("Shuffle") else 0.1
            recipe = dataclasses.replace(row.recipe, batch_size=128, lr=lr, nesterov=True, decays=(151, 181, 211))
            row = dataclasses.replace(
                row, options={**options, **preset}, recipe=recipe, note=notes(OTHER_SCALING, TRAINING_TEACHER)
            )
        yield row

"""CIFAR-100: the methods of 2023 and later, from their own repositories and papers.

Numbers that we know second-hand only are not here; such a row has its authors' settings and says where its numbers are.
"""

import dataclasses
from collections.abc import Iterator, Mapping

from mcld.configs.published._cifar100_numbers import PAIRS, USUAL
from mcld.configs.published._cifar100_rows import base_lr, make_rows
from mcld.configs.published._types import Number, Option, Recipe, Row
from mcld.methods import method_class

RLD_PAIRS = {  # those of the authors' configurations
    *("resnet56-resnet20", "resnet110-resnet32", "resnet32x4-resnet8x4", "wrn_40_2-wrn_16_2", "wrn_40_2-wrn_40_1"),
    *("vgg13-vgg8", "vgg13-MobileNetV2", "ResNet50-MobileNetV2", "resnet32x4-ShuffleV2", "resnet110-resnet20"),
    *("resnet32x4-wrn_16_2", "resnet32x4-wrn_40_2", "wrn_40_2-resnet8x4", "wrn_40_2-MobileNetV2"),
}
CRLD_PAIRS = RLD_PAIRS - {"resnet110-resnet20", "resnet32x4-wrn_40_2"}

SKD = {  # with teachers of their own: 72.40, 74.31, 79.34, 75.59, 75.59, 74.64
    "resnet56-resnet20": 72.50,
    "resnet110-resnet32": 74.84,
    "resnet32x4-resnet8x4": 78.33,
    "wrn_40_2-wrn_16_2": 76.60,
    "wrn_40_2-wrn_40_1": 76.04,
    "vgg13-vgg8": 75.75,
}
SKD_ALONE = {
    "resnet56-resnet20": 65.79,
    "resnet110-resnet32": 67.92,
    "resnet32x4-resnet8x4": 72.48,
    "wrn_40_2-wrn_16_2": 71.12,
    "wrn_40_2-wrn_40_1": 69.54,
    "vgg13-vgg8": 68.19,
}
WKD = {"resnet32x4-resnet8x4": 76.53, "wrn_40_2-ShuffleV1": 76.72}
PLD = {
    "wrn_40_2-wrn_40_1": (73.50, "73.50±0.30"),
    "resnet56-resnet20": (70.28, "70.28±0.21"),
    "resnet32x4-resnet8x4": (73.97, "73.97±0.05"),
    "ResNet50-MobileNetV2": (68.16, "68.16±0.38"),
}
SDD_KD = {
    "resnet32x4-resnet8x4": (75.59, 75.31),
    "resnet32x4-ShuffleV1": (76.44, 75.98),
    "resnet32x4-ShuffleV2": (76.50, 76.83),
    "vgg13-vgg8": (73.54, 73.40),
    "vgg13-MobileNetV2": (68.87, 68.48),
    "ResNet50-MobileNetV2": (69.51, 69.54),
}
SDD_DKD = {
    "resnet32x4-ShuffleV1": (77.36, 77.83),
    "resnet32x4-ShuffleV2": (78.15, 78.01),
    "vgg13-vgg8": (74.31, 74.48),
    "vgg13-MobileNetV2": (70.61, 70.02),
    "ResNet50-MobileNetV2": (71.61, 71.41),
}
SDD_MAPS = {"ShuffleV2": "[relu]", "MobileNetV2": "[conv2]"}  # whose last stage is not what is averaged

PLD_RECIPE = Recipe(epochs=250, batch_size=128, lr=0.001, weight_decay=0.5, decays=(), optimizer="adamw")


def rows() -> Iterator[Row]:
    """All of them, method by method."""
    yield from _skd()
    note = "numbers are in the paper (arXiv 2408.07703) only"
    options: dict[str, Option] = {"temperature": 4.0, "alpha": 1.0, "beta": 8.0, "warmup": 20.0}
    yield from (row for row in make_rows("rld", "rld", "RLD", _all(), options, 1.0, note) if row.pair in RLD_PAIRS)
    note = "numbers are in the paper (ACM MM 2024) only"
    options = {"temperature": 4.0, "within": 2.0, "across": 0.5, "weak_confidence": 0.9, "strong_confidence": 0.2}
    for row in make_rows("crld", "crld", "CRLD", _all(), {**options, "strong_ce_weight": 1.0}, 1.0, note):
        if row.pair in CRLD_PAIRS:
            yield dataclasses.replace(row, views=2, second_policy="fixmatch")
    note = "numbers are in the paper (arXiv 2507.15911) only; their code warms the learning rate up over 20 epochs, too"
    options = {"temperature": 4.0, "alpha": 10.5, "beta": 7.0, "depth": 7}
    yield _one("resnet32x4-resnet8x4", "ldrld", "ldrld", "LDRLD", (), options, 1.0, note)
    note = "what classes cost is 1 − cosine of the teacher's class weights here, linear CKA of their images there"
    for pair, top1 in WKD.items():
        preset: Mapping[str, Option] = method_class("wkd").presets[pair]
        yield _one(pair, "wkd", "wkd", "WKD-L", (Number(top1, "WKD README"),), preset, 1.0, note)
    note = "in their protocol KD has 72.44, 69.45, 72.11 and 66.61 for their four pairs"
    for pair, (top1, spread) in PLD.items():
        number = Number(top1, "PLD paper, table 1", runs="mean of 3 runs", note=f"{spread}, mean ± deviation")
        row = _one(pair, "pld", "pld", "PLD", (number,), {"temperature": 4.0}, 0.0, note)
        yield dataclasses.replace(row, recipe=PLD_RECIPE)
    yield from _sdd()
    note = "numbers are in the paper (arXiv 2308.00520) only"
    yield from make_rows("normkd", "normkd", "NormKD", _all(USUAL), {"temperature": 2.0}, 0.1, note)
    note = "numbers are in the paper (arXiv 2311.13621) only"
    options = {"temperature": 3.0, "as_published": True}
    yield _one("resnet32x4-resnet8x4", "eakd", "eakd", "EA-KD", (), options, 0.1, note)
    yield _one("resnet32x4-resnet8x4", "dkd-eakd", "eakd", "EA-DKD", (), {"of": "dkd", **options}, 1.0, note)


def _skd() -> Iterator[Row]:
    presets = method_class("skd").presets
    for pair, top1 in SKD.items():
        best = pair == "resnet32x4-resnet8x4"
        note = f"teachers and students of their own: the student alone has {SKD_ALONE[pair]} there" + (
            "" if best else "; the weights of this pair were not available, their code's defaults here"
        )
        options: Mapping[str, Option] = presets[pair if best else "published"]
        number = Number(top1, "SKD README")
        row = _one(pair, "skd", "skd", "SKD", (number,), options, 0.5 if best else 0.1, note)
        yield dataclasses.replace(row, recipe=dataclasses.replace(row.recipe, lr=0.1))


def _sdd() -> Iterator[Row]:
    for of, title, found, ce_weight in (("kd", "SD-KD", SDD_KD, 0.1), ("dkd", "SD-DKD", SDD_DKD, 1.0)):
        for pair, (one, two) in found.items():
            number = Number(
                round((one + two) / 2, 2), "SDD's own scripts", runs="mean of 2 runs", note=f"{one:.2f} and {two:.2f}"
            )
            grid = 2 if pair in ("resnet32x4-resnet8x4", "vgg13-vgg8") else 4
            row = _one(pair, f"sd-{of}", "sdd", title, (number,), {"of": of, "grid": grid}, ce_weight)
            maps = SDD_MAPS.get(row.student)
            yield dataclasses.replace(row, further=(f"student.maps={maps}",) if maps else ())


def _all(count: int = len(PAIRS)) -> list[tuple[Number, ...]]:
    """No number for any pair."""
    return [()] * count


def _one(
    pair: str,
    name: str,
    method: str,
    title: str,
    numbers: tuple[Number, ...],
    options: Mapping[str, Option],
    ce_weight: float,
    note: str = "",
) -> Row:
    teacher, _, student = pair.partition("-")
    recipe = Recipe(lr=base_lr(student))
    where = f"cifar100/{pair}/{name}"
    return Row(where, "cifar100", student, recipe, numbers, teacher, method, title, options, ce_weight, note=note)

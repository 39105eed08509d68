"""CIFAR-100: the standard pairs of the field.

Sources: the READMEs, configurations, scripts and logs of RepDistiller, mdistiller, LSKD, MLKD, CTKD, DIST, CKD, TTM,
ReviewKD, SimKD, CAT-KD, SLD, OFD, SKD, RLD, CRLD, LDRLD, WKD, SDD, NormKD and EA-KD, the paper of PLD, and the reports
of people who ran them again; ``docs/peers.md`` has the commits.
"""

import dataclasses
from collections.abc import Iterator

from mcld.configs.published import _cifar100_features, _cifar100_later, _cifar100_logits
from mcld.configs.published._cifar100_numbers import OFD_NETWORKS, STUDENTS, TEACHERS
from mcld.configs.published._cifar100_rows import base_lr
from mcld.configs.published._types import Number, Recipe, Row

OFD_RECIPE = Recipe(epochs=200, batch_size=128, lr=0.1, decays=(100, 150), nesterov=True)


def rows() -> Iterator[Row]:
    """All rows, networks alone first."""
    for name, top1 in (TEACHERS | STUDENTS).items():
        if name in TEACHERS:
            number = Number(top1, "RepDistiller README (the released teacher)", "last", "1 run")
        else:
            number = Number(top1, "RepDistiller README", "last", "mean of runs, number not stated")
        yield Row(f"cifar100/{name}", "cifar100", name, Recipe(lr=base_lr(name)), (number,))
    for name, top1 in OFD_NETWORKS.items():
        number = Number(top1, "OFD README")
        yield Row(f"cifar100/{name}", "cifar100", name, OFD_RECIPE, (number,), note="the recipe is OFD's for students")
    for row in _cifar100_features.rows():
        if row.method == "ofd" and row.numbers:
            row = dataclasses.replace(row, recipe=OFD_RECIPE)
        yield row
    yield from _cifar100_logits.rows()
    yield from _cifar100_later.rows()

"""ImageNet: ResNet-34 to ResNet-18, and ResNet-50 to MobileNet.

Where a table or a folder of the field says MobileNetV2, the student of this line of papers is MobileNetV1; mmrazor's
really is V2.
"""

import dataclasses
from collections.abc import Iterator, Mapping

from mcld.configs.published._cifar100_features import CRD_OPTIONS, FIRST_HALF
from mcld.configs.published._cifar100_logits import CTKD_OPTIONS, OUR_CLIP, OURS
from mcld.configs.published._types import Number, Option, Recipe, Row
from mcld.methods import method_class

MDISTILLER = Recipe(epochs=100, batch_size=512, lr=0.2, weight_decay=1e-4, decays=(30, 60, 90))
SMALLER = Recipe(epochs=100, batch_size=256, lr=0.1, weight_decay=1e-4, decays=(30, 60, 90))
TORCHVISION = Recipe(epochs=90, batch_size=256, lr=0.1, weight_decay=1e-4, decays=(30, 60))
CTKD = Recipe(epochs=120, batch_size=256, lr=0.1, weight_decay=1e-4, decays=(30, 60, 90))
DIST = dataclasses.replace(SMALLER, nesterov=True, decay_norms=False)
OFD = dataclasses.replace(SMALLER, decays=(29, 59, 89))
CKD = Recipe(epochs=200, batch_size=512, lr=0.2, weight_decay=1e-4, decays=())

R34 = ("resnet34-resnet18", "torchvision/resnet34", "torchvision/resnet18")
R50 = ("resnet50-MobileNetV1", "torchvision/resnet50", "MobileNetV1")
R50_V2 = ("resnet50-mobilenet_v2", "torchvision/resnet50", "torchvision/mobilenet_v2")

OWN_RECIPE = "a recipe of its own"
OPENMMLAB = "teacher and student alone are OpenMMLab's: 69.90 for ResNet-18, 69.21 for MobileNet"


Pair = tuple[str, str, str]


def rows() -> Iterator[Row]:
    """All rows, networks alone first."""
    for name, model, top1, note in (
        ("resnet34", "torchvision/resnet34", 73.31, ""),
        ("resnet18", "torchvision/resnet18", 69.75, "69.76 in other papers"),
        ("resnet50", "torchvision/resnet50", 76.13, "76.16 in other papers"),
    ):
        number = Number(top1, "torchvision, weights V1", runs="1 run", note=note)
        yield Row(f"imagenet/{name}", "imagenet", model, TORCHVISION, (number,), note="torchvision's recipe for V1")
    number = Number(68.87, "the line of papers from ReviewKD and DKD on", note="68.87 to 70.13 among them")
    yield Row("imagenet/MobileNetV1", "imagenet", "MobileNetV1", MDISTILLER, (number,))
    yield from _kd()
    yield from _logits()
    yield from _others()
    for pair in (R34, R50):
        recipe = dataclasses.replace(MDISTILLER, clip=OUR_CLIP)
        yield _row(pair, "mcld", "mcld", "MCLD", recipe, (), {}, 1.0, OURS)


def _kd() -> Iterator[Row]:
    options: dict[str, Option] = {"temperature": 1.0, "weight": 0.5}
    numbers: tuple[Number, ...] = (
        Number(71.03, "mdistiller README", "best"),
        Number(71.21, "DIST README", note="temperature 4"),
        Number(71.37, "torchdistill", "best", note=OWN_RECIPE),
        Number(70.83, "CTKD README", note=OWN_RECIPE),
    )
    yield _row(R34, "kd", "kd", "KD", MDISTILLER, numbers, options, 0.5)
    yield _row(R50, "kd", "kd", "KD", MDISTILLER, (Number(70.50, "mdistiller README", "best"),), options, 0.5)

    options = {"temperature": 1.0, "weight": 3.0}
    note = "batch, lr and decays are from memory of the OpenMMLab recipe, unverified"
    for pair, number in (
        (R34, Number(71.81, "mmrazor", note="its teacher has 73.62, its student alone 69.90")),
        (R50_V2, Number(73.56, "mmrazor", note="its student alone has 71.86")),
    ):
        yield _row(pair, "kd-mmrazor", "kd", "KD (mmrazor)", SMALLER, (number,), options, 1.0, note)

    options = {"standardize": True, "temperature": 2.0, "weight": 9.0}
    numbers = (
        Number(71.42, "LSKD paper", "best"),
        Number(71.45, "the published log of LSKD", "best", "1 run"),
        Number(71.26, "the published log of LSKD", "last", "1 run"),
        Number(71.23, "torchdistill", "best", note=OWN_RECIPE),
    )
    yield _row(R34, "kd-ls", "kd", "KD+LS", MDISTILLER, numbers, options, 1.0)


def _logits() -> Iterator[Row]:
    options: dict[str, Option] = {"alpha": 1.0, "temperature": 1.0, "warmup": 1.0}
    numbers: tuple[Number, ...] = (
        Number(71.70, "mdistiller README", "best"),
        Number(71.37, "mmrazor"),
        Number(72.59, "PaddleClas", note="a recipe of its own, its student alone has 70.8"),
        Number(71.13, "CTKD README", note=OWN_RECIPE),
    )
    yield _row(R34, "dkd", "dkd", "DKD", MDISTILLER, numbers, {**options, "beta": 0.5}, 1.0)
    number = Number(72.05, "mdistiller README", "best")
    yield _row(R50, "dkd", "dkd", "DKD", MDISTILLER, (number,), {**options, "beta": 2.0}, 1.0)

    options = {"beta": 2.0, "gamma": 2.0, "temperature": 1.0}
    numbers = (
        Number(72.07, "DIST README"),
        Number(71.95, "torchdistill", "best", note=OWN_RECIPE),
        Number(71.61, "mmrazor"),
        Number(71.99, "PaddleClas", note=OWN_RECIPE),
    )
    options["as_published"] = True
    note = "the authors correlate a class through the 32 images of each of 8 GPUs, here it is through all 256 of a step"
    yield _row(R34, "dist", "dist", "DIST", DIST, numbers, options, 1.0, note)
    yield _row(R50, "dist", "dist", "DIST", DIST, (Number(73.24, "DIST README"),), options, 1.0, note)
    numbers = (Number(72.39, "as claimed"), Number(71.37, "torchdistill", "best"))
    yield _row(R34, "dist-plus", "dist_plus", "DIST+", SMALLER, numbers)

    note = "their teacher has 73.96 and their student alone 70.26"
    ctkd: dict[str, Option] = {**CTKD_OPTIONS, "weight": 1.0, "decay": 5.0}
    yield _row(R34, "ctkd", "ctkd", "CTKD", CTKD, (Number(71.32, "CTKD README"),), ctkd, 1.0, note)
    yield _row(R34, "dkd-ctkd", "dkd_ctkd", "DKD+CTKD", CTKD, (Number(71.51, "CTKD README"),))
    note = "options of cls_KD's configuration; mmrazor's were not available"
    wsld: dict[str, Option] = {"temperature": 2.0, "weight": 2.5}
    yield _row(R34, "wsld", "wsld", "WSLD", SMALLER, (Number(71.54, "mmrazor"),), wsld, 1.0, note)
    yield from _nkd()
    yield from _ttm()
    yield from _later()
    note = (
        "numbers are in the paper (arXiv 2404.14109) only; there each GPU, of a number not stated, has its own contrast"
    )
    for pair in (R34, R50):
        yield _row(pair, "ckd", "ckd", "CKD", CKD, (), {"weight": 10.0, "temperature": 1.0}, 1.0, note)
    note = "numbers are in the paper (arXiv 2504.20108) only"
    for pair, ce_weight in ((R34, 0.5), (R50, 1.0)):
        sld: dict[str, Option] = {"weight": 0.5, "start": 1.0, "strong_ce_weight": ce_weight, "as_published": True}
        late = "it comes in after epoch 150 in their code, so never within these 100"
        row = _row(pair, "sld", "sld", "SLD", MDISTILLER, (), sld, ce_weight, f"{note}; the second teacher: {late}")
        yield dataclasses.replace(row, views=2, second_policy="fixmatch")


def _later() -> Iterator[Row]:
    """The methods of 2024 and later, from their own repositories."""
    note = "numbers are in the paper (arXiv 2408.07703) only"
    for pair in (R34, R50):
        rld: dict[str, Option] = {"alpha": 1.0, **method_class("rld").presets[f"imagenet-{pair[0]}"]}
        yield _row(pair, "rld", "rld", "RLD", MDISTILLER, (), rld, 1.0, note)
    note = "numbers are in the paper (ACM MM 2024) only"
    for pair in (R34, R50):
        row = _row(pair, "crld", "crld", "CRLD", MDISTILLER, (), method_class("crld").presets["imagenet"], 2.0, note)
        yield dataclasses.replace(row, views=2, second_policy="fixmatch")
    note = "what classes cost is 1 − cosine of the teacher's class weights here, linear CKA of their logits there"
    for pair, top1 in ((R34, 72.49), (R50, 73.17)):
        wkd = method_class("wkd").presets[f"imagenet-{pair[0]}"]
        yield _row(pair, "wkd", "wkd", "WKD-L", SMALLER, (Number(top1, "WKD README"),), wkd, 1.0, note)
    options: dict[str, Option] = {"temperature": 1.0}
    note = "numbers are in the paper (arXiv 2308.00520) only"
    for pair in (R34, R50):
        row = _row(pair, "normkd", "normkd", "NormKD", MDISTILLER, (), options, 0.5, note)
        yield dataclasses.replace(row, further=("method.options.weight=0.5",))


def _nkd() -> Iterator[Row]:
    options: dict[str, Option] = {"temperature": 1.0, "gamma": 1.5}
    number = Number(71.96, "cls_KD README")
    yield _row(R34, "nkd", "nkd", "NKD", SMALLER, (number,), options, 1.0, OPENMMLAB)
    clipped = dataclasses.replace(SMALLER, clip=5.0)
    yield _row(R50, "nkd", "nkd", "NKD", clipped, (Number(72.58, "cls_KD README"),), options, 1.0, OPENMMLAB)


def _ttm() -> Iterator[Row]:
    options: dict[str, Option] = {"temperature": 5.0, "weight": 4.0}
    note = "γ, β and the recipe for ImageNet were not available; γ 0.2 and β 4 are those of an example for CIFAR-100"
    for pair, top1 in ((R34, 72.19), (R50, 73.09)):
        yield _row(pair, "wttm", "wttm", "WTTM", SMALLER, (Number(top1, "TTM README"),), options, 1.0, note)


def _others() -> Iterator[Row]:
    """Features, relations, and what is not here."""
    numbers = (Number(71.17, "CRD paper, quoted in TTM README"), Number(70.93, "torchdistill", "best", note=OWN_RECIPE))
    note = "mdistiller's configuration"
    yield _row(R34, "crd", "crd", "CRD", SMALLER, numbers, CRD_OPTIONS, 1.0, note)
    number = Number(71.37, "quoted in TTM README")
    yield _row(R50, "crd", "crd", "CRD", SMALLER, (number,), CRD_OPTIONS, 1.0, note)

    numbers = (Number(71.61, "ReviewKD README"), Number(71.64, "torchdistill", "best", note=OWN_RECIPE))
    review: dict[str, Option] = {"warmup": 0.0, "preactivation": "both"}
    r34: dict[str, Option] = {**review, "weight": 1.0, "width": 512}
    yield _row(R34, "reviewkd", "reviewkd", "ReviewKD", SMALLER, numbers, r34, 1.0)
    number = Number(72.56, "ReviewKD README")
    r50: dict[str, Option] = {**review, "weight": 8.0, "width": 256}
    yield _row(R50, "reviewkd", "reviewkd", "ReviewKD", SMALLER, (number,), r50, 1.0)

    number = Number(71.25, "OFD README", note="100 − error")
    note = "the authors' teacher is in training mode, so that it normalises by the batch; here it is in evaluation mode"
    yield _row(R50, "ofd", "ofd", "OFD", OFD, (number,), {"weight": 0.0001}, 1.0, note)
    numbers = (Number(70.70, "AT, quoted by torchdistill"), Number(70.90, "torchdistill", "best", note=OWN_RECIPE))
    note = "mdistiller's configuration"
    yield _row(R34, "at", "at", "AT", MDISTILLER, numbers, {"weight": 1000.0}, 1.0, note)
    number = Number(71.56, "torchdistill", "best", note=OWN_RECIPE)
    note = f"weight and batch of torchdistill's configuration, whose teacher's factor is another; {FIRST_HALF}"
    ft: dict[str, Option] = {"weight": 1000.0, "as_published": True}
    yield _row(R34, "ft", "ft", "FT", dataclasses.replace(SMALLER, epochs=90), (number,), ft, 1.0, note)
    presets = method_class("catkd").presets
    note = "the authors' configuration; the number is quoted second-hand"
    for pair, top1 in ((R34, 71.26), (R50, 72.24)):
        cat: dict[str, Option] = {"side": 2, "normalize": True, **presets[f"imagenet-{pair[0]}"]}
        number = Number(top1, "CAT-KD paper, quoted by wizwand.com")
        yield _row(pair, "catkd", "catkd", "CAT-KD", MDISTILLER, (number,), cat, 1.0, note)

    numbers = (Number(71.63, "as claimed"), Number(71.92, "torchdistill", "best"))
    note = "the authors' code adds KD with temperature 1 and weight 1, which is not here"
    yield _row(R34, "srd", "srd", "SRD", SMALLER, numbers, {"weight": 2.0, "alpha": 4.0}, 1.0, note)
    for name, claimed, again in (("SSKD", 71.62, 70.09), ("ICKD", 72.19, 68.34)):
        numbers = (Number(claimed, "as claimed"), Number(again, "torchdistill", "best"))
        note = "its recipe was not available; the method's own defaults"
        yield _row(R34, name.lower(), name.lower(), name, SMALLER, numbers, note=note)
    for pair, top1 in ((R34, 71.72), (R50, 73.09)):
        number = Number(top1, "mdistiller README", "best")
        recipe = dataclasses.replace(MDISTILLER, optimizer="dot", delta=0.09)
        kd: dict[str, Option] = {"temperature": 1.0, "weight": 0.5}
        yield _row(pair, "kd-dot", "kd", "KD+DOT", recipe, (number,), kd, 0.5)


def _row(
    pair: Pair,
    name: str,
    method: str,
    title: str,
    recipe: Recipe,
    numbers: tuple[Number, ...],
    options: Mapping[str, Option] | None = None,
    ce_weight: float | None = None,
    note: str = "",
) -> Row:
    label, teacher, student = pair
    return Row(
        f"imagenet/{label}/{name}",
        "imagenet",
        student,
        recipe,
        numbers,
        teacher,
        method,
        title,
        options or {},
        ce_weight,
        note=note,
    )

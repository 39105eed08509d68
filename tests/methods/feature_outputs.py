"""Made-up outputs of two networks, and methods made ready for them."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mcld import create_method
from mcld.methods import Method, Outputs, Shapes, list_methods, method_class

B, C, N = 6, 3, 20
STUDENT = Shapes(C, 5, ((2, 8, 8), (3, 4, 4), (5, 2, 2)))
TEACHER = Shapes(C, 7, ((4, 8, 8), (6, 8, 8), (7, 4, 4), (7, 2, 2)))
# SimKD's student has features as wide as the teacher's: it has a test of its own, below
NAMES = [n for n in list_methods() if method_class(n).family in ("features", "relations") and n != "simkd"]
OPTIONS: dict[str, dict[str, Any]] = {"crd": {"negatives": 8, "dim": 4}, "reviewkd": {"warmup": 0}}


def outputs(shapes: Shapes, seed: int, rows: int = B) -> Outputs:
    g = torch.Generator().manual_seed(seed)

    def draw(*size: int) -> Tensor:
        return torch.randn(*size, generator=g, dtype=torch.float64)

    maps = tuple(draw(rows, *shape) for shape in shapes.maps)
    logits, pooled = draw(rows, shapes.classes), draw(rows, shapes.pooled)
    if maps and maps[-1].shape[1] == shapes.pooled:  # as catkd expects
        pooled = maps[-1].mean(dim=(2, 3))
    return Outputs(
        logits,
        pooled,
        maps,
        (draw(shapes.classes, shapes.pooled), draw(shapes.classes)),
    )


def ready(name: str, student: Shapes = STUDENT, teacher: Shapes = TEACHER, **options: Any) -> Method:
    torch.manual_seed(0)
    method = create_method(name, **{**OPTIONS.get(name, {}), **options})
    method.prepare(student, teacher, images=N, epochs=10)
    return method.double()


LABELS = torch.arange(B) % C
INDEX = torch.arange(B) * 3


def total(method: Method, student: Outputs, teacher: Outputs, index: Tensor = INDEX) -> Tensor:
    return torch.stack(list(method(student, teacher, LABELS, 1.0, index).values())).sum()


def change(outputs: Outputs, f: Callable[[Tensor], Tensor]) -> Outputs:
    """Apply f to everything that has a row for each image."""
    assert outputs.pooled is not None
    return Outputs(f(outputs.logits), f(outputs.pooled), tuple(map(f, outputs.maps)), outputs.classifier)


def cast(outputs: Outputs, dtype: torch.dtype) -> Outputs:
    assert outputs.classifier is not None
    weight, bias = outputs.classifier
    assert bias is not None
    return change(outputs, lambda x: x.to(dtype))._replace(classifier=(weight.to(dtype), bias.to(dtype)))


def leaves(outputs: Outputs) -> tuple[Tensor, ...]:
    assert outputs.pooled is not None
    return (outputs.pooled, *outputs.maps)


S, T = outputs(STUDENT, 1), outputs(TEACHER, 2)
CAT_STUDENT, CAT_TEACHER = (Shapes(C, 5, ((5, 4, 4),)), Shapes(C, 7, ((7, 8, 8),)))


def pooled() -> tuple[Tensor, Tensor]:
    assert S.pooled is not None
    assert T.pooled is not None
    return S.pooled, T.pooled

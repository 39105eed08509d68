"""What a method on logits is held to."""

import torch
from torch import Tensor

from mcld.methods import Method, Outputs, Shapes

BATCH, CLASSES = 6, 4


def check_logit_method(method: Method, *, compiled: bool = True, gradient: bool = True) -> None:
    """Check a method on logits.

    Its terms are finite scalars; the gradient by the student's logits is that of the value, and none reaches the
    teacher; half precision is computed in float32; neither the order of the images nor that of the classes makes a
    difference; it says truly whether an image's loss depends on the others of the batch; compiled without a break it
    gives the same.

    Args:
        method: its state may change.
        compiled: whether to compile it, which takes seconds.
        gradient: whether its gradient is that of its value; not where it holds a part of its value constant.

    Raises:
        AssertionError: for the first rule that it breaks.
    """
    method.prepare(Shapes(CLASSES), Shapes(CLASSES), 100, 10)
    method = method.double()
    views = [_logits(2 * view) for view in range(method.views)]
    labels = torch.arange(BATCH) % CLASSES
    students = tuple(student.requires_grad_() for student, _ in views)
    teachers = [teacher.requires_grad_() for _, teacher in views]

    def total(*given: Tensor, rows: slice | Tensor = slice(None), classes: Tensor | None = None) -> Tensor:
        columns = torch.arange(CLASSES) if classes is None else classes
        s = [student[rows][:, columns] for student in given]
        t = [teacher[rows][:, columns] for teacher in teachers]
        terms = method(_outputs(s), _outputs(t), columns.argsort()[labels[rows]], 0.5)
        assert terms, "it has no terms"
        for name, value in terms.items():
            assert value.shape == (), f"the term {name!r} has shape {tuple(value.shape)}; expected a scalar"
            assert bool(value.isfinite()), f"the term {name!r} is {value.item()}"
        return torch.stack(list(terms.values())).sum()

    value = total(*students)
    if gradient:
        assert torch.autograd.gradcheck(total, students, raise_exception=False), "its gradient is not that of its value"
    value.backward()  # type: ignore[no-untyped-call]  # torch's own annotation
    assert all(teacher.grad is None for teacher in teachers), "a gradient reaches the teacher's logits"
    order = torch.randperm(BATCH, generator=torch.Generator().manual_seed(0))
    _same(total(*students, rows=order), value, "the order of the images makes a difference")
    renamed = torch.tensor([2, 0, 3, 1])
    _same(total(*students, classes=renamed), value, "the order of the classes makes a difference")
    halves = torch.stack([total(*students, rows=rows) for rows in (slice(0, 3), slice(3, 6))]).mean()
    alone = torch.allclose(halves, value, rtol=1e-9)
    if not method.requires_global_batch:
        assert alone, "an image's loss depends on the others of the batch, and requires_global_batch is False"
    method = method.float()
    for dtype in (torch.float16, torch.bfloat16):
        half = [(student.detach().to(dtype), teacher.detach().to(dtype)) for student, teacher in views]
        found = method(_outputs([s for s, _ in half]), _outputs([t for _, t in half]), labels, 0.5)
        wide = method(_outputs([s.float() for s, _ in half]), _outputs([t.float() for _, t in half]), labels, 0.5)
        for name, term in found.items():
            assert term.dtype is torch.float32, f"the term {name!r} of {dtype} logits is {term.dtype}; expected float32"
            _same(term, wide[name], f"the term {name!r} of {dtype} logits is not computed in float32")
    if compiled:
        torch._dynamo.reset()
        fast = torch.compile(method, backend="aot_eager", fullgraph=True)
        again = fast(_outputs([s.float() for s, _ in half]), _outputs([t.float() for _, t in half]), labels, 0.5)
        for name, term in again.items():
            _same(term, wide[name], f"compiled, the term {name!r} is another")


def _logits(seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    student, teacher = 2 * torch.randn(2, BATCH, CLASSES, generator=generator, dtype=torch.float64)
    return student, teacher


def _outputs(views: list[Tensor]) -> Outputs:
    return Outputs(views[0], other=Outputs(views[1]) if len(views) > 1 else None)


def _same(found: Tensor, expected: Tensor, message: str) -> None:
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-6), f"{message}: {found.item()} and {expected.item()}"

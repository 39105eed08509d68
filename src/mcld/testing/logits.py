"""What a method on logits is held to."""

import torch
from torch import Tensor

from mcld.methods import LogitMethod, Outputs, Shapes

BATCH, CLASSES = 6, 4


def check_logit_method(method: LogitMethod, *, compiled: bool = True) -> None:
    """Check a method on logits.

    Its terms are finite scalars; the gradient by the student's logits is that of the value, and none reaches the
    teacher; half precision is computed in float32; the order of the images makes no difference; it says truly whether
    an image's loss depends on the others of the batch; compiled without a break it gives the same.

    Args:
        method: its state may change.
        compiled: whether to compile it, which takes seconds.

    Raises:
        AssertionError: for the first rule that it breaks.
    """
    method.prepare(Shapes(CLASSES), Shapes(CLASSES), 100, 10)
    method = method.double()
    views = [_logits(2 * view) for view in range(method.views)]
    labels = torch.arange(BATCH) % CLASSES
    students = tuple(student.requires_grad_() for student, _ in views)
    teachers = [teacher.requires_grad_() for _, teacher in views]

    def total(*given: Tensor, rows: slice | Tensor = slice(None), other: LogitMethod | None = None) -> Tensor:
        s = [student[rows] for student in given]
        t = [teacher[rows] for teacher in teachers]
        terms = (other or method)(_outputs(s), _outputs(t), labels[rows], 0.5)
        assert terms, "it has no terms"
        for name, value in terms.items():
            assert value.shape == (), f"the term {name!r} has shape {tuple(value.shape)}; expected a scalar"
            assert bool(value.isfinite()), f"the term {name!r} is {value.item()}"
        return torch.stack(list(terms.values())).sum()

    value = total(*students)
    assert torch.autograd.gradcheck(total, students, raise_exception=False), "its gradient is not that of its value"
    value.backward()  # type: ignore[no-untyped-call]  # torch's own annotation
    assert all(teacher.grad is None for teacher in teachers), "a gradient reaches the teacher's logits"
    order = torch.randperm(BATCH, generator=torch.Generator().manual_seed(0))
    _same(total(*students, rows=order), value, "the order of the images makes a difference")
    halves = torch.stack([total(*students, rows=rows) for rows in (slice(0, 3), slice(3, 6))]).mean()
    alone = torch.allclose(halves, value, rtol=1e-9)
    if not method.requires_global_batch:
        assert alone, "an image's loss depends on the others of the batch, and requires_global_batch is False"
    half = [(student.detach().bfloat16(), teacher.detach().bfloat16()) for student, teacher in views]
    method = method.float()
    found = method(_outputs([s for s, _ in half]), _outputs([t for _, t in half]), labels, 0.5)
    wide = method(_outputs([s.float() for s, _ in half]), _outputs([t.float() for _, t in half]), labels, 0.5)
    for name, term in found.items():
        assert term.dtype is torch.float32, f"the term {name!r} of bfloat16 logits is {term.dtype}; expected float32"
        _same(term, wide[name], f"the term {name!r} of bfloat16 logits is not computed in float32")
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

"""What a method on features is held to."""

from typing import Any

import torch
from torch import Tensor

from mcld.distiller import Distiller
from mcld.methods import Method, Outputs
from mcld.testing.tiny import tiny_batch, tiny_distiller

ROWS = 6


def check_feature_method(
    method: Method, *, progress: float = 0.9, draws: bool = False, compiled: bool = True, fullgraph: bool = True
) -> None:
    """Check a method on features, on what two tiny networks give it through :class:`mcld.Distiller`.

    Its terms are finite scalars; the gradient by the student's features is that of the value, reaches the student and
    all that the method learns, and never the teacher; the order of the images makes no difference; it says truly
    whether an image's loss depends on the others of the batch; half precision is computed in float32; what it keeps and
    learns goes through its state dict; compiled it gives the same, over two steps of training.

    Args:
        method: with options as it should be used; stays as it is.
        progress: the share of training that is done, at which it has all its terms.
        draws: whether it draws at random for each row, so that the order of the images may make a difference.
        compiled: whether to compile it, which takes seconds.
        fullgraph: whether it must compile without a break.

    Raises:
        AssertionError: for the first rule that it breaks.
    """
    images, labels, index = tiny_batch(0, ROWS, method.views)
    first = tiny_distiller(method)
    out = first(images, labels, progress=progress, index=index)
    assert out.terms, "it has no terms"
    for name, value in out.terms.items():
        assert value.shape == (), f"the term {name!r} has shape {tuple(value.shape)}; expected a scalar"
        assert bool(value.isfinite()), f"the term {name!r} is {value.item()}"
    out.loss.backward()
    for name, parameter in first.method.named_parameters():
        assert parameter.grad is not None, f"no gradient reaches its parameter {name}"
        assert bool(parameter.grad.isfinite().all()), f"the gradient of its parameter {name} is not finite"
    reached = [p.grad for p in first.student.parameters() if p.grad is not None and bool(p.grad.any())]
    assert reached, "no gradient reaches the student"
    s, t = _read(tiny_distiller(method), images)

    def total(given: Method, student: Outputs = s, teacher: Outputs = t, rows: Any = slice(None)) -> Tensor:
        terms = given(_rows(student, rows), _rows(teacher, rows), labels[rows], progress, index[rows])
        return torch.stack(list(terms.values())).sum()

    settled = first.method.eval()
    settled.check_values = False
    inputs = tuple(x.clone().requires_grad_() for x in _leaves(s))
    targets = tuple(x.clone().requires_grad_() for x in _leaves(t))
    good = torch.autograd.gradcheck(
        lambda *given: total(settled, _with(s, given)), inputs, fast_mode=True, raise_exception=False
    )
    assert good, "its gradient is not that of its value"
    torch.autograd.backward(total(settled, _with(s, inputs), _with(t, targets)))
    assert all(x.grad is None for x in targets), "a gradient reaches the teacher's features"

    whole = total(tiny_distiller(method).method)
    if not draws:
        order = torch.randperm(ROWS, generator=torch.Generator().manual_seed(3))
        _same(total(tiny_distiller(method).method, rows=order), whole, "the order of the images makes a difference")
    if not method.requires_global_batch:
        parts = [total(tiny_distiller(method).method, rows=rows) for rows in (slice(0, 3), slice(3, 6))]
        message = "an image's loss depends on the others of the batch, and requires_global_batch is False"
        _same(torch.stack(parts).mean(), whole, message)
    _check_half(method, s, t, labels, progress, index)

    second, kept = tiny_distiller(method).method, tiny_distiller(method).method
    for parameter in second.parameters():
        torch.nn.init.normal_(parameter)
    total(kept)
    second.load_state_dict(kept.state_dict())
    for _ in range(2):
        _same(total(second), total(kept), "it does not go on from its state dict where it was")
    if compiled:
        _check_compiled(method, progress, fullgraph)


def _check_half(method: Method, s: Outputs, t: Outputs, labels: Tensor, progress: float, index: Tensor) -> None:
    for dtype in (torch.bfloat16, torch.float16):
        half, wide = (tiny_distiller(method).method.float().eval() for _ in range(2))
        student, teacher = _cast(s, dtype), _cast(t, dtype)
        found = half(student, teacher, labels, progress, index)
        expected = wide(_cast(student, torch.float32), _cast(teacher, torch.float32), labels, progress, index)
        for name, term in found.items():
            assert term.dtype is torch.float32, f"the term {name!r} of {dtype} is {term.dtype}; expected float32"
            _same(term, expected[name], f"the term {name!r} of {dtype} is not computed in float32", 1e-5)


def _check_compiled(method: Method, progress: float, fullgraph: bool) -> None:
    """Two steps, with what the method learns and keeps, against a twin that is not compiled."""
    torch._dynamo.reset()
    one, twin = tiny_distiller(method), tiny_distiller(method)
    fast = torch.compile(one.method, backend="aot_eager", fullgraph=fullgraph)
    for step in range(2):
        images, labels, index = tiny_batch(step, ROWS, method.views)
        s, t = _read(tiny_distiller(method), images)
        results = []
        for call, owner in ((fast, one), (twin.method, twin)):
            inputs = tuple(x.clone().requires_grad_() for x in _leaves(s))
            terms = call(_with(s, inputs), t, labels, progress * (1 + step) / 2, index)
            learnt = list(owner.method.parameters())
            loss = torch.stack(list(terms.values())).sum()
            gradients = torch.autograd.grad(loss, [*inputs, *learnt], allow_unused=True)
            with torch.no_grad():
                for parameter, gradient in zip(learnt, gradients[len(inputs) :], strict=True):
                    if gradient is not None:
                        parameter.sub_(gradient, alpha=0.01)
            results.append((terms, gradients, dict(owner.method.state_dict())))
        for what, found, expected in zip(("terms", "gradients", "state"), *results, strict=True):
            try:
                torch.testing.assert_close(found, expected)
            except AssertionError as error:
                raise AssertionError(f"compiled, its {what} are others: {error}") from error


def _read(distiller: Distiller, images: Tensor) -> tuple[Outputs, Outputs]:
    assert distiller.teacher_features is not None
    with torch.no_grad():
        return distiller.student_features(images), distiller.teacher_features(images)


def _leaves(outputs: Outputs) -> tuple[Tensor, ...]:
    pooled = () if outputs.pooled is None else (outputs.pooled,)
    other = () if outputs.other is None else _leaves(outputs.other)
    return (outputs.logits, *pooled, *outputs.maps, *other)


def _with(outputs: Outputs, tensors: tuple[Tensor, ...]) -> Outputs:
    """The same with other tensors, in the order of ``_leaves``."""
    rest = list(tensors)
    logits = rest.pop(0)
    pooled = None if outputs.pooled is None else rest.pop(0)
    maps = tuple(rest.pop(0) for _ in outputs.maps)
    other = None if outputs.other is None else _with(outputs.other, tuple(rest))
    return Outputs(logits, pooled, maps, outputs.classifier, other)


def _rows(outputs: Outputs, rows: Any) -> Outputs:
    return _with(outputs, tuple(x[rows] for x in _leaves(outputs)))


def _cast(outputs: Outputs, dtype: torch.dtype) -> Outputs:
    classifier = outputs.classifier
    if classifier is not None:
        weight, bias = classifier
        classifier = (weight.detach().to(dtype), None if bias is None else bias.detach().to(dtype))
    return _with(outputs, tuple(x.to(dtype) for x in _leaves(outputs)))._replace(classifier=classifier)


def _same(found: Tensor, expected: Tensor, message: str, near: float = 1e-7) -> None:
    assert torch.allclose(found, expected, rtol=near, atol=near), f"{message}: {found.item()} and {expected.item()}"

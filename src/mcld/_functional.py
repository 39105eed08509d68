"""Methods as functions, made from their classes: signature, documentation, and the stub for type checkers."""

import dataclasses
import functools
import inspect
import re
import typing
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from mcld.checks import check_names
from mcld.errors import InputError
from mcld.methods import Method, Outputs, Shapes, Terms
from mcld.methods._base import LOGITS
from mcld.registry import METHODS

_COMMON = ("labels", "progress", "epochs", "index", "check_values")
_COMMON_WORDS = """\
    {student}: {what} of the student; (B, 2, C) or Outputs with ``other`` for two views.
    {teacher}: the same of the teacher; no gradient flows to them.
    labels: (B,) class indices.
    progress: the share of training that is done, from 0 to 1, for methods that ramp.
    epochs: of the whole training, for methods that count them.
    index: (B,) positions of the images in the training set.
    check_values: whether to look for NaN, Inf and labels out of range.
"""


def function_names() -> list[str]:
    """The methods that are functions: those that compare with a teacher and keep nothing from step to step."""
    return sorted(name for name, cls in METHODS.items().items() if cls.needs and not cls.keeps)


@functools.cache
def function(name: str) -> Callable[..., Tensor]:
    """A method as a function of the outputs of both networks and the labels.

    Args:
        name: of a registered method.

    Raises:
        InputError: for an unknown name, or a method that keeps something from step to step.
    """
    cls = METHODS.get(name)
    if not cls.needs or cls.keeps:
        why = "keeps something from step to step" if cls.keeps else "compares with no teacher"
        raise InputError(f"{name} is no function: it {why}; expected create_method({name!r}), or a Distiller")

    signature = _signature(cls)
    first, second, *known = signature.parameters

    def call(*args: Any, **given: Any) -> Tensor:
        check_names(f"option of {name}", [key for key in given if key not in signature.parameters], known[1:])
        bound = signature.bind(*args, **given)
        bound.apply_defaults()
        options = dict(bound.arguments)
        ours, theirs = _outputs(options.pop(first)), _outputs(options.pop(second))
        labels, progress, epochs, index, check_values = (options.pop(key) for key in _COMMON)
        method = cls(**options)
        if method.keeps or next(method.parameters(), None) is not None:
            raise InputError(
                f"{name} keeps something from step to step with these options; expected create_method({name!r}, ...), "
                "or a Distiller"
            )
        method.prepare(_shapes(ours), _shapes(theirs), 0, epochs or 0)
        method.check_values = check_values
        terms: Terms = method(ours, theirs, labels, progress, index)
        return torch.stack(list(terms.values())).sum()

    call.__name__ = call.__qualname__ = name
    call.__module__ = "mcld.functional"
    call.__doc__ = _documentation(cls, first, second)
    call.__signature__ = signature  # type: ignore[attr-defined]  # what help() and inspect show
    return call


def stub() -> str:
    """The text of ``functional.pyi``, for type checkers and editors: ``python -m mcld._functional`` writes it."""
    lines = [
        '"""Methods as functions; written by `python -m mcld._functional`."""',
        "",
        "from collections.abc import Mapping",
        "from typing import Any",
        "",
        "from torch import Tensor",
        "",
        "from mcld.methods import Category, Instance, Outputs, Sample",
    ]
    for name in function_names():
        if not METHODS.get(name).__module__.startswith("mcld."):
            continue  # of another package
        lines += ["", f"def {name}("]
        star = False
        for parameter in _signature(METHODS.get(name)).parameters.values():
            if parameter.kind is parameter.KEYWORD_ONLY and not star:
                lines.append("    *,")
                star = True
            default = "" if parameter.default is parameter.empty else f" = {_word(parameter.default)}"
            lines.append(f"    {parameter.name}: {_type(parameter.annotation)}{default},")
        lines += [") -> Tensor:", f'    """{METHODS.get(name).title[:1].upper()}{METHODS.get(name).title[1:]}."""']
    return "\n".join(lines) + "\n"


def _signature(cls: type[Method]) -> inspect.Signature:
    """What the function takes: outputs and labels, what a step knows, and the method's options."""
    hints = typing.get_type_hints(cls.__init__)
    kind: Any = Tensor | Outputs if cls.needs <= LOGITS else Outputs
    first, second = ("student_logits", "teacher_logits") if cls.needs <= LOGITS else ("student", "teacher")
    P = inspect.Parameter
    positional = [(first, kind), (second, kind), ("labels", Tensor)]
    found = [P(name, P.POSITIONAL_OR_KEYWORD, annotation=annotation) for name, annotation in positional]
    for name, annotation, default in (
        ("progress", float | None, None),
        ("epochs", int | None, None),
        ("index", Tensor | None, None),
        ("check_values", bool, True),
    ):
        found.append(P(name, P.KEYWORD_ONLY, annotation=annotation, default=default))
    fields: tuple[dataclasses.Field[Any], ...] = dataclasses.fields(cls) if dataclasses.is_dataclass(cls) else ()
    made = {f.name: f.default_factory for f in fields if f.default_factory is not dataclasses.MISSING}
    for option in list(inspect.signature(cls.__init__).parameters.values())[1:]:
        default = option.default
        if option.name in made:
            default = made[option.name]()
        found.append(P(option.name, P.KEYWORD_ONLY, annotation=hints[option.name], default=default))
    return inspect.Signature(found, return_annotation=Tensor)


def _documentation(cls: type[Method], first: str, second: str) -> str:
    text = inspect.cleandoc(cls.__doc__ or "")
    about, _, rest = text.partition("\nArgs:\n")
    options = re.split(r"\n(?:Raises|Example):\n", rest)[0].rstrip()
    for base in cls.__mro__[1:]:  # what a base class says of its own options
        for option, meaning in re.findall(r"^    (\w+): (.*)$", inspect.cleandoc(base.__doc__ or ""), re.MULTILINE):
            if option in cls.option_names() and f"    {option}: " not in options:
                options += f"\n    {option}: {meaning}"
    what = "logits (B, C)" if cls.needs <= LOGITS else "Outputs"
    common = _COMMON_WORDS.format(student=first, teacher=second, what=what)
    return (
        f"{about.rstrip()}\n\nThis is the sum of the terms of :class:`{cls.__module__}.{cls.__name__}`, without "
        f"cross-entropy.\n\nArgs:\n{common}{options}\n\nReturns:\n    A scalar.\n\nRaises:\n    InputError: for what "
        "cannot be right, or a progress or number of epochs that is missing.\n"
    )


def _outputs(given: Any) -> Outputs:
    if isinstance(given, Outputs):
        return given
    if isinstance(given, Tensor) and given.ndim == 3 and given.shape[1] == 2:
        return Outputs(given[:, 0], other=Outputs(given[:, 1]))
    if not isinstance(given, Tensor):
        raise InputError(f"the outputs are {type(given).__name__}; expected logits (B, C) or mcld.Outputs")
    return Outputs(given)


def _shapes(outputs: Outputs) -> Shapes:
    maps = tuple((m.shape[1], m.shape[2], m.shape[3]) for m in outputs.maps if m.ndim == 4)
    pooled = 0 if outputs.pooled is None else outputs.pooled.shape[-1]
    return Shapes(outputs.logits.shape[-1], pooled, maps)


def _type(annotation: Any) -> str:
    if isinstance(annotation, type) and not typing.get_args(annotation):
        return annotation.__name__
    return re.sub(r"\b(?:\w+\.)+(\w+)", r"\1", str(annotation))


def _word(default: object) -> str:
    if isinstance(default, Mapping) or dataclasses.is_dataclass(default):
        return "..."
    return f'"{default}"' if isinstance(default, str) else repr(default)


if __name__ == "__main__":
    from pathlib import Path

    Path(__file__).with_name("functional.pyi").write_text(stub(), encoding="utf-8")

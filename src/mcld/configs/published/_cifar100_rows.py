"""How rows for many pairs are made of columns of numbers."""

from collections.abc import Callable, Iterator, Mapping, Sequence

from mcld.configs.published._cifar100_numbers import PAIRS, Values
from mcld.configs.published._types import Number, Option, Recipe, Row


def base_lr(student: str) -> float:
    """The field's first learning rate: 0.01 for MobileNets and ShuffleNets, else 0.05."""
    return 0.01 if student.startswith(("MobileNet", "Shuffle")) else 0.05


def make_rows(
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


def numbers_of(
    source: str, epoch: str = "unknown", runs: str = "unknown", note: str = ""
) -> Callable[[Values], list[Number | None]]:
    """A function from a column of values to numbers of this source."""

    def made(values: Values) -> list[Number | None]:
        return [None if v is None else Number(v, source, epoch, runs, note) for v in values]  # type: ignore[arg-type]

    return made


def join(*lists: Sequence[Number | None]) -> list[tuple[Number, ...]]:
    """All numbers of each pair, in the order of the lists."""
    columns = range(len(PAIRS))
    return [tuple(n for numbers in lists if i < len(numbers) and (n := numbers[i])) for i in columns]


def notes(*parts: str) -> str:
    """Several remarks as one."""
    return "; ".join(part for part in parts if part)

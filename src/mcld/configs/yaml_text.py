"""YAML files of other people, read without being made to wait or to grow."""

from pathlib import Path
from typing import Any

import yaml

from mcld.errors import InputError
from mcld.files import read_file

BYTES = 2**20
VALUES = 10_000
DEPTH = 40


def load_yaml(file: Path) -> Any:
    """The values in a YAML file.

    Raises:
        InputError: in one line, when it cannot be read.
    """
    try:
        return yaml.safe_load(read_yaml_text(file))
    except FileNotFoundError as error:
        raise InputError(f"{file}: no such file") from error
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise InputError(f"{file} cannot be read: {line}{error.problem or error.context}") from error
    except (OSError, ValueError, OverflowError, yaml.YAMLError) as error:  # an InputError is a ValueError
        reason = getattr(error, "strerror", None) or (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"{file} cannot be read: {reason.removeprefix(f'{file}: ')}") from error


def read_yaml_text(path: Path) -> str:
    """The text of a YAML file that is known to be small, also when what its aliases stand for is written out.

    Raises:
        OSError: when it cannot be read, is no regular file, or is too long.
        UnicodeDecodeError: when it is no UTF-8.
        yaml.YAMLError: when it is no YAML.
        InputError: when its values are too many or too deep, or one holds itself.
    """
    text = read_file(path, BYTES).decode("utf-8")
    sizes: dict[str, int] = {}  # of the finished values that have a name
    stack: list[tuple[str | None, int]] = [(None, 0)]  # the open values: the name, and the values in it so far
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            if event.anchor is not None:
                sizes[event.anchor] = -1
            stack.append((event.anchor, 1))
            if len(stack) > DEPTH:
                raise InputError(
                    f"{path}: its values lie more than {DEPTH} deep in each other; expected plain settings"
                )
            continue
        if isinstance(event, yaml.CollectionEndEvent):
            name, size = stack.pop()
        elif isinstance(event, yaml.ScalarEvent):
            name, size = event.anchor, 1
        elif isinstance(event, yaml.AliasEvent):
            name, size = None, sizes.get(event.anchor, 1)
            if size < 0:
                raise InputError(f"{path}: the value &{event.anchor} holds itself; expected plain settings")
        else:
            continue
        if name is not None:
            sizes[name] = size
        stack[-1] = (stack[-1][0], stack[-1][1] + size)
        if stack[-1][1] > VALUES:
            raise InputError(
                f"{path}: with its aliases written out it has more than {VALUES:,} values; expected plain settings"
            )
    return text

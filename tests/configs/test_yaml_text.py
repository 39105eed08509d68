import os
import time
from pathlib import Path

import pytest

from mcld.bench.suite_file import read_suite
from mcld.configs.compose import settings_from_yaml
from mcld.configs.yaml_text import read_yaml_text
from mcld.errors import InputError

LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12)
)
MERGED = "a0: &a0 {x: 1, y: 2}\n" + "".join(f"a{i}: &a{i} {{<<: [*a{i - 1}, *a{i - 1}]}}\n" for i in range(1, 40))


@pytest.mark.parametrize("read", [settings_from_yaml, lambda file: read_suite(str(file))])
@pytest.mark.parametrize(
    ("text", "said"),
    [
        (LAUGHS, "with its aliases written out it has more than 10,000 values"),
        (MERGED, "with its aliases written out it has more than 10,000 values"),
        ("data: &a {x: *a}\n", "the value &a holds itself"),
        ("data: &a [1, [2, *a]]\n", "the value &a holds itself"),
        ("[" * 100_000, "more than 40 deep"),
        ("data: " + "{a: " * 5000, "more than 40 deep"),
        ("x" * 2_000_000, "has 2,000,000 bytes; expected at most 1,048,576"),
        ("data: *nobody\n", "nobody"),
        ("? [a, b]\n: c\n", ""),
        ("a: 2026-99-99\n", ""),
    ],
)
def test_yaml_that_grows_or_never_ends_is_refused_at_once(tmp_path: Path, read: object, text: str, said: str) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(text)
    began = time.process_time()
    with pytest.raises(InputError) as caught:
        read(file)  # type: ignore[operator]
    assert time.process_time() - began < 5
    assert said in str(caught.value)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "suite.yaml")
    with pytest.raises(InputError, match="it is a pipe"):
        read_suite(str(tmp_path / "suite.yaml"))
    with pytest.raises(InputError, match="it is a pipe"):
        settings_from_yaml(tmp_path / "suite.yaml")


def test_aliases_in_measure_are_fine(tmp_path: Path) -> None:
    file = tmp_path / "suite.yaml"
    file.write_text("common: &c data=digits\nother: [*c, *c]\nmore: &m {x: 1}\nlast: {<<: *m, y: 2}\n")
    assert read_yaml_text(file) == file.read_text()

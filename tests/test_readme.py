"""The README's examples run as they stand."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
Mcld = Callable[..., tuple[int, str, str]]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def test_the_library_example_runs(tmp_path: Path) -> None:
    (example,) = blocks("python")
    assert 8 <= len(example.splitlines()) <= 14
    check = "\nassert student.conv1.weight.grad is not None"
    check += " and set(out.terms) == {'ce', 'instance', 'sample', 'category'}"
    subprocess.run([sys.executable, "-c", example + check], check=True, timeout=120, cwd=tmp_path)
    assert (tmp_path / "student.pt").is_file()


def test_the_command_line_example_runs(mcld: Mcld, tmp_path: Path) -> None:
    block = README.partition("<!-- the tests run these lines -->")[2].partition("```\n")[2].partition("```")[0]
    lines = [line.split() for line in block.splitlines()]
    assert [line[:2] for line in lines] == [["mcld", "train"], ["mcld", "distill"], ["mcld", "evaluate"]]
    for _, *words in lines:
        if words[0] != "evaluate":
            words += ["threads=1"]
            words = ["schedule.epochs=2" if word.startswith("schedule.epochs") else word for word in words]
        status, out, err = mcld(*words)
        assert status == 0, err
    assert re.search(r"top-1 \d+\.\d\d%", out)
    assert (tmp_path / "runs" / "student" / "best.safetensors").is_file()


def test_every_command_that_is_named_exists() -> None:
    from mcld.cli.main import COMMANDS

    named = set(re.findall(r"`?mcld ([a-z-]+)\b", re.sub(r"```python.*?```", "", README, flags=re.DOTALL)))
    assert named & set(COMMANDS) >= {"train", "distill", "resume", "evaluate", "methods", "models", "data"}
    for word in re.findall(r"^mcld ([a-z-]+)", README, re.MULTILINE):
        assert word in COMMANDS


def test_the_batteries_of_contributing_run(tmp_path: Path) -> None:
    text = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    (tmp_path / "mine.py").write_text(example)
    subprocess.run([sys.executable, "mine.py"], check=True, timeout=300, cwd=tmp_path)


def test_make_targets_exist() -> None:
    makefile = (Path(__file__).parents[1] / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", README, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)

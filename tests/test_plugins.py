"""Files of code that a person names, and what a run remembers of them."""

import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.packages import JS, install

from mcld import InputError, plugins
from mcld import evaluate as api_evaluate
from mcld.plugins import check_plugins, load_plugin, loaded_plugins, plugin_words, take_plugins
from mcld.registry import REGISTRIES

Mcld = Callable[..., tuple[int, str, str]]
STUDENT = ["student=resnet8", "student.options.width=2", "schedule.epochs=1", "threads=1", "data.batch_size=160"]


def forget() -> None:
    """What another process would not have imported."""
    plugins._LOADED.clear()
    for registry in REGISTRIES.values():
        for name in registry.registered():
            registry.remove(name)


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    forget()


def test_a_run_remembers_its_plugin_and_asks_for_it(
    mcld: Mcld, arrays: list[str], teacher: Path, tmp_path: Path
) -> None:
    file = tmp_path / "my_methods.py"
    file.write_text(JS)
    words = [*arrays, f"teacher={teacher}", *STUDENT, "method=js", "method.temperature=2", "run=run"]
    status, _, err = mcld("distill", *words)
    assert (status, "there is no method 'js'" in err) == (2, True)
    status, out, err = mcld("distill", *words, "--plugin", "my_methods.py")
    assert (status, err) == (0, ""), err
    (kept,) = json.loads((tmp_path / "run" / "environment.json").read_text())["plugins"]
    assert kept == {"file": str(file), "sha256": loaded_plugins()[0].digest, "names": ["method js"]}
    assert "my_methods" not in (tmp_path / "run" / "config.yaml").read_text()

    forget()
    status, _, err = mcld("resume", "run")
    assert status == 2
    assert err == f"mcld: run was made with the plugin {file} (method js) and needs it; give it: --plugin {file}\n"
    assert not loaded_plugins()
    assert mcld("resume", "run", "--plugin", str(file))[0] == 0
    assert mcld("evaluate", "run", "--plugin=my_methods.py")[0] == 0

    forget()
    moved = tmp_path / "elsewhere" / "my_methods.py"
    moved.parent.mkdir()
    file.rename(moved)
    assert mcld("--plugin", str(moved), "resume", "run")[1].count("warning") == 0
    forget()
    moved.write_text(f"{JS}\n# another comment\n")
    status, out, _ = mcld("resume", "run", "--plugin", str(moved))
    assert status == 0
    assert f"warning: {moved} is not the my_methods.py (method js) that run was made with: its digest was" in out


def test_what_reads_the_network_and_the_data_alone_does_without_the_method(
    mcld: Mcld, arrays: list[str], teacher: Path, tmp_path: Path
) -> None:
    (tmp_path / "my.py").write_text(JS)
    words = [*arrays, f"teacher={teacher}", *STUDENT, "method=js", "run=run", "--plugin", "my.py"]
    assert mcld("distill", *words)[0] == 0
    forget()
    status, out, err = mcld("evaluate", "run")
    assert (status, err) == (0, "")
    assert "top-1" in out
    assert 0 <= api_evaluate("run").top1 <= 1
    assert mcld("evaluate", "run", "data.batch_size=20")[1] == out
    (tmp_path / "run" / "summary.json").unlink()
    status, out, err = mcld("export", "run", "--format", "safetensors")
    assert (status, err) == (0, "")
    assert "warning: the run run is not finished: epoch 1 of 1" in out
    assert "warning: the table goes without the teacher" in out


def test_evaluating_asks_for_the_plugin_with_the_data_and_so_does_a_report_for_any(
    mcld: Mcld, teacher: Path, tmp_path: Path
) -> None:
    shutil.copytree(teacher, tmp_path / "run")
    entry = {"file": "my.py", "sha256": "0", "names": ["data stripes"]}
    environment = json.loads((tmp_path / "run" / "environment.json").read_text())
    for names, said in ((["data stripes"], 2), (["model tiny"], 2), (["logger mine"], 0)):
        kept = {**environment, "plugins": [{**entry, "names": names}]}
        (tmp_path / "run" / "environment.json").write_text(json.dumps(kept))
        status, _, err = mcld("evaluate", "run")
        assert status == said
        assert ("needs it; give it: --plugin my.py" in err) is (said == 2)
        assert "needs it; give it: --plugin my.py" in mcld("report", "run")[2]


def test_every_command_that_knows_names_takes_a_plugin(mcld: Mcld, tmp_path: Path) -> None:
    (tmp_path / "my.py").write_text(JS)
    assert "--plugin FILE" in mcld("--help")[1]
    assert "--plugin FILE" in mcld("distill", "--help")[1]
    status, out, _ = mcld("methods", "--plugin", "my.py")
    assert status == 0
    assert "Match the teacher by the Jensen-Shannon divergence" in out
    status, out, _ = mcld("methods", "js", "--plugin", "my.py")
    assert status == 0
    assert re.search(r"method.temperature=4.0 +T > 0\.", out)
    assert plugin_words() == ["--plugin", str(tmp_path / "my.py")]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "--plugin my.py: no such file"),
        ("import mcld\nx = (", "--plugin my.py cannot be imported: line 2: '(' was never closed"),
        ("\n1 / 0", "--plugin my.py cannot be imported: line 2: ZeroDivisionError: division by zero"),
        ("import not_there", "line 1: ModuleNotFoundError: No module named 'not_there'"),
        ("raise SystemExit(0)", "line 1: SystemExit: 0"),
        (
            JS.replace('"js"', '"kd"'),
            "line 7: two methods are called 'kd': of mcld (mcld.methods.kd) and of mcld_plugin",
        ),
    ],
)
def test_a_plugin_that_cannot_be_is_one_line(mcld: Mcld, tmp_path: Path, content: str | None, said: str) -> None:
    if content is not None:
        (tmp_path / "my.py").write_text(content)
    status, _, err = mcld("methods", "--plugin", "my.py")
    assert status == 2
    assert said in err
    assert err.count("\n") == 1
    assert not loaded_plugins()


def test_a_plugin_that_is_no_file_is_not_waited_for(mcld: Mcld, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "my.py")
    assert mcld("methods", "--plugin", "my.py") == (
        2,
        "",
        "mcld: --plugin my.py cannot be read: it is a pipe, no file\n",
    )


def test_what_a_broken_plugin_had_registered_is_forgotten(tmp_path: Path) -> None:
    file = tmp_path / "my.py"
    file.write_text(f"{JS}\nraise ValueError('late')\n")
    with pytest.raises(InputError, match=r"line 24: ValueError: late"):
        load_plugin(str(file))
    assert REGISTRIES["method"].find("js") is None
    assert not [name for name, module in sys.modules.items() if getattr(module, "__file__", "") == str(file)]


def test_words() -> None:
    assert take_plugins(["a", "--plugin", "x.py", "b=1", "--plugin=y.py"]) == (["x.py", "y.py"], ["a", "b=1"])
    with pytest.raises(InputError, match="--plugin: expected a file of Python code after it"):
        take_plugins(["distill", "--plugin"])
    with pytest.raises(InputError, match=r"--plugin notes.txt: expected a file of Python code, NAME.py"):
        load_plugin("notes.txt")


def test_a_package_is_remembered_by_its_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        install(tmp_path, patch, "jensen", JS, {"mcld.methods": "js = jensen:JS"})
        kept = plugins.describe_plugins({"method": ["kd", "js"], "model": ["resnet8", "timm/resnet18"]})
        assert kept == [{"package": "jensen", "version": "1.2", "names": ["method js"]}]
        assert check_plugins(kept, "run") == []
        assert check_plugins([{**kept[0], "version": "1.1"}], "run") == [
            "warning: the method js was of jensen 1.1 in run and is of jensen 1.2"
        ]
    forget()
    with pytest.raises(InputError, match=r"run was made with the method js of the package jensen 1.2, which is not"):
        check_plugins(kept, "run")
    assert check_plugins(kept, "run", kinds=["model"]) == []
    assert check_plugins(None, "run") == check_plugins([3, {}], "run", kinds=["model"]) == []

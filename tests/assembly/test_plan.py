"""Settings are resolved once: the plan of a run is whole, and nobody changes it."""

import ast
import dataclasses
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

import mcld as package
from mcld.assembly.parts import build_parts
from mcld.assembly.plan import settle
from mcld.configs.compose import compose, settings_from_yaml
from mcld.errors import InputError
from mcld.runs import RunDirectory

Mcld = Callable[..., tuple[int, str, str]]


def test_nothing_is_left_open_and_nothing_can_be_set(arrays: list[str], teacher: Path) -> None:
    plan = build_parts(compose("distill", [*arrays, f"teacher={teacher}", "student=resnet8", "method=mlkd"])).plan
    settings = plan.settings
    left = [settings.run, settings.threads, settings.schedule.lr, settings.precision, settings.compile]
    left += [settings.channels_last, settings.optimizer.fused, settings.ce_weight, settings.data.second_policy]  # type: ignore[union-attr]
    assert not {None, "auto"} & set(left)
    assert (settings.run, settings.schedule.lr) == ("runs/distill-arrays-run-resnet8-mlkd-seed0", 0.05)
    assert (list(plan.data.classes), plan.images, plan.student.num_classes) == (["a", "b", "c", "d"], (160, 60), 4)
    assert plan.teacher is not None
    assert plan.student.mean == list(plan.data.mean)
    assert plan.stores.validation is not None
    for node, key in ((plan, "settings"), (settings, "run"), (settings.schedule, "lr"), (settings.data, "batch_size")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(node, key, None)


def test_what_is_settled_stays_also_on_several_machines(arrays: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    settings = compose("train", [*arrays, "model=resnet8"])
    settled = settle(settings)
    assert (settle(settled), settled.devices, settled.precision) == (settled, 1, "32")
    for name, value in {"TORCHELASTIC_RUN_ID": "1", "LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "4"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    many = settle(settings)
    assert (many.devices, settle(many)) == (4, many)  # two on each of two machines
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    with pytest.raises(InputError, match="devices=2; this machine has 1 CUDA devices"):
        settle(settings)


def test_no_code_assigns_to_settings() -> None:
    """``settings.x = …`` anywhere is a second place where a setting comes about."""
    found = []
    for file in sorted(Path(package.__path__[0]).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            for target in targets:
                if isinstance(target, ast.Attribute):
                    names = ast.unparse(target.value).split(".")
                    if {"settings", "plan"} & set(names):
                        found.append(f"{file.name}:{target.lineno}: {ast.unparse(target)}")
    assert found == []


def test_no_private_module_of_a_dependency_is_imported() -> None:
    for file in sorted(Path(package.__path__[0]).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                own = name.startswith(("mcld", "__future__"))
                assert own or not any(part.startswith("_") for part in name.split(".")), f"{file.name}: {name}"


@pytest.fixture
def old_runs(tmp_path: Path) -> Path:
    """A teacher, a finished student and the same student interrupted in its second epoch, of commit d986bda."""
    with zipfile.ZipFile(Path(__file__).with_name("runs-of-d986bda.zip")) as archive:
        archive.extractall(tmp_path)
    for config in tmp_path.glob("*/config.yaml"):
        config.write_text(config.read_text().replace("PLACE", str(tmp_path)))
    return tmp_path


def test_a_run_of_an_older_version_goes_on_to_the_same_end(mcld: Mcld, old_runs: Path) -> None:
    status, out, err = mcld("resume", "interrupted")
    assert (status, err) == (0, "")
    assert "going on with epoch 2, step 6" in out
    finished, resumed = (RunDirectory(old_runs / name).read_metrics() for name in ("finished", "interrupted"))
    assert [row["epoch"] for row in resumed] == [1, 2]
    for key in ("loss", "ce", "mcld.instance", "kd.kl", "val_loss"):  # other processors round otherwise
        assert resumed[-1][key] == pytest.approx(finished[-1][key], rel=1e-3)
    text = (old_runs / "interrupted" / "config.yaml").read_text()
    assert "resolved:" not in text  # a run that goes on does not rewrite its settings


def test_a_run_of_an_older_version_is_evaluated_and_taught_from(mcld: Mcld, old_runs: Path) -> None:
    status, out, err = mcld("evaluate", "finished")
    assert (status, err) == (0, "")
    assert "top-1 22.22%" in out
    words = ["data=digits", "teacher=teacher", "student=resnet8", "schedule.epochs=1", "threads=1", "run=new"]
    assert mcld("distill", *words)[0] == 0
    settings = settings_from_yaml(old_runs / "finished" / "config.yaml")
    assert (settings.schedule.lr, settings.optimizer.fused, settings.precision) == (0.05, True, "32")


def test_a_plan_that_comes_out_otherwise_is_not_gone_on_with(mcld: Mcld, arrays: list[str], tmp_path: Path) -> None:
    words = ["model=resnet8", "model.options.width=2", "schedule.epochs=1", "threads=1", "run=run"]
    assert mcld("train", *arrays, *words)[0] == 0
    shutil.copytree("run", "other")
    config = tmp_path / "other" / "config.yaml"
    stored = yaml.safe_load(config.read_text())
    assert stored["resolved"]["student"]["options"] == {"width": 2}
    assert stored["resolved"]["images"] == {"training": 160, "validation": 60}
    stored["resolved"]["classes"] = ["a", "b", "c", "x"]
    config.write_text(yaml.safe_dump(stored))
    status, _, err = mcld("resume", "other")
    assert status == 2
    assert "run other cannot go on: the classes of resolved in config.yaml changed since it began" in err

"""Names: ours, decorated ones, and those of installed packages."""

import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tests.packages import JS, install

import mcld
from mcld import InputError, create_method, create_model
from mcld.cli.main import main
from mcld.methods import list_methods, method_class
from mcld.models import find_model, list_models
from mcld.registry import METHODS, REGISTRIES, register_method, register_model


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """What a test registers is forgotten after it."""
    yield
    for registry in REGISTRIES.values():
        for name in registry.registered():
            registry.remove(name)


def test_a_method_is_the_formula_and_five_lines() -> None:
    space: dict[str, type[mcld.LogitMethod]] = {}
    exec(JS, space)
    assert "js" in list_methods()
    method = create_method("js", temperature=1, standardize=False)
    assert isinstance(method, space["JS"])
    assert repr(method) == "JS(temperature=1, standardize=False)"
    assert method.title == "Match the teacher by the Jensen-Shannon divergence"
    student, teacher = torch.zeros(1, 2), torch.tensor([[1000.0, 0.0]])
    # (1, 0) and (1/2, 1/2): (log(4/3) + (log(2/3) + log 2) / 2) / 2
    assert method(student, teacher, torch.tensor([0]))["js"].item() == pytest.approx(0.215762, abs=1e-6)
    with pytest.raises(InputError, match=r"temperature is 'hot'; expected a finite number"):
        create_method("js", temperature="hot")
    with pytest.raises(InputError, match=r"standardize is 1; expected True or False"):
        create_method("js", standardize=1)
    with pytest.raises(InputError, match=r"no option of js 'temprature'; did you mean 'temperature'"):
        create_method("js", temprature=1)


def test_a_method_joins_the_ranks_unless_it_says_otherwise() -> None:
    class Silent(mcld.LogitMethod):
        pass

    class Features(mcld.FeatureMethod):
        pass

    assert (Silent().requires_global_batch, Features().requires_global_batch) == (True, True)
    assert mcld.Method.requires_global_batch
    apart = {name for name in list_methods() if not method_class(name).requires_global_batch}
    per_image = {"kd", "dkd", "nkd", "sld", "wsld", "ttm", "wttm", "ctkd", "mse", "at", "nst", "vid", "simkd", "catkd"}
    assert apart >= {*per_image, "plain"}
    assert not apart & {"mcld", "ckd", "dist", "mlkd", "crd", "rkd", "sp", "cc", "pkt", "srd", "ofd", "reviewkd", "ft"}


def test_options_are_typed_fields_and_nothing_else() -> None:
    with pytest.raises(TypeError, match=r"Two.weight is an option and needs its type: weight: TYPE = VALUE"):

        class Two(mcld.KD):
            weight = 2.0

    with pytest.raises(TypeError, match=r"Three.needs is no option; write it without a type: needs = VALUE"):

        class Three(mcld.LogitMethod):
            needs: frozenset[str] = frozenset({"logits"})

    class Own(mcld.MCLD):  # keeps the constructor that it has
        title = "x"

    assert Own(bank=4).bank.size == 4
    assert (Own.name, Own.option_names()) == ("own", mcld.MCLD.option_names())


def test_the_same_name_twice_names_both() -> None:
    class One(mcld.LogitMethod):
        pass

    class Other(mcld.LogitMethod):
        pass

    register_method("mine")(One)
    register_method("mine")(One)  # a cell of a notebook that runs again
    with pytest.raises(InputError, match=r"two methods are called 'mine': of .*One.* and of .*Other"):
        register_method("mine")(Other)
    with pytest.raises(InputError, match=r"two methods are called 'kd': of mcld \(mcld.methods.kd\) and of .*Other"):
        register_method("kd")(Other)
    with pytest.raises(InputError, match=r"two models are called 'resnet8': of mcld \(mcld.models.resnet\) and of"):
        register_model("resnet8")(Other)
    with pytest.raises(InputError, match=r"a method cannot be called 'a b'; expected letters, digits"):
        register_method("a b")(One)
    with pytest.raises(InputError, match=r"the method 'f' is .*; expected a subclass of mcld.Method"):
        register_method("f")(torch.nn.Linear)
    assert create_method("kd").name == "kd"


def test_a_package_brings_a_method_by_its_entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, "jensen", JS, {"mcld.methods": "js = jensen:JS"})
    assert "js" in list_methods()
    assert "jensen" not in sys.modules  # its name is known without it
    assert METHODS.origin("js") == "the package jensen 1.2"
    assert METHODS.origin("kd") == "mcld"
    assert create_method(["kd", "js"]).needs == {"logits"}
    assert "jensen" in sys.modules


def test_an_entry_point_may_name_a_module_or_what_nobody_has_decorated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = JS.replace('@mcld.register_method("js")\n', "")
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    install(tmp_path / "a", monkeypatch, "undecorated", plain, {"mcld.methods": "js2 = undecorated:JS"})
    install(tmp_path / "b", monkeypatch, "whole", JS, {"mcld.methods": "anything = whole"})
    assert create_method("js2").name == "js2"
    assert create_method("js").name == "js"
    assert "anything" not in list_methods()


def test_a_package_brings_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nets = textwrap.dedent(
        """
        import mcld
        from torch import nn

        for width in (4, 8):
            @mcld.register_model(f"tiny{width}", aliases=[f"Tiny-{width}"], lr=0.02)
            def tiny(num_classes, in_channels=3, *, depth: int = 1, width=width):
                return nn.Sequential(nn.Flatten(), nn.LazyLinear(width), nn.Linear(width, num_classes))
        """
    )
    install(tmp_path, monkeypatch, "tinynets", nets, {"mcld.models": "nets = tinynets"})
    assert find_model("tiny-8").name == "tiny8"
    assert (find_model("tiny4").lr, find_model("tiny4").family) == (0.02, "tinynets")
    assert create_model("tiny4", 5)(torch.zeros(2, 3, 4, 4)).shape == (2, 5)
    assert {"tiny4", "tiny8", "resnet8"} <= {entry.name for entry in list_models()}
    with pytest.raises(InputError, match=r"option depth of model tiny4 is 'x'; expected an integer"):
        create_model("tiny4", 5, depth="x")
    with pytest.raises(InputError, match=r"no option of model tiny4: 'dept'; did you mean 'depth'"):
        create_model("tiny4", 5, dept=3)


def test_a_broken_package_is_one_line_and_breaks_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    points = {"mcld.methods": "mine = broken:Mine\nmore = broken", "mcld.models": "nets = broken"}
    install(tmp_path, monkeypatch, "broken", "import not_there\n", points)
    assert create_method("kd").name == "kd"
    assert "kd" in METHODS.items()
    assert create_model("resnet8", 2) is not None
    for name in ("mine", "mien"):
        with pytest.raises(
            InputError, match=r"the package broken 1.2 cannot be imported .*No module named 'not_there'"
        ):
            create_method(name)
    with pytest.raises(InputError, match=r"there is no model 'nets'; .*the package broken 1.2 cannot be imported"):
        create_model("nets", 2)
    assert all("broken 1.2" in line and "\n" not in line for line in METHODS.broken())
    assert METHODS.broken()
    for command in ("methods", "models"):
        assert main([command]) == 0
        out, err = capsys.readouterr()
        assert "resnet8" in out or "kd " in out
        assert "mcld: left out: the " in err
        assert "broken 1.2" in err


def test_two_packages_with_one_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place, name in (("a", "one"), ("b", "two")):
        (tmp_path / place).mkdir()
        install(tmp_path / place, monkeypatch, name, JS, {"mcld.methods": f"js = {name}:JS\nkd = {name}:JS"})
    with pytest.raises(InputError, match=r"two methods are called 'js': of the package two 1.2 and of the package one"):
        create_method("js")
    with pytest.raises(InputError, match=r"two methods are called 'kd': of mcld \(mcld.methods.kd\) and of the pack"):
        create_method("kd")
    assert create_method("dkd").name == "dkd"
    assert any("'js'" in line for line in METHODS.broken())


def test_names_need_no_torch() -> None:
    code = (
        "import sys, mcld, mcld.cli.main\nfrom mcld.registry import METHODS\n"
        "assert 'kd' in METHODS.names()\nassert mcld.cli.main.main(['--help']) == 0\nprint('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"

"""Methods by name, plain training, and how light the import is."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import mcld.methods
from mcld import KD, MCLD, InputError, create_method
from mcld.methods import Category, Combined, Method, list_methods, method_class


def test_the_names_are_the_files() -> None:
    folder = Path(mcld.methods.__file__).parent
    files = sorted(file.stem for file in [*folder.glob("*.py"), folder / "mcld"] if not file.stem.startswith("_"))
    assert list_methods() == files
    assert {"kd", "mcld", "plain"} <= set(files)


@pytest.mark.parametrize("name", list_methods())
def test_every_method_says_what_it_is(name: str) -> None:
    cls = method_class(name)
    assert issubclass(cls, Method)
    assert cls.title
    assert "\n" not in cls.title
    assert cls.needs <= {"logits", "pooled", "maps", "classifier"}
    assert cls.__doc__
    if not cls.needs:
        return
    # Every option has a default, so that the name alone makes a method.
    assert isinstance(create_method(name), cls)


def test_created_with_options() -> None:
    kd = create_method("kd", temperature=2, weight=0.5)
    assert isinstance(kd, KD)
    assert (kd.temperature, kd.weight) == (2, 0.5)
    method = create_method("mcld", category={"weight": 2, "form": "prototypes"}, bank=16, center=False)
    assert isinstance(method, MCLD)
    assert method.category == Category(weight=2, form="prototypes")
    assert (method.bank.size, method.center) == (16, False)


def test_several_names_make_a_combination() -> None:
    method = create_method(["mcld", "kd"], weights={"kd": 0.5}, mcld={"sample": {"weight": 0}}, kd={"temperature": 2})
    assert isinstance(method, Combined)
    assert method.weights == {"mcld": 1.0, "kd": 0.5}
    terms = method(torch.eye(3), torch.eye(3), torch.arange(3), progress=1)
    assert list(terms) == ["mcld.instance", "mcld.category", "kd.kl"]
    assert method.methods["kd"].temperature == 2


def test_plain_has_no_terms() -> None:
    method = create_method("plain")
    assert method(torch.zeros(2, 3), torch.zeros(2, 3), torch.tensor([0, 1])) == {}
    assert method.needs == frozenset()
    assert method.requires_global_batch is False
    assert method.ce_weight == 1.0


BAD: list[tuple[Any, dict[str, Any], str]] = [
    ("mcdl", {}, "there is no method 'mcdl'; did you mean 'mcld'"),
    ("zzz", {}, "there is no method 'zzz'; expected .*kd.*mcld"),
    ("_base", {}, "there is no method '_base'"),
    ("kd", {"temprature": 4}, "no option of kd 'temprature'; did you mean 'temperature'"),
    ("plain", {"weight": 1}, "no option of plain 'weight'; expected none"),
    ("kd", {"temperature": -4}, "temperature is -4; expected a positive number"),
    ("mcld", {"category": {"wait": 1}}, "no option of category 'wait'; did you mean 'weight'"),
    ([], {}, "expected at least one, and each once"),
    (["kd", "kd"], {}, "expected at least one, and each once"),
    (["kd", "mcdl"], {}, "there is no method 'mcdl'; did you mean 'mcld'"),
    (["kd", "mcld"], {"mcdl": {}}, "'mcdl'; did you mean 'mcld'"),
    (["kd", "mcld"], {"kd": {"wait": 1}}, "no option of kd 'wait'"),
    (["kd", "mcld"], {"kd": 3}, "kd is 3; expected a mapping of options"),
    (["kd", "mcld"], {"weights": {"dk": 1}}, "'dk'; did you mean 'kd'"),
    (["kd", "mcld"], {"weights": 2}, "weights is 2; expected a mapping"),
]


@pytest.mark.parametrize(
    ("name", "options", "message"), BAD, ids=[f"{name} {message[:30]}" for name, _, message in BAD]
)
def test_bad_names_and_options(name: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        create_method(name, **options)
    assert "\n" not in str(caught.value)


def test_the_import_needs_torch_alone() -> None:
    code = (
        "import sys, time, torch, torch.distributed\n"
        "before, start = set(sys.modules), time.perf_counter()\n"
        "from mcld import info_nce, MCLD\n"
        "seconds = time.perf_counter() - start\n"
        "print(seconds, *{name.split('.')[0] for name in set(sys.modules) - before})\n"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    foreign = set(out[1:]) - {"mcld", "torch"} - set(sys.stdlib_module_names)
    assert not foreign
    assert float(out[0]) < 1.0

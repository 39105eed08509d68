"""``mcld methods``."""

import inspect
import re

import pytest
from tests.conftest import Mcld

from mcld.cli.methods import described, options_table
from mcld.configs.options import method_options
from mcld.methods import list_methods, method_class


def test_lists_every_method(mcld: Mcld) -> None:
    status, out, _ = mcld("methods")
    assert status == 0
    head, *lines = out.splitlines()
    assert head.split() == ["name", "family", "needs", "year", "what", "it", "does", "paper"]
    assert [line.split()[0] for line in lines] == list_methods()
    dkd = next(line for line in lines if line.startswith("dkd "))
    assert dkd.split()[:4] == ["dkd", "logits", "logits", "2022"]
    assert dkd.endswith("Zhao, Cui, Song, Qiu, Liang, CVPR 2022")
    plain = next(line for line in lines if line.startswith("plain "))
    assert plain.split()[:4] == ["plain", "-", "labels", "-"]


def test_shows_a_method(mcld: Mcld) -> None:
    status, out, _ = mcld("methods", "dkd")
    assert status == 0
    for text in (
        "(1 − p) times a non-target part",
        "  method.beta=8.0           weight of the non-target part, at least 0; published values are 0.5 to 8.\n",
        "cross-entropy weight: 1 (ce_weight)",
        "  method.standardize=false  true or false; ",
        "  vgg13-vgg8                     method.beta=6.0\n",
    ):
        assert text in out
    assert ":func:" not in out
    assert "``" not in out
    assert "Example:" not in out


@pytest.mark.parametrize("name", list_methods())
def test_every_option_is_explained(name: str) -> None:
    options = method_options(name)()
    for line in options_table(options, method_class(name), "method."):
        assert not re.search(r"=\S*$", line), line
    assert described(method_class(name))[0].startswith(inspect.cleandoc(method_class(name).__doc__ or "")[:20])


def test_shows_the_options_of_each_perspective(mcld: Mcld) -> None:
    status, out, _ = mcld("methods", "mcld")
    assert status == 0
    assert "  method.instance.target_mask=true         the Target Mask" in out
    assert "  method.instance.weight=3.0               at least 0" in out
    assert "  method.category.form=columns             columns (a class is" in out
    assert "  soft            method.instance.targets=soft method.sample.targets=soft" in out
    assert "  imagenet                   ce_weight=0.5" not in out
    assert "method.temperature=1.0 method.weight=0.5 ce_weight=0.5" in mcld("methods", "kd")[1]


def test_an_unknown_method(mcld: Mcld) -> None:
    status, _, error = mcld("methods", "dkdd")
    assert status != 0
    assert error.strip() == error.strip().splitlines()[0]
    assert "there is no method 'dkdd'; did you mean 'dkd'?" in error

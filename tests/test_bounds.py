"""The lowest versions that are declared are ones that work."""

import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from tests.conftest import ROOT

# Measured with tests below: before it, vision transformers cannot be fitted to small images.
LEAST = {"timm": (1, 0, 21)}
FIT = """
import timm, torch
from mcld.models import ModelSpec, fitting_options
for name in ("deit_tiny_patch16_224", "vit_tiny_patch16_224", "pit_ti_224", "swin_tiny_patch4_window7_224"):
    options = fitting_options(f"timm/{name}", (32, 32), {})
    spec = ModelSpec(f"timm/{name}", 5, 3, mean=[0.5] * 3, std=[0.5] * 3, options=options)
    assert spec.build().eval()(torch.zeros(1, 3, 32, 32)).shape == (1, 5)
print("timm", timm.__version__)
"""


def declared() -> dict[str, tuple[int, ...]]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = [re.fullmatch(r"([\w-]+)>=([\d.]+)", line) for line in project["dependencies"]]
    assert all(lines), "every dependency says its lowest version"
    return {line[1]: numbers(line[2]) for line in lines if line}


def numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text.partition("+")[0])[:3])


def test_what_is_installed_is_not_below_what_is_declared() -> None:
    for name, least in declared().items():
        assert numbers(version(name)) >= least, name


def test_no_bound_is_below_what_was_measured() -> None:
    for name, least in LEAST.items():
        assert declared()[name] >= least


@pytest.mark.slow
def test_the_lowest_timm_fits_vision_transformers_to_small_images(tmp_path: Path) -> None:
    least = ".".join(map(str, declared()["timm"]))
    words = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(tmp_path), f"timm=={least}"]
    if subprocess.run(words, capture_output=True).returncode != 0:
        pytest.skip(f"timm {least} cannot be fetched here")
    paths = os.pathsep.join([str(tmp_path), str(ROOT / "src")])
    found = subprocess.run(
        [sys.executable, "-c", FIT], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": paths}
    )
    assert found.returncode == 0, found.stderr[-2000:]
    assert f"timm {least}" in found.stdout

"""The site's pages: their examples run, their links lead somewhere, and no public name is missing."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import mcld

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


def marked(page: str, language: str = "") -> list[str]:
    text = (DOCS / page).read_text(encoding="utf-8")
    return re.findall(rf"^<!-- the tests run these lines -->\n```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def test_the_commands_of_the_first_page_are_those_of_the_readme() -> None:
    """Which tests/test_readme.py runs."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    tested = readme.partition("<!-- the tests run these lines -->\n```\n")[2].partition("```")[0]
    (block,) = marked("index.md")
    assert tested
    assert block == tested + "mcld report runs/student\n"


def test_the_loss_of_the_first_page_runs() -> None:
    (example,) = marked("index.md", "python")
    names: dict[str, object] = {}
    exec(example, names)
    assert names["student"].grad is not None  # type: ignore[attr-defined]


def test_every_public_name_is_on_the_api_page() -> None:
    shown = set(re.findall(r"^::: mcld\.(\w+)$", (DOCS / "api.md").read_text(encoding="utf-8"), re.MULTILINE))
    assert shown == set(mcld.__all__) - {"__version__"}


def test_every_page_is_in_the_navigation() -> None:
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    assert sorted(page for entry in nav for page in entry.values()) == sorted(page.name for page in DOCS.glob("*.md"))


@pytest.mark.parametrize("page", ["../README.md", *sorted(page.name for page in DOCS.glob("*.md"))])
def test_links_within_the_repository_lead_somewhere(page: str) -> None:
    path = DOCS / page
    for target in re.findall(r"\]\(([^)#\s]+)", path.read_text(encoding="utf-8")):
        if "://" not in target:
            assert Path(os.path.normpath(path.parent / target)).exists(), target


@pytest.mark.slow
def test_the_site_builds_without_a_warning_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    pytest.importorskip("material")
    command = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--strict",
        "-q",
        "-f",
        str(ROOT / "mkdocs.yml"),
        "-d",
        str(tmp_path),
    ]
    subprocess.run(command, check=True, timeout=300)
    for page in tmp_path.glob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert not re.search(r"<(?:script|img|iframe)[^>]*\bsrc=\"?(?:https?:)?//", text), page
        assert not re.search(r"<link[^>]*rel=\"?(?:stylesheet|preconnect)[^>]*href=\"?(?:https?:)?//", text), page

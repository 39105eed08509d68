"""Packages of other people, as files in a folder: what an installed package leaves behind."""

import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

JS = '''
import torch.nn.functional as F

import mcld


@mcld.register_method("js")
class JS(mcld.LogitMethod):
    """Match the teacher by the Jensen-Shannon divergence.

    Args:
        temperature: T > 0.
    """

    requires_global_batch = False
    temperature: float = 4.0

    def terms(self, student, teacher, labels, progress):
        p, q = ((x / self.temperature).softmax(dim=1) for x in (teacher, student))
        middle = ((p + q) / 2).log()
        both = (F.kl_div(middle, x, reduction="batchmean") for x in (p, q))
        return {"js": self.temperature**2 * sum(both) / 2}
'''


def install(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    module: str,
    points: Mapping[str, str],
    version: str = "1.2",
) -> Path:
    """Write a package with one module and its entry points, and make it importable.

    Args:
        folder: where.
        monkeypatch: undoes it.
        name: of the package.
        module: the source of ``name.py``.
        points: ``group: lines``.
        version: of the package.
    """
    (folder / f"{name}.py").write_text(module)
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text("".join(f"[{group}]\n{lines}\n" for group, lines in points.items()))
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, name, raising=False)
    return folder / f"{name}.py"

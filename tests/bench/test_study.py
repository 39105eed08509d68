from pathlib import Path

import pytest

from mcld.bench.suite import read_suite
from mcld.configs.schema import Distill
from mcld.training.parts import build_method

STUDY = Path(__file__).resolve().parents[2] / "benchmarks" / "study"


@pytest.mark.parametrize("file", sorted(STUDY.glob("*.yaml")), ids=lambda file: file.stem)
def test_every_cell_of_the_study_composes_and_shared_cells_are_the_same(file: Path) -> None:
    shared = {cell.id: cell.words for other in STUDY.glob("*.yaml") for cell in read_suite(str(other)).cells()}
    for cell in read_suite(str(file)).cells():
        assert sorted(shared[cell.id]) == sorted(cell.words)
        if cell.seed == 0:
            settings = cell.settings()
            assert isinstance(settings, Distill)
            build_method(settings.method)
            assert cell.test_data().val == "data/study/test.npz"

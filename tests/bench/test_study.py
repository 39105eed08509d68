from pathlib import Path

from mcld.bench.suite import read_suite
from mcld.configs.schema import Distill
from mcld.training.parts import build_method

STUDY = Path(__file__).resolve().parents[2] / "benchmarks" / "study"


def test_every_cell_of_the_study_composes_and_shared_cells_are_the_same() -> None:
    words: dict[str, list[str]] = {}
    for file in sorted(STUDY.glob("*.yaml")):
        for cell in read_suite(str(file)).cells():
            if cell.seed > 0:
                continue
            assert words.setdefault(cell.id, sorted(cell.words)) == sorted(cell.words)
            settings = cell.settings()
            assert isinstance(settings, Distill)
            build_method(settings.method)
            assert cell.test_data().val == "data/study/test.npz"
    assert len(words) > 50

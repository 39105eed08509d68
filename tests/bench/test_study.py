import importlib.util
from pathlib import Path
from types import ModuleType

from mcld.assembly.parts import build_method
from mcld.bench.suite_file import read_suite
from mcld.configs.schema import Distill

STUDY = Path(__file__).resolve().parents[2] / "benchmarks" / "study"


def test_every_cell_of_the_study_composes_and_shared_cells_are_the_same() -> None:
    words: dict[tuple[Path | None, str], list[str]] = {}
    for file in sorted(STUDY.glob("*.yaml")):
        suite = read_suite(str(file))
        for cell in suite.cells():
            if cell.seed > 0:
                continue
            if (suite.keep, cell.id) in words:
                assert words[suite.keep, cell.id] == sorted(cell.words)
                continue
            words[suite.keep, cell.id] = sorted(cell.words)
            settings = cell.settings()
            assert isinstance(settings, Distill)
            build_method(settings.method)
            assert cell.test_data().val == settings.data.val.replace("val.npz", "test.npz")
    assert len(words) > 150


def load_choose() -> ModuleType:
    spec = importlib.util.spec_from_file_location("choose", STUDY / "choose.py")
    assert spec is not None
    assert spec.loader is not None
    choose = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(choose)
    return choose


def test_of_each_method_the_best_on_the_validation_images_is_chosen() -> None:
    choose = load_choose()
    suite = STUDY / "a-probabilities.yaml"
    found = choose.best_settings(str(suite))
    tops = {cell.method: cell.results() for cell in read_suite(str(suite)).cells()}
    own = {name: one.summary["last"]["top1"] for name, one in tops.items() if one and name.startswith("MCLD")}
    assert found["MCLD"].cell.method == max(own, key=lambda name: own[name]) == "MCLD, softmax 2, weights 3 @ 0.2"
    assert found["MCLD"].tried == len(own) == 9
    lines = choose.entries(found)
    comment = lines.index("  # of 9: MCLD, softmax 2, weights 3 @ 0.2, 48.63% on the validation images")
    assert lines[comment + 1].startswith('  MCLD tuned: "method=mcld method.softmax=2')


def test_a_rival_whose_best_setting_is_the_published_one_is_not_run_again() -> None:
    choose = load_choose()
    found = choose.best_settings(str(STUDY / "c-rivals-grid.yaml"))
    assert (found["DIST"].cell.method, found["DIST"].tried) == ("DIST", 14)
    lines = choose.entries({"DIST": found["DIST"], "MCLD": found["MCLD"]})
    assert lines[0] == "  # of 14: DIST, 47.97% on the validation images"
    assert [line.split(":")[0] for line in lines] == ["  # of 14", "  # of 14", "  MCLD tuned"]

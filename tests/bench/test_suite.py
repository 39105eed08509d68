from collections.abc import Callable
from pathlib import Path

import pytest

from mcld.bench.suite import difference, merge_words, select, slug
from mcld.bench.suite_file import read_suite
from mcld.configs.decisive import flatten
from mcld.configs.schema import Distill
from mcld.errors import InputError

Suite = Callable[..., Path]


def test_the_grid_is_pairs_by_methods_by_seeds_and_a_seed_is_whole_before_the_next(suite: Suite) -> None:
    file = suite(
        ("  small:", "  wide: student=resnet8 student.options.width=8 schedule.epochs=3\n  small:"),
        ("MCLD: method=mcld", "MCLD: {words: 'method=[mcld,kd] ce_weight=0.5', seeds: [1, 5]}"),
    )
    cells = read_suite(str(file)).cells()
    assert [cell.id for cell in cells[:4]] == [
        "wide/plain/seed0",
        "wide/kd/seed0",
        "small/plain/seed0",
        "small/kd/seed0",
    ]
    assert [cell.seed for cell in cells] == [0] * 4 + [1] * 6 + [5] * 2
    last = cells[-1].settings()
    assert isinstance(last, Distill)
    assert (last.method.name, last.ce_weight, last.seed, last.schedule.epochs) == ("mcld+kd", 0.5, 5, 2)
    assert last.student.options == {"width": 4}
    assert cells[0].settings().schedule.epochs == 3  # the pair's word wins over the common one
    assert last.run == "runs/tiny/small/mcld/seed5"
    assert cells[0].settings().run == "runs/tiny/wide/plain/seed0"  # what is composed once is not shared
    assert cells[0].test_data().val != cells[0].settings().data.val


def test_several_values_are_several_methods(suite: Suite) -> None:
    grid = "instance: method=mcld method.instance.temperature=0.05,0.1 method.instance.weight=1,3 method.center=false"
    methods = read_suite(str(suite(("MCLD: method=mcld", grid)))).methods
    assert list(methods)[2:] == [f"instance: temperature {t}, weight {w}" for t in ("0.05", "0.1") for w in ("1", "3")]
    words = methods["instance: temperature 0.05, weight 3"].words
    assert words == [
        "method=mcld",
        "method.center=false",
        "method.instance.temperature=0.05",
        "method.instance.weight=3",
    ]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("baseline: KD", "basline: KD", "there is no key 'basline'; did you mean 'baseline'?"),
        ("baseline: KD", "baseline: kd", "there is no method 'kd'; did you mean 'KD'? expected KD, MCLD or plain"),
        ("seeds: [0, 1]", "seeds: 3", "seeds is 3; expected different whole numbers from 0, such as [0, 1, 2]"),
        ("seeds: [0, 1]", "seeds: [1, 1]", "expected different whole numbers"),
        ("seeds: [0, 1]", "seeds: [true]", "expected different whole numbers"),
        ("seeds: [0, 1]", "", "seeds is missing; a suite has common, teacher"),
        ("method=kd", "3", "methods.KD is 3; expected words such as"),
        ("method=kd", "method", "methods.KD: 'method'; expected key=value"),
        ("method=kd", "method=kd seed=3", "methods.KD: seed=3: the bench sets it; say which with seeds"),
        ("method=kd", "{word: method=kd}", "there is no key of methods.KD 'word'; did you mean 'words'?"),
        ("  KD:", "  plain:", "the key 'plain' is there twice"),
        ("  KD:", "  Plain:", "methods 'plain' and 'Plain' would share the directory 'plain'"),
        ("  small:", "  teacher:", "pairs: 'teacher' is a name of the bench's own"),
        ("pairs:\n", "pairs: 5\nx:\n", "there is no key 'x'"),
        ("test: data.val", "test: student", "expected words that change the data"),
        ("teacher: ", "teacher: {run: x}\ntitle: ", "there is no key of teacher 'run'"),
    ],
)
def test_a_mistake_in_the_file_is_one_line_that_says_what_is_right(
    suite: Suite, old: str, new: str, message: str
) -> None:
    file = suite((old, new))
    with pytest.raises(InputError) as error:
        read_suite(str(file))
    text = str(error.value)
    assert text.startswith(f"{file}: ") or "is no YAML" in text
    assert message in text
    assert "\n" not in text


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("method=kd", "method=kdd", "did you mean 'kd'?"),
        ("method=kd", "method=kd method.temprature=2", "small/kd/seed0: method.temprature=2: there is no setting"),
        ("method=kd", "method=kd method.temperature=-2", "small/kd/seed0: "),
        ("schedule.epochs=2", "schedule.epochs=0", "small/plain/seed0: schedule.epochs=0; expected at least 1"),
        ("test: data.val", "test: data.batch_size=32 #", "is the validation data; expected other images"),
    ],
)
def test_every_cell_is_checked_before_any_starts(suite: Suite, old: str, new: str, message: str) -> None:
    from mcld.bench.runner import prepare

    read = read_suite(str(suite((old, new))))
    with pytest.raises(InputError) as error:
        prepare(read, read.cells())
    assert message in str(error.value)
    assert not read.out.exists()


def test_the_teacher_may_be_a_network_with_a_file_of_weights(suite: Suite, teacher: Path) -> None:
    from mcld.bench.runner import prepare

    named = (f"teacher: {teacher}", "teacher: resnet8")
    read = read_suite(str(suite(named)))
    with pytest.raises(
        InputError, match=r"'resnet8', which is no run directory; .* add teacher\.checkpoint=FILE to common"
    ):
        prepare(read, read.cells())
    weights = (" schedule.epochs=2", f" schedule.epochs=2 teacher.checkpoint={teacher / 'last.safetensors'}")
    read = read_suite(str(suite(named, weights)))
    assert prepare(read, read.cells()) == read.cells()


def test_what_is_not_a_suite(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no/such: No such file or directory; expected a suite file"):
        read_suite("no/such")
    for text, message in (
        ("- a", "expected keys with values"),
        ("a: [", "is no YAML"),
        ("a: !!python/name:os.x", "YAML"),
    ):
        (tmp_path / "bad.yaml").write_text(text)
        with pytest.raises(InputError, match=message):
            read_suite(str(tmp_path / "bad.yaml"))


def test_only_some_cells(suite: Suite) -> None:
    cells = read_suite(str(suite())).cells()
    assert [cell.id for cell in select(cells, ["KD"])] == ["small/kd/seed0", "small/kd/seed1"]
    assert [cell.id for cell in select(cells, ["kd/seed1", "plain/seed0"])] == ["small/plain/seed0", "small/kd/seed1"]
    assert len(select(cells, ["small"])) == len(select(cells, [])) == 6
    with pytest.raises(InputError, match="there is no cell 'KDD'; did you mean 'KD'"):
        select(cells, ["KDD"])


def test_settings_that_differ_are_named(suite: Suite) -> None:
    (first,) = select(read_suite(str(suite())).cells(), ["kd/seed0"])
    (other,) = select(read_suite(str(suite(("method=kd", "method=kd method.temperature=2")))).cells(), ["kd/seed0"])
    then, now = flatten(first.settings()), flatten(other.settings())
    assert difference(first, then, then, resolved=False) == ""
    assert difference(other, now, then, resolved=False) == "method.temperature is 4.0 there, 2.0 in the suite"
    assert difference(first, then, {**then, "schedule.lr": 0.05}, resolved=True) == ""
    assert difference(first, then, {**then, "schedule.lr": 0.05}, resolved=False) != ""
    older = {key: value for key, value in then.items() if key != "optimizer.clip"}
    assert difference(first, then, older, resolved=False) == ""  # the setting came into being later


def test_names_become_paths() -> None:
    assert slug("MCLD (3 terms), T=0.1/x") == "mcld-3-terms-t=0.1-x"
    assert merge_words(["a=1", "b=2"], ["a=3"]) == ["a=3", "b=2"]

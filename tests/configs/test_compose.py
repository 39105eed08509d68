import re
from pathlib import Path

import pytest

from mcld.assembly.parts import build_method
from mcld.configs.compose import compose, settings_from_yaml, settings_to_yaml
from mcld.configs.schema import Distill, Train
from mcld.configs.values import with_values
from mcld.configs.words import combinations, read
from mcld.errors import InputError
from mcld.methods import KD, MCLD, Combined

BASE = ["data=digits", "teacher=runs/teacher", "student=resnet8"]


def distill(*words: str) -> Distill:
    settings = compose("distill", [*BASE, *words])
    assert isinstance(settings, Distill)
    return settings


def test_names_are_short_for_their_nodes() -> None:
    settings = distill("teacher.checkpoint=a b.pth", "schedule=step", "optimizer=adamw", "run=runs/x=1,2")
    assert settings.teacher.name == "runs/teacher"
    assert settings.teacher.checkpoint == "a b.pth"
    assert settings.student.name == "resnet8"
    assert (settings.schedule.name, settings.optimizer.name) == ("step", "adamw")
    assert settings.run == "runs/x=1,2"
    assert settings.method.name == "mcld"


@pytest.mark.parametrize(
    "path",
    [
        "日本/ü",
        "2024_01_15",
        "1e3",
        "true",
        r"C:\a\b",
        "a\\",
        "it's",
        'say "x"',
        r"a\'b",
        "[x]",
        "a{b}",
        "x=1,2",
        "$HOME",
    ],
)
def test_a_path_means_itself(path: str) -> None:
    settings = compose("train", ["data=folder", f"data.path={path}", f"model={path}", f"run={path}"])
    assert isinstance(settings, Train)
    assert (settings.run, settings.model.name, settings.data.path) == (path, path, path)
    if "," not in path:
        (swept,) = combinations(read(["data=digits", "model=resnet8", f"run={path}"]))
        assert compose("train", swept).run == path


def test_a_path_may_be_null_or_quoted_or_at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    words = ["run=null", "teacher.checkpoint=~/t.pth", "teacher=~/t", "student='a b'"]
    settings = compose("distill", ["data=digits", *words])
    assert isinstance(settings, Distill)
    assert settings.run is None
    assert (settings.teacher.name, settings.teacher.checkpoint) == ("/home/me/t", "/home/me/t.pth")
    assert settings.student.name == "a b"
    assert compose("distill", [*BASE, "run=runs/x-${seed}", "seed=3"]).run == "runs/x-3"
    assert compose("distill", [*BASE, "log_every=${schedule.epochs}", "schedule.epochs=7"]).log_every == 7


def test_the_options_of_a_method_are_those_of_its_constructor() -> None:
    method = build_method(distill("method.category.weight=2", "method.bank=256").method)
    assert isinstance(method, MCLD)
    assert method.category.weight == 2
    assert method.category.temperature == MCLD().category.temperature
    assert method.bank.size == 256
    kd = build_method(distill("method=kd", "method.temperature=2").method)
    assert isinstance(kd, KD)
    assert (kd.temperature, kd.weight) == (2, 0.9)


@pytest.mark.parametrize("word", ["method=[mcld,kd]", "method=mcld+kd", "method=[ mcld , kd ]"])
def test_methods_compose_with_weights_and_their_own_options(word: str) -> None:
    method = build_method(distill(word, "method.weights.kd=0.5", "method.mcld.sample.weight=3").method)
    assert isinstance(method, Combined)
    assert method.weights == {"mcld": 1.0, "kd": 0.5}
    mcld = method.methods["mcld"]
    assert isinstance(mcld, MCLD)
    assert mcld.sample.weight == 3


def test_options_of_an_architecture_are_open() -> None:
    assert distill("student.options.width=8").student.options == {"width": 8}


def test_plain_training_needs_no_teacher() -> None:
    settings = compose("distill", ["data=digits", "student=resnet8", "method=plain"])
    assert isinstance(settings, Distill)
    assert settings.teacher.name == "none"


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("schedule.epoch=3", "schedule.epoch=3: there is no setting 'schedule.epoch'; did you mean 'schedule.epochs'?"),
        ("epochs=3", "epochs=3: there is no setting 'epochs'; did you mean 'schedule.epochs'?"),
        ("schedule.epochs=ten", "schedule.epochs=ten: expected an integer, not 'ten'"),
        ("label_smoothing=much", "label_smoothing=much: expected a number, not 'much'"),
        ("optimizer.clip=[1]", r"optimizer.clip=\[1\]: "),
        ("method=mcdl", "method=mcdl: there is no method 'mcdl'; did you mean 'mcld'"),
        ("method=[mcld,kdd]", "method=kdd: there is no method 'kdd'; did you mean 'kd'"),
        ("method=[kd,kd]", "a method is named twice"),
        ("data=digit", "data=digit: there is no data set 'digit'; did you mean 'digits'"),
        ("method.categoy.weight=2", "did you mean 'method.category.weight'"),
        ("method.category=2", "'method.category' holds several settings; expected method.category.SETTING=VALUE"),
        ("seed=0,1", "seed=0,1: expected an integer, not '0,1'; a run with each of several values: mcld distill -m"),
        ("optimizer.lr=1", "did you mean 'schedule.lr'"),
        ("student={name:resnet8,optoins:{}}", "there is no setting 'student.optoins'; did you mean 'student.options'"),
        ("run=x${y}", r"\$\{y\}: there is no setting 'y' that"),
        ("seed", "cannot read 'seed'; expected key=value"),
        ("schedule.milestones=[0.5", r"cannot read 'schedule.milestones=\[0.5'; expected key=value"),
    ],
)
def test_a_mistake_is_one_line_with_the_right_word(word: str, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        distill(word)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["model=resnet8"], "data is not set; choose one: data=NAME with NAME among arrays, cifar10"),
        (["data=digits"], "model is not set; expected model=VALUE"),
        (["data=folder", "model=resnet8"], r"data\.path is not set; expected data\.path=VALUE"),
    ],
)
def test_what_is_missing_is_named(words: list[str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        compose("train", words)


def test_a_recipe_is_so_many_words_and_what_is_said_wins() -> None:
    words = ["data=digits", "model=timm/deit_tiny_patch16_224", "recipe=vit", "schedule.lr=0.002", "schedule=one_cycle"]
    settings = compose("train", words)
    assert isinstance(settings, Train)
    assert (settings.recipe, settings.data.policy, settings.data.batch_size) == ("vit", "trivial", 128)
    optimizer = settings.optimizer
    assert (optimizer.name, optimizer.weight_decay, optimizer.decay_norms, optimizer.clip) == (
        "adamw",
        0.05,
        False,
        1.0,
    )
    assert (settings.schedule.name, settings.schedule.lr, settings.schedule.warmup) == ("one_cycle", 0.002, 0.1)
    assert (settings.label_smoothing, settings.model.options) == (0.1, {"drop_path_rate": 0.1})
    student = distill("recipe=vit", "student=resnet8").student
    assert student.options == {}  # stochastic depth is an option of timm's networks
    off = distill("recipe=vit", "student=timm/resnet18", "student.options.drop_path_rate=0.0").student
    assert off.options == {"drop_path_rate": 0.0}


def test_settings_come_back_from_yaml(tmp_path: Path) -> None:
    for settings in (
        distill("method=[mcld,kd]", "method.kd.temperature=3", "student.options.width=8", "schedule.lr=0.1"),
        compose("train", ["data=folder", "data.path=~/my photos", "model=timm/resnet18"]),
    ):
        file = tmp_path / "config.yaml"
        file.write_text(settings_to_yaml(settings))
        back = settings_from_yaml(file)
        assert type(back) is type(settings)
        assert settings_to_yaml(back) == settings_to_yaml(settings)
    assert isinstance(settings, Train)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("data: null", r"data is None; expected a name and options"),
        ("data: foo", r"data is 'foo'; expected a name and options"),
        ("data: {name: [1]}", r"data=\[1\]: expected a name"),
        ("seed: [", r"line \d+: "),
    ],
)
def test_a_config_that_was_edited_is_told_where(tmp_path: Path, line: str, said: str) -> None:
    file = tmp_path / "config.yaml"
    text = settings_to_yaml(compose("train", ["data=digits", "model=resnet8"]))
    key = line.partition(":")[0]
    file.write_text(re.sub(rf"^{key}:.*\n( .*\n)*", f"{line}\n", text, flags=re.MULTILINE))
    with pytest.raises(InputError, match=said) as caught:
        settings_from_yaml(file)
    assert "\n" not in str(caught.value)
    file.write_text("- 1\n")
    with pytest.raises(InputError, match="it holds no settings"):
        settings_from_yaml(file)


@pytest.mark.parametrize("text", ["${seed}", "x${oc.env:HOME}", "a/\\${seed}", "\\\\${seed}$", "~/$ {"])
def test_a_stored_text_is_never_resolved(tmp_path: Path, text: str) -> None:
    settings = compose("train", ["data=folder", "data.path=x", "model=timm/resnet18", "model.options.a=1"])
    assert isinstance(settings, Train)
    settings = with_values(settings, {"run": text, "data.path": text, "model.options": {"a": [text]}})
    file = tmp_path / "config.yaml"
    file.write_text(settings_to_yaml(settings))
    back = settings_from_yaml(file)
    assert isinstance(back, Train)
    assert (back.run, back.data.path, back.model.options) == (text, text, {"a": [text]})
    file.write_text(file.read_text().replace("seed: 0", "seed: ${schedule.epochs}"))
    with pytest.raises(InputError, match="cannot be read"):
        settings_from_yaml(file)


def test_an_escaped_reference_is_literal() -> None:
    assert compose("train", ["data=digits", "model=resnet8", r"run=x\${seed}"]).run == "x${seed}"


@pytest.mark.parametrize("harm", ["schedule: 3", "surprise: 1", "data: [", ""])
def test_a_damaged_config_is_one_line(tmp_path: Path, harm: str) -> None:
    file = tmp_path / "config.yaml"
    text = settings_to_yaml(compose("train", ["data=digits", "model=resnet8"]))
    file.write_text(text.replace("seed: 0", harm) if harm else "")
    with pytest.raises(InputError, match=r"config\.yaml cannot be read") as caught:
        settings_from_yaml(file)
    assert "\n" not in str(caught.value)


def test_a_config_is_data_never_code(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    trap = tmp_path / "trap"
    file.write_text(f"!!python/object/apply:os.system ['touch {trap}']\n")
    with pytest.raises(InputError, match="cannot be read"):
        settings_from_yaml(file)
    assert not trap.exists()


@pytest.mark.parametrize(
    ("word", "values"),
    [
        ("method=kd,[mcld,kd]", ["kd", "mcld+kd"]),
        ("seed=range(1,4)", ["1", "2", "3"]),
        ("schedule.lr=choice(0.1,0.2)", ["0.1", "0.2"]),
        ("schedule.milestones=[0.5,0.7],[0.6]", ["[0.5,0.7]", "[0.6]"]),
        ("data.path='a,b',c", ["'a,b'", "c"]),
        ("student=resnet8,runs/a b", ["resnet8", "runs/a b"]),
    ],
)
def test_a_sweep_may_have_several_values(word: str, values: list[str]) -> None:
    base = [one for one in BASE if one.partition("=")[0] != word.partition("=")[0]]
    jobs = combinations(read([*base, word, "optimizer=sgd,adamw"]))
    assert [job[-2].partition("=")[2] for job in jobs] == [value for value in values for _ in range(2)]
    assert [job[-1] for job in jobs[:2]] == ["optimizer=sgd", "optimizer=adamw"]


def test_a_sweep_has_an_end() -> None:
    with pytest.raises(InputError, match=r"schedule.lr=interval\(0,1\): expected values with commas, range"):
        combinations(read([*BASE, "schedule.lr=interval(0,1)"]))

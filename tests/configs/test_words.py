import pytest

from mcld.assembly.limits import check_settings
from mcld.configs.compose import compose, settings_from
from mcld.configs.schema import Distill, Train
from mcld.errors import InputError

BASE = ["data=digits", "teacher=runs/teacher", "student=resnet8"]


@pytest.mark.parametrize(
    ("word", "said"),
    [
        *((f"{group}={value}", f"{group}={value}: there is no {kind} '{value}'; ")
          for group, kind in (("data", "data set"), ("method", "method"))
          for value in ("3", "1e9", "NaN", "true", "[1]" if group == "data" else "x", "{name:kd}")),
        ("data=", "data=: expected a name"),
        ("data=null", "data=null: expected a name"),
        ("method=null", "method=null: expected a name"),
        ("teacher=null", "teacher=null: expected text, not null"),
        ("schedule=null", "schedule=null: expected text, not null"),
        ("run=", "run=: there is nothing after the equals sign; expected a value, or null for none"),
        ("recipe=", "recipe=: there is nothing after the equals sign"),
        ("published=", "published=: there is nothing after the equals sign"),
        ("student=", "there is nothing after the equals sign"),
        ("student.options.width=", "there is nothing after the equals sign"),
        ("teacher.checkpoint=''", "there is nothing after the equals sign"),
        ("teacher.allow_near_chance=2", "teacher.allow_near_chance=2: expected true or false, not '2'"),
        ("teacher={name:x,pretrained:7}", "expected true or false, not 7"),
        ("data.augment=-1", "data.augment=-1: expected true or false, not '-1'"),
        ("method.center=3", "method.center=3: expected true or false, not '3'"),
        ("student.maps=[]", "student.maps=[]: the list is empty; expected at least one value, or"),
        ("student.mean=[]", "the list is empty"),
        ("schedule.milestones=[]", "the list is empty"),
        ("~seed", "cannot read '~seed'; expected key=value"),
        ("~student=x", "cannot read '~student=x'; expected key=value"),
        ("run=a\0b", r"the value holds a NUL byte"),
        (f"run={'x' * 300}", "a name of more than 255 bytes"),
        (f"teacher.store=a/{'é' * 130}", "a name of more than 255 bytes"),
        ("run=~no-one/x", "~no-one/x: there is no user 'no-one' with a home folder here"),
        ("teacher.checkpoint=~no-such-user", "there is no user 'no-such-user'"),
        ("model.options.width=3", "there is no setting 'model.options.width'"),
    ],
)  # fmt: skip
def test_what_means_nothing_is_refused_in_a_line(word: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        compose("distill", [*(known for known in BASE if word[:5] != "data=" or known[:5] != "data="), word])
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_training_has_no_method() -> None:
    with pytest.raises(InputError, match=r"method=kd: there is no setting 'method\.name'"):
        compose("train", ["data=digits", "model=resnet8", "method=kd"])


@pytest.mark.parametrize(("word", "value"), [("yes", True), ("off", False), ("no", False), ("true", True)])
def test_words_for_true_and_false(word: str, value: bool) -> None:
    settings = compose("distill", [*BASE, f"teacher.allow_near_chance={word}"])
    assert isinstance(settings, Distill)
    assert settings.teacher.allow_near_chance is value


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("threads=100000", "threads=100000; expected at most "),
        ("teacher.views=0", "teacher.views=0; expected at least 1 and at most 2,147,483,647"),
        (f"teacher.views=1{'0' * 30}", "; expected at least 1 and at most 2,147,483,647"),
        ("threads=0", "threads=0; expected at least 1"),
        ("schedule.epochs=2147483648", "expected at most 2,147,483,647"),
        ("optimizer.clip=1e30", "optimizer.clip=1e+30; expected a positive number of at most 1e+06"),
        (f"checkpoints.minutes=1{'0' * 400}", "checkpoints.minutes=inf; expected a positive number of at most 1e+06"),
        ("checkpoints.minutes=1e300", "checkpoints.minutes=1e+300; expected a positive number of at most 1e+06"),
        ("optimizer.weight_decay=1e30", "expected at least 0 and at most 1e+06"),
        ("schedule.gamma=2", "schedule.gamma=2.0; expected at most 1: the learning rate falls by it"),
        ("schedule.milestones=[0.8,0.5]", "expected fractions of the run, each above the last"),
        ("schedule.milestones=[0.5,0.5]", "expected fractions of the run, each above the last"),
        ("schedule.lr=nan", "schedule.lr=nan; expected a positive number"),
        ("seed=-1", "seed=-1; expected a number below 2**62, at least 0"),
        (f"seed={2**62}", "expected a number below 2**62"),
        ("device=cuda:0", "device=cuda:0; expected one of auto, cpu, cuda, mps"),
        ("compile=maybe", "compile=maybe; expected one of auto, true, false"),
    ],
)
def test_every_number_has_its_range(word: str, said: str) -> None:
    taught = word.startswith("teacher")
    settings = compose("distill", [*BASE, word]) if taught else compose("train", ["data=digits", "model=resnet8", word])
    assert isinstance(settings, Train | Distill)
    with pytest.raises(InputError) as caught:
        check_settings(settings)
    assert said in str(caught.value)


def test_a_value_is_the_narrowest_that_its_setting_takes() -> None:
    settings = compose("distill", [*BASE, "compile=on", "channels_last=auto", "optimizer.clip='5'", "threads=null"])
    assert (settings.compile, settings.channels_last, settings.optimizer.clip) == (True, "auto", 5.0)
    assert settings.threads is None
    options = ["student.options={a:1}", "student.options.b=[1,x]", "student.options.c='2'", "student.options.d=2"]
    settings = compose("distill", [*BASE, *options])
    assert isinstance(settings, Distill)
    assert settings.student.options == {"a": 1, "b": [1, "x"], "c": "2", "d": 2}
    given = {"data": "digits", "student": {"name": "x", "options": {"a": 1}}, "teacher": "x", "compile": "off"}
    python = settings_from("distill", {**given, "teacher": {"name": "t"}, "optimizer.clip": 5, "precision": 32})
    assert (python.compile, python.optimizer.clip, python.precision) == (False, 5.0, "32")
    assert isinstance(python, Distill)
    assert (python.student.options, python.teacher.name) == ({"a": 1}, "t")

"""The published rows: what they say, and that each becomes exactly those settings."""

import pytest

from mcld.configs.compose import compose
from mcld.configs.expand import expand
from mcld.configs.published import Row, absent, find_row, published_rows
from mcld.configs.schema import Distill, Train
from mcld.errors import InputError
from mcld.methods import create_method, list_methods
from mcld.models import create_model, default_lr, find_model

HERE = [
    "plain", "kd", "dkd", "dist", "ckd", "ctkd", "mlkd", "mcld", "fitnet", "rkd", "ofd", "simkd", "at", "sp", "pkt",
    "vid", "catkd", "ttm", "wttm", "sld", "nkd", "cc", "ft", "nst", "skd", "rld", "crld", "ldrld", "wkd", "pld", "sdd",
    "normkd", "eakd",
]  # fmt: skip
OWN_RECIPES = ("mlkd", "reviewkd", "sld", "ofd", "skd", "pld")  # of their authors
RUNNABLE = [row for row in published_rows() if row.method in list_methods()]
PAIRS = {row.pair for row in published_rows() if row.data == "cifar100" and row.teacher}


def words(row: Row) -> list[str]:
    return [f"published={row.id}", *(["teacher.checkpoint=FILE"] if row.teacher else [])]


def test_ids_are_unique_and_numbers_are_shares() -> None:
    rows = published_rows()
    assert len({row.id for row in rows}) == len(rows) > 200
    for row in rows:
        assert row.id.split("/")[0] == row.data
        assert all(55 < number.top1 < 85 for number in row.numbers)
        assert all(number.source for number in row.numbers)
        assert row.numbers or row.note, f"{row.id} has no number and says not why"


def test_every_method_that_is_here_can_run_its_rows() -> None:
    assert {row.method for row in published_rows()} >= set(HERE)
    assert set(HERE) <= set(list_methods())
    assert [absent(row) for row in RUNNABLE] == [""] * len(RUNNABLE)
    for row in RUNNABLE:
        assert create_method(row.method, **row.options).views == row.views


def made(row: Row) -> Train | Distill:
    return compose(row.command, [*words(row), *(["data.path=DIR"] if row.data == "imagenet" else [])])


def test_every_row_becomes_exactly_the_settings_that_it_names() -> None:
    for row in RUNNABLE:
        settings = made(row)
        assert settings.published == row.id
        assert settings.data.name == row.data
        assert settings.data.batch_size == row.recipe.batch_size
        assert settings.schedule.epochs == row.recipe.epochs
        assert settings.schedule.lr == row.recipe.lr
        assert settings.optimizer.weight_decay == row.recipe.weight_decay
        assert settings.optimizer.clip == row.recipe.clip
        assert (row.recipe.clip is None) == (row.method != "mcld" and row.id != "imagenet/resnet50-MobileNetV1/nkd")
        assert settings.optimizer.nesterov is row.recipe.nesterov
        assert settings.optimizer.decay_norms is row.recipe.decay_norms
        decays = [round(point * row.recipe.epochs) for point in settings.schedule.milestones]
        assert settings.schedule.name == ("step" if row.recipe.decays else "cosine")
        assert not row.recipe.decays or decays == list(row.recipe.decays)
        if isinstance(settings, Distill):
            assert (settings.teacher.name, settings.student.name) == (row.teacher, row.student)
            assert settings.ce_weight == row.ce_weight
            assert {key: getattr(settings.method, key) for key in row.options} == row.options
        else:
            assert settings.model.name == row.student


def test_every_network_exists_and_has_its_own_learning_rate() -> None:
    for row in published_rows():
        for name in (row.student, row.teacher):
            assert name is None or "/" in name or find_model(name).name == name
        if row.data == "cifar100" and row.method not in OWN_RECIPES and row.recipe.epochs != 200:
            assert row.recipe.lr == default_lr(row.student)
    create_model("torchvision/mobilenet_v2", num_classes=2)


@pytest.mark.parametrize(
    ("name", "options", "ce_weight", "top1"),
    [
        (
            "cifar100/resnet32x4-resnet8x4/dkd",
            {"alpha": 1, "beta": 8, "temperature": 4, "warmup": 20},
            1,
            [76.32, 75.98],
        ),
        ("cifar100/wrn_40_2-wrn_40_1/dkd", {"beta": 6}, 1, [74.81, 73.3]),
        ("cifar100/resnet56-resnet20/dkd", {"beta": 2}, 1, [71.97]),
        ("cifar100/ResNet50-MobileNetV2/kd", {"temperature": 4, "weight": 0.9}, 0.1, [67.35]),
        (
            "cifar100/ResNet50-MobileNetV2/kd-ls",
            {"temperature": 3, "weight": 1, "standardize": True},
            0.1,
            [69.02, 69.03],
        ),
        ("cifar100/resnet110-resnet20/kd-ls", {"temperature": 4, "weight": 12}, 0.1, [71.48, 71.22]),
        ("cifar100/resnet32x4-ShuffleV2/dist", {"beta": 2, "gamma": 2, "temperature": 4}, 1, [77.35]),
        ("cifar100/vgg13-MobileNetV2/ckd", {"weight": 50, "temperature": 2}, 1, []),
        ("cifar100/ResNet50-vgg8/kd", {}, 0.1, [73.81]),
        ("cifar100/wrn_40_2-MobileNetV2/mlkd-ls", {"weight": 9, "temperature": 2, "as_published": True}, 0.1, [71.61]),
        ("imagenet/resnet34-resnet18/kd", {"temperature": 1, "weight": 0.5}, 0.5, [71.03, 71.21, 71.37, 70.83]),
        ("imagenet/resnet34-resnet18/kd-mmrazor", {"temperature": 1, "weight": 3}, 1, [71.81]),
        ("cifar100/vgg13-vgg8/kd-dot", {"temperature": 4, "weight": 0.9}, 0.1, [73.77]),
        ("cifar100/resnet32x4-resnet8x4/skd", {"weight": 0.5, "direction": 0.5, "as_published": True}, 0.5, [78.33]),
        ("cifar100/ResNet50-MobileNetV2/rld", {"alpha": 1, "beta": 8, "temperature": 4, "warmup": 20}, 1, []),
        ("cifar100/resnet56-resnet20/crld", {"within": 2, "across": 0.5, "weak_confidence": 0.9}, 1, []),
        ("cifar100/wrn_40_2-ShuffleV1/wkd", {"weight": 200, "temperature": 6}, 1, [76.72]),
        ("cifar100/resnet32x4-resnet8x4/pld", {"temperature": 4}, 0, [73.97]),
        ("cifar100/ResNet50-MobileNetV2/sd-dkd", {"of": "dkd", "grid": 4}, 1, [71.51]),
        ("imagenet/resnet50-MobileNetV1/wkd", {"weight": 25, "sharpness": 2, "decay_start": 0}, 1, [73.17]),
        ("imagenet/resnet50-MobileNetV1/dkd", {"temperature": 1, "beta": 2, "warmup": 1}, 1, [72.05]),
    ],
)
def test_rows_hold_the_facts_of_the_field(
    name: str, options: dict[str, float], ce_weight: float, top1: list[float]
) -> None:
    row = find_row(name)
    assert {key: row.options[key] for key in options} == options
    assert row.ce_weight == ce_weight
    assert [number.top1 for number in row.numbers] == top1


def test_protocols_stay_apart() -> None:
    kd, dkd, mlkd = (find_row(f"cifar100/resnet32x4-resnet8x4/{name}") for name in ("kd", "dkd", "mlkd"))
    assert (kd.numbers[0].epoch, kd.views, kd.recipe.epochs) == ("last", 1, 240)
    assert (dkd.numbers[0].epoch, dkd.numbers[0].runs) == ("best", "mean of 5 runs")
    assert "rerun" in dkd.numbers[1].source
    assert (mlkd.views, mlkd.recipe.epochs, mlkd.recipe.decays, mlkd.recipe.lr) == (2, 240, (150, 180, 210), 0.025)


def test_mcld_has_a_row_for_every_pair_and_says_whose_it_is() -> None:
    rows = [row for row in published_rows() if row.method == "mcld"]
    assert {row.pair for row in rows if row.data == "cifar100"} == PAIRS
    assert {row.pair for row in rows if row.data == "imagenet"} == {"resnet34-resnet18", "resnet50-MobileNetV1"}
    assert {row.note for row in rows} == {"ours: the paper's hyper-parameters were not available"}
    assert not any(row.numbers for row in rows)


def test_every_teacher_on_cifar_has_a_row_of_its_own() -> None:
    for row in published_rows():
        if row.data == "cifar100" and row.teacher:
            alone = find_row(f"cifar100/{row.teacher}")
            assert (alone.command, alone.recipe.epochs) == ("train", 200 if row.teacher == "wrn_28_4" else 240)


def test_words_of_a_person_win() -> None:
    mine = ["schedule.epochs=3", "schedule=cosine", "teacher=runs/t", "student=resnet20", "method.weight=2"]
    settings = compose("distill", ["published=cifar100/resnet32x4-resnet8x4/kd", *mine])
    assert isinstance(settings, Distill)
    assert (settings.schedule.epochs, settings.schedule.name) == (3, "cosine")
    assert (settings.teacher.name, settings.student.name) == ("runs/t", "resnet20")
    assert (settings.method.weight, settings.method.temperature, settings.ce_weight) == (2.0, 4.0, 0.1)


def test_another_method_or_data_set_takes_its_own_options() -> None:
    mine = ["teacher=runs/t", "method=mcld", "data=digits"]
    settings = compose("distill", ["published=cifar100/resnet32x4-resnet8x4/kd", *mine])
    assert isinstance(settings, Distill)
    assert (settings.method.name, settings.ce_weight, settings.data.name) == ("mcld", None, "digits")


def test_without_published_nothing_changes() -> None:
    assert expand("train", {"data.name": "digits", "model.name": "resnet8"}) == {}
    settings = compose("train", ["data=digits", "model=resnet8"])
    assert isinstance(settings, Train)
    assert settings.published is None


@pytest.mark.parametrize(
    ("command", "given", "said"),
    [
        ("distill", ["published=cifar100/resnet32x4-resnet8/kd"], "did you mean 'cifar100/resnet32x4-resnet8x4/kd'"),
        ("train", ["published=cifar100/resnet32x5"], "did you mean 'cifar100/resnet32x4"),
        ("train", ["published=cifar100/resnet56-resnet20/kd"], "is for mcld distill"),
        ("distill", ["published=cifar100/resnet56"], "is for mcld train"),
        ("distill", ["published=cifar100/resnet56-resnet20/kd"], "needs the weights of the teacher resnet56"),
        ("distill", ["published=imagenet/resnet34-resnet18/dist-plus", "teacher=t"], "dist_plus (DIST+) is not here"),
        ("train", ["published=cifar100/vgg8,cifar100/vgg13"], "expected one row"),
        ("train", ["published=cifar100/vgg8", "schedule.epoch=3"], "did you mean 'schedule.epochs'"),
        ("train", ["published=imagenet/resnet18"], "data.path is not set"),
    ],
)
def test_bad_input_is_one_line(command: str, given: list[str], said: str) -> None:
    with pytest.raises(InputError) as error:
        compose("train" if command == "train" else "distill", given)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_reviewkd_has_its_authors_weights_and_recipe() -> None:
    rows = {row.id: row for row in published_rows()}
    row = rows["cifar100/wrn_40_2-ShuffleV1/reviewkd"]
    assert row.recipe.decays == (151, 181, 211)
    assert row.options["weight"] == 5.0
    assert (row.recipe.batch_size, row.recipe.lr, row.recipe.nesterov) == (128, 0.02, True)
    assert rows["cifar100/resnet56-resnet20/reviewkd"].recipe.lr == 0.1
    assert "optimizer.nesterov=true" in row.recipe.words()
    other = rows["cifar100/ResNet50-MobileNetV2/reviewkd"]
    assert (other.recipe.batch_size, other.recipe.nesterov, other.options["weight"]) == (64, False, 30.0)


def facts(name: str, *keys: str) -> tuple[object, ...]:
    row = find_row(name)
    return tuple(row.options[key] for key in keys)


@pytest.mark.parametrize(
    ("pair", "values"),
    [
        ("resnet56-resnet20", (3, 18, 36)),
        ("resnet110-resnet32", (2, 15, 30)),
        ("resnet32x4-resnet8x4", (2, 9, 72)),
        ("wrn_40_2-wrn_16_2", (2, 12, 24)),
        ("wrn_40_2-wrn_40_1", (2, 12, 24)),
        ("vgg13-vgg8", (2, 15, 30)),
        ("vgg13-MobileNetV2", (3, 9, 18)),
        ("ResNet50-MobileNetV2", (2, 15, 30)),
        ("resnet32x4-ShuffleV2", (2, 9, 72)),
        ("resnet110-resnet20", (2, 15, 30)),
        ("resnet32x4-wrn_16_2", (2, 9, 18)),
        ("resnet32x4-wrn_40_2", (2, 9, 72)),
        ("wrn_40_2-resnet8x4", (2, 18, 36)),
        ("wrn_40_2-MobileNetV2", (2, 15, 30)),
    ],
)
def test_dkd_ls_has_the_setting_of_each_pair(pair: str, values: tuple[float, ...]) -> None:
    """The names of LSKD's logs: temperature, weight of the target part, and that times beta."""
    row = find_row(f"cifar100/{pair}/dkd-ls")
    assert tuple(row.options[key] for key in ("temperature", "alpha", "beta")) == values
    assert (row.options["standardize"], row.options["warmup"], row.ce_weight) == (True, 20, 1)
    assert bool(row.note) == (pair == "resnet32x4-resnet8x4")  # where the log does not look like the command


@pytest.mark.parametrize(
    ("name", "recipe"),
    [  # epochs, learning rate
        ("resnet32x4-resnet8x4/mlkd", (240, 0.025)),
        ("vgg13-vgg8/mlkd", (240, 0.025)),
        ("vgg13-MobileNetV2/mlkd", (480, 0.01)),
        ("resnet32x4-ShuffleV2/mlkd", (960, 0.01)),
        ("resnet110-resnet20/mlkd", (480, 0.025)),
        ("wrn_40_2-MobileNetV2/mlkd", (480, 0.005)),
        ("resnet32x4-resnet8x4/mlkd-ls", (480, 0.025)),
        ("vgg13-vgg8/mlkd-ls", (480, 0.01)),
        ("wrn_40_2-MobileNetV2/mlkd-ls", (480, 0.005)),
        ("resnet32x4-ShuffleV2/mlkd-ls", (960, 0.01)),
        ("resnet32x4-resnet8x4/sld", (240, 0.025)),
        ("resnet32x4-ShuffleV1/sld", (240, 0.009)),
        ("ResNet50-MobileNetV2/sld", (240, 0.008)),
    ],
)
def test_two_view_rows_run_what_made_their_numbers(name: str, recipe: tuple[int, float]) -> None:
    row = find_row(f"cifar100/{name}")
    assert (row.recipe.epochs, row.recipe.lr) == recipe
    assert row.recipe.decays == (150, 180, 210)
    assert (row.views, row.second_policy, row.options["as_published"]) == (2, "fixmatch", True)
    assert "data.second_policy=fixmatch" in row.words
    assert not row.note or "not available" in row.note or "no log" in row.note or "in the paper" in row.note


def test_mlkd_ls_has_weight_6_for_three_pairs() -> None:
    for row in published_rows():
        if row.id.endswith("/mlkd-ls"):
            six = row.pair in ("vgg13-vgg8", "vgg13-MobileNetV2", "resnet32x4-ShuffleV2")
            assert (row.options["temperature"], row.options["weight"]) == (2, 6 if six else 9)
            unlogged = row.pair in ("resnet56-resnet20", "wrn_40_2-MobileNetV2")
            assert row.note.startswith("no log was published") == unlogged


def test_ckd_has_the_batch_of_each_pair() -> None:
    small = {row.pair for row in published_rows() if row.id.endswith("/ckd") and row.recipe.batch_size == 32}
    assert small == {
        "wrn_40_2-wrn_40_1", "resnet32x4-ShuffleV1", "wrn_40_2-ShuffleV1", "vgg13-MobileNetV2", "ResNet50-MobileNetV2",
    }  # fmt: skip
    row = find_row("imagenet/resnet34-resnet18/ckd")
    assert (row.recipe.epochs, row.recipe.batch_size, row.recipe.decays, row.options["weight"]) == (200, 512, (), 10)


def test_imagenet_rows_are_their_sources() -> None:
    pair = "imagenet/resnet34-resnet18"
    row = find_row(f"{pair}/kd-ls")
    assert (row.recipe.lr, row.ce_weight, row.options["weight"], row.note) == (0.2, 1.0, 9.0, "")
    row = find_row(f"{pair}/ctkd")
    assert facts(f"{pair}/ctkd", "start", "span", "decay", "weight") == (1, 20, 5, 1)
    assert (row.ce_weight, row.recipe.epochs) == (1.0, 120)
    row = find_row(f"{pair}/dist")
    assert (row.recipe.nesterov, row.recipe.decay_norms, row.options["as_published"]) == (True, False, True)
    assert "of each of 8 GPUs" in row.note
    assert "optimizer.decay_norms=false" in row.words
    assert facts(f"{pair}/reviewkd", "weight", "warmup", "width", "preactivation") == (1, 0, 512, "both")
    mobile = "imagenet/resnet50-MobileNetV1"
    assert facts(f"{mobile}/reviewkd", "weight", "warmup", "width", "preactivation") == (8, 0, 256, "both")
    assert facts(f"{pair}/nkd", "temperature", "gamma") == (1, 1.5)
    assert [find_row(f"{p}/nkd").numbers[0].top1 for p in (pair, mobile)] == [71.96, 72.58]
    row = find_row(f"{mobile}/ofd")
    assert (row.numbers[0].top1, row.recipe.decays, row.options["weight"]) == (71.25, (29, 59, 89), 0.0001)


@pytest.mark.parametrize(
    ("name", "top1"),
    [
        ("resnet56-resnet20/at", 70.55),
        ("vgg13-MobileNetV2/sp", 66.30),
        ("ResNet50-vgg8/pkt", 73.01),
        ("resnet110-resnet20/vid", 70.16),
        ("wrn_40_2-ShuffleV1/nst", 74.89),
        ("ResNet50-MobileNetV2/ft", 60.99),
        ("resnet32x4-ShuffleV2/cc", 71.29),
        ("resnet32x4-resnet8x4/simkd", 78.08),
        ("resnet32x4-resnet8x4/ttm", 76.17),
        ("vgg13-vgg8/wttm", 74.44),
        ("wrn_28_4-resnet56/ofd", 75.56),
        ("resnet110-resnet20/ctkd", 70.99),
        ("wrn_40_2-MobileNetV2/ctkd-ls", 69.53),
        ("resnet110-resnet20/fitnet", 68.99),
    ],
)
def test_numbers_of_the_rows_that_were_missing(name: str, top1: float) -> None:
    row = find_row(f"cifar100/{name}")
    assert row.numbers[0].top1 == top1
    assert not absent(row)


def test_rows_without_a_number_say_where_it_is() -> None:
    for name in ("catkd", "sld", "ckd"):
        assert "paper" in find_row(f"cifar100/resnet32x4-resnet8x4/{name}").note
    assert facts("cifar100/resnet32x4-ShuffleV1/catkd", "weight", "side", "normalize") == (600, 4, True)
    further = [find_row(f"cifar100/{pair}/catkd").further for pair in ("wrn_40_2-ShuffleV1", "vgg13-MobileNetV2")]
    assert further == [("teacher.maps=[relu]",), ("student.maps=[conv2]",)]
    assert facts("cifar100/resnet56-resnet20/catkd", "weight", "side", "normalize") == (0.7, 2, False)


def test_ofd_has_its_authors_recipe() -> None:
    row = find_row("cifar100/wrn_28_4-wrn_16_2/ofd")
    recipe = row.recipe
    assert (recipe.epochs, recipe.batch_size, recipe.lr, recipe.decays, recipe.nesterov) == (
        200, 128, 0.1, (100, 150), True,
    )  # fmt: skip
    assert "training mode" in row.note


def test_recipes_with_another_optimizer_and_further_settings() -> None:
    dot = compose("distill", ["published=imagenet/resnet34-resnet18/kd-dot", "teacher=t", "data.path=DIR"])
    assert (dot.optimizer.name, dot.optimizer.delta, dot.optimizer.momentum) == ("dot", 0.09, 0.9)
    pld = compose("distill", ["published=cifar100/ResNet50-MobileNetV2/pld", "teacher=t"])
    assert isinstance(pld, Distill)
    assert (pld.optimizer.name, pld.optimizer.weight_decay, pld.schedule.name, pld.ce_weight) == (
        "adamw",
        0.5,
        "cosine",
        0,
    )
    sdd = compose("distill", ["published=cifar100/vgg13-MobileNetV2/sd-kd", "teacher=t"])
    assert isinstance(sdd, Distill)
    assert sdd.student.maps == ["conv2"]
    row = find_row("cifar100/resnet56-resnet20/crld")
    assert (row.views, row.second_policy) == (2, "fixmatch")

from collections.abc import Callable

import pytest

Mcld = Callable[..., tuple[int, str, str]]


def test_a_row_is_listed_with_everything_that_makes_it(mcld: Mcld) -> None:
    status, out, _ = mcld("published", "--pair", "resnet32x4-resnet8x4", "--method", "dkd")
    assert status == 0
    lines = out.splitlines()
    assert lines[0].split()[:2] == ["cifar100/resnet32x4-resnet8x4/dkd", "76.32"]
    assert lines[0].endswith("best epoch, mean of 5 runs (mdistiller README)")
    assert lines[1].split()[0] == "75.98"
    assert "rerun by others" in lines[1]
    for part in (
        "beta 8",
        "temperature 4",
        "cross-entropy 1",
        "240 epochs",
        "1 view",
        "batch 64",
        "lr 0.05",
        "÷10 after",
    ):
        assert part in lines[2]


def test_what_is_not_here_is_listed_only_on_request(mcld: Mcld) -> None:
    _, out, _ = mcld("published", "--data", "imagenet")
    assert "cannot be run" not in out
    assert "imagenet/resnet34-resnet18/dist-plus" not in out
    assert "more are of methods that are not here (yet): --all" in out
    _, out, _ = mcld("published", "--data", "imagenet", "--all")
    assert "imagenet/resnet34-resnet18/dist-plus" in out
    assert "cannot be run: the method dist_plus (DIST+) is not here (yet)" in out


def test_filters_join(mcld: Mcld) -> None:
    _, out, _ = mcld("published", "--data", "cifar100", "--pair", "ShuffleV1", "--method", "MCLD")
    rows = [line for line in out.splitlines() if line.startswith("cifar100/")]
    assert [row.split()[0] for row in rows] == [
        "cifar100/resnet32x4-ShuffleV1/mcld",
        "cifar100/wrn_40_2-ShuffleV1/mcld",
    ]
    assert out.count("ours: the paper's hyper-parameters were not available") == 2


def test_one_row_is_shown_with_its_settings(mcld: Mcld) -> None:
    _, out, _ = mcld("published", "cifar100/resnet32x4")
    assert "79.42" in out
    assert "mcld train published=cifar100/resnet32x4 is short for:" in out
    assert "  schedule.epochs=240" in out.splitlines()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["cifar100/resnet32x4-resnet8x4/kdd"], "did you mean 'cifar100/resnet32x4-resnet8x4/kd'"),
        (["--pair", "resnet32x4-resnet8"], "did you mean 'resnet32x4-resnet8x4'"),
        (["--method", "dkdd"], "did you mean "),
        (["--data", "cifar10"], "did you mean 'cifar100'"),
        (["--pear", "x"], "unrecognized arguments"),
    ],
)
def test_bad_input_is_one_line(mcld: Mcld, words: list[str], said: str) -> None:
    status, _, err = mcld("published", *words)
    assert status == 2
    assert said in err
    assert err.count("\n") == 1

import functools
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mcld.configs.compose import compose
from mcld.configs.schema import Train
from mcld.evaluation.probe import linear_sgd

Mcld = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="session")
def grey(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The words for a data set of one channel."""
    folder = tmp_path_factory.mktemp("grey")
    file = folder / "grey.npz"
    np.savez(file, images=np.zeros((8, 8, 8), np.uint8), labels=np.arange(8) % 2)
    return ["data=arrays", f"data.train={file}", f"data.val={file}"]


def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three epochs instead of 120."""
    monkeypatch.setattr("mcld.commands.transfer.linear_sgd", functools.partial(linear_sgd, epochs=3))


def test_runs_and_their_untrained_selves_side_by_side(
    mcld: Mcld, teacher: Path, arrays: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick(monkeypatch)
    (tmp_path / "other").symlink_to(teacher)
    runs = [str(teacher), "other"]
    status, out, err = mcld("transfer", *runs, *arrays, "threads=1", "--untrained", "run=t")
    assert (status, err) == (0, "")
    result = json.loads((tmp_path / "t" / "transfer.json").read_text())
    one, two, untrained = result["networks"]
    assert [one["name"], two["name"], untrained["name"]] == [*runs, "resnet8 untrained"]
    for key in ("probe", "knn", "sgd"):
        assert one[key] == two[key]
    assert one["weights"] == "last"
    assert untrained["weights"] is None
    assert one["probe"]["top1"] > 0.8
    assert set(result["protocols"]) == {"probe", "knn", "sgd"}
    assert "120 epochs of SGD, ÷10 after 30, 60, 90" in result["protocols"]["sgd"]
    assert "lr 0.1, momentum 0.9" in result["protocols"]["sgd"]
    assert f"{one['probe']['top1']:.2%}" in out
    assert "standard error" in out
    assert (tmp_path / "t" / "table.txt").read_text().splitlines()[0].split() == [
        *("top-1", "features", "probe", "k-NN", "sgd", "last", "sgd", "best")
    ]
    assert result["environment"]["packages"]["torch"]


def test_one_protocol_is_named_alone(mcld: Mcld, teacher: Path, arrays: list[str], tmp_path: Path) -> None:
    status, out, _ = mcld("transfer", str(teacher), *arrays, "threads=1", "--protocol", "probe")
    assert status == 0
    found = list((tmp_path / "runs").iterdir())
    assert [path.name for path in found] == [f"transfer-arrays-{teacher.name}-seed0"]
    result = json.loads((found[0] / "transfer.json").read_text())
    assert set(result["protocols"]) == {"probe", "knn"}
    assert "sgd" not in result["networks"][0]
    assert "sgd" not in out


def test_a_result_is_replaced_only_with_force(mcld: Mcld, teacher: Path, arrays: list[str], tmp_path: Path) -> None:
    words = ("transfer", str(teacher), *arrays, "threads=1", "--protocol", "probe", "run=t")
    assert mcld(*words)[0] == 0
    (tmp_path / "t" / "transfer.json").write_text("{}")
    status, _, err = mcld(*words)
    assert status == 2
    assert "run=t exists already" in err
    assert (tmp_path / "t" / "transfer.json").read_text() == "{}"
    assert mcld(*words, "--force")[0] == 0
    assert json.loads((tmp_path / "t" / "transfer.json").read_text())["networks"]


def test_a_transfer_that_was_cut_short_is_in_nobodys_way(
    mcld: Mcld, teacher: Path, arrays: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("transfer", str(teacher), *arrays, "threads=1", "--protocol", "probe", "run=t")

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("mcld.commands.transfer.probe", stop)
        assert mcld(*words)[0] == 130
    assert not (tmp_path / "t").exists()
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "log.txt").write_text("of one that was killed")
    assert "holds the beginning of a transfer result" in mcld(*words)[2]
    assert mcld(*words, "--force")[0] == 0
    with monkeypatch.context() as patch:
        patch.setattr("mcld.commands.transfer.probe", stop)
        assert mcld(*words, "--force")[0] == 130
    assert (tmp_path / "t" / "transfer.json").is_file()
    assert mcld("transfer", str(teacher), *arrays, "data.batch_size=1", "run=u")[0] == 2
    assert not (tmp_path / "u").exists()


def test_images_have_the_runs_own_size_where_the_data_set_can(
    mcld: Mcld, teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Train] = []
    monkeypatch.setattr("mcld.commands.transfer.transfer", lambda runs, settings, **more: seen.append(settings))
    for words in (["data=stl10"], ["data=tiny_imagenet", "data.image_size=64"], ["data=folder", "data.path=x"]):
        assert mcld("transfer", str(teacher), *words)[0] == 0
    assert [settings.data.image_size for settings in seen] == [8, 64, 8]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["data=arrays"], "there is no run directory"),
        (["RUN"], "data is not set"),
        (["nowhere", "ARRAYS"], "nowhere: no such run directory"),
        (["RUN", "RUN", "ARRAYS"], "named twice"),
        (["RUN", "ARRAYS", "schedule.epochs=3"], "schedule.epochs=3: there is no such setting here"),
        (["RUN", "ARRAYS", "model.weights=mean"], "weights='mean'"),
        (["RUN", "data=stl11"], "did you mean 'stl10'"),
        (["RUN", "ARRAYS", "--protocol", "linear"], "expected probe, sgd or both"),
        (["RUN", "GREY", "threads=1"], "takes images of 3 channels; data arrays has 1"),
        (["RUN", "ARRAYS", "seed=5000000000"], "seed=5000000000; expected a number below 2**32"),
        (["RUN", "ARRAYS", "run=taken"], "holds other files, not a transfer result"),
        (["RUN", "ARRAYS", "run=taken/file"], "is a file"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(
    mcld: Mcld, teacher: Path, arrays: list[str], grey: list[str], tmp_path: Path, words: list[str], said: str
) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").write_text("mine")
    known = {"RUN": [str(teacher)], "ARRAYS": arrays, "GREY": grey}
    status, _, err = mcld("transfer", *(part for word in words for part in known.get(word, [word])))
    assert status == 2
    assert said in err
    assert err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_a_network_that_cannot_take_the_images_is_named(mcld: Mcld, arrays: list[str], tmp_path: Path) -> None:
    options = {"img_size": 8, "patch_size": 4, "depth": 1, "embed_dim": 8, "num_heads": 1}
    words = ["model=timm/vit_tiny_patch16_224", *(f"model.options.{key}={value}" for key, value in options.items())]
    words += ["schedule.epochs=1", "threads=1", "run=vit"]
    assert mcld("train", *arrays, *words)[0] == 0
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "x.npz", images=rng.integers(0, 255, (8, 12, 12, 3), dtype=np.uint8), labels=np.arange(8) % 2)
    status, _, err = mcld("transfer", "vit", "data=arrays", "data.train=x.npz", "data.val=x.npz", "threads=1")
    assert status == 2
    assert "trained on 8×8 px, does not take images of 12×12 px" in err
    assert err.count("\n") == 1


def test_settings_are_the_same_words_as_everywhere() -> None:
    settings = compose("train", ["model=none", "data=stl10", "data.fold=2", "model.weights=best"])
    assert isinstance(settings, Train)
    assert settings.model.weights == "best"

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

Suite = Callable[..., Path]

TEXT = """\
common: {common} schedule.epochs=2
teacher: {teacher}
pairs:
  small: student=resnet8 student.options.width=4
methods:
  plain: method=plain
  KD: method=kd
  MCLD: method=mcld
seeds: [0, 1]
test: data.val={test}
baseline: KD
"""


@pytest.fixture(scope="session")
def test_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """More images of the kind of ``arrays``."""
    rng = np.random.default_rng(7)
    labels = np.arange(80) % 4
    images = rng.integers(0, 120, (80, 8, 8, 3))
    for image, label in zip(images, labels, strict=True):
        image[2 * label : 2 * label + 2, :, label % 3] += 100
    file = tmp_path_factory.mktemp("test") / "test.npz"
    np.savez(file, images=images.astype(np.uint8), labels=labels, names=np.array(["a", "b", "c", "d"]))
    return file


@pytest.fixture
def suite(tmp_path: Path, arrays: list[str], teacher: Path, test_file: Path, monkeypatch: pytest.MonkeyPatch) -> Suite:
    """Writes the suite file, with parts of its text replaced, into the empty folder where the test runs."""
    monkeypatch.chdir(tmp_path)

    def write(*replaced: tuple[str, str]) -> Path:
        text = TEXT.format(common=" ".join(arrays), teacher=teacher, test=test_file)
        for old, new in replaced:
            assert old in text
            text = text.replace(old, new)
        file = tmp_path / "tiny.yaml"
        file.write_text(text)
        return file

    return write

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

WriteImage = Callable[..., None]


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing of the user's own cache is read or written."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("MCLD_CACHE", str(folder))
    return folder


@pytest.fixture
def write_image() -> WriteImage:
    """write_image(path, size=(width, height), seed=0, mode="RGB"): a file of random coarse blocks."""

    def write(path: Path, size: tuple[int, int] = (40, 36), seed: int = 0, mode: str = "RGB") -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        blocks = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(blocks).resize(size).convert(mode).save(path)

    return write


@pytest.fixture
def photos(tmp_path: Path, write_image: WriteImage) -> Path:
    """A folder of 2 classes: 12 training and 6 validation images of each, of various sizes."""
    root = tmp_path / "photos"
    for split, count in (("train", 12), ("val", 6)):
        for c, name in enumerate(("cat", "dog")):
            for i in range(count):
                write_image(
                    root / split / name / f"{i:02}.jpg",
                    (40 + i, 36 + 2 * c),
                    seed=100 * c + i + (50 if split == "val" else 0),
                )
    return root

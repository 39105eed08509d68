import urllib.error
from pathlib import Path

import pytest
import torchvision.datasets.utils as fetching

from mcld.data.download import Archive, locate
from mcld.errors import InputError
from mcld.files import lock_file

ARCHIVE = Archive("Things", "https://example.org/things.tgz", "0" * 32, "things-py", "train and test")


def test_a_folder_that_is_there_is_used(tmp_path: Path) -> None:
    (tmp_path / "things-py").mkdir()
    assert locate(ARCHIVE, str(tmp_path), True) == tmp_path / "things-py"
    assert locate(ARCHIVE, str(tmp_path / "things-py"), True) == tmp_path / "things-py"


def test_the_default_place_is_the_users_cache(cache: Path) -> None:
    (cache / "datasets" / "things-py").mkdir(parents=True)
    assert locate(ARCHIVE, None, True) == cache / "datasets" / "things-py"


def test_fetching_leaves_the_folder_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(url: str, root: str, md5: str) -> None:
        assert (url, md5) == (ARCHIVE.url, ARCHIVE.md5)
        (Path(root) / "things-py").mkdir()
        (Path(root) / "things-py" / "train").write_text("x")

    monkeypatch.setattr(fetching, "download_and_extract_archive", fetch)
    assert (locate(ARCHIVE, str(tmp_path / "new"), True) / "train").read_text() == "x"
    assert [entry.name for entry in (tmp_path / "new").iterdir()] == ["things-py"]


def test_what_a_killed_process_had_begun_to_fetch_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """But not what another one is fetching."""
    for name in ("dead", "alive"):
        (tmp_path / f".fetching-{name}").mkdir()
        (tmp_path / f".fetching-{name}" / "part").write_text("x")
    (tmp_path / ".fetching-link").symlink_to(tmp_path / ".fetching-alive")

    def fetch(url: str, root: str, md5: str) -> None:
        (Path(root) / ARCHIVE.folder).mkdir()

    monkeypatch.setattr(fetching, "download_and_extract_archive", fetch)
    with lock_file(tmp_path / ".fetching-alive" / "lock"):
        locate(ARCHIVE, str(tmp_path), True)
    assert {entry.name for entry in tmp_path.iterdir()} == {".fetching-alive", ".fetching-link", ARCHIVE.folder}


@pytest.mark.parametrize(
    "failure",
    [urllib.error.URLError("no route\nto host"), RuntimeError("File not found or corrupted."), OSError("disk full")],
)
def test_no_network_gives_the_steps_by_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    def fetch(*_: object, **__: object) -> None:
        raise failure

    monkeypatch.setattr(fetching, "download_and_extract_archive", fetch)
    (tmp_path / "other.txt").touch()
    with pytest.raises(InputError) as error:
        locate(ARCHIVE, str(tmp_path), True)
    message = str(error.value)
    assert "\n" not in message
    for words in (ARCHIVE.url, ARCHIVE.md5, "found: other.txt", "holds train and test", str(tmp_path / "things-py")):
        assert words in message
    assert [entry.name for entry in tmp_path.iterdir()] == ["other.txt"]


def test_nothing_is_fetched_when_not_allowed(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"found: no such folder.*data\.download is off"):
        locate(ARCHIVE, str(tmp_path / "absent"), False)

"""Pretrained weights without a network: said at once, and those of the cache still come."""

import time
import urllib.error
import urllib.request

import pytest
from huggingface_hub import constants

from mcld.errors import InputError
from mcld.models import _hub, create_model


def test_out_of_reach_it_is_said_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    """Looking up the name takes half a minute, as it does without a name server; the hub itself is not asked then."""

    def resolve(*_: object, **__: object) -> None:
        time.sleep(30)

    monkeypatch.setattr(urllib.request, "urlopen", resolve)
    monkeypatch.setattr(_hub, "PATIENCE", 0.2)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    seen: list[bool] = []
    monkeypatch.setattr("timm.create_model", lambda *_, **__: seen.append(constants.HF_HUB_OFFLINE))
    with pytest.raises(AssertionError):
        create_model("timm/resnet18", 10, pretrained=True)
    assert seen == [True]
    assert not constants.HF_HUB_OFFLINE


def test_the_message(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.setattr(_hub, "_answers", lambda _: False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    expected = r"timm/resnet18: its pretrained weights cannot be had \(.*without a network give a file: checkpoint=FILE"
    with pytest.raises(InputError, match=expected):
        create_model("timm/resnet18", 10, pretrained=True)


def test_an_answer_of_any_kind_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise urllib.error.HTTPError("", 403, "no", None, None)  # type: ignore[arg-type]

    def no_route(*_: object, **__: object) -> None:
        raise urllib.error.URLError("no route")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    assert _hub._answers("https://example.org")
    monkeypatch.setattr(urllib.request, "urlopen", no_route)
    assert not _hub._answers("https://example.org")

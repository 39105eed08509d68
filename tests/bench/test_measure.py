from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mcld.assembly.networks import load_run
from mcld.bench.measure import _teacher_logits
from mcld.configs.compose import compose
from mcld.configs.schema import Distill
from mcld.data import load_data
from mcld.evaluation.logits import network_logits
from mcld.teacher import LiveTeacher


def test_the_teachers_logits_are_stored_with_their_sums(
    arrays: list[str], teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = compose("distill", [*arrays, f"teacher={teacher}", "student=resnet8", "threads=1"])
    assert isinstance(settings, Distill)
    files = {word.partition("=")[0].removeprefix("data."): word.partition("=")[2] for word in arrays[1:3]}
    data = load_data("arrays", padding=0, flip=True, **files)
    asked: list[int] = []
    real: Callable[..., torch.Tensor] = LiveTeacher.logits

    def counted(self: LiveTeacher, images: torch.Tensor) -> torch.Tensor:
        asked.append(len(images))
        return real(self, images)

    monkeypatch.setattr(LiveTeacher, "logits", counted)

    def logits() -> torch.Tensor:
        asked.clear()
        return _teacher_logits(settings, data.info, data.val, tmp_path / "cache")

    first = logits()
    torch.testing.assert_close(first, network_logits(load_run(str(teacher)), data.val), atol=1e-4, rtol=1e-4)
    assert sum(asked) == 60
    assert torch.equal(logits(), first)
    assert asked == []
    (file,) = (tmp_path / "cache").glob("*/logits.bin")
    content = bytearray(file.read_bytes())
    content[4 * 4 * 7 + 3] ^= 0x40  # the largest bit of the eighth image's first logit's exponent
    file.write_bytes(content)
    assert torch.equal(logits(), first)
    assert asked == [1]
    assert torch.equal(logits(), first)
    assert asked == []
    file.write_bytes(content[:-5])  # cut short: computed, and said
    assert torch.equal(logits(), first)
    assert sum(asked) == 60

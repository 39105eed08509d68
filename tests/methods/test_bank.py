"""The candidate bank: which rows it holds, and that they survive."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mcld import InputError
from mcld.methods.mcld.bank import CandidateBank


def rows(n: int, start: int = 0, classes: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    """Rows that say who they are: logits, labels, index."""
    index = torch.arange(start, start + n)
    return index.float().unsqueeze(1).repeat(1, classes), index % classes, index


def held(bank: CandidateBank) -> list[int]:
    """The indices held, after checking that each row's parts belong together; -1 is an empty row."""
    assert bank.logits is not None
    assert bank.labels is not None
    assert bank.index is not None
    for logits, label, index in zip(bank.logits.tolist(), bank.labels.tolist(), bank.index.tolist(), strict=True):
        assert label == (-1 if index < 0 else index % 3)
        assert logits == [max(index, 0)] * 3
    return bank.index.tolist()


@given(size=st.integers(1, 9), batches=st.lists(st.integers(1, 12), min_size=1, max_size=6))
@settings(max_examples=60, deadline=None)
def test_it_holds_the_newest_rows(size: int, batches: list[int]) -> None:
    bank, start = CandidateBank(size), 0
    for n in batches:
        bank.extend(*rows(n, start))
        start += n
    newest = list(range(max(0, start - size), start))
    assert sorted(held(bank)) == sorted([-1] * (size - len(newest)) + newest)


def test_the_oldest_row_goes_first() -> None:
    bank = CandidateBank(4)
    bank.extend(*rows(3))
    assert held(bank) == [0, 1, 2, -1]
    bank.extend(*rows(2, 3))
    assert held(bank) == [4, 1, 2, 3]


def test_before_the_first_use() -> None:
    bank = CandidateBank(4)
    assert bank.rows(torch.device("cpu")) is None
    bank.extend(*rows(2))
    stored = bank.rows(torch.device("cpu"))
    assert stored is not None
    assert [len(part) for part in stored] == [4, 4, 4]


def test_no_rows_with_size_zero() -> None:
    bank = CandidateBank(0)
    bank.extend(*rows(2))
    assert bank.rows(torch.device("cpu")) is None


def test_index_is_unknown_by_default() -> None:
    bank = CandidateBank(2)
    logits, labels, _ = rows(2)
    bank.extend(logits, labels)
    assert bank.index is not None
    assert bank.index.tolist() == [-1, -1]


def test_filled_it_is_fixed() -> None:
    bank = CandidateBank(2)
    bank.extend(*rows(2))
    logits, labels, index = rows(5)
    bank.fill(logits, labels, index)
    logits += 1  # the caller's tensor is the caller's
    assert held(bank) == [0, 1, 2, 3, 4]
    with pytest.raises(InputError, match="filled with a fixed set"):
        bank.extend(*rows(1))
    bank.fill(*rows(2))
    assert held(bank) == [0, 1]


def test_no_gradient_is_kept() -> None:
    bank = CandidateBank(2)
    logits, labels, index = rows(2)
    bank.extend(logits.requires_grad_(), labels, index)
    assert bank.logits is not None
    assert not bank.logits.requires_grad


@pytest.mark.parametrize("fixed", [False, True])
def test_state_goes_through_a_file(fixed: bool, tmp_path: Path) -> None:
    bank = CandidateBank(4)
    if fixed:
        bank.fill(*rows(6))
    else:
        bank.extend(*rows(3))
    state = bank.state_dict()
    torch.save(state, tmp_path / "bank.pt")
    before = held(bank)
    if not fixed:
        bank.extend(*rows(3, 3))
    again = CandidateBank(4)
    again.load_state_dict(torch.load(tmp_path / "bank.pt", weights_only=True))
    assert held(again) == before
    assert again.fixed is fixed
    if not fixed:
        again.extend(*rows(3, 3))
        assert held(again) == held(bank)


def test_state_before_the_first_use(tmp_path: Path) -> None:
    torch.save(CandidateBank(4).state_dict(), tmp_path / "bank.pt")
    bank = CandidateBank(4)
    bank.extend(*rows(3))
    bank.load_state_dict(torch.load(tmp_path / "bank.pt", weights_only=True))
    assert bank.rows(torch.device("cpu")) is None


def test_state_of_another_size_is_refused() -> None:
    bank = CandidateBank(4)
    bank.extend(*rows(1))
    with pytest.raises(InputError, match="the saved bank has 4 rows; expected 5"):
        CandidateBank(5).load_state_dict(bank.state_dict())


def test_a_copy_is_independent() -> None:
    bank = CandidateBank(2)
    bank.extend(*rows(2))
    other = copy.deepcopy(bank)
    other.extend(*rows(1, 7))
    assert held(bank) == [0, 1]
    assert held(other) == [7, 1]


LOGITS, LABELS, INDEX = rows(2)
BAD: list[tuple[dict[str, Any], str]] = [
    ({"logits": torch.zeros(2)}, r"bank logits are torch.float32 of shape \(2,\); expected floating point"),
    ({"logits": torch.zeros(0, 3)}, r"of shape \(0, 3\)"),
    ({"logits": torch.zeros(2, 3, dtype=torch.int64)}, "bank logits are torch.int64"),
    ({"labels": LABELS[:1]}, r"bank labels have shape \(1,\); expected \(2,\)"),
    ({"labels": LABELS.float()}, "bank labels are torch.float32; expected integers"),
    ({"index": INDEX[:1]}, r"bank index have shape \(1,\); expected \(2,\)"),
    ({"index": INDEX.bool()}, "bank index are torch.bool; expected integers"),
]


@pytest.mark.parametrize(("change", "message"), BAD)
@pytest.mark.parametrize("call", ["extend", "fill"])
def test_bad_rows(call: str, change: dict[str, Any], message: str) -> None:
    bank = CandidateBank(4)
    bank.extend(*rows(2))
    with pytest.raises(InputError, match=message):
        getattr(bank, call)(**({"logits": LOGITS, "labels": LABELS, "index": INDEX} | change))
    assert held(bank) == [0, 1, -1, -1]  # as it was


def test_other_classes() -> None:
    bank = CandidateBank(4)
    bank.extend(*rows(2))
    with pytest.raises(InputError, match="logits have 5 classes and the bank 3"):
        bank.extend(*rows(2, classes=5))


@pytest.mark.parametrize("size", [-1, 1.5, True, "8"])
def test_bad_size(size: Any) -> None:
    with pytest.raises(InputError, match="expected a number of rows, at least 0"):
        CandidateBank(size)


def test_unit_rows_of_a_fixed_set_are_computed_once() -> None:
    bank = CandidateBank(3)
    logits, labels, index = rows(3)
    logits[:, 0] += 1
    bank.extend(logits, labels, index)
    first = bank.unit_rows(True)
    bank.extend(-logits, labels, index)
    torch.testing.assert_close(bank.unit_rows(True), -first)  # a ring buffer is never out of date
    bank.fill(logits, labels, index)
    fixed = bank.unit_rows(True)
    torch.testing.assert_close(fixed, first)
    assert bank.unit_rows(True) is fixed
    torch.testing.assert_close(bank.unit_rows(False), logits / logits.norm(dim=1, keepdim=True))
    bank.fill(-logits, labels, index)
    torch.testing.assert_close(bank.unit_rows(True), -first)
    other = CandidateBank(0)
    other.set_extra_state(bank.get_extra_state())
    torch.testing.assert_close(other.unit_rows(True), -first)


def test_a_bank_that_is_not_saved_keeps_its_rows_when_a_state_is_loaded() -> None:
    bank = CandidateBank(0, saved=False)
    bank.fill(*rows(5))
    state = bank.state_dict()
    assert state == {"_extra_state": {}}
    bank.load_state_dict(state)
    assert held(bank) == [0, 1, 2, 3, 4]
    again = CandidateBank(0, saved=False)
    again.load_state_dict(state)
    assert again.rows(torch.device("cpu")) is None

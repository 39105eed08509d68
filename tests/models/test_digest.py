import random
from pathlib import Path

import pytest
import safetensors.torch
import torch

from mcld.errors import InputError
from mcld.models import ModelSpec, load_checkpoint, load_weights, save_weights
from mcld.models._digest import kept_digests, spec_digest, state_digest
from mcld.models._reading import read_digests


def _weights(file: Path) -> str:
    kept = read_digests(file)
    assert kept is not None
    return kept.weights


SPEC = ModelSpec("resnet8", 4, 3, mean=[0.5] * 3, std=[0.5] * 3, options={"width": 2})


def test_no_flipped_bit_of_a_file_gives_other_weights(tmp_path: Path) -> None:
    network = SPEC.build()
    file = tmp_path / "w.safetensors"
    save_weights(network, file)
    whole, expected = file.read_bytes(), network.model.state_dict()
    draw = random.Random(0)
    refused = 0
    for at in [draw.randrange(len(whole)) for _ in range(150)] + list(range(0, 200, 7)):
        damaged = bytearray(whole)
        damaged[at] ^= 1 << draw.randrange(8)
        file.write_bytes(damaged)
        other = SPEC.build()
        try:
            load_weights(other, file)
        except InputError:
            refused += 1
        else:  # a bit of the digest's own name, or of a space
            for name, value in other.model.state_dict().items():
                assert torch.equal(value, expected[name])
    assert refused > 140
    file.write_bytes(whole)
    load_weights(SPEC.build(), file)


def test_the_message_says_what_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "w.safetensors"
    network = SPEC.build()
    save_weights(network, file)
    whole = file.read_bytes()
    for _ in range(20):  # in the same bytes every time
        save_weights(network, file)
        assert file.read_bytes() == whole
    damaged = bytearray(whole)
    damaged[-3] ^= 1
    file.write_bytes(damaged)
    expected = "is damaged: its weights do not match the digest that was written with them"
    with pytest.raises(InputError, match=expected):
        load_weights(SPEC.build(), file)
    with pytest.raises(InputError, match=expected):  # wherever somebody took it
        load_checkpoint(SPEC.build(), file)


def test_the_digest_does_not_depend_on_the_order_and_others_read_the_file(tmp_path: Path) -> None:
    network, file = SPEC.build(), tmp_path / "w.safetensors"
    save_weights(network, file)
    state = network.model.state_dict()
    assert _weights(file) == state_digest(dict(reversed(state.items())), spec_digest(SPEC.to_dict()))
    assert state_digest({"a": torch.zeros(2)}) != state_digest({"a": torch.zeros(2, 1)})
    assert state_digest({"a": torch.zeros(2)}) != state_digest({"a": torch.zeros(2, dtype=torch.int32)})
    assert all(torch.equal(value, state[name]) for name, value in safetensors.torch.load_file(file).items())


def test_files_without_a_digest_are_read(tmp_path: Path) -> None:
    file = tmp_path / "w.safetensors"
    safetensors.torch.save_file({k: v.clone() for k, v in SPEC.build().model.state_dict().items()}, file)
    assert read_digests(file) is None
    load_weights(SPEC.build(), file)
    for data in (b"", b"12345678", b"\x02\0\0\0\0\0\0\0[]", b'\x14\0\0\0\0\0\0\0{"__metadata__": 3}', b"\xff" * 20):
        assert kept_digests(data) is None


def test_a_flipped_bit_in_a_file_of_torch_save_is_noticed(tmp_path: Path) -> None:
    file = tmp_path / "w.pth"
    state = SPEC.build().model.state_dict()
    torch.save({"model": state}, file)
    load_checkpoint(SPEC.build(), file)
    damaged = bytearray(file.read_bytes())
    damaged[bytes(damaged).index(state["layer3.0.conv1.weight"].numpy().tobytes()) + 9] ^= 1
    file.write_bytes(damaged)
    with pytest.raises(InputError, match=r"is damaged: its part w/data/\d+ does not match its checksum"):
        load_checkpoint(SPEC.build(), file)
    torch.save(SPEC.build().model.state_dict(), file, _use_new_zipfile_serialization=False)
    load_checkpoint(SPEC.build(), file)  # these have no sums

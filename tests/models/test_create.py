"""Models by name: the zoo, timm, torchvision, and what happens when a name or an option is wrong."""

import subprocess
import sys
from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import nn

from mcld.errors import InputError
from mcld.models import create_model, default_lr, find_model, fitting_options, list_models


def test_importing_is_light_and_the_zoo_needs_torch_alone() -> None:
    code = (
        "import sys, mcld.models; mcld.models.create_model('wrn-16-1', 10); mcld.models.list_models();"
        "print([m for m in ('timm', 'torchvision', 'lightning_fabric', 'hydra') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_public_face_has_them() -> None:
    import mcld
    import mcld.models

    assert mcld.create_model is create_model
    assert mcld.load_checkpoint is mcld.models.load_checkpoint


def test_names_and_aliases_are_unique_without_case() -> None:
    known = [known.lower() for entry in list_models() for known in (entry.name, *entry.aliases)]
    assert len(known) == len(set(known))


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("MobileNetV2", "MobileNetV2"),
        ("mobilenetv2", "MobileNetV2"),
        ("mobile_half", "MobileNetV2"),
        ("ShuffleV1", "ShuffleV1"),
        ("shufflenetv2", "ShuffleV2"),
        ("ResNet18", "ResNet18"),
        ("resnet50", "ResNet50"),
        ("vgg13_bn", "vgg13"),
        ("wrn_40_2", "wrn_40_2"),
        ("wrn-40-2", "wrn_40_2"),
        ("RESNET8X4", "resnet8x4"),
    ],
)
def test_published_names(given: str, name: str) -> None:
    assert find_model(given).name == name


def test_default_learning_rates() -> None:
    slow = {entry.name for entry in list_models() if entry.lr != 0.05}
    assert slow == {"MobileNetV1", "MobileNetV2", "ShuffleV1", "ShuffleV2"}
    assert default_lr("mobile_half") == 0.01
    assert default_lr("timm/mobilenetv3_small_050") == default_lr("torchvision/shufflenet_v2_x1_0") == 0.01
    assert default_lr("timm/resnet18") == default_lr("resnet8") == 0.05


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "resnet21",
            "there is no model 'resnet21'; did you mean .*resnet20.*`mcld models`.*timm/NAME.*torchvision/NAME",
        ),
        ("MobilNetV2", "did you mean 'MobileNetV2'"),
        ("zzzz", "there is no model 'zzzz'; see `mcld models`"),
        ("keras/resnet20", "expected timm or torchvision"),
        ("timm/resnt18", "no model of timm 'resnt18'; did you mean 'resnet18'"),
        ("torchvision/resnt18", "no classifier of torchvision 'resnt18'; did you mean 'resnet18'"),
        ("torchvision/fcn_resnet50", "no classifier"),
    ],
)
def test_unknown_names(name: str, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        create_model(name, 10)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("resnet8", {"widht": 8}, "no option of model resnet8: 'widht'; did you mean 'width'. expected width"),
        ("vgg8", {"width": 8}, "no option of model vgg8: 'width'; expected none"),
        ("resnet8", {"pretrained": True}, "no option of model resnet8: 'pretrained'"),
        ("resnet8", {"width": 0}, "width of model resnet8 is 0; expected an integer of at least 1"),
        ("resnet8", {"width": "8"}, "width of model resnet8 is '8'"),
        ("timm/resnet18", {"widht": 8}, "timm/resnet18 refuses the options {'widht': 8}.*unexpected keyword"),
        ("timm/resnet18", {"checkpoint_path": "x.pth"}, "checkpoint_path=x.pth is not allowed; expected checkpoint="),
        ("timm/resnet18", {"pretrained_cfg_overlay": {"file": "x.pth"}}, "pretrained_cfg_overlay=.* is not allowed"),
        ("torchvision/resnet18", {"widht": 8}, "torchvision/resnet18 refuses the options {'widht': 8}.*unexpected"),
    ],
)
def test_wrong_options(name: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        create_model(name, 10, **options)


def test_a_checkpoint_option_is_refused_before_the_model_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timm, "create_model", lambda *_, **__: pytest.fail("timm would have read the file"))
    with pytest.raises(InputError, match="checkpoint_path=x is not allowed"):
        fitting_options("timm/vit_tiny_patch16_224", (32, 32), {"checkpoint_path": "x"})


@pytest.mark.parametrize(("num_classes", "in_channels"), [(0, 3), (-1, 3), (10, 0), (True, 3), (2.0, 3)])
def test_wrong_sizes(num_classes: Any, in_channels: int) -> None:
    with pytest.raises(InputError, match="expected an integer of at least 1"):
        create_model("resnet8", num_classes, in_channels)


@pytest.mark.parametrize(
    ("name", "in_channels", "side", "options"),
    [
        ("timm/resnet18", 1, 32, {}),
        ("timm/deit_tiny_patch16_224", 3, 32, {"img_size": 32, "patch_size": 4, "depth": 2}),
        ("timm/pit_ti_224", 3, 32, {"img_size": 32, "patch_size": 4}),
        ("torchvision/resnet18", 3, 32, {}),
        ("torchvision/resnet18", 1, 32, {}),
        ("torchvision/mobilenet_v3_small", 4, 32, {}),
        ("torchvision/vit_b_16", 3, 32, {"image_size": 32}),
        ("torchvision/googlenet", 1, 64, {}),
    ],
)
def test_models_of_other_libraries(name: str, in_channels: int, side: int, options: dict[str, Any]) -> None:
    with torch.device("meta"):
        model = create_model(name, 7, in_channels, **options)
    logits = model.train()(torch.empty(2, in_channels, side, side, device="meta"))
    assert logits.shape == (2, 7)


@pytest.mark.parametrize(
    ("name", "size", "given", "chosen"),
    [
        ("timm/deit_tiny_patch16_224", (32, 32), {}, {"img_size": 32, "patch_size": 4}),
        ("timm/deit_tiny_patch16_224", (48, 64), {}, {"img_size": [48, 64], "patch_size": 8}),
        ("timm/deit_tiny_patch16_224", (224, 224), {}, {"img_size": 224}),
        ("timm/deit_tiny_patch16_224", (32, 32), {"patch_size": 8}, {"img_size": 32}),
        ("timm/deit_tiny_patch16_224", (32, 32), {"img_size": 32, "depth": 2}, {"patch_size": 4}),
        ("timm/pit_ti_224", (32, 32), {}, {"img_size": 32, "patch_size": 8, "stride": 4}),
        ("timm/swin_tiny_patch4_window7_224", (32, 32), {}, {"img_size": 32}),
        ("timm/mixer_s16_224", (32, 32), {}, {"img_size": 32}),
        ("timm/resnet18", (32, 32), {}, {}),
        ("timm/nothing", (32, 32), {}, {}),
        ("torchvision/resnet18", (32, 32), {}, {}),
        ("resnet20", (32, 32), {}, {}),
    ],
)
def test_what_fits_a_model_to_small_images(
    name: str, size: tuple[int, int], given: dict[str, Any], chosen: dict[str, Any]
) -> None:
    assert fitting_options(name, size, given) == chosen
    if chosen:
        with torch.device("meta"):
            model = create_model(name, 7, **given, **chosen)
        assert model(torch.empty(2, 3, *size, device="meta")).shape == (2, 7)


def test_published_weights_keep_their_patches() -> None:
    assert fitting_options("timm/deit_tiny_patch16_224", (32, 32), {}, patches=False) == {"img_size": 32}


def test_pretrained_without_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_args: Any, **_options: Any) -> nn.Module:
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr("mcld.models._hub._answers", lambda _: True)
    monkeypatch.setattr(timm, "create_model", unreachable)
    monkeypatch.setattr(torchvision.models, "get_model", unreachable)
    for name in ("timm/resnet18", "torchvision/resnet18"):
        expected = f"{name}: its pretrained weights cannot be had .*no route to host.*give a file: checkpoint=FILE"
        with pytest.raises(InputError, match=expected):
            create_model(name, 10, pretrained=True)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "squeezenet1_1"])
def test_pretrained_torchvision_gets_a_new_head_and_stem(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[nn.Module] = []
    original = torchvision.models.get_model

    def downloaded(model: str, weights: str | None = None, **options: Any) -> Any:
        assert weights == "DEFAULT"
        made.append(original(model, weights=None, num_classes=1000, **options))
        return made[-1]

    monkeypatch.setattr(torchvision.models, "get_model", downloaded)
    same = create_model(f"torchvision/{name}", 1000, 3, pretrained=True).eval()
    reference = {key: value.clone() for key, value in same.state_dict().items()}
    monkeypatch.setattr(torchvision.models, "get_model", lambda *_a, **_o: same)
    grey = torch.rand(2, 1, 64, 64)
    with torch.no_grad():
        expected = same(grey.expand(-1, 3, -1, -1))
        grey_model = create_model(f"torchvision/{name}", 1000, 1, pretrained=True).eval()
        torch.testing.assert_close(grey_model(grey), expected)
    other = create_model(f"torchvision/{name}", 7, 1, pretrained=True).eval()
    assert other(grey).shape == (2, 7)
    kept = [k for k, v in other.state_dict().items() if v.shape == reference[k].shape and torch.equal(v, reference[k])]
    assert len(kept) >= len(reference) - 3  # the stem's weight, the head's weight and bias

"""The zoo has exactly the published sizes and layouts, takes any sensible image, and trains."""

import re

import pytest
import torch
from torch import Tensor, nn

from mcld.errors import InputError
from mcld.evaluation.cost import count_macs, count_parameters
from mcld.models import ZooModel, create_model, find_model, list_models
from mcld.testing import check_model

# Name, parameters, buffer elements, tensors in the state dict, MMACs at 32x32, pooled features; for 100 classes.
TABLE = [
    ("resnet8", 83_892, 681, 56, 12.5, 64),
    ("resnet14", 181_108, 1_135, 92, 26.7, 64),
    ("resnet20", 278_324, 1_589, 128, 40.8, 64),
    ("resnet32", 472_756, 2_497, 200, 69.1, 64),
    ("resnet44", 667_188, 3_405, 272, 97.4, 64),
    ("resnet56", 861_620, 4_313, 344, 125.8, 64),
    ("resnet110", 1_736_564, 8_399, 668, 253.2, 64),
    ("resnet8x4", 1_233_540, 2_762, 62, 177.1, 256),
    ("resnet32x4", 7_433_860, 9_954, 206, 1083.0, 256),
    ("wrn_16_1", 180_916, 941, 82, 26.7, 64),
    ("wrn_16_2", 703_284, 1_837, 83, 101.1, 128),
    ("wrn_16_4", 2_772_020, 3_629, 83, 392.6, 256),
    ("wrn_28_2", 1_479_220, 3_641, 155, 214.4, 128),
    ("wrn_28_4", 5_872_180, 7_225, 155, 845.6, 256),
    ("wrn_40_1", 569_780, 2_757, 226, 83.3, 64),
    ("wrn_40_2", 2_255_156, 5_445, 227, 327.6, 128),
    ("vgg8", 3_965_028, 2_949, 37, 96.2, 512),
    ("vgg11", 9_277_284, 5_512, 58, 209.4, 512),
    ("vgg13", 9_462_180, 5_898, 72, 284.9, 512),
    ("vgg16", 14_774_436, 8_461, 93, 398.2, 512),
    ("vgg19", 20_086_692, 11_024, 114, 511.4, 512),
    ("MobileNetV2", 812_836, 18_421, 320, 6.5, 1280),
    ("ShuffleV1", 949_258, 23_785, 296, 38.7, 960),
    ("ShuffleV2", 1_355_528, 16_236, 338, 44.5, 1024),
    ("ResNet18", 11_220_132, 9_620, 122, 555.5, 512),
    ("ResNet50", 23_705_252, 53_173, 320, 1298.0, 2048),
]
NAMES = [entry.name for entry in list_models()]
# One network of each kind of code, small where there is a choice.
KINDS = [
    "resnet8", "resnet8x4", "resnet20_a", "wrn_16_1", "wrn_16_2", "vgg8", "MobileNetV1", "MobileNetV2", "ShuffleV1",
    "ShuffleV2", "ResNet18", "ResNet50",
]  # fmt: skip


def on_meta(name: str, num_classes: int = 100, **options: int) -> nn.Module:
    with torch.device("meta"):
        return create_model(name, num_classes, **options)


@pytest.mark.parametrize(("name", "parameters", "buffers", "tensors", "mmacs", "pooled"), TABLE)
def test_published_sizes(name: str, parameters: int, buffers: int, tensors: int, mmacs: float, pooled: int) -> None:
    model = on_meta(name)
    assert isinstance(model, ZooModel)
    assert count_parameters(model) == parameters
    assert sum(b.numel() for b in model.buffers()) == buffers
    assert len(model.state_dict()) == tensors
    assert round(count_macs(model, (3, 32, 32)) / 1e6, 1) == mmacs
    head = model.get_submodule(model.head)
    assert isinstance(head, nn.Linear)
    assert head.in_features == pooled


def bn(prefix: str) -> list[str]:
    return [f"{prefix}.{s}" for s in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")]


def conv_bn(prefix: str, count: int) -> list[str]:
    return [key for i in range(1, count + 1) for key in (f"{prefix}conv{i}.weight", *bn(f"{prefix}bn{i}"))]


def linear(prefix: str) -> list[str]:
    return [f"{prefix}.weight", f"{prefix}.bias"]


def pair(prefix: str, conv: int) -> list[str]:
    """A convolution without bias at this place of a Sequential, and its BatchNorm after it."""
    return [f"{prefix}.{conv}.weight", *bn(f"{prefix}.{conv + 1}")]


def layout(name: str) -> list[str]:
    """The published state-dict keys in order, written out a second time."""
    keys: list[str] = []
    if match := re.fullmatch(r"resnet(\d+)(x4)?", name):
        for layer in (1, 2, 3):
            for block in range((int(match[1]) - 2) // 6):
                keys += conv_bn(f"layer{layer}.{block}.", 2)
                if block == 0 and (layer > 1 or match[2]):
                    keys += pair(f"layer{layer}.0.downsample", 0)
        return [*conv_bn("", 1), *keys, *linear("fc")]
    if match := re.fullmatch(r"resnet(\d+)_a", name):
        blocks = (int(match[1]) - 2) // 6
        keys = [key for layer in (1, 2, 3) for b in range(blocks) for key in conv_bn(f"layer{layer}.{b}.", 2)]
        return [*conv_bn("", 1), *keys, *linear("linear")]
    if match := re.fullmatch(r"wrn_(\d+)_(\d)", name):
        for layer in (1, 2, 3):
            for block in range((int(match[1]) - 4) // 6):
                prefix = f"block{layer}.layer.{block}."
                for i in (1, 2):
                    keys += [*bn(f"{prefix}bn{i}"), f"{prefix}conv{i}.weight"]
                if block == 0 and (layer > 1 or match[2] != "1"):
                    keys.append(f"{prefix}convShortcut.weight")
        return ["conv1.weight", *keys, *bn("bn1"), *linear("fc")]
    if match := re.fullmatch(r"vgg(\d+)", name):
        counts = {"8": "11111", "11": "11222", "13": "22222", "16": "22333", "19": "22444"}[match[1]]
        for block, count in enumerate(counts):
            for i in range(int(count)):
                keys += [*linear(f"block{block}.{3 * i}"), *bn(f"block{block}.{3 * i + 1}")]
        return [*keys, *linear("classifier")]
    if name == "MobileNetV2":
        for stage, n in enumerate((1, 2, 3, 4, 3, 3, 1)):
            for unit in range(n):
                keys += [key for i in (0, 3, 6) for key in pair(f"blocks.{stage}.{unit}.conv", i)]
        return [*pair("conv1", 0), *keys, *pair("conv2", 0), *linear("classifier.0")]
    if name == "MobileNetV1":
        keys = [key for block in range(1, 14) for i in (0, 3) for key in pair(f"model.{block}", i)]
        return [*pair("model.0", 0), *keys, *linear("fc")]
    if name in ("ShuffleV1", "ShuffleV2"):
        for layer, n in ((1, 4), (2, 8), (3, 4)):
            for block in range(n):
                keys += conv_bn(f"layer{layer}.{block}.", 5 if name == "ShuffleV2" and block == 0 else 3)
        last = ["conv2.weight", *bn("bn2")] if name == "ShuffleV2" else []
        return [*conv_bn("", 1), *keys, *last, *linear("linear")]
    assert name in ("ResNet18", "ResNet50")
    convs, blocks4 = (2, (2, 2, 2, 2)) if name == "ResNet18" else (3, (3, 4, 6, 3))
    for layer, n in enumerate(blocks4, start=1):
        for block in range(n):
            keys += conv_bn(f"layer{layer}.{block}.", convs)
            if block == 0 and (layer > 1 or convs == 3):
                keys += pair(f"layer{layer}.0.shortcut", 0)
    return [*conv_bn("", 1), *keys, *linear("linear")]


@pytest.mark.parametrize("name", NAMES)
def test_published_keys_in_order(name: str) -> None:
    assert list(on_meta(name).state_dict()) == layout(name)


def test_mobilenetv1_is_the_published_size() -> None:
    assert count_parameters(on_meta("MobileNetV1", 1000)) == 4_231_976  # 4.2 million in the paper's table 8
    assert round(count_macs(on_meta("MobileNetV1", 1000), (3, 224, 224)) / 1e6) == 569  # 569 million in the same table


def test_option_a_is_the_published_size() -> None:
    # He et al. 2016, table 6, 10 classes: 0.27M, 0.46M, 0.66M, 0.85M and 1.7M.
    sizes = [count_parameters(on_meta(f"resnet{depth}_a", 10)) for depth in (20, 32, 44, 56, 110)]
    assert sizes == [269_722, 464_154, 658_586, 853_018, 1_727_962]


@pytest.mark.parametrize("name", KINDS)
def test_any_image_size(name: str) -> None:
    model = on_meta(name, 7)
    smallest = find_model(name).min_size
    for height, width in ((smallest, smallest), (8, 8), (28, 28), (64, 64), (96, 96), (30, 50)):
        assert model(torch.empty(2, 3, height, width, device="meta")).shape == (2, 7)


@pytest.mark.parametrize("name", KINDS)
def test_trains_a_step_and_evaluates(name: str) -> None:
    torch.manual_seed(0)
    model = create_model(name, 5, in_channels=1)
    images, labels = torch.randn(4, 1, 16, 16), torch.arange(4)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    torch.autograd.backward(nn.functional.cross_entropy(model(images), labels))
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())
    optimiser.step()
    # Every BatchNorm sees every step once (the original WRN calls some of them twice), and every parameter moves
    # that has a gradient.
    for key, value in model.state_dict().items():
        if key.endswith("num_batches_tracked"):
            assert value == 1, key
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None
        assert torch.equal(parameter, before[key]) == (not parameter.grad.any()), key
    logits = model.eval()(images)
    assert logits.shape == (4, 5)
    assert bool(logits.isfinite().all())


@pytest.mark.parametrize("name", [name for name in KINDS if name != "ResNet50"])
def test_the_battery_for_models(name: str) -> None:
    check_model(name, exported=name in ("resnet8", "ShuffleV2"))


@pytest.mark.parametrize("name", NAMES)
def test_stages_and_head_are_where_they_say(name: str) -> None:
    model = on_meta(name)
    assert isinstance(model, ZooModel)
    seen: list[tuple[str, tuple[int, ...]]] = []

    def watch(path: str) -> None:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            seen.append((path, tuple((inputs[0] if path == model.head else output).shape)))

        model.get_submodule(path).register_forward_hook(hook)

    for path in (*model.stages, model.head):
        watch(path)
    model(torch.empty(2, 3, 64, 64, device="meta"))
    assert [path for path, _ in seen] == [*model.stages, model.head]
    shapes = [shape for _, shape in seen]
    assert all(len(shape) == 4 for shape in shapes[:-1])
    assert len(shapes[-1]) == 2
    sides = [shape[2] for shape in shapes[:-1]]
    assert sides == sorted(sides, reverse=True)


def test_a_bigger_image_gets_one_more_pooling_in_vgg() -> None:
    model = on_meta("vgg8")
    sides: list[int] = []
    model.get_submodule("block4").register_forward_hook(lambda _m, _i, output: sides.append(output.shape[-1]))
    for side in (32, 63, 64):
        model(torch.empty(1, 3, side, side, device="meta"))
    assert sides == [4, 7, 4]


def test_vgg_says_which_images_are_too_small() -> None:
    with pytest.raises(InputError, match="7x9 pixels are too small for VGG; expected at least 8x8"):
        on_meta("vgg8")(torch.empty(1, 3, 7, 9, device="meta"))


@pytest.mark.parametrize("name", ["resnet20", "wrn_16_1", "ResNet18"])
def test_convolutions_start_at_the_fan_out_scale(name: str) -> None:
    torch.manual_seed(0)
    for module in create_model(name, 10).modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 2000:
            fan = module.out_channels * module.kernel_size[0] * module.kernel_size[1]
            assert module.weight.std().item() == pytest.approx((2 / fan) ** 0.5, rel=0.1)


def test_width_scales_the_resnets() -> None:
    def head(name: str, width: int) -> tuple[int, ...]:
        model = on_meta(name, width=width)
        assert isinstance(model, ZooModel)
        return tuple(model.state_dict()[f"{model.head}.weight"].shape)

    assert [head("resnet8", width) for width in (4, 16)] == [(100, 16), (100, 64)]
    assert head("resnet8x4", 8) == (100, 64)
    assert head("resnet20_a", 8) == (100, 32)
    assert find_model("resnet8").options == {"width": 16}
    assert find_model("resnet8x4").options == {"width": 32}

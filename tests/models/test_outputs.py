from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mcld.errors import InputError
from mcld.models import ModelSpec, Network, create_model, load_checkpoint
from mcld.models._outputs import check_images
from mcld.outputs import split_output


class Odd(nn.Module):
    """Gives its logits in a dictionary, has statistics and chance."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(), nn.Flatten(), nn.LazyLinear(classes)
        )
        self.body(torch.zeros(2, 3, 8, 8))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {"logits": self.body(images)}


def test_a_network_with_a_dictionary_works_and_looking_changes_nothing() -> None:
    spec = ModelSpec("odd", 3, 3, mean=[0.5] * 3, std=[0.5] * 3)
    network = Network(Odd(3), spec)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    torch.manual_seed(5)
    images = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    check_images(network, "model odd", images, 3, trained=True)
    drawn = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(1))
    assert network.training
    for key, value in network.state_dict().items():
        assert torch.equal(value, before[key]), key
    assert network.eval()(images).shape == (2, 3)
    network.train()
    with pytest.raises(
        InputError, match=r"model odd gives \(2, 3\) for 2 images; expected logits of 4 classes, \(2, 4\)"
    ):
        check_images(network, "model odd", images, 4, trained=False)
    with pytest.raises(InputError, match=r"model odd does not take images of 9×9 px \("):
        check_images(network, "model odd", torch.zeros(2, 3, 9, 9, dtype=torch.uint8), 3, trained=False)


@pytest.mark.parametrize("name", ["timm/resnet18", "torchvision/resnet18", "resnet8"])
@pytest.mark.parametrize(
    ("option", "value", "why"),
    [
        ("num_classes", 1000, "the classes of the data decide it"),
        ("num_classes", 0, "the classes of the data decide it"),
        ("in_chans", 1, "the channels of the images decide it"),
        ("in_channels", 1, "the channels of the images decide it"),
        ("weights", "DEFAULT", "expected pretrained=true, or a checkpoint"),
    ],
)
def test_what_the_data_decide_is_no_option(name: str, option: str, value: Any, why: str) -> None:
    with pytest.raises(InputError, match=f"{name} takes no option {option}={value}: {why}"):
        ModelSpec(name, 4, 3, mean=[0.5] * 3, std=[0.5] * 3, options={option: value})
    if option in ("in_chans", "weights"):
        with pytest.raises(InputError, match=f"takes no option {option}={value}: {why}"):
            create_model(name, 4, 3, **{option: value})


def googlenet(classes: int, **options: Any) -> nn.Module:
    with torch.device("meta"):
        model = create_model("torchvision/googlenet", classes, init_weights=False, **options)
    return model.to_empty(device="cpu")


def test_outputs_beside_the_logits_are_there_in_training_only() -> None:
    spec = ModelSpec("torchvision/googlenet", 3, 3, mean=[0.5] * 3, std=[0.5] * 3)
    network = Network(create_model("torchvision/googlenet", 3, aux_logits=True, init_weights=False), spec)
    images = torch.zeros(2, 3, 16, 16, dtype=torch.uint8)
    logits, auxiliary = split_output(network.train()(images), "x")
    assert (logits.shape, len(auxiliary)) == ((2, 3), 2)
    assert isinstance(network.eval()(images), Tensor)


def test_a_checkpoint_with_auxiliary_heads_says_what_to_do(tmp_path: Any) -> None:
    file = tmp_path / "g.pth"
    torch.save(googlenet(3, aux_logits=True).state_dict(), file)
    with pytest.raises(
        InputError, match=r"has the auxiliary classifiers .*\(aux1, aux2\); make the model with aux_logits=true"
    ):
        load_checkpoint(googlenet(3), file)
    load_checkpoint(googlenet(3, aux_logits=True), file)
    with pytest.raises(
        InputError, match=r"head of 3 classes and the model one of 5 \(fc\.weight\); .*data with these 3 classes"
    ):
        load_checkpoint(googlenet(5, aux_logits=True), file)
    torch.save(googlenet(3).state_dict(), file)
    with pytest.raises(InputError, match=r"lacks the auxiliary classifiers .*aux_logits=false"):
        load_checkpoint(googlenet(3, aux_logits=True), file)

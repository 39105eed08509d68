import torch
from torch import nn

from mcld.data import Batch
from mcld.features import Features
from mcld.models import Network
from mcld.models.network import ModelSpec
from mcld.teacher import LiveTeacher


def network() -> Network:
    torch.manual_seed(0)
    net = ModelSpec("resnet8", 5, 3, mean=[0.5] * 3, std=[0.25] * 3, image_size=[16, 16]).build()
    net.train()(torch.rand(32, 3, 16, 16))  # gives batch normalisation something to subtract
    return net


def batch(*views: int) -> Batch:
    generator = torch.Generator().manual_seed(1)
    image = torch.randint(0, 256, (4, *views, 3, 16, 16), dtype=torch.uint8, generator=generator)
    return Batch(torch.arange(4), torch.zeros(4, *views, dtype=torch.int64), image, torch.zeros(4, dtype=torch.int64))


def norms(net: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in net.modules())


def test_logits_come_from_a_folded_copy() -> None:
    net = network()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    teacher = LiveTeacher(net, channels_last=True)
    assert norms(teacher.network) == 0 < norms(net)
    with torch.no_grad():
        expected = net.eval()(batch().image)
    logits = teacher(batch()).logits
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)
    assert not logits.requires_grad
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())
    assert all(value.is_contiguous() for value in net.state_dict().values())


def test_a_student_may_learn_from_logits_made_in_inference_mode() -> None:
    teacher, weight = LiveTeacher(network()), torch.ones(5, requires_grad=True)
    torch.autograd.backward((teacher(batch()).logits * weight).square().sum())
    assert weight.grad is not None
    other = teacher(batch(2)).other
    assert other is not None
    torch.autograd.backward((other.logits * weight).sum())


def test_features_are_those_of_the_network_itself() -> None:
    net = network()
    features = Features(net, {"logits", "maps"})
    teacher = LiveTeacher(net, features, channels_last=True)
    assert teacher.network is net
    with torch.no_grad():
        seen = teacher(batch())
        x = net.normalize(batch().image)
        model = net.model
        first = torch.relu(model.bn1(model.conv1(x)))  # type: ignore[operator]
        torch.testing.assert_close(seen.maps[0], model.layer1(first))  # type: ignore[operator]
    assert len(seen.maps) == 3

"""Probe, nearest neighbours and the linear layer, on features whose worth is known."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from mcld.data import CropFlip, TensorSplit, TrainLoader, eval_batches
from mcld.errors import InputError
from mcld.evaluation.probe import GRID, Labelled, linear_sgd, nearest_neighbours, pooled_features, probe
from mcld.features import Features
from mcld.models import ModelSpec, Network


def clusters(count: int, seed: int, noise: float, width: int = 8, classes: int = 4) -> Labelled:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % classes
    centres = 3 * torch.eye(classes, width)
    return Labelled(centres[labels] + noise * torch.randn(count, width, generator=generator), labels)


def network(architecture: str = "resnet8", size: int = 8, **options: object) -> Network:
    torch.manual_seed(0)
    spec = ModelSpec(architecture, 4, 3, [0.5] * 3, [0.25] * 3, image_size=[size, size], options=options)
    return spec.build()


def split(count: int, seed: int, size: int = 8) -> TensorSplit:
    """Images whose class is the channel (or none) that is bright."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 60, (count, 3, size, size), generator=generator, dtype=torch.uint8)
    labels = torch.arange(count) % 4
    for image, label in zip(images, labels, strict=True):
        if label < 3:
            image[label] += 150
    return TensorSplit(images, labels, CropFlip((size, size), padding=1))


def test_features_are_the_input_of_the_classifier_in_evaluation_mode() -> None:
    net = network().train()
    found = pooled_features(Features(net, {"logits", "pooled"}), eval_batches(split(10, 0), 4))
    assert found.features.shape == (10, 64)
    assert torch.equal(found.labels, torch.arange(10) % 4)
    images = split(10, 0).raw
    with torch.no_grad():
        logits = net.eval()(images)
        assert torch.allclose(net.model.get_submodule("fc")(found.features), logits, atol=1e-5)
    assert torch.equal(images, torch.cat([batch.image for batch in eval_batches(split(10, 0), 4)]))


@pytest.mark.parametrize(
    ("architecture", "size", "options", "width"),
    [
        ("wrn_16_1", 32, {}, 64),
        ("timm/vit_tiny_patch16_224", 32, {"img_size": 32, "patch_size": 8}, 192),
        ("torchvision/mobilenet_v3_small", 32, {}, 1024),
    ],
)
def test_features_of_every_library(architecture: str, size: int, options: dict[str, object], width: int) -> None:
    features = Features(network(architecture, size, **options), {"logits", "pooled"})
    assert pooled_features(features, eval_batches(split(3, 0, size), 2)).features.shape == (3, width)


def test_the_probe_separates_what_can_be_separated() -> None:
    assert probe(clusters(200, 0, 0.3), clusters(100, 1, 0.3)).top1 == 1.0
    blind = probe(clusters(200, 0, 100.0), clusters(400, 1, 100.0))
    assert abs(blind.top1 - 0.25) < 0.1


def test_the_probe_chooses_its_regularisation_on_training_data_alone() -> None:
    train, val = clusters(120, 0, 3.0), clusters(400, 1, 3.0)
    found = probe(train, val)
    assert found.C in GRID
    shuffled = Labelled(val.features, val.labels[torch.randperm(400, generator=torch.Generator().manual_seed(0))])
    other = probe(train, shuffled)  # another validation set cannot change the choice
    assert (other.C, other.held_out) == (found.C, found.held_out)
    assert other.top1 < found.top1 - 0.1
    assert probe(train, val) == found


def test_the_probe_is_scikit_learns_regression_of_that_strength() -> None:
    from sklearn.linear_model import LogisticRegression

    train, val = clusters(120, 0, 3.0), clusters(400, 1, 3.0)
    found = probe(train, val)
    mean, std = train.features.mean(0), train.features.std(0, correction=0)
    model = LogisticRegression(C=found.C, max_iter=1000).fit((train.features - mean) / std, train.labels)
    expected = float(np.mean(model.predict((val.features - mean) / std) == val.labels.numpy()))
    assert found.top1 == pytest.approx(expected, abs=0.006)


def test_a_class_with_one_image_is_refused() -> None:
    train = clusters(9, 0, 0.3)
    with pytest.raises(InputError, match=r"class 1 has 1 training image.*at least 2 of each class"):
        probe(Labelled(train.features[[0, 1, 2, 3, 4, 6, 7, 8]], train.labels[[0, 1, 2, 3, 4, 6, 7, 8]]), train)


def test_neighbours_are_counted_by_cosine() -> None:
    # all along one of two directions; only the direction tells the class, and lengths mislead
    train = Labelled(
        torch.tensor([[1.0, 0.0], [9.0, 0.0], [0.0, 1.0], [0.0, 9.0]]).repeat(10, 1), torch.tensor([0, 0, 1, 1] * 10)
    )
    val = Labelled(torch.tensor([[0.1, 0.01], [0.01, 50.0]]), torch.tensor([0, 1]))
    assert nearest_neighbours(train, val) == 1.0
    assert nearest_neighbours(train, Labelled(val.features, torch.tensor([1, 0]))) == 0.0


def test_neighbours_of_a_set_smaller_than_k() -> None:
    assert nearest_neighbours(clusters(4, 0, 0.0), clusters(4, 0, 0.0)) <= 1.0


def normalised() -> Network:
    """A network whose BatchNorms know the images, so that its features have a usual size."""
    net = network().train()
    with torch.no_grad():
        for _ in range(30):
            net(split(128, 0).raw)
    return net


def run_sgd(epochs: int = 8, seed: int = 0) -> tuple[Network, tuple[float, float, int]]:
    net = normalised()
    features = Features(net, {"logits", "pooled"})
    val = pooled_features(features, eval_batches(split(40, 1), 40))
    loader = TrainLoader(split(128, 0), 64, seed)
    found = linear_sgd(features, loader, val, 4, seed=seed, epochs=epochs)
    assert found.epochs == epochs
    return net, (found.last, found.best, found.best_epoch)


def test_sgd_learns_a_layer_and_leaves_the_network_as_it_was() -> None:
    before = {key: value.clone() for key, value in normalised().state_dict().items()}
    net, (last, best, epoch) = run_sgd()
    assert best >= last > 0.6
    assert 1 <= epoch <= 8
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())
    assert all(parameter.grad is None for parameter in net.parameters())


def test_sgd_depends_on_the_seed_alone() -> None:
    torch.manual_seed(1)
    one = run_sgd(3)[1]
    torch.manual_seed(2)
    assert run_sgd(3)[1] == one


def test_sgd_follows_the_published_decays(monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[float] = []
    step = torch.optim.SGD.step

    def spy(optimizer: torch.optim.SGD, *args: object) -> object:
        rates.append(optimizer.param_groups[0]["lr"])
        return step(optimizer)

    monkeypatch.setattr(torch.optim.SGD, "step", spy)
    net = network()
    features = Features(net, {"logits", "pooled"})
    val = pooled_features(features, eval_batches(split(8, 1), 8))
    linear_sgd(features, TrainLoader(split(8, 0), 8, 0), val, 4)
    expected = [0.1] * 30 + [0.01] * 30 + [0.001] * 30 + [0.0001] * 30
    assert rates == pytest.approx(expected)


def test_a_network_without_a_linear_head_is_refused() -> None:
    with pytest.raises(InputError, match="Linear"):
        Features(network("torchvision/squeezenet1_1", 64), {"logits", "pooled"})
    assert isinstance(network().model, nn.Module)


@pytest.mark.slow
def test_a_trained_network_transfers_far_better_than_the_same_untrained(shared: Path, tmp_path: Path) -> None:
    """Twenty classes of Tiny-ImageNet, a few epochs; then forty others."""
    import json
    import runpy
    import sys

    from mcld.cli.main import main

    def unpack(pack: str, *words: str) -> str:
        out = str(tmp_path / f"{pack}.npz")
        before, sys.argv = sys.argv, ["unpack.py", str(shared / "data" / f"{pack}.npz"), out, *words]
        try:
            runpy.run_path(str(shared / "tools" / "unpack.py"))
        finally:
            sys.argv = before
        return out

    first = [unpack(f"tiny_imagenet_100c_32px_{part}", "--classes", "20") for part in ("train", "val")]
    new = [unpack(f"tiny_imagenet_transfer40_32px_{part}") for part in ("train", "val")]
    run, out = str(tmp_path / "run"), str(tmp_path / "transfer")
    words = ["data=arrays", f"data.train={first[0]}", f"data.val={first[1]}", "model=resnet8", f"run={run}"]
    fast = ["schedule=one_cycle", "schedule.epochs=8", "schedule.lr=0.1", "threads=1"]
    assert main(["train", *words, *fast]) == 0
    words = ["data=arrays", f"data.train={new[0]}", f"data.val={new[1]}", "threads=1", f"run={out}"]
    assert main(["transfer", run, *words, "--untrained", "--protocol", "probe"]) == 0
    result = json.loads((Path(out) / "transfer.json").read_text())
    trained, untrained = result["networks"]
    assert trained["probe"]["top1"] > untrained["probe"]["top1"] + 0.08
    assert trained["knn"]["top1"] > untrained["knn"]["top1"] + 0.05

"""The public Distiller: any network, a borrowed teacher, what a step needs, and what it computes."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import mcld
from mcld import KD, Distiller, ImageSpec, InputError, Outputs, create_method, create_model
from mcld.methods import list_methods, method_class

C = 5


class Small(nn.Module):
    """Somebody's own network: two resolutions, a classifier that is not the last module."""

    def __init__(self, width: int = 4, classes: int = C, channels: int = 3) -> None:
        super().__init__()
        self.classify = nn.Linear(2 * width, classes)
        self.stem = nn.Sequential(nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU())
        self.down = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classify(self.relu(self.down(self.stem(x))).mean(dim=(2, 3)))
        return logits


def pair(**options: Any) -> tuple[Small, Small]:
    torch.manual_seed(0)
    return Small(**options), Small(8, **options)


def batch(B: int = 6, side: int = 8) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(1)
    return torch.rand(B, 3, side, side, generator=g), torch.arange(B) % C


def test_a_step_is_cross_entropy_with_the_methods_weight_and_its_terms() -> None:
    student, teacher = pair()
    images, labels = batch()
    out = Distiller(student, teacher, KD(temperature=2))(images, labels)
    student.zero_grad()
    logits, soft = student(images), teacher.eval()(images)
    expected = {"ce": 0.1 * F.cross_entropy(logits, labels), **KD(temperature=2)(logits, soft, labels)}
    torch.testing.assert_close(out.terms, expected)
    assert list(out.terms) == ["ce", "kl"]
    torch.testing.assert_close(out.loss, expected["ce"] + expected["kl"])
    torch.testing.assert_close(out.logits, logits)
    out.loss.backward()
    assert all(p.grad is not None for p in student.parameters())
    assert all(p.grad is None for p in teacher.parameters())


def test_the_weight_of_cross_entropy_and_label_smoothing_are_chosen() -> None:
    student, teacher = pair()
    images, labels = batch()
    out = Distiller(student, teacher, "kd", ce_weight=0.5, label_smoothing=0.1)(images, labels)
    torch.testing.assert_close(out.terms["ce"], 0.5 * F.cross_entropy(out.logits, labels, label_smoothing=0.1))
    assert "ce" not in Distiller(student, teacher, "kd", ce_weight=0)(images, labels).terms


def test_plain_training_needs_no_teacher() -> None:
    out = Distiller(pair()[0], method="plain")(*batch())
    assert list(out.terms) == ["ce"]


def test_the_teacher_is_frozen_and_borrowed() -> None:
    student, teacher = pair()
    teacher.train()
    before = {key: value.clone() for key, value in teacher.state_dict().items()}
    distiller = Distiller(student, teacher, "mcld")
    theirs = {id(p) for p in teacher.parameters()}
    assert not theirs & {id(p) for p in distiller.parameters()}
    assert not any(module is teacher for module in distiller.modules())
    assert {key.split(".")[0] for key in distiller.state_dict()} <= {"student", "method"}
    distiller.train()
    assert not teacher.training
    teacher.train()  # somebody does so elsewhere
    distiller(*batch(), progress=0.1)
    assert not teacher.training
    after = teacher.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())  # its statistics, too
    assert distiller.teacher is teacher
    assert all(p.requires_grad for p in teacher.parameters())  # as it came


def test_the_teacher_follows_to_a_device_but_not_to_a_dtype() -> None:
    student, teacher = pair()
    distiller = Distiller(student, teacher, "kd")
    distiller.double()
    assert next(student.parameters()).dtype is torch.float64
    assert next(teacher.parameters()).dtype is torch.float32
    nn.ModuleDict({"inner": distiller}).to("meta")  # its weights would be lost there
    assert next(student.parameters()).device.type == "meta"
    assert next(teacher.parameters()).device.type == "cpu"
    moved: list[Any] = []
    teacher.to = lambda device: moved.append(device)  # type: ignore[method-assign,assignment]
    fresh = Distiller(Small(), teacher, "kd")

    class Elsewhere:
        device = torch.device("cuda:0")

    torch.nn.Module._apply  # noqa: B018 - what to() calls
    fresh._apply(lambda t: t if t.numel() else Elsewhere())  # type: ignore[arg-type,return-value]
    assert moved == [torch.device("cuda:0")]


@pytest.mark.parametrize("form", ["logits", "outputs", "dict", "network's output"])
def test_given_logits_take_the_teachers_place(form: str) -> None:
    student, teacher = pair()
    images, labels = batch()
    expected = Distiller(student, teacher, "mcld")(images, labels, progress=1).terms
    logits = teacher(images)
    given = {"logits": logits, "outputs": Outputs(logits), "dict": {"logits": logits}, "network's output": (logits, 3)}
    distiller = Distiller(student, method="mcld")
    torch.testing.assert_close(distiller(images, labels, progress=1, teacher_logits=given[form]).terms, expected)
    with pytest.raises(InputError, match=r"there is no teacher; expected teacher_logits=\.\.\., or a Distiller with"):
        distiller(images, labels, progress=1)


def test_progress_and_epochs_cannot_be_forgotten() -> None:
    student, teacher = pair()
    images, labels = batch()
    with pytest.raises(InputError, match=r"mcld changes with the progress of training; expected progress=\.\.\."):
        Distiller(student, teacher)(images, labels)
    with pytest.raises(InputError, match=r"counts epochs; expected epochs=\.\.\., how many there are in the whole"):
        Distiller(student, teacher, "dkd")
    dkd = Distiller(student, teacher, "dkd", epochs=40)
    early, late = (dkd(images, labels, progress=p).terms["target"] for p in (0.0, 0.9))
    torch.testing.assert_close(late, 20 * early)
    Distiller(student, teacher, create_method("dkd", warmup=0))(images, labels)


@pytest.mark.parametrize("name", list_methods())
def test_every_method_takes_a_network_of_ones_own(name: str) -> None:
    student, teacher = pair()
    options: dict[str, Any] = {"stage": 1} if name == "fitnet" else {}
    distiller = Distiller(
        student,
        teacher,
        create_method(name, **options),
        epochs=10,
        image_size=8,
        train_labels=torch.arange(20) % C,
        student_classifier="classify",
        teacher_classifier="classify",
    )
    images, labels = batch()
    if method_class(name).views == 2:
        images = torch.stack([images, images.flip(3)], dim=1)
    out = distiller(images, labels, progress=0.5, index=torch.arange(6))
    out.loss.backward()
    assert out.loss.isfinite()
    assert sorted(out.terms)[:1] != [] or name == "plain"
    gradients = [p.grad for p in distiller.student.parameters() if p.requires_grad]
    assert sum(g is not None and bool(g.abs().sum() > 0) for g in gradients) >= 4
    assert all(p.grad is None for p in teacher.parameters())


def test_stages_are_found_in_a_network_of_ones_own() -> None:
    student, teacher = pair()
    distiller = Distiller(student, teacher, "at", image_size=8)
    assert distiller.student_features.shapes().maps == ((4, 8, 8), (8, 4, 4))


def test_modules_are_named_and_wrong_names_answered_with_the_right_ones() -> None:
    student, teacher = pair()
    options: dict[str, Any] = {"image_size": 8, "teacher_maps": ["stem"]}
    distiller = Distiller(student, teacher, "at", student_maps=["stem.0"], **options)
    assert distiller.student_features.shapes().maps == ((4, 8, 8),)
    with pytest.raises(
        InputError, match=r"student_maps: student Small has no module 'steam'; did you mean 'stem.*it has"
    ):
        Distiller(student, teacher, "at", student_maps=["steam"], **options)
    with pytest.raises(
        InputError, match=r"teacher_classifier: teacher Small has no module 'fc'; it has classify, stem"
    ):
        Distiller(student, teacher, "pkt", image_size=8, teacher_classifier="fc")
    with pytest.raises(
        InputError, match=r"student_classifier: module 'stem' of student Small is a Sequential; expected a"
    ):
        Distiller(student, teacher, "pkt", image_size=8, student_classifier="stem")
    with pytest.raises(InputError, match=r"student_maps is 'stem'; expected a list of module names"):
        Distiller(student, teacher, "at", image_size=8, student_maps="stem")
    inner: dict[str, Any] = {"image_size": 8, "student_pooled": "0.down", "teacher_classifier": "classify"}
    named = Distiller(nn.Sequential(student, nn.Identity()), teacher, "pkt", **inner)
    assert named.student_features.shapes().pooled == 8 * 4 * 4


def test_what_a_network_does_not_say_is_asked_for() -> None:
    student, teacher = pair()
    with pytest.raises(InputError, match=r"student Small does not know its image size; expected image_size=\.\.\."):
        Distiller(student, teacher, "pkt")
    with pytest.raises(InputError, match=r"crd expects at least 2, .*train_labels=\.\.\. of the Distiller"):
        Distiller(student, teacher, "crd", image_size=8)
    with pytest.raises(InputError, match=r"has 7 outputs and there are 5 classes; expected its classifier: student_cl"):
        Distiller(Headed(), teacher, "pkt", image_size=8)
    assert Distiller(Headed(), teacher, "pkt", image_size=8, student_classifier="classify")(*batch()).loss.isfinite()
    with pytest.raises(InputError, match=r"does not take a blank image of shape \(1, 3, 1, 1\) \(.*; expected the"):
        Distiller(nn.Sequential(nn.AvgPool2d(4), student), teacher, "pkt", image_size=1)


class Headed(Small):
    """With a head after its classifier that logits do not come from."""

    def __init__(self) -> None:
        super().__init__()
        self.extra = nn.Linear(8, 7)

    def forward(self, x: Tensor) -> Any:
        features = self.relu(self.down(self.stem(x))).mean(dim=(2, 3))
        return {"logits": self.classify(features), "embedding": self.extra(features)}


def test_two_views() -> None:
    student, teacher = pair()
    images, labels = batch()
    views = torch.stack([images, images.flip(3)], dim=1)
    distiller = Distiller(student.eval(), teacher, "mlkd").eval()
    out = distiller(views, labels)
    assert "ce_strong" in out.terms
    torch.testing.assert_close(out.logits, student(images))
    torch.testing.assert_close(distiller([images, images.flip(3)], labels).terms, out.terms)
    given = torch.stack([teacher(images), teacher(images.flip(3))], dim=1)
    torch.testing.assert_close(distiller(views, labels, teacher_logits=given).terms, out.terms)
    with pytest.raises(
        InputError, match=r"images have shape \(6, 3, 8, 8\), 1 to each label, and mlkd takes 2; expected .* or a pair"
    ):
        distiller(images, labels)
    with pytest.raises(InputError, match="2 to each label, and kd takes 1; expected"):
        Distiller(student, teacher, "kd")(views, labels)


def test_another_normalisation_and_another_size_for_each() -> None:
    student, teacher = pair()
    seen: list[Tensor] = []
    teacher.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    images, labels = batch()
    mean, std = [0.5, 0.4, 0.3], [0.2, 0.25, 0.3]
    m, s = (torch.tensor(x).view(-1, 1, 1) for x in (mean, std))
    spec = {"mean": mean, "std": std, "size": 16}
    Distiller(student, teacher, "kd", teacher_images=spec)(images, labels)
    large = F.interpolate(images, (16, 16), mode="bilinear", antialias=True)
    torch.testing.assert_close(seen.pop(), (large - m) / s)
    # images normalised for the student, as most loaders give them
    given = ImageSpec([0.1, 0.1, 0.1], [0.5, 0.5, 0.5])
    normalised = (images - 0.1) / 0.5
    distiller = Distiller(student, teacher, "kd", images=given, teacher_images=ImageSpec(mean, std))
    out = distiller(normalised, labels)
    torch.testing.assert_close(seen.pop(), (images - m) / s)
    torch.testing.assert_close(out.logits, student(normalised))
    assert not any("images" in key for key in distiller.state_dict())
    Distiller(student, teacher, "kd", teacher_images=lambda x: 1 - x)(images, labels)
    torch.testing.assert_close(seen.pop(), 1 - images)
    bytes_ = (255 * images).to(torch.uint8)
    both = Distiller(student, teacher, "kd", student_images=ImageSpec(), teacher_images=ImageSpec(mean, std))
    both(bytes_, labels)
    torch.testing.assert_close(seen.pop(), (bytes_ / 255 - m) / s)


def test_a_network_of_ours_normalises_by_itself() -> None:
    spec = mcld.models.ModelSpec("resnet8", C, 3, [0.5] * 3, [0.2] * 3)
    teacher, (student, _) = spec.build(), pair()
    images, labels = batch()
    given = ImageSpec([0.1] * 3, [0.5] * 3)
    out = Distiller(student, teacher, "kd", images=given)((images - 0.1) / 0.5, labels)
    expected = KD()(out.logits, teacher(images), labels)
    torch.testing.assert_close(out.terms["kl"], expected["kl"])


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"mean": "x"}, "mean is 'x'; expected a list of finite numbers"),
        ({"mean": [0.1], "std": [0.0]}, r"std is \(0.0,\); expected positive"),
        ({"mean": [0.1], "std": [1.0, 2.0]}, "mean has 1 numbers and std 2"),
        ({"size": 0}, "size is 0; expected a number of pixels"),
        ({"meen": [0.1]}, "no field of teacher_images 'meen'; did you mean 'mean'"),
        (3, "teacher_images is 3; expected mcld.ImageSpec"),
    ],
)
def test_wrong_specs(spec: Any, message: str) -> None:
    student, teacher = pair()
    with pytest.raises(InputError, match=message):
        Distiller(student, teacher, "kd", teacher_images=spec)


def test_images_that_are_normalised_already_are_noticed() -> None:
    student, teacher = pair()
    images, labels = batch()
    distiller = Distiller(student, teacher, "kd", teacher_images=ImageSpec([0.5] * 3, [0.2] * 3))
    with pytest.raises(InputError, match=r"images range from -.* to .*; expected 0 to 1, or images=ImageSpec"):
        distiller((images - 0.5) / 0.2, labels)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"student": "resnet8"}, "student is 'resnet8'; expected a torch.nn.Module"),
        ({"teacher": 3}, "teacher is 3; expected a torch.nn.Module"),
        ({"method": "kdd"}, "no method 'kdd'; did you mean 'kd'"),
        ({"method": KD}, r"method is the class KD; expected KD\(\.\.\.\), or its name"),
        ({"ce_weight": -1}, "ce_weight is -1; expected a number of at least 0"),
        ({"label_smoothing": 1.0}, "label_smoothing is 1.0; expected at least 0 and below 1"),
        ({"epochs": 0}, "epochs is 0; expected an integer of at least 1"),
        ({"method": "plain", "ce_weight": 0}, "nothing is left to learn from"),
        ({"method": "sp", "image_size": (8, 8, 3)}, r"image_size is \(8, 8, 3\); expected a number of pixels"),
    ],
)
def test_wrong_arguments(change: dict[str, Any], message: str) -> None:
    student, teacher = pair()
    with pytest.raises(InputError, match=message) as caught:
        Distiller(**{"student": student, "teacher": teacher, **change})
    assert "\n" not in str(caught.value)


def test_wrong_batches() -> None:
    student, teacher = pair()
    images, labels = batch()
    distiller = Distiller(student, teacher, "kd")
    for images_, labels_, message in (
        (images[0], labels, r"images have shape \(3, 8, 8\); expected \(B, channels, height, width\)"),
        (images, labels[:3], r"labels have shape \(3,\); expected \(6,\)"),
        (images, F.one_hot(labels, C).float(), r"labels have shape \(6, 5\)"),
        (images, labels + C, "labels range from 5 to 9; expected 0 to 4 for 5 classes"),
    ):
        with pytest.raises(InputError, match=message):
            distiller(images_, labels_)
    with pytest.raises(InputError, match="student has 5 classes and teacher 7; expected the same classes in both"):
        Distiller(student, Small(classes=7), "kd")(images, labels)
    with pytest.raises(InputError, match=r"the student gives logits of shape \(6, 4, 8, 8\); expected \(B, C\)"):
        Distiller(student.stem, teacher, "kd")(images, labels)


def test_simkd_replaces_the_last_layer_of_any_network() -> None:
    student, teacher = pair()
    distiller = Distiller(
        student, teacher, "simkd", image_size=8, student_classifier="classify", teacher_classifier="classify"
    )
    out = distiller(*batch())
    out.loss.backward()
    assert list(out.terms) == ["features"]
    assert isinstance(student.classify, nn.Sequential)
    last = student.classify[-1]
    torch.testing.assert_close(last.weight, teacher.classify.weight)
    assert not last.weight.requires_grad


def test_the_zoo_and_compiled_students() -> None:
    student, teacher = create_model("resnet8", C, width=4), create_model("resnet8", C)
    images, labels = batch()
    distiller = Distiller(student, teacher, "at", image_size=8)
    assert len(distiller.student_features.shapes().maps) == 3
    assert distiller(images, labels).loss.isfinite()

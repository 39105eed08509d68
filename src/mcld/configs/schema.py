"""The settings of a run, with their defaults. Nothing else may be set, and once made they do not change.

``data`` and ``method`` are groups: what they hold depends on what is chosen (``mcld data``, ``mcld methods``).
"""

from dataclasses import dataclass, field
from typing import Any

from mcld.assembly.schedule import Schedule
from mcld.options import MISSING

OBJECT = "<object>"
"""The name of what was given as an object from Python."""


@dataclass(frozen=True)
class NetworkSettings:
    """A network: ``model=resnet20`` is short for ``model.name=resnet20``.

    Attributes:
        name: a run directory, a name from ``mcld models``, ``timm/NAME`` or ``torchvision/NAME``.
        checkpoint: a file with weights for it.
        weights: which weights of a run directory: ``last`` or ``best``.
        pretrained: take the weights that timm or torchvision publish (downloads them).
        mean: normalisation, per channel, for images scaled to 0..1; by default what the weights were trained with where
            that is known, else the data's own.
        std: see ``mean``.
        maps: modules whose outputs a method takes as feature maps, from early to late; by default the stages.
        options: further arguments of the architecture.
    """

    name: str = MISSING
    checkpoint: str | None = None
    weights: str = "last"
    pretrained: bool = False
    mean: list[float] | None = None
    std: list[float] | None = None
    maps: list[str] | None = None
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TeacherSettings(NetworkSettings):
    """The network to learn from.

    Attributes:
        allow_near_chance: go on with a teacher that is no better than guessing.
        store: where its logits are kept, for this run and for all later ones with the same teacher, data and views:
            ``auto`` (a folder of the user's cache, where the method and the disk allow it), ``off`` or a folder.
        store_precision: bits of a stored logit, 16 or 32. As measured with one teacher (logits from -13 to 19;
            ``benchmarks/store_precision.py``), 16 bits change a logit by at most 0.004, a batch's loss by at most 0.03%
            and its gradient by at most 0.15%; 32 bits give the student of the live teacher to the bit.
        views: show only so many different views of each training image, so that their logits can be stored: an
            approximation of the whole augmentation. By default all there are.
    """

    allow_near_chance: bool = False
    store: str = "auto"
    store_precision: int = 16
    views: int | None = None


@dataclass(frozen=True)
class OwnData:
    """Data that was given as an object: it has no more options than these.

    Attributes:
        name: of an object.
        batch_size: images in one step, all devices together.
        augment: it transforms its images itself.
        policy: see ``augment``.
        second_policy: see ``augment``.
        workers: processes that read the images; by default as many as the machine has cores for, at most 8.
    """

    name: str = OBJECT
    batch_size: int = 64
    augment: bool = False
    policy: str = "none"
    second_policy: str | None = None
    workers: int | None = None


@dataclass(frozen=True)
class OwnMethod:
    """A method that was given as an object.

    Attributes:
        name: of an object.
    """

    name: str = OBJECT


@dataclass(frozen=True)
class Optimizer:
    """The optimizer.

    Attributes:
        name: ``sgd`` or ``adamw``; ``dot`` and ``deepkd`` are SGD with a momentum of its own for the gradient of each
            part of the loss: what the labels say, and what the teacher says (``deepkd``: of the label's class, and of
            the others). A step takes a backward pass for each part.
        momentum: for all but ``adamw``.
        nesterov: for ``sgd``.
        weight_decay: on all parameters, as in the field's recipe.
        decay_norms: false leaves normalisation, biases, tokens and position embeddings without weight decay.
        clip: the largest norm of the gradient; null for none. Contrast of small logits has large gradients: without a
            limit the first steps of MCLD at a high learning rate can destroy the student.
        delta: for ``dot`` and ``deepkd``: how far the momenta of the parts are from ``momentum``.
        delta_task: for ``dot`` and ``deepkd``: the same for what the labels say, with its sign; by default -delta for
            ``dot`` and delta for ``deepkd``.
        delta_target: for ``deepkd``: the same for what the teacher says of the label's class; by default -delta.
        delta_distillation: for ``dot`` and ``deepkd``: the same for what else the teacher says; by default delta.
        fused: one pass over all parameters; ``auto`` where the device is known to gain.
    """

    name: str = "sgd"
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 5e-4
    decay_norms: bool = True
    clip: float | None = 5.0
    delta: float = 0.075
    delta_task: float | None = None
    delta_target: float | None = None
    delta_distillation: float | None = None
    fused: bool | str = "auto"


@dataclass(frozen=True)
class Checkpoints:
    """When to save the state of a run for ``mcld resume``, besides the end of each epoch and an interruption.

    Attributes:
        minutes: at most this long between two.
    """

    minutes: float = 10.0


@dataclass(frozen=True)
class RunSettings:
    """What training alone and distillation have in common.

    Attributes:
        data: a data set; ``mcld data`` lists them, ``mcld data NAME`` its options ``data.KEY``.
        published: the recipe of a published row, such as ``cifar100/resnet32x4-resnet8x4/kd`` (``mcld published``);
            what else is said on the command line wins.
        recipe: a ready choice of settings: ``vit`` for vision transformers (AdamW, warm-up, cosine, label smoothing,
            TrivialAugment; ``--cfg job`` shows all); what else is said on the command line wins.
        label_smoothing: of the cross-entropy, from 0 to 1.
        seed: of the first weights, the data order, the augmentation.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        devices: how many; each takes its share of every batch.
        precision: ``32``, ``bf16``, ``16-mixed``, or ``auto``: what is fastest on this kind of device as measured.
        channels_last: how images and convolutions of what is trained lie in memory: ``true``, ``false`` or ``auto``, as
            for precision; a teacher's always as is fastest.
        compile: use torch.compile on the student: ``true``, ``false`` or ``auto``, as for precision.
        threads: CPU threads of each process; by default all cores, shared between the devices.
        logger: where the numbers of each epoch go besides ``metrics.csv``, one or several: ``tensorboard``, ``wandb``,
            ``mlflow``, ``csv`` for nothing more; the options of each are ``logger.NAME.KEY``.
        log_every: steps between two readings of the loss terms for the progress bar.
        report: write ``report.html``, ``figures/`` and ``answers.npz`` at the end; ``mcld report`` does it later. With
            ``MCLD_REPORT=off`` in the environment no run does.
        run: the run directory; by default a name under ``runs`` made from the settings.
    """

    data: Any = MISSING
    logger: Any = MISSING
    schedule: Schedule = field(default_factory=Schedule)
    optimizer: Optimizer = field(default_factory=Optimizer)
    checkpoints: Checkpoints = field(default_factory=Checkpoints)
    published: str | None = None
    recipe: str | None = None
    label_smoothing: float = 0.0
    seed: int = 0
    device: str = "auto"
    devices: int = 1
    precision: str = "auto"
    channels_last: bool | str = "auto"
    compile: bool | str = "auto"
    threads: int | None = None
    log_every: int = 50
    report: bool = True
    run: str | None = None


@dataclass(frozen=True)
class Train(RunSettings):
    """``mcld train``: one network, learning from labels.

    Attributes:
        model: the network.
    """

    model: NetworkSettings = field(default_factory=NetworkSettings)


@dataclass(frozen=True)
class Distill(RunSettings):
    """``mcld distill``: a student, learning from labels and from a teacher.

    Attributes:
        teacher: the network to learn from.
        student: the network that is trained.
        method: a distillation method, or several as ``[mcld,kd]``; ``mcld methods`` lists them, ``mcld methods NAME``
            its options ``method.KEY``.
        ce_weight: the weight of cross-entropy; by default the method's own (``mcld methods``).
    """

    teacher: TeacherSettings = field(default_factory=TeacherSettings)
    student: NetworkSettings = field(default_factory=NetworkSettings)
    method: Any = MISSING
    ce_weight: float | None = None

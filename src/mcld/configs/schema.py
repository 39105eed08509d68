"""The settings of a run, with their defaults. Nothing else may be set, and once made they do not change.

``data`` and ``method`` are groups: what they hold depends on what is chosen (``mcld data``, ``mcld methods``).
"""

from dataclasses import dataclass, field
from typing import Any

from mcld.assembly.network_options import NetworkSettings
from mcld.assembly.optimizer_options import Optimizer
from mcld.assembly.schedule import Schedule
from mcld.assembly.teacher_options import TeacherSettings
from mcld.engine.checkpoint_options import Checkpoints
from mcld.options import MISSING


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
        step: ``graph`` captures a training step as a CUDA graph and replays it, for methods on logits on one device;
            ``eager`` does not; ``auto`` is ``eager`` until the graph has been measured.
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
    step: str = "auto"
    threads: int | None = None
    log_every: int = 50
    report: bool = True
    run: str | None = None


@dataclass(frozen=True)
class Train(RunSettings):
    """``mcld train``: one network, learning from labels.

    Attributes:
        model: the network.
        freeze: ``backbone`` trains the classifier alone, on the features that the rest gives for the plain view of each
            image; they are computed once and kept in the cache folder. A network of timm or torchvision then has its
            published weights. ``none`` trains everything.
    """

    model: NetworkSettings = field(default_factory=NetworkSettings)
    freeze: str = "none"


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

"""What a published row is."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Option: TypeAlias = float | int | bool | str


@dataclass(frozen=True)
class Number:
    """One reported top-1 accuracy, with how it came about.

    Attributes:
        top1: per cent.
        source: where it is written.
        epoch: ``last``, ``best`` (on the same images that it is reported on) or ``unknown``.
        runs: how many runs it stands for, in words; ``unknown`` where the source does not say.
        note: what else sets it apart.
    """

    top1: float
    source: str
    epoch: Literal["last", "best", "unknown"] = "unknown"
    runs: str = "unknown"
    note: str = ""

    @property
    def protocol(self) -> str:
        """The protocol in words, without the views (they belong to the row)."""
        runs = "runs unknown" if self.runs == "unknown" else self.runs
        epoch = "epoch unknown" if self.epoch == "unknown" else f"{self.epoch} epoch"
        return f"{epoch}, {runs}" + (f"; {self.note}" if self.note else "")


@dataclass(frozen=True)
class Recipe:
    """How long to train and how fast; SGD with momentum 0.9, if it is not said otherwise.

    Attributes:
        epochs: passes over the training data.
        batch_size: images in one step.
        lr: the first learning rate.
        weight_decay: on all parameters, or all but those that ``decay_norms`` leaves out.
        decays: the epochs after which the learning rate is divided by ten; without any it falls to 0 as a cosine.
        nesterov: Nesterov's kind of momentum.
        decay_norms: whether normalisation and biases have weight decay, too.
        clip: the largest norm of the gradient; None for none, as everywhere in the field's recipes.
        optimizer: ``sgd``, ``adamw``, ``dot`` or ``deepkd``.
        delta: of ``dot``.
    """

    epochs: int = 240
    batch_size: int = 64
    lr: float = 0.05
    weight_decay: float = 5e-4
    decays: tuple[int, ...] = (150, 180, 210)
    nesterov: bool = False
    decay_norms: bool = True
    clip: float | None = None
    optimizer: str = "sgd"
    delta: float | None = None

    @property
    def schedule(self) -> str:
        """The schedule in words."""
        return f"÷10 after {', '.join(map(str, self.decays))}" if self.decays else "cosine"

    def words(self) -> list[str]:
        """As settings."""
        words = [
            f"data.batch_size={self.batch_size}",
            f"schedule={'step' if self.decays else 'cosine'}",
            f"schedule.epochs={self.epochs}",
            f"schedule.lr={self.lr}",
            "schedule.warmup=0.0",
            f"optimizer={self.optimizer}",
            "optimizer.momentum=0.9",
            f"optimizer.nesterov={str(self.nesterov).lower()}",
            f"optimizer.weight_decay={self.weight_decay}",
            f"optimizer.decay_norms={str(self.decay_norms).lower()}",
            f"optimizer.clip={'null' if self.clip is None else self.clip}",
            "label_smoothing=0.0",
            "precision=32",
        ]
        if self.delta is not None:
            words.append(f"optimizer.delta={self.delta}")
        if self.decays:
            points = ",".join(str(epoch / self.epochs) for epoch in self.decays)
            words += [f"schedule.milestones=[{points}]", "schedule.gamma=0.1"]
        return words


@dataclass(frozen=True)
class Row:
    """One published row: a recipe, and the numbers that were reported for it, the first being its own source's.

    Attributes:
        id: for ``published=``.
        data: the data set.
        student: the network that is trained.
        recipe: how long and how fast.
        numbers: what was reported; empty where we know no number.
        teacher: the network to learn from; None when a network is trained alone.
        method: our name of the method, or the name it would have here.
        title: what the field calls it.
        options: of the method.
        ce_weight: the weight of cross-entropy.
        views: augmented views of each image in one step.
        second_policy: the further augmentation of the second view.
        note: what a reader should know of the recipe.
        further: settings besides these, as words.
    """

    id: str
    data: str
    student: str
    recipe: Recipe
    numbers: tuple[Number, ...] = ()
    teacher: str | None = None
    method: str = "plain"
    title: str = "cross-entropy"
    options: Mapping[str, Option] = field(default_factory=dict)
    ce_weight: float | None = None
    views: int = 1
    second_policy: str = "none"
    note: str = ""
    further: tuple[str, ...] = ()

    @property
    def command(self) -> Literal["train", "distill"]:
        """The command that runs it."""
        return "train" if self.teacher is None else "distill"

    @property
    def pair(self) -> str:
        """``TEACHER-STUDENT``, or the one network."""
        return self.id.split("/")[1]

    @property
    def words(self) -> list[str]:
        """The settings of the row, all but the weights of the teacher and the place of the data."""
        words = [f"data={self.data}"]
        if self.teacher is None:
            words.append(f"model={self.student}")
        else:
            words += [f"teacher={self.teacher}", f"student={self.student}", f"method={self.method}"]
            words += [f"method.{key}={str(value).lower()}" for key, value in self.options.items()]
            if self.ce_weight is not None:
                words.append(f"ce_weight={self.ce_weight}")
        if self.views == 2:
            words.append(f"data.second_policy={self.second_policy}")
        return [*words, *self.further, *self.recipe.words()]

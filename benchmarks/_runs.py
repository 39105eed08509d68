"""What the benchmarks of whole epochs share: made-up data, runs that train on demand, the usual loop, targets."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from mcld.assembly.parts import build_parts
from mcld.commands.run import _prepare_teacher, launch
from mcld.configs.compose import compose
from mcld.data import TensorSplit
from mcld.display import Display
from mcld.engine.loop import Loop
from mcld.engine.stop import StopRequest
from mcld.runs import RunDirectory

CLASSES, SIZE, BATCH = 100, 32, 64


def made_up_images(folder: Path, train: int, val: int = BATCH) -> list[str]:
    """Write noise in the shape of CIFAR-100 into a folder: the words that name it to mcld."""
    generator = np.random.default_rng(0)
    words = ["data=arrays", "data.padding=4", "data.flip=true", f"data.batch_size={BATCH}"]
    for split, count in (("train", train), ("val", val)):
        images = generator.integers(0, 256, (count, SIZE, SIZE, 3), dtype=np.uint8)
        np.savez(folder / f"{split}.npz", images=images, labels=np.arange(count) % CLASSES)
        words.append(f"data.{split}={folder / split}.npz")
    return [*words, f"data.classes={CLASSES}"]


def teacher_words(teacher: str, store: str) -> list[str]:
    """The words for an untrained teacher: its speed is that of a trained one."""
    return [f"teacher={teacher}", "teacher.allow_near_chance=true", f"teacher.store={store}"]


class Training:
    """A run of mcld, prepared as ``mcld train`` and ``mcld distill`` prepare it, whose epochs are trained one by one.

    Args:
        command: ``train`` or ``distill``.
        words: of its command line.
        folder: for the run directory, in which nothing is written.
    """

    def __init__(self, command: Literal["train", "distill"], words: list[str], folder: Path) -> None:
        settings = compose(command, [*words, "schedule.epochs=1000", f"run={folder / 'run'}"])
        parts = build_parts(settings)
        fabric = launch(parts.settings)
        self.device = fabric.device
        self.parts = parts.on(fabric.device)
        display = Display(silent=True)
        teacher, predictions, *_ = _prepare_teacher(fabric, self.parts, display)
        self.loop = Loop(
            fabric,
            self.parts,
            teacher if self.parts.method.needs else None,
            predictions,
            RunDirectory(folder / "run"),
            display,
            StopRequest(),
        )
        self.bar = display.bar(self.loop.total, 0, "")

    def epoch(self, number: int = 0) -> None:
        """Train one epoch, with what is written to the store: the number decides on order and views."""
        self.loop.position.epoch, self.loop.position.step = number, 0
        self.loop._train_epoch(self.bar)
        if self.loop.teacher is not None:
            self.loop.teacher.save()


class Photos(Dataset[tuple[Tensor, int]]):
    """The training images one at a time, by PIL and torchvision's transforms, as the field's code bases read CIFAR."""

    def __init__(self, split: TensorSplit, mean: list[float], std: list[float]) -> None:
        self.images = split.raw.cpu().permute(0, 2, 3, 1).numpy()
        self.labels = split.labels.tolist()
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(SIZE, padding=4),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(mean, std),
            ]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), self.labels[index]


def photo_loader(parts: Any, workers: int) -> DataLoader[tuple[Tensor, int]]:
    """Shuffled batches of :class:`Photos` of a run's training images."""
    photos = Photos(parts.data.train, list(parts.data.info.mean), list(parts.data.info.std))
    return DataLoader(photos, BATCH, shuffle=True, num_workers=workers)


class UsualLoop:
    """An epoch of knowledge distillation as the field's code bases run it, on the networks of a run of mcld.

    Two workers decode and augment image by image, the teacher runs eagerly in fp32 at every step, and loss and accuracy
    are fetched after every step. What is learnt is KD (temperature 4, weights 0.1 and 0.9).
    """

    def __init__(self, parts: Any, device: torch.device) -> None:
        self.device = device
        self.loader = photo_loader(parts, workers=2)
        self.student, self.teacher = parts.student.model.to(device), parts.teacher.model.to(device).eval()
        self.optimizer = torch.optim.SGD(self.student.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)

    def epoch(self) -> None:
        """Train one epoch."""
        self.student.train()
        totals = [0.0, 0.0, 0.0]
        for images, labels in self.loader:
            images, labels = images.to(self.device), labels.to(self.device)
            with torch.no_grad():
                target = self.teacher(images)
            logits = self.student(images)
            soft = F.kl_div(F.log_softmax(logits / 4, 1), F.softmax(target / 4, 1), reduction="batchmean") * 16
            loss = 0.1 * F.cross_entropy(logits, labels) + 0.9 * soft
            self.optimizer.zero_grad()
            torch.autograd.backward(loss)
            self.optimizer.step()
            best = logits.topk(5, dim=1).indices == labels[:, None]
            for place, value in enumerate((loss, best[:, :1].sum(), best.sum())):
                totals[place] += value.item()


def judge(name: str, found: float, target: float, *, at_most: bool) -> dict[str, Any]:
    """Print whether a ratio meets its target, and by how much it does not."""
    met = found <= target if at_most else found >= target
    sign = "≤" if at_most else "≥"
    print(
        f"{name}: {found:.3f}, target {sign} {target}: {'met' if met else f'missed by {abs(found / target - 1):.1%}'}"
    )
    return {"median": found, "target": f"{sign} {target}", "met": met}


def where_the_time_goes(action: Any, rows: int = 15) -> str:
    """A table of the operations that an action spends its time in, printed as well."""
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        action()
    table: str = seen.key_averages().table(sort_by="self_cpu_time_total", row_limit=rows, max_name_column_width=48)
    print(table)
    return table

"""The training loop, to be read from top to bottom."""

import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from mcld.assembly.optimizers import create_optimizer
from mcld.assembly.parts import Parts
from mcld.assembly.schedule import learning_rate_factor
from mcld.configs.decisive import changed_settings, flatten
from mcld.data import Batch, TrainLoader
from mcld.display import Bar, Display, epoch_line, label_of
from mcld.distiller import Distilled
from mcld.engine.checkpoint import (
    list_checkpoints,
    load_checkpoint,
    load_optimizer,
    none_left,
    random_state,
    read_checkpoint,
    restore_random_state,
    save_checkpoint,
)
from mcld.engine.graph import Inputs, StepGraph, plain_state, set_learning_rate
from mcld.engine.meter import TermMeter
from mcld.engine.ranks import evaluate_on, plain_share, sum_over_ranks
from mcld.engine.step import descend, forward_of, outputs_of, share_buffers, step_inputs
from mcld.engine.stop import Interrupted, StopRequest
from mcld.errors import InputError, RunError
from mcld.loggers import Loggers
from mcld.methods._base import LOGITS
from mcld.models._fitting import fits
from mcld.models.network import save_state, save_weights
from mcld.runs import RunDirectory
from mcld.teacher import LiveTeacher, StoredTeacher, Teacher

SHARING = 2
"""How several devices share a batch, in checkpoints; earlier ones do not say it."""
_UNFIT = (LookupError, TypeError, ValueError, AttributeError, RuntimeError, AssertionError, OverflowError)
"""What loading raises where a file that somebody else made is not as it should be."""


class _ChangedError(InputError):
    """A checkpoint that is whole, and of other settings."""


@dataclass
class Position:
    """How far a run is; with the weights and the random states, all there is to know.

    Attributes:
        epoch: completed epochs.
        step: completed steps of the epoch after them.
        seconds: spent so far, over all interruptions.
        history: one row per completed epoch.
        best: the student's weights after the epoch with the best validation top-1.
    """

    epoch: int = 0
    step: int = 0
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)


class Loop:
    """Trains the student of ``parts``, leaving everything in the run directory.

    Args:
        fabric: launched.
        parts: what to train, with what.
        teacher: source of the teacher's outputs, if there is one.
        teacher_predictions: (N,) the teacher's predicted classes on the validation data, for the agreement.
        run: where to write; only rank 0 does.
        display: where to print.
        stop: asked between two steps whether to leave.
    """

    def __init__(
        self,
        fabric: Fabric,
        parts: Parts,
        teacher: Teacher | None,
        teacher_predictions: Tensor | None,
        run: RunDirectory,
        display: Display,
        stop: StopRequest,
    ) -> None:
        settings = parts.settings
        self.fabric, self.parts, self.settings = fabric, parts, settings
        self.teacher, self.teacher_predictions = teacher, teacher_predictions
        self.run, self.display, self.stop = run, display, stop
        self.loader = train_loader(fabric, parts)
        self.steps = self.loader.steps_per_epoch
        self.total = settings.schedule.epochs * self.steps
        self.distiller = parts.in_layout()
        if settings.compile:
            parts.student.compile()
        assert settings.schedule.lr is not None
        self.peak_lr = settings.schedule.lr
        self.optimizer = create_optimizer(settings.optimizer, self.peak_lr, self.distiller)
        self.module, self.fabric_optimizer = fabric.setup(self.distiller, self.optimizer)
        self.meter = TermMeter(fabric.device)
        self.graph: StepGraph | None = None
        if settings.step == "graph":
            if not parts.method.needs <= LOGITS:
                raise InputError(f"step=graph is for methods on logits; {parts.method.name} reads features: step=eager")
            capture = fabric.device.type == "cuda"
            more = lambda: self.meter.tensors  # noqa: E731 - new ones when the names of the terms become known
            self.graph = StepGraph(self._replayed, [self.distiller], self.optimizer, more, capture=capture)
        self.position = Position()
        self.loggers = Loggers(settings.logger, lambda line: display.line(line, style="yellow"))
        self.clock = time.perf_counter()

    def train(self) -> Position:
        """Train to the end.

        Raises:
            RunError: when a loss term becomes NaN or Inf.
            Interrupted: when asked to stop; the state is saved.
        """
        position, settings = self.position, self.settings
        if self.parts.method.training_bank:
            self._fill_bank()
        self._export()
        if self.fabric.is_global_zero:
            self.loggers.start(self.run.path, flatten(settings), position.history)
        complete = False
        try:
            self._train_epochs()
            complete = True
        finally:
            if self.fabric.is_global_zero:
                self.loggers.finish(complete=complete)
        return position

    def _train_epochs(self) -> None:
        position, settings = self.position, self.settings
        self.clock = time.perf_counter()
        done = position.epoch * self.steps + position.step
        with self.display.bar(self.total, done, "") as bar:
            while position.epoch < settings.schedule.epochs:
                self._train_epoch(bar)
                row = self._close_epoch(images_per_second=bar.images / bar.seconds)
                self._save()
                self._export()
                if self.fabric.is_global_zero:
                    self.loggers.log(row)
                self.display.line(epoch_line(row, settings.schedule.epochs, self.distiller.ce_weight))
                if position.epoch < settings.schedule.epochs and self._any_rank(self.stop.signal is not None):
                    self._leave()

    def _fill_bank(self) -> None:
        """Give the method the teacher's logits of all training images: from the store, as far as they are there.

        Not from the checkpoint, as they need no room there: a frozen teacher gives the same again.
        """
        split, teacher = self.parts.data.train, self.teacher
        assert isinstance(teacher, LiveTeacher | StoredTeacher)
        index, share = plain_share(self.fabric, self.settings, split, teacher)
        logits = sum_over_ranks(self.fabric, share.new_zeros(len(split), share.shape[1]).index_copy(0, index, share))
        everything = torch.arange(len(split), device=logits.device)
        self.parts.method.fill_bank(logits, split.labels.to(logits.device), everything)
        self.display.line(f"bank: the teacher's logits of all {len(split):,} training images, without augmentation")

    def _train_epoch(self, bar: Bar) -> None:
        position, settings, meter = self.position, self.settings, self.meter
        self.distiller.train()
        if position.step == 0:
            meter.clear()
        bar.restart_clock()
        saved = time.perf_counter()
        for batch in self.loader.epoch(position.epoch, start=position.step):
            progress = (position.epoch * self.steps + position.step) / self.total
            self._set_learning_rate(progress)
            self._step(batch, progress)
            position.step += 1
            bar.step(batch.label.shape[0] * self.fabric.world_size)
            look = position.step % settings.log_every == 0
            if look:
                self._watch()
                means = {label_of(name, self.distiller.ce_weight): value for name, value in meter.means().items()}
                bar.describe(f"epoch {position.epoch + 1}/{settings.schedule.epochs}", means)
            if position.step < self.steps and (look or self.fabric.world_size == 1):
                overdue = time.perf_counter() - saved > 60 * settings.checkpoints.minutes
                if self._any_rank(self.stop.signal is not None):
                    self._watch()
                    self._save()
                    self._leave()
                if self._any_rank(overdue):
                    self._watch()
                    self._save()
                    saved = time.perf_counter()
        self._watch()

    def _step(self, batch: Batch, progress: float) -> None:
        """One step: the parameters moved, and counted in the meter; replayed where it can be."""
        outputs, step = self._teach(batch), self.position.step
        if self.graph is not None and self.meter.names:  # they are known after the first step of a run
            given = step_inputs(batch, outputs, progress=progress, step=step)
            if self.graph.fits(given):
                try:
                    self.graph(given)
                except RuntimeError as error:
                    if self.graph.ready:
                        raise
                    reason = str(error).splitlines()[0]
                    raise RunError(
                        f"step=graph: this step cannot be captured ({reason}); expected step=eager"
                    ) from error
                self.meter.images += len(batch.label)
                return
        out = self._learn(batch.image, batch.label, progress, batch.index, outputs)
        self.meter.add(out.terms, out.logits, batch.label, step)

    def _learn(self, image: Tensor, label: Tensor, progress: Any, index: Tensor, outputs: Any) -> Distilled:
        with forward_of(self.fabric, self.module, self.optimizer):
            out: Distilled = self.module(image, label, progress=progress, index=index, teacher_logits=outputs)
        clip = self.settings.optimizer.clip
        descend(self.fabric, self.module, self.fabric_optimizer, out, self.parts.method, clip)
        return out

    def _replayed(self, given: Inputs) -> None:
        label, outputs = given["label"], outputs_of(given)
        out = self._learn(given["image"], label, given["progress"], given["index"], outputs)
        self.meter.update(out.terms, out.logits, label, given["step"])

    def time_steps(self, warm_up: int, timed: int) -> tuple[float, dict[str, float]]:
        """Do a few real steps that hardly move the parameters, and write nothing.

        Returns:
            Seconds of one step after the warm-up, and the means of the loss terms.
        """
        self.distiller.train()
        set_learning_rate(self.optimizer, self.peak_lr * 1e-6)
        self.meter.clear()
        started, done = time.perf_counter(), 0
        for step, batch in enumerate(self.loader.epoch(0)):
            if step == warm_up:
                started, done = time.perf_counter(), 0
            self._step(batch, progress=1.0)
            done += 1
            if step + 1 == warm_up + timed:
                break
        values = self.meter.means()  # waits for the device
        return (time.perf_counter() - started) / done, values

    def _teach(self, batch: Batch) -> Any:
        if self.teacher is None:
            return None
        with self.fabric.autocast():
            return self.teacher(batch)

    def _set_learning_rate(self, progress: float) -> None:
        schedule = self.settings.schedule
        factor = learning_rate_factor(
            schedule.name, progress, warmup=schedule.warmup, milestones=schedule.milestones, gamma=schedule.gamma
        )
        set_learning_rate(self.optimizer, self.peak_lr * factor)

    def _watch(self) -> None:
        """Stop a run whose loss is no number, before anything of it is saved."""
        bad = self.meter.first_bad()
        if self._any_rank(bad is not None):
            term, step = bad or ("a term on another rank", self.position.step)
            raise self._diverged(f"the loss term '{term}'", f", step {step + 1}")

    def _diverged(self, what: str, step: str = "") -> RunError:
        _, path, _ = load_checkpoint(self.run.checkpoints) if self.fabric.is_global_zero else (None, None, [])
        good = f"the last good checkpoint is {path}" if path else "there is no checkpoint yet"
        return RunError(
            f"{what} became NaN or Inf in epoch {self.position.epoch + 1}{step}; {good}. "
            "Try a lower schedule.lr, schedule.warmup=0.05 or a lower optimizer.clip"
            + (", or precision=32" if self.settings.precision != "32" else "")
        )

    def _close_epoch(self, images_per_second: float) -> dict[str, float]:
        """Evaluate, and add the epoch's row to the history."""
        position, fabric = self.position, self.fabric
        shares = [*self.meter.means().values(), int(self.meter.correct) / self.meter.images]
        means = torch.tensor(shares, dtype=self.meter.dtype)
        means = fabric.to_device(means) if fabric.world_size > 1 else means
        *terms, train_top1 = sum_over_ranks(fabric, means).div(fabric.world_size).tolist()
        share_buffers(fabric, self.distiller, self.optimizer)
        accuracy = evaluate_on(self.fabric, self.parts, self.parts.student, reference=self.teacher_predictions)
        if not math.isfinite(accuracy.loss):  # the last step may break the weights, and no later loss tells of it
            raise self._diverged("the validation loss")
        row: dict[str, float] = {
            "epoch": position.epoch + 1,
            "lr": float(self.optimizer.param_groups[0]["lr"]),
            "loss": sum(terms),
            **dict(zip(self.meter.names, terms, strict=True)),
            "train_top1": train_top1,
            "val_loss": accuracy.loss,
            "val_top1": accuracy.top1,
            "val_top5": accuracy.top5,
        }
        if accuracy.agreement is not None:
            row["agreement"] = accuracy.agreement
        row["images_per_second"] = round(images_per_second, 1)
        row["seconds"] = round(self._tick(), 2)
        best = max((old["val_top1"] for old in position.history), default=-1.0)
        position.history.append(row)
        if accuracy.top1 > best:
            position.best = {
                name: value.detach().cpu().clone() for name, value in self.parts.student.model.state_dict().items()
            }
        position.epoch += 1
        position.step = 0
        return row

    def _any_rank(self, flag: bool) -> bool:
        if self.fabric.world_size == 1:
            return flag
        return bool(sum_over_ranks(self.fabric, self.fabric.to_device(torch.tensor(float(flag)))) > 0)

    def _tick(self) -> float:
        """Count the time since the last tick; the seconds of the whole run."""
        now = time.perf_counter()
        self.position.seconds += now - self.clock
        self.clock = now
        return self.position.seconds

    def _leave(self) -> None:
        """Stop after the state was saved."""
        number = self.stop.signal or 0
        raise Interrupted(
            f"stopped in epoch {self.position.epoch + 1} after step {self.position.step} of {self.steps}, "
            f"everything is saved; go on with: mcld resume {self.run.path}",
            number,
        )

    def _save(self) -> None:
        """Write the checkpoint: everything else in the run directory is derived from it."""
        position = self.position
        if self.teacher is not None:
            self.teacher.save()  # first: a run that goes on from this checkpoint finds what it has computed before
        self._tick()
        ranks: list[Any] = [{"random": random_state(), "meter": self.meter.state_dict()}]
        if self.fabric.world_size > 1:
            own, ranks = ranks[0], [None] * self.fabric.world_size
            torch.distributed.all_gather_object(ranks, own)
        if self.fabric.is_global_zero:
            state = {
                "epoch": position.epoch,
                "step": position.step,
                "seconds": position.seconds,
                "history": position.history,
                "best": position.best,
                "student": self.parts.student.model.state_dict(),
                "method": self.parts.method.state_dict(),
                "optimizer": plain_state(self.optimizer),
                "precision": self.fabric.strategy.precision.state_dict(),
                "settings": flatten(self.settings),
                "sharing": SHARING,
                "ranks": ranks,
            }
            save_checkpoint(self.run.checkpoints, position.epoch, position.step, state)
        self.fabric.barrier()

    def restore(self) -> None:
        """Go on from the newest whole checkpoint; from the beginning when there is none yet.

        Raises:
            InputError: when all checkpoints are damaged, or the settings are not those that they were made with.
        """
        refused: list[InputError] = []
        for path in list_checkpoints(self.run.checkpoints):
            problem = self._take(path)
            if not self._any_rank(problem is not None):  # all ranks go on from the same
                break
            refused.append(problem or InputError(f"checkpoint {path.name} cannot be used on another device"))
        else:
            if not refused and self.run.summary.is_file():
                raise InputError(
                    f"run {self.run.path} is finished and has no checkpoint (mcld clean removes it); it can be "
                    "evaluated and exported, and trained anew with --force"
                )
            if not refused:
                self.display.line("no checkpoint yet: starting from the beginning")
                return
            raise refused[0] if all(isinstance(one, _ChangedError) for one in refused) else none_left(refused)
        for one in refused:
            self.display.line(f"warning: {one}; using the one before", style="yellow")
        where = f"epoch {self.position.epoch + 1}, step {self.position.step + 1}"
        finished = self.position.epoch >= self.settings.schedule.epochs
        self.display.line(f"{path}: {'training was finished' if finished else f'going on with {where}'}")

    def _take(self, path: Path) -> InputError | None:
        """Take over the state of a checkpoint; what is wrong with it, if it cannot be that of this run."""
        try:
            self._set(read_checkpoint(path))
        except InputError as error:
            return error
        except _UNFIT as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            return InputError(f"checkpoint {path.name} is none of this run's ({reason})")
        return None

    def _set(self, state: dict[str, Any]) -> None:
        self._check_settings(state.get("settings", flatten(self.settings)))  # not in those of earlier versions
        ranks = state["ranks"]
        if len(ranks) != self.fabric.world_size:
            raise _ChangedError(f"this run has {len(ranks)} devices; it cannot go on with {self.fabric.world_size}")
        if self.fabric.world_size > 1 and state.get("sharing") != SHARING and self._shared_otherwise():
            raise _ChangedError(
                f"run {self.run.path} cannot go on: an earlier version of mcld began it, where several devices shared "
                "batches otherwise (each with its own batch statistics, a short last batch left out); finish it with "
                "that version, or start again with --force"
            )
        position = Position(**{name: state[name] for name in ("epoch", "step", "seconds", "history", "best")})
        if position.step >= self.steps or position.epoch > self.settings.schedule.epochs:
            raise ValueError(f"epoch {position.epoch} and step {position.step} lie beyond its end")
        model = self.parts.student.model
        if position.history and not fits(model, position.best):
            raise ValueError("its best weights do not fit the network")
        model.load_state_dict(state["student"])
        self.parts.method.load_state_dict(state["method"])
        load_optimizer(self.optimizer, state["optimizer"])
        self.fabric.strategy.precision.load_state_dict(state["precision"])
        for rank in ranks:
            self.meter.load_state_dict(rank["meter"])
        self.meter.load_state_dict(ranks[self.fabric.global_rank]["meter"])
        restore_random_state(ranks[self.fabric.global_rank]["random"])
        self.position = position

    def _shared_otherwise(self) -> bool:
        """Whether earlier versions trained this on several devices differently."""
        synchronized = any(isinstance(part, torch.nn.SyncBatchNorm) for part in self.parts.student.modules())
        return synchronized or self.loader.repeated > 0

    def _check_settings(self, then: dict[str, Any]) -> None:
        other = changed_settings(then, self.settings)
        if other:
            raise _ChangedError(
                f"run {self.run.path} cannot go on: its settings changed since its last checkpoint: {'; '.join(other)}"
                f"; put them back in {self.run.config}, or start another run"
            )

    def _export(self) -> None:
        """Write what people read, from the state alone: after a crash all files agree with the checkpoint again."""
        position = self.position
        if not self.fabric.is_global_zero or not position.history:
            return
        self.run.write_metrics(position.history)
        if position.step == 0:
            save_weights(self.parts.student, self.run.weights("last"))
        save_state(position.best, self.run.weights("best"), self.parts.student.spec)


def train_loader(fabric: Fabric, parts: Parts) -> TrainLoader:
    """The training batches of this rank."""
    settings = parts.settings
    return TrainLoader(
        parts.data.train,
        settings.data.batch_size,
        settings.seed,
        device=fabric.device,
        rank=fabric.global_rank,
        world=fabric.world_size,
        workers=settings.data.workers,
        views=parts.method.views,
        balanced=settings.data.sampler == "balanced",
    )

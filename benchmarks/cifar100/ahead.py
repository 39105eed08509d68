"""Ideas for a better MCLD, each an option of ``method=mcld-ahead``: what wins may become MCLD's, what loses costs it
nothing.

    mcld bench benchmarks/cifar100/ahead.yaml --plugin benchmarks/cifar100/ahead.py

All of them are MCLD's three perspectives of one InfoNCE: they change the logits that are compared, the temperatures,
the targets, the candidates or the views, never the kernel.
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mcld import MCLD, InputError, Method, Outputs, register_method
from mcld.methods import Terms
from mcld.methods._logits import check_two_classes, others, view_pairs
from mcld.methods._standardize import standardize_rows
from mcld.methods.mcld.terms import class_means, probabilities
from mcld.options import NonNegative, Positive, Rule, Share, one_of
from mcld.rows import at_least_float32, no_autocast

ROWS = ("instance", "sample")
PERSPECTIVES = (*ROWS, "category")


def over_teacher_spread(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Both logits (B, C) divided by the standard deviation of the teacher's row, 1 where that is constant."""
    spread = teacher.std(dim=1, keepdim=True)
    spread = spread.where(spread > 0, torch.ones_like(spread))
    return student / spread, teacher / spread


def without_label(logits: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Logits (B, C) in which the label's class is as likely as the others are on average.

    Of their softmax, centred, the label's entry is 0, and the others are the distribution over the other classes alone
    (DKD's), up to a factor: unit rows say nothing of the label's class.
    """
    mean = (others(logits, labels) / temperature).logsumexp(dim=1, keepdim=True) - math.log(logits.shape[1] - 1)
    return logits.scatter(1, labels.unsqueeze(1), temperature * mean)


def likeliest(logits: Tensor, teacher: Tensor, top: int, temperature: float) -> Tensor:
    """Logits (B, C) by whose softmax only the teacher's likeliest classes of each image are possible at all."""
    first = teacher.topk(min(top, teacher.shape[1]), dim=1).indices
    kept = torch.zeros_like(teacher, dtype=torch.bool).scatter(1, first, True)
    impossible = logits.detach().amax(dim=1, keepdim=True) - 1000 * temperature  # exp(-1000) is 0
    return logits.where(kept, impossible)


@register_method("mcld-ahead")
class Ahead(Method):
    """MCLD with ideas that are on trial; without any, it is MCLD bit for bit.

    Args:
        options: of MCLD; what is not named keeps its default.
        second: a second view, of both networks: ``none``, ``same`` (augmented as the first) or the name of a strong
            policy. The student's second view is contrasted with the teacher's own (``within``), and each view with the
            teacher's other view of the same images (``across``).
        within: weight of the contrast within the second view, at least 0.
        across: weight of the contrasts across the views, at least 0.
        strong_ce_weight: of cross-entropy of the second view, at least 0.
        end: what the perspectives' temperatures are multiplied by at the end of training, > 0; on the way there
            end ** progress.
        softmax_end: the same for the temperature of the softmax.
        spread: true or false; divide both logits by the standard deviation of the teacher's row. (By its own each, as
            NormKD does, is MCLD's ``standardize`` with a softmax.)
        mix: from 0 to 1, the share of soft targets in those of all perspectives; cross-entropy is linear in them.
        mix_temperature: of the soft targets among the mixed, > 0.
        decouple: compare distributions over the classes other than the label's: ``none``, ``rows`` (of images) or
            ``all`` (of classes, too).
        top: in the perspectives of images, only the classes that the teacher ranks first among those compared; 0: all.
        prototypes: true or false; the mean of each class over the teacher's probabilities of all training images is a
            further candidate for images, with that class as its label.

    Raises:
        InputError: for an option out of range, or two that exclude each other.
    """

    family = "logits"
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    second: Annotated[str, one_of("none", "same", "trivial", "rand", "fixmatch")] = "none"
    within: NonNegative = 1.0
    across: NonNegative = 1.0
    strong_ce_weight: NonNegative = 1.0
    end: Positive = 1.0
    softmax_end: Positive = 1.0
    spread: bool = False
    mix: Share = 0.0
    mix_temperature: Positive = 0.2
    decouple: Annotated[str, one_of("none", "rows", "all")] = "none"
    top: Annotated[int, Rule(lambda k: k == 0 or k >= 2, "0 for all, or at least 2")] = 0
    prototypes: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        base = MCLD(**self.options)
        if base.softmax is None and (self.decouple != "none" or self.top or self.prototypes or self.softmax_end != 1):
            raise InputError("options.softmax is None; decouple, top, prototypes and softmax_end expect a temperature")
        if base.standardize and self.spread:
            raise InputError("options.standardize and spread are both true; expected one of them")
        if base.keeps and (self.prototypes or self.second != "none" or self.softmax_end != 1):
            raise InputError("options.bank is given; prototypes, a second view and softmax_end expect none")
        if self.prototypes and self.softmax_end != 1:
            raise InputError("prototypes are of one temperature; expected softmax_end 1")
        self.parts = nn.ModuleList()
        self.shares: list[float] = []
        self.of_rows: list[bool] = []
        for share, targets in self._targets():
            for of_rows, weights in self._sides(base):
                options = _merged(_merged(dict(self.options), targets), weights)
                if of_rows and self.prototypes:
                    options["bank"] = -1
                elif not of_rows:
                    options["bank"] = 0
                if self.decouple != "none" or self.top or self.spread:
                    options["standardize"] = False  # done before, as masks must not be standardised
                self.parts.append(MCLD(**options))
                self.shares.append(share)
                self.of_rows.append(of_rows)
        self.standardized = base.standardize and not all(part.standardize for part in self._parts())
        self.given = [{name: getattr(part, name) for name in PERSPECTIVES} for part in self._parts()]
        self.softmax = base.softmax
        self.keeps = any(part.keeps for part in self._parts())
        self.training_bank = any(part.training_bank for part in self._parts())
        if self.second != "none":
            self.views, self.separate_views = 2, True
            self.second_policy = None if self.second == "same" else self.second
            self.task_terms = frozenset({"ce_strong"})

    def _targets(self) -> list[tuple[float, dict[str, Any]]]:
        """The shares of hard and soft targets, with the options that make them; MCLD's own where none are mixed."""
        if not self.mix:
            return [(1.0, {})]
        soft = {"targets": "soft", "target_temperature": self.mix_temperature}
        hard = {"targets": "hard", "target_temperature": None}
        both = ((1 - self.mix, hard), (self.mix, soft))
        return [(share, {name: dict(one) for name in PERSPECTIVES}) for share, one in both if share]

    def _sides(self, base: MCLD) -> list[tuple[bool, dict[str, Any]]]:
        """Images and classes apart where they do not compare the same, each with what switches the other off."""
        if self.decouple != "rows" and not self.top and not self.prototypes:
            return [(True, {})]
        sides = [(True, {"category": {"weight": 0.0}}), (False, {name: {"weight": 0.0} for name in ROWS})]
        left = [any(getattr(base, name).weight for name in ROWS), base.category.weight > 0]
        return [side for side, some in zip(sides, left, strict=True) if some]

    def _parts(self) -> Iterator[MCLD]:
        for part in self.parts:
            assert isinstance(part, MCLD)
            yield part

    @property
    def ramps(self) -> bool:
        """Where a temperature changes, or MCLD has a warm-up."""
        return self.end != 1 or self.softmax_end != 1 or any(part.ramps for part in self._parts())

    def fill_bank(self, logits: Tensor, labels: Tensor, index: Tensor | None = None) -> None:
        """Take the teacher's logits of all training images, or their classes' means; see :meth:`Method.fill_bank`."""
        for part, of_rows in zip(self._parts(), self.of_rows, strict=True):
            if not part.training_bank:
                continue
            _, t = self._compared(logits, logits, labels.to(torch.int64), of_rows)
            if self.prototypes:
                t = standardize_rows(t) if part.standardize else t
                means, present = class_means((probabilities(t, part.softmax),), labels.to(torch.int64))
                part.bank.fill(means[present], present.nonzero().squeeze(1))
            else:
                part.fill_bank(t, labels, index)

    def forward(
        self,
        student: Outputs | Tensor,
        teacher: Outputs | Tensor,
        labels: Tensor,
        progress: float | None = None,
        index: Tensor | None = None,
    ) -> Terms:
        """Return MCLD's terms and, with a second view, ``within``, ``across`` and ``ce_strong``."""
        progress = self.known_progress(progress)
        pairs = view_pairs(student, teacher, labels, number=self.views, values=self.check_values)
        self._set_temperatures(progress)
        with no_autocast(pairs[0][0]):
            terms = self._contrast(*pairs[0], labels, progress, index)
            if len(pairs) == 2:
                (s, t), (other_s, other_t) = pairs
                within = self._contrast(other_s, other_t, labels, progress, index)
                across = [self._contrast(*pair, labels, progress, index) for pair in ((s, other_t), (other_s, t))]
                terms["within"] = self.within * _total(within)
                terms["across"] = self.across * torch.stack([_total(one) for one in across]).sum()
                (strong,) = at_least_float32(other_s)
                terms["ce_strong"] = self.strong_ce_weight * F.cross_entropy(strong, labels.to(torch.int64))
        return terms

    def _set_temperatures(self, progress: float) -> None:
        if self.end == 1 and self.softmax_end == 1:
            return
        for part, given in zip(self._parts(), self.given, strict=True):
            for name, options in given.items():
                temperature = options.temperature * self.end**progress
                setattr(part, name, dataclasses.replace(options, temperature=temperature))
            if self.softmax is not None:
                part.softmax = self.softmax * self.softmax_end**progress

    def _contrast(self, s: Tensor, t: Tensor, labels: Tensor, progress: float, index: Tensor | None) -> Terms:
        terms: Terms = {}
        for part, share, of_rows in zip(self._parts(), self.shares, self.of_rows, strict=True):
            part.check_values = False  # they are checked
            given = self._compared(s, t, labels.to(torch.int64), of_rows)
            for name, value in part(*given, labels, progress, index).items():
                value = value if share == 1 else share * value
                terms[name] = terms[name] + value if name in terms else value
        return {name: terms[name] for name in PERSPECTIVES if name in terms}

    def _compared(self, s: Tensor, t: Tensor, labels: Tensor, of_rows: bool) -> tuple[Tensor, Tensor]:
        """The logits that images, or classes, are compared by."""
        decouple = self.decouple == "all" or (self.decouple == "rows" and of_rows)
        top = self.top if of_rows else 0
        if not (self.spread or self.standardized or decouple or top):
            return s, t
        s, t = at_least_float32(s, t)
        if self.standardized:
            s, t = standardize_rows(s), standardize_rows(t)
        if self.spread:
            s, t = over_teacher_spread(s, t)
        temperature = next(self._parts()).softmax
        if decouple:
            check_two_classes(t)
            assert temperature is not None
            s, t = (without_label(x, labels, temperature) for x in (s, t))
        if top:
            assert temperature is not None
            s, t = (likeliest(x, t, top, temperature) for x in (s, t))
        return s, t


def _merged(options: Mapping[str, Any], changes: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """MCLD's options, those of the perspectives with changes."""
    return {**options, **{name: {**options.get(name, {}), **change} for name, change in changes.items()}}


def _total(terms: Terms) -> Tensor:
    return torch.stack(list(terms.values())).sum()

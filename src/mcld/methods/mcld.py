"""Multi-perspective contrastive logit distillation (MCLD)."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mcld.bank import CandidateBank
from mcld.checks import check_flag, check_row_integers, check_share
from mcld.contrast import Contrast, Relation, contrast
from mcld.errors import InputError
from mcld.methods._base import Method, Outputs, Terms, check_batch
from mcld.methods._mcld_options import PRESETS, Category, Instance, Sample, options_of
from mcld.methods._standardize import standardize_rows
from mcld.rows import at_least_float32, no_autocast, unit_rows, unit_rows_of_both


class Candidates(NamedTuple):
    """The teacher's rows that row terms compare with: those of the batch, then those of the bank.

    Attributes:
        logits: the teacher's, (B, C), then (bank rows, C).
        labels: (N,) int64.
        valid: (N,) bool, False for rows of the bank that are empty or of an image in the batch; None: all are.
    """

    logits: tuple[Tensor, ...]
    labels: Tensor
    valid: Tensor | None


def row_contrasts(
    student: Tensor, teacher: Sequence[Tensor], relation: Relation, named: Mapping[str, Sample]
) -> dict[str, Tensor]:
    """Perspectives on the same rows, each in the directions that its ``anchor`` asks for; weights are not applied.

    The first B candidates are the anchors' counterparts, and the other direction is among those alone.

    Args:
        student: unit rows (B, d).
        teacher: unit rows, (B, d) and further pieces.
        relation: of the student's rows with all of the teacher's, with labels unless each row has one counterpart only.
        named: the options of the terms.
    """
    losses: dict[str, list[Tensor]] = {name: [] for name in named}
    for direction in ("student", "teacher"):
        used = {name: options for name, options in named.items() if options.anchor in (direction, "both")}
        if not used:
            continue
        anchors, candidates, related = student, teacher, relation
        if direction == "teacher":
            anchors, candidates = teacher[0], [student]
            labels = None if relation.labels is None else (relation.labels[0], relation.labels[0])
            related = Relation(labels)
        if any(options.targets == "soft" for options in used.values()):
            # The teacher's own rows: what the student would see if it were the teacher.
            related = related._replace(soft=(teacher[0], candidates if direction == "student" else teacher[:1]))
        found = contrast(anchors, candidates, related, [term_of(options) for options in used.values()])
        for name, loss in zip(used, found, strict=True):
            losses[name].append(loss)
    return {name: _mean(both) for name, both in losses.items()}


def term_of(options: Sample) -> Contrast:
    """What the kernel is asked for."""
    hard = "labels" if type(options) is Sample else "own"
    temperature = options.temperature if options.target_temperature is None else options.target_temperature
    mask = isinstance(options, Instance) and options.target_mask
    return Contrast(options.temperature, "soft" if options.targets == "soft" else hard, mask, temperature)


def prototype_contrast(
    student: Tensor, teacher: Tensor, candidates: Candidates, classes: int, options: Category, center: bool
) -> Tensor:
    """The category-wise term with prototypes: image rows against each class's mean logit row.

    Args:
        student: logits (B, C).
        teacher: logits (B, C).
        candidates: the teacher's rows; the batch's first.
        classes: C.
        options: of the perspective; weight and warm-up are not applied.
        center: whether rows are centred.
    """
    labels = candidates.labels[: len(student)]
    batch = Candidates((teacher,), labels, None)
    losses = []
    for direction in ("student", "teacher"):
        if options.anchor not in (direction, "both"):
            continue
        # Student rows look among the teacher's prototypes, which the bank makes better; teacher rows look among the
        # student's, and there are those of the batch only. Soft targets come from the teacher in both places.
        anchors, rows, own = student, candidates, candidates
        if direction == "teacher":
            anchors, rows, own = teacher, Candidates((student,), labels, None), batch
        means, present = class_means(rows, classes)
        soft = None
        if options.targets == "soft":
            own_means = means if own is rows else class_means(own, classes)[0]
            soft = at_least_float32(unit_rows(teacher, center), unit_rows(own_means, center))
        a, z = at_least_float32(unit_rows(anchors, center), unit_rows(means, center))
        relation = Relation(valid=present, own=labels, soft=None if soft is None else (soft[0], soft[1:]))
        losses += contrast(a, [z], relation, [term_of(options)])
    return _mean(losses)


def class_means(rows: Candidates, classes: int) -> tuple[Tensor, Tensor]:
    """Each class's mean row (C, d), zero where there is none, and (C,) bool, True where there is one."""
    dtype = at_least_float32(*(logits[:0] for logits in rows.logits))[0].dtype
    labels = rows.labels if rows.valid is None else rows.labels.masked_fill(~rows.valid, classes)
    sums = torch.zeros(classes + 1, rows.logits[0].shape[1], dtype=dtype, device=labels.device)  # the last: not valid
    start = 0
    for logits in rows.logits:
        sums = sums.index_add(0, labels[start : start + len(logits)], logits.to(dtype))
        start += len(logits)
    counts = torch.zeros(classes + 1, dtype=dtype, device=labels.device)
    counts = counts.index_add(0, labels, torch.ones_like(labels, dtype=dtype))[:classes]
    return sums[:classes] / counts.clamp(min=1).unsqueeze(1), counts > 0


class MCLD(Method):
    r"""Three contrasts of the student's logits with the teacher's: of images, of samples, of categories.

    **On the paper.** Qi Wang and Jinjia Zhou describe MCLD in arXiv 2411.10693 (2024). The paper's equations,
    hyper-parameters and code were not available to us; what follows is the definition that we use, and the options are
    the alternatives that its words leave open. Results with this class are no reproduction of the paper.

    Every term is one InfoNCE (:func:`mcld.info_nce`) over cosines. Let S and T be the logits (B, C) of student and
    teacher, with unit rows: the row's mean is subtracted, then it is divided by its L2 norm.

    ========== ============== ============== ====================================== ==============================
    term       anchors        candidates     target                                 denominator
    ========== ============== ============== ====================================== ==============================
    instance   rows of S      rows of T      the same image                         all but other images of the
                                                                                    same class (the Target Mask)
    sample     rows of S      rows of T      all images with the anchor's label,    all
                                             its own included, equally
    category   columns of S   columns of T   the same class                         all
    ========== ============== ============== ====================================== ==============================

    The objective is the sum of the terms, each times its weight; that of the category also times min(1, progress /
    warmup). Cross-entropy is added by the training loop. The terms' sizes: uniform similarities give log N.

    Alternatives, by option: the anchor side (``anchor``), the Target Mask (``instance.target_mask``), centring
    (``center``), class prototypes instead of columns (``category.form``), soft targets (``targets``), a candidate bank
    (``bank``). The presets name them. CKD is the instance-wise term with ``center=False`` and
    ``Instance(temperature=1, anchor="teacher", target_mask=False)``, times a weight of 10 to 100.

    With a bank, the student's rows are also compared with the teacher's logits of earlier steps; a stored row of an
    image that is in the batch gives way to the batch's own, when ``index`` says which images these are. Without
    ``index`` nothing is known about that, and every stored row counts as another image. Batches enter the bank at the
    end of ``forward`` in training mode; evaluation mode leaves it as it is. A bank holds teacher rows, so it widens the
    student→teacher direction only: a row term with ``anchor="teacher"`` refuses it, and columns do not see it.

    The bank −1 holds the teacher's logits of all training images instead, as they are without augmentation
    (:meth:`fill_bank`; the training loop reads them from the store of the teacher's logits). It never changes. An
    anchor's positive is still its own image as it is in the batch, augmented like the student's, which takes the place
    of that image's stored row; for the sample-wise term all other images of the label are positives, too.

    A constant row or column has no direction: its cosines are 0 and no gradient flows to it
    (:func:`mcld.rows.unit_rows`). So the columns of a single image contribute log C and no gradient.

    With ``standardize`` the logits of both are standardised first (LSKD). Centred cosines of rows do not see that; the
    columns do, in which each image then has the same say.

    Args:
        instance: options of the instance-wise term, as :class:`Instance` or a mapping.
        sample: options of the sample-wise term, as :class:`Sample` or a mapping.
        category: options of the category-wise term, as :class:`Category` or a mapping.
        center: true or false; subtract means before cosines are taken.
        bank: rows of the candidate bank, at least 0; −1 for all training images, without augmentation, of which those
            in the batch give way to the batch's own.
        standardize: true or false; give each row of logits mean 0 and standard deviation 1 first.

    Raises:
        InputError: for an unknown option, a value out of range, three weights of 0, or a bank where none can be used.

    Example:
        >>> import torch
        >>> from mcld import MCLD
        >>> teacher = torch.tensor([[2.0, 0.0, -1.0], [0.0, 3.0, 0.0], [1.0, 2.0, 0.0], [0.0, 0.0, 1.0]])
        >>> student = teacher.roll(1, dims=1)
        >>> terms = MCLD()(student, teacher, torch.tensor([0, 1, 1, 2]), progress=0.15)
        >>> {name: round(term.item(), 4) for name, term in terms.items()}
        {'instance': 14.403, 'sample': 14.2356, 'category': 7.0983}
        >>> method = MCLD(sample={"weight": 0}, category={"weight": 2, "form": "prototypes"})
        >>> terms = method(teacher, teacher, torch.tensor([0, 1, 1, 2]))
        >>> {name: round(term.item(), 4) for name, term in terms.items()}
        {'instance': 0.0006, 'category': 0.0011}
    """

    title = "contrast logits by image, by sample and by category"
    paper = "Wang, Zhou, arXiv 2411.10693, 2024 (our reading)"
    year = 2024
    family = "logits"
    presets = PRESETS

    def __init__(
        self,
        instance: Instance | Mapping[str, Any] = Instance(),  # noqa: B008 - copied, never changed
        sample: Sample | Mapping[str, Any] = Sample(),  # noqa: B008
        category: Category | Mapping[str, Any] = Category(),  # noqa: B008
        center: bool = True,
        bank: int = 0,
        standardize: bool = False,
    ) -> None:
        super().__init__()
        self.instance = options_of(Instance, instance)
        self.sample = options_of(Sample, sample)
        self.category = options_of(Category, category)
        check_flag("center", center)
        check_flag("standardize", standardize)
        self.center = center
        self.standardize = standardize
        if not any(options.weight for options in (self.instance, self.sample, self.category)):
            raise InputError(
                "instance.weight, sample.weight and category.weight are all 0; expected one that is positive"
            )
        self.whole_bank = isinstance(bank, int) and bank == -1
        if isinstance(bank, int) and bank < -1:
            raise InputError(f"bank is {bank}; expected a number of rows, at least 0, or -1 for all training images")
        self.bank = CandidateBank(0, saved=False) if self.whole_bank else CandidateBank(bank)
        if bank:
            self._check_bank_use()

    def fill_bank(self, logits: Tensor, labels: Tensor, index: Tensor | None = None) -> None:
        """Make these rows the bank, such as the teacher's logits of the whole training set.

        From then on batches do not enter it.

        Args:
            logits: (n, C) of the teacher.
            labels: (n,).
            index: (n,) positions in the training set, so that a batch's own rows replace the stored ones.

        Raises:
            InputError: for shapes that do not fit, or when no term can use a bank.
        """
        self._check_bank_use()
        self.bank.fill(standardize_rows(logits) if self.standardize else logits, labels, index)

    def forward(
        self,
        student: Outputs | Tensor,
        teacher: Outputs | Tensor,
        labels: Tensor,
        progress: float = 1.0,
        index: Tensor | None = None,
    ) -> Terms:
        """Return the weighted terms ``instance``, ``sample`` and ``category``; those of weight 0 are left out.

        See :meth:`Method.forward`. After the warm-up, ``progress`` makes no difference.
        """
        s, t = check_batch(student, teacher, labels, values=self.check_values)
        if not torch.compiler.is_compiling():
            check_share("progress", progress)
        if index is not None:
            check_row_integers("index", index, len(labels))
        labels = labels.to(torch.int64)
        if self.standardize:
            s, t = standardize_rows(s), standardize_rows(t)
        terms: Terms = {}
        with no_autocast(s):
            candidates = self._candidates(t, labels, index)
            if self.instance.weight or self.sample.weight:
                for name, term in self._row_terms(s, candidates).items():
                    weight = getattr(self, name).weight
                    terms[name] = term if weight == 1 else weight * term
            if self.category.weight:
                warmup = self.category.warmup
                ramp = 1.0 if warmup == 0 else min(1.0, progress / warmup)
                terms["category"] = self.category.weight * ramp * self._category(s, t, candidates)
        if self.training and not self.bank.fixed and self.bank.size:
            self.bank.extend(t, labels, index)
        return terms

    def _candidates(self, teacher: Tensor, labels: Tensor, index: Tensor | None) -> Candidates:
        self.bank.check_classes(teacher.shape[1])
        rows = self.bank.rows(teacher.device)
        if rows is None and self.whole_bank:
            raise InputError("bank is -1 and holds nothing yet; expected fill_bank with all training images before")
        if rows is None:
            return Candidates((teacher,), labels, None)
        stored, stored_labels, stored_index = rows
        valid = stored_labels >= 0
        if index is not None:  # masked, not removed: the shapes stay the same from step to step
            known = index.to(torch.int64).sort().values  # a search, as isin makes an accelerator wait at this size
            nearest = known[torch.searchsorted(known, stored_index).clamp(max=len(known) - 1)]
            valid = valid & ((nearest != stored_index) | (stored_index < 0))
        valid = torch.cat([torch.ones_like(labels, dtype=torch.bool), valid])
        return Candidates((teacher, stored), torch.cat([labels, stored_labels]), valid)

    def _row_terms(self, student: Tensor, candidates: Candidates) -> Terms:
        """The instance-wise and the sample-wise term, from one matrix of cosines."""
        units = [*unit_rows_of_both(student, candidates.logits[0], self.center)]
        if len(candidates.logits) > 1:
            units.append(self.bank.unit_rows(self.center))
        a, *z = at_least_float32(*units)
        named = {"instance": self.instance, "sample": self.sample}
        named = {name: options for name, options in named.items() if options.weight}
        relation = Relation((candidates.labels[: len(a)], candidates.labels), candidates.valid)
        return row_contrasts(a, z, relation, named)

    def _category(self, student: Tensor, teacher: Tensor, candidates: Candidates) -> Tensor:
        options = self.category
        if options.form == "prototypes":
            return prototype_contrast(student, teacher, candidates, teacher.shape[1], options, self.center)
        a, z = at_least_float32(*unit_rows_of_both(student.T, teacher.T, self.center))
        return row_contrasts(a, [z], Relation(), {"category": options})["category"]

    def _check_bank_use(self) -> None:
        """Refuse a bank that no term, or not every term that compares rows, can use."""
        users = {"instance": self.instance, "sample": self.sample}
        if self.category.form == "prototypes":
            users["category"] = self.category
        users = {name: options for name, options in users.items() if options.weight}
        if not users:
            raise InputError("a bank is given, but no term compares rows; expected bank 0")
        for name, options in users.items():
            if options.anchor == "teacher":
                right = "expected anchor 'student' or 'both', or bank 0"
                raise InputError(
                    f"{name}.anchor is 'teacher', but the bank holds teacher rows to compare with; {right}"
                )

    def extra_repr(self) -> str:
        """The options, for printing."""
        return f"{self.instance}, {self.sample}, {self.category}, center={self.center}, standardize={self.standardize}"


def _mean(losses: list[Tensor]) -> Tensor:
    return losses[0] if len(losses) == 1 else torch.stack(losses).mean()

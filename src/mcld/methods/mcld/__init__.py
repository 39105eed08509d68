"""Multi-perspective contrastive logit distillation (MCLD)."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mcld.checks import check_flag, check_options, check_row_integers
from mcld.contrast import Relation
from mcld.errors import InputError
from mcld.methods._base import Method, Outputs, Shapes, Terms, check_batch
from mcld.methods._standardize import standardize_rows
from mcld.methods.mcld.bank import CandidateBank
from mcld.methods.mcld.options import PRESETS, Category, Instance, Sample, options_of
from mcld.methods.mcld.terms import Candidates, Perspectives, compare, probabilities, prototype_contrast
from mcld.progress import at_most, factor
from mcld.registry import register_method
from mcld.rows import no_autocast

MOST_ROWS = 2**20
"""Of a bank, however few training images there are."""


@register_method("mcld")
class MCLD(Method):
    r"""Three contrasts of the student's logits with the teacher's: of images, of samples, of categories.

    **On the paper.** Qi Wang and Jinjia Zhou describe MCLD in arXiv 2411.10693 (2024). The paper's equations,
    hyper-parameters and code were not available to us; what follows is the definition that we use, and the options are
    the alternatives that its words leave open. Results with this class are no reproduction of the paper.

    Every term is one InfoNCE (:func:`mcld.info_nce`) over cosines. Let S and T (B, C) be what student and teacher say:
    the softmax of their logits at temperature ``softmax``, or the logits themselves (``softmax=None``); with unit rows:
    the row's mean is subtracted, then it is divided by its L2 norm. Probabilities are the default, and the weights of 3
    and temperatures of 0.2, because they measured best of our readings (docs/how-we-read-the-paper.md); the preset
    ``logits`` is nearer to the paper's words.

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
    (``bank``), logits instead of probabilities (``softmax``). The presets name them. CKD is the instance-wise term on
    logits with ``center=False`` and ``Instance(temperature=1, anchor="teacher", target_mask=False)``, times a weight of
    10 to 100.

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

    With ``standardize`` the logits of both are standardised first (LSKD). Centred cosines of rows of logits do not see
    that; their columns do, in which each image then has the same say. Cosines of logits z give every class the same
    say, those of probabilities softmax(z / T) listen to the likely ones. DIST correlates such rows and columns, without
    contrast.

    Args:
        instance: options of the instance-wise term, as :class:`Instance` or a mapping.
        sample: options of the sample-wise term, as :class:`Sample` or a mapping.
        category: options of the category-wise term, as :class:`Category` or a mapping.
        center: true or false; subtract means before cosines are taken.
        bank: rows of the candidate bank, at least 0; −1 for all training images, without augmentation, of which those
            in the batch give way to the batch's own.
        standardize: true or false; give each row of logits mean 0 and standard deviation 1 first.
        softmax: T > 0, the temperature of the probabilities that are compared; none to compare logits.

    Raises:
        InputError: for an unknown option, a value out of range, three weights of 0, or a bank where none can be used.

    Example:
        >>> import torch
        >>> from mcld import MCLD
        >>> teacher = torch.tensor([[2.0, 0.0, -1.0], [0.0, 3.0, 0.0], [1.0, 2.0, 0.0], [0.0, 0.0, 1.0]])
        >>> student = teacher.roll(1, dims=1)
        >>> terms = MCLD()(student, teacher, torch.tensor([0, 1, 1, 2]), progress=0.15)
        >>> {name: round(term.item(), 4) for name, term in terms.items()}
        {'instance': 22.1343, 'sample': 21.9519, 'category': 11.1611}
        >>> method = MCLD(sample={"weight": 0}, category={"weight": 2, "form": "prototypes"})
        >>> terms = method(teacher, teacher, torch.tensor([0, 1, 1, 2]), progress=1)
        >>> {name: round(term.item(), 4) for name, term in terms.items()}
        {'instance': 0.0279, 'category': 0.0134}
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
        softmax: float | None = 4.0,
    ) -> None:
        super().__init__()
        self.instance = options_of(Instance, instance)
        self.sample = options_of(Sample, sample)
        self.category = options_of(Category, category)
        check_flag("center", center)
        check_flag("standardize", standardize)
        self.center = center
        self.standardize = standardize
        if softmax is not None:
            check_options(positive={"softmax": softmax})
        self.softmax = softmax
        if not any(options.weight for options in (self.instance, self.sample, self.category)):
            raise InputError(
                "instance.weight, sample.weight and category.weight are all 0; expected one that is positive"
            )
        self.training_bank = isinstance(bank, int) and bank == -1
        if isinstance(bank, int) and bank < -1:
            raise InputError(f"bank is {bank}; expected a number of rows, at least 0, or -1 for all training images")
        self.bank = CandidateBank(0, saved=False) if self.training_bank else CandidateBank(bank)
        self.keeps = bool(bank)
        if bank:
            self._check_bank_use()

    @property
    def ramps(self) -> bool:
        """Where the category-wise term has a warm-up."""
        return self.category.weight > 0 and self.category.warmup > 0

    def prepare(self, student: Shapes, teacher: Shapes, images: int, epochs: int, labels: Tensor | None = None) -> None:
        """Check that the bank is not far larger than the training set; see :meth:`Method.prepare`."""
        if self.bank.size > max(images, MOST_ROWS):
            raise InputError(
                f"bank is {self.bank.size}; expected at most {MOST_ROWS} rows, or as many as there are training images "
                f"({images}), since a larger one would hold images more than once"
            )

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
        self.bank.fill(probabilities(self._standardized(logits), self.softmax), labels, index)

    def forward(
        self,
        student: Outputs | Tensor,
        teacher: Outputs | Tensor,
        labels: Tensor,
        progress: float | None = None,
        index: Tensor | None = None,
    ) -> Terms:
        """Return the weighted terms ``instance``, ``sample`` and ``category``; those of weight 0 are left out.

        See :meth:`Method.forward`. After the warm-up, ``progress`` makes no difference. The terms may share one node of
        the graph: a backward pass through one of them alone needs ``retain_graph`` if another follows.
        """
        s, t = check_batch(student, teacher, labels, values=self.check_values)
        progress = self.known_progress(progress)
        if index is not None:
            check_row_integers("index", index, len(labels))
        labels = labels.to(torch.int64)
        with no_autocast(s):
            s, t = self._standardized(s), self._standardized(t)
            terms = self._terms(s, t, labels, index)
            if "category" in terms and self.category.warmup:
                ramp = factor(at_most(progress / self.category.warmup, 1.0))
                # Compiled, a question would be a graph for every answer; of a tensor, it would wait for the device.
                if torch.compiler.is_compiling() or isinstance(ramp, Tensor) or ramp < 1:
                    terms["category"] = ramp * terms["category"]
        if self.training and not self.bank.fixed and self.bank.size:
            self.bank.extend(probabilities(t, self.softmax), labels, index)
        return terms

    def _standardized(self, logits: Tensor) -> Tensor:
        return standardize_rows(logits) if self.standardize else logits

    def _candidates(self, teacher: Tensor, labels: Tensor, index: Tensor | None) -> Candidates:
        self.bank.check_classes(teacher.shape[1])
        rows = self.bank.rows(teacher.device)
        if rows is None and self.training_bank:
            raise InputError("bank is -1 and holds nothing yet; expected fill_bank with all training images before")
        if rows is None:
            return Candidates((), labels, None)
        stored, stored_labels, stored_index = rows
        valid = stored_labels >= 0
        if index is not None:  # masked, not removed: the shapes stay the same from step to step
            known = index.to(torch.int64).sort().values  # a search, as isin makes an accelerator wait at this size
            nearest = known[torch.searchsorted(known, stored_index).clamp(max=len(known) - 1)]
            valid = valid & ((nearest != stored_index) | (stored_index < 0))
        valid = torch.cat([torch.ones_like(labels, dtype=torch.bool), valid])
        return Candidates((stored,), torch.cat([labels, stored_labels]), valid)

    def _terms(self, student: Tensor, teacher: Tensor, labels: Tensor, index: Tensor | None) -> Terms:
        """The terms whose weight is not 0, times their weights, without the warm-up."""
        candidates = self._candidates(teacher, labels, index)
        named = {"instance": self.instance, "sample": self.sample}
        named = {name: options for name, options in named.items() if options.weight}
        comparisons = []
        if named:
            bank = [self.bank.unit_rows(self.center)] if candidates.stored else []
            relation = Relation((labels, candidates.labels), candidates.valid)
            comparisons.append(Perspectives(False, named, relation, bank))
        if self.category.weight and self.category.form == "columns":
            comparisons.append(Perspectives(True, {"category": self.category}))
        terms = compare(student, teacher, comparisons, self.center, self.softmax) if comparisons else {}
        if self.category.weight and self.category.form == "prototypes":
            s, t = probabilities(student, self.softmax), probabilities(teacher, self.softmax)
            terms["category"] = prototype_contrast(s, t, candidates, self.category, self.center)
        return terms

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
        options = ", ".join(f"{name}={getattr(self, name)}" for name in ("center", "standardize", "softmax"))
        return f"{self.instance}, {self.sample}, {self.category}, {options}"

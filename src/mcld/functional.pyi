"""Methods as functions; written by `python -m mcld._functional`."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mcld.methods import Category, Instance, Outputs, Sample

def at(
    student: Outputs,
    teacher: Outputs,
    labels: Tensor,
    *,
    progress: float | None = None,
    epochs: int | None = None,
    index: Tensor | None = None,
    check_values: bool = True,
    weight: float = 1000.0,
) -> Tensor:
    """Be active at the places where the teacher is."""

def catkd(
    student: Outputs,
    teacher: Outputs,
    labels: Tensor,
    *,
    progress: float | None = None,
    epochs: int | None = None,
    index: Tensor | None = None,
    check_values: bool = True,
    weight: float = 50.0,
    side: int = 2,
    normalize: bool = True,
) -> Tensor:
    """See each class where the teacher sees it."""

def cc(
    student: Outputs,
    teacher: Outputs,
    labels: Tensor,
    *,
    progress: float | None = None,
    epochs: int | None = None,
    index: Tensor | None = None,
    check_values: bool = True,
    weight: float = 100.0,
    gamma: float = 0.4,
    order: int = 2,
    as_published: bool = False,
) -> Tensor:
    """Keep the correlations between images, by a Gaussian kernel."""

def ckd(
    student_logits: Tensor | Outputs,
    teacher_logits: Tensor | Outputs,
    labels: Tensor,
    *,
    progress: float | None = None,
    epochs: int | None = None,
    index: Tensor | None = None,
    check_values: bool = True,
    temperature: float = 1.0,
    weight: float = 100.0,
    standardize: bool = False,
) -> Tensor:
    """Find the student's logits of an image in the batch by the teacher's."""

def crld(
    student_logits: Tensor | Outputs,
    teacher_logits: Tensor | Outputs,
    labels: Tensor,
    *,
    progress: float | None = None,
    epochs: int | None = None,
    index: Tensor | None = None,
    check_values: bool = True,
    temperature: float = 4.0,
    within: float = 2.0,
    across: float = 0.5,
    weak_confidence: float = 0.9,
    strong_confidence: float = 0.2,
    strong_ce_weight: float = 1.0,
    standardize: bool = False,
) -> Tensor:
    """KD within and across a weak and a strong view, where the teacher is sure."""

def dist(
    student_logits: Tensor | Outputs,
    teacher_logits: Tensor | Outputs,
    labels: Tensor,
    *,
    progress: float | None = None,
    epochs: int | None = None,
    index: Tensor | None = None,
    check_values: bool = True,
    temperature: float = 4.0,
    beta: float = 2.0,
    gamma: float = 2.0,
    as_published: bool = False,
    standardize: bool = False,
) -> Tensor:
    """Correlate probabilities within images and within classes."""

def dkd(
    student_logits: Tensor | Outputs,
    teacher_logits: Tensor | Outputs,
    labels: Tensor,
    *,
    progress: float | None = None,
    epochs: int | None = None,
    index: Tensor | None = None,
    check_values: bool = True,
    temperature: float = 4.0,
    alpha: float = 1.0,
    beta: float = 8.0,
    warmup: float = 20.0,
    standardize: bool = False,
) -> Tensor:
    """Match the label's probability and those among the other classes separately."""

def eakd(
    student_logits: Tensor | Outputs,
    teacher_logits: Tensor | Outputs,
    labels: Tensor,
    *,
    progress: float | None = None,
    epochs: int | None = None,
    index: Tensor | None = None,
    check_values: bool = True,
    of: str = "kd",
    options: dict[str, Any] = ...,
    temperature: float = 3.0,
    as_published: bool = False,
) -> Tensor:
    """A method with a weight for each image: the entropy of teacher and student."""

def kd(
    student_logits: Tensor | Outputs,
    teacher_logits: Tensor | Outputs,
    labels: Tensor,
    *,
    progress: float | None = None,
    epochs: int | None = None,
    index: Tensor | None = None,
    check_values: bool = True,
    temperature: float = 4.0,
    weight: float = 0.9,
    decoupled: bool = False,
    standardize: bool = False,
) -> Tensor:
    """Match the teacher's softened probabilities."""

def ldrld(
    student_logits: Tensor | Outputs,
    teacher_logits: Tensor | Outputs,
    labels: Tensor,
    *,
    progress: float | None = None,
    epochs: int | None = None,
    index: Tensor | None = None,
    check_values: bool = True,
    temperature: float = 4.0,
    alpha: float = 10.5,
    beta: float = 7.0,
    depth: int = 7,
    standardize: bool = False,
) -> Tensor:
    """KD on every pair of the student's highest classes, and on the rest."""

def mcld(
    student_logits: Tensor | Outputs,
    teacher_logits: Tensor | Outputs,
    labels: Tensor,
    *,
    progress: float | None = None,
    epochs: int | None = None,
    index: Tensor | None = None,
    check_values: bool = True,
    instance: Instance | Mapping[str, Any] = ...,
    sample: Sample | Mapping[str, Any] = ...,
    category: Category | Mapping[str, Any] = ...,
    center: bool = True,
    bank: int = 0,
    standardize: bool = False,
    softmax: float | None = 4.0,
) -> Tensor:
    """Contrast logits by image, by sample and by category."""

def mlkd(
    student_logits: Tensor | Outputs,
    teacher_logits: Tensor | Outputs,
    labels: Tensor,
    *,
    progress: float | None = None,
    epochs: int | None = None,
    index: Tensor | None = None,
    check_values: bool = True,
    temperature: float = 4.0,
    weight: float = 0.9,
    strong_ce_weight: float = 0.1,
    as_published: bool = False,
    standardize: bool = False,
) -> Tensor:
    """Match images, relations of images and relations of classes at five temperatures."""

def mse(
    student_logits: Tensor | Outputs,
    teacher_logits: Tensor | Outputs,
    labels: Tensor,
    *,
    progress: float | None = None,
    epochs: int | None = None,
    index: Tensor | None = None,
    check_values: bool = True,
    weight: float = 0.9,
    center: bool = False,
    standardize: bool = False,
) -> Tensor:
    """Match the teacher's logits by mean squared error."""

def nkd(
    student_logits: Tensor | Outputs,
    teacher_logits: Tensor | Outputs,
    labels: Tensor,
    *,
    progress: float | None = None,
    epochs: int | None = None,
    index: Tensor | None = None,
    check_values: bool = True,
    temperature: float = 1.0,
    gamma: float = 1.5,
    standardize: bool = False,
) -> Tensor:
    """Cross-entropy with the teacher's probability of the label and among the other classes."""

def normkd(
    student_logits: Tensor | Outputs,
    teacher_logits: Tensor | Outputs,
    labels: Tensor,
    *,
    progress: float | None = None,
    epochs: int | None = None,
    index: Tensor | None = None,
    check_values: bool = True,
    of: str = "kd",
    options: dict[str, Any] = ...,
    temperature: float = 2.0,
) -> Tensor:
    """A method with a temperature for each image: the spread of its logits."""

def nst(
    student: Outputs,
    teacher: Outputs,
    labels: Tensor,
    *,
    progress: float | None = None,
    epochs: int | None = None,
    index: Tensor | None = None,
    check_values: bool = True,
    weight: float = 50.0,
) -> Tensor:
    """Give the channels the same distribution over the places."""

def pkt(
    student: Outputs,
    teacher: Outputs,
    labels: Tensor,
    *,
    progress: float | None = None,
    epochs: int | None = None,
    index: Tensor | None = None,
    check_values: bool = True,
    weight: float = 30000.0,
) -> Tensor:
    """Keep the images' neighbours, as probabilities from cosines."""

def pld(
    student_logits: Tensor | Outputs,
    teacher_logits: Tensor | Outputs,
    labels: Tensor,
    *,
    progress: float | None = None,
    epochs: int | None = None,
    index: Tensor | None = None,
    check_values: bool = True,
    temperature: float = 1.0,
    weight: float = 1.0,
    standardize: bool = False,
) -> Tensor:
    """Rank the classes as the teacher does, the true one first."""

def rkd(
    student: Outputs,
    teacher: Outputs,
    labels: Tensor,
    *,
    progress: float | None = None,
    epochs: int | None = None,
    index: Tensor | None = None,
    check_values: bool = True,
    distance: float = 25.0,
    angle: float = 50.0,
) -> Tensor:
    """Keep distances between images and the angles at them."""

def rld(
    student_logits: Tensor | Outputs,
    teacher_logits: Tensor | Outputs,
    labels: Tensor,
    *,
    progress: float | None = None,
    epochs: int | None = None,
    index: Tensor | None = None,
    check_values: bool = True,
    temperature: float = 4.0,
    alpha: float = 1.0,
    beta: float = 8.0,
    warmup: float = 20.0,
    standardize: bool = False,
) -> Tensor:
    """The teacher's confidence for the true class, and its ranking below that."""

def sdd(
    student: Outputs,
    teacher: Outputs,
    labels: Tensor,
    *,
    progress: float | None = None,
    epochs: int | None = None,
    index: Tensor | None = None,
    check_values: bool = True,
    of: str = "kd",
    options: dict[str, Any] = ...,
    grid: int = 4,
    complementary: float = 2.0,
) -> Tensor:
    """A method on the logits of parts of the image, at several scales."""

def simkd(
    student: Outputs,
    teacher: Outputs,
    labels: Tensor,
    *,
    progress: float | None = None,
    epochs: int | None = None,
    index: Tensor | None = None,
    check_values: bool = True,
    weight: float = 1.0,
) -> Tensor:
    """Reuse the teacher's classifier, and match the features that it reads."""

def skd(
    student_logits: Tensor | Outputs,
    teacher_logits: Tensor | Outputs,
    labels: Tensor,
    *,
    progress: float | None = None,
    epochs: int | None = None,
    index: Tensor | None = None,
    check_values: bool = True,
    temperature: float = 4.0,
    weight: float = 0.9,
    direction: float = 0.9,
    regularization: float = 0.1,
    as_published: bool = False,
    standardize: bool = False,
) -> Tensor:
    """KD, and whitened cosines between the logits of images."""

def sld(
    student_logits: Tensor | Outputs,
    teacher_logits: Tensor | Outputs,
    labels: Tensor,
    *,
    progress: float | None = None,
    epochs: int | None = None,
    index: Tensor | None = None,
    check_values: bool = True,
    weight: float = 0.9,
    start: float = 0.625,
    strong_ce_weight: float = 0.1,
    as_published: bool = False,
    standardize: bool = False,
) -> Tensor:
    """KD with wrong predictions put right by exchanging logits."""

def sp(
    student: Outputs,
    teacher: Outputs,
    labels: Tensor,
    *,
    progress: float | None = None,
    epochs: int | None = None,
    index: Tensor | None = None,
    check_values: bool = True,
    weight: float = 3000.0,
) -> Tensor:
    """Keep which images are alike, by the maps of the last stage."""

def ttm(
    student_logits: Tensor | Outputs,
    teacher_logits: Tensor | Outputs,
    labels: Tensor,
    *,
    progress: float | None = None,
    epochs: int | None = None,
    index: Tensor | None = None,
    check_values: bool = True,
    temperature: float = 10.0,
    weight: float = 45.0,
    standardize: bool = False,
) -> Tensor:
    """KD with a temperature on the teacher's side only."""

def wkd(
    student: Outputs,
    teacher: Outputs,
    labels: Tensor,
    *,
    progress: float | None = None,
    epochs: int | None = None,
    index: Tensor | None = None,
    check_values: bool = True,
    temperature: float = 8.0,
    weight: float = 600.0,
    sharpness: float = 1.0,
    regularization: float = 0.05,
    iterations: int = 10,
    decay_start: float = 0.625,
) -> Tensor:
    """The cost of moving probability between classes, like ones cheaply."""

def wsld(
    student_logits: Tensor | Outputs,
    teacher_logits: Tensor | Outputs,
    labels: Tensor,
    *,
    progress: float | None = None,
    epochs: int | None = None,
    index: Tensor | None = None,
    check_values: bool = True,
    temperature: float = 2.0,
    weight: float = 2.5,
    standardize: bool = False,
) -> Tensor:
    """Soft labels, less where the student already beats the teacher."""

def wttm(
    student_logits: Tensor | Outputs,
    teacher_logits: Tensor | Outputs,
    labels: Tensor,
    *,
    progress: float | None = None,
    epochs: int | None = None,
    index: Tensor | None = None,
    check_values: bool = True,
    temperature: float = 5.0,
    weight: float = 4.0,
    standardize: bool = False,
) -> Tensor:
    """TTM with more weight where the teacher is smooth."""

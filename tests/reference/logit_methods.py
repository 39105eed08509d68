"""Slow, obvious float64 versions of the methods on logits: loops over images and classes, nothing shared with mcld."""

import math
import statistics
from collections.abc import Sequence
from typing import Any

from tests.reference.nce import Row, Rows, info_nce, unit

Terms = dict[str, float]
Views = Sequence[tuple[Rows, Rows]]  # (student, teacher) of each view


def softmax(row: Row, T: float = 1.0) -> Row:
    weights = [math.exp(x / T) for x in row]
    return [w / sum(weights) for w in weights]


def kl(p: Row, q: Row) -> float:
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def cross_entropy(p: Row, q: Row) -> float:
    return -sum(a * math.log(b) for a, b in zip(p, q, strict=True))


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def standardized(rows: Rows) -> Rows:
    return [[(x - statistics.mean(row)) / (statistics.stdev(row) + 1e-7) for x in row] for row in rows]


def without(row: Row, place: int) -> Row:
    return [x for c, x in enumerate(row) if c != place]


def kd_value(s: Rows, t: Rows, T: float) -> float:
    return T**2 * mean([kl(softmax(b, T), softmax(a, T)) for a, b in zip(s, t, strict=True)])


def mse(views: Views, y: list[int], o: dict[str, Any], epoch: int, progress: float) -> Terms:
    ((s, t),) = views
    differences = []
    for a, b in zip(s, t, strict=True):
        shift_a, shift_b = (mean(a), mean(b)) if o["center"] else (0.0, 0.0)
        differences += [((p - shift_a) - (q - shift_b)) ** 2 for p, q in zip(a, b, strict=True)]
    return {"mse": o["weight"] * mean(differences)}


def kd(views: Views, y: list[int], o: dict[str, Any], epoch: int, progress: float) -> Terms:
    if o["decoupled"]:
        parts = dkd(views, y, {"temperature": o["temperature"], "alpha": 1.0, "beta": 0.0, "warmup": 1.0}, 1, progress)
        target, whole = o["weight"] * parts["target"], o["weight"] * kd_value(*views[0], o["temperature"])
        return {"target": target, "nontarget": whole - target}
    return {"kl": o["weight"] * kd_value(*views[0], o["temperature"])}


def dkd(views: Views, y: list[int], o: dict[str, Any], epoch: int, progress: float) -> Terms:
    T = o["temperature"]
    target, nontarget = [], []
    for a, b, label in zip(*views[0], y, strict=True):
        q, p = softmax(a, T), softmax(b, T)
        target.append(kl([p[label], sum(without(p, label))], [q[label], sum(without(q, label))]))
        nontarget.append(kl(softmax(without(b, label), T), softmax(without(a, label), T)))
    ramp = min(epoch / o["warmup"], 1.0)
    return {
        "target": ramp * o["alpha"] * T**2 * mean(target),
        "nontarget": ramp * o["beta"] * T**2 * mean(nontarget),
    }


def nkd(views: Views, y: list[int], o: dict[str, Any], epoch: int, progress: float) -> Terms:
    T = o["temperature"]
    target, nontarget = [], []
    for a, b, label in zip(*views[0], y, strict=True):
        target.append(-softmax(b)[label] * math.log(softmax(a)[label]))
        nontarget.append(cross_entropy(softmax(without(b, label), T), softmax(without(a, label), T)))
    return {"target": mean(target), "nontarget": o["gamma"] * T**2 * mean(nontarget)}


def pearson(a: Row, b: Row) -> float:
    if len(a) == 1:
        return 0.0
    return statistics.correlation(a, b)


def damped(a: Row, b: Row) -> float:
    """With 1e-8 added to the product of the norms."""
    x, y = ([v - mean(row) for v in row] for row in (a, b))
    return sum(v * w for v, w in zip(x, y, strict=True)) / (math.hypot(*x) * math.hypot(*y) + 1e-8)


def dist(views: Views, y: list[int], o: dict[str, Any], epoch: int, progress: float) -> Terms:
    T = o["temperature"]
    q, p = ([softmax(row, T) for row in rows] for rows in views[0])
    columns = zip(*q, strict=True), zip(*p, strict=True)
    correlation = damped if o["as_published"] else pearson
    inter = mean([correlation(a, b) for a, b in zip(q, p, strict=True)])
    intra = mean([correlation(list(a), list(b)) for a, b in zip(*columns, strict=True)])
    return {"inter": o["beta"] * T**2 * (1 - inter), "intra": o["gamma"] * T**2 * (1 - intra)}


def ckd(views: Views, y: list[int], o: dict[str, Any], epoch: int, progress: float) -> Terms:
    s, t = views[0]
    same = [[float(i == j) for j in range(len(s))] for i in range(len(s))]
    everything = [[True] * len(s)] * len(s)
    value = info_nce(unit(t, False), unit(s, False), same, everything, o["temperature"])
    return {"contrast": o["weight"] * value}


def wsld(views: Views, y: list[int], o: dict[str, Any], epoch: int, progress: float) -> Terms:
    T = o["temperature"]
    values = []
    for a, b, label in zip(*views[0], y, strict=True):
        hard_s, hard_t = -math.log(softmax(a)[label]), -math.log(softmax(b)[label])
        weight = 1 - math.exp(-hard_s / (hard_t + 1e-7))
        values.append(weight * cross_entropy(softmax(b, T), softmax(a, T)))
    return {"soft": o["weight"] * T**2 * mean(values)}


def ttm(views: Views, y: list[int], o: dict[str, Any], epoch: int, progress: float) -> Terms:
    values = [kl(powered(b, 1 / o["temperature"])[0], softmax(a)) for a, b in zip(*views[0], strict=True)]
    return {"kl": o["weight"] * mean(values)}


def wttm(views: Views, y: list[int], o: dict[str, Any], epoch: int, progress: float) -> Terms:
    values = []
    for a, b in zip(*views[0], strict=True):
        p, total = powered(b, 1 / o["temperature"])
        values.append(total * kl(p, softmax(a)))
    return {"kl": o["weight"] * mean(values)}


def powered(row: Row, gamma: float) -> tuple[Row, float]:
    """The probabilities to a power, normalised anew, and the sum that normalised them."""
    powers = [p**gamma for p in softmax(row)]
    return [x / sum(powers) for x in powers], sum(powers)


def ctkd(views: Views, y: list[int], o: dict[str, Any], epoch: int, progress: float) -> Terms:
    T = o["start"] + o["span"] / (1 + math.exp(-1.0))
    return {"kl": o["weight"] * kd_value(*views[0], T)}


def swapped(row: Row, label: int) -> Row:
    out, top = list(row), row.index(max(row))
    out[top], out[label] = row[label], row[top]
    return out


def sld(views: Views, y: list[int], o: dict[str, Any], epoch: int, progress: float) -> Terms:
    ready = [(standardized(s), standardized(t)) for s, t in views] if o["standardize"] else views
    terms = {"teacher": 0.0, "student": 0.0}
    for s, t in ready:
        right = [swapped(row, label) for row, label in zip(t, y, strict=True)]
        own = [swapped(row, label) for row, label in zip(s, y, strict=True)]
        for T in (1, 2, 3, 4, 5, 6):
            terms["teacher"] += o["weight"] * kd_value(s, right, T)
            terms["student"] += o["weight"] * kd_value(s, own, T) if progress >= o["start"] else 0.0
    return terms | strong(views, y, o)


def strong(views: Views, y: list[int], o: dict[str, Any]) -> Terms:
    if len(views) == 1:
        return {}
    values = [-math.log(softmax(row)[label]) for row, label in zip(views[1][0], y, strict=True)]
    return {"ce_strong": o["strong_ce_weight"] * mean(values)}


def gram(rows: Rows) -> Rows:
    return [[sum(x * y for x, y in zip(a, b, strict=True)) for b in rows] for a in rows]


def relation(s: Rows, t: Rows, T: float, columns: bool) -> float:
    """The squared difference of the Gram matrices of rows or columns of probabilities, over their number."""
    q, p = ([softmax(row, T) for row in rows] for rows in (s, t))
    if columns:
        q, p = ([list(column) for column in zip(*rows, strict=True)] for rows in (q, p))
    return sum(
        (a - b) ** 2 for row, other in zip(gram(p), gram(q), strict=True) for a, b in zip(row, other, strict=True)
    ) / len(p)


def mlkd(views: Views, y: list[int], o: dict[str, Any], epoch: int, progress: float) -> Terms:
    ready = [(standardized(s), standardized(t)) for s, t in views] if o["standardize"] else views
    temperatures = [o["temperature"], 3.0, 5.0, 2.0, 6.0]
    if o["as_published"]:
        p = [softmax(row) for row in views[0][1]]
        confidences, sums = [max(row) for row in p], [sum(column) for column in zip(*p, strict=True)]
        m = mean([float(x <= statistics.median(confidences)) for x in confidences])
        of_classes = mean([float(x <= statistics.median(sums)) for x in sums])
        instance = m * sum(kd_value(*ready[0], T) for T in temperatures)
        if len(views) == 2:
            instance += sum(kd_value(*ready[1], T) for T in temperatures[:3])
            instance += sum(kd_value(*ready[0], T) for T in temperatures[3:])
        batch = m * sum(relation(*views[0], T, columns=False) for T in temperatures)
        classes = of_classes * sum(relation(*views[0], T, columns=True) for T in temperatures)
    else:
        instance = sum(kd_value(*view, T) for view in ready for T in temperatures)
        batch = sum(relation(*view, T, columns=False) for view in views for T in temperatures)
        classes = sum(relation(*view, T, columns=True) for view in views for T in temperatures)
    terms = {"instance": instance, "batch": batch, "class": classes}
    return {name: o["weight"] * value for name, value in terms.items()} | strong(views, y, o)


METHODS = {
    f.__name__: f for f in (mse, kd, dkd, nkd, dist, ckd, wsld, ttm, wttm, ctkd, sld, mlkd)
}  # fmt: skip


def terms(name: str, views: Views, y: list[int], options: dict[str, Any], epochs: int, progress: float) -> Terms:
    """The terms of a method with all its options, at a share of a run of some epochs."""
    from tests.reference import later_logit_methods  # which needs what is above

    if options.get("standardize") and name not in ("sld", "mlkd", "crld"):
        views = [(standardized(s), standardized(t)) for s, t in views]
    epoch = next((k + 1 for k in range(epochs) if progress < (k + 1) / epochs), epochs)
    return (METHODS | later_logit_methods.METHODS)[name](views, y, options | {"epochs": epochs}, epoch, progress)

"""The methods on logits of 2024 and later, as :mod:`tests.reference.logit_methods` has the others."""

import itertools
import math
import statistics
from inspect import signature
from typing import Any

from tests.reference.logit_methods import Terms, Views, gram, kd_value, kl, mean, softmax, standardized, strong, terms
from tests.reference.nce import Row, Rows, unit

from mcld import create_method


def solve(matrix: Rows, right: Row) -> Row:
    """The solution of a system of linear equations, by elimination."""
    rows = [[*row, value] for row, value in zip(matrix, right, strict=True)]
    n = len(rows)
    for k in range(n):
        pivot = max(range(k, n), key=lambda i: abs(rows[i][k]))
        rows[k], rows[pivot] = rows[pivot], rows[k]
        for i in range(n):
            if i != k:
                factor = rows[i][k] / rows[k][k]
                rows[i] = [a - factor * b for a, b in zip(rows[i], rows[k], strict=True)]
    return [rows[k][n] / rows[k][k] for k in range(n)]


def mahalanobis(s: Rows, t: Rows, regularization: float, divisor: float) -> float:
    a, b = gram(unit(s, False)), gram(unit(t, False))
    D = [[(x - y) / divisor for x, y in zip(row, other, strict=True)] for row, other in zip(a, b, strict=True)]
    n = len(D)
    means = [mean([row[j] for row in D]) for j in range(n)]
    covariance = [
        [
            sum((row[j] - means[j]) * (row[k] - means[k]) for row in D) / max(n - 1, 1) + regularization * (j == k)
            for k in range(n)
        ]
        for j in range(n)
    ]
    return mean([math.sqrt(sum(x * y for x, y in zip(row, solve(covariance, row), strict=True))) for row in D])


def skd(views: Views, y: list[int], o: dict[str, Any], epoch: int, progress: float) -> Terms:
    s, t = views[0]
    m = of_classes = divisor = 1.0
    if o["as_published"]:
        p = [softmax(row) for row in t]
        confidences, sums = [max(row) for row in p], [sum(column) for column in zip(*p, strict=True)]
        m = mean([float(x <= statistics.median(confidences)) for x in confidences])
        of_classes, divisor = mean([float(x <= statistics.median(sums)) for x in sums]), float(len(s[0]))
    return {
        "kl": o["weight"] * m * kd_value(s, t, o["temperature"]),
        "direction": o["direction"] * of_classes * mahalanobis(s, t, o["regularization"], divisor),
    }


def rld(views: Views, y: list[int], o: dict[str, Any], epoch: int, progress: float) -> Terms:
    T = o["temperature"]
    confidence, correlation = [], []
    for a, b, label in zip(*views[0], y, strict=True):
        q, p = softmax(a, T), softmax(b, T)
        confidence.append(kl([max(p), 1 - max(p)], [q[label], 1 - q[label]]))
        below = [c for c in range(len(b)) if b[c] < b[label]]
        correlation.append(kl(softmax([b[c] for c in below], T), softmax([a[c] for c in below], T)))
    ramp = min(epoch / o["warmup"], 1.0)
    return {
        "confidence": ramp * o["alpha"] * T**2 * mean(confidence),
        "correlation": ramp * o["beta"] * T**2 * mean(correlation),
    }


def crld(views: Views, y: list[int], o: dict[str, Any], epoch: int, progress: float) -> Terms:
    ready = [(standardized(s), standardized(t)) for s, t in views] if o["standardize"] else views
    T = o["temperature"]
    within, across = [], []
    for i in range(len(y)):
        weak_sure = max(softmax(views[0][1][i])) >= o["weak_confidence"]
        within.append(weak_sure * sum(kd_value([s[i]], [t[i]], T) for s, t in ready))
        if len(views) == 2:
            (weak_s, weak_t), (strong_s, strong_t) = ready
            strong_sure = max(softmax(views[1][1][i])) >= o["strong_confidence"]
            both = kd_value([strong_s[i]], [weak_t[i]], T) + kd_value([weak_s[i]], [strong_t[i]], T)
            across.append(strong_sure * both)
    terms = {"within": o["within"] * mean(within)}
    if across:
        terms["across"] = o["across"] * mean(across)
    return terms | strong(views, y, o)


def ldrld(views: Views, y: list[int], o: dict[str, Any], epoch: int, progress: float) -> Terms:
    T = o["temperature"]
    local, rest = [], []
    for a, b in zip(*views[0], strict=True):
        order = sorted(range(len(a)), key=lambda c: -a[c])
        top, low = order[: o["depth"]], order[o["depth"] :]

        def among(classes: list[int], a: Row = a, b: Row = b) -> float:
            return kl(softmax([b[c] for c in classes], T), softmax([a[c] for c in classes], T))

        total, number = among(top), 1
        for (i, first), (j, second) in itertools.combinations(enumerate(top, start=1), 2):
            total += 2 / (1.5 + abs(i - j)) * math.exp(-0.05 * (i + j)) * among([first, second])
            number += 1
        local.append(total / number)
        rest.append(among(low) if low else 0.0)
    return {"local": o["alpha"] * T**2 * mean(local), "rest": o["beta"] * T**2 * mean(rest)}


def pld(views: Views, y: list[int], o: dict[str, Any], epoch: int, progress: float) -> Terms:
    values = []
    for a, b, label in zip(*views[0], y, strict=True):
        q = softmax(b, o["temperature"])
        ranking = [label, *sorted((c for c in range(len(b)) if c != label), key=lambda c: -b[c])]
        total = 0.0
        for k, chosen in enumerate(ranking):
            total += q[chosen] * (math.log(sum(math.exp(a[c]) for c in ranking[k:])) - a[chosen])
        values.append(total)
    return {"ranking": o["weight"] * mean(values)}


def entropy(row: Row, T: float) -> float:
    return -sum(p * math.log(p) for p in softmax(row, T))


def of_each_image(
    views: Views, y: list[int], o: dict[str, Any], progress: float, own: dict[str, Any], weights: Row
) -> Terms:
    """The terms of the method that ``o["of"]`` names, of each image by itself, times its weight, averaged."""
    options = {**{key: p.default for key, p in signature(type(create_method(o["of"]))).parameters.items()}, **own}
    images = [
        terms(o["of"], [([a], [b])], [label], {**options, **o["options"]}, o["epochs"], progress)
        for a, b, label in zip(*views[0], y, strict=True)
    ]
    return {name: mean([w * image[name] for w, image in zip(weights, images, strict=True)]) for name in images[0]}


def normkd(views: Views, y: list[int], o: dict[str, Any], epoch: int, progress: float) -> Terms:
    s, t = views[0]
    spreads = [[statistics.stdev(row) for row in rows] for rows in (s, t)]
    scaled = [
        [[x / spread for x in row] for row, spread in zip(rows, of, strict=True)]
        for rows, of in zip((s, t), spreads, strict=True)
    ]
    weights = [spread**2 for spread in spreads[1]]
    return of_each_image([(scaled[0], scaled[1])], y, o, progress, {"temperature": o["temperature"]}, weights)


def eakd(views: Views, y: list[int], o: dict[str, Any], epoch: int, progress: float) -> Terms:
    T, weights = o["temperature"], []
    for a, b in zip(*views[0], strict=True):
        bound = len(a) if o["as_published"] else math.log(len(a))
        weights.append(entropy(b, T) / 2 * (1 + entropy(a, T) / bound))
    return of_each_image(views, y, o, progress, {}, weights)


METHODS = {f.__name__: f for f in (skd, rld, crld, ldrld, pld, normkd, eakd)}

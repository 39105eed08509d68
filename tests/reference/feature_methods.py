"""Slow, obvious float64 versions of the feature and relation methods: loops over numbers, nothing shared with mcld."""

import itertools
import math
from collections.abc import Callable, Sequence

from torch import Tensor

Row = list[float]
Rows = list[Row]
Map = list[list[Row]]  # channels, rows, columns
Kernel = Callable[[Row, Row], float]


def dot(a: Row, b: Row) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def unit(row: Row) -> Row:
    length = math.sqrt(dot(row, row))
    return [x / length if length > 0 else 0.0 for x in row]


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def numbers(x: Tensor) -> list[float]:
    flat: list[float] = x.detach().double().flatten().tolist()
    return flat


def shrink(image: Map, h: int, w: int) -> Map:
    """Averages blocks: the sides must be multiples of h and w."""
    a, b = len(image[0]) // h, len(image[0][0]) // w
    return [
        [
            [mean([channel[a * i + y][b * j + x] for y in range(a) for x in range(b)]) for j in range(w)]
            for i in range(h)
        ]
        for channel in image
    ]


def common(s: Map, t: Map) -> tuple[Map, Map]:
    h, w = min(len(s[0]), len(t[0])), min(len(s[0][0]), len(t[0][0]))
    return shrink(s, h, w), shrink(t, h, w)


def flat(image: Map) -> Row:
    return [x for channel in image for row in channel for x in row]


def mse(a: Row, b: Row) -> float:
    return mean([(x - y) ** 2 for x, y in zip(a, b, strict=True)])


def attention(image: Map) -> Row:
    channels = [[x for row in channel for x in row] for channel in image]
    return unit([mean([channel[i] ** 2 for channel in channels]) for i in range(len(channels[0]))])


def at(student: Tensor, teacher: Tensor) -> float:
    """One stage."""
    pairs = [common(s, t) for s, t in zip(student.tolist(), teacher.tolist(), strict=True)]
    return mean([mse(attention(s), attention(t)) for s, t in pairs])


def sp(student: Tensor, teacher: Tensor) -> float:
    def rows(maps: Tensor) -> Rows:
        images = [flat(m) for m in maps.tolist()]
        return [unit([dot(a, b) for b in images]) for a in images]

    return mean([mse(a, b) for a, b in zip(rows(student), rows(teacher), strict=True)])


def pkt(student: Tensor, teacher: Tensor) -> float:
    def shares(features: Tensor) -> Rows:
        rows = [unit(row) for row in features.tolist()]
        similar = [[(dot(a, b) + 1) / 2 for b in rows] for a in rows]
        return [[x / sum(row) for x in row] for row in similar]

    p, q = shares(teacher), shares(student)
    return mean(
        [a * math.log((a + 1e-7) / (b + 1e-7)) for rows in zip(p, q, strict=True) for a, b in zip(*rows, strict=True)]
    )


def huber(x: float) -> float:
    return x * x / 2 if abs(x) < 1 else abs(x) - 0.5


def rkd(student: Tensor, teacher: Tensor) -> tuple[float, float]:
    """Distance and angle."""

    def distances(rows: Rows) -> Rows:
        raw = [[math.dist(a, b) for b in rows] for a in rows]
        positive = [x for row in raw for x in row if x > 0]
        scale = mean(positive) if positive else 1.0
        return [[x / scale for x in row] for row in raw]

    def angles(rows: Rows) -> Row:
        out = []
        for i in rows:
            for j in rows:
                for k in rows:
                    out.append(
                        dot(
                            unit([x - y for x, y in zip(j, i, strict=True)]),
                            unit([x - y for x, y in zip(k, i, strict=True)]),
                        )
                    )
        return out

    s, t = student.tolist(), teacher.tolist()
    pairs = zip(distances(s), distances(t), strict=True)
    distance = mean([huber(a - b) for rows in pairs for a, b in zip(*rows, strict=True)])
    return distance, mean([huber(a - b) for a, b in zip(angles(s), angles(t), strict=True)])


def cc(student: Tensor, teacher: Tensor, gamma: float, order: int) -> float:
    def kernel(a: Row, b: Row) -> float:
        x = dot(unit(a), unit(b))
        series = sum((2 * gamma) ** p / math.factorial(p) * x**p for p in range(order + 1))
        return math.exp(-2 * gamma) * series

    s, t = student.tolist(), teacher.tolist()
    B = range(len(s))
    return mean([(kernel(s[i], s[j]) - kernel(t[i], t[j])) ** 2 for i in B for j in B])


def cc_neighbours(student: Tensor, teacher: Tensor) -> float:
    """Of embeddings (B, d): the published code."""
    off = [
        [abs(a - b) for a, b in zip(s, t, strict=True)] for s, t in zip(student.tolist(), teacher.tolist(), strict=True)
    ]
    return mean([dot(a, b) for a, b in itertools.pairwise(off)])


def nst(student: Tensor, teacher: Tensor) -> float:
    """One stage."""
    losses = []
    for pair in zip(student.tolist(), teacher.tolist(), strict=True):
        s, t = ([unit([x for row in c for x in row]) for c in image] for image in common(*pair))
        within = mean([dot(a, b) ** 2 for a in s for b in s]) + mean([dot(a, b) ** 2 for a in t for b in t])
        losses.append(within - 2 * mean([dot(a, b) ** 2 for a in s for b in t]))
    return mean(losses)


def gaussian(mu: Tensor, target: Tensor, variance: Sequence[float]) -> float:
    """One stage of VID: μ and target (B, c, h, w)."""
    out = []
    for m, t in zip(mu.tolist(), target.tolist(), strict=True):
        for c, v in enumerate(variance):
            for a, b in zip(flat([m[c]]), flat([t[c]]), strict=True):
                out.append((a - b) ** 2 / (2 * v) + math.log(v) / 2)
    return mean(out)


def factor(student: Tensor, teacher: Tensor) -> float:
    pairs = [(unit(flat(s)), unit(flat(t))) for s, t in zip(student.tolist(), teacher.tolist(), strict=True)]
    return mean([abs(a - b) for s, t in pairs for a, b in zip(s, t, strict=True)])


def ofd(projected: Tensor, teacher: Tensor, margin: Sequence[float]) -> float:
    """One stage: the mean over images of the sum."""
    sums = []
    for s, t in zip(projected.tolist(), teacher.tolist(), strict=True):
        total = 0.0
        for c, m in enumerate(margin):
            for a, b in zip(flat([s[c]]), flat([t[c]]), strict=True):
                target = max(b, m)
                if not (a <= target <= 0):
                    total += (a - target) ** 2
        sums.append(total)
    return mean(sums)


def crd(anchors: Tensor, bank: Tensor, rows: Tensor, temperature: float) -> float:
    """Anchors (B, d), the bank they look in (N, d), and positions (B, 1 + K), each image's own first."""
    stored: Rows = bank.tolist()
    scores = [
        [dot(a, stored[i]) / temperature for i in chosen]
        for a, chosen in zip(anchors.tolist(), rows.tolist(), strict=True)
    ]
    Z = mean([math.exp(x) for row in scores for x in row])
    K = rows.shape[1] - 1
    h = [[math.exp(x) / (math.exp(x) + K * Z) for x in row] for row in scores]
    return mean([-math.log(own) - sum(math.log(1 - other) for other in others) for own, *others in h])


def hierarchical(student: Tensor, teacher: Tensor) -> float:
    """ReviewKD's distance of one stage; the sides must be powers of two."""
    side = student.shape[2]
    total, weights, weight = 0.0, 0.0, 1.0
    for level in [side, *(size for size in (4, 2, 1) if size < side)]:
        pairs = zip(student.tolist(), teacher.tolist(), strict=True)
        total += weight * mean([mse(flat(shrink(s, level, level)), flat(shrink(t, level, level))) for s, t in pairs])
        weights += weight
        weight /= 2
    return total / weights


def catkd(student: Tensor, s_weight: Tensor, teacher: Tensor, t_weight: Tensor, side: int, normalize: bool) -> float:
    def attend(image: Map, weight: Rows) -> Rows:
        places = [[channel[i][j] for channel in image] for i in range(len(image[0])) for j in range(len(image[0][0]))]
        out = []
        for w in weight:
            scores = [dot(w, place) for place in places]
            width = len(image[0][0])
            seen = [[scores[i : i + width] for i in range(0, len(scores), width)]]
            small = flat(shrink(seen, side, side))
            out.append(unit(small) if normalize else small)
        return out

    losses = []
    for s, t in zip(student.tolist(), teacher.tolist(), strict=True):
        ours, theirs = attend(s, s_weight.tolist()), attend(t, t_weight.tolist())
        losses += [mse(a, b) for a, b in zip(ours, theirs, strict=True)]
    return mean(losses)


def srd(projected: Tensor, teacher: Tensor, alpha: float) -> float:
    def standardize(features: Tensor) -> Rows:
        columns: Rows = features.T.tolist()
        out = []
        for column in columns:
            m = mean(column)
            deviation = math.sqrt(mean([(x - m) ** 2 for x in column]) + 1e-4)
            out.append([(x - m) / deviation for x in column])
        return out

    pairs = zip(standardize(projected), standardize(teacher), strict=True)
    return math.log(mean([abs(a - b) ** alpha for rows in pairs for a, b in zip(*rows, strict=True)]) + 1e-12)

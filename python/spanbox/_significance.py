"""Whether a difference is more than chance: Fisher's exact test for shares, Mann and Whitney's for values, Pearson's
and Kolmogorov and Smirnov's for whole distributions, Holm's correction for many of them. Formulas, assumptions and
references: docs/statistics.md. Pure functions; p is one-sided where it says so.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

_NEGLIGIBLE = 1e-18  # of a sum of probabilities
_Z95 = 1.959963984540054
_LEAST_EXPECTED = 5  # of a category by Pearson's test: those below are taken together


def fisher_more(hits: int, of: int, other_hits: int, other_of: int) -> float:
    """The chance of so many hits or more among `of`, if all hits had fallen on the two groups at random."""
    if not 0 <= hits <= of or not 0 <= other_hits <= other_of:
        raise ValueError(f"{hits} of {of} and {other_hits} of {other_of} are no shares")
    total_hits = hits + other_hits
    most = min(of, total_hits)
    if hits <= max(0, total_hits - other_of):
        return 1.0
    first = _log_choose(of, hits) + _log_choose(other_of, total_hits - hits) - _log_choose(of + other_of, total_hits)
    sum_, term = 0.0, 1.0  # relative to the first
    for k in range(hits, most + 1):
        sum_ += term
        if k == most or (term < _NEGLIGIBLE * sum_ and k > hits):
            break
        term *= (of - k) / (k + 1) * (total_hits - k) / (other_of - total_hits + k + 1)
    return min(1.0, math.exp(first + math.log(sum_)))


def mann_whitney(values: Sequence[float], others: Sequence[float]) -> tuple[float, float]:
    """(p that values are larger only by chance, p that they are smaller): the normal approximation with the variance
    of ties and a continuity correction of 1/2."""
    n, m = len(values), len(others)
    if not n or not m:
        return 1.0, 1.0
    rank_sum, ties = _ranks(values, others)
    u = rank_sum - n * (n + 1) / 2
    total = n + m
    variance = n * m / 12 * (total + 1 - ties / (total * (total - 1)))
    if variance <= 0:
        return 1.0, 1.0
    deviation = math.sqrt(variance)
    away = u - n * m / 2
    return _upper_tail((away - 0.5) / deviation), _upper_tail((-away - 0.5) / deviation)


def same_shares(counts: Mapping[object, int], others: Mapping[object, int]) -> float:
    """p that both are drawn from one distribution over categories: Pearson's χ² test of homogeneity. Categories of
    which fewer than five are expected on either side are taken together."""
    n, m = sum(counts.values()), sum(others.values())
    least = _LEAST_EXPECTED * (n + m) / min(n, m) if n and m else math.inf
    cells, rare = [], [0, 0]
    for key in counts.keys() | others.keys():
        cell = [counts.get(key, 0), others.get(key, 0)]
        if sum(cell) >= least:
            cells.append(cell)
        else:
            rare = [rare[0] + cell[0], rare[1] + cell[1]]
    if sum(rare) >= least:
        cells.append(rare)
    n, m = (sum(cell[side] for cell in cells) for side in (0, 1))
    if len(cells) < 2 or not n or not m:
        return 1.0
    chi2 = math.fsum((a * m - b * n) ** 2 / (a + b) for a, b in cells) / (n * m)
    return chi_square_upper(chi2, len(cells) - 1)


def stability_index(counts: Mapping[object, int], others: Mapping[object, int]) -> float:
    """PSI, the population stability index: Σ (p − q) ln(p/q) over the categories' shares, half a count added to each so
    that none is 0. Below 0.1 nothing has moved to speak of."""
    keys = counts.keys() | others.keys()
    if not keys:
        return 0.0
    n, m = (sum(side.values()) + 0.5 * len(keys) for side in (counts, others))
    shares = [((counts.get(key, 0) + 0.5) / n, (others.get(key, 0) + 0.5) / m) for key in keys]
    return math.fsum((p - q) * math.log(p / q) for p, q in shares)


def kolmogorov_smirnov(counts: Mapping[float, int], others: Mapping[float, int]) -> tuple[float, float]:
    """(D, p) of two samples, counted by value or by bucket: D is the largest difference of their distribution
    functions, p that of Kolmogorov's distribution, which is too large where values are equal or share a bucket."""
    n, m = sum(counts.values()), sum(others.values())
    if not n or not m:
        return 0.0, 1.0
    below = below_other = 0
    distance = 0.0
    for value in sorted(counts.keys() | others.keys()):
        below, below_other = below + counts.get(value, 0), below_other + others.get(value, 0)
        distance = max(distance, abs(below / n - below_other / m))
    return distance, kolmogorov_upper(distance * math.sqrt(n * m / (n + m)))


def kolmogorov_upper(x: float) -> float:
    """1 − K(x), K Kolmogorov's limiting distribution."""
    if x <= 0:
        return 1.0
    if x < 1.18:  # both series are exact; each is quick on its side
        terms = (math.exp(-(((2 * k - 1) * math.pi / x) ** 2) / 8) for k in range(1, 8))
        return min(1.0, max(0.0, 1 - math.sqrt(2 * math.pi) / x * math.fsum(terms)))
    return min(1.0, 2 * math.fsum((-1) ** (k - 1) * math.exp(-2 * (k * x) ** 2) for k in range(1, 8)))


def chi_square_upper(x: float, degrees: int) -> float:
    """The chance of x or more under χ² with so many degrees of freedom: the regularized upper incomplete gamma function
    Q(degrees/2, x/2), by its series or its continued fraction (Lentz)."""
    a, x = degrees / 2, x / 2
    if x <= 0:
        return 1.0
    front = math.exp(a * math.log(x) - x - math.lgamma(a))
    if x < a + 1:
        term = total = 1 / a
        for k in range(1, 10_000):
            term *= x / (a + k)
            total += term
            if term < _NEGLIGIBLE * total:
                break
        return max(0.0, 1 - front * total)
    tiny = 1e-300
    b = x + 1 - a
    c, d = 1 / tiny, 1 / b
    fraction = d
    for k in range(1, 10_000):
        step, b = -k * (k - a), b + 2
        d = 1 / (step * d + b or tiny)
        c = b + step / c or tiny
        fraction *= d * c
        if abs(d * c - 1) < 1e-15:
            break
    return min(1.0, front * fraction)


def holm(p_values: Sequence[float]) -> list[float]:
    """Each p corrected, so that the chance of even one below alpha is at most alpha while nothing differs."""
    corrected = [1.0] * len(p_values)
    largest = 0.0
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    for place, i in enumerate(order):
        largest = max(largest, min(1.0, p_values[i] * (len(order) - place)))
        corrected[i] = largest
    return corrected


def half_width_95(values: Iterable[float]) -> float:
    """Half of the interval that holds the mean with 95 %, by the normal distribution."""
    n, mean, squares = 0, 0.0, 0.0
    for value in values:
        n += 1
        step = value - mean
        mean += step / n
        squares += step * (value - mean)
    return _Z95 * math.sqrt(squares / (n - 1) / n) if n > 1 else math.nan


def wilson_95(hits: float, of: int) -> tuple[float, float]:
    """The interval of a share with 95 %, by Wilson."""
    if of <= 0:
        return math.nan, math.nan
    share, z2 = hits / of, _Z95 * _Z95
    middle = (share + z2 / (2 * of)) / (1 + z2 / of)
    half = _Z95 / (1 + z2 / of) * math.sqrt(max(0.0, share * (1 - share) / of + z2 / (4 * of * of)))
    return max(0.0, middle - half), min(1.0, middle + half)


def cohen_kappa(pairs: Sequence[tuple[bool, bool]]) -> float:
    """How far two judges agree beyond chance; NaN when both always say the same one thing."""
    n = len(pairs)
    if not n:
        return math.nan
    agreed = sum(a == b for a, b in pairs) / n
    first, second = (sum(pair[i] for pair in pairs) / n for i in (0, 1))
    chance = first * second + (1 - first) * (1 - second)
    return math.nan if chance >= 1 else (agreed - chance) / (1 - chance)


def change_point(values: Sequence[float | None], weights: Sequence[float] = ()) -> int | None:
    """Where a series splits into two parts that differ the most, by the sum of squares between them; None for less than
    four values or no difference. A value counts as much as its weight."""
    known = [
        (i, value, weights[i] if weights else 1.0)
        for i, value in enumerate(values)
        if value is not None and not math.isnan(value)
    ]
    if len(known) < 4:
        return None
    whole, total = math.fsum(weight for *_, weight in known), math.fsum(value * weight for _, value, weight in known)
    weight_before = before = best = 0.0
    found = None
    for (_, value, weight), (place, *_) in pairwise(known):
        weight_before, before = weight_before + weight, before + value * weight
        left, right = before / weight_before, (total - before) / (whole - weight_before)
        between = (left - right) ** 2 * weight_before * (whole - weight_before) / whole
        if between > best * (1 + 1e-9):
            best, found = between, place
    return found


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def _upper_tail(z: float) -> float:
    return 0.5 * math.erfc(z / math.sqrt(2))


def _ranks(values: Sequence[float], others: Sequence[float]) -> tuple[float, float]:
    """The sum of the ranks of `values`, and the sum of t³ − t over groups of t equal values."""
    marked = sorted([(value, True) for value in values] + [(value, False) for value in others])
    rank_sum = ties = 0.0
    place = 0
    while place < len(marked):
        end = place
        own = 0
        while end < len(marked) and marked[end][0] == marked[place][0]:
            own += marked[end][1]
            end += 1
        size = end - place
        rank_sum += own * (place + 1 + end) / 2
        ties += float(size) ** 3 - size
        place = end
    return rank_sum, ties

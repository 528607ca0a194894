"""The statistics of findings, beside scipy's, and by what they promise."""

from __future__ import annotations

import math
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats
from spanbox import _significance as ours

COUNTS = st.integers(0, 400)
VALUES = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60)
FEW_VALUES = st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=1, max_size=60)  # ties


@given(COUNTS, COUNTS, COUNTS, COUNTS)
def test_fishers_test_is_scipys(hits: int, misses: int, other_hits: int, other_misses: int) -> None:
    expected = stats.fisher_exact([[hits, misses], [other_hits, other_misses]], alternative="greater").pvalue
    p = ours.fisher_more(hits, hits + misses, other_hits, other_hits + other_misses)
    assert p == pytest.approx(expected, rel=1e-7, abs=1e-12)


def test_fishers_test_of_millions_is_the_hypergeometric_tail() -> None:
    p = ours.fisher_more(10_400, 1_000_000, 90_000, 9_000_000)
    assert p == pytest.approx(stats.hypergeom.sf(10_399, 10_000_000, 100_400, 1_000_000), rel=1e-4)


def test_counts_that_are_no_share_are_refused() -> None:
    with pytest.raises(ValueError, match="no shares"):
        ours.fisher_more(3, 2, 0, 1)


@settings(max_examples=200)
@given(VALUES | FEW_VALUES, VALUES | FEW_VALUES)
def test_mann_and_whitneys_test_is_scipys(values: list[float], others: list[float]) -> None:
    if len({*values, *others}) == 1:
        assert ours.mann_whitney(values, others) == (1.0, 1.0)
        return
    options = {"method": "asymptotic", "use_continuity": True}
    expected = [stats.mannwhitneyu(values, others, alternative=side, **options).pvalue for side in ("greater", "less")]
    assert ours.mann_whitney(values, others) == pytest.approx(tuple(expected), rel=1e-6, abs=1e-12)


SHARES = st.lists(st.tuples(COUNTS, COUNTS), min_size=2, max_size=12)


@given(st.floats(1e-3, 2_000), st.integers(1, 60))
def test_chi_squares_tail_is_scipys(x: float, degrees: int) -> None:
    expected = stats.chi2.sf(x, degrees)
    assert ours.chi_square_upper(x, degrees) == pytest.approx(expected, rel=1e-7, abs=1e-300)


@given(SHARES)
def test_pearsons_test_is_scipys_of_the_categories_that_are_not_rare(pairs: list[tuple[int, int]]) -> None:
    counts, others = ({f"v{i}": pair[side] for i, pair in enumerate(pairs)} for side in (0, 1))
    n, m = sum(counts.values()), sum(others.values())
    p = ours.same_shares(counts, others)
    if not n or not m:
        assert p == 1.0
        return
    common = [pair for pair in pairs if sum(pair) * min(n, m) / (n + m) >= 5]
    rare = [sum(pair[side] for pair in pairs if pair not in common) for side in (0, 1)]
    if sum(rare) * min(n, m) / (n + m) >= 5:
        common.append((rare[0], rare[1]))
    if len(common) < 2 or not all(sum(side) for side in zip(*common, strict=True)):
        assert p == 1.0
        return
    expected = stats.chi2_contingency(list(zip(*common, strict=True)), correction=False).pvalue
    assert p == pytest.approx(expected, rel=1e-6, abs=1e-300)


@given(st.floats(0.01, 6))
def test_kolmogorovs_tail_is_scipys(x: float) -> None:
    assert ours.kolmogorov_upper(x) == pytest.approx(special.kolmogorov(x), rel=1e-9, abs=1e-14)


@given(VALUES | FEW_VALUES, VALUES | FEW_VALUES)
def test_kolmogorov_and_smirnovs_distance_is_that_of_the_two_functions(
    values: list[float], others: list[float]
) -> None:
    distance, p = ours.kolmogorov_smirnov(Counter(values), Counter(others))
    functions = [stats.ecdf(sample).cdf for sample in (values, others)]
    assert distance == pytest.approx(
        max(abs(functions[0].evaluate(x) - functions[1].evaluate(x)) for x in (*values, *others))
    )
    en = len(values) * len(others) / (len(values) + len(others))
    assert p == pytest.approx(stats.kstwobign.sf(distance * math.sqrt(en)), rel=1e-7, abs=1e-12)


@given(SHARES)
def test_stability_index_is_what_its_formula_says(pairs: list[tuple[int, int]]) -> None:
    counts, others = ({i: pair[side] for i, pair in enumerate(pairs)} for side in (0, 1))
    p, q = ([(n + 0.5) / (sum(side.values()) + 0.5 * len(side)) for n in side.values()] for side in (counts, others))
    expected = sum(stats.entropy(a, b) for a, b in ((p, q), (q, p)))  # Jeffreys: both divergences of Kullback, Leibler
    assert ours.stability_index(counts, others) == pytest.approx(expected, abs=1e-12)
    assert ours.stability_index(counts, others) == pytest.approx(ours.stability_index(others, counts))


@pytest.mark.parametrize("name", ["words", "numbers"])
def test_while_nothing_drifts_few_p_are_small(name: str) -> None:
    """Of 2,000 pairs of samples of one distribution some 5 % have p < 0.05: of numbers in buckets fewer."""
    random_ = random.Random(3)
    small = 0
    for _ in range(2_000):
        if name == "words":
            sides = [Counter(random_.choices("abcde", (50, 30, 15, 4, 1), k=size)) for size in (150, 600)]
            small += ours.same_shares(*sides) < 0.05
        else:
            drawn = [[random_.lognormvariate(6, 1) for _ in range(size)] for size in (100, 300)]
            sides = [Counter(float(math.ceil(8 * math.log2(value))) for value in side) for side in drawn]
            small += ours.kolmogorov_smirnov(*sides)[1] < 0.05
    assert 0.01 < small / 2_000 < 0.065


@given(st.lists(st.floats(0, 1), max_size=30))
def test_holms_correction_is_scipy_like_and_keeps_the_order(p_values: list[float]) -> None:
    corrected = ours.holm(p_values)
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    expected, largest = [0.0] * len(p_values), 0.0
    for place, i in enumerate(order):  # by the definition
        largest = max(largest, min(1.0, (len(p_values) - place) * p_values[i]))
        expected[i] = largest
    assert corrected == expected
    assert all(p <= each <= 1 for p, each in zip(p_values, corrected, strict=True))


@given(st.integers(0, 500), st.integers(1, 500))
def test_wilsons_interval_is_scipys(hits: int, more: int) -> None:
    interval = stats.binomtest(hits, hits + more).proportion_ci(method="wilson")
    assert ours.wilson_95(hits, hits + more) == pytest.approx((interval.low, interval.high), abs=1e-9)


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=50))
def test_the_half_width_is_that_of_the_normal_interval(values: list[float]) -> None:
    expected = stats.norm.ppf(0.975) * stats.sem(values)
    assert ours.half_width_95(values) == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_one_value_has_no_interval() -> None:
    assert math.isnan(ours.half_width_95([1.0]))


def test_kappa_of_a_textbook_table() -> None:
    """Cohen 1960: 20 and 15 agreed, 5 and 10 did not: 0.4."""
    pairs = [(True, True)] * 20 + [(True, False)] * 5 + [(False, True)] * 10 + [(False, False)] * 15
    assert ours.cohen_kappa(pairs) == pytest.approx(0.4)
    assert math.isnan(ours.cohen_kappa([(True, True)] * 9))


@given(st.integers(2, 40), st.integers(2, 40), st.floats(-5, 5), st.floats(0.1, 5))
def test_a_step_is_found_where_it_is(before: int, after: int, level: float, step: float) -> None:
    assert ours.change_point([level] * before + [level + step] * after) == before


def test_buckets_without_a_value_are_passed_over() -> None:
    assert ours.change_point([1.0, None, 1.0, 1.0, None, 3.0, 3.0, math.nan]) == 5
    assert ours.change_point([1.0, None, 2.0]) is None
    assert ours.change_point([1.0] * 9) is None


def test_while_nothing_differs_holm_says_so_as_often_as_it_promises() -> None:
    """400 times 20 comparisons of the same thing: at alpha 5 % at most 5 % of them list anything."""
    random_ = random.Random(11)
    alarms = 0
    for _ in range(400):
        p_values = []
        for _ in range(20):
            hits, other_hits = (sum(random_.random() < 0.1 for _ in range(n)) for n in (60, 240))
            p_values.append(ours.fisher_more(hits, 60, other_hits, 240))
        alarms += min(ours.holm(p_values)) < 0.05
    assert stats.binomtest(alarms, 400, 0.05, alternative="greater").pvalue > 1e-4

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from pytest import approx

from pipeline.keepup.histogram import RELATIVE_ERROR, SMALLEST, Histogram, WindowHistogram, merged

unhurried = settings(deadline=None)  # a busy machine is no failure
durations = st.lists(st.floats(0, 1e5), min_size=1, max_size=200)


def recorded(values: list[float]) -> Histogram:
    histogram = Histogram()
    for value in values:
        histogram.record(value)
    return histogram


@unhurried
@given(values=durations, percent=st.sampled_from([1, 5, 50, 90, 95, 99, 100]))
def test_percentile_is_within_two_percent_of_the_exact_one(values, percent):
    exact = float(np.percentile(values, percent, method="inverted_cdf"))
    assert recorded(values).percentile(percent) == approx(exact, rel=RELATIVE_ERROR + 1e-9, abs=SMALLEST)


@unhurried
@given(values=durations)
def test_count_largest_and_sum_are_exact(values):
    histogram = recorded(values)
    assert histogram.count == len(values)
    assert histogram.largest == max(values)
    assert histogram.total == approx(sum(values), abs=SMALLEST * len(values))
    assert histogram.percentile(100) <= max(values)


@unhurried
@given(left=durations, right=durations)
def test_merged_histograms_answer_as_one(left, right):
    both, together = merged([recorded(left), recorded(right)]), recorded(left + right)
    assert both.percentiles((5, 50, 95, 99)) == together.percentiles((5, 50, 95, 99))
    assert (both.count, both.largest) == (together.count, together.largest)


def test_empty_histogram_has_no_percentiles():
    assert Histogram().percentiles((50, 95)) == [None, None]


def test_negative_durations_count_as_zero():
    assert recorded([-0.5, -1.0]).percentile(99) == 0.0


@unhurried
@given(st.lists(st.tuples(st.floats(0, 0.4), st.floats(1e-3, 10)), min_size=1, max_size=100))
def test_window_forgets_what_is_older_and_nothing_younger(steps):
    window, now, seen = WindowHistogram(5.0), 1000.0, []
    for wait, value in steps:
        now += wait
        window.record(value, now)
        seen.append((now, value))
    count = window.histogram(now).count
    assert sum(at > now - 4.75 for at, _ in seen) <= count <= sum(at >= now - 5.0 for at, _ in seen)
    assert window.histogram(now + 5.25).count == 0


def test_memory_is_bounded_whatever_is_recorded():
    histogram = Histogram()
    for value in np.random.default_rng(1).lognormal(-3, 3, 100_000):
        histogram.record(float(value))
    assert len(histogram._buckets) < 1000

"""Waits that grow steadily are told from waits that only wander, and from a burst."""

from __future__ import annotations

from random import Random

from pipeline.keepup.wait_trend import WaitTrend


def trend_of(waits: list[float], interval: float = 0.1) -> WaitTrend:
    trend = WaitTrend()
    for number, wait in enumerate(waits):
        trend.add(100.0 + number * interval, wait)
    return trend


def test_steady_growth_is_seen_through_noise() -> None:
    for seed in range(50):
        noise = Random(seed)
        waits = [0.01] * 20 + [0.01 * step + noise.uniform(0.0, 0.01) for step in range(15)]
        assert trend_of(waits).has_risen()


def test_waits_that_wander_hardly_ever_count_as_growing() -> None:
    risen = 0
    for seed in range(400):
        noise, wait, waits = Random(seed), 0.0, []
        for _ in range(40):
            wait = max(0.0, wait + noise.uniform(-0.03, 0.03))  # a queue with exactly as much work as it can do
            waits.append(wait)
        risen += trend_of(waits).has_risen()
    assert risen <= 8


def test_a_burst_is_no_trend_and_neither_are_a_few_frames() -> None:
    burst = [0.0] * 20 + [0.02 * step for step in range(12)]
    assert not trend_of(burst, interval=1 / 30).has_risen(), "0.4 s long"
    assert not trend_of([0.0, 0.1, 0.2, 0.3, 0.4]).has_risen()
    assert not trend_of([]).has_risen()
    trend = trend_of([0.01 * step for step in range(30)])
    assert trend.has_risen()
    trend.clear()
    assert not trend.has_risen()

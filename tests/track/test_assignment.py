"""The matching is exact, whatever path it takes."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.track import assignment
from pipeline.track.assignment import match
from tests.track.mot_metrics import Floats, best_matching


def best_weight(weights: Floats) -> float:
    """Greatest weight of any matching, where every row may stay alone."""
    with_alone = np.concatenate([weights, np.zeros((len(weights), len(weights)))], axis=1)
    rows, columns = best_matching(with_alone)
    return float(with_alone[rows, columns].sum())


def random_weights(seed: int, ties: bool) -> Floats:
    random = np.random.default_rng(seed)
    shape = tuple(random.integers(1, 14, 2))
    weights = random.random(shape) * (random.random(shape) < random.random())
    return np.round(weights * 4) / 4 if ties else weights


@pytest.mark.parametrize("crowd_edges_per_row", [0, 16])
@settings(max_examples=300, deadline=None)
@given(seed=st.integers(0, 100_000), ties=st.booleans())
def test_matching_has_the_greatest_weight(crowd_edges_per_row: int, seed: int, ties: bool) -> None:
    weights = random_weights(seed, ties)
    rows, columns = np.nonzero(weights)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(assignment, "_CROWD_EDGES_PER_ROW", crowd_edges_per_row)
        won = match(rows, columns, weights[rows, columns])
    assert len(set(rows[won])) == len(won) == len(set(columns[won]))
    assert weights[rows[won], columns[won]].sum() == pytest.approx(best_weight(weights), abs=1e-9)


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 100_000))
def test_later_rounds_get_what_earlier_ones_leave(seed: int) -> None:
    weights = random_weights(seed, ties=False)
    rows, columns = np.nonzero(weights)
    rounds = np.random.default_rng(seed + 1).integers(0, 3, len(rows))
    won = match(rows, columns, weights[rows, columns], rounds)
    assert len(set(rows[won])) == len(won) == len(set(columns[won]))
    free = weights.copy()
    for number in range(3):
        of_round = np.zeros_like(weights)
        here = rounds == number
        of_round[rows[here], columns[here]] = free[rows[here], columns[here]]
        mine = won[rounds[won] == number]
        assert of_round[rows[mine], columns[mine]].sum() == pytest.approx(best_weight(of_round), abs=1e-9)
        free[rows[mine], :] = 0.0
        free[:, columns[mine]] = 0.0


def test_the_tests_own_reference_agrees_with_brute_force() -> None:
    random = np.random.default_rng(0)
    for _ in range(50):
        weights = random.random((4, 6))
        brute = max(weights[range(4), list(columns)].sum() for columns in permutations(range(6), 4))
        rows, columns = best_matching(weights)
        assert weights[rows, columns].sum() == pytest.approx(brute)


def test_no_pairs_no_matching() -> None:
    none = np.zeros(0, dtype=np.intp)
    assert len(match(none, none, np.zeros(0))) == 0

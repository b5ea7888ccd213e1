"""Which track takes which detection: an exact matching of greatest total weight over a sparse list of candidate pairs.

After gating, nearly every pair is the only one of its track and of its detection (a connected component of one edge)
and is taken at once, vectorised. What is left is solved by successive shortest augmenting paths with prices, which
never leave the connected component that they start in.

Papers: Kuhn, "The Hungarian Method for the Assignment Problem", 1955; Jonker and Volgenant, "A Shortest Augmenting
Path Algorithm for Dense and Sparse Linear Assignment Problems", Computing 38, 1987.
"""

from __future__ import annotations

import heapq

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Index = NDArray[np.intp]

_CROWD_EDGES_PER_ROW = 16  # above this a row of the price table costs less than a walk over the row's edges
_NOBODY = -1


def match(rows: Index, columns: Index, weights: Floats, rounds: Index | None = None) -> Index:
    """Return which of ``E`` candidate pairs form the matching of greatest total weight.

    ``rows`` and ``columns`` intp ``[E]``: the pairs, no pair twice. ``weights`` float64 ``[E]``, above 0: a pair is
    better than no pair. ``rounds`` intp ``[E]``, few values from 0 up: if given, pairs of a lower round are matched
    first, and later rounds get what they leave. No row and no column is used twice. Deterministic for a given order.
    """
    if len(rows) == 0:
        return rows
    # A pair that shares neither its row nor its column with another is taken in whichever round it belongs to.
    alone = np.bincount(rows)[rows] + np.bincount(columns)[columns] == 2
    if alone.all():
        return np.arange(len(rows))
    contested = (~alone).nonzero()[0]
    some_rows, some_columns = rows[contested].tolist(), columns[contested].tolist()
    some_weights = weights[contested].tolist()
    if rounds is None:
        won = _solve(some_rows, some_columns, some_weights)
    else:
        won = _solve_in_rounds(some_rows, some_columns, some_weights, rounds[contested].tolist())
    alone[contested[won]] = True
    winners: Index = alone.nonzero()[0]
    return winners


def _solve_in_rounds(rows: list[int], columns: list[int], weights: list[float], rounds: list[int]) -> list[int]:
    won: list[int] = []
    used_rows: set[int] = set()
    used_columns: set[int] = set()
    for this_round in sorted(set(rounds)):
        pairs = [
            pair
            for pair, round_of_pair in enumerate(rounds)
            if round_of_pair == this_round and rows[pair] not in used_rows and columns[pair] not in used_columns
        ]
        local = _solve(
            [rows[pair] for pair in pairs], [columns[pair] for pair in pairs], [weights[pair] for pair in pairs]
        )
        for index in local:
            pair = pairs[index]
            won.append(pair)
            used_rows.add(rows[pair])
            used_columns.add(columns[pair])
    return won


def _solve(rows: list[int], columns: list[int], weights: list[float]) -> list[int]:
    """Return which pairs of one round win."""
    numbers: dict[int, int] = {}
    local = [numbers.setdefault(row, len(numbers)) for row in rows]
    if len(rows) > _CROWD_EDGES_PER_ROW * len(numbers):
        column_of = _solve_dense(local, columns, weights, len(numbers))
    else:
        column_of = _solve_sparse(local, columns, weights, len(numbers))
    return [pair for pair, row in enumerate(local) if column_of[row] == columns[pair]]


def _solve_sparse(rows: list[int], columns: list[int], weights: list[float], row_count: int) -> list[int]:
    """Return the column of each row, -1 for none. Every row may also stay alone, at cost 0."""
    edges: list[list[tuple[int, float]]] = [[] for _ in range(row_count)]
    for row, column, weight in zip(rows, columns, weights, strict=True):
        edges[row].append((column, -weight))
    column_of = [_NOBODY] * row_count
    row_of: dict[int, int] = {}
    row_price = [0.0] * row_count
    column_price: dict[int, float] = {}
    for row in range(row_count):
        price, best = 0.0, _NOBODY
        for column, cost in edges[row]:
            reduced = cost - column_price.get(column, 0.0)
            if reduced < price:
                price, best = reduced, column
        row_price[row] = price
        if best == _NOBODY:
            continue
        if best in row_of:
            _augment(row, edges, column_of, row_of, row_price, column_price)
        else:
            column_of[row], row_of[best] = best, row
    return column_of


def _augment(
    start: int,
    edges: list[list[tuple[int, float]]],
    column_of: list[int],
    row_of: dict[int, int],
    row_price: list[float],
    column_price: dict[int, float],
) -> None:
    """Dijkstra over reduced costs from the row ``start`` to a free column, or to a row that had better be alone."""
    distance: dict[int, float] = {}
    reached_from: dict[int, int] = {}
    settled: dict[int, float] = {}
    frontier: list[tuple[float, int]] = []
    row, travelled = start, 0.0
    shortest, last_row, last_column = -row_price[start], start, _NOBODY  # the price of leaving `start` alone
    while True:
        base = travelled - row_price[row]
        if base < shortest:
            shortest, last_row, last_column = base, row, _NOBODY
        for column, cost in edges[row]:
            candidate = base + cost - column_price.get(column, 0.0)
            if column not in settled and candidate < distance.get(column, shortest):
                distance[column], reached_from[column] = candidate, row
                heapq.heappush(frontier, (candidate, column))
        while frontier and frontier[0][1] in settled:
            heapq.heappop(frontier)
        if not frontier or frontier[0][0] >= shortest:
            break
        travelled, column = heapq.heappop(frontier)
        if column not in row_of:
            shortest, last_row, last_column = travelled, reached_from[column], column
            break
        settled[column] = travelled
        row = row_of[column]
    row_price[start] += shortest
    for column, at in settled.items():
        row_price[row_of[column]] += shortest - at
        column_price[column] = column_price.get(column, 0.0) - (shortest - at)
    row, column = last_row, last_column
    while True:  # shift every row of the path to the column that it was reached by
        before = column_of[row]
        column_of[row] = column
        if column != _NOBODY:
            row_of[column] = row
        if row == start:
            return
        row, column = reached_from[before], before


def _solve_dense(rows: list[int], columns: list[int], weights: list[float], row_count: int) -> list[int]:
    """Like ``_solve_sparse``, with a whole row of costs a step: for crowds, where rows have many candidates."""
    names, local_columns = np.unique(columns, return_inverse=True)
    column_count = len(names)
    cost = np.full((row_count, column_count + row_count), np.inf)
    cost[rows, local_columns] = -np.array(weights)
    cost[np.arange(row_count), column_count + np.arange(row_count)] = 0.0  # each row's own way to stay alone
    column_of = np.full(row_count, _NOBODY, dtype=np.intp)
    row_of = np.full(column_count + row_count, _NOBODY, dtype=np.intp)
    row_price, column_price = np.zeros(row_count), np.zeros(column_count + row_count)
    for start in range(row_count):
        reduced = cost[start] - column_price
        best = int(reduced.argmin())
        row_price[start] = reduced[best]
        if row_of[best] == _NOBODY:
            column_of[start], row_of[best] = best, start
            continue
        distance = reduced - row_price[start]
        reached_from = np.full(len(row_of), start, dtype=np.intp)
        frontier = distance.copy()
        settled: list[int] = []
        while True:
            column = int(frontier.argmin())
            travelled = float(distance[column])
            if row_of[column] == _NOBODY:
                break
            settled.append(column)
            frontier[column] = np.inf
            row = int(row_of[column])
            candidate = cost[row] - column_price
            candidate += travelled - row_price[row]
            candidate[settled] = np.inf
            better = (candidate < frontier).nonzero()[0]
            distance[better] = frontier[better] = candidate[better]
            reached_from[better] = row
        rest = travelled - distance[settled]
        row_price[start] += travelled
        row_price[row_of[settled]] += rest
        column_price[settled] -= rest
        row = _NOBODY
        while row != start:
            row = int(reached_from[column])
            row_of[column] = row
            column, column_of[row] = int(column_of[row]), column
    return [int(names[column]) if column < column_count else _NOBODY for column in column_of]
